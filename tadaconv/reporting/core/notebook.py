"""Executes a report's notebook and turns it into a page."""

import asyncio
import logging
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbconvert.exporters import HTMLExporter

import tadaconv
from tadaconv.errors import RunError, StorageError, UserError, unknown
from tadaconv.reporting.core.format import data_uri

CELL_SECONDS = 600
"""How long a cell of a notebook may take."""

_START_SECONDS = 120
_PAGE = Path(__file__).parent / "templates"
_LOG = logging.getLogger(__name__)
_NOT_BY_A_WRONG_CALL = {kind.__name__ for kind in (RunError, StorageError)}


def execute(template: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> nbformat.NotebookNode:
    """Execute the notebook of a percent-format script in ``folder``, with values for its parameters.

    Args:
        template: the script.
        folder: of the report, in which its cells run.
        parameters: values for what the cell with the tag ``parameters`` assigns, as papermill has it, by name.

    Raises:
        UserError: for a parameter that the template does not have; for the first cell that fails, with the line it
            fails at.
        RunError: where that cell cannot continue, on a full disk for instance, and raised it itself; where the process
            that executes it dies.
    """
    require_parameters(template, parameters or {})
    notebook = _read(template)
    if parameters:
        from papermill.parameterize import parameterize_notebook

        notebook = parameterize_notebook(_for_papermill(notebook), dict(parameters))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"  # jupytext draws them at random; the same report has the same bytes
    try:
        execute_cells(notebook, folder)
    except CellExecutionError as error:
        message = error.evalue.partition("\n")[0]
        if error.ename in _NOT_BY_A_WRONG_CALL:
            raise RunError(f"{folder}: {message}") from error
        raise UserError(f"{template}: {_place(notebook, error)} fails: {error.ename}: {message}") from error
    except CellTimeoutError as error:
        raise UserError(f"{template}: a cell of the report's notebook took more than {CELL_SECONDS} s") from error
    except RuntimeError as error:
        raise RunError(
            f"{template}: the process that executes the report's notebook has died, perhaps because memory or "
            "space for temporary files ran out"
        ) from error
    except OSError as error:
        raise RunError(f"{folder}: the report's notebook cannot be executed: {error.strerror or error}") from error
    _take_away_warnings(notebook)
    return notebook


def execute_cells(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Execute ``notebook`` in ``folder``, outputs into it, by the Python that is running.

    Neither kernels that this machine's user has installed nor their settings of IPython change anything. Ctrl-C ends
    the kernel and is the caller's. Raises what nbclient raises: RuntimeError among it, for a kernel that dies.
    """
    with TemporaryDirectory() as temporary:
        kernel = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # so it has this Python's alone
            # Sockets in a folder of our own, where the system has them: no port is opened that others could reach.
            transport="tcp" if os.name == "nt" else "ipc",
            connection_file=str(Path(temporary) / "kernel.json"),
        )

        async def run() -> None:
            executing = NotebookClient(notebook, km=kernel, timeout=CELL_SECONDS, record_timing=False)
            try:
                options = ["--HistoryManager.enabled=False"]
                await kernel.start_kernel(extra_arguments=options, cwd=str(folder), env=_environment(Path(temporary)))
                executing.kc = kernel.client()
                # No heartbeat: if it is stopped before its thread has begun, it opens sockets until none is left.
                # Whether the kernel lives is asked of its process.
                executing.kc.start_channels(hb=False)
                await executing.kc.wait_for_ready(timeout=_START_SECONDS)
                executing.kc.allow_stdin = False
                await executing.async_execute()
            finally:
                for left in asyncio.all_tasks() - {asyncio.current_task()}:  # nbclient's own, after Ctrl-C
                    left.cancel()
                if executing.kc is not None:
                    executing.kc.stop_channels()
                if kernel.has_kernel:
                    await kernel.shutdown_kernel(now=True)  # it has nothing to finish, and waits a second otherwise

        # Not in the main thread: there nbclient takes Ctrl-C for itself, and fails on what it has torn down.
        with closing(asyncio.new_event_loop()) as loop, ThreadPoolExecutor(1) as pool:
            task = loop.create_task(run())
            try:
                pool.submit(loop.run_until_complete, task).result()
            except KeyboardInterrupt:
                loop.call_soon_threadsafe(task.cancel)
                raise


def _environment(temporary: Path) -> dict[str, str]:
    # The package may be on the path of this process alone, as in a clone that is not installed. A row's name may be in
    # a script that the figures' font lacks; the page shows it, and needs no warning. Nor does it need one that progress
    # bars, of which it has none, would be plain.
    path = [str(Path(tadaconv.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "MPLBACKEND": "agg",
        "PYTHONWARNINGS": "ignore:Glyph,ignore:IProgress",
        "IPYTHONDIR": str(temporary / "ipython"),
    }


def _take_away_warnings(notebook: nbformat.NotebookNode) -> None:
    """Log what the kernel warned of: it names this machine's folders, and is not the report's."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                _LOG.info("while the report was drawn: %s", output["text"].strip())
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]


def _place(notebook: nbformat.NotebookNode, error: CellExecutionError) -> str:
    """The cell of ``notebook`` that raised ``error``, by its number among those of code, and the line in it."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    number = next(n for n, cell in enumerate(cells) if any(o.output_type == "error" for o in cell.outputs))
    lines = cells[number].source.splitlines()
    numbered = re.search(r"Cell In\[\d+\], line (\d+)", re.sub(r"\x1b\[[\d;]*m", "", error.traceback))
    line = lines[int(numbered[1]) - 1] if numbered else lines[0]
    return f"code cell {number + 1} of the report's notebook, at {line.strip()!r},"


def _read(template: Path) -> nbformat.NotebookNode:
    notebook = jupytext.read(template)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return notebook


def _for_papermill(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """``notebook``, prepared as papermill prepares what it reads itself."""
    notebook.metadata["papermill"] = {}
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    return notebook


def require_parameters(template: Path, parameters: Iterable[str]) -> None:
    """Raise :class:`UserError` unless ``template`` has a value for each of ``parameters``, which are names."""
    wanted = list(parameters)
    if not wanted:
        return
    from papermill.inspection import inspect_notebook

    with TemporaryDirectory() as folder:
        file = Path(folder) / "notebook.ipynb"
        file.write_text(as_ipynb(_for_papermill(_read(template))), encoding="utf-8")
        known = [name for name in inspect_notebook(str(file)) if name != "folder"]
    if not known:
        raise UserError(f"{template} has no parameters; tag the cell that assigns them, or leave --parameter out")
    for name in wanted:
        if name not in known:
            raise unknown(f"parameter of the template {template.stem!r}:", name, known)


def as_ipynb(notebook: nbformat.NotebookNode) -> str:
    """The notebook as its file's text."""
    return str(nbformat.writes(notebook)) + "\n"


class _PageExporter(HTMLExporter):  # type: ignore[misc] # nbconvert has no types
    """Fills the template, and leaves out what takes longer: parsing the page again to look for what it lacks.

    The template builds on none of nbconvert's, which are outside its package and not in every installation.
    """

    def from_notebook_node(self, nb: nbformat.NotebookNode, resources: Any = None, **options: Any) -> tuple[str, Any]:
        page: tuple[str, Any] = super(HTMLExporter, self).from_notebook_node(nb, resources, **options)
        return page


def as_page(notebook: nbformat.NotebookNode, title: str) -> str:
    """One self-contained HTML file: outputs without code, styles and figures inside."""
    exporter = _PageExporter(
        template_name=_PAGE.name,
        extra_template_basedirs=[str(_PAGE.parent)],
        exclude_input=True,
        exclude_raw=True,  # for readers of the template
        exclude_anchor_links=True,
    )
    exporter.register_filter("as_image", lambda svg: data_uri(svg.encode(), "image/svg+xml"))
    resources = {"page_title": title, "page_css": (_PAGE / "page.css").read_text(encoding="utf-8")}
    body, _ = exporter.from_notebook_node(notebook, resources)
    return str(body)
