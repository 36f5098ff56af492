"""The trials of a study, read from the storage with the distributions of its present space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState
from pydantic import TypeAdapter, ValidationError

from tadaconv.command import given
from tadaconv.errors import UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Attempt
from tadaconv.execution.cells import Cell, CellRecord, metric_of
from tadaconv.execution.cells import Status as CellStatus
from tadaconv.execution.spaces import optuna_studies
from tadaconv.execution.store import Store
from tadaconv.locations import as_planned, together
from tadaconv.metrics import Metric
from tadaconv.regime import Regime
from tadaconv.result import CurvePoint
from tadaconv.spec import Temporal
from tadaconv.study.cost import over
from tadaconv.study.definition import LoadedStudy
from tadaconv.study.space import Suggestion, params_text, replay, spec_json, walk
from tadaconv.table import Row

Status = Literal["finished", "pruned", "over budget", "failed", "running", "waiting"]
"""The status of a configuration; the first four are ends."""

ENDS: tuple[Status, ...] = ("finished", "pruned", "over budget", "failed")


@dataclass(frozen=True)
class TrialRecord:
    """A configuration of a study with its results.

    Attributes:
        number: in the order of proposal, from 0.
        name: its name in the study's ``start``, or ``trial 7``.
        params: by name; a parameter that was added to the space later has the value that describes what was run.
        distributions: of these parameters in the present space.
        temporal: its operator.
        status: an end only when no more of its cells will be run.
        cells: one per seed, in the order of the seeds, whichever study of the storage ran them; one that was never
            queued is missing.
        score: mean over the finished seeds; None without any.
        macs: multiply-adds per clip; None where neither a result nor a budget had them counted.
        why: the reason it ended, one line, unless it has finished or has not ended.
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
    score: float | None
    macs: int | None
    why: str | None
    curve: tuple[CurvePoint, ...]
    confirmed: tuple[CellRecord, ...] = ()

    def cells_that_are(self, *statuses: CellStatus) -> list[Cell]:
        """Its cells of any of ``statuses``."""
        return [record.cell for record in self.cells if record.status in statuses]

    @property
    def score_by_seed(self) -> dict[int, float]:
        """Of the finished seeds."""
        return {record.cell.experiment.seed: record.result.score for record in self.cells if record.result}


def trials_metric(records: Sequence[TrialRecord]) -> Metric:
    """The metric of the trials of a study; top-1 while there are none."""
    return metric_of(cell for record in records for cell in record.cells)


@dataclass(frozen=True)
class InfeasibleDraw:
    """A configuration that cannot be built, or cannot train, in the regime; detected before it was queued.

    Attributes:
        number: of the trial in whose place it was drawn.
        name: its name in the study's ``start``; empty for one that the sampler drew.
        params: by name, as far as they were drawn.
        distributions: of these parameters in the present space.
        why: the reason, one line.
    """

    number: int
    name: str
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    why: str


@dataclass(frozen=True)
class Contents:
    """What a storage holds of a study: trials by number, infeasible draws in their order, the next trial's number."""

    trials: list[TrialRecord]
    infeasible: list[InfeasibleDraw]
    next_number: int


