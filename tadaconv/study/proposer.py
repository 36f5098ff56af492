"""Proposes the configurations of a study, and queues them as attempts like a table's."""

import hashlib
import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from tadaconv.discovery import require_short
from tadaconv.errors import UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.cells import Cell
from tadaconv.execution.spaces import optuna_studies, optuna_study_for
from tadaconv.execution.store import Store
from tadaconv.metrics import metric_named
from tadaconv.regime import Regime
from tadaconv.result import stored_score
from tadaconv.spec import Temporal
from tadaconv.study.cost import MacsCounter, budget_macs, over, violation
from tadaconv.study.definition import LoadedStudy
from tadaconv.study.pruning import SEED_PRUNERS, in_memory, reason_for_no_more_seeds
from tadaconv.study.space import Suggestion, params_text, replay, spec_json, suggested, walk
from tadaconv.study.trials import (
    ENDS,
    Contents,
    InfeasibleDraw,
    Reader,
    TrialRecord,
    trials_metric,
)
from tadaconv.table import Row
from tadaconv.text import plural

NUM_RETRIES = 12
"""How often a sampler is asked again when it suggests a configuration that the study has had."""

MOST_INFEASIBLE = 300
"""How many draws in the place of one trial may be infeasible before the search ends; each takes a dry run."""


@dataclass(frozen=True)
class Proposed:
    """The outcome of a call of :meth:`Proposer.top_up`.

    Attributes:
        num_new: configurations proposed by the call, those that cost too much among them.
        num_trials: configurations the study has.
        num_ended: how many of them have ended.
        done: every one has ended, and there are as many as there should be or can be.
        exhausted: the space has no further configuration, or none could be drawn.
        num_infeasible: draws that the regime cannot take. They are no trials.
        given_up: why the last of too many infeasible draws in a row is infeasible; None where there are fewer.
    """

    num_new: int
    num_trials: int
    num_ended: int
    done: bool
    exhausted: bool
    num_infeasible: int = 0
    given_up: str | None = None

    def __str__(self) -> str:
        """For example ``20 trials: 12 ended``."""
        counts = f"{plural(self.num_trials, 'trial')}: {self.num_ended} ended"
        if self.given_up is not None:
            return (
                f"{counts}; the search ends, since {MOST_INFEASIBLE} draws in a row are infeasible in this regime "
                f"(the last: {self.given_up}); narrow the space, or choose another regime"
            )
        if not self.exhausted:
            return counts
        more = f" and {plural(self.num_infeasible, 'infeasible draw')}" if self.num_infeasible else ""
        return f"{counts}; the space is exhausted after {plural(self.num_trials, 'configuration')}{more}"


