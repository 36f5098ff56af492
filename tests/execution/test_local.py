"""Worker processes of this machine: their beginning, their end, what they say, and what becomes of those that die."""

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_cells import FakeRun, result
from remote_cells import CELLS, pids

from tadaconv.errors import RunError, UserError
from tadaconv.execution.launcher import supervise
from tadaconv.execution.local import LocalLauncher
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import Event, WorkerCall

GIB = 2**30


def call(out: Path, **changes: Any) -> WorkerCall:
    return WorkerCall(str(out / "journal.log"), "w0", "cpu", out, run="remote_cells:run", lease_seconds=2.0).but(
        **changes
    )


def running(launcher: LocalLauncher) -> list[int]:
    return [child.process.pid for child in launcher._children if child.process.is_alive() and child.process.pid]


def until(happens: Callable[[], object], launcher: LocalLauncher) -> list[str]:
    """Poll until something happens; the lines worth telling."""
    lines: list[str] = []
    deadline = time.monotonic() + 90  # the first process of a test run imports torch
    while not happens():
        assert time.monotonic() < deadline
        lines += launcher.poll()
        time.sleep(0.02)
    return lines


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def table(store: Store) -> Store:
    plan(store, "t-quick", CELLS[:3], range(4))
    return store


def statuses(store: Store) -> list[str]:
    return [record.status for record in store.records("t-quick")]


def test_workers_that_are_stopped_requeue_their_cells(table: Store, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    launcher = LocalLauncher([call(tmp_path, name=f"w{i}") for i in range(2)], lambda _: None)
    launcher.start()
    until(lambda: len(FakeRun(tmp_path / "log").steps()) == 6, launcher)
    processes = running(launcher)
    assert set(processes) == pids(tmp_path)
    assert launcher.num_alive == 2
    children = [child.process for child in launcher._children]
    launcher.stop()
    assert [child.exitcode for child in children] == [0, 0], "they leave by themselves, and are not killed"
    assert launcher.num_alive == 0
    assert not any(alive(pid) for pid in processes)
    assert statuses(table) == ["waiting"] * len(CELLS)
    interrupted = [
        a.attrs["interrupted"] for found in table.attempts().values() for a in found if a.status == "dropped"
    ]
    assert interrupted == ["its worker was stopped"] * 2
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_worker_that_is_killed_is_started_again(table: Store, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    events: list[Event] = []
    launcher = LocalLauncher([call(tmp_path, wait_seconds=0.0)], events.append)
    launcher.start()
    until(lambda: pids(tmp_path), launcher)
    (victim,) = running(launcher)
    until(lambda: any(event.kind == "started" for event in events), launcher)
    os.kill(victim, signal.SIGKILL)
    lines = until(lambda: len(pids(tmp_path)) == 2, launcher)
    assert lines.count("worker w0 died (killed by signal 9); started again") == 1
    (tmp_path / "hold").unlink()
    until(lambda: not launcher.num_alive, launcher)
    launcher.stop()
    assert statuses(table) == ["finished"] * len(CELLS)


def test_events_and_log_messages_of_workers_reach_the_parent(table: Store, tmp_path: Path) -> None:
    elsewhere = table.claim(next(iter(table.attempts().values()))[0].trial_id)  # gives no sign, and is found so
    assert elsewhere is not None
    events: list[Event] = []
    launcher = LocalLauncher([call(tmp_path, lease_seconds=0.5)], events.append)
    launcher.start()
    lines = until(lambda: not launcher.num_alive, launcher) + launcher.poll()
    launcher.stop()
    assert any("did not renew its lease for 0.5 s; the cell was requeued" in line for line in lines)
    finished = {event.cell.key: event.result for event in events if event.kind == "finished"}
    assert finished == {record.cell.key: record.result for record in table.records("t-quick")}
    assert {event.worker for event in events} == {"w0"}


def test_workers_that_die_before_they_begin_end_the_table(
    table: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tadaconv.execution import local

    monkeypatch.setattr(local, "_be_worker", _exit_at_once)
    launcher = LocalLauncher([call(tmp_path)], lambda _: None)
    lines: list[str] = []
    with pytest.raises(RunError, match=r"exit before they claim a cell \(exit status 7\)"):
        supervise(launcher, table, lambda: True, lambda: None, lines.append)
    assert launcher.num_alive == 0
    assert len(lines) == 2


def _exit_at_once(*_: object) -> None:
    os._exit(7)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"device": "cuda:99"}, UserError, "cuda:99|no usable CUDA"),
        ({"storage": "/nowhere/journal.log"}, UserError, "/nowhere/journal.log"),
    ],
)
def test_an_error_that_ends_a_worker_is_raised_in_the_parent(
    table: Store, tmp_path: Path, changes: dict[str, str], error: type[Exception], message: str
) -> None:
    launcher = LocalLauncher([call(tmp_path, **changes)], lambda _: None)
    with pytest.raises(error, match=message):
        supervise(launcher, table, lambda: True, lambda: None, pytest.fail)
    assert statuses(table) == ["waiting"] * len(CELLS)


