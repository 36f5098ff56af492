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
from tadaconv.execution.backend import Backend, TrialRow
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.journal import open_journal
from tadaconv.execution.location import Location
from tadaconv.execution.pruning import COPIED
from tadaconv.locations import apart, together
from tadaconv.result import Result
from tadaconv.spec import PROTOCOL, Experiment

AttemptState = Literal["finished", "failed", "running", "waiting", "dropped", "pruned"]
"""``dropped``: put back, withdrawn or a duplicate; it says nothing about its cell."""

FORMAT = 2
"""How queues, leases and plans are written. 1 had no leases; its results count, its queues are planned anew."""

MAX_TRIES = 2
"""How often one call tries a cell that raises before it is recorded as failed."""

MAX_DEATHS = 8
"""How many workers in a row may die with a cell that makes no progress before it is recorded as failed."""

_INHERITED = ("cell", "label", "spec", "places", "tries", "step", "deaths", "best_step", "trial", "seed")
"""What the next attempt at a cell keeps of the one it takes the place of."""


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
        described = together(self.attrs["spec"], self.attrs.get("places", {}))
        return Cell(str(self.attrs["label"]), _experiment(described, self.study))

    @property
    def protocol(self) -> Any:
        """The protocol its experiment was described by; see :data:`tadaconv.spec.PROTOCOL`."""
        return self.attrs["spec"].get("protocol")


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
            made_for = store.backend.study_attrs(study_id).get("format", FORMAT)
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

    def study_name(self, study_id: int) -> str:
        """The name of a study."""
        if study_id not in self._names:
            self._names = {id: name for name, id in self.backend.studies().items()}
        return self._names[study_id]

    def make_study(self, study: str) -> int:
        """The id of a study, which is created if it does not exist."""
        known = self.backend.studies()
        if study in known:
            return known[study]
        with self._writing():
            try:
                study_id = self.backend.storage.create_new_study([StudyDirection.MAXIMIZE], study)
            except DuplicatedStudyError:  # somebody was faster
                return self.backend.studies()[study]
            self.backend.storage.set_study_user_attr(study_id, "format", FORMAT)
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
            if COPIED not in attempt.attrs:
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
        for label, row in self.study_attrs(study).get("plan", {}).items():
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
        self.set_study_attr(study, "plan", tree)

    def enqueue(
        self,
        study: str,
        cell: Cell,
        *,
        params: Mapping[str, Any] | None = None,
        distributions: Mapping[str, BaseDistribution] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> int:
        """Add one waiting attempt at ``cell`` to an existing study, and return its trial id.

        Args:
            study: its study.
            cell: what is to be run.
            params: the parameters of a design study's trial, by name.
            distributions: what they were drawn from.
            attrs: further user attributes.
        """
        return self.record(study, cell, TrialState.WAITING, params=params, distributions=distributions, attrs=attrs)

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
    ) -> int:
        """Add a trial in ``state``; as :meth:`enqueue`, for what is known without running it."""
        spec, places = apart(cell.experiment.model_dump(mode="json"))
        described: dict[str, Any] = {"cell": cell.key, "label": cell.label, "spec": spec}
        described |= {"places": places} if places else {}
        if state == TrialState.WAITING:
            owed = owing(self.attempts([cell.key]).get(cell.key, []))
            described |= {"after": [attempt.trial_id for attempt in owed]} if owed else {}
        template = create_trial(
            state=state,
            value=value,
            params=dict(params or {}),
            distributions=dict(distributions or {}),
            user_attrs={**described, **(attrs or {})},
            system_attrs=dict(system_attrs or {}),
        )
        with self._writing():
            return self.backend.storage.create_new_trial(self.make_study(study), template)

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
        for other in self._others(attempt):
            if other.state == "waiting" and other.trial_id < trial_id:
                self.withdraw(other, "another attempt at the cell was taken")
        others = self._others(attempt)
        running = [other for other in others if other.state == "running"]
        if any(other.state == "finished" for other in others):
            self._end(attempt, {"withdrawn": "the cell has a result already"})
        elif running:
            self._end(attempt, {"duplicate_of": running[0].trial_id})
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
                self.backend.storage.set_trial_user_attr(attempt.trial_id, "lease", dict(lease))
            except UpdateFinishedTrialError:
                return False
        return True

    def report(self, attempt: Attempt, epoch: int, top1: float) -> None:
        """Write the validation accuracy after an epoch of a running attempt, if it is still running."""
        with self._writing():
            try:
                self.backend.storage.set_trial_intermediate_value(attempt.trial_id, epoch, top1)
            except UpdateFinishedTrialError:
                return

    def finish(self, attempt: Attempt, result: Result) -> bool:
        """End a running attempt with its result; False, and the result is not kept, if it had ended before."""
        tree = result.model_dump(mode="json")
        with self._writing():
            storage = self.backend.storage
            try:
                # A worker killed between the two leaves a trial that is not COMPLETE, so no result is half there.
                storage.set_trial_user_attr(attempt.trial_id, "result", tree)
                storage.set_trial_state_values(attempt.trial_id, TrialState.COMPLETE, [result.top1])
            except UpdateFinishedTrialError:
                # A server that went away while it wrote may have written, and is asked twice.
                now = self.attempt(attempt.trial_id)
                return now.state == "finished" and now.attrs["result"] == tree
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
        tries = int(attempt.attrs.get("tries", 0)) + 1
        again = retry and tries < MAX_TRIES
        attrs = {"error": error, "traceback": traceback, "device": device, "step": step, "tries": tries}
        self._end(attempt, {**attrs, "again": True} if again else attrs)
        if again:
            self.heal([attempt.key])
        return again

    def prune(self, attempt: Attempt, attrs: Mapping[str, Any]) -> None:
        """End a running attempt of a design study that is not worth finishing; ``attrs`` say why."""
        self._end(attempt, attrs, TrialState.PRUNED)

    def put_back(self, attempt: Attempt, why: str, **attrs: Any) -> bool:
        """Return a running attempt's cell to the queue; False, and nothing happens, if it has ended."""
        ended = self._end(attempt, {"interrupted": why, **attrs})
        self.heal([attempt.key])
        return ended

    def take_back(self, attempt: Attempt, why: str) -> str | None:
        """Return the cell of a worker found dead to the queue, and say so in a line; None if it has ended meanwhile.

        A cell that takes worker after worker with it, without progress, is recorded as failed.
        """
        now = self.attempt(attempt.trial_id)
        if now.state != "running" or now.attrs.get("lease") != attempt.attrs.get("lease"):
            return None
        lease = now.attrs.get("lease") or {}
        step = int(lease.get("step", 0))
        deaths, _ = _deaths({**now.attrs, "died_at": step})
        name = f"{now.attrs['label']}, seed {now.attrs['spec'].get('seed')}"
        if deaths >= MAX_DEATHS:
            error = f"{deaths} workers in a row died with this cell; the last: {why}"
            ended = self._end(now, {"error": error, "traceback": "", "device": lease.get("device", ""), "step": step})
            return f"{name}: given up, {error}" if ended else None
        # Of several that find it dead all write the same, and one ends it.
        return f"{name}: {why}; the cell is back in the queue" if self.put_back(now, why, died_at=step) else None

    def heal(self, keys: Collection[str] | None = None) -> None:
        """Queue every cell whose last attempt was put back or is to be tried again, and that nobody has queued yet.

        Ending an attempt and queueing the next are two writes, and a process can die between them.
        """
        if keys is not None:
            idle = {key for key, states in self.backend.states(keys).items() if is_idle(states)}
            if not idle:
                return
            keys = idle
        with self.alone():
            for attempts in self.attempts(keys).values():
                if owed := owing(attempts):
                    self._queue_again(owed)

    def withdraw(self, attempt: Attempt, why: str) -> None:
        """Take a waiting attempt out of the queue; nothing happens if it has left it."""
        with self._writing():
            try:
                if not self.backend.storage.set_trial_state_values(attempt.trial_id, TrialState.RUNNING):
                    return
            except UpdateFinishedTrialError:
                return
        self._end(attempt, {"withdrawn": why})

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

    def _queue_again(self, owed: Sequence[Attempt]) -> None:
        """Queue an attempt in the place of those that owe one: of the last that did not just step back, if any."""
        attempt = [each for each in owed if "duplicate_of" not in each.attrs or each is owed[0]][-1]
        row = attempt.row
        attrs = {name: attempt.attrs[name] for name in _INHERITED if name in attempt.attrs}
        if "died_at" in attempt.attrs:
            attrs["deaths"], attrs["best_step"] = _deaths(attempt.attrs)
        distributions = self.backend.storage.get_trial(attempt.trial_id).distributions if row.params else {}
        template = create_trial(
            state=TrialState.WAITING,
            params=dict(row.params),
            distributions=distributions,
            user_attrs={**attrs, "after": [each.trial_id for each in owed]},
        )
        with self._writing():
            self.backend.storage.create_new_trial(row.study_id, template)

    def _attempt(self, row: TrialRow) -> Attempt:
        return Attempt(row.trial_id, self.study_name(row.study_id), row.key, _state(row), row.attrs, row)

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


