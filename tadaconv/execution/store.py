"""The results: one Optuna storage, one study a table and regime, one trial an attempt at a cell.

A COMPLETE trial is a result; nothing else is. The experiment travels in the trial's user attributes and never as
parameters, so that a new row cannot collide with distributions Optuna has frozen.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from tadaconv.errors import RunError, UserError
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.journal import open_journal
from tadaconv.result import Result
from tadaconv.spec import Experiment

AttemptState = Literal["finished", "failed", "running", "waiting", "dropped"]
"""``dropped``: interrupted and put back, or withdrawn from the queue; it says nothing about its cell."""


@dataclass(frozen=True)
class Attempt:
    """One trial: one try at a cell. ``trial_id`` is unique in the storage."""

    trial_id: int
    study: str
    key: str
    state: AttemptState
    attrs: Mapping[str, Any]

    @property
    def cell(self) -> Cell:
        """The cell as it was queued; raises :class:`UserError` if another version of tadaconv described it."""
        return Cell(str(self.attrs["label"]), _experiment(self.attrs["spec"], self.study))


@dataclass(frozen=True)
class PlannedCell:
    """A cell of a report: its key, and its experiment as JSON-ready data."""

    key: str
    experiment: dict[str, Any]


Plan = dict[str, dict[int, PlannedCell]]
"""What the report of a study shows: label -> seed -> cell, rows in the table's order."""


