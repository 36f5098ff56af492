"""One worker: takes cells off the queue, runs them, and records their results.

:class:`WorkerCall` is its configuration, plain values that can be sent to another process or machine, and
:class:`Event` what it reports.
"""

import json
import logging
import random
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self

from tadaconv.errors import RunError, StorageError, UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Attempt, Backend
from tadaconv.execution.cells import Cell, CellRecord, scores_file, weights_file
from tadaconv.execution.lease import Lease, LeaseKeeper, Reaper
from tadaconv.execution.location import Location
from tadaconv.execution.store import Store
from tadaconv.execution.tensorboard import Curves, curves_folder
from tadaconv.files import require_writable
from tadaconv.locations import at_home, why_missing
from tadaconv.result import CurvePoint, Progress, Result
from tadaconv.run_options import RunOptions, require_division
from tadaconv.text import encodable, one_line
from tadaconv.weights import scores_beside, weights_beside

_PAGE = 16
"""Waiting attempts looked at together: the first is tried, then, when others are faster, the rest at random."""

_STEPS_TO_FULL_MEMORY = 3
"""Optimizer steps after which a cell has reached its peak of memory: buffers, gradients, the optimizer's state."""

_CUDA_CONTEXT_BYTES = 600 * 2**20
"""GPU memory of a process in addition to its tensors."""

_log = logging.getLogger("tadaconv")


EventKind = Literal["started", "progress", "finished", "failed", "requeued", "out of memory", "memory"]
"""``requeued``: the cell left this worker before its end. ``out of memory``: the same, next to other workers, and this
worker leaves. ``memory``: the memory of the worker's first cell."""


@dataclass(frozen=True)
class Event:
    """An event of a cell, for a live view, ``seconds`` after its worker started it."""

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


Run = Callable[..., Result]
"""Trains one cell, from its checkpoint if that exists; :func:`tadaconv.experiment.run` is the real one."""

Prune = Callable[[Backend, Attempt, Sequence[CurvePoint]], str | None]
"""The reason to end a design study's trial, given its curve so far, or None; the real one is
:func:`tadaconv.study.pruning.reason_to_prune`."""


