"""Notebooks are executed in the folder they are given, by a process that is gone afterwards, whatever happens."""

import asyncio
import gc
import os
import signal
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from jupyter_client.channels import HBChannel
from jupyter_client.manager import AsyncKernelManager
from nbformat.v4 import new_code_cell, new_notebook

from tadaconv.errors import RunError
from tadaconv.reporting.core.notebook import execute, execute_cells


def run(source: str, folder: Path) -> str:
    """What a notebook of one cell prints."""
    notebook = new_notebook(cells=[new_code_cell(source)])
    execute_cells(notebook, folder)
    return "".join(output["text"] for output in notebook.cells[0].outputs)


def kernels() -> set[int]:
    """Processes that execute notebooks, of this process alone: others may have theirs."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if "ipykernel_launcher" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def interrupt_when(ready: object) -> None:
    """Send Ctrl-C to this process as soon as ``ready()``, from another thread."""
    assert callable(ready)

    def wait() -> None:
        while not ready():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def test_each_notebook_has_a_process_of_its_own_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder" of $x'
    folder.mkdir()
    first = run("import os; left = 1; print(os.getpid(), os.getcwd())", folder)
    assert kernels() == set()
    second = run("import os; print(os.getpid(), 'left' in globals(), os.getcwd())", tmp_path)
    one, at = first.split(maxsplit=1)
    other, rest = second.split(maxsplit=1)
    assert at == f"{folder.resolve()}\n"
    assert (one != other, rest) == (True, f"False {tmp_path.resolve()}\n")
    assert kernels() == set()


def test_executions_are_counted_from_one(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell("1"), new_code_cell("2")])
    execute_cells(notebook, tmp_path)
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    nbformat.validate(notebook)


def test_a_notebook_can_be_executed_from_within_a_notebook(tmp_path: Path) -> None:
    """There a loop runs already."""

    async def cell() -> str:
        return run("print(6 * 7)", tmp_path)

    assert asyncio.run(cell()) == "42\n"


def test_a_process_that_dies_is_one_line(tmp_path: Path) -> None:
    template = tmp_path / "mine.py"
    template.write_text("# %%\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(RunError, match=r"mine\.py: the process that executes the report's notebook has died"):
        execute(template, tmp_path)
    assert kernels() == set()
    assert run("print(1)", tmp_path) == "1\n"


def test_a_process_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = tmp_path / "mine.py"
    template.write_text("# %%\n1\n")
    start = AsyncKernelManager.start_kernel

    async def killed(self: AsyncKernelManager, **options: object) -> None:
        await start(self, **options)
        for pid in kernels():
            os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(AsyncKernelManager, "start_kernel", killed)
    with pytest.raises(RunError, match=r"mine\.py: the process that executes the report's notebook has died"):
        execute(template, tmp_path)
    with pytest.raises(RunError, match="nowhere: the report's notebook cannot be executed: No such file"):
        execute(template, tmp_path / "nowhere")
    assert kernels() == set()


def test_ctrl_c_ends_the_process_and_is_the_callers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupt_when((tmp_path / "started").exists)
    with pytest.raises(KeyboardInterrupt):
        run("import pathlib, time; pathlib.Path('started').touch(); time.sleep(300)", tmp_path)
    assert kernels() == set()
    gc.collect()
    assert "Task was destroyed" not in caplog.text


def test_ctrl_c_while_the_process_starts_leaves_nothing(tmp_path: Path) -> None:
    interrupt_when(kernels)
    with pytest.raises(KeyboardInterrupt):
        run("raise SystemExit('must not run')", tmp_path)
    assert kernels() == set()


def test_no_thread_watches_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """jupyter_client's thread opens sockets in a loop if it is stopped before it has begun, as by an early Ctrl-C."""
    monkeypatch.setattr(HBChannel, "start", lambda _: pytest.fail("the heartbeat was started"))
    assert run("print(1)", tmp_path) == "1\n"
