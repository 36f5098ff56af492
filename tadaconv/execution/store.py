"""The results: one Optuna storage, one study a table and regime, one trial an attempt at a cell.

A COMPLETE trial is a result; nothing else is. The experiment travels in the trial's user attributes and never as
parameters, so that a new row cannot collide with distributions Optuna has frozen.

What makes a cell run once: a trial that has ended cannot be changed, so of a late worker's result and the verdict that
it is dead only the first counts; and a worker that has taken an attempt drops it again if an earlier attempt at the
cell is alive or has finished (:meth:`Store.claim`). The lock held for planning keeps the queue tidy, and no more than
that hangs on it.
"""

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal, Self

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from pydantic import ValidationError

from tadaconv.errors import StorageError, UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Backend, TrialRow
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.journal import open_journal
from tadaconv.execution.location import Location
from tadaconv.locations import apart, together
from tadaconv.metrics import TOP1, Metric
from tadaconv.result import Result
from tadaconv.spec import PROTOCOL, Experiment

AttemptState = Literal["finished", "failed", "running", "waiting", "dropped", "pruned"]
"""``dropped``: requeued, withdrawn or a duplicate; it says nothing about its cell."""

FORMAT = 2
"""How queues, leases and plans are written. 1 had no leases; its results count, its queues are planned anew."""

MAX_TRIES = 2
"""How often one call tries a cell that raises before it is recorded as failed."""

MAX_DEATHS = 8
"""How many workers in a row may die with a cell that makes no progress before it is recorded as failed."""

_INHERITED = (
    attr.CELL, attr.LABEL, attr.SPEC, attr.PLACES, attr.TRIES, attr.STEP, attr.DEATHS, attr.BEST_STEP, attr.TRIAL,
)  # fmt: skip
"""What the next attempt at a cell keeps of the one it takes the place of."""

_DROPPED = {attr.INTERRUPTED, attr.WITHDRAWN, attr.DUPLICATE_OF}
"""What is there on attempts that ended without saying anything about their cell."""


@dataclass(frozen=True)
class Attempt:
    """One trial: one try at a cell. ``trial_id`` is unique in the storage."""

    trial_id: int
    study: str
    key: str
    state: AttemptState
    attrs: Mapping[str, Any]
    row: TrialRow

    @property
    def cell(self) -> Cell:
        """The cell as it was queued; raises :class:`UserError` if another version of tadaconv described it."""
        experiment = together(self.attrs[attr.SPEC], self.attrs.get(attr.PLACES, {}))
        return Cell(str(self.attrs[attr.LABEL]), _experiment(experiment, self.study))

    @property
    def name(self) -> str:
        """Its cell, for readers, for example ``(1,1), seed 0``."""
        return f"{self.attrs[attr.LABEL]}, seed {self.attrs[attr.SPEC].get('seed')}"

    @property
    def protocol(self) -> Any:
        """The protocol its experiment was described by; see :data:`tadaconv.spec.PROTOCOL`."""
        return self.attrs[attr.SPEC].get("protocol")


@dataclass(frozen=True)
class PlannedRow:
    """A row of a report: its experiment at seed 0, as JSON-ready data, and the cell key of every planned seed."""

    experiment: dict[str, Any]
    seeds: dict[int, str]


Plan = dict[str, PlannedRow]
"""What the report of a study shows: rows by label, in the table's order."""