def test_workers_whose_code_cannot_be_imported_take_no_cell(table: Store, tmp_path: Path) -> None:
    launcher = LocalLauncher([call(tmp_path, run="remote_cells:no_such_function")], lambda _: None)
    with pytest.raises(RunError, match="exit status 1"):
        supervise(launcher, table, lambda: True, lambda: None, lambda _: None)
    assert statuses(table) == ["waiting"] * len(CELLS)


# What is decided about GPUs, by what their workers say; no process is started for it.


class Launched(LocalLauncher):
    """Remembers whom it would start."""

    def __init__(self, calls: list[WorkerCall]) -> None:
        self.started: list[WorkerCall] = []
        super().__init__(calls, lambda _: None)

    def _launch(self, call: WorkerCall) -> None:
        self.started.append(call)

    def say(self, call: WorkerCall, kind: Any, memory: tuple[int, int] | None = None) -> list[str]:
        from tadaconv.execution.local import _Child

        child = _Child(call, None, None)  # type: ignore[arg-type]
        self._take(child, Event(kind, CELLS[0], memory=memory))
        return self.poll()


@pytest.mark.parametrize(
    ("held", "fit", "line"),
    [
        (GIB, 4, None),
        (3 * GIB, 2, "2 of the 4 requested workers fit on cuda:0: a cell takes 3.0 GiB of 8.0"),
        (7 * GIB, 1, "1 of the 4 requested workers fit on cuda:0: a cell takes 7.0 GiB of 8.0"),
        (9 * GIB, 1, "1 of the 4 requested workers fit on cuda:0: a cell takes 9.0 GiB of 8.0"),
    ],
)
def test_as_many_workers_share_a_gpu_as_its_first_cell_leaves_room_for(
    tmp_path: Path, held: int, fit: int, line: str | None
) -> None:
    calls = [call(tmp_path, name=f"w{i}", device=f"cuda:{i % 2}") for i in range(8)]
    launcher = Launched(calls)
    launcher.start()
    assert [(c.name, c.shares_gpu) for c in launcher.started] == [("w0", True), ("w1", True)], "one a GPU"
    assert launcher.say(launcher.started[0], "memory", (held, 8 * GIB)) == ([line] if line else [])
    on_first = [c for c in launcher.started if c.device == "cuda:0"]
    assert [c.name for c in on_first] == ["w0", "w2", "w4", "w6"][:fit]
    assert launcher.say(on_first[-1], "memory", (GIB, 8 * GIB)) == [], "the first one's word counts"
    assert len([c for c in launcher.started if c.device == "cuda:0"]) == fit
    assert len([c for c in launcher.started if c.device == "cuda:1"]) == 1


def test_the_only_worker_of_a_gpu_has_it_to_itself(tmp_path: Path) -> None:
    launcher = Launched([call(tmp_path, name="w0", device="cuda:0"), call(tmp_path, name="w1", device="cuda:1")])
    launcher.start()
    assert [c.shares_gpu for c in launcher.started] == [False, False]


def test_no_call_and_no_log_message_holds_a_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter2"
    monkeypatch.setenv("PGPASSWORD", secret)
    told = call(tmp_path, storage="postgresql+psycopg://u@127.0.0.1:1/none")
    launcher = LocalLauncher([told], lambda _: None)
    store, lines = Store.open(str(tmp_path / "journal.log")), list[str]()
    with caplog.at_level(logging.DEBUG), pytest.raises((UserError, RunError)) as caught:
        supervise(launcher, store, lambda: True, lambda: None, lines.append)
    assert any("trying again" in line for line in lines)
    assert secret not in f"{told!r} {caught.value} {caplog.text} {lines}"


def test_a_message_of_a_result_is_whole(tmp_path: Path, table: Store) -> None:
    """Large results fill the pipe; a parent that reads late still gets every one."""
    events: list[Event] = []
    launcher = LocalLauncher([call(tmp_path)], events.append)
    launcher.start()
    deadline = time.monotonic() + 90
    while statuses(table).count("finished") < len(CELLS):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    launcher.stop()
    assert len([event for event in events if event.kind == "finished"]) == len(CELLS)
    assert all(event.result == result(event.result.top1) for event in events if event.result)


@pytest.mark.parametrize("fails", [False, True])
def test_ctrl_c_waits_while_a_worker_is_started_and_does_not_reach_it(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal that comes meanwhile is the parent's alone, and comes when the start is over."""
    blocked: list[bool] = []

    def start(_: object) -> None:
        blocked.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
        os.kill(os.getpid(), signal.SIGINT)
        if fails:
            raise OSError("no more processes")

    launcher = LocalLauncher([call(tmp_path)], lambda _: None)
    monkeypatch.setattr(launcher._context.Process, "start", start)
    with pytest.raises(KeyboardInterrupt):
        launcher.start()
    assert blocked == [True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
