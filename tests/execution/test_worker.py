"""What becomes of cells that finish, fail, are interrupted or killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fake_cells
import pytest
import torch
from fake_cells import NUM_STEPS, ROWS, FakeRun, ablate, worker

from tadaconv.errors import RunError, StorageError, UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Attempt, Backend
from tadaconv.execution.cells import scores_file, weights_file
from tadaconv.execution.planner import plan
from tadaconv.execution.store import MAX_TRIES, Store
from tadaconv.execution.worker import Event, Worker, WorkerCall
from tadaconv.result import CurvePoint, Progress, Result
from tadaconv.run_options import RunOptions
from tadaconv.spec import Experiment
from tadaconv.weights import scores_beside, weights_beside

SECOND = ROWS[1].key


def raising(error: BaseException, times: int = 10**9) -> Callable[[Experiment, int], None]:
    left = [times]

    def stop(experiment: Experiment, step: int) -> None:
        if experiment.key == SECOND and step == 3 and left[0] > 0:
            left[0] -= 1
            raise error

    return stop


def by_label(store: Store) -> dict[str, object]:
    return {r.cell.label: r.result for r in store.records("t-quick")}


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("undisturbed")
    store = Store.open(str(folder / "journal.log"))
    ablate(store, "t-quick", FakeRun(folder / "log"))
    return by_label(store)


def test_results_come_back_as_they_were_stored(store: Store, fake_run: FakeRun) -> None:
    _, records = ablate(store, "t-quick", fake_run)
    assert by_label(Store.open(store.shown)) == {r.cell.label: r.result for r in records}


def test_a_run_gets_the_options_of_its_worker(store: Store) -> None:
    seen = []

    def run(_: Experiment, *, options: RunOptions, **__: object) -> Result:
        seen.append(options)
        raise RunError("enough")

    plan(store, "t-quick", ROWS, (0,), ["TSN"])
    options = RunOptions(readers=3, threads=2, deterministic=True)
    fake_cells.worker(store, run, options=options).work()  # type: ignore[arg-type]
    assert set(seen) == {options}


@pytest.mark.parametrize(("readers", "of_a_worker"), [(0, 0), (3, 3), (None, 5)])
def test_the_default_number_of_readers_is_that_of_cores(readers: int | None, of_a_worker: int) -> None:
    call = WorkerCall("", "", "cpu", Path(), options=RunOptions(readers=readers)).with_cores(5)
    assert (call.options.readers, call.options.threads) == (of_a_worker, 5)


def test_events_follow_a_cell_from_start_to_end(store: Store, fake_run: FakeRun) -> None:
    events: list[Event] = []
    ablate(store, "t-quick", fake_run, chosen=["TSN"], on_event=events.append)
    assert [e.kind for e in events] == ["started", *["progress"] * NUM_STEPS, "finished"]
    assert [e.progress.step for e in events if e.progress] == list(range(1, NUM_STEPS + 1))
    assert events[-1].result is not None


def test_finished_cells_leave_no_checkpoint(store: Store, fake_run: FakeRun) -> None:
    ablate(store, "t-quick", fake_run)
    assert list((Path(store.shown).parent / "checkpoints").iterdir()) == []


def test_the_weights_that_a_run_left_are_kept_under_the_cells_key(store: Store, fake_run: FakeRun) -> None:
    folder = Path(store.shown).parent

    def train(experiment: Experiment, *, device: str, report: object, checkpoint: Path, **_: object) -> Result:
        weights_beside(checkpoint).write_text(experiment.key)
        return fake_run(experiment, device=device, report=report, checkpoint=checkpoint)

    ablate(store, "t-quick", train)
    keys = {cell.key for cell in ROWS}
    assert {file.stem: file.read_text() for file in (folder / "weights").iterdir()} == dict(
        zip(keys, keys, strict=True)
    )
    assert weights_file(folder, ROWS[0].key).read_text() == ROWS[0].key
    assert list((folder / "checkpoints").iterdir()) == []


def test_the_class_probabilities_of_a_run_are_kept_next_to_the_weights(store: Store, fake_run: FakeRun) -> None:
    folder = Path(store.shown).parent

    def train(experiment: Experiment, *, device: str, report: object, checkpoint: Path, **_: object) -> Result:
        weights_beside(checkpoint).write_text("weights")
        scores_beside(checkpoint).write_text(experiment.key)
        return fake_run(experiment, device=device, report=report, checkpoint=checkpoint)

    ablate(store, "t-quick", train)
    assert [scores_file(folder, cell.key).read_text() for cell in ROWS] == [cell.key for cell in ROWS]
    assert len(list((folder / "weights").iterdir())) == 2 * len(ROWS)
    assert list((folder / "checkpoints").iterdir()) == []


def test_a_result_is_kept_where_its_weights_cannot_be(
    store: Store, fake_run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    (Path(store.shown).parent / "weights").write_text("a file where the folder would be")

    def train(experiment: Experiment, *, device: str, report: object, checkpoint: Path, **_: object) -> Result:
        weights_beside(checkpoint).write_text("weights")
        scores_beside(checkpoint).write_text("scores")
        return fake_run(experiment, device=device, report=report, checkpoint=checkpoint)

    _, records = ablate(store, "t-quick", train)
    assert [record.status for record in records] == ["finished"] * 3
    assert caplog.text.count("the result is kept, but its weights are not") == 3
    assert caplog.text.count("the result is kept, but its class probabilities are not") == 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RunError("the loss is not finite at step 3"), "the loss is not finite at step 3"),
        (torch.OutOfMemoryError("tried to allocate 2 GiB"), "out of memory on cpu: tried to allocate 2 GiB"),
        (MemoryError(), "out of memory on cpu"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (UserError("the weights 'a.pth' have changed"), "the weights 'a.pth' have changed"),
        (RunError("caf\udce9.mp4 is gone"), "caf\\udce9.mp4 is gone"),
    ],
)
def test_a_failing_cell_is_recorded_and_the_next_one_runs(
    store: Store, fake_run: FakeRun, error: Exception, line: str
) -> None:
    fake_run.stop = raising(error)
    _, records = ablate(store, "t-quick", fake_run)
    last = isinstance(error, UserError)  # what can be mended by another try gets one when the others had their turn
    assert [r.status for r in records] == ["finished", *(["failed", "finished"] if last else ["finished", "failed"])]
    assert len(store.attempts()[SECOND]) == (1 if isinstance(error, UserError) else MAX_TRIES)
    failed = store.records("t-quick")[1]
    assert (failed.status, failed.error) == ("failed", line)
    assert failed.traceback is not None
    assert failed.traceback.startswith("Traceback")
    assert type(error).__name__ in failed.traceback
    failed.traceback.encode()
    assert [store.attempts()[SECOND][-1].attrs[name] for name in ("device", "step")] == ["cpu", 2]


def test_a_failed_cell_is_tried_again_by_each_call(
    store: Store, fake_run: FakeRun, undisturbed: dict[str, object]
) -> None:
    fake_run.stop = raising(RunError("disk full"), times=2 * MAX_TRIES - 1)
    ablate(store, "t-quick", fake_run)
    planned, records = ablate(store, "t-quick", fake_run)
    assert str(planned) == "3 cells: 2 finished before, 1 to run (1 failed before, tried once more)"
    assert [r.status for r in records] == ["finished"]
    assert [a.status for a in store.attempts()[SECOND]] == ["failed"] * 3 + ["finished"]
    assert by_label(store) == undisturbed


def test_an_interrupted_cell_is_requeued(store: Store, fake_run: FakeRun, undisturbed: dict[str, object]) -> None:
    fake_run.stop = raising(KeyboardInterrupt(), times=1)
    with pytest.raises(KeyboardInterrupt):
        ablate(store, "t-quick", fake_run)
    assert [r.status for r in store.records("t-quick")] == ["finished", "waiting", "waiting"]
    planned, _ = ablate(store, "t-quick", fake_run)
    assert (planned.num_resumed, planned.num_retried) == (2, 0)
    assert fake_run.steps().count((SECOND, 2)) == 1, "goes on from the checkpoint"
    assert by_label(store) == undisturbed


def test_a_storage_that_cannot_be_written_is_no_cells_failure(
    store: Store, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("cannot write journal.log: No space left on device")

    monkeypatch.setattr(Store, "finish", full)
    with pytest.raises(StorageError, match=r"No space left"):
        ablate(store, "t-quick", fake_run)
    assert "failed" not in [r.status for r in store.records("t-quick")]


def test_ctrl_c_between_result_and_end_loses_no_result(
    store: Store, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, object]
) -> None:
    set_state = store.backend.storage.set_trial_state_values

    def interrupted(trial_id: int, state: object, values: object = None) -> bool:
        if values is not None:
            raise KeyboardInterrupt
        return set_state(trial_id, state)  # type: ignore[arg-type]

    monkeypatch.setattr(store.backend.storage, "set_trial_state_values", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate(store, "t-quick", fake_run)
    monkeypatch.undo()
    assert [r.status for r in store.records("t-quick")] == ["waiting"] * 3
    ablate(store, "t-quick", fake_run)
    assert by_label(store) == undisturbed
    assert len(fake_run.steps()) == 3 * NUM_STEPS


def start_and_wait_for_second_cell(folder: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, fake_cells.__file__, str(folder)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    log, deadline = FakeRun(folder / "log"), time.monotonic() + 60
    while (SECOND, 3) not in log.steps():
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_the_cell_of_a_stopped_process_is_resumed(
    tmp_path: Path, undisturbed: dict[str, object], how: signal.Signals, status: int
) -> None:
    process = start_and_wait_for_second_cell(tmp_path)
    store = Store.open(str(tmp_path / "journal.log"))
    assert [r.status for r in store.records("t-quick")] == ["finished", "running", "waiting"]
    process.send_signal(how)
    assert process.wait(timeout=30) == status
    fake_run = FakeRun(tmp_path / "log")
    planned, records = ablate(store, "t-quick", fake_run)
    assert str(planned) == "3 cells: 1 finished before, 2 to run (2 queued or started before)"
    assert [r.status for r in records] == ["finished"] * 2
    assert by_label(store) == undisturbed
    steps = [(r.key, step) for r in ROWS for step in range(1, NUM_STEPS + 1)]
    assert sorted(fake_run.steps()) == sorted([*steps, (SECOND, 3)]), "only the step it was stopped in ran twice"


def test_a_waiting_cell_has_one_taker(store: Store) -> None:
    plan(store, "t-quick", ROWS, [0])
    waiting = store.attempts()[SECOND][0]
    assert Store.open(store.shown).claim(waiting.trial_id) is not None
    assert store.claim(waiting.trial_id) is None


def test_a_worker_imports_the_pruner_only_for_trials(
    store: Store, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(store, "t-quick", ROWS[:1], [0])
    assert [r.status for r in worker(store, fake_run, prune="no_such:judge").work()] == ["finished"]

    seen: list[tuple[int, list[float]]] = []

    def judge(backend: Backend, attempt: Attempt, curve: Sequence[CurvePoint]) -> str | None:
        assert backend is store.backend
        seen.append((attempt.attrs[attr.TRIAL], [point.score for point in curve]))
        return "not worth it" if len(curve) == 2 else None

    def run(experiment: Experiment, *, report: Callable[[Progress], None], **_: object) -> Result:
        points = [CurvePoint(epoch=e, step=e, train_loss=1.0, score=10.0 * e) for e in (1, 2, 3)]
        for step in (1, 2, 3):
            report(Progress(step=step, num_steps=3, train_loss=1.0, curve=points[:step]))
        raise AssertionError(experiment)

    monkeypatch.setattr("fake_cells.judge", judge, raising=False)
    trial_id = store.add("t-quick", ROWS[1], attrs={attr.TRIAL: 7})
    call = WorkerCall(store.shown, "w0", "cpu", Path(store.shown).parent, prune="fake_cells:judge")
    assert Worker(call, store, run=run).work() == []
    assert seen == [(7, [10.0]), (7, [10.0, 20.0])]
    ended = store.backend.attempt(trial_id)
    assert (ended.status, ended.attrs[attr.PRUNED]) == ("pruned", "not worth it")
    assert [point["val_top1"] for point in ended.attrs[attr.CURVE]] == [10.0, 20.0]
    assert store.backend.storage.get_trial(trial_id).intermediate_values == {1: 10.0, 2: 20.0}