class Reader:
    """Reads the trials of one study in one regime, with the distributions of its present space."""

    def __init__(self, loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> None:
        self._loaded, self._regime, self._study, self._store = loaded, regime, study, store
        self._known: dict[int, tuple[Suggestion, tuple[Cell, ...]] | None] = {}
        self._draws: dict[int, InfeasibleDraw | None] = {}
        self._finished: dict[str, CellRecord] = {}
        self._names = {spec_json(suggestion.temporal): name for name, suggestion in loaded.study.started.items()}

    def cells(self, number: int, temporal: Temporal) -> tuple[Cell, ...]:
        """The cells of a configuration, one a seed; raises :class:`UserError` if the regime cannot take it."""
        row = Row(self._names.get(spec_json(temporal), f"trial {number}"), temporal)
        return tuple(row.cell(self._regime, seed) for seed in range(self._loaded.study.seeds))

    def read(self, max_macs: int | None) -> Contents:
        """Every trial that counts, and every infeasible draw.

        A trial counts by the keys of its cells, so one of a regime that has changed since is left out. So is a draw.
        """
        by_number: dict[int, list[Attempt]] = {}
        infeasible: dict[str, InfeasibleDraw] = {}
        next_number = 0
        ids = optuna_studies(self._store.backend, self._study)
        for row in self._store.backend.attempts(study_ids=ids) if ids else []:
            if attr.TRIAL in row.attrs:
                next_number = max(next_number, int(row.attrs[attr.TRIAL]) + 1)
            if _is_infeasible(row):
                if row.trial_id not in self._draws:
                    self._draws[row.trial_id] = self._understand_draw(row)
                draw = self._draws[row.trial_id]
                if draw is not None:
                    infeasible.setdefault(params_text(draw.params), draw)  # merged storages may hold one twice
            elif attr.TRIAL in row.attrs:
                by_number.setdefault(int(row.attrs[attr.TRIAL]), []).append(row)
        for number in by_number.keys() - self._known.keys():
            self._known[number] = self._understand(number, by_number[number])
        known = {number: placed for number in sorted(by_number) if (placed := self._known[number]) is not None}
        records = self._records([cell for _, cells in known.values() for cell in cells])
        trials = []
        for number, (suggestion, cells) in known.items():
            rows = by_number[number]
            trial = _trial(
                number, suggestion, [replace(records[cell.key], cell=cell) for cell in cells], rows, max_macs
            )
            if trial.status != "over budget" and any(attr.OVER_BUDGET in row.attrs for row in rows):
                continue  # the budget has grown, and it may be proposed again
            trials.append(trial)
        return Contents(trials, list(infeasible.values()), next_number)

    def _records(self, cells: Sequence[Cell]) -> dict[str, CellRecord]:
        """Records of ``cells``, by key; a result is read once, as it never changes."""
        unfinished = [cell for cell in cells if cell.key not in self._finished]
        records = {record.cell.key: record for record in self._store.records_of(unfinished)} if unfinished else {}
        self._finished |= {key: record for key, record in records.items() if record.status == "finished"}
        return {**records, **self._finished}

    def _understand_draw(self, row: Attempt) -> InfeasibleDraw | None:
        """An infeasible draw in the present space; None for one of another regime, or no longer in the space."""
        label, study = str(row.attrs[attr.LABEL]), self._loaded.study
        try:
            temporal: Temporal = _TEMPORAL.validate_python(row.attrs[attr.SPEC]["temporal"])
            if self._regime.experiment(temporal, 0).key != row.key:
                return None
            suggestion = replay(study.suggest, row.params)
            if suggestion.contradiction is None:
                suggestion = _placed(self._loaded, label, row.params, temporal)
        except (ValidationError, UserError):
            return None
        return InfeasibleDraw(
            number=int(row.attrs[attr.DRAWN_FOR] if attr.DRAWN_FOR in row.attrs else row.attrs[attr.TRIAL]),
            name=label if label in study.start else "",
            params=suggestion.params,
            distributions=suggestion.distributions,
            why=str(row.attrs[attr.INFEASIBLE] if attr.INFEASIBLE in row.attrs else row.attrs[attr.ERROR]),
        )

    def _understand(self, number: int, rows: Sequence[Attempt]) -> tuple[Suggestion, tuple[Cell, ...]] | None:
        """A trial in the present space; None for one of another regime, or one outside the space without a result."""
        spec = rows[0].attrs[attr.SPEC]
        try:
            temporal: Temporal = _TEMPORAL.validate_python(spec["temporal"])
            cells = self.cells(number, temporal)
            keys = {self._regime.experiment(temporal, row.attrs[attr.SPEC]["seed"]).key for row in rows}
        except (ValidationError, UserError):
            return None
        if not keys & {row.key for row in rows}:
            return None
        params = next((dict(row.params) for row in rows if row.params), {})
        try:
            return _placed(self._loaded, cells[0].label, params, temporal), cells
        except UserError:
            ended = {row.state for row in rows} <= {TrialState.FAIL, TrialState.PRUNED}
            if ended and not any(attr.PRUNED in row.attrs for row in rows):
                return None
            raise


def _trial(
    number: int,
    suggestion: Suggestion,
    cells: Sequence[CellRecord],
    rows: Sequence[Attempt],
    max_macs: int | None,
) -> TrialRecord:
    """The record of a configuration, from the records of its cells and its attempts."""
    results = [record.result for record in cells if record.result is not None]
    stopped: dict[str, Any] = {}
    for row in reversed(rows):
        stopped |= {name: row.attrs[name] for name in (attr.MACS, attr.PRUNED, attr.CURVE) if name in row.attrs}
    macs = results[0].macs if results else stopped.get(attr.MACS)
    statuses = {record.status for record in cells}
    status: Status = "waiting"
    if (why := over(macs, max_macs)) is not None:
        status = "over budget"
    elif statuses == {"finished"}:
        status = "finished"
    elif "running" in statuses:
        status = "running"
    elif "waiting" in statuses:
        pass
    elif (why := stopped.get(attr.PRUNED)) is not None:
        status = "pruned"
    elif "failed" in statuses:
        status, why = "failed", [record.error for record in cells if record.status == "failed"][-1]
    return TrialRecord(
        number=number,
        name=cells[0].cell.label,
        params=suggestion.params,
        distributions=suggestion.distributions,
        temporal=suggestion.temporal,
        status=status,
        cells=tuple(cells),
        score=sum(result.score for result in results) / len(results) if results else None,
        macs=macs,
        why=why,
        curve=tuple(results[0].curve if results else map(CurvePoint.model_validate, stopped.get(attr.CURVE, []))),
    )


_TEMPORAL: TypeAdapter[Temporal] = TypeAdapter(Temporal)


def _is_infeasible(row: Attempt) -> bool:
    """Whether an attempt is a draw that was not queued since it is infeasible.

    Earlier versions recorded such draws as failed trials: with an error, and without the traceback of one that ran.
    """
    never_ran = row.state == TrialState.FAIL and attr.TRIAL in row.attrs and attr.ERROR in row.attrs
    return attr.INFEASIBLE in row.attrs or (never_ran and attr.TRACEBACK not in row.attrs)


def _placed(loaded: LoadedStudy, name: str, params: Mapping[str, Any], temporal: Temporal) -> Suggestion:
    """A trial of an earlier space in the present one.

    A parameter that was added since takes the value with which the space still describes the trial; without such a
    value the trial lacks the parameter. Raises :class:`UserError` if the space no longer contains the trial.
    """
    wanted = spec_json(temporal)
    advice = f"give the parameter another name, or the study {loaded.name!r} another file"
    suggestion = None
    try:
        for suggestion in walk(loaded.study.suggest, params, limit=256):
            if spec_json(suggestion.temporal) == wanted:
                return suggestion
    except UserError as error:
        raise UserError(f"{name} no longer fits the space: {error}; {advice}") from error
    if suggestion is None or not suggestion.params.keys() - params.keys():
        shown = ", ".join(f"{key}={value!r}" for key, value in params.items())
        raise UserError(f"{name} was run with {shown}, which describes another configuration now; {advice}")
    kept = {key: value for key, value in suggestion.params.items() if key in params}
    return Suggestion(temporal, kept, {key: suggestion.distributions[key] for key in kept})


def trial_records(loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> list[TrialRecord]:
    """The configurations of a study in the order they were proposed.

    Args:
        loaded: The study.
        regime: What it is run on. Paths of clips and weights are those of the last run.
        study: Its name in the storage; see :func:`study_name`.
        store: Where it is.

    Raises:
        UserError: the storage does not hold it; or its space has changed so that finished trials are not in it.
    """
    trials = _contents(loaded, regime, study, store).trials
    seeds = _confirmed_seeds(loaded, study, store)
    return [_with_confirmation(trial, store, seeds.get(spec_json(trial.temporal), [])) for trial in trials]


def infeasible_draws(loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> list[InfeasibleDraw]:
    """The infeasible draws, in their order; arguments and raises as :func:`trial_records`."""
    return _contents(loaded, regime, study, store).infeasible


def _contents(loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> Contents:
    ids = optuna_studies(store.backend, study)
    if not ids:
        raise UserError(
            f"{store.shown} has no study {study}; run it with: "
            f"{loaded.command(given('regime') or study.removeprefix(f'{loaded.name}-'))}, "
            "or name another storage with --storage"
        )
    reader = Reader(loaded, as_run(regime, store.backend.attempts(study_ids=ids)), study, store)
    return reader.read(kept_budget(study, store))


def _confirmed_seeds(loaded: LoadedStudy, study: str, store: Store) -> dict[str, list[int]]:
    """By operator, the seeds on which it was last confirmed; empty without a confirmation, or with another base."""
    plan = store.read_plan(confirmation_name(loaded) + study.removeprefix(loaded.name))
    if loaded.study.base not in plan:
        return {}
    seeds = {}
    for row in plan.values():
        try:
            temporal: Temporal = _TEMPORAL.validate_python(row.experiment["temporal"])
        except ValidationError:  # of another version of tadaconv, as no trial that counts is
            continue
        seeds[spec_json(temporal)] = sorted(row.seeds)
    return seeds


def confirmation_name(loaded: LoadedStudy) -> str:
    """The name of the table in which the best of a study are run on new seeds."""
    return f"{loaded.name}_confirm"


def kept_budget(study: str, store: Store) -> int | None:
    """The most multiply-adds per clip that a study's trials may cost, as stored; None without a budget."""
    ids = optuna_studies(store.backend, study)
    max_macs = store.backend.study_attrs(ids[0])[attr.SEARCH_PROTOCOL]["max_macs"] if ids else None
    return None if max_macs is None else int(max_macs)


def as_run(regime: Regime, rows: Sequence[Attempt]) -> Regime:
    """A regime with the clips and the weights that the latest of ``rows`` has, where it names only their kind."""
    return as_planned(regime, (together(row.attrs[attr.SPEC], row.attrs.get(attr.PLACES, {})) for row in rows))


def _with_confirmation(trial: TrialRecord, store: Store, seeds: Sequence[int]) -> TrialRecord:
    """``trial`` with its cells on the ``seeds`` it was confirmed on."""
    # A study that is given more seeds by now has some in common.
    used = {record.cell.experiment.seed for record in trial.cells}
    cells = [Cell(trial.name, trial.cells[0].cell.experiment.but(seed=seed)) for seed in seeds if seed not in used]
    records = store.records_of(cells) if cells else []
    return replace(trial, confirmed=tuple(record for record in records if record.status != "missing"))
