"""Executes a report's notebook and turns it into a page."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.exporters import HTMLExporter

from tadaconv.errors import RunError, StorageError, UserError, unknown
from tadaconv.reporting.core.format import data_uri
from tadaconv.reporting.core.kernel import CELL_SECONDS, a_kernel

_PAGE = Path(__file__).parent / "templates"
_LOG = logging.getLogger(__name__)
_NOBODY_CALLED_WRONG = {kind.__name__ for kind in (RunError, StorageError)}


def execute(template: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> nbformat.NotebookNode:
    """Execute the notebook of a percent-format script in ``folder``, with values for its parameters.

    Parameters are those of papermill: the names that the cell with the tag ``parameters`` assigns. Raises
    :class:`UserError` for one that the template does not have, and with the error of the first cell that fails and the
    line it fails at; where that cell cannot go on, on a full disk for instance, :class:`RunError` as the cell did.
    """
    require_parameters(template, parameters or {})
    notebook = _read(template)
    if parameters:
        from papermill.parameterize import parameterize_notebook

        notebook = parameterize_notebook(_for_papermill(notebook), dict(parameters))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"  # jupytext draws them at random; the same report has the same bytes
    try:
        with a_kernel() as kernel:
            kernel.execute(notebook, folder)
    except CellExecutionError as error:
        what = error.evalue.partition("\n")[0]
        if error.ename in _NOBODY_CALLED_WRONG:
            raise RunError(f"{folder}: {what}") from error
        raise UserError(f"{template}: {_place(notebook, error)} fails: {error.ename}: {what}") from error
    except CellTimeoutError as error:
        raise UserError(f"{template}: a cell of the report's notebook took more than {CELL_SECONDS} s") from error
    except DeadKernelError as error:
        raise RunError(
            f"{template}: the process that executes the report's notebook has died, perhaps for want of memory or of "
            "room for temporary files"
        ) from error
    except OSError as error:
        raise RunError(f"{folder}: the report's notebook cannot be executed: {error.strerror or error}") from error
    _take_away_warnings(notebook)
    return notebook


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
    found = re.search(r"Cell In\[\d+\], line (\d+)", re.sub(r"\x1b\[[\d;]*m", "", error.traceback))
    line = lines[int(found[1]) - 1] if found else lines[0]
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
    """Fills the template, and leaves out what takes longer: parsing the page anew to look for what it lacks.

    The template builds on none of nbconvert's, which lie outside its package, where not every installation has them.
    """

    def from_notebook_node(self, nb: nbformat.NotebookNode, resources: Any = None, **options: Any) -> tuple[str, Any]:
        found: tuple[str, Any] = super(HTMLExporter, self).from_notebook_node(nb, resources, **options)
        return found


def as_page(notebook: nbformat.NotebookNode, title: str) -> str:
    """One HTML file that asks for nothing else: outputs without code, styles and figures inside."""
    exporter = _PageExporter(
        template_name=_PAGE.name,
        extra_template_basedirs=[str(_PAGE.parent)],
        exclude_input=True,
        exclude_raw=True,  # what a template says to those who read it
        exclude_anchor_links=True,
    )
    exporter.register_filter("as_image", lambda svg: data_uri(svg.encode(), "image/svg+xml"))
    resources = {"page_title": title, "page_css": (_PAGE / "page.css").read_text(encoding="utf-8")}
    body, _ = exporter.from_notebook_node(notebook, resources)
    return str(body)
