"""The results: one Optuna storage, one study a table and regime, one trial an attempt at a cell.

Only a COMPLETE trial is a result. The experiment is stored in the trial's user attributes and never as parameters, so
that a new row cannot conflict with distributions that Optuna has frozen.

A cell is run once for two reasons: a trial that has ended cannot be changed, so of a late worker's result and the
detection of its death only the first counts; and a worker that has claimed an attempt drops it if an earlier attempt
at the cell runs or has finished (:meth:`Store.claim`). The planning lock only avoids needless attempts.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Self

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from tadaconv.errors import UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Attempt, Backend
from tadaconv.execution.cells import Cell, CellRecord, stored_experiment
from tadaconv.execution.journal import open_journal
from tadaconv.execution.location import Location
from tadaconv.locations import apart, together
from tadaconv.result import Result

FORMAT = 2
"""How queues, leases and plans are written. 1 had no leases; its results count, and its queues are planned again."""

MAX_TRIES = 2
"""How often one call tries a cell that raises before it is recorded as failed."""

MAX_DEATHS = 8
"""How many workers in a row may die with a cell that makes no progress before it is recorded as failed."""

_INHERITED = (
    attr.CELL, attr.LABEL, attr.SPEC, attr.PLACES, attr.TRIES, attr.STEP, attr.DEATHS, attr.BEST_STEP, attr.TRIAL,
)  # fmt: skip
"""What the next attempt at a cell keeps of the one it takes the place of."""


@dataclass(frozen=True)
class PlannedRow:
    """A row of a report: its experiment at seed 0, as JSON-ready data, and the cell key of every planned seed."""

    experiment: dict[str, Any]
    seeds: dict[int, str]


Plan = dict[str, PlannedRow]
"""What the report of a study shows: rows by label, in the table's order."""


