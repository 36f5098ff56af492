"""Follows cells through the storage, whichever workers run them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from optuna.trial import TrialState

from tadaconv.execution import attrs as attr
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.lease import Lease
from tadaconv.execution.store import Store, is_idle, to_be_requeued
from tadaconv.execution.worker import Event
from tadaconv.result import Progress


class Follower:
    """Turns changes in the storage into events, in addition to those that workers of this process report directly.

    Args:
        store: the storage.
        study: the study in which a cell is queued again if it has left the queue without an end.
        cells: the cells to follow, no experiment twice; none of them finished.
        on_event: called once with every event of theirs.
    """

    def __init__(self, store: Store, study: str, cells: Sequence[Cell], on_event: Callable[[Event], None]) -> None:
        self._store, self._study, self._on_event = store, study, on_event
        self._open = {cell.key: cell for cell in cells}
        self._own_workers: set[str] = set()
        self.ended: list[CellRecord] = []
        """Records of the followed cells that have ended, in that order."""

    def follow(self, cells: Iterable[Cell]) -> None:
        """Follow further cells, which are queued and have not been followed before."""
        self._open |= {cell.key: cell for cell in cells}

    @property
    def is_pending(self) -> bool:
        """Whether a cell has not ended."""
        return bool(self._open)

    def take(self, event: Event) -> None:
        """Take an event that a worker of this call reported, and pass it on."""
        key = event.cell.key
        if event.kind == "finished" or event.kind == "failed":
            cell = self._open.pop(key, None)
            if cell is None:  # seen in the storage before its worker's event arrived
                return
            self.ended.append(CellRecord(cell, event.kind, event.result, event.error))
        self._own_workers.add(event.worker)
        self._on_event(event)

    def update(self) -> None:
        """Report the changes since the last call."""
        if not self._open:
            return
        for attempt in self._store.backend.running():
            lease = Lease.read(attempt)
            if lease is not None and attempt.key in self._open and lease.worker not in self._own_workers:
                self._on_event(_running(self._open[attempt.key], lease))
        states = self._store.backend.states(self._open.keys())
        for key, of_cell in states.items():
            if TrialState.COMPLETE in of_cell or is_idle(of_cell):
                self._note_end(key)

    def _note_end(self, key: str) -> None:
        attempts = self._store.attempts([key]).get(key, [])
        if not attempts or to_be_requeued(attempts):
            self._store.requeue_ended([key])
            return
        record = self._store.records_of([self._open[key]])[0]
        if record.status == "missing":  # a design study pruned it, or another call withdrew it
            with self._store.backend.alone():
                if is_idle(self._store.backend.states([key])[key]):
                    self._store.add(self._study, self._open[key])
        elif record.status == "finished" or record.status == "failed":
            cell = self._open.pop(key)
            self.ended.append(record)
            lease = attempts[-1].attrs.get(attr.LEASE) or {}
            worker, device = (str(lease.get(name, "")) for name in ("worker", "device"))
            seconds = record.result.seconds if record.result else 0.0
            event = Event(record.status, cell, seconds, result=record.result, error=record.error)
            self._on_event(replace(event, worker=worker, device=device))


def _running(cell: Cell, lease: Lease) -> Event:
    progress = Progress(step=lease.step, num_steps=max(lease.num_steps, 1), train_loss=float("nan"), curve=[])
    return Event("progress", cell, progress=progress, worker=f"{lease.worker} on {lease.host}", device=lease.device)