class Store:
    """One Optuna storage, read and written by cell key. Every method sees what other processes have written.

    Methods that write raise :class:`StorageError` where it cannot be written (disk full, a server that stays away).
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.shown = backend.shown
        self._names: dict[int, str] = {}

    @classmethod
    def open(cls, location: str, *, create: bool = True) -> Self:
        """The store in the journal file or the PostgreSQL database ``location``; with ``create``, made if need be.

        Raises :class:`UserError` for what is not a readable, writable storage, for one that a newer tadaconv has
        written to, and, without ``create``, for one that is not there.
        """
        where = Location.parse(location)
        if where.path is not None:
            store = cls(open_journal(where.path, create=create))
        else:
            from tadaconv.execution.postgres import open_postgres  # psycopg is an extra

            store = cls(open_postgres(where, create=create))
        for study, study_id in store.backend.studies().items():
            made_for = store.backend.study_attrs(study_id).get(attr.FORMAT, FORMAT)
            if made_for > FORMAT:
                raise UserError(
                    f"{study} in {store.shown} was written by a newer tadaconv (format {made_for}, here {FORMAT}); "
                    "install that version, or name another --storage"
                )
        return store

    def alone(self) -> AbstractContextManager[None]:
        """Hold the storage's planning lock; see :meth:`tadaconv.execution.backend.Backend.alone`."""
        return self.backend.alone()

    def studies(self) -> list[str]:
        """The names of the studies, oldest first."""
        return list(self.backend.studies())

    def name_of(self, study_id: int) -> str:
        """The name of a study, by its id."""
        if study_id not in self._names:
            self._names = {id: name for name, id in self.backend.studies().items()}
        return self._names[study_id]

    def make_study(self, study: str, metric: Metric = TOP1) -> int:
        """The id of a study, which is created if it does not exist; ``metric`` is what its cells are judged by."""
        known = self.backend.studies()
        if study in known:
            return known[study]
        direction = StudyDirection.MAXIMIZE if metric.higher_is_better else StudyDirection.MINIMIZE
        with self._writing():
            try:
                study_id = self.backend.storage.create_new_study([direction], study)
            except DuplicatedStudyError:  # somebody was faster
                return self.backend.studies()[study]
            self.backend.storage.set_study_user_attr(study_id, attr.FORMAT, FORMAT)
            return study_id

    def study_attrs(self, study: str) -> Mapping[str, Any]:
        """What is written about a study; empty for one that does not exist."""
        known = self.backend.studies()
        return self.backend.study_attrs(known[study]) if study in known else {}

    def set_study_attr(self, study: str, name: str, value: Any) -> None:
        """Write about a study, which is created if it does not exist; nothing is written that stands there already."""
        if self.study_attrs(study).get(name) != value:
            with self._writing():
                self.backend.storage.set_study_user_attr(self.make_study(study), name, value)

    def attempts(self, keys: Collection[str] | None = None) -> dict[str, list[Attempt]]:
        """Every attempt of every study by cell key, oldest first; of ``keys`` alone if given."""
        found: dict[str, list[Attempt]] = {}
        for row in self.backend.rows(keys):
            attempt = self._attempt(row)
            if attr.COPIED not in attempt.attrs:
                found.setdefault(attempt.key, []).append(attempt)
        return found

    def running(self) -> list[Attempt]:
        """Every running attempt."""
        return [self._attempt(row) for row in self.backend.running()]

    def attempt(self, trial_id: int) -> Attempt:
        """One attempt as it stands now."""
        return self._attempt(self.backend.row(trial_id))

    def read_plan(self, study: str) -> Plan:
        """The plan of a study; empty for a study that does not exist."""
        plan = {}
        for label, row in self.study_attrs(study).get(attr.PLAN, {}).items():
            if "experiment" in row:  # plans of the first versions had a cell a seed; planning anew costs nothing
                seeds = {int(seed): key for seed, key in row["seeds"].items()}
                plan[label] = PlannedRow(together(row["experiment"], row.get("places", {})), seeds)
        return plan

    def write_plan(self, study: str, plan: Plan) -> None:
        """Replace the plan of a study, which is created if it does not exist."""
        tree = {}
        for label, row in plan.items():
            experiment, places = apart(row.experiment)
            seeds = {str(seed): key for seed, key in row.seeds.items()}
            tree[label] = {"experiment": experiment, **({"places": places} if places else {}), "seeds": seeds}
        self.set_study_attr(study, attr.PLAN, tree)

    def enqueue(
        self,
        study: str,
        cell: Cell,
        *,
        params: Mapping[str, Any] | None = None,
        distributions: Mapping[str, BaseDistribution] | None = None,
        attrs: Mapping[str, Any] | None = None,
        is_new: bool = False,
    ) -> int:
        """Add one waiting attempt at ``cell`` to an existing study, and return its trial id.

        Args:
            study: its study.
            cell: what is to be run.
            params: the parameters of a design study's trial, by name.
            distributions: what they were drawn from.
            attrs: further user attributes.
            is_new: whether it is known that there was no attempt at the cell before; otherwise they are looked up.
        """
        return self.record(
            study, cell, TrialState.WAITING, params=params, distributions=distributions, attrs=attrs, is_new=is_new
        )

    def record(
        self,
        study: str,
        cell: Cell,
        state: TrialState,
        *,
        value: float | None = None,
        params: Mapping[str, Any] | None = None,
        distributions: Mapping[str, BaseDistribution] | None = None,
        attrs: Mapping[str, Any] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
        is_new: bool = False,
    ) -> int:
        """Add a trial in ``state``; as :meth:`enqueue`, for what is known without running it."""
        spec, places = apart(cell.experiment.model_dump(mode="json"))
        described: dict[str, Any] = {attr.CELL: cell.key, attr.LABEL: cell.label, attr.SPEC: spec}
        described |= {attr.PLACES: places} if places else {}
        if state == TrialState.WAITING and not is_new:
            before = to_be_requeued(self.attempts([cell.key]).get(cell.key, []))
            described |= {attr.AFTER: [attempt.trial_id for attempt in before]} if before else {}
        template = create_trial(
            state=state,
            value=value,
            params=dict(params or {}),
            distributions=dict(distributions or {}),
            user_attrs={**described, **(attrs or {})},
            system_attrs=dict(system_attrs or {}),
        )
        with self._writing():
            return self.backend.storage.create_new_trial(self.make_study(study, cell.experiment.metric), template)

    def claim(self, trial_id: int) -> Attempt | None:
        """Start a waiting attempt; None if another worker was faster, or the cell is done or being run already.

        Two attempts at one cell can come to wait: in two studies, or after a server's restart in the middle of a plan.
        Of these the others are withdrawn. The claim is written before the others are read, so of two workers that
        claim two of them at least one sees the other and steps back. If both do, the cell is queued again.
        """
        with self._writing():
            try:
                if not self.backend.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    return None
            except UpdateFinishedTrialError:
                return None
        attempt = self.attempt(trial_id)
        others = self._others(attempt)
        older = [other for other in others if other.state == "waiting" and other.trial_id < trial_id]
        for other in older:
            self.withdraw(other, "another attempt at the cell was taken")
        if older:
            others = self._others(attempt)
        running = [other for other in others if other.state == "running"]
        if any(other.state == "finished" for other in others):
            self._end(attempt, {attr.WITHDRAWN: "the cell has a result already"})
        elif running:
            self._end(attempt, {attr.DUPLICATE_OF: running[0].trial_id})
            self.heal([attempt.key])
        else:
            return attempt
        return None

    def _others(self, attempt: Attempt) -> list[Attempt]:
        return [each for each in self.attempts([attempt.key])[attempt.key] if each.trial_id != attempt.trial_id]

    def renew(self, attempt: Attempt, lease: Mapping[str, Any]) -> bool:
        """Write the lease of a running attempt; False if it has ended, and so is no longer this worker's."""
        with self._writing():
            try:
                self.backend.storage.set_trial_user_attr(attempt.trial_id, attr.LEASE, dict(lease))
            except UpdateFinishedTrialError:
                return False
        return True

    def report(self, attempt: Attempt, epoch: int, score: float) -> None:
        """Write the validation score after an epoch of a running attempt, if it is still running."""
        with self._writing():
            try:
                self.backend.storage.set_trial_intermediate_value(attempt.trial_id, epoch, score)
            except UpdateFinishedTrialError:
                return

    def finish(self, attempt: Attempt, result: Result) -> bool:
        """End a running attempt with its result; False, and the result is not kept, if it had ended before."""
        tree = result.model_dump(mode="json")
        with self._writing():
            storage = self.backend.storage
            try:
                # A worker killed between the two leaves a trial that is not COMPLETE, so no result is half there.
                storage.set_trial_user_attr(attempt.trial_id, attr.RESULT, tree)
                storage.set_trial_state_values(attempt.trial_id, TrialState.COMPLETE, [result.score])
            except UpdateFinishedTrialError:
                # A server that went away while it wrote may have written, and is asked twice.
                now = self.attempt(attempt.trial_id)
                return now.state == "finished" and now.attrs[attr.RESULT] == tree
        return True

    def fail(self, attempt: Attempt, error: str, traceback: str, device: str, step: int, *, retry: bool = True) -> bool:
        """End a running attempt that raised; True if its cell goes back to the queue for another try.

        Args:
            attempt: what failed.
            error: what happened, in one line.
            traceback: all of it.
            device: where it ran.
            step: optimizer steps it had finished.
            retry: whether another try could end otherwise.
        """
        tries = int(attempt.attrs.get(attr.TRIES, 0)) + 1
        again = retry and tries < MAX_TRIES
        attrs = {**_failure(error, traceback, device, step), attr.TRIES: tries}
        self._end(attempt, {**attrs, attr.RETRIED: True} if again else attrs)
        if again:
            self.heal([attempt.key])
        return again

    def prune(self, attempt: Attempt, attrs: Mapping[str, Any]) -> None:
        """End a running attempt of a design study that is not worth finishing; ``attrs`` say why."""
        self._end(attempt, attrs, TrialState.PRUNED)

    def requeue(self, attempt: Attempt, why: str, *, died_at: int | None = None) -> bool:
        """End a running attempt and requeue its cell; False, and nothing happens, if it has ended.

        ``died_at`` is the step that a worker had reached which was found dead.
        """
        ended = self._end(attempt, {attr.INTERRUPTED: why, **({} if died_at is None else {attr.DIED_AT: died_at})})
        self.heal([attempt.key])
        return ended

    def reap(self, attempt: Attempt, why: str) -> str | None:
        """Requeue the cell of a worker found dead, and say so in a line; None if it has ended meanwhile.

        A cell that takes worker after worker with it, without progress, is recorded as failed.
        """
        now = self.attempt(attempt.trial_id)
        if now.state != "running" or now.attrs.get(attr.LEASE) != attempt.attrs.get(attr.LEASE):
            return None
        lease = now.attrs.get(attr.LEASE) or {}
        step = int(lease.get("step", 0))
        deaths, _ = _deaths({**now.attrs, attr.DIED_AT: step})
        name = now.name
        if deaths >= MAX_DEATHS:
            error = f"{deaths} workers in a row died with this cell; the last: {why}"
            ended = self._end(now, _failure(error, "", lease.get("device", ""), step))
            return f"{name}: given up, {error}" if ended else None
        # Of several that find it dead all write the same, and one ends it.
        ended = self.requeue(now, why, died_at=step)
        return f"{name}: {why}; the cell is back in the queue" if ended else None

    def heal(self, keys: Collection[str] | None = None) -> None:
        """Queue every cell whose last attempt is to be requeued, and that nobody has queued yet.

        Ending an attempt and queueing the next are two writes, and a process can die between them.
        """
        if keys is not None:
            idle = {key for key, states in self.backend.states(keys).items() if is_idle(states)}
            if not idle:
                return
            keys = idle
        with self.alone():
            for attempts in self.attempts(keys).values():
                if ended := to_be_requeued(attempts):
                    self._requeue(ended)

    def withdraw(self, attempt: Attempt, why: str) -> None:
        """Take a waiting attempt out of the queue; nothing happens if it has left it."""
        with self._writing():
            try:
                if not self.backend.storage.set_trial_state_values(attempt.trial_id, TrialState.RUNNING):
                    return
            except UpdateFinishedTrialError:
                return
        self._end(attempt, {attr.WITHDRAWN: why})

    def records(self, study: str) -> list[CellRecord]:
        """What became of every planned cell of a study, row by row, then by seed.

        A result counts whichever study of the storage it was made in. Raises as :meth:`planned`.
        """
        return self.records_of(self.planned(study))

    def planned(self, study: str) -> list[Cell]:
        """Every planned cell of a study, row by row, then by seed.

        Raises :class:`UserError` if the study was never planned, or was planned by a version of tadaconv that
        described experiments differently.
        """
        plan = self.read_plan(study)
        if not plan:
            raise UserError(f"{self.shown} holds no plan of {study}; run it first, or name another with --storage")
        cells = []
        for label, row in plan.items():
            experiment = _experiment(row.experiment, study)
            cells += [Cell(label, experiment.but(seed=seed)) for seed in sorted(row.seeds)]
        return cells

    def records_of(self, cells: Sequence[Cell]) -> list[CellRecord]:
        """What became of ``cells``, by their keys alone, whichever study of the storage they were run in."""
        attempts = self.attempts({cell.key for cell in cells})
        return [_record(cell, attempts.get(cell.key, [])) for cell in cells]

    def _requeue(self, ended: Sequence[Attempt]) -> None:
        """Queue an attempt in the place of those that ended: of the last that did not just step back, if any."""
        attempt = [each for each in ended if attr.DUPLICATE_OF not in each.attrs or each is ended[0]][-1]
        row = attempt.row
        attrs = {name: attempt.attrs[name] for name in _INHERITED if name in attempt.attrs}
        if attr.DIED_AT in attempt.attrs:
            attrs[attr.DEATHS], attrs[attr.BEST_STEP] = _deaths(attempt.attrs)
        distributions = self.backend.storage.get_trial(attempt.trial_id).distributions if row.params else {}
        template = create_trial(
            state=TrialState.WAITING,
            params=dict(row.params),
            distributions=distributions,
            user_attrs={**attrs, attr.AFTER: [each.trial_id for each in ended]},
        )
        with self._writing():
            self.backend.storage.create_new_trial(row.study_id, template)

    def _attempt(self, row: TrialRow) -> Attempt:
        return Attempt(row.trial_id, self.name_of(row.study_id), row.key, _state(row), row.attrs, row)

    def _end(self, attempt: Attempt, attrs: Mapping[str, Any], state: TrialState = TrialState.FAIL) -> bool:
        """End an attempt; False, and nothing happens, if it has ended."""
        with self._writing():
            try:
                for name, value in attrs.items():
                    self.backend.storage.set_trial_user_attr(attempt.trial_id, name, value)
                self.backend.storage.set_trial_state_values(attempt.trial_id, state)
            except UpdateFinishedTrialError:
                return False
        return True

    @contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot write to the storage {self.shown}: {error.strerror}") from error


