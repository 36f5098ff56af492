"""Who runs the cells of a call: this process, processes of this machine, Ray's or Slurm's; and the wait for them."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tadaconv.data.prefetch import num_cores
from tadaconv.errors import UserError, lookup
from tadaconv.execution.call import Event, WorkerCall
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.launch import Launcher, supervise
from tadaconv.execution.store import Store
from tadaconv.execution.watch import Watch
from tadaconv.execution.worker import Worker
from tadaconv.run_options import require_division

IDLE_SECONDS = 60.0
"""How long workers that Ray or Slurm runs stay without work."""


@dataclass(frozen=True)
class Crew:
    """The workers of one call.

    Attributes:
        call: what each is told, but for its name, its device and its cells.
        num_workers: how many; one on this machine runs in this process.
        executor: ``local``, ``ray`` or ``slurm``.
        options: the executor's own, by name.
    """

    call: WorkerCall
    num_workers: int = 1
    executor: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise UserError(f"--workers {self.num_workers} would run nothing; give a number from 1 on")
        lookup("executor", self.executor, EXECUTORS)
        if self.executor == "local" and self.options:
            raise UserError(
                f"--executor-option {next(iter(self.options))} is for ray and slurm; name one by --executor"
            )
        if self.executor != "local" or self.call.options.gpus_per_cell > 1:
            self.launcher(lambda _: None)  # not started: what its options cannot be is said before anything is queued

    def require(self, cell: Cell) -> None:
        """Raise :class:`UserError`, with the row's name, if these workers cannot train a cell."""
        try:
            require_division(cell.experiment.schedule, self.call.options.gpus_per_cell)
        except UserError as error:
            raise UserError(f"row {cell.label!r}: {error}") from error

    @property
    def in_process(self) -> bool:
        """Whether the one worker is the calling process."""
        return self.executor == "local" and self.num_workers == 1

    def launcher(self, on_event: Callable[[Event], None], **changes: object) -> Launcher:
        """The workers, not started yet."""
        return EXECUTORS[self.executor](self, self.call.but(**changes), on_event)


def _local(crew: Crew, call: WorkerCall, on_event: Callable[[Event], None]) -> Launcher:
    from tadaconv.execution.local import LocalLauncher

    devices = _devices(call.device, call.options.gpus_per_cell, crew.num_workers)
    cores = max(1, num_cores() // crew.num_workers)
    calls = [
        call.but(name=f"{os.getpid()}.{i}", device=devices[i % len(devices)]).with_cores(cores)
        for i in range(crew.num_workers)
    ]
    return LocalLauncher(calls, on_event)


def _ray(crew: Crew, call: WorkerCall, _: Callable[[Event], None]) -> Launcher:
    from tadaconv.execution.on_ray import RayLauncher

    return RayLauncher([call.but(name=f"ray-{i}") for i in range(crew.num_workers)], crew.options)


def _slurm(crew: Crew, call: WorkerCall, _: Callable[[Event], None]) -> Launcher:
    from tadaconv.execution.on_slurm import SlurmLauncher

    calls = [call.but(name=f"slurm-{i}") for i in range(crew.num_workers)]
    return SlurmLauncher(calls, crew.options, call.out / "slurm")


EXECUTORS: dict[str, Callable[[Crew, WorkerCall, Callable[[Event], None]], Launcher]] = {
    "local": _local,
    "ray": _ray,
    "slurm": _slurm,
}
"""What brings up workers, by the name ``--executor`` takes."""


def _devices(device: str, gpus_per_cell: int, num_workers: int) -> list[str]:
    """The devices that workers are spread over: every GPU for ``auto`` and ``cuda``, else the one named.

    Where several GPUs train a cell, the first ones of disjoint groups; :class:`UserError` if these are too few.
    """
    if device not in ("auto", "cuda") and gpus_per_cell == 1:
        return [device]
    from tadaconv.environment import resolve_device

    place = resolve_device(device)
    if place.type == "cpu":
        return ["cpu"]
    import torch

    first, num_gpus = place.index or 0, torch.cuda.device_count()
    if num_workers * gpus_per_cell > num_gpus - first and gpus_per_cell > 1:
        from_first = f" from cuda:{first} on" if first else ""
        raise UserError(
            f"--workers {num_workers} with --gpus-per-cell {gpus_per_cell} wants {num_workers * gpus_per_cell} GPUs, "
            f"and this machine has {num_gpus - first}{from_first}; give fewer of either"
        )
    return [f"cuda:{i}" for i in range(first, num_gpus, gpus_per_cell)]


def run_cells(
    store: Store,
    study: str,
    cells: Sequence[Cell],
    crew: Crew,
    on_event: Callable[[Event], None],
    tell: Callable[[str], None],
) -> list[CellRecord]:
    """Wait until every one of ``cells`` has ended, run by ``crew`` or by whoever else works on the storage.

    Args:
        store: the storage, in which they are queued.
        study: the study they were queued for.
        cells: no experiment twice.
        crew: who helps.
        on_event: told, in this thread, of what happens to the cells.
        tell: takes lines worth telling.

    Returns a record of each cell, in the order they ended.
    """
    watch = Watch(store, study, cells, on_event)
    keys = frozenset(cell.key for cell in cells)
    if crew.in_process:
        call = crew.call.but(name=f"{os.getpid()}.0", study=study, keys=keys)
        worker = Worker(call, store, on_event=watch.hear, tick=watch.look)
        while watch.is_pending:
            worker.work()
            watch.look()
            if watch.is_pending:  # what is left cannot be run here, and others are waited for
                time.sleep(0.5)
    else:
        # Workers that are told when to leave stay for cells that come back to the queue; others cannot be told by a
        # parent that has died.
        stay = math.inf if crew.executor == "local" else IDLE_SECONDS
        launcher = crew.launcher(watch.hear, study=study, keys=keys, wait_seconds=stay)
        supervise(launcher, store, lambda: watch.is_pending, watch.look, tell, crew.call.lease_seconds)
    return watch.ended


def join(store: Store, crew: Crew, on_event: Callable[[Event], None], tell: Callable[[str], None]) -> int:
    """Help with every cell of the storage until nothing is left; the number of cells that ended here.

    Of workers that Ray or Slurm runs no events are heard, and none are counted.
    """
    num_ended = 0

    def hear(event: Event) -> None:
        nonlocal num_ended
        num_ended += event.kind in ("finished", "failed")
        on_event(event)

    if crew.in_process:
        Worker(crew.call.but(name=f"{os.getpid()}.0"), store, on_event=hear).work()
    else:
        launcher = crew.launcher(hear)
        supervise(launcher, store, lambda: launcher.num_alive > 0, lambda: None, tell, crew.call.lease_seconds)
    return num_ended
