"""One worker: takes cells off the queue, runs them, and writes down what became of them.

:class:`WorkerCall` is all that it is told, plain values that can be sent to another process or machine, and
:class:`Event` what it tells.
"""

import json
import logging
import random
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from tadaconv.errors import RunError, StorageError, UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Attempt, Backend
from tadaconv.execution.cells import Cell, CellRecord, scores_file, weights_file
from tadaconv.execution.lease import Lease, LeaseKeeper, Reaper
from tadaconv.execution.location import Location
from tadaconv.execution.store import Store
from tadaconv.execution.tensorboard import Curves, curves_folder
from tadaconv.locations import at_home, why_missing
from tadaconv.result import CurvePoint, Progress, Result
from tadaconv.run_options import RunOptions, require_division
from tadaconv.spec import PROTOCOL
from tadaconv.text import encodable, one_line
from tadaconv.weights import scores_beside, weights_beside

_PAGE = 16
"""Waiting attempts looked at together: the first is tried, then, when others are faster, the rest at random."""

_STEPS_TO_FULL_MEMORY = 3
"""Optimizer steps after which a cell has held all the memory it will: buffers, gradients, the optimizer's state."""

_CUDA_CONTEXT_BYTES = 600 * 2**20
"""What a process takes of a GPU beside its tensors."""

_log = logging.getLogger("tadaconv")


EventKind = Literal["started", "progress", "finished", "failed", "requeued", "out of memory", "memory"]
"""``requeued``: the cell left this worker without an end. ``out of memory``: so it did next to other workers, and
this worker leaves. ``memory``: what the worker's first cell takes."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a cell, for a live view. ``seconds`` have passed since its worker started it."""

    kind: EventKind
    cell: Cell
    seconds: float = 0.0
    progress: Progress | None = None
    result: Result | None = None
    error: str | None = None
    worker: str = ""
    device: str = ""
    memory: tuple[int, int] | None = None
    """Bytes of the device this worker holds, and bytes the device has."""


class Run(Protocol):
    """What trains one cell; :func:`tadaconv.experiment.run` is the real one."""

    def __call__(self, experiment: Any, *, device: str, report: Any, checkpoint: Path, options: RunOptions) -> Result:
        """Run ``experiment`` as ``options`` say, going on from ``checkpoint`` if the file exists."""
        ...


class Prune(Protocol):
    """What judges a design study's trial; :func:`tadaconv.study.pruning.reason_to_prune` is the real one."""

    def __call__(self, backend: Backend, attempt: Attempt, curve: Sequence[CurvePoint]) -> str | None:
        """Why the running ``attempt``, whose epochs so far are ``curve``, is not worth finishing; None if it is."""
        ...


@dataclass(frozen=True)
class WorkerCall:
    """All that a worker needs to know.

    Attributes:
        storage: a path or a URL.
        name: for people, such as ``w0``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        out: the run folder, with the checkpoints.
        study: the study whose queue is looked into first; None for all alike.
        only_study: take the cells of that study, and of its further search spaces, alone.
        keys: the cells to take; None for any cell of the storage.
        places: where clips and weights lie on this machine, by their fingerprints; for others the queued cell tells.
        options: how cells are run.
        tensorboard: whether curves of running cells are written to ``out``; see :mod:`tadaconv.execution.tensorboard`.
        wait_seconds: how long to stay without work; infinite until told to stop.
        shares_gpu: whether other workers use the same GPU.
        run: what trains a cell, as ``module:function``; a :class:`Run`.
        prune: what says whether a design study's trial is to go on, as ``module:function``; a :class:`Prune`.
        lease_seconds: how long the worker may give no sign before it counts as dead.
    """

    storage: str
    name: str
    device: str
    out: Path
    study: str | None = None
    only_study: bool = False
    keys: frozenset[str] | None = field(default=None, repr=False)
    places: Mapping[str, str] = field(default_factory=dict)
    options: RunOptions = field(default_factory=RunOptions)
    tensorboard: bool = False
    wait_seconds: float = 0.0
    shares_gpu: bool = False
    run: str = "tadaconv.experiment:run"
    prune: str = "tadaconv.study.pruning:reason_to_prune"
    lease_seconds: float = 60.0

    def but(self, **changes: Any) -> Self:
        """A copy with other values."""
        return replace(self, **changes)

    def with_cores(self, cores: int) -> Self:
        """The call of a worker whose share of its machine are ``cores``."""
        return self.but(options=self.options.with_cores(cores))


