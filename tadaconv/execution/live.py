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

from tadaconv.execution.call import Event, EventKind
from tadaconv.execution.cells import CellRecord, Status
from tadaconv.text import duration, visible

_COLUMNS: dict[str, JustifyMethod] = {
    "row": "left",
    "seeds": "right",
    "status": "left",
    "top-1 %": "right",
}
_WORKER_COLUMNS: dict[str, JustifyMethod] = {"worker": "left", "device": "left", "cell": "left", "": "left"}
_MAX_WORKERS_SHOWN = 16


class Lines(Protocol):
    """What is told while something runs."""

    def line(self, line: str) -> None:
        """A line worth telling."""
        ...


class Show(Lines, Protocol):
    """What is told while cells run."""

    def event(self, event: Event) -> None:
        """Something happened to a cell."""
        ...


class View(Show, Protocol):
    """A context manager that shows what it is told."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing and leave the last state on the screen."""
        ...


def view(console: Console, records: Sequence[CellRecord], num_to_run: int) -> View:
    """The view that suits ``console``, of the cells in ``records``, of which ``num_to_run`` are still to run."""
    if console.is_terminal and num_to_run:
        return LiveView(console, records, num_to_run)
    return LineView(console, num_to_run)


class LineView:
    """One line for every cell that has ended: ``[3/10] (1,1), seed 0: top-1 61.20 %, 41 s``.

    Where nobody knows how many there are to run, the number alone: ``[3]``.
    """

    def __init__(self, console: Console, num_to_run: int | None = None) -> None:
        self._console = console
        self._num_to_run = num_to_run
        self._num_ended = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def line(self, line: str) -> None:
        """Print a line."""
        self._console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def event(self, event: Event) -> None:
        """Print a line if a cell has ended."""
        if event.kind in ("finished", "failed"):
            self._num_ended += 1
            name = f"{event.cell.label}, seed {event.cell.experiment.seed}"
            outcome = f"top-1 {event.result.top1:.2f} %" if event.result else f"failed: {event.error}"
            of = "" if self._num_to_run is None else f"/{self._num_to_run}"
            self.line(f"[{self._num_ended}{of}] {name}: {outcome}, {duration(event.seconds)}")


class LiveView:
    """A table of rows with their status and top-1, the workers with their cells, the rate and the time left."""

    def __init__(self, console: Console, records: Sequence[CellRecord], num_to_run: int) -> None:
        self._num_to_run = num_to_run
        self._num_ended = 0
        self._started = time.monotonic()
        self._running: dict[str, Event] = {}
        # The drawing thread reads while the other writes: it goes through copies, made at once.
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
        self._running = {}
        self._live.stop()

    def line(self, line: str) -> None:
        """Print a line above the table."""
        self._live.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def event(self, event: Event) -> None:
        """Take ``event`` into the table, which is drawn a few times a second."""
        key = event.cell.key
        self._running.pop(key, None)
        if event.kind in ("started", "progress", "memory"):
            self._running[key] = event
        self._num_ended += event.kind in ("finished", "failed")
        status = _STATUS[event.kind]
        for place in self._cells.get(key, []):
            self._status[place] = status
            if event.result is not None:
                self._top1[place] = event.result.top1

    def _render(self) -> RenderableType:
        status, running = dict(self._status), dict(self._running)
        parts: list[RenderableType] = [self._rows(status)]
        if running:
            parts.append(self._workers(running))
        return Group(*parts, Text(self._time_line(running)))

    def _rows(self, status: dict[tuple[str, int], Status]) -> Table:
        table = _plain_table(_COLUMNS)
        for label in dict.fromkeys(label for label, _ in status):
            statuses = [found for (name, _), found in status.items() if name == label]
            top1 = [value for (name, _), value in dict(self._top1).items() if name == label and value is not None]
            table.add_row(
                Text(visible(label)),
                f"{statuses.count('finished')}/{len(statuses)}",
                _summary(statuses),
                f"{fmean(top1):.2f}" if top1 else "",
            )
        return table

    def _workers(self, running: dict[str, Event]) -> Table:
        table = _plain_table(_WORKER_COLUMNS)
        for event in sorted(running.values(), key=lambda event: event.worker)[:_MAX_WORKERS_SHOWN]:
            name = f"{event.cell.label}, seed {event.cell.experiment.seed}"
            bar = ProgressBar(total=1.0, completed=_fraction(event), width=24)
            table.add_row(Text(event.worker), Text(event.device), Text(visible(name)), bar)
        if len(running) > _MAX_WORKERS_SHOWN:
            table.add_row(f"and {len(running) - _MAX_WORKERS_SHOWN} more", "", "", "")
        return table

    def _time_line(self, running: dict[str, Event]) -> str:
        elapsed = time.monotonic() - self._started
        done = self._num_ended + sum(_fraction(event) for event in running.values())
        line = f"{self._num_ended} of {self._num_to_run} cells in {duration(elapsed)}"
        if not 0 < done < self._num_to_run or elapsed <= 0:
            return line
        # A cell taken up again starts part of the way, so before one has ended this is only a first guess.
        left = duration(elapsed / done * (self._num_to_run - done))
        return f"{line}, {done / elapsed * 3600:.{0 if done / elapsed > 0.01 else 1}f} an hour, about {left} left"


_STATUS: dict[EventKind, Status] = {
    "started": "running",
    "progress": "running",
    "memory": "running",
    "finished": "finished",
    "failed": "failed",
    "put back": "waiting",
    "crowded": "waiting",
}


def _plain_table(columns: dict[str, JustifyMethod]) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for heading, justify in columns.items():
        table.add_column(heading, justify=justify)
    return table


def _fraction(event: Event) -> float:
    return event.progress.step / event.progress.num_steps if event.progress else 0.0


def _summary(statuses: Sequence[Status]) -> str:
    for status in ("running", "failed", "waiting", "missing"):
        if status in statuses:
            return status
    return "finished"
