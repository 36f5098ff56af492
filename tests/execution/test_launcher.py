"""Who waits for whom: one process, several, and processes that join, until every cell has ended."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import remote_cells
import torch
from fake_cells import NUM_STEPS, ROWS, FakeRun, result, worker
from remote_cells import CELLS

from tadaconv.errors import UserError
from tadaconv.execution import worker as worker_module
from tadaconv.execution.cells import Cell
from tadaconv.execution.launcher import Crew, join, run_cells
from tadaconv.execution.local import LocalLauncher
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import Event, Worker, WorkerCall
from tadaconv.run_options import RunOptions


def call(store: Store, **changes: Any) -> WorkerCall:
    out = Path(store.shown).parent
    return WorkerCall(store.shown, "", "cpu", out, run="remote_cells:run", lease_seconds=2.0).but(**changes)


def planned(store: Store, cells: list[Cell] = CELLS) -> tuple[Cell, ...]:
    return plan(store, "t-quick", cells[:3], sorted({cell.experiment.seed for cell in cells})).to_run


@pytest.mark.parametrize("num_workers", [0, -3])
def test_a_crew_has_a_worker(store: Store, num_workers: int) -> None:
    with pytest.raises(UserError, match=rf"--workers {num_workers} would run no cell"):
        Crew(call(store), num_workers)


def test_executors_are_known_by_name_and_local_workers_take_no_options(store: Store) -> None:
    with pytest.raises(UserError, match=r"unknown executor 'slrum'; one of: slurm"):
        Crew(call(store), executor="slrum")
    with pytest.raises(UserError, match=r"partition.*ray and slurm"):
        Crew(call(store), 2, options={"partition": "gpu"})


@pytest.mark.parametrize(
    ("device", "num_workers", "gpus_per_cell", "expected"),
    [
        ("auto", 2, 1, ["cuda:0", "cuda:1"]),
        ("auto", 2, 2, ["cuda:0", "cuda:2"]),
        ("cuda", 1, 4, ["cuda:0"]),
        ("cuda:2", 1, 2, ["cuda:2"]),
        ("cuda:1", 2, 1, ["cuda:1", "cuda:1"]),
        ("cpu", 2, 3, ["cpu", "cpu"]),
        ("auto", 3, 2, "--workers 3 with --gpus-per-cell 2 needs 6 GPUs, and this machine has 4; give fewer"),
        ("cuda:2", 2, 2, "needs 4 GPUs, and this machine has 2 from cuda:2 on"),
        ("auto", 1, 5, "needs 5 GPUs, and this machine has 4"),
    ],
)
def test_workers_share_no_gpu_where_several_train_a_cell(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    num_workers: int,
    gpus_per_cell: int,
    expected: list[str] | str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    told = call(store, device=device, options=RunOptions(gpus_per_cell=gpus_per_cell))
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            Crew(told, num_workers)
        return
    launcher = Crew(told, num_workers).launcher(lambda _: None)
    assert isinstance(launcher, LocalLauncher)
    calls = [*launcher._calls, *(call for calls in launcher._waiting.values() for call in calls)]
    assert sorted(one.device for one in calls) == expected


def test_a_worker_leaves_cells_to_others_that_its_gpus_cannot_share(store: Store) -> None:
    planned(store)
    worker = Worker(call(store, options=RunOptions(gpus_per_cell=2)), store)
    assert worker.work() == []
    assert {record.status for record in store.records("t-quick")} == {"waiting"}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_cell_is_run_and_reported_once(store: Store, num_workers: int) -> None:
    cells = planned(store)
    events: list[Event] = []
    records = run_cells(store, "t-quick", cells, Crew(call(store), num_workers), events.append, pytest.fail)
    assert {r.cell.key for r in records} == {cell.key for cell in CELLS}
    assert [r.status for r in records] == ["finished"] * len(CELLS)
    assert {r.cell.key: r.result for r in store.records("t-quick")} == {r.cell.key: r.result for r in records}
    assert sorted(e.cell.key for e in events if e.kind == "finished") == sorted(cell.key for cell in CELLS)
    out = Path(store.shown).parent
    assert sorted(FakeRun(out / "log").steps()) == sorted((c.key, s) for c in CELLS for s in range(1, NUM_STEPS + 1))
    assert len(remote_cells.pids(out)) <= num_workers
    assert list((out / "checkpoints").iterdir()) == []


def test_two_calls_of_one_table_at_once_share_its_cells(store: Store) -> None:
    cells = planned(store)
    ended: list[list[str]] = []

    def ablate() -> None:
        own = Store.open(store.shown)
        assert not planned(own)[len(CELLS) :]
        crew = Crew(call(own), 1)
        ended.append([r.cell.key for r in run_cells(own, "t-quick", cells, crew, lambda _: None, pytest.fail)])

    threads = [threading.Thread(target=ablate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sorted(keys) for keys in ended] == [sorted(cell.key for cell in CELLS)] * 2, "both hear of all"
    log = FakeRun(Path(store.shown).parent / "log")
    assert sorted(log.steps()) == sorted((c.key, s) for c in CELLS for s in range(1, NUM_STEPS + 1))
    takers = {a.attrs["lease"]["worker"] for found in store.attempts().values() for a in found}
    assert all([a.status for a in found].count("finished") == 1 for found in store.attempts().values())
    assert takers


def test_a_worker_that_joins_runs_all_waiting_cells_and_leaves(store: Store) -> None:
    planned(store)
    plan(store, "other-quick", [Cell("x", ROWS[0].experiment.but(schedule__lr=0.7))], [0])
    events: list[Event] = []
    assert join(store, Crew(call(store), 1), events.append, pytest.fail) == len(CELLS) + 1
    assert join(store, Crew(call(store), 2), events.append, pytest.fail) == 0
    assert {r.status for name in store.studies() for r in store.records(name)} == {"finished"}


def test_a_worker_that_waits_looks_at_all_cells_now_and_then_only(
    store: Store, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another runs the last cell there may be thousands to look at, and hundreds that look."""
    plan(store, "t-quick", ROWS[:1], [0])
    others = store.claim(next(iter(store.attempts().values()))[0].trial_id)
    assert others is not None
    heals: list[float] = []
    monkeypatch.setattr(store, "requeue_ended", lambda *_: heals.append(time.monotonic()))
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    waits = worker(store, fake_run, ROWS[:1], lease_seconds=60.0)
    Worker(waits.call, store, stop).work()
    assert len(heals) == 1


