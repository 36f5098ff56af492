"""The process that executes a report's notebook: started ahead of its work, used once, and gone with it."""

import asyncio
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from queue import Empty
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from tadaconv.errors import RunError

CELL_SECONDS = 600
"""How long a cell of a notebook may take."""

_START_SECONDS = 120

_WHAT_TAKES_TIME = "__import__('tadaconv.reporting', fromlist=['blocks', 'figures'])"


class _ThisPython(KernelSpecManager):
    """Offers one kernel, the Python that is running, whatever kernels this machine's user has installed.

    Args:
        ipython: The folder where IPython keeps and finds its settings, so that those of the user, or a folder of theirs
            that cannot be used, change no report.
    """

    def __init__(self, ipython: Path) -> None:
        super().__init__()
        self._ipython = ipython

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002 - there is only one
        # The package may be on the path of this process alone, as in a clone that is not installed.
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return KernelSpec(
            argv=[
                sys.executable,
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
                "--HistoryManager.enabled=False",
            ],
            display_name="Python 3",
            language="python",
            # A row's name may be in a script that the figures' font lacks; the page shows it, and needs no warning. Nor
            # does it need one that progress bars, of which it has none, would be plain.
            env={
                "PYTHONPATH": path,
                "MPLBACKEND": "agg",
                "PYTHONWARNINGS": "ignore:Glyph,ignore:IProgress",
                "IPYTHONDIR": str(self._ipython),
            },
        )


class Kernel:
    """A kernel that starts in a thread of its own while others work, and executes one notebook at most.

    Not in the main thread: there nbclient would take Ctrl-C for itself, and fail on what it has torn down.
    """

    def __init__(self) -> None:
        self._work: Future[tuple[nbformat.NotebookNode, Path] | None] = Future()
        try:
            self._connection = TemporaryDirectory()
        except OSError as error:
            raise RunError(
                f"the report's notebook needs room for temporary files: {error.strerror}; free some, or set TMPDIR"
            ) from error
        self._manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=_ThisPython(Path(self._connection.name) / "ipython"),
            # Sockets in a folder of our own, where the system has them: no port is opened that others could reach.
            transport="tcp" if os.name == "nt" else "ipc",
            connection_file=str(Path(self._connection.name) / "kernel.json"),
        )
        self._pool = ThreadPoolExecutor(1)
        self._running = self._pool.submit(lambda: asyncio.run(self._serve()))

    def execute(self, notebook: nbformat.NotebookNode, folder: Path) -> None:
        """Execute in ``folder``, outputs into ``notebook``; Ctrl-C ends the kernel and is the caller's."""
        self._work.set_result((notebook, folder))
        try:
            self._running.result()
        except KeyboardInterrupt:
            if self._manager.provisioner is not None and (
                process := getattr(self._manager.provisioner, "process", None)
            ):
                process.kill()
            raise

    def close(self) -> None:
        """End the kernel, whether it has executed anything or not."""
        if not self._work.done():
            self._work.set_result(None)
        with suppress(Exception):  # the caller of execute has had it
            self._running.result()
        self._pool.shutdown()
        self._connection.cleanup()

    async def _serve(self) -> None:
        try:
            await self._manager.start_kernel()
            client = self._manager.client()
            client.start_channels()
            try:
                await self._ready(client)
                client.execute(_WHAT_TAKES_TIME, silent=True)  # the reply is not waited for: the notebook does the same
                work = await asyncio.wrap_future(self._work)
                if work is None:
                    return
                notebook, folder = work
                await self._go_to(folder, client)
                executing = NotebookClient(notebook, km=self._manager, record_timing=False, timeout=CELL_SECONDS)
                executing.kc = client
                await executing.async_execute()
            finally:
                client.stop_channels()
        finally:
            if self._manager.has_kernel:
                await self._manager.shutdown_kernel(now=True)  # it has nothing to finish, and waits a second otherwise

    async def _ready(self, client: AsyncKernelClient) -> None:
        try:
            await client.wait_for_ready(timeout=_START_SECONDS)
        except RuntimeError as error:
            raise DeadKernelError(str(error)) from error
        client.allow_stdin = False

    async def _go_to(self, folder: Path, client: AsyncKernelClient) -> None:
        """Make ``folder``, which may not have been there when the kernel was started, the one it works in."""
        number = client.execute(f"__import__('os').chdir({str(folder.resolve())!r})", silent=True)
        while True:
            try:
                reply = await client.get_shell_msg(timeout=1)
            except Empty:
                if not await self._manager.is_alive():
                    raise DeadKernelError("Kernel died") from None
                continue
            if reply["parent_header"].get("msg_id") == number:
                break
        if reply["content"]["status"] != "ok":
            raise RunError(f"{folder}: the report's notebook cannot be executed in this folder")


_AHEAD: ContextVar[Kernel | None] = ContextVar("ahead", default=None)


@contextmanager
def kernel_ahead() -> Iterator[None]:
    """Start the kernel of the next notebook now, so that it is ready once there is something to execute.

    Worth it around work that takes seconds, such as reading a large storage: a kernel takes about four to import what a
    report needs. One that is not needed in the end goes with the context.
    """
    kernel = Kernel()
    token = _AHEAD.set(kernel)
    try:
        yield
    finally:
        _AHEAD.reset(token)
        kernel.close()


@contextmanager
def a_kernel() -> Iterator[Kernel]:
    """The kernel that was started ahead, or else a new one; none executes twice."""
    ahead = _AHEAD.get()
    kernel = Kernel() if ahead is None else ahead
    _AHEAD.set(None)
    try:
        yield kernel
    finally:
        kernel.close()
