"""Launches workers, in this process, as processes of this machine, on Ray or on Slurm, and restarts lost ones.

Launchers only launch: the queue in the storage decides which cells a worker runs.
"""

import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Annotated, Any, Protocol, Self, cast

from pydantic import Field, TypeAdapter, ValidationError

from tadaconv.command import command, install
from tadaconv.data.prefetch import num_cores
from tadaconv.errors import RunError, UserError, lookup, unknown
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.follow import Follower
from tadaconv.execution.lease import LEASE_SECONDS, Reaper
from tadaconv.execution.location import Location
from tadaconv.execution.store import Store
from tadaconv.execution.worker import Event, Worker, WorkerCall, load
from tadaconv.run_options import require_division
from tadaconv.text import plural

POLL_SECONDS = 0.05
"""Seconds between two calls of a launcher's ``poll``."""

IDLE_SECONDS = 60.0
"""How long workers that Ray or Slurm runs stay without work."""


class Launcher(Protocol):
    """Starts workers, restarts lost ones, and stops them."""

    def start(self) -> None:
        """Start the workers. Raises :class:`tadaconv.errors.UserError` if the request cannot be met."""
        ...

    def poll(self) -> Sequence[str]:
        """Restart dead workers; return lines for the user. Called a few times a second, so it must not block."""
        ...

    @property
    def num_alive(self) -> int:
        """Workers that run now."""
        ...

    def stop(self) -> None:
        """Ask the workers to requeue their cells and leave, wait a while, then end those that have not."""
        ...


