"""The curves of running cells as TensorBoard itself reads them back, whatever became of their workers."""

import errno
import sys
from pathlib import Path
from typing import Any

import fake_cells
import pytest
from fake_cells import NUM_STEPS, ROWS, FakeRun
from typer.testing import CliRunner

from tadaconv.cli.app import app
from tadaconv.cli.options import CrewOptions
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.tensorboard import Curves, curves_folder
from tadaconv.experiment import run
from tadaconv.result import CurvePoint, Progress
from tadaconv.spec import Experiment, Schedule, Synthetic
from tadaconv.training.fit import learning_rate

CELL = ROWS[0]


def needs_tensorboard() -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")


def point(step: int, top1: float = 0.0) -> CurvePoint:
    return CurvePoint(epoch=step // 2, step=step, train_loss=step / 8, score=top1 or float(step))


def progress(step: int, loss: float, *points: CurvePoint) -> Progress:
    return Progress(step=step, num_steps=99, train_loss=loss, curve=list(points), learning_rate=step / 4)


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag, the step and value of every event that counts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def attempt(folder: Path, *reports: Progress, about: str = "a cell") -> None:
    with Curves(folder, about) as curves:
        for report in reports:
            curves.add(report)


def test_a_resumed_attempt_replaces_the_curves_after_its_checkpoint(tmp_path: Path) -> None:
    needs_tensorboard()
    attempt(tmp_path, *(progress(step, 1.0, *([point(2)] if step >= 2 else [])) for step in (1, 2, 3, 4)))
    attempt(tmp_path, progress(4, 2.0, point(2)), progress(5, 2.0, point(2)))

    found = read(tmp_path)

    assert found["train/loss"] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]
    assert found["train/learning_rate"] == [(step, step / 4) for step in (1, 2, 3, 4, 5)]
    assert found["validation/top1"] == [(2, 2.0)]
    assert found["train/loss_of_epoch"] == [(2, 0.25)]
    assert "train/clips_per_second" not in found  # no report had it


def test_an_attempt_from_the_beginning_replaces_all_curves(tmp_path: Path) -> None:
    needs_tensorboard()
    attempt(tmp_path, *(progress(step, 1.0) for step in (1, 2, 3)), progress(4, 1.0, point(4)))
    attempt(tmp_path, progress(1, 2.0))

    found = read(tmp_path)

    assert found.pop("train/loss") == [(1, 2.0)]
    assert not any(found.get(tag) for tag in ("validation/top1", "train/loss_of_epoch"))


def test_an_evaluation_whose_report_was_lost_with_its_worker_is_made_up_for(tmp_path: Path) -> None:
    needs_tensorboard()
    attempt(tmp_path, progress(1, 1.0), progress(2, 1.0, point(2)), progress(3, 1.0, point(2)))
    attempt(tmp_path, progress(5, 1.0, point(2), point(4)))
    with Curves(tmp_path, "") as curves:  # it died between the last evaluation and its report
        curves.finish([point(2), point(4), point(6)])

    assert read(tmp_path)["validation/top1"] == [(2, 2.0), (4, 4.0), (6, 6.0)]


def test_files_of_a_machine_whose_clock_is_behind_come_last_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_tensorboard()
    attempt(tmp_path, progress(1, 1.0), progress(2, 1.0))
    monkeypatch.setattr("tadaconv.execution.tensorboard.time.time", lambda: 1e9)
    attempt(tmp_path, progress(2, 2.0))

    assert read(tmp_path)["train/loss"] == [(1, 1.0), (2, 2.0)]


def test_a_worker_adds_the_last_point_that_no_report_had(tmp_path: Path) -> None:
    needs_tensorboard()
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-quick", ROWS, (0,), ["TSN"])
    (record,) = fake_cells.worker(store, FakeRun(tmp_path / "log"), tensorboard=True).work()
    assert record.result is not None
    (last,) = record.result.curve
    found = read(curves_folder(tmp_path, "t-quick", CELL))
    assert [step for step, _ in found["train/loss"]] == list(range(1, NUM_STEPS + 1))
    assert found["validation/top1"] == [(NUM_STEPS, pytest.approx(last.score))]


