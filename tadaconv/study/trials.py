"""The trials of a study, read from the storage with the distributions of its space as it stands now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState
from pydantic import TypeAdapter, ValidationError

from tadaconv.command import given
from tadaconv.errors import UserError
from tadaconv.execution.backend import TrialRow
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.pruning import CURVE, PROTOCOL, PRUNED, TRIAL, spaces
from tadaconv.execution.store import Attempt, Store, owing
from tadaconv.locations import as_planned, together
from tadaconv.regime import Regime
from tadaconv.result import CurvePoint
from tadaconv.spec import Temporal
from tadaconv.study.cost import MACS, over
from tadaconv.study.definition import LoadedStudy
from tadaconv.study.space import Suggestion, params_text, replay, spec_json, walk
from tadaconv.table import Row

INFEASIBLE = "infeasible"
"""The user attribute of a draw that the regime cannot take, with the reason, one line. It is no trial, nor queued."""

DRAWN_FOR = "drawn_for"
"""The user attribute of an infeasible draw with the number of the trial in whose place it was drawn."""

OVER_BUDGET = "over_budget"
"""The user attribute of a trial that costs too much to be run, with the reason, one line."""

Status = Literal["finished", "pruned", "over budget", "failed", "running", "waiting"]
"""What became of a configuration; the first four are ends."""

ENDS: tuple[Status, ...] = ("finished", "pruned", "over budget", "failed")


@dataclass(frozen=True)
class TrialRecord:
    """A configuration of a study and what became of it.

    Attributes:
        number: in the order of proposal, from 0.
        name: its name in the study's ``start``, or ``trial 7``.
        params: by name; a parameter that came to the space later has the value that means what was run.
        distributions: what the space as it stands now draws them from.
        temporal: what was plugged in.
        status: what became of it.
        cells: one a seed, in the order of the seeds.
        top1: mean over the finished seeds in percent; None without any.
        macs: multiply-adds a clip; None where neither a result nor a budget had them counted.
        why: what ended it, one line, unless it has finished or has not ended.
        curve: the epochs of the first seed that has any.
        confirmed: its cells on the seeds that ``tada study NAME --confirm`` last ran the best and the base on, as far
            as they were ever queued; empty for one that was not confirmed.
    """

    number: int
    name: str
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    temporal: Temporal
    status: Status
    cells: tuple[CellRecord, ...]
    top1: float | None
    macs: int | None
    why: str | None
    curve: tuple[CurvePoint, ...]
    confirmed: tuple[CellRecord, ...] = ()


@dataclass(frozen=True)
class InfeasibleDraw:
    """A configuration that cannot be built, or cannot train, in the regime; found before it was queued.

    Attributes:
        number: of the trial in whose place it was drawn.
        name: its name in the study's ``start``; empty for one that the sampler drew.
        params: by name, as far as they were drawn.
        distributions: what the space as it stands now draws them from.
        why: the reason, one line.
    """

    number: int
    name: str
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    why: str


@dataclass(frozen=True)
class Trial:
    """A configuration as the storage has it: its own rows, and every attempt at its cells, whoever made it."""

    number: int
    suggestion: Suggestion
    cells: tuple[Cell, ...]
    rows: tuple[TrialRow, ...]
    attempts: Mapping[str, Sequence[Attempt]]
    over_budget: str | None = None

    @property
    def name(self) -> str:
        """For readers."""
        return self.cells[0].label

    def _states(self, cell: Cell) -> set[str]:
        """The states of all attempts at a cell; one that is to be queued again counts as waiting."""
        attempts = self.attempts[cell.key]
        return {attempt.state for attempt in attempts} | ({"waiting"} if owing(attempts) else set())

    def count(self, state: str) -> int:
        """How many cells have an attempt in ``state`` and no result."""
        return sum(state in (states := self._states(cell)) and "finished" not in states for cell in self.cells)

    @cached_property
    def results(self) -> dict[int, Mapping[str, Any]]:
        """By seed, the results there are, as JSON-ready data."""
        found = {}
        for cell in self.cells:
            for attempt in self.attempts[cell.key]:
                if attempt.state == "finished":
                    found[cell.experiment.seed] = attempt.attrs["result"]
        return found

    @property
    def top1_by_seed(self) -> dict[int, float]:
        """Of the finished seeds, in percent."""
        return {seed: result["top1"] for seed, result in self.results.items()}

    @property
    def top1(self) -> float | None:
        """Mean over the finished seeds in percent; None without any."""
        return sum(self.top1_by_seed.values()) / len(self.results) if self.results else None

    @property
    def macs(self) -> int | None:
        """Multiply-adds a clip; None where nobody has counted them."""
        counted = [result["macs"] for result in self.results.values()]
        counted += [row.attrs[MACS] for row in self.rows if MACS in row.attrs]
        return counted[0] if counted else None

    @property
    def pruned(self) -> str | None:
        """Why it was pruned; None if it was not."""
        return next((row.attrs[PRUNED] for row in self.rows if PRUNED in row.attrs), None)

    @property
    def idle_cells(self) -> list[Cell]:
        """The cells that nobody has queued, run or failed at."""
        return [cell for cell in self.cells if not self._states(cell) & {"finished", "running", "waiting", "failed"}]

    @property
    def status(self) -> Status:
        """What became of it: an end only when nothing more will be run."""
        if self.over_budget:
            return "over budget"
        if len(self.results) == len(self.cells):
            return "finished"
        if self.count("running"):
            return "running"
        if self.count("waiting"):
            return "waiting"
        if self.pruned is not None:
            return "pruned"
        return "failed" if self.count("failed") else "waiting"

    @property
    def why(self) -> str | None:
        """What ended it, one line; None if it has finished or has not ended."""
        match self.status:
            case "over budget":
                return self.over_budget
            case "pruned":
                return self.pruned
            case "failed":
                errors = [
                    str(attempt.attrs.get("error", "no error was recorded"))
                    for cell in self.cells
                    for attempt in self.attempts[cell.key]
                    if attempt.state == "failed"
                ]
                return errors[-1]
        return None

    @property
    def curve(self) -> list[Mapping[str, Any]]:
        """The epochs of the first seed that has any."""
        for result in self.results.values():
            return cast(list[Mapping[str, Any]], result["curve"])
        return next((row.attrs[CURVE] for row in self.rows if CURVE in row.attrs), [])


@dataclass(frozen=True)
class Contents:
    """What a storage holds of a study: trials by number, infeasible draws in their order, the next trial's number."""

    trials: list[Trial]
    infeasible: list[InfeasibleDraw]
    next_number: int


