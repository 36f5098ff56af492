"""The process that executes notebooks: one notebook each, in the folder it is told, and gone afterwards."""

import os
import signal
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from tadaconv.reporting import prepared
from tadaconv.reporting.core.kernel import a_kernel, kernel_ahead


def run(source: str, folder: Path) -> str:
    """What a notebook of one cell prints."""
    notebook = new_notebook(cells=[new_code_cell(source)])
    with a_kernel() as kernel:
        kernel.execute(notebook, folder)
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


def started(seconds: float = 60) -> int:
    """The one kernel, as soon as there is one."""
    end = time.monotonic() + seconds
    while not (found := kernels()):
        assert time.monotonic() < end, "no kernel was started"
        time.sleep(0.05)
    (pid,) = found
    return pid


def test_a_kernel_started_ahead_executes_the_first_notebook_and_another_one_the_second(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder" of $x'
    with kernel_ahead():
        ahead = started()
        folder.mkdir()  # after the kernel was started
        first = run("import os; left = 1; print(os.getpid(), os.getcwd())", folder)
        assert kernels() == set()
        second = run("import os; print(os.getpid(), 'left' in globals(), os.getcwd())", tmp_path)
    assert first == f"{ahead} {folder.resolve()}\n"
    pid, rest = second.split(maxsplit=1)
    assert (int(pid) != ahead, rest) == (True, f"False {tmp_path.resolve()}\n")
    assert kernels() == set()


def test_executions_are_counted_from_one(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell("1"), new_code_cell("2")])
    with kernel_ahead(), a_kernel() as kernel:
        kernel.execute(notebook, tmp_path)
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    nbformat.validate(notebook)


@pytest.mark.parametrize("formats", [["html"], ["ipynb", "csv"]])
def test_one_that_is_not_needed_goes(formats: list[str]) -> None:
    with prepared(formats):
        started()
    assert kernels() == set()


def test_none_is_started_for_formats_without_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadaconv.reporting.core.kernel.Kernel", None)
    with prepared(["csv", "tex"]):
        pass
    with pytest.raises(TypeError), prepared(["csv", "html"]):  # the test can fail
        pass


def test_one_that_dies_while_others_work_is_said_when_it_is_needed(tmp_path: Path) -> None:
    with kernel_ahead():
        os.kill(started(), signal.SIGKILL)
        with pytest.raises(DeadKernelError):
            run("print(1)", tmp_path)
    assert run("print(1)", tmp_path) == "1\n"


def test_ctrl_c_ends_the_kernel_and_is_the_callers(tmp_path: Path) -> None:
    def interrupt() -> None:
        mark = tmp_path / "started"
        while not mark.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with kernel_ahead(), pytest.raises(KeyboardInterrupt):
        run("import pathlib, time; pathlib.Path('started').touch(); time.sleep(300)", tmp_path)
    assert time.monotonic() - began < 100
    assert kernels() == set()