class Store:
    """One Optuna storage, read and written by cell key. Every method reads the writes of other processes.

    Methods that write raise :class:`StorageError` where it cannot be written (disk full, a server that stays away).
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.shown = backend.shown
        self._names: dict[int, str] = {}

    @classmethod
    def open(cls, location: str, *, create: bool = True) -> Self:
        """The store in the journal file or the PostgreSQL database ``location``; with ``create``, made if need be.

        Raises :class:`UserError` for a storage that cannot be read and written, for one that a newer tadaconv has
        written to, and, without ``create``, for one that does not exist.
        """
        where = Location.parse(location)
        if where.path is not None:
            store = cls(open_journal(where.path, create=create))
        else:
            from tadaconv.execution.postgres import open_postgres  # psycopg is an extra

            store = cls(open_postgres(where.shown, create=create))
        for study, study_id in store.backend.studies().items():
            made_for = store.backend.study_attrs(study_id).get(attr.FORMAT, FORMAT)
            if made_for > FORMAT:
                raise UserError(
                    f"{study} in {store.shown} was written by a newer tadaconv (format {made_for}, here {FORMAT}); "
                    "install that version, or name another --storage"
                )
        return store

    def studies(self) -> list[str]:
        """The names of the studies, oldest first."""
        return list(self.backend.studies())

    def name_of(self, study_id: int) -> str:
        """The name of a study, by its id."""
        if study_id not in self._names:
            self._names = {id: name for name, id in self.backend.studies().items()}
        return self._names[study_id]

    def make_study(self, study: str, higher_is_better: bool = True) -> int:
        """The id of a study, which is created if it does not exist, in the direction of its metric."""
        known = self.backend.studies()
        if study in known:
            return known[study]
        direction = StudyDirection.MAXIMIZE if higher_is_better else StudyDirection.MINIMIZE
        try:
            study_id = self.backend.storage.create_new_study([direction], study)
        except DuplicatedStudyError:  # another process was faster
            return self.backend.studies()[study]
        self.backend.storage.set_study_user_attr(study_id, attr.FORMAT, FORMAT)
        return study_id

    def study_attrs(self, study: str) -> Mapping[str, Any]:
        """The user attributes of a study; empty for one that does not exist."""
        known = self.backend.studies()
        return self.backend.study_attrs(known[study]) if study in known else {}

    def set_study_attr(self, study: str, name: str, value: Any) -> None:
        """Write an attribute of a study, which is created if it does not exist, unless it has that value already."""
        if self.study_attrs(study).get(name) != value:
            self.backend.storage.set_study_user_attr(self.make_study(study), name, value)

    def attempts(self, keys: Collection[str] | None = None) -> dict[str, list[Attempt]]:
        """Every attempt of every study by cell key, oldest first; of ``keys`` alone if given."""
        by_key: dict[str, list[Attempt]] = {}
        for attempt in self.backend.attempts(keys):
            if attr.COPIED not in attempt.attrs:
                by_key.setdefault(attempt.key, []).append(attempt)
        return by_key

    def read_plan(self, study: str) -> Plan:
        """The plan of a study; empty for a study that does not exist."""
        plan = {}
        for label, row in self.study_attrs(study).get(attr.PLAN, {}).items():
            if "experiment" in row:  # plans of the first versions had a cell per seed; planning again is cheap
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

    def add(
        self,
        study: str,
        cell: Cell,
        state: TrialState = TrialState.WAITING,
        *,
        value: float | None = None,
        params: Mapping[str, Any] | None = None,
        distributions: Mapping[str, BaseDistribution] | None = None,
        attrs: Mapping[str, Any] | None = None,
        constraints: dict[str, float] | None = None,
        is_new: bool = False,
    ) -> int:
        """Add an attempt at ``cell`` to a study, which is created if it does not exist; returns its trial id.

        Args:
            study: its study.
            cell: the cell.
            state: waiting in the queue, or the end of an attempt that needs no run.
            value: the score of a finished attempt.
            params: the parameters of a design study's trial, by name.
            distributions: of these parameters.
            attrs: further user attributes.
            constraints: by how much a design study's trial violates each of Optuna's constraints.
            is_new: whether it is known that there was no attempt at the cell before; otherwise they are looked up.
        """
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
            constraints=constraints,
        )
        return self.backend.storage.create_new_trial(
            self.make_study(study, cell.experiment.metric.higher_is_better), template
        )

    def claim(self, trial_id: int) -> Attempt | None:
        """Start a waiting attempt; None if another worker was faster, or the cell runs or has a result.

        Two attempts at one cell can come to wait: in two studies, or after a server's restart in the middle of a plan.
        Of these the others are withdrawn. The claim is written before the others are read, so of two workers that
        claim two of them at least one sees the other and steps back. If both do, the cell is queued again.
        """
        if not self._write(self.backend.storage.set_trial_state_values, trial_id, TrialState.RUNNING):
            return None
        attempt = self.backend.attempt(trial_id)
        others = self._others(attempt)
        older = [other for other in others if other.status == "waiting" and other.trial_id < trial_id]
        for other in older:
            self.withdraw(other, "another attempt at the cell was claimed")
        if older:
            others = self._others(attempt)
        running = [other for other in others if other.status == "running"]
        if any(other.status == "finished" for other in others):
            self._end(attempt, {attr.WITHDRAWN: "the cell has a result already"})
        elif running:
            self._end(attempt, {attr.DUPLICATE_OF: running[0].trial_id})
            self.requeue_ended([attempt.key])
        else:
            return attempt
        return None

    def _others(self, attempt: Attempt) -> list[Attempt]:
        return [other for other in self.attempts([attempt.key])[attempt.key] if other.trial_id != attempt.trial_id]

    def renew(self, attempt: Attempt, lease: Mapping[str, Any]) -> bool:
        """Write the lease of a running attempt; False if it has ended, and so is no longer this worker's."""
        return self._write(self.backend.storage.set_trial_user_attr, attempt.trial_id, attr.LEASE, dict(lease))

    def report(self, attempt: Attempt, epoch: int, score: float) -> None:
        """Write the validation score after an epoch of a running attempt, if it is still running."""
        self._write(self.backend.storage.set_trial_intermediate_value, attempt.trial_id, epoch, score)

    def finish(self, attempt: Attempt, result: Result) -> bool:
        """End a running attempt with its result; False, and the result is not kept, if it had ended before."""
        tree = result.model_dump(mode="json")
        # A worker killed between the two writes leaves a trial that is not COMPLETE, so no result is half there.
        if self._end(attempt, {attr.RESULT: tree}, TrialState.COMPLETE, [result.score]):
            return True
        # A server that went away while it wrote may have written, and is asked twice.
        now = self.backend.attempt(attempt.trial_id)
        return now.status == "finished" and now.attrs[attr.RESULT] == tree

    def fail(self, attempt: Attempt, error: str, traceback: str, device: str, step: int, *, retry: bool = True) -> bool:
        """End a running attempt that raised; True if its cell is requeued for another try.

        Args:
            attempt: the attempt.
            error: the error in one line.
            traceback: its traceback.
            device: the device it ran on.
            step: optimizer steps it had finished.
            retry: whether another try could succeed.
        """
        tries = int(attempt.attrs.get(attr.TRIES, 0)) + 1
        again = retry and tries < MAX_TRIES
        attrs = {**_failure(error, traceback, device, step), attr.TRIES: tries}
        self._end(attempt, {**attrs, attr.RETRIED: True} if again else attrs)
        if again:
            self.requeue_ended([attempt.key])
        return again

    def prune(self, attempt: Attempt, attrs: Mapping[str, Any]) -> None:
        """End a running attempt of a design study by pruning; ``attrs`` hold the reason."""
        self._end(attempt, attrs, TrialState.PRUNED)

    def requeue(self, attempt: Attempt, why: str, *, died_at: int | None = None) -> bool:
        """End a running attempt and requeue its cell; False, without any effect, if it has ended.

        ``died_at`` is the last step of a dead worker.
        """
        ended = self._end(attempt, {attr.INTERRUPTED: why, **({} if died_at is None else {attr.DIED_AT: died_at})})
        self.requeue_ended([attempt.key])
        return ended

    def reap(self, attempt: Attempt, why: str) -> str | None:
        """Requeue the cell of a dead worker, and return a line about it; None if the attempt has ended meanwhile.

        A cell with which many workers in a row die without progress is recorded as failed.
        """
        now = self.backend.attempt(attempt.trial_id)
        if now.status != "running" or now.attrs.get(attr.LEASE) != attempt.attrs.get(attr.LEASE):
            return None
        lease = now.attrs.get(attr.LEASE) or {}
        step = int(lease.get("step", 0))
        deaths, _ = _deaths({**now.attrs, attr.DIED_AT: step})
        name = now.name
        if deaths >= MAX_DEATHS:
            error = f"{deaths} workers in a row died while running this cell; the last one: {why}"
            ended = self._end(now, _failure(error, "", lease.get("device", ""), step))
            return f"{name}: recorded as failed, {error}" if ended else None
        # Several observers may detect the same death: all write the same, and one of them ends the attempt.
        ended = self.requeue(now, why, died_at=step)
        return f"{name}: {why}; the cell was requeued" if ended else None

    def requeue_ended(self, keys: Collection[str] | None = None) -> None:
        """Queue every cell with an attempt to be requeued that has not been queued again yet.

        Ending an attempt and queueing the next are two writes, and a process can die between them.
        """
        if keys is not None:
            idle = {key for key, states in self.backend.states(keys).items() if is_idle(states)}
            if not idle:
                return
            keys = idle
        with self.backend.alone():
            for attempts in self.attempts(keys).values():
                if ended := to_be_requeued(attempts):
                    self._requeue(ended)

    def withdraw(self, attempt: Attempt, why: str) -> None:
        """Take a waiting attempt out of the queue, if it is still there."""
        if self._write(self.backend.storage.set_trial_state_values, attempt.trial_id, TrialState.RUNNING):
            self._end(attempt, {attr.WITHDRAWN: why})

    def records(self, study: str) -> list[CellRecord]:
        """A record of every planned cell of a study, row by row, then by seed.

        A result counts for all studies of the storage. Raises as :meth:`planned`.
        """
        return self.records_of(self.planned(study))

    def planned(self, study: str) -> list[Cell]:
        """Every planned cell of a study, row by row, then by seed.

        Raises :class:`UserError` if the study was never planned, or was planned by a version of tadaconv that
        described experiments differently.
        """
        plan = self.read_plan(study)
        if not plan:
            raise UserError(f"{self.shown} has no plan of {study}; run it first, or name another with --storage")
        cells = []
        for label, row in plan.items():
            experiment = stored_experiment(row.experiment, study)
            cells += [Cell(label, experiment.but(seed=seed)) for seed in sorted(row.seeds)]
        return cells

    def records_of(self, cells: Sequence[Cell]) -> list[CellRecord]:
        """A record of each of ``cells``, by their keys, whichever study of the storage they were run in."""
        attempts = self.attempts({cell.key for cell in cells})
        return [_record(cell, attempts.get(cell.key, [])) for cell in cells]

    def _requeue(self, ended: Sequence[Attempt]) -> None:
        """Queue an attempt in the place of those that ended, as the last of them that was no duplicate, if any."""
        attempt = [other for other in ended if attr.DUPLICATE_OF not in other.attrs or other is ended[0]][-1]
        attrs = {name: attempt.attrs[name] for name in _INHERITED if name in attempt.attrs}
        if attr.DIED_AT in attempt.attrs:
            attrs[attr.DEATHS], attrs[attr.BEST_STEP] = _deaths(attempt.attrs)
        trial = self.backend.storage.get_trial(attempt.trial_id)
        template = create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**attrs, attr.AFTER: [other.trial_id for other in ended]},
        )
        self.backend.storage.create_new_trial(attempt.study_id, template)

    def _end(
        self,
        attempt: Attempt,
        attrs: Mapping[str, Any],
        state: TrialState = TrialState.FAIL,
        values: Sequence[float] | None = None,
    ) -> bool:
        """End an attempt; False, without any effect, if it has ended."""
        storage, trial_id = self.backend.storage, attempt.trial_id
        written = all(self._write(storage.set_trial_user_attr, trial_id, *item) for item in attrs.items())
        return written and self._write(storage.set_trial_state_values, trial_id, state, values)

    @staticmethod
    def _write(write: Callable[..., bool | None], *arguments: Any) -> bool:
        """Call a method of Optuna's storage that writes to a trial; False, without a write, if it has ended."""
        try:
            return write(*arguments) is not False
        except UpdateFinishedTrialError:
            return False