class Reader:
    """Reads the trials of one study in one regime, with the distributions of its space as it stands now."""

    def __init__(self, loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> None:
        self._loaded, self._regime, self._study, self._store = loaded, regime, study, store
        self._known: dict[int, tuple[Suggestion, tuple[Cell, ...]] | None] = {}
        self._draws: dict[int, InfeasibleDraw | None] = {}
        self._names = {spec_json(each.temporal): name for name, each in loaded.study.started.items()}

    def cells(self, number: int, temporal: Temporal) -> tuple[Cell, ...]:
        """The cells of a configuration, one a seed; raises :class:`UserError` if the regime cannot take it."""
        row = Row(self._names.get(spec_json(temporal), f"trial {number}"), temporal)
        return tuple(row.cell(self._regime, seed) for seed in range(self._loaded.study.seeds))

    def read(self, max_macs: int | None) -> Contents:
        """Every trial that counts, and every infeasible draw.

        A trial counts by the keys of its cells, so one of a regime that has changed since is left out. So is a draw.
        """
        by_number: dict[int, list[TrialRow]] = {}
        infeasible: dict[str, InfeasibleDraw] = {}
        next_number = 0
        ids = spaces(self._store.backend, self._study)
        for row in self._store.backend.rows(study_ids=ids) if ids else []:
            if TRIAL in row.attrs:
                next_number = max(next_number, int(row.attrs[TRIAL]) + 1)
            if _is_infeasible(row):
                if row.trial_id not in self._draws:
                    self._draws[row.trial_id] = self._understand_draw(row)
                draw = self._draws[row.trial_id]
                if draw is not None:
                    infeasible.setdefault(params_text(draw.params), draw)  # merged storages may hold one twice
            elif TRIAL in row.attrs:
                by_number.setdefault(int(row.attrs[TRIAL]), []).append(row)
        for number in by_number.keys() - self._known.keys():
            self._known[number] = self._understand(number, by_number[number])
        known = {number: found for number in sorted(by_number) if (found := self._known[number]) is not None}
        keys = {cell.key for _, cells in known.values() for cell in cells}
        attempts = self._store.attempts(keys) if keys else {}
        trials = []
        for number, (suggestion, cells) in known.items():
            rows = tuple(by_number[number])
            own = {cell.key: attempts.get(cell.key, []) for cell in cells}
            trial = Trial(number, suggestion, cells, rows, own)
            why = over(trial.macs, max_macs)
            if why is None and any(OVER_BUDGET in row.attrs for row in rows):
                continue  # the budget has grown, and it may be proposed anew
            trials.append(replace(trial, over_budget=why))
        return Contents(trials, list(infeasible.values()), next_number)

    def _understand_draw(self, row: TrialRow) -> InfeasibleDraw | None:
        """An infeasible draw in the space as it stands now; None for one of another regime, or no longer in it."""
        label, study = str(row.attrs["label"]), self._loaded.study
        try:
            temporal: Temporal = _TEMPORAL.validate_python(row.attrs["spec"]["temporal"])
            if self._regime.experiment(temporal, 0).key != row.key:
                return None
            suggestion = replay(study.suggest, row.params)
            if suggestion.contradiction is None:
                suggestion = _placed(self._loaded, label, row.params, temporal)
        except (ValidationError, UserError):
            return None
        return InfeasibleDraw(
            number=int(row.attrs[DRAWN_FOR] if DRAWN_FOR in row.attrs else row.attrs[TRIAL]),
            name=label if label in study.start else "",
            params=suggestion.params,
            distributions=suggestion.distributions,
            why=str(row.attrs[INFEASIBLE] if INFEASIBLE in row.attrs else row.attrs["error"]),
        )

    def _understand(self, number: int, rows: Sequence[TrialRow]) -> tuple[Suggestion, tuple[Cell, ...]] | None:
        """A trial in the space as it stands now; None for one of another regime, or one lost without a loss."""
        spec = rows[0].attrs["spec"]
        try:
            temporal: Temporal = _TEMPORAL.validate_python(spec["temporal"])
            cells = self.cells(number, temporal)
            keys = {self._regime.experiment(temporal, row.attrs["spec"]["seed"]).key for row in rows}
        except (ValidationError, UserError):
            return None
        if not keys & {row.key for row in rows}:
            return None
        params = next((dict(row.params) for row in rows if row.params), {})
        try:
            return _placed(self._loaded, cells[0].label, params, temporal), cells
        except UserError:
            ended = {row.state for row in rows} <= {TrialState.FAIL, TrialState.PRUNED}
            if ended and not any(PRUNED in row.attrs for row in rows):
                return None
            raise


_TEMPORAL: TypeAdapter[Temporal] = TypeAdapter(Temporal)


def _is_infeasible(row: TrialRow) -> bool:
    """Whether a row is a draw that was never queued for it could not be run.

    Earlier versions recorded such draws as failed trials: with an error, and without the traceback of one that ran.
    """
    never_ran = row.state == TrialState.FAIL and TRIAL in row.attrs and "error" in row.attrs
    return INFEASIBLE in row.attrs or (never_ran and "traceback" not in row.attrs)


def _placed(loaded: LoadedStudy, name: str, params: Mapping[str, Any], temporal: Temporal) -> Suggestion:
    """Where the present space has a trial of a former one.

    A parameter that has been added since takes the value with which the space still means what was run; where it has
    none, the trial goes without it. Raises :class:`UserError` where the space has lost the trial.
    """
    wanted = spec_json(temporal)
    mend = f"give the parameter another name, or the study {loaded.name!r} another file"
    found = None
    try:
        for found in walk(loaded.study.suggest, params, limit=256):
            if spec_json(found.temporal) == wanted:
                return found
    except UserError as error:
        raise UserError(f"{name} no longer fits the space: {error}; {mend}") from error
    if found is None or not found.params.keys() - params.keys():
        shown = ", ".join(f"{key}={value!r}" for key, value in params.items())
        raise UserError(f"{name} was run with {shown}, which means something else by now; {mend}")
    kept = {key: value for key, value in found.params.items() if key in params}
    return Suggestion(temporal, kept, {key: found.distributions[key] for key in kept})


def trial_records(loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> list[TrialRecord]:
    """The configurations of a study in the order they were proposed.

    Args:
        loaded: The study.
        regime: What it is run on. Where clips and weights lie is taken from what was run.
        study: Its name in the storage; see :func:`study_name`.
        store: Where it is.

    Raises:
        UserError: the storage does not hold it; or its space has changed so that finished trials are not in it.
    """
    trials = _contents(loaded, regime, study, store).trials
    seeds = _confirmed_seeds(loaded, study, store)
    return [_record(trial, store, seeds.get(spec_json(trial.suggestion.temporal), [])) for trial in trials]


def infeasible_draws(loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> list[InfeasibleDraw]:
    """The draws that were found to be infeasible, in their order; arguments and raises as :func:`trial_records`."""
    return _contents(loaded, regime, study, store).infeasible


def _contents(loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> Contents:
    ids = spaces(store.backend, study)
    if not ids:
        raise UserError(
            f"{store.shown} holds no study {study}; run it with: "
            f"{loaded.command(given('regime') or study.removeprefix(f'{loaded.name}-'))}, "
            "or name another storage with --storage"
        )
    reader = Reader(loaded, as_run(regime, store.backend.rows(study_ids=ids)), study, store)
    return reader.read(kept_budget(study, store))


def _confirmed_seeds(loaded: LoadedStudy, study: str, store: Store) -> dict[str, list[int]]:
    """By what a configuration plugs in, the seeds it was last confirmed on; empty where none was, or another base."""
    plan = store.read_plan(confirmation_name(loaded) + study.removeprefix(loaded.name))
    if loaded.study.base not in plan:
        return {}
    found = {}
    for row in plan.values():
        try:
            temporal: Temporal = _TEMPORAL.validate_python(row.experiment["temporal"])
        except ValidationError:  # as another version of tadaconv wrote it, which no trial that counts is like
            continue
        found[spec_json(temporal)] = sorted(row.seeds)
    return found


def confirmation_name(loaded: LoadedStudy) -> str:
    """The name of the table in which the best of a study are run on new seeds."""
    return f"{loaded.name}_confirm"


def kept_budget(study: str, store: Store) -> int | None:
    """The most multiply-adds a clip that a study's trials may cost, as the storage has it; None where it has none."""
    ids = spaces(store.backend, study)
    found = store.backend.study_attrs(ids[0])[PROTOCOL]["max_macs"] if ids else None
    return None if found is None else int(found)


def as_run(regime: Regime, rows: Sequence[TrialRow]) -> Regime:
    """A regime with the clips and the weights that the latest of ``rows`` has, where it names only their kind."""
    return as_planned(regime, (together(row.attrs["spec"], row.attrs.get("places", {})) for row in rows))


def _record(trial: Trial, store: Store, new_seeds: Sequence[int]) -> TrialRecord:
    used = {cell.experiment.seed for cell in trial.cells}  # a study that is given more seeds by now has them in common
    anew = [Cell(trial.name, trial.cells[0].experiment.but(seed=seed)) for seed in new_seeds if seed not in used]
    confirmed = [record for record in store.records_of(anew) if record.status != "missing"] if anew else []
    return TrialRecord(
        number=trial.number,
        name=trial.name,
        params=trial.suggestion.params,
        distributions=trial.suggestion.distributions,
        temporal=trial.suggestion.temporal,
        status=trial.status,
        cells=tuple(store.records_of(trial.cells)),
        top1=trial.top1,
        macs=trial.macs,
        why=trial.why,
        curve=tuple(CurvePoint.model_validate(point) for point in trial.curve),
        confirmed=tuple(confirmed),
    )