def load(function: str) -> Any:
    """What ``module:function`` names; imported by whoever needs it, and not before."""
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)


class _Leave(BaseException):
    """Raised in the middle of a cell to leave it; nothing that trains may catch it."""


class _Stopped(_Leave):
    pass


class _Lost(_Leave):
    pass


class _Broken(_Leave):
    """Something beside the training failed: what shows it, or what others make of it. The cell is not to blame."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Pruned(_Leave):
    def __init__(self, why: str, curve: list[CurvePoint]) -> None:
        super().__init__(why)
        self.attrs = {attr.PRUNED: why, attr.CURVE: [point.model_dump() for point in curve]}


class Worker:
    """One worker in this process, in the thread that calls :meth:`work`.

    Args:
        call: what it is told.
        store: the storage it works on.
        stop: set by another thread to make it requeue its cell and leave.
        on_event: called in this thread as cells start, make progress and end.
        tick: called in this thread about twice a second, whether there is work or not.
        more: asked for work when none waits; whether it has queued any.
        run: what trains a cell, in the place of what ``call`` names.
    """

    def __init__(
        self,
        call: WorkerCall,
        store: Store,
        stop: threading.Event | None = None,
        on_event: Callable[[Event], None] | None = None,
        tick: Callable[[], None] | None = None,
        more: Callable[[], bool] | None = None,
        run: Run | None = None,
    ) -> None:
        self.call, self._store = call, store
        self._stop = stop or threading.Event()
        self._on_event, self._tick = on_event or (lambda _: None), tick or (lambda: None)
        self._more = more or (lambda: False)
        self._run_cell = run
        self._checkpoints = call.out / "checkpoints"
        self._random = random.Random(call.name)
        self._reaper = Reaper(store, call.lease_seconds)
        self._device = ""
        self._refused: set[str] = set()
        self._out_of_memory = self._told_memory = False
        self._next_look = self._next_tick = self._next_heal = 0.0

    def work(self) -> list[CellRecord]:
        """Run cells until none waits or is being run, or until told to stop; a record of each that ended here.

        Cells that others run are waited for, since their workers may die. A cell that raises is tried again or
        recorded as failed, and the next one is run. On Ctrl-C the cell goes back to the queue and the exception on to
        the caller.

        Raises:
            UserError: the device is not there.
            StorageError: the storage cannot be written, or its server stays away.
        """
        records: list[CellRecord] = []
        idle_since: float | None = None
        lease = Lease.of_this_process(self.call.name, self.call.device)
        with LeaseKeeper(self._store, lease, self.call.lease_seconds) as keeper:
            while not self._stop.is_set() and not self._out_of_memory:
                self._look_around()
                attempt = self._pop(keeper)
                if attempt is not None:
                    idle_since = None
                    record = self._run(attempt, keeper)
                    records += [record] if record else []
                    continue
                if self._more():
                    continue
                now = time.monotonic()
                idle_since = now if idle_since is None else idle_since
                leaves = now - idle_since >= self.call.wait_seconds
                if not self._pending(leaves=leaves) and leaves:
                    break
                self._stop.wait(0.1 if now - idle_since < 5 else 1.0)
        return records

    def _look_around(self) -> None:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + min(2.0, self.call.lease_seconds / 8)
            for line in self._reaper.observe():
                _log.warning(line)
        if now >= self._next_tick:
            self._next_tick = now + 0.5
            self._tick()

    def _pop(self, keeper: LeaseKeeper) -> Attempt | None:
        """Start a waiting attempt, the oldest if nobody is faster, of the worker's own study first."""
        own, others = self._queues()
        for group in (own, others):
            while group:
                limit = _PAGE + len(self._refused)
                page = self._store.backend.waiting(group, self.call.keys, limit)
                page = [waiting for waiting in page if waiting[2] not in self._refused]
                if not page:
                    break
                self._get_ready(keeper)
                rest = page[1:]
                self._random.shuffle(rest)
                for trial_id, _, _ in [page[0], *rest]:
                    attempt = None if self._refuses(trial_id) else self._store.claim(trial_id)
                    if attempt is not None:
                        return attempt
        return None

    def _queues(self) -> tuple[list[int], list[int]]:
        """The studies to take cells from: first the worker's own with its further spaces, then the others."""
        studies, own = self._store.backend.studies(), self.call.study
        if own is None:
            return [], list(studies.values())
        first = [id for name, id in studies.items() if name == own or name.startswith(f"{own}-space")]
        return first, [] if self.call.only_study else [id for id in studies.values() if id not in first]

    def _get_ready(self, keeper: LeaseKeeper) -> None:
        """Find the device and what trains, for which torch may have to be imported, before a cell waits for them."""
        if self._device:
            return
        try:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {self._checkpoints}: {error.strerror}; name another --out") from error
        self._run_cell = self._run_cell or load(self.call.run)
        self._device = self.call.device if self.call.device == "cpu" else _resolved(self.call)
        keeper.device = self._device

    def _refuses(self, trial_id: int) -> bool:
        """Whether a cell cannot be run here, as a line in the log says; other workers may."""
        attempt = self._store.backend.attempt(trial_id)
        why = _why_not_here(attempt, self.call)
        if why is None:
            return False
        if not self._refused:
            _log.warning("%s: left to others: %s", attempt.name, why)
        self._refused.add(attempt.key)
        return True

    def _pending(self, *, leaves: bool) -> bool:
        """Whether a cell of this worker's waits, or is being run by somebody who may die.

        A cell that was left between two attempts is looked for now and then, as that means to look at all cells, and
        before the worker ``leaves``.
        """
        pending, now = self._any_open(), time.monotonic()
        if now >= self._next_heal or (leaves and not pending):
            self._next_heal = now + self.call.lease_seconds / 4
            self._store.heal(self.call.keys)
            pending = self._any_open()
        return pending

    def _any_open(self) -> bool:
        backend, keys = self._store.backend, self.call.keys
        own, others = self._queues()
        for row in backend.running():
            if row.study_id in (own if self.call.only_study else [*own, *others]) and (keys is None or row.key in keys):
                return True
        page = backend.waiting([*own, *others], keys, 1 + len(self._refused))
        return any(key not in self._refused for _, _, key in page)

    def _run(self, attempt: Attempt, keeper: LeaseKeeper) -> CellRecord | None:
        """Run one attempt to its end; None if it left this worker without one."""
        experiment = at_home(attempt.cell.experiment, self.call.places, self.call.out / "cache")
        cell = Cell(str(attempt.attrs[attr.LABEL]), experiment)
        started = time.monotonic()
        last = [int(attempt.attrs.get(attr.STEP, 0))]

        def emit(kind: EventKind, **details: Any) -> None:
            seconds = time.monotonic() - started
            self._on_event(Event(kind, cell, seconds, worker=self.call.name, device=self._device, **details))

        seen_points = [0]

        def report(progress: Progress) -> None:
            last[0] = progress.step
            keeper.progress(progress)
            if keeper.lost.is_set():
                raise _Lost
            if curves is not None:
                curves.add(progress)
            if self._stop.is_set():
                raise _Stopped
            try:
                self._judge(attempt, progress.curve[seen_points[0] :], progress.curve)
                seen_points[0] = len(progress.curve)
                emit("progress", progress=progress)
                if progress.step >= _STEPS_TO_FULL_MEMORY:
                    self._tell_memory(emit)
                self._look_around()
            except Exception as error:
                raise _Broken(error) from error

        with keeper.held(attempt), self._curves(attempt, cell) as curves:
            emit("started")
            checkpoint = self._checkpoints / f"{cell.key}.pt"
            assert self._run_cell is not None
            try:
                result = self._run_cell(
                    cell.experiment,
                    device=self._device,
                    report=report,
                    checkpoint=checkpoint,
                    options=self.call.options,
                )
            except KeyboardInterrupt:
                self._store.requeue(attempt, "stopped by Ctrl-C")
                raise
            except _Broken as broken:
                if not isinstance(broken.error, StorageError):
                    self._store.requeue(attempt, f"stopped by {type(broken.error).__name__}")
                raise broken.error from None
            except _Leave as reason:
                self._leave(attempt, reason, emit)
                return None
            except Exception as error:
                if self._stop.is_set() and not isinstance(error, UserError):  # the signal may have ended what it needs
                    self._leave(attempt, _Stopped(), emit)
                    return None
                return self._fail(attempt, cell, error, last[0], emit)
            if curves is not None:
                curves.finish(result.curve)
            try:
                return self._finish(attempt, cell, result, checkpoint, emit)
            except KeyboardInterrupt:
                self._store.requeue(attempt, "stopped by Ctrl-C")
                raise

    def _curves(self, attempt: Attempt, cell: Cell) -> AbstractContextManager[Curves | None]:
        """What shows the attempt in TensorBoard, if it is to be shown."""
        if not self.call.tensorboard:
            return nullcontext()
        experiment = json.dumps(cell.experiment.model_dump(mode="json"), indent=2)
        by = f"worker {self.call.name} on {socket.gethostname()}, {self._device}"
        study = self._store.name_of(attempt.study_id)
        about = f"{cell.name}, of {study}; {by}\n\n```json\n{experiment}\n```"
        return Curves(curves_folder(self.call.out, study, cell), about)

    def _finish(
        self, attempt: Attempt, cell: Cell, result: Result, checkpoint: Path, emit: Callable[..., None]
    ) -> CellRecord | None:
        self._keep_weights(cell, checkpoint)
        if not self._store.finish(attempt, result):
            self._leave(attempt, _Lost(), emit)
            return None
        with suppress(OSError):  # the result is safe; a checkpoint that cannot be removed is only in the way
            checkpoint.unlink(missing_ok=True)
            for unfinished in checkpoint.parent.glob(f"{cell.key}.*.partial"):  # of a process killed as it wrote
                unfinished.unlink(missing_ok=True)
        self._tell_memory(emit)
        emit("finished", result=result)
        return CellRecord(cell, "finished", result=result)

    def _keep_weights(self, cell: Cell, checkpoint: Path) -> None:
        """Put weights and class probabilities where reports look for them; a result without either is a result."""
        out = self.call.out
        for left, kept, called in (
            (weights_beside(checkpoint), weights_file(out, cell.key), "weights"),
            (scores_beside(checkpoint), scores_file(out, cell.key), "class probabilities"),
        ):
            if not left.exists():  # what trained keeps none
                continue
            try:
                kept.parent.mkdir(parents=True, exist_ok=True)
                left.replace(kept)
            except OSError as error:
                _log.warning(
                    "%s: the result is kept, but its %s are not: %s: %s", cell.name, called, kept, error.strerror
                )

    def _leave(self, attempt: Attempt, reason: _Leave, emit: Callable[..., None]) -> None:
        if isinstance(reason, _Lost):
            _log.warning(
                "%s: worker %s gave no sign for too long and the cell was given to another; what it made is discarded",
                attempt.name,
                self.call.name,
            )
        elif isinstance(reason, _Stopped):
            self._store.requeue(attempt, "its worker was told to stop")
        elif isinstance(reason, _Pruned):
            self._store.prune(attempt, reason.attrs)
        emit("requeued", error=str(reason) or None)

    def _fail(
        self, attempt: Attempt, cell: Cell, error: Exception, step: int, emit: Callable[..., None]
    ) -> CellRecord | None:
        line = _one_line(error, self._device)
        if self.call.shares_gpu and _out_of_memory(error):
            self._store.requeue(attempt, f"out of memory on {self._device} beside other workers")
            self._out_of_memory = True
            emit("out of memory", error=line)
            return None
        trace = encodable(traceback.format_exc())
        # A wrong description stays wrong; anything else may be chance, a full disk or a device that fell over.
        if self._store.fail(attempt, line, trace, self._device, step, retry=not isinstance(error, UserError)):
            _log.warning("%s: %s; tried again", cell.name, line)
            emit("requeued", error=line)
            return None
        emit("failed", error=line)
        return CellRecord(cell, "failed", error=line, traceback=trace)

    def _tell_memory(self, emit: Callable[..., None]) -> None:
        """Tell once what a cell takes of a GPU that others are to share: the allocator's share and CUDA's own."""
        if not self.call.shares_gpu or self._told_memory:
            return
        import torch

        self._told_memory = True
        held = torch.cuda.max_memory_reserved(self._device) + _CUDA_CONTEXT_BYTES
        emit("memory", memory=(held, torch.cuda.get_device_properties(self._device).total_memory))

    def _judge(self, attempt: Attempt, new: list[CurvePoint], curve: list[CurvePoint]) -> None:
        """Write new points of the curve of a design study's trial; leave it if it is not worth finishing."""
        if not new or attr.TRIAL not in attempt.attrs:
            return
        for point in new:
            self._store.report(attempt, point.epoch, point.score)
        prune: Prune = load(self.call.prune)
        why = prune(self._store.backend, attempt, curve)
        if why is not None:
            raise _Pruned(why, curve)