class Proposer:
    """Queues the configurations of a study, as few ahead as its workers need, so that the sampler learns.

    Any number of processes may propose for one study at once. What is proposed follows from the study's seed, the
    number of the configuration and what has ended before it. An infeasible draw is recorded as such, for the
    sampler and the report, and drawn again: it is no trial.

    Args:
        loaded: The study.
        regime: What it is run on, with its data resolved.
        study: Its name in the storage; see :func:`study_name`.
        store: Where its trials are kept.

    Raises:
        UserError: the name belongs to a table in this storage, or is too long for a folder's; the study's base is
            infeasible in the regime; or the space has changed so that finished trials are not in it.
    """

    def __init__(self, loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> None:
        self._loaded, self._regime, self._study, self._store = loaded, regime, study, store
        require_short(study)
        if attr.PLAN in store.study_attrs(study):
            raise UserError(
                f"{store.shown} holds a table called {loaded.name!r}; rename the file of the study, or name another "
                "storage with --storage"
            )
        Row(loaded.study.base, loaded.study.base_temporal).cell(regime, 0)
        self._max_macs = budget_macs(loaded.study, regime)
        self._counter: MacsCounter | None = None
        self._checked: dict[str, str | int | None] = {}
        self._reader = Reader(loaded, regime, study, store)
        self._exhausted_at: int | None = None
        self._base_is_feasible = False
        base = spec_json(loaded.study.base_temporal)
        trials = self._reader.read(self._max_macs).trials
        if all(spec_json(trial.temporal) != base for trial in trials):
            self._require_feasible_base()

    def top_up(self, num_waiting: int, num_trials: int) -> Proposed:
        """Propose until ``num_waiting`` attempts of the study wait for a worker, or it has ``num_trials`` trials.

        Args:
            num_waiting: the number of idle workers. With one worker, and so no proposal while it works, a study that
                was stopped and is resumed proposes the same as without the stop.
            num_trials: how many configurations the study shall have, those it has among them.
        """
        num_new = 0
        while True:
            with self._store.backend.alone():
                self._write_protocol()
                added, proposed = self._propose_checked(num_waiting, num_trials)
            num_new += added
            if isinstance(proposed, Proposed):
                return replace(proposed, num_new=num_new)
            self._check(proposed)  # without the lock, since counting a large network takes seconds

    def _propose_checked(self, num_waiting: int, num_trials: int) -> tuple[int, Proposed | Suggestion]:
        """Propose as long as suggestions have been checked.

        Returns how many were proposed, and the outcome or else the suggestion that has to be checked.
        """
        num_new = 0
        while True:
            contents = self._reader.read(self._max_macs)
            trials, number = contents.trials, contents.next_number
            if self._give_cells(trials):
                continue
            in_a_row = [draw for draw in contents.infeasible if draw.number == number]
            given_up = in_a_row[-1].why if len(in_a_row) >= MOST_INFEASIBLE else None
            exhausted = self._exhausted_at == len(trials) or given_up is not None
            waiting = sum(len(trial.cells_that_are("waiting")) for trial in trials)
            if waiting >= num_waiting or len(trials) >= num_trials or exhausted:
                break
            suggestion = self._suggest(contents, len(in_a_row))
            if suggestion is None:
                self._exhausted_at = len(trials)
                continue
            if suggestion.contradiction is not None:
                self._require_readable(suggestion)
                self._record_infeasible(number, suggestion, suggestion.contradiction)
                continue
            if spec_json(suggestion.temporal) not in self._checked:
                return num_new, suggestion
            checked = self._checked[spec_json(suggestion.temporal)]
            if isinstance(checked, str):
                self._record_infeasible(number, suggestion, checked)
                continue
            self._propose(number, suggestion, checked)
            num_new += 1
        num_ended = sum(trial.status in ENDS for trial in trials)
        done = num_ended == len(trials) and (exhausted or len(trials) >= num_trials)
        return num_new, Proposed(num_new, len(trials), num_ended, done, exhausted, len(contents.infeasible), given_up)

    def _require_feasible_base(self) -> None:
        """Raise :class:`UserError` if the base is infeasible: the space is not the cause then."""
        if not self._base_is_feasible:
            base = self._loaded.study.base
            try:
                _dry_run(self._regime, self._loaded.study.base_temporal)
            except UserError as error:
                raise UserError(
                    f"start {base!r}, the base of study {self._loaded.name!r}, is infeasible in this regime: {error}"
                ) from error
            self._base_is_feasible = True

    def _check(self, suggestion: Suggestion) -> None:
        """Check whether a configuration is feasible and, where there is a budget, count its cost."""
        temporal = suggestion.temporal
        self._require_readable(suggestion)
        try:
            _dry_run(self._regime, temporal)
        except UserError as error:
            self._require_feasible_base()
            self._checked[spec_json(temporal)] = str(error)
            return
        if self._max_macs is not None and self._counter is None:
            self._counter = MacsCounter(self._regime)
        self._checked[spec_json(temporal)] = self._counter.macs(temporal) if self._counter else None

    def _require_readable(self, suggestion: Suggestion) -> None:
        """Raise :class:`UserError` for parameters that would change in a storage, which holds JSON alone."""
        try:
            params = json.loads(json.dumps(suggestion.params))
            again = replay(self._loaded.study.suggest, params)
            same = params == suggestion.params == again.params and (
                (spec_json(again.temporal), again.contradiction)
                == (spec_json(suggestion.temporal), suggestion.contradiction)
            )
        except (TypeError, UserError):
            same = False
        if not same:
            shown = ", ".join(f"{name}={value!r}" for name, value in suggestion.params.items())
            raise UserError(
                f"study {self._loaded.name!r}: suggest is not deterministic for {shown}; draw everything "
                "through the trial, from choices that are numbers, strings, booleans or None"
            )

    def _write_protocol(self) -> None:
        """Store how trials are pruned, for workers, which have no study file."""
        study = self._loaded.study
        protocol = {
            "study": self._study,
            "pruner": {"name": study.pruner.name, "options": dict(study.pruner.options)},
            "sampler": {"name": study.sampler.name, "seed": study.sampler.seed, "options": dict(study.sampler.options)},
            "seeds": study.seeds,
            "max_macs": self._max_macs,
        }
        names = [self._store.name_of(id) for id in optuna_studies(self._store.backend, self._study)]
        for name in names or [self._study]:
            self._store.make_study(name, metric_named(self._regime.data.METRIC).higher_is_better)
            self._store.set_study_attr(name, attr.SEARCH_PROTOCOL, protocol)

    def _give_cells(self, trials: Sequence[TrialRecord]) -> int:
        """Queue the seeds that trials still have to be given, and return how many those are."""
        protocol = self._store.study_attrs(self._study)[attr.SEARCH_PROTOCOL]
        one_by_one = self._loaded.study.pruner.name in SEED_PRUNERS
        finished = {trial.number: trial.score_by_seed for trial in trials if trial.status == "finished"}
        num_given = 0
        for trial in trials:
            idle = trial.cells_that_are("missing")
            busy = trial.cells_that_are("running", "waiting")
            if trial.status in ENDS or not idle or (one_by_one and busy):
                continue
            num_given += 1
            suggestion = Suggestion(trial.temporal, trial.params, trial.distributions)
            why = reason_for_no_more_seeds(protocol, finished, trial.score_by_seed, trials_metric(trials))
            if why is not None:
                pruned = {attr.TRIAL: trial.number, attr.PRUNED: why}
                self._record(idle[0], suggestion, TrialState.PRUNED, pruned)
                continue
            for cell in idle[:1] if one_by_one else idle:
                self._queue(cell, suggestion, {attr.TRIAL: trial.number})
        return num_given

    def _suggest(self, contents: Contents, num_infeasible: int) -> Suggestion | None:
        """A new configuration, of the start or by the sampler; None if there is no other.

        ``num_infeasible`` draws in the place of the next trial were infeasible: every draw has random numbers of its
        own.
        """
        study, number = self._loaded.study, contents.next_number
        had = {trial.cells[0].cell.key for trial in contents.trials}
        infeasible = {params_text(draw.params) for draw in contents.infeasible}
        draw_number = [num_infeasible] if num_infeasible else []

        def is_new(suggestion: Suggestion) -> bool:
            if params_text(suggestion.params) in infeasible:
                return False
            if suggestion.contradiction is not None:
                return True
            return self._regime.experiment(suggestion.temporal, 0).key not in had

        for started in study.started.values():
            if is_new(started):
                return started
        memory = _remembered(self._study, contents, self._max_macs)
        for retry in range(2 * NUM_RETRIES):
            seed = _seed(study.sampler.seed, number, retry, *draw_number)
            memory.sampler = study.sampler.make(seed, looser=retry > 0) if retry < NUM_RETRIES else RandomSampler(seed)
            suggestion = suggested(study.suggest, memory.ask())
            if is_new(suggestion):
                return suggestion
        left = [suggestion for suggestion in walk(study.suggest) if is_new(suggestion)]
        return random.Random(_seed(study.sampler.seed, number, -1, *draw_number)).choice(left) if left else None

    def _record_infeasible(self, number: int, suggestion: Suggestion, why: str) -> None:
        """Record an infeasible draw in the place of trial ``number``, with a warning if it is of the start."""
        names = [name for name, start in self._loaded.study.started.items() if start.params == suggestion.params]
        if names:
            logging.getLogger("tadaconv").warning("start %r is infeasible in this regime: %s", names[0], why)
        cell = Cell(names[0] if names else f"draw for trial {number}", self._regime.experiment(suggestion.temporal, 0))
        self._record(cell, suggestion, TrialState.PRUNED, {attr.INFEASIBLE: why, attr.DRAWN_FOR: number})

    def _propose(self, number: int, suggestion: Suggestion, macs: int | None) -> None:
        """Queue a configuration; one that is over budget is recorded as such, and never trained.

        ``macs`` are its multiply-adds per clip; None where there is no budget.
        """
        cells = self._reader.cells(number, suggestion.temporal)
        attrs = {attr.TRIAL: number} if macs is None else {attr.TRIAL: number, attr.MACS: macs}
        why = over(macs, self._max_macs)
        if why is not None:
            self._record(cells[0], suggestion, TrialState.PRUNED, {**attrs, attr.OVER_BUDGET: why})
            return
        for cell in cells[:1] if self._loaded.study.pruner.name in SEED_PRUNERS else cells:
            self._queue(cell, suggestion, attrs)

    def _queue(self, cell: Cell, suggestion: Suggestion, attrs: Mapping[str, Any]) -> None:
        """Queue a cell, or copy the result that the storage has of it."""
        for attempt in self._store.attempts([cell.key]).get(cell.key, []):
            if attempt.status == "finished":
                result = attempt.attrs[attr.RESULT]
                copied = {**attrs, attr.COPIED: self._store.name_of(attempt.study_id), attr.RESULT: result}
                self._record(cell, suggestion, TrialState.COMPLETE, copied, stored_score(result))
                return
        self._record(cell, suggestion, TrialState.WAITING, attrs)

    def _record(
        self,
        cell: Cell,
        suggestion: Suggestion,
        state: TrialState,
        attrs: Mapping[str, Any],
        value: float | None = None,
    ) -> None:
        constraints = _INFEASIBLE if attr.INFEASIBLE in attrs else violation(attrs.get(attr.MACS), self._max_macs)
        protocol = {attr.SEARCH_PROTOCOL: self._store.study_attrs(self._study)[attr.SEARCH_PROTOCOL]}
        self._store.add(
            optuna_study_for(self._store, self._study, suggestion.distributions, protocol, cell.experiment.metric),
            cell,
            state,
            value=value,
            params=suggestion.params,
            distributions=suggestion.distributions,
            attrs=attrs,
            constraints=constraints,
        )


def _seed(*parts: int) -> int:
    """A seed of 32 bits from whole numbers."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4], "big")


_INFEASIBLE = {attr.INFEASIBLE: 1.0}
"""Optuna's constraint of a draw that the regime cannot take: violated, by no more and no less than another."""


def _dry_run(regime: Regime, temporal: Temporal) -> None:
    from tadaconv.dry_run import dry_run  # imports torch, which reading a study does not need

    dry_run(regime.experiment(temporal, 0))


def _remembered(name: str, contents: Contents, max_macs: int | None) -> optuna.Study:
    """The study that the sampler learns from: one trial per configuration, of all Optuna studies of the search.

    An infeasible draw comes before the trial in whose place it was drawn.
    """
    memory = in_memory(name, trials_metric(contents.trials))
    draws = sorted(contents.infeasible, key=lambda draw: draw.number)
    for trial in contents.trials:
        while draws and draws[0].number <= trial.number:
            memory.add_trial(_remembered_draw(draws.pop(0)))
        state, value, constraints = TrialState.RUNNING, None, violation(trial.macs, max_macs)
        intermediate = {point.epoch: point.score for point in trial.curve} or trial.score_by_seed
        match trial.status:
            case "finished":
                state, value = TrialState.COMPLETE, trial.score
            case "pruned" | "over budget":
                state = TrialState.PRUNED
            case "failed":  # as infeasible, so that the sampler avoids it
                state, constraints = TrialState.PRUNED, {**(constraints or {}), "failed": 1.0}
        memory.add_trial(
            create_trial(
                state=state,
                value=value,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=intermediate,
                constraints=constraints,
            )
        )
    memory.add_trials([_remembered_draw(draw) for draw in draws])
    return memory


def _remembered_draw(draw: InfeasibleDraw) -> optuna.trial.FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED, params=draw.params, distributions=draw.distributions, constraints=_INFEASIBLE
    )