@dataclass(frozen=True)
class Crew:
    """The workers of one call.

    Attributes:
        call: the configuration of each, without its name, its device and its cells.
        num_workers: how many; one on this machine runs in this process. None for as many as this machine carries, see
            :meth:`fitted`.
        executor: ``local``, ``ray`` or ``slurm``.
        options: the executor's own, by name.
    """

    call: WorkerCall
    num_workers: int | None = 1
    executor: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise UserError(f"--workers {self.num_workers} would run no cells; give a number from 1 on")
        lookup("executor", self.executor, EXECUTORS)
        if self.executor == "local" and self.options:
            raise UserError(
                f"--executor-option {next(iter(self.options))} is for ray and slurm; name one by --executor"
            )
        package = {"ray": "ray", "slurm": "submitit"}.get(self.executor)
        if package is not None and find_spec(package) is None:
            raise UserError(f"--executor {self.executor} needs {package}: {install(self.executor)}")
        if self.executor != "local" or self.call.options.gpus_per_cell > 1:
            # Not started: wrong options are refused before a cell is queued.
            if self.num_workers is None:
                replace(self, num_workers=1)
            else:
                self.launcher(lambda _: None)

    def require(self, cell: Cell) -> None:
        """Raise :class:`UserError`, with the row's name, if these workers cannot train a cell."""
        try:
            require_division(cell.experiment.schedule, self.call.options.gpus_per_cell)
        except UserError as error:
            raise UserError(f"row {cell.label!r}: {error}") from error

    def fitted(self, cells: Sequence[Cell], num_at_once: int) -> tuple[Self, str]:
        """This crew with a number of workers, and why it is that; no reason where the number was given.

        Args:
            cells: what may come to be run, with their clips resolved.
            num_at_once: how many of them at a time, at most.
        """
        if self.num_workers is not None:
            return self, ""
        if self.executor != "local":
            return replace(self, num_workers=1), ""
        number, why = num_workers_for(cells, self.call.device, self.call.options.gpus_per_cell, num_at_once)
        return replace(self, num_workers=number), why

    @property
    def in_process(self) -> bool:
        """Whether the one worker is the calling process."""
        return self.executor == "local" and self.num_workers == 1

    def launcher(self, on_event: Callable[[Event], None], **changes: object) -> Launcher:
        """The workers, not started yet."""
        assert self.num_workers is not None, "see fitted"
        launcher, call = load(EXECUTORS[self.executor]), self.call.but(**changes)
        if self.executor != "local":
            calls = [call.but(name=f"{self.executor}-{i}") for i in range(self.num_workers)]
            return cast(Launcher, launcher(calls, self.options))
        devices = _devices(call.device, call.options.gpus_per_cell, self.num_workers)
        call = call.with_cores(max(1, num_cores() // self.num_workers))
        calls = [call.but(name=f"{os.getpid()}.{i}", device=devices[i % len(devices)]) for i in range(self.num_workers)]
        return cast(Launcher, launcher(calls, on_event))


EXECUTORS = {
    "local": "tadaconv.execution.local:LocalLauncher",
    "ray": "tadaconv.execution.on_ray:RayLauncher",
    "slurm": "tadaconv.execution.on_slurm:SlurmLauncher",
}
"""Launchers as ``module:class``, by the name ``--executor`` takes; all but the local one are called with options."""


def num_workers_for(cells: Sequence[Cell], device: str, gpus_per_cell: int, num_at_once: int) -> tuple[int, str]:
    """How many workers this machine carries, and a line that says why: ``2 workers: 2 cores``.

    The least of the cores that this process may use, of what its free memory holds, of the GPUs if the device is one,
    and of the cells.

    Args:
        cells: what may come to be run, with their clips resolved.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        gpus_per_cell: GPUs, or processes on the CPU, that train a cell together.
        num_at_once: how many cells at a time, at most.
    """
    each = f", {gpus_per_cell} a cell" if gpus_per_cell > 1 else ""
    places, on_gpus = [device], False
    limits = [(num_at_once, f"{plural(num_at_once, 'cell')} to run at a time")]
    if device != "cpu":
        places = _devices(device, gpus_per_cell, 1)
        on_gpus = places != ["cpu"]
    if on_gpus:
        limits.append((len(places), f"{plural(len(places) * gpus_per_cell, 'GPU')}{each}"))
    cores = num_cores()
    limits.append((max(1, cores if on_gpus else cores // gpus_per_cell), f"{plural(cores, 'core')}{each}"))
    number, why = min(limits)
    if number > 1:
        from tadaconv.data.memory import free_bytes
        from tadaconv.dry_run import worker_bytes

        alike = {cell.experiment.but(seed=0, temporal=None): cell.experiment for cell in cells}
        takes = max(worker_bytes(one, "cuda" if on_gpus else "cpu") for one in alike.values())
        free = free_bytes()
        if free // takes < number:
            number = max(1, free // takes)
            why = f"{free / 2**30:.1f} GiB of memory are free, and one takes about {takes / 2**30:.1f} GiB"
    return number, f"{plural(number, 'worker')}: {why}"


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
            f"--workers {num_workers} with --gpus-per-cell {gpus_per_cell} needs {num_workers * gpus_per_cell} GPUs, "
            f"and this machine has {num_gpus - first}{from_first}; give fewer of either"
        )
    return [f"cuda:{i}" for i in range(first, num_gpus, gpus_per_cell)]


def supervise(
    launcher: Launcher,
    store: Store,
    is_pending: Callable[[], bool],
    tick: Callable[[], None],
    on_line: Callable[[str], None],
    lease_seconds: float = LEASE_SECONDS,
) -> None:
    """Keep ``launcher``'s workers going while ``is_pending``; they are stopped however this ends.

    Args:
        launcher: not started yet.
        store: the storage the workers work on; dead workers' cells are returned to its queue.
        is_pending: called about twice a second; whether a cell is left to wait for.
        tick: called about twice a second.
        on_line: called with lines for the user.
        lease_seconds: how long a worker may be silent before it counts as dead; the workers' own value.

    Raises :class:`RunError` if for that long no worker is left anywhere, and the errors of ``launcher`` and ``store``.
    """
    reaper = Reaper(store, lease_seconds)
    next_look = 0.0
    alone_since: float | None = None
    launcher.start()
    try:
        while True:
            for line in launcher.poll():
                on_line(line)
            now = time.monotonic()
            if now >= next_look:
                next_look = now + 0.5
                for line in reaper.observe():
                    on_line(line)
                tick()
                if not is_pending():
                    return
                if launcher.num_alive or store.backend.running():
                    alone_since = None
                elif now - (alone_since := alone_since or now) > lease_seconds:
                    raise RunError(
                        "no worker is left, and cells are waiting; give the same command again, or help with: "
                        + command("worker")
                    )
            time.sleep(POLL_SECONDS)
    finally:
        launcher.stop()
        for line in reaper.observe():  # the cells of killed workers are requeued before a report is made
            on_line(line)


def work(
    crew: Crew,
    store: Store,
    is_pending: Callable[[], bool],
    tick: Callable[[], None],
    on_line: Callable[[str], None],
    on_event: Callable[[Event], None] = lambda _: None,
    more: Callable[[], bool] | None = None,
    **changes: Any,
) -> None:
    """Have ``crew`` run the queued cells while ``is_pending``; other workers may help.

    Args:
        crew: who works.
        store: the storage.
        is_pending: whether a cell is left to run or to wait for.
        tick: called about twice a second.
        on_line: called with lines for the user.
        on_event: called in this thread with the events of cells.
        more: called by a worker in this process when no cell waits; whether it has queued any.
        changes: to the configuration of the workers.

    Raises as :meth:`tadaconv.execution.worker.Worker.work` and :func:`supervise` do.
    """
    if not crew.in_process:
        # Workers of this machine are stopped by their parent, and until then wait for cells that are requeued; others
        # may outlive it, and leave by themselves.
        stay = math.inf if crew.executor == "local" else IDLE_SECONDS
        launcher = crew.launcher(on_event, **changes, wait_seconds=stay)
        supervise(launcher, store, is_pending, tick, on_line, crew.call.lease_seconds)
        return
    worker = Worker(crew.call.but(name=f"{os.getpid()}.0", **changes), store, None, on_event, tick, more)
    while is_pending():
        if not worker.work():
            time.sleep(0.5)  # this process cannot run the cells that are left, and waits for others to do so
        tick()


def run_cells(
    store: Store,
    study: str,
    cells: Sequence[Cell],
    crew: Crew,
    on_event: Callable[[Event], None],
    on_line: Callable[[str], None],
    further: Callable[[Sequence[CellRecord]], Sequence[Cell]] = lambda _: (),
    keys: Collection[str] = (),
) -> list[CellRecord]:
    """Wait until all ``cells`` and those queued ``further`` have ended, run by ``crew`` or by other workers.

    Args:
        store: the storage, in which they are queued.
        study: the study they were queued for.
        cells: no experiment twice.
        crew: the workers.
        on_event: called in this thread with the events of the cells.
        on_line: called with lines for the user.
        further: called in this thread with every record once, soon after its cell has ended; queues the cells that are
            to be run because of it, and returns them.
        keys: of all cells that may come to be queued.

    Returns a record of each cell, in the order they ended.
    """
    follower = Follower(store, study, cells, on_event)
    num_seen = 0

    def go_on() -> bool:
        nonlocal num_seen
        ended = follower.ended[num_seen:]
        num_seen += len(ended)
        queued = further(ended) if ended else ()
        follower.follow(queued)
        return bool(queued)

    def take(event: Event) -> None:
        follower.take(event)
        if not crew.in_process:  # a worker in this process asks when it has no cell left: queueing several is cheaper
            go_on()

    def tick() -> None:
        follower.update()
        go_on()

    of_workers = frozenset(keys) | {cell.key for cell in cells}
    work(crew, store, lambda: follower.is_pending, tick, on_line, take, go_on, study=study, keys=of_workers)
    return follower.ended


def join(store: Store, crew: Crew, on_event: Callable[[Event], None], on_line: Callable[[str], None]) -> int:
    """Run any cell of the storage until none is left; returns the number of cells that ended here.

    Workers on Ray or Slurm report no events, and their cells are not counted.
    """
    num_ended = 0

    def count(event: Event) -> None:
        nonlocal num_ended
        num_ended += event.kind in ("finished", "failed")
        on_event(event)

    if crew.in_process:
        Worker(crew.call.but(name=f"{os.getpid()}.0"), store, on_event=count).work()
    else:
        launcher = crew.launcher(count)
        supervise(launcher, store, lambda: launcher.num_alive > 0, lambda: None, on_line, crew.call.lease_seconds)
    return num_ended


Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
Whole = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def read_options(executor: str, options: Mapping[str, str], types: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``options`` as ``types`` of the same names; hyphens in names count as underscores.

    Raises :class:`UserError` for an option that is not among ``types``, one given twice and an invalid value.
    """
    values: dict[str, Any] = {}
    for given, value in options.items():
        name = given.strip().replace("-", "_")
        if name not in types:
            raise unknown(f"option of --executor {executor}", given, types)
        if name in values:
            raise UserError(f"--executor-option {name} is given twice; give it once")
        try:
            values[name] = TypeAdapter(types[name]).validate_python(value.strip())
        except ValidationError as error:
            raise UserError(f"--executor-option {given}={value!r} is invalid: {error.errors()[0]['msg']}") from error
    return values


def anywhere(call: WorkerCall) -> WorkerCall:
    """``call`` for other machines, with absolute paths."""
    path = Location.parse(call.storage).path
    storage = call.storage if path is None else str(path.absolute())
    return call.but(storage=storage, out=call.out.absolute())
