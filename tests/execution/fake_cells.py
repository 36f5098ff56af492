"""Cells that cost nothing, and a runner that leaves a trace of every step; also a program that can be killed."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.journal import JournalBackend
from tadaconv.execution.planner import Planned, plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import Event, Worker, WorkerCall
from tadaconv.result import CurvePoint, Progress, Result
from tadaconv.spec import Backbone, Context, Experiment, Schedule, Synthetic, TAda

NUM_STEPS = 4


def row(label: str, *kernels: int, lr: float = 0.1) -> Cell:
    return Cell(
        label,
        Experiment(
            backbone=Backbone(name="tiny"),
            temporal=TAda(context=Context(kernels=kernels)) if kernels else None,
            data=Synthetic(num_train=8, num_val=8),
            schedule=Schedule(epochs=1, batch_size=2, lr=lr),
        ),
    )


ROWS = [row("TSN"), row("linear 1", 1), row("(1,1)", 1, 1)]


def result(top1: float) -> Result:
    return Result(
        score=top1, top5=100.0, loss=0.1 + 0.2, per_class={"a": top1}, num_val=8, params=1, macs=1, cost={},
        curve=[CurvePoint(epoch=1, step=NUM_STEPS, train_loss=1 / 3, score=top1)],
        train_clips_per_second=1.0, eval_clips_per_second=1.0, peak_memory_bytes=1, seconds=1.0,
        environment={"device": "fake"},
    )  # fmt: skip


@dataclass
class FakeRun:
    """Logs ``key step`` to ``log`` before every step and checkpoints after it; the outcome depends on all steps.

    ``stop`` is called before each step with the cell's experiment and the step, and may raise, sleep or kill.
    """

    log: Path
    stop: Callable[[Experiment, int], None] = field(default=lambda *_: None)

    def __call__(
        self, experiment: Experiment, *, device: str, report: Callable[[Progress], None], checkpoint: Path, **_: object
    ) -> Result:
        assert device == "cpu"
        values: list[float] = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
        for step in range(len(values) + 1, NUM_STEPS + 1):
            with self.log.open("a") as log:
                log.write(f"{experiment.key} {step}\n")
            self.stop(experiment, step)
            values.append((int(experiment.key, 16) * step) % 977 / 97.7)
            checkpoint.write_text(json.dumps(values))
            report(Progress(step=step, num_steps=NUM_STEPS, train_loss=1.0, curve=[]))
        return result(sum(values))

    def steps(self) -> list[tuple[str, int]]:
        """Every step ever begun, by any process that shares the log."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def keys(self) -> list[str]:
        """The cell of every step, once for each stretch of consecutive steps."""
        keys = [key for key, _ in self.steps()]
        return [key for i, key in enumerate(keys) if i == 0 or keys[i - 1] != key]


def worker(
    store: Store,
    run: FakeRun,
    cells: Sequence[Cell] | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    **changes: Any,
) -> Worker:
    """A worker of the journal ``store`` in this process, which runs ``cells``, or whatever is queued."""
    assert isinstance(store.backend, JournalBackend)
    keys = None if cells is None else frozenset(cell.key for cell in cells)
    call = WorkerCall(store.shown, "w0", "cpu", store.backend.path.parent, keys=keys).but(**changes)
    return Worker(call, store, on_event=on_event, run=run)


def ablate(
    store: Store,
    study: str,
    run: FakeRun,
    rows: Sequence[Cell] = ROWS,
    seeds: Sequence[int] = (0,),
    chosen: Sequence[str] | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> tuple[Planned, list[CellRecord]]:
    """What ``tada ablate`` does between opening the store and reporting."""
    planned = plan(store, study, rows, seeds, chosen)
    return planned, worker(store, run, planned.to_run, on_event, study=study).work()


def _sleep_in_second_cell(experiment: Experiment, step: int) -> None:
    if experiment == ROWS[1].experiment and step == 3:
        time.sleep(60)


if __name__ == "__main__":  # python fake_cells.py FOLDER: sleeps in the third step of the second cell, or goes ... on
    folder = Path(sys.argv[1])
    runner = FakeRun(folder / "log") if sys.argv[2:] == ["on"] else FakeRun(folder / "log", _sleep_in_second_cell)
    try:
        ablate(Store.open(str(folder / "journal.log")), "t-quick", runner)
    except KeyboardInterrupt:
        sys.exit(130)