def run_worker(
    call: WorkerCall, stop: threading.Event | None = None, on_event: Callable[[Event], None] | None = None
) -> int:
    """Be a worker of ``call.storage`` until nothing is left to do or ``stop`` is set; the number of cells that ended.

    Raises what :meth:`Worker.work` and :meth:`Store.open` raise.
    """
    return len(Worker(call, _open(call), stop, on_event).work())


def _open(call: WorkerCall) -> Store:
    """The store that whoever sent the worker has opened: a server that does not answer has just gone.

    It is waited for as long as a lease lasts.
    """
    deadline: float | None = None
    while True:
        try:
            return Store.open(call.storage, create=False)
        except UserError as error:
            deadline = deadline or time.monotonic() + call.lease_seconds
            if Location.parse(call.storage).path is not None or time.monotonic() > deadline:
                raise
            _log.warning("%s; trying again", error)
            time.sleep(call.lease_seconds / 20)


def _resolved(call: WorkerCall) -> str:
    """The device behind that of a call; :class:`UserError` if it, or another GPU of a cell, is not there."""
    from tadaconv.environment import devices_of_cell, resolve_device

    devices_of_cell(call.device, call.options.gpus_per_cell)
    return str(resolve_device(call.device))


def _why_not_here(attempt: Attempt, call: WorkerCall) -> str | None:
    """Why this machine, or this version of tadaconv, cannot run a cell; None if it can."""
    if attempt.protocol != PROTOCOL:
        return f"it was queued by another version of tadaconv (protocol {attempt.protocol}, here {PROTOCOL})"
    try:
        experiment = attempt.cell.experiment
        require_division(experiment.schedule, call.options.gpus_per_cell)
    except UserError as error:
        return str(error)
    return why_missing(experiment, call.places, call.out / "cache")


def _out_of_memory(error: BaseException | None) -> bool:
    # Whoever ran out of torch's memory has imported torch; where it is not imported, nobody did.
    torch = sys.modules.get("torch")
    while error is not None:
        if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
            return True
        error = error.__cause__
    return False


def _one_line(error: Exception, device: str) -> str:
    what = encodable(one_line(error))  # it may name a file whose name is not UTF-8
    if isinstance(error, RunError | UserError):
        return what
    if _out_of_memory(error):
        return f"out of memory on {device}: {what}" if what else f"out of memory on {device}"
    return f"{type(error).__name__}: {what}" if what else type(error).__name__