def to_be_requeued(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts at one cell that are to be requeued; empty while one waits, runs or has finished.

    An attempt is to be requeued if it was interrupted or is to be tried again, and none has been queued ``after`` it. A
    duplicate of another is not, unless that one is a duplicate of it.
    """
    if not is_idle(attempt.state for attempt in attempts):
        return []
    requeued = {trial_id for attempt in attempts for trial_id in attempt.attrs.get(attr.AFTER, [])}
    duplicates = {a.trial_id: a.attrs[attr.DUPLICATE_OF] for a in attempts if attr.DUPLICATE_OF in a.attrs}

    def is_in_a_circle(trial_id: int) -> bool:
        met: set[int] = set()
        while trial_id in duplicates and trial_id not in met:
            met.add(trial_id)
            trial_id = duplicates[trial_id]
        return trial_id in met

    return [
        attempt
        for attempt in attempts
        if attempt.state == TrialState.FAIL
        and attempt.trial_id not in requeued
        and ({attr.INTERRUPTED, attr.RETRIED} & attempt.attrs.keys() or is_in_a_circle(attempt.trial_id))
    ]


def _failure(error: str, traceback: str, device: str, step: int) -> dict[str, Any]:
    """The attributes of a failed attempt."""
    return {attr.ERROR: error, attr.TRACEBACK: traceback, attr.DEVICE: device, attr.STEP: step}


def _deaths(attrs: Mapping[str, Any]) -> tuple[int, int]:
    """How many workers in a row died with a cell without progress, and the furthest step that any had reached.

    Includes the attempt with these attributes, with a worker that died at step ``died_at``.
    """
    step, best = int(attrs[attr.DIED_AT]), int(attrs.get(attr.BEST_STEP, 0))
    return (1 if step > best else int(attrs.get(attr.DEATHS, 0)) + 1), max(step, best)


def is_idle(states: Iterable[TrialState]) -> bool:
    """Whether a cell neither waits nor runs nor has a result, by the states of all attempts at it."""
    return all(state in (TrialState.FAIL, TrialState.PRUNED) for state in states)


def _record(cell: Cell, attempts: list[Attempt]) -> CellRecord:
    by_status = {attempt.status: attempt for attempt in attempts}
    if "finished" in by_status:
        attempt = by_status["finished"]
        result = Result.model_validate(attempt.attrs[attr.RESULT])
        return CellRecord(cell, "finished", result, **_when_and_who(attempt))
    if "running" in by_status:
        return CellRecord(cell, "running")
    if "waiting" in by_status or to_be_requeued(attempts):
        return CellRecord(cell, "waiting")
    if "failed" in by_status:
        attrs = by_status["failed"].attrs
        return CellRecord(
            cell,
            "failed",
            error=attrs.get(attr.ERROR, "no error was recorded"),
            traceback=attrs.get(attr.TRACEBACK),
            **_when_and_who(by_status["failed"]),
        )
    return CellRecord(cell, "missing")


def _when_and_who(attempt: Attempt) -> dict[str, Any]:
    lease = attempt.attrs.get(attr.LEASE, {})
    times = {"started": attempt.started, "ended": attempt.ended}
    utc = {name: None if local is None else local.astimezone(UTC) for name, local in times.items()}
    return {**utc, "worker": f"{lease['worker']} on {lease['host']}" if {"worker", "host"} <= lease.keys() else None}