def owing(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Of the attempts at one cell those in whose place another is to be queued; none while one waits, runs or is done.

    An attempt owes another if it was put back or is to be tried again, and nobody has been queued ``after`` it. One
    that stepped back for another owes nothing, unless that one stepped back for it in turn.
    """
    if not is_idle(attempt.row.state for attempt in attempts):
        return []
    paid = {trial_id for attempt in attempts for trial_id in attempt.attrs.get("after", [])}
    duplicates = {a.trial_id: a.attrs["duplicate_of"] for a in attempts if "duplicate_of" in a.attrs}

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
        and attempt.trial_id not in paid
        and ({"interrupted", "again"} & attempt.attrs.keys() or steps_back_in_a_circle(attempt.trial_id))
    ]


def _deaths(attrs: Mapping[str, Any]) -> tuple[int, int]:
    """Workers in a row that died with a cell which had come no further than ever before, and its furthest step.

    Counts the attempt with these attributes, whose worker died at step ``died_at``.
    """
    step, best = int(attrs["died_at"]), int(attrs.get("best_step", 0))
    return (1 if step > best else int(attrs.get("deaths", 0)) + 1), max(step, best)


def is_idle(states: Iterable[TrialState]) -> bool:
    """Whether nobody runs a cell or will, going by the states of all attempts at it, and it has no result."""
    return all(state in (TrialState.FAIL, TrialState.PRUNED) for state in states)


def _state(row: TrialRow) -> AttemptState:
    states: dict[TrialState, AttemptState] = {
        TrialState.COMPLETE: "finished",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
        TrialState.FAIL: "dropped" if {"interrupted", "withdrawn", "duplicate_of"} & row.attrs.keys() else "failed",
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
        return CellRecord(cell, "finished", result=Result.model_validate(found.attrs["result"]), **_when_and_who(found))
    if "running" in by_state:
        return CellRecord(cell, "running")
    if "waiting" in by_state or owing(attempts):
        return CellRecord(cell, "waiting")
    if "failed" in by_state:
        attrs = by_state["failed"].attrs
        return CellRecord(
            cell,
            "failed",
            error=attrs.get("error", "no error was recorded"),
            traceback=attrs.get("traceback"),
            **_when_and_who(by_state["failed"]),
        )
    return CellRecord(cell, "missing")


def _when_and_who(attempt: Attempt) -> dict[str, Any]:
    lease = attempt.attrs.get("lease", {})
    times = {"started": attempt.row.started, "ended": attempt.row.ended}
    utc = {name: None if local is None else local.astimezone(UTC) for name, local in times.items()}
    return {**utc, "worker": f"{lease['worker']} on {lease['host']}" if {"worker", "host"} <= lease.keys() else None}