@dataclass(frozen=True)
class WorkerCall:
    """The configuration of a worker.

    Attributes:
        storage: a path or a URL.
        name: for people, such as ``w0``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        out: the run folder, with the checkpoints.
        study: the study with the queue that comes first; None for no preference.
        only_study: take the cells of that study, and of its further search spaces, alone.
        keys: the cells to take; None for any cell of the storage.
        places: paths of clips and weights on this machine, by fingerprint; others are those of the queued cell.
        options: how cells are run.
        tensorboard: whether curves of running cells are written to ``out``; see :mod:`tadaconv.execution.tensorboard`.
        wait_seconds: how long to stay without work; infinite until it is stopped.
        shares_gpu: whether other workers use the same GPU.
        run: the function that trains a cell, a :class:`Run`, as ``module:function``.
        prune: the function that prunes a design study's trials, a :class:`Prune`, as ``module:function``.
        lease_seconds: how long the worker may be silent before it counts as dead.
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
        """The call of a worker with ``cores`` of its machine."""
        return self.but(options=self.options.with_cores(cores))


def load(function: str) -> Any:
    """The function with the name ``module:function``, which is imported."""
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)


class _Leave(BaseException):
    """Raised in the middle of a cell to leave it; training code must not catch it.

    ``end`` is called when training has unwound; ``reason`` is for readers, if there is one.
    """

    def __init__(self, end: Callable[[], object], reason: str | None = None) -> None:
        super().__init__(reason)
        self.end, self.reason = end, reason


class _Broken(BaseException):
    """The worker itself failed, such as in its view or in the storage. The cell is not to blame."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Worker:
    """One worker in this process, in the thread that calls :meth:`work`.

    Args:
        call: its configuration.
        store: the storage it works on.
        stop: set by another thread to make it requeue its cell and leave.
        on_event: called in this thread as cells start, make progress and end.
        tick: called in this thread about twice a second, whether there is work or not.
        more: called when no cell waits; whether it has queued any.
        run: trains a cell, instead of the function that ``call`` names.
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
        self._run_cell: Any = run
        self._checkpoints = call.out / "checkpoints"
        self._random = random.Random(call.name)
        self._reaper = Reaper(store, call.lease_seconds)
        self._device = ""
        self._refused: set[str] = set()
        self._out_of_memory = self._has_reported_memory = False
        self._started = 0.0
        self._next_observation = self._next_tick = self._next_requeue = 0.0

    def work(self) -> list[CellRecord]:
        """Run cells until none waits or runs, or until it is stopped; returns a record of each that ended here.

        It waits for cells that others run, since their workers may die. A cell that raises is tried again or
        recorded as failed, and the next one is run. On Ctrl-C the cell is requeued and the exception raised.

        Raises:
            UserError: the device is not there.
            StorageError: the storage cannot be written, or its server stays away.
        """
        records: list[CellRecord] = []
        idle_since: float | None = None
        lease = Lease.of_this_process(self.call.name, self.call.device)
        with LeaseKeeper(self._store, lease, self.call.lease_seconds) as keeper:
            while not self._stop.is_set() and not self._out_of_memory:
                self._observe()
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

    def _observe(self) -> None:
        now = time.monotonic()
        if now >= self._next_observation:
            self._next_observation = now + min(2.0, self.call.lease_seconds / 8)
            for line in self._reaper.observe():
                _log.warning(line)
        if now >= self._next_tick:
            self._next_tick = now + 0.5
            self._tick()

    def _pop(self, keeper: LeaseKeeper) -> Attempt | None:
        """Claim a waiting attempt, of the worker's own study first: the oldest, if no other worker is faster."""
        for studies in self._queues():
            while studies:
                page = self._store.backend.waiting(studies, self.call.keys, _PAGE + len(self._refused))
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

    def _queues(self) -> list[list[int]]:
        """The studies to take cells from: first the worker's own with its further spaces, then the others."""
        studies, own = self._store.backend.studies(), self.call.study
        first = [id for name, id in studies.items() if name == own or name.startswith(f"{own}-space")]
        return [first] if self.call.only_study else [first, [id for id in studies.values() if id not in first]]

    def _get_ready(self, keeper: LeaseKeeper) -> None:
        """Resolve the device and import the code that trains, before a cell is claimed and has to wait for them."""
        if self._device:
            return
        require_writable(self._checkpoints)
        self._run_cell = self._run_cell or load(self.call.run)
        self._device = self.call.device
        if self._device != "cpu":
            from tadaconv.environment import devices_of_cell, resolve_device

            devices_of_cell(self.call.device, self.call.options.gpus_per_cell)
            self._device = str(resolve_device(self.call.device))
        keeper.device = self._device

    def _refuses(self, trial_id: int) -> bool:
        """Whether a cell cannot be run here, with a warning; other workers may run it."""
        attempt = self._store.backend.attempt(trial_id)
        try:
            experiment = attempt.cell.experiment
            require_division(experiment.schedule, self.call.options.gpus_per_cell)
            why = why_missing(experiment, self.call.places, self.call.out / "cache")
        except UserError as error:  # such as a cell that another version of tadaconv queued
            why = str(error)
        if why is None:
            return False
        if not self._refused:
            _log.warning("%s: left for other workers: %s", attempt.name, why)
        self._refused.add(attempt.key)
        return True

    def _pending(self, *, leaves: bool) -> bool:
        """Whether a cell for this worker waits, or is being run by a worker that may die.

        Cells left between two attempts are looked for only now and then, which takes reading all cells, and before the
        worker ``leaves``.
        """
        pending, now = self._any_open(), time.monotonic()
        if now >= self._next_requeue or (leaves and not pending):
            self._next_requeue = now + self.call.lease_seconds / 4
            self._store.requeue_ended(self.call.keys)
            pending = self._any_open()
        return pending

    def _any_open(self) -> bool:
        backend, keys = self._store.backend, self.call.keys
        studies = [study_id for queue in self._queues() for study_id in queue]
        for attempt in backend.running():
            if attempt.study_id in studies and (keys is None or attempt.key in keys):
                return True
        page = backend.waiting(studies, keys, 1 + len(self._refused))
        return any(key not in self._refused for _, _, key in page)

    def _run(self, attempt: Attempt, keeper: LeaseKeeper) -> CellRecord | None:
        """Run one attempt to its end; None if it left this worker without one."""
        experiment = at_home(attempt.cell.experiment, self.call.places, self.call.out / "cache")
        cell = Cell(str(attempt.attrs[attr.LABEL]), experiment)
        checkpoint = self._checkpoints / f"{cell.key}.pt"
        self._started = time.monotonic()
        step, num_points = int(attempt.attrs.get(attr.STEP, 0)), 0

        def report(progress: Progress) -> None:
            nonlocal step, num_points
            step = progress.step
            keeper.progress(progress)
            if keeper.lost.is_set():
                raise self._lost(attempt)
            if curves is not None:
                curves.add(progress)
            if self._stop.is_set():
                raise self._stopped(attempt)
            try:
                self._judge(attempt, progress.curve, num_points)
                num_points = len(progress.curve)
                self._emit("progress", cell, progress=progress)
                if progress.step >= _STEPS_TO_FULL_MEMORY:
                    self._report_memory(cell)
                self._observe()
            except Exception as error:
                raise _Broken(error) from error

        with keeper.held(attempt), self._curves(attempt, cell) as curves:
            self._emit("started", cell)
            try:
                try:
                    result = self._run_cell(
                        cell.experiment,
                        device=self._device,
                        report=report,
                        checkpoint=checkpoint,
                        options=self.call.options,
                    )
                except Exception as error:
                    if self._stop.is_set() and not isinstance(error, UserError):
                        raise self._stopped(attempt) from error  # the signal may have ended what the cell needs
                    return self._fail(attempt, cell, error, step)
                if curves is not None:
                    curves.finish(result.curve)
                return self._finish(attempt, cell, result, checkpoint)
            except _Leave as leave:
                leave.end()
                self._emit("requeued", cell, error=leave.reason)
                return None
            except _Broken as broken:
                if not isinstance(broken.error, StorageError):
                    self._store.requeue(attempt, f"stopped by {type(broken.error).__name__}")
                raise broken.error from None
            except KeyboardInterrupt:
                self._store.requeue(attempt, "stopped by Ctrl-C")
                raise

    def _emit(self, kind: EventKind, cell: Cell, **details: Any) -> None:
        seconds = time.monotonic() - self._started
        self._on_event(Event(kind, cell, seconds, worker=self.call.name, device=self._device, **details))

    def _stopped(self, attempt: Attempt) -> _Leave:
        return _Leave(lambda: self._store.requeue(attempt, "its worker was stopped"))

    def _lost(self, attempt: Attempt) -> _Leave:
        line = "%s: worker %s did not renew its lease for too long and the cell was requeued; its result is discarded"
        return _Leave(lambda: _log.warning(line, attempt.name, self.call.name))

    def _curves(self, attempt: Attempt, cell: Cell) -> AbstractContextManager[Curves | None]:
        """What shows the attempt in TensorBoard, if it is to be shown."""
        if not self.call.tensorboard:
            return nullcontext()
        experiment = json.dumps(cell.experiment.model_dump(mode="json"), indent=2)
        by = f"worker {self.call.name} on {socket.gethostname()}, {self._device}"
        study = self._store.name_of(attempt.study_id)
        about = f"{cell.name}, of {study}; {by}\n\n```json\n{experiment}\n```"
        return Curves(curves_folder(self.call.out, study, cell), about)

    def _finish(self, attempt: Attempt, cell: Cell, result: Result, checkpoint: Path) -> CellRecord:
        self._keep_weights(cell, checkpoint)
        if not self._store.finish(attempt, result):
            raise self._lost(attempt)
        with suppress(OSError):  # the result is safe; a checkpoint that cannot be removed is only in the way
            checkpoint.unlink(missing_ok=True)
            for unfinished in checkpoint.parent.glob(f"{cell.key}.*.partial"):  # of a process killed as it wrote
                unfinished.unlink(missing_ok=True)
        self._report_memory(cell)
        self._emit("finished", cell, result=result)
        return CellRecord(cell, "finished", result=result)

    def _keep_weights(self, cell: Cell, checkpoint: Path) -> None:
        """Move weights and class probabilities to where reports look for them; if that fails, the result stays."""
        out = self.call.out
        for left, kept, called in (
            (weights_beside(checkpoint), weights_file(out, cell.key), "weights"),
            (scores_beside(checkpoint), scores_file(out, cell.key), "class probabilities"),
        ):
            if not left.exists():  # training kept none
                continue
            try:
                kept.parent.mkdir(parents=True, exist_ok=True)
                left.replace(kept)
            except OSError as error:
                _log.warning(
                    "%s: the result is kept, but its %s are not: %s: %s", cell.name, called, kept, error.strerror
                )

    def _fail(self, attempt: Attempt, cell: Cell, error: Exception, step: int) -> CellRecord | None:
        line = error_line(error, self._device)
        if self.call.shares_gpu and _out_of_memory(error):
            self._store.requeue(attempt, f"out of memory on {self._device} next to other workers")
            self._out_of_memory = True
            self._emit("out of memory", cell, error=line)
            return None
        trace = encodable(traceback.format_exc())
        # A wrong description stays wrong; other errors may be transient, such as a full disk or a failing device.
        if self._store.fail(attempt, line, trace, self._device, step, retry=not isinstance(error, UserError)):
            _log.warning("%s: %s; will be tried again", cell.name, line)
            self._emit("requeued", cell, error=line)
            return None
        self._emit("failed", cell, error=line)
        return CellRecord(cell, "failed", error=line, traceback=trace)

    def _report_memory(self, cell: Cell) -> None:
        """Report once the memory that a cell takes of a shared GPU: the allocator's and CUDA's own."""
        if not self.call.shares_gpu or self._has_reported_memory:
            return
        import torch

        self._has_reported_memory = True
        held = torch.cuda.max_memory_reserved(self._device) + _CUDA_CONTEXT_BYTES
        self._emit("memory", cell, memory=(held, torch.cuda.get_device_properties(self._device).total_memory))

    def _judge(self, attempt: Attempt, curve: list[CurvePoint], num_known: int) -> None:
        """Write the points of a design study's trial that are new; leave the trial if it is to be pruned."""
        if len(curve) == num_known or attr.TRIAL not in attempt.attrs:
            return
        for point in curve[num_known:]:
            self._store.report(attempt, point.epoch, point.score)
        prune: Prune = load(self.call.prune)
        why = prune(self._store.backend, attempt, curve)
        if why is not None:
            attrs = {attr.PRUNED: why, attr.CURVE: [point.model_dump() for point in curve]}
            raise _Leave(lambda: self._store.prune(attempt, attrs), why)


def run_worker(
    call: WorkerCall, stop: threading.Event | None = None, on_event: Callable[[Event], None] | None = None
) -> int:
    """Be a worker of ``call.storage`` until no cell is left or ``stop`` is set; returns how many cells ended here.

    Raises as :meth:`Worker.work` and :meth:`Store.open` do.
    """
    return len(Worker(call, _open(call), stop, on_event).work())


def _open(call: WorkerCall) -> Store:
    """The store of a call. Its sender has opened it: if its server does not answer, it is waited for.

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


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, by the name of torch's error: torch may not have been imported."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        error = error.__cause__
    return False


def error_line(error: BaseException, device: str = "") -> str:
    """An error in one line, with its type unless its message is written for users."""
    text = encodable(one_line(error))  # it may name a file whose name is not UTF-8
    if isinstance(error, RunError | UserError):
        return text
    kind = f"out of memory on {device}" if device and _out_of_memory(error) else type(error).__name__
    return f"{kind}: {text}" if text else kind