def to_be_requeued(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Of the attempts at one cell those in whose place another is to be queued; none while one waits, runs or is done.

    An attempt is requeued if it was interrupted or is to be tried again, and none has been queued ``after`` it. One
    that stepped back for another is not, unless that one stepped back for it in turn.
    """
    if not is_idle(attempt.row.state for attempt in attempts):
        return []
    requeued = {trial_id for attempt in attempts for trial_id in attempt.attrs.get(attr.AFTER, [])}
    duplicates = {a.trial_id: a.attrs[attr.DUPLICATE_OF] for a in attempts if attr.DUPLICATE_OF in a.attrs}

    def steps_back_in_a_circle(trial_id: int) -> bool:
        met: set[int] = set()
        while trial_id in duplicates and trial_id not in met:
            met.add(trial_id)
            trial_id = duplicates[trial_id]
        return trial_id in met

    return [
        attempt
        for attempt in attempts
        if attempt.row.state == TrialState.FAIL
        and attempt.trial_id not in requeued
        and ({attr.INTERRUPTED, attr.RETRIED} & attempt.attrs.keys() or steps_back_in_a_circle(attempt.trial_id))
    ]


def _failure(error: str, traceback: str, device: str, step: int) -> dict[str, Any]:
    """The attributes of a failed attempt."""
    return {attr.ERROR: error, attr.TRACEBACK: traceback, attr.DEVICE: device, attr.STEP: step}


def _deaths(attrs: Mapping[str, Any]) -> tuple[int, int]:
    """Workers in a row that died with a cell which had come no further than ever before, and its furthest step.

    Counts the attempt with these attributes, whose worker died at step ``died_at``.
    """
    step, best = int(attrs[attr.DIED_AT]), int(attrs.get(attr.BEST_STEP, 0))
    return (1 if step > best else int(attrs.get(attr.DEATHS, 0)) + 1), max(step, best)


def is_idle(states: Iterable[TrialState]) -> bool:
    """Whether nobody runs a cell or will, going by the states of all attempts at it, and it has no result."""
    return all(state in (TrialState.FAIL, TrialState.PRUNED) for state in states)


def _state(row: TrialRow) -> AttemptState:
    states: dict[TrialState, AttemptState] = {
        TrialState.COMPLETE: "finished",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
        TrialState.FAIL: "dropped" if _DROPPED & row.attrs.keys() else "failed",
        TrialState.PRUNED: "pruned",
    }
    return states[row.state]


def _experiment(tree: Mapping[str, Any], study: str) -> Experiment:
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(
            f"{study} was planned by another version of tadaconv (protocol {tree.get('protocol')}, here {PROTOCOL}); "
            "run it again"
        ) from error


def _record(cell: Cell, attempts: list[Attempt]) -> CellRecord:
    by_state = {attempt.state: attempt for attempt in attempts}
    if "finished" in by_state:
        found = by_state["finished"]
        return CellRecord(
            cell, "finished", result=Result.model_validate(found.attrs[attr.RESULT]), **_when_and_who(found)
        )
    if "running" in by_state:
        return CellRecord(cell, "running")
    if "waiting" in by_state or to_be_requeued(attempts):
        return CellRecord(cell, "waiting")
    if "failed" in by_state:
        attrs = by_state["failed"].attrs
        return CellRecord(
            cell,
            "failed",
            error=attrs.get(attr.ERROR, "no error was recorded"),
            traceback=attrs.get(attr.TRACEBACK),
            **_when_and_who(by_state["failed"]),
        )
    return CellRecord(cell, "missing")


def _when_and_who(attempt: Attempt) -> dict[str, Any]:
    lease = attempt.attrs.get(attr.LEASE, {})
    times = {"started": attempt.row.started, "ended": attempt.row.ended}
    utc = {name: None if local is None else local.astimezone(UTC) for name, local in times.items()}
    return {**utc, "worker": f"{lease['worker']} on {lease['host']}" if {"worker", "host"} <= lease.keys() else None}
