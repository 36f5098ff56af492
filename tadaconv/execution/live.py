"""Shows a run while it goes on: a live table in a terminal, a line a cell elsewhere."""

import time
from collections.abc import Sequence
from statistics import fmean
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tadaconv.execution.cells import CellRecord, Status
from tadaconv.execution.worker import Event

_COLUMNS: dict[str, JustifyMethod] = {
    "row": "left",
    "seeds": "right",
    "status": "left",
    "top-1 %": "right",
    "running cell": "left",
}


class View(Protocol):
    """A context manager that is told of every event."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing and leave the last state on the screen."""
        ...

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        ...


def view(console: Console, records: Sequence[CellRecord], num_to_run: int) -> View:
    """The view that suits ``console``, of the cells in ``records``, of which ``num_to_run`` are still to run."""
    if console.is_terminal and num_to_run:
        return LiveView(console, records, num_to_run)
    return LineView(console, num_to_run)


class LineView:
    """One line for every cell that has ended: ``[3/10] (1,1), seed 0: top-1 61.20 %, 41 s``."""

    def __init__(self, console: Console, num_to_run: int) -> None:
        self._console = console
        self._num_to_run = num_to_run
        self._num_ended = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Print a line if a cell has ended."""
        if event.kind in ("finished", "failed"):
            self._num_ended += 1
            name = f"{event.cell.label}, seed {event.cell.experiment.seed}"
            outcome = f"top-1 {event.result.top1:.2f} %" if event.result else f"failed: {event.error}"
            line = f"[{self._num_ended}/{self._num_to_run}] {name}: {outcome}, {seconds_text(event.seconds)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A table of rows with their status, top-1 and the progress of the running cell, and the time left."""

    def __init__(self, console: Console, records: Sequence[CellRecord], num_to_run: int) -> None:
        self._num_to_run = num_to_run
        self._num_ended = 0
        self._started = time.monotonic()
        self._running: Event | None = None
        # Every place is there from the start: the drawing thread must never see a dictionary grow.
        self._top1: dict[tuple[str, int], float | None] = {}
        self._status: dict[tuple[str, int], Status] = {}
        self._cells: dict[str, list[tuple[str, int]]] = {}
        for record in records:
            place = (record.cell.label, record.cell.experiment.seed)
            self._cells.setdefault(record.cell.key, []).append(place)
            self._status[place] = record.status
            self._top1[place] = record.result.top1 if record.result else None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = None
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take ``event`` into the table, which is drawn a few times a second."""
        ended = event.kind in ("finished", "failed")
        self._running = None if ended else event
        self._num_ended += ended
        status: Status = "finished" if event.kind == "finished" else "failed" if event.kind == "failed" else "running"
        for place in self._cells[event.cell.key]:
            self._status[place] = status
            if event.result is not None:
                self._top1[place] = event.result.top1

    def _render(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2), pad_edge=False)
        for heading, justify in _COLUMNS.items():
            table.add_column(heading, justify=justify)
        for label in dict.fromkeys(label for label, _ in self._status):
            statuses = [status for (name, _), status in self._status.items() if name == label]
            top1 = [value for (name, _), value in self._top1.items() if name == label and value is not None]
            table.add_row(
                Text(label),
                f"{statuses.count('finished')}/{len(statuses)}",
                _summary(statuses),
                f"{fmean(top1):.2f}" if top1 else "",
                self._bar() if "running" in statuses else "",
            )
        return Group(table, Text(self._time_line()))

    def _bar(self) -> ProgressBar:
        return ProgressBar(total=1.0, completed=self._fraction(), width=24)

    def _fraction(self) -> float:
        progress = self._running.progress if self._running else None
        return progress.step / progress.num_steps if progress else 0.0

    def _time_line(self) -> str:
        elapsed = time.monotonic() - self._started
        done = self._num_ended + self._fraction()
        line = f"{self._num_ended} of {self._num_to_run} cells in {seconds_text(elapsed)}"
        if not 0 < done < self._num_to_run:
            return line
        # A cell taken up again starts part of the way, so before one has ended this is only a first guess.
        return f"{line}, about {seconds_text(elapsed / done * (self._num_to_run - done))} left"


def _summary(statuses: Sequence[Status]) -> str:
    for status in ("running", "failed", "waiting", "missing"):
        if status in statuses:
            return status
    return "finished"


def seconds_text(seconds: float) -> str:
    """``41 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
