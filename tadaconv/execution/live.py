"""Shows a run in progress: a live table in a terminal, else one line per cell."""

import logging
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from tadaconv.execution.cells import Cell, CellRecord, Status, metric_of
from tadaconv.execution.worker import Event, EventKind
from tadaconv.metrics import metric_named
from tadaconv.text import duration, visible

_MAX_WORKERS_SHOWN = 16


class Show(logging.Handler):
    """Shows events and lines of a run, and the package's log messages; a context manager.

    Output that bypasses it would break a live table.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def __enter__(self) -> Self:
        logging.getLogger("tadaconv").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("tadaconv").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a log message."""
        self.line(record.getMessage())

    def line(self, line: str) -> None:
        """Print a line, above the live table."""
        self._console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def event(self, event: Event) -> None:
        """Show an event of a cell."""

    def queued(self, cells: Sequence[Cell]) -> None:
        """Count in further cells that are to run."""


def view(console: Console, records: Sequence[CellRecord], num_to_run: int, num_most: int | None = None) -> Show:
    """The view that suits ``console``.

    Args:
        console: what is printed to.
        records: of all cells.
        num_to_run: how many of them are still to run.
        num_most: how many are at most, where further ones may be queued.
    """
    if console.is_terminal and num_to_run:
        return LiveView(console, records, num_to_run, num_most)
    return LineView(console, num_to_run)


class LineView(Show):
    """One line for every cell that has ended: ``[3/10] (1,1), seed 0: top-1 61.20 %, 41 s``.

    If the number of cells to run is unknown: ``[3]``.
    """

    def __init__(self, console: Console, num_to_run: int | None = None) -> None:
        super().__init__(console)
        self._num_to_run = num_to_run
        self._num_ended = 0

    def event(self, event: Event) -> None:
        """Print a line if a cell has ended."""
        if event.kind in ("finished", "failed"):
            self._num_ended += 1
            outcome = score_text(event.result.metric, event.result.score) if event.result else f"failed: {event.error}"
            of = "" if self._num_to_run is None else f"/{self._num_to_run}"
            self.line(f"[{self._num_ended}{of}] {event.cell.name}: {outcome}, {duration(event.seconds)}")

    def queued(self, cells: Sequence[Cell]) -> None:
        """Raise the number of cells to run."""
        if self._num_to_run is not None:
            self._num_to_run += len(cells)


class LiveView(Show):
    """A table of rows with their status and score, the workers with their cells, the rate and the time left.

    The time is that of the cells queued so far.
    """

    def __init__(
        self, console: Console, records: Sequence[CellRecord], num_to_run: int, num_most: int | None = None
    ) -> None:
        super().__init__(console)
        self._num_to_run, self._num_most = num_to_run, num_most
        self._num_ended = 0
        self._started = time.monotonic()
        # The drawing thread reads while the other writes: it goes through a copy, made at once.
        self._records = {(record.cell.label, record.cell.experiment.seed): record for record in records}
        self._metric = metric_of(records)
        self._running: dict[str, TaskID] = {}
        texts = ("{task.fields[worker]}", "{task.fields[device]}", "{task.description}")
        self._workers = Progress(*(TextColumn(text, markup=False) for text in texts), BarColumn(bar_width=24))
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        for task in self._workers.task_ids:
            self._workers.remove_task(task)
        self._live.stop()
        super().__exit__()

    def event(self, event: Event) -> None:
        """Add ``event`` to the table, which is drawn a few times a second."""
        key, status = event.cell.key, _STATUS.get(event.kind, "running")
        if status == "running":
            if key not in self._running:
                name = visible(event.cell.name)
                self._running[key] = self._workers.add_task(name, total=1.0, worker="", device="")
            fraction = event.progress.step / event.progress.num_steps if event.progress else None
            self._workers.update(self._running[key], completed=fraction, worker=event.worker, device=event.device)
        elif key in self._running:
            self._workers.remove_task(self._running.pop(key))
        self._num_ended += event.kind in ("finished", "failed")
        for place, record in self._records.items():
            if record.cell.key == key:
                self._records[place] = CellRecord(record.cell, status, event.result or record.result)

    def queued(self, cells: Sequence[Cell]) -> None:
        """Add further cells to the table."""
        self._num_to_run += len(cells)
        waiting = {(cell.label, cell.experiment.seed): CellRecord(cell, "waiting") for cell in cells}
        self._records = {**self._records, **waiting}

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [self._rows()]
        running = sorted(self._workers.tasks, key=lambda task: task.fields["worker"])
        if running:
            parts.append(self._workers.make_tasks_table(running[:_MAX_WORKERS_SHOWN]))
        if len(running) > _MAX_WORKERS_SHOWN:
            parts.append(Text(f"and {len(running) - _MAX_WORKERS_SHOWN} more"))
        return Group(*parts, Text(self._time_line(self._num_ended + sum(task.completed for task in running))))

    def _rows(self) -> Table:
        table = Table("row", "seeds", "status", self._metric.heading, box=None, padding=(0, 2), pad_edge=False)
        table.columns[1].justify = table.columns[3].justify = "right"
        by_label: dict[str, list[CellRecord]] = {}
        for (label, _), record in dict(self._records).items():
            by_label.setdefault(label, []).append(record)
        for label, records in by_label.items():
            statuses = [record.status for record in records]
            scores = [record.result.score for record in records if record.result]
            table.add_row(
                Text(visible(label)),
                f"{statuses.count('finished')}/{len(statuses)}",
                next((status for status in _MOST_TELLING if status in statuses), "finished"),
                f"{fmean(scores):.{self._metric.decimals + 1}f}" if scores else "",
            )
        return table

    def _time_line(self, done: float) -> str:
        elapsed = time.monotonic() - self._started
        most = f" (up to {self._num_most})" if (self._num_most or 0) > self._num_to_run else ""
        line = f"{self._num_ended} of {self._num_to_run} cells{most} in {duration(elapsed)}"
        if not 0 < done < self._num_to_run or elapsed <= 0:
            return line
        # A resumed cell starts part of the way, so before one has ended this is only a first guess.
        left = duration(elapsed / done * (self._num_to_run - done))
        return f"{line}, {done / elapsed * 3600:.{0 if done / elapsed > 0.01 else 1}f} an hour, about {left} left"


_STATUS: dict[EventKind, Status] = {
    "finished": "finished",
    "failed": "failed",
    "requeued": "waiting",
    "out of memory": "waiting",
}
"""The status of a cell after an event; after any other it is running."""

_MOST_TELLING: tuple[Status, ...] = ("running", "failed", "waiting", "missing")
"""Of the statuses of a row's cells the first of these is shown; without any, all have finished."""


def score_text(metric_name: str, score: float) -> str:
    """``top-1 61.20 %``."""
    metric = metric_named(metric_name)
    return f"{metric.label} {metric.in_words(score, more_decimals=1)}"