def test_a_cell_left_between_two_attempts_is_requeued_before_the_last_worker_leaves(
    store: Store, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(store, "t-quick", ROWS[:2], [0])
    first, second = (found[0] for found in store.attempts().values())
    claimed = store.claim(second.trial_id)
    assert claimed is not None
    with monkeypatch.context() as patch:
        patch.setattr(Store, "requeue_ended", lambda *_: None)  # who requeued it died before he could queue it
        store.requeue(claimed, "stopped")
    records = worker(store, fake_run).work()
    assert [r.cell.key for r in records] == [first.key, second.key]


def test_a_cell_this_version_cannot_read_is_left_to_others(
    store: Store, fake_run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    plan(store, "t-quick", ROWS, [0])
    journal = Path(store.shown)
    lines = journal.read_text().splitlines(keepends=True)
    of_a_newer = list(lines)
    index = next(i for i, line in enumerate(of_a_newer) if ROWS[1].key in line and '"op_code":4' in line)
    of_a_newer[index] = of_a_newer[index].replace('"spec":{', '"spec":{"newer":1,')
    journal.write_text("".join(of_a_newer))
    opened = Store.open(store.shown)
    records = worker(opened, fake_run).work()
    assert [r.cell.key for r in records] == [ROWS[0].key, ROWS[2].key]
    assert "left for other workers: the cell was planned by another version" in caplog.text
    assert [a.status for a in opened.attempts()[ROWS[1].key]] == ["waiting"]


def test_one_process_waits_for_cells_that_only_others_can_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = plan(store, "t-quick", ROWS[:2], [0]).to_run
    (theirs,) = (found[0] for key, found in store.attempts().items() if key == ROWS[1].key)
    monkeypatch.setattr(worker_module, "why_missing", lambda cell, *_: "not here" if cell.key == theirs.key else None)
    looks: list[float] = []
    monkeypatch.setattr(Worker, "work", lambda self, work=Worker.work: (looks.append(time.monotonic()), work(self))[1])

    def other() -> None:
        time.sleep(1.2)
        own = Store.open(store.shown)
        attempt = own.claim(theirs.trial_id)
        assert attempt is not None
        own.finish(attempt, result(50.0))

    thread = threading.Thread(target=other)
    thread.start()
    records = run_cells(store, "t-quick", cells, Crew(call(store), 1), lambda _: None, pytest.fail)
    thread.join()
    assert [r.cell.key for r in records] == [cell.key for cell in cells]
    assert len(looks) < 8
