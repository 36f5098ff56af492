"""One worker in this process: takes cells off the queue, runs them, and writes down what became of them."""

import fcntl
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tadaconv.errors import RunError, UserError
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.store import Attempt, Store
from tadaconv.result import Progress, Result
from tadaconv.spec import Experiment

EventKind = Literal["started", "progress", "finished", "failed"]


class Run(Protocol):
    """What trains one cell; :func:`tadaconv.experiment.run` is the real one."""

    def __call__(
        self, experiment: Experiment, *, device: str, report: Callable[[Progress], None], checkpoint: Path
    ) -> Result:
        """Run ``experiment``, going on from ``checkpoint`` if the file exists."""
        ...


@dataclass(frozen=True)
class Event:
    """Something that happened to a cell, for a live view. ``seconds`` have passed since the cell was started."""

    kind: EventKind
    cell: Cell
    seconds: float = 0.0
    progress: Progress | None = None
    result: Result | None = None
    error: str | None = None


@contextmanager
def exclusive(store: Store) -> Generator[None]:
    """Be the only worker of ``store``; raises :class:`UserError` naming the process that already is.

    The kernel releases the lock when its holder dies, however it dies.
    """
    path = store.path.with_name(store.path.name + ".worker")
    try:
        file = path.open("a+")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; name another storage with --storage") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"process {holder} is already running cells of {store.path}; wait for it, or name another --out"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def recover(store: Store) -> None:
    """Return every running cell to the queue. Right only while the store is held exclusively: their worker is dead."""
    for attempts in store.attempts().values():
        for attempt in attempts:
            if attempt.state == "running":
                store.put_back(attempt, "its worker died")


def pop(store: Store, keys: Collection[str], device: str) -> Attempt | None:
    """Start the first waiting cell among ``keys``, in their order, in any study; None if none of them waits."""
    attempts = store.attempts()
    for key in keys:
        for attempt in attempts.get(key, []):
            if attempt.state == "waiting" and store.claim(attempt, device):
                return attempt
    return None


def work(
    store: Store,
    cells: Sequence[Cell],
    *,
    device: str,
    checkpoints: Path,
    on_event: Callable[[Event], None],
    run: Run | None = None,
) -> list[CellRecord]:
    """Run the queued ``cells`` one after the other and return a record of each, in the order they ended.

    A cell that raises is recorded as failed, and the next one is run. On Ctrl-C, and on a :class:`UserError` of the
    store, the cell goes back to the queue and the exception on to the caller.

    Args:
        store: Held exclusively.
        cells: Cells the planner has queued, no experiment twice.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoints: Folder of ``<cell key>.pt``, one for every cell that has started and not finished.
        on_event: Called in this thread as cells start, make progress and end.
        run: What trains a cell; :func:`tadaconv.experiment.run` by default.
    """
    run = run or _experiment_run()
    checkpoints.mkdir(parents=True, exist_ok=True)
    waiting = {cell.key: cell for cell in cells}
    records: list[CellRecord] = []
    while (attempt := pop(store, waiting, device)) is not None:
        cell = waiting.pop(attempt.key)
        records.append(_run_attempt(store, attempt, cell, device, checkpoints, run, on_event))
    return records


def _run_attempt(
    store: Store,
    attempt: Attempt,
    cell: Cell,
    device: str,
    checkpoints: Path,
    run: Run,
    on_event: Callable[[Event], None],
) -> CellRecord:
    checkpoint = checkpoints / f"{cell.key}.pt"
    started = time.monotonic()

    def emit(kind: EventKind, **details: Any) -> None:
        on_event(Event(kind, cell, seconds=time.monotonic() - started, **details))

    try:
        emit("started")
        outcome = _outcome(cell, run, device, lambda progress: emit("progress", progress=progress), checkpoint)
        if isinstance(outcome, Result):
            store.finish(attempt, outcome)
        else:
            store.fail(attempt, outcome.error, outcome.traceback)
    except (KeyboardInterrupt, UserError) as error:
        store.put_back(attempt, f"stopped by {type(error).__name__}")
        raise
    if isinstance(outcome, Result):
        checkpoint.unlink(missing_ok=True)
        emit("finished", result=outcome)
        return CellRecord(cell, "finished", result=outcome)
    emit("failed", error=outcome.error)
    return CellRecord(cell, "failed", error=outcome.error, traceback=outcome.traceback)


@dataclass(frozen=True)
class _Failure:
    error: str
    traceback: str


def _outcome(
    cell: Cell, run: Run, device: str, report: Callable[[Progress], None], checkpoint: Path
) -> Result | _Failure:
    """What the cell comes to; whatever it raises is its own failure, but Ctrl-C is the caller's."""
    try:
        return run(cell.experiment, device=device, report=report, checkpoint=checkpoint)
    except Exception as error:
        return _Failure(_one_line(error, device), traceback.format_exc())


def _one_line(error: Exception, device: str) -> str:
    what = " ".join(str(error).split())
    if isinstance(error, RunError | UserError):
        return what
    # Whoever ran out of torch's memory has imported torch; where it is not imported, nobody did.
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return f"out of memory on {device}: {what}" if what else f"out of memory on {device}"
    return f"{type(error).__name__}: {what}" if what else type(error).__name__


def _experiment_run() -> Run:
    # Imported when there is something to run: it brings torch, for which a finished table need not wait.
    from tadaconv.experiment import run

    return run
