"""What a worker is told: plain values that can be sent to another process or machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from tadaconv.execution.cells import Cell
from tadaconv.result import Progress, Result
from tadaconv.run_options import RunOptions

EventKind = Literal["started", "progress", "finished", "failed", "put back", "crowded", "memory"]
"""``put back``: the cell left this worker without an end. ``crowded``: it ran out of memory beside other workers, and
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
        run: what trains a cell, as ``module:function``.
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
    lease_seconds: float = 60.0

    def but(self, **changes: Any) -> Self:
        """A copy with other values."""
        return replace(self, **changes)

    def with_cores(self, cores: int) -> Self:
        """The call of a worker whose share of its machine are ``cores``."""
        return self.but(options=self.options.with_cores(cores))

    def load_run(self) -> Run:
        """The function that trains a cell."""
        module, _, name = self.run.partition(":")
        found: Run = getattr(import_module(module), name)
        return found