def test_a_text_describes_the_cell(tmp_path: Path) -> None:
    needs_tensorboard()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-quick", ROWS, (0,), ["TSN"])
    fake_cells.worker(store, FakeRun(tmp_path / "log"), tensorboard=True).work()
    events = EventAccumulator(str(curves_folder(tmp_path, "t-quick", CELL)))
    events.Reload()

    (text,) = events.Tensors("cell")

    said = text.tensor_proto.string_val[0].decode()
    assert said.startswith("TSN, seed 0, of t-quick; worker ")
    assert Experiment.model_validate_json(said.partition("```json")[2].rpartition("```")[0]) == CELL.experiment


def test_the_curves_are_those_of_the_stored_result(tmp_path: Path) -> None:
    needs_tensorboard()
    schedule = Schedule(epochs=2, batch_size=4, lr=0.01)
    experiment = CELL.experiment.but(data=Synthetic(num_frames=4, size=16, num_train=12, num_val=10), schedule=schedule)
    with Curves(tmp_path, "") as curves:
        result = run(experiment, "cpu", curves.add)

    found = read(tmp_path)

    assert [step for step, _ in found["train/loss"]] == [1, 3, 6]  # the first, and the ends of epochs
    rates = [(step, pytest.approx(learning_rate(schedule, step - 1, 3))) for step in (1, 3, 6)]
    assert found["train/learning_rate"] == rates
    assert found["validation/top1"] == [(p.step, pytest.approx(p.score)) for p in result.curve]
    assert found["train/loss_of_epoch"] == [(p.step, pytest.approx(p.train_loss)) for p in result.curve]
    assert [step for step, rate in found["train/clips_per_second"] if rate > 0] == [3, 6]


def test_a_cell_has_one_folder_whatever_its_row_is_called_and_no_two_share_one(tmp_path: Path) -> None:
    folder = curves_folder(tmp_path, "context-quick", CELL)
    assert folder.relative_to(tmp_path / "tensorboard").parts == ("context-quick", f"TSN seed 0 {CELL.key}")
    folder.mkdir(parents=True)
    assert curves_folder(tmp_path, "another table", fake_cells.Cell("renamed", CELL.experiment)) == folder
    assert curves_folder(tmp_path, "context-quick", fake_cells.Cell("TSN", ROWS[1].experiment)) != folder


@pytest.mark.parametrize("label", ["../../etc", "a/b", "..", "", "é" * 300, "tab\there", "\udce9"])
def test_any_row_makes_a_folder_of_its_own(tmp_path: Path, label: str) -> None:
    folder = curves_folder(tmp_path, label, fake_cells.Cell(label, CELL.experiment))
    folder.mkdir(parents=True)
    assert folder.parent.parent == (tmp_path / "tensorboard").resolve()
    assert CELL.key in folder.name


def test_a_full_disk_costs_a_cell_its_curves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    needs_tensorboard()
    from tensorboard.summary.writer.record_writer import RecordWriter

    def write(_: Any, data: bytes) -> None:
        if b"validation" in data or b"loss" in data:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", write)
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-quick", ROWS, (0,), ["TSN"])

    (record,) = fake_cells.worker(store, FakeRun(tmp_path / "log"), tensorboard=True).work()

    assert record.status == "finished"
    assert (
        caplog.text.count("no more curves are written, the cell continues without them: No space left on device") == 1
    )


def test_no_worker_writes_curves_without_the_option(fake_run: FakeRun, store: Store) -> None:
    fake_cells.ablate(store, "t-quick", fake_run, chosen=["TSN"])
    assert len(fake_run.steps()) == NUM_STEPS
    assert not (Path(store.shown).parent / "tensorboard").exists()


def test_the_option_reaches_the_workers(tmp_path: Path) -> None:
    needs_tensorboard()
    assert CrewOptions(tensorboard=True).crew("journal.log", tmp_path).call.tensorboard
    assert not CrewOptions().crew("journal.log", tmp_path).call.tensorboard


@pytest.mark.parametrize("command", ["ablate context", "study stage_placement", "worker"])
def test_a_missing_package_is_reported_before_a_cell_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "tensorboard.compat.proto.event_pb2", raising=False)
    out = tmp_path / "out"

    ended = CliRunner().invoke(app, [*command.split(), "--tensorboard", "--out", str(out)])

    assert str(ended.exception) == "--tensorboard needs tensorboard; pip install 'tensorboard>=2.19'"
    assert not out.exists()
