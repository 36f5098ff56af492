"""The interface of storages in addition to Optuna's, so that queues stay fast and cells run once.

Writes go through Optuna's ``storage``; reads for which Optuna would copy every trial are restricted to the required
attempts. :mod:`tadaconv.execution.journal` and :mod:`tadaconv.execution.postgres` implement it.
"""

import abc
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from optuna.storages import BaseStorage
from optuna.trial import TrialState

from tadaconv.execution import attrs as attr
from tadaconv.execution.cells import Cell, stored_experiment
from tadaconv.locations import together

AttemptStatus = Literal["finished", "failed", "running", "waiting", "dropped", "pruned"]
"""``dropped``: requeued, withdrawn or a duplicate, which does not count for its cell."""

_DROPPED = {attr.INTERRUPTED, attr.WITHDRAWN, attr.DUPLICATE_OF}
"""The attributes of attempts that ended without an outcome for their cell."""

_STATUS: dict[TrialState, AttemptStatus] = {
    TrialState.COMPLETE: "finished",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "pruned",
}


@dataclass(frozen=True)
class Attempt:
    """One try at a cell: a trial whose user attributes have ``cell``, the cell key.

    ``trial_id`` is unique in the storage, and an attempt with a smaller one was made earlier. ``number`` counts within
    the study, from 0. ``started`` and ``ended`` are in local time without a zone, as Optuna gives them.
    """

    trial_id: int
    study_id: int
    number: int
    state: TrialState
    attrs: Mapping[str, Any]
    value: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def key(self) -> str:
        """The cell key."""
        return str(self.attrs[attr.CELL])

    @property
    def status(self) -> AttemptStatus:
        """Its state, with dropped attempts apart from failed ones."""
        return "dropped" if self.state == TrialState.FAIL and _DROPPED & self.attrs.keys() else _STATUS[self.state]

    @property
    def cell(self) -> Cell:
        """The cell as it was queued; raises :class:`UserError` if another version of tadaconv described it."""
        tree = together(self.attrs[attr.SPEC], self.attrs.get(attr.PLACES, {}))
        return Cell(str(self.attrs[attr.LABEL]), stored_experiment(tree, "the cell"))

    @property
    def name(self) -> str:
        """Its cell, for readers, for example ``(1,1), seed 0``."""
        return f"{self.attrs[attr.LABEL]}, seed {self.attrs[attr.SPEC].get('seed')}"

    @property
    def protocol(self) -> Any:
        """The protocol its experiment was described by; see :data:`tadaconv.spec.PROTOCOL`."""
        return self.attrs[attr.SPEC].get("protocol")


class Backend(Protocol):
    """One storage. Every read sees all earlier writes of any process."""

    shown: str
    """Where the results are, as ``--storage`` takes it: a path or a URL."""
    storage: BaseStorage
    """Optuna's storage, which every write goes through; it waits while a server is away."""

    def alone(self) -> AbstractContextManager[None]:
        """Hold the storage's planning lock, after waiting for it; the death of its holder releases it."""
        ...

    def studies(self) -> dict[str, int]:
        """The id of every study by its name, oldest first."""
        ...

    def study_attrs(self, study_id: int) -> Mapping[str, Any]:
        """The user attributes of a study; not to be changed in place."""
        ...

    def waiting(
        self, study_ids: Sequence[int], wanted: Collection[str] | None, limit: int
    ) -> list[tuple[int, int, str]]:
        """At most ``limit`` waiting attempts as (trial id, study id, cell key), oldest first.

        Args:
            study_ids: the studies to look into.
            wanted: cell keys to take; None takes all. It may be a set of ten thousand, too large for a statement.
            limit: how many to return at most.
        """
        ...

    def running(self) -> list[Attempt]:
        """Every running attempt of the storage."""
        ...

    def attempts(self, keys: Collection[str] | None = None, study_ids: Sequence[int] | None = None) -> list[Attempt]:
        """Every attempt in any state, oldest first.

        Args:
            keys: the cells wanted; None means all. One key must be answered by an index, not by a scan.
            study_ids: the studies wanted; None means all.
        """
        ...

    def states(self, keys: Collection[str]) -> dict[str, list[TrialState]]:
        """The states of all attempts at ``keys``, oldest first, without their attributes."""
        ...

    def attempt(self, trial_id: int) -> Attempt:
        """One attempt in its present state. Raises KeyError for one that is not there."""
        ...


Guard = Callable[[Callable[[], Any]], Any]
"""Makes a call and returns its value; may repeat it, or replace its error."""


class GuardedStorage(BaseStorage):
    """Optuna's storage with every public method called through a guard; see :func:`guarded`."""

    def __init__(self, storage: BaseStorage, guard: Guard) -> None:
        self._storage, self._guard = storage, guard


def _through_guard(name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(BaseStorage, name), updated=())  # it would be abstract as well
    def call(self: GuardedStorage, *args: Any, **kwargs: Any) -> Any:
        return self._guard(lambda: getattr(self._storage, name)(*args, **kwargs))

    return call


for _name, _ in inspect.getmembers(BaseStorage, inspect.isfunction):
    if not _name.startswith("_"):
        setattr(GuardedStorage, _name, _through_guard(_name))
abc.update_abstractmethods(GuardedStorage)  # type: ignore[type-abstract]


def guarded(storage: BaseStorage, guard: Guard) -> BaseStorage:
    """``storage`` with every public method called through ``guard``."""
    return GuardedStorage(storage, guard)  # type: ignore[abstract]