class Store:
    """One Optuna storage, read and written by cell key. Every method sees what other processes have written."""

    def __init__(self, path: Path, storage: JournalStorage) -> None:
        self.path = path
        self._storage = storage

    @classmethod
    def open(cls, location: str, *, create: bool = True) -> Self:
        """The store in the journal file ``location``; with ``create``, a new one where there is none.

        Raises :class:`UserError` for what is not a path to a readable, writable journal; see :func:`open_journal`.
        """
        return cls(Path(location), open_journal(location, create=create))

    def studies(self) -> list[str]:
        """The names of the studies, oldest first."""
        return [study.study_name for study in self._storage.get_all_studies()]

    def attempts(self) -> dict[str, list[Attempt]]:
        """Every attempt of every study by cell key, oldest first."""
        found: dict[str, list[Attempt]] = {}
        for study in self._storage.get_all_studies():
            for trial in self._storage.get_all_trials(study._study_id, deepcopy=False):
                if "cell" in trial.user_attrs:
                    attempt = _attempt(trial, study.study_name)
                    found.setdefault(attempt.key, []).append(attempt)
        return {key: sorted(attempts, key=lambda attempt: attempt.trial_id) for key, attempts in found.items()}

    def read_plan(self, study: str) -> Plan:
        """The plan of a study; empty for a study that does not exist."""
        if study not in self.studies():
            return {}
        attrs = self._storage.get_study_user_attrs(self._storage.get_study_id_from_name(study))
        return {
            label: {int(seed): PlannedCell(**cell) for seed, cell in seeds.items()}
            for label, seeds in attrs.get("plan", {}).items()
        }

    def write_plan(self, study: str, plan: Plan) -> None:
        """Replace the plan of a study, which is created if it does not exist. Raises :class:`RunError` (disk full)."""
        tree = {
            label: {str(seed): {"key": cell.key, "experiment": cell.experiment} for seed, cell in seeds.items()}
            for label, seeds in plan.items()
        }
        with self._writing():
            created = optuna.create_study(
                storage=self._storage, study_name=study, direction="maximize", load_if_exists=True
            )
            if created.user_attrs.get("plan") != tree:
                created.set_user_attr("plan", tree)

    def enqueue(self, study: str, cell: Cell) -> None:
        """Add one waiting trial for ``cell`` to an existing study. Raises :class:`RunError` (disk full)."""
        attrs = {"cell": cell.key, "label": cell.label, "spec": cell.experiment.model_dump(mode="json")}
        self._enqueue(study, attrs)

    def claim(self, attempt: Attempt, device: str) -> bool:
        """Start a waiting attempt on ``device``; False if another worker was faster. Raises :class:`RunError`."""
        with self._writing():
            if not self._storage.set_trial_state_values(attempt.trial_id, TrialState.RUNNING):
                return False
            self._storage.set_trial_user_attr(attempt.trial_id, "device", device)
            return True

    def finish(self, attempt: Attempt, result: Result) -> None:
        """End a running attempt with its result. Raises :class:`RunError` (disk full)."""
        with self._writing():
            # A worker killed between the two leaves a trial that is not COMPLETE, so no result is half there.
            self._storage.set_trial_user_attr(attempt.trial_id, "result", result.model_dump(mode="json"))
            self._storage.set_trial_state_values(attempt.trial_id, TrialState.COMPLETE, [result.top1])

    def fail(self, attempt: Attempt, error: str, traceback: str) -> None:
        """End a running attempt with ``error`` (one line) and ``traceback``. Raises :class:`RunError` (disk full)."""
        self._end(attempt, {"error": error, "traceback": traceback})

    def put_back(self, attempt: Attempt, why: str) -> None:
        """Return a running attempt's cell to the queue; nothing happens if it has ended. Raises :class:`RunError`."""
        if self._storage.get_trial(attempt.trial_id).state != TrialState.RUNNING:
            return
        self._end(attempt, {"interrupted": why})
        self._enqueue(attempt.study, {name: attempt.attrs[name] for name in ("cell", "label", "spec")})

    def withdraw(self, attempt: Attempt, why: str) -> None:
        """Take a waiting attempt out of the queue. Raises :class:`RunError` (disk full)."""
        self._end(attempt, {"withdrawn": why})

    def records(self, study: str) -> list[CellRecord]:
        """What became of every planned cell of a study, row by row, then by seed.

        A result counts whichever study of the storage it was made in. Raises :class:`UserError` if the study was
        never planned, or was planned by a version of tadaconv that described experiments differently.
        """
        plan = self.read_plan(study)
        if not plan:
            raise UserError(f"{self.path} holds no {study}; run 'tada ablate' first, or name another with --storage")
        return self.records_of(
            [
                Cell(label, _experiment(cell.experiment, study))
                for label, seeds in plan.items()
                for _, cell in sorted(seeds.items())
            ]
        )

    def records_of(self, cells: Sequence[Cell]) -> list[CellRecord]:
        """What became of ``cells``, by their keys alone, whichever study of the storage they were run in."""
        attempts = self.attempts()
        return [_record(cell, attempts.get(cell.key, [])) for cell in cells]

    def _enqueue(self, study: str, attrs: dict[str, Any]) -> None:
        with self._writing():
            optuna.load_study(storage=self._storage, study_name=study).enqueue_trial({}, user_attrs=attrs)

    def _end(self, attempt: Attempt, attrs: dict[str, str]) -> None:
        with self._writing():
            for name, value in attrs.items():
                self._storage.set_trial_user_attr(attempt.trial_id, name, value)
            self._storage.set_trial_state_values(attempt.trial_id, TrialState.FAIL)

    @contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"cannot write to the storage {self.path}: {error.strerror}") from error


def _attempt(trial: FrozenTrial, study: str) -> Attempt:
    attrs = trial.user_attrs
    states: dict[TrialState, AttemptState] = {
        TrialState.COMPLETE: "finished",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
        TrialState.FAIL: "dropped" if {"interrupted", "withdrawn"} & attrs.keys() else "failed",
        TrialState.PRUNED: "dropped",
    }
    return Attempt(trial._trial_id, study, str(attrs["cell"]), states[trial.state], attrs)


def _experiment(tree: dict[str, Any], study: str) -> Experiment:
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{study} was planned by another version of tadaconv; run 'tada ablate' on it again") from error


def _record(cell: Cell, attempts: list[Attempt]) -> CellRecord:
    by_state = {attempt.state: attempt for attempt in attempts}
    if "finished" in by_state:
        return CellRecord(cell, "finished", result=Result.model_validate(by_state["finished"].attrs["result"]))
    if "running" in by_state:
        return CellRecord(cell, "running")
    if "waiting" in by_state:
        return CellRecord(cell, "waiting")
    if "failed" in by_state:
        attrs = by_state["failed"].attrs
        return CellRecord(
            cell, "failed", error=attrs.get("error", "no error was recorded"), traceback=attrs.get("traceback")
        )
    return CellRecord(cell, "missing")
