"""Proposes the configurations of a study, and queues them as attempts like a table's."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
)
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from tadaconv.ablation import Row
from tadaconv.discovery import require_short
from tadaconv.errors import UserError
from tadaconv.execution.cells import Cell
from tadaconv.execution.pruning import (
    COPIED,
    PROTOCOL,
    PRUNED,
    SEED_PRUNERS,
    SPACE,
    TRIAL,
    compatible,
    in_memory,
    reason_for_no_more_seeds,
    spaces,
)
from tadaconv.execution.store import Store
from tadaconv.regime import Regime
from tadaconv.study.cost import MACS, Counter, budget_macs, over, violation
from tadaconv.study.definition import LoadedStudy
from tadaconv.study.space import Suggestion, call, spec_json, walk
from tadaconv.study.trials import ENDS, OVER_BUDGET, Reader, Trial

NUM_RETRIES = 12
"""How often a sampler is asked anew when it suggests what the study has had."""


@dataclass(frozen=True)
class Proposed:
    """What a call of :meth:`Proposer.top_up` did and found.

    Attributes:
        num_new: configurations proposed by the call, those that cost too much or cannot be built among them.
        num_trials: configurations the study has.
        num_ended: how many of them have ended.
        done: every one has ended, and there are as many as there should be or can be.
        exhausted: the space has no configuration that the study has not had.
    """

    num_new: int
    num_trials: int
    num_ended: int
    done: bool
    exhausted: bool

    def __str__(self) -> str:
        """For example ``20 trials: 12 ended``."""
        counts = f"{self.num_trials} trials: {self.num_ended} ended"
        return f"{counts}; the space is exhausted after {self.num_trials} configurations" if self.exhausted else counts


class Proposer:
    """Queues the configurations of a study, as few ahead as its workers need, so that the sampler learns.

    Any number of processes may propose for one study at once. What is proposed follows from the study's seed, the
    number of the configuration and what has ended before it.

    Args:
        loaded: The study.
        regime: What it is run on, with its data resolved.
        study: Its name in the storage; see :func:`study_name`.
        store: Where its trials are kept.

    Raises:
        UserError: the name belongs to a table in this storage, or is too long for a folder's; the regime cannot take
            the study's base; or the space has changed so that finished trials are not in it.
    """

    def __init__(self, loaded: LoadedStudy, regime: Regime, study: str, store: Store) -> None:
        self._loaded, self._regime, self._study, self._store = loaded, regime, study, store
        require_short(study)
        if "plan" in store.study_attrs(study):
            raise UserError(
                f"{store.shown} holds a table called {loaded.name!r}; rename the file of the study, or name another "
                "storage with --storage"
            )
        Row(loaded.study.base, loaded.study.base_temporal).cell(regime, 0)
        self._max_macs = budget_macs(loaded.study, regime)
        self._counter: Counter | None = None
        self._checked: dict[str, str | int | None] = {}
        self._reader = Reader(loaded, regime, study, store)
        self._exhausted_at: int | None = None
        self._reader.read(self._max_macs)

    def top_up(self, num_waiting: int, num_trials: int) -> Proposed:
        """Propose until ``num_waiting`` attempts of the study wait for a worker, or it has ``num_trials`` trials.

        Args:
            num_waiting: the workers that have nothing to do. With one worker, and so nothing proposed while it works,
                a study that was stopped and goes on proposes what it would have proposed without the stop.
            num_trials: how many configurations the study shall have, those it has among them.
        """
        num_new = 0
        while True:
            with self._store.alone():
                self._write_protocol()
                added, found = self._propose_checked(num_waiting, num_trials)
            num_new += added
            if isinstance(found, Proposed):
                return replace(found, num_new=num_new)
            self._check(found)  # counting a large network takes seconds, and the lock is everybody's

    def _propose_checked(self, num_waiting: int, num_trials: int) -> tuple[int, Proposed | Suggestion]:
        """Propose as long as suggestions have been checked.

        Returns how many were proposed, and how the study stands or else the suggestion that has to be checked.
        """
        num_new = 0
        while True:
            trials, number = self._reader.read(self._max_macs)
            if self._give_cells(trials):
                continue
            exhausted = self._exhausted_at == len(trials)
            waiting = sum(trial.count("waiting") for trial in trials)
            if waiting >= num_waiting or len(trials) >= num_trials or exhausted:
                break
            suggestion = self._suggest(trials, number)
            if suggestion is None:
                self._exhausted_at = len(trials)
                continue
            if spec_json(suggestion.temporal) not in self._checked:
                return num_new, suggestion
            self._propose(number, suggestion, self._checked[spec_json(suggestion.temporal)])
            num_new += 1
        num_ended = sum(trial.status in ENDS for trial in trials)
        done = num_ended == len(trials) and (exhausted or len(trials) >= num_trials)
        return num_new, Proposed(num_new, len(trials), num_ended, done, exhausted)

    def _check(self, suggestion: Suggestion) -> None:
        """Find out whether a configuration can be built and, where there is a budget, what it costs."""
        from tadaconv.experiment import rehearse

        temporal = suggestion.temporal
        self._require_readable(suggestion)
        try:
            rehearse(self._regime.experiment(temporal, 0))
        except UserError as error:
            self._checked[spec_json(temporal)] = str(error)
            return
        if self._max_macs is not None and self._counter is None:
            self._counter = Counter(self._regime)
        self._checked[spec_json(temporal)] = self._counter.macs(temporal) if self._counter else None

    def _require_readable(self, suggestion: Suggestion) -> None:
        """Raise :class:`UserError` for what could not be read back from a storage, which holds JSON alone."""
        try:
            params = json.loads(json.dumps(suggestion.params))
            same = params == suggestion.params and any(
                spec_json(found.temporal) == spec_json(suggestion.temporal)
                for found in walk(self._loaded.study.suggest, params)
            )
        except (TypeError, UserError):
            same = False
        if not same:
            shown = ", ".join(f"{name}={value!r}" for name, value in suggestion.params.items())
            raise UserError(
                f"study {self._loaded.name!r}: suggest does not give the same again for {shown}; draw everything "
                "through the trial, from choices that are numbers, strings, booleans or None"
            )

    def _write_protocol(self) -> None:
        """Tell workers, which have no study file, how its trials are pruned."""
        study = self._loaded.study
        protocol = {
            "study": self._study,
            "pruner": {"name": study.pruner.name, "options": dict(study.pruner.options)},
            "sampler": {"name": study.sampler.name, "seed": study.sampler.seed, "options": dict(study.sampler.options)},
            "seeds": study.seeds,
            "max_macs": self._max_macs,
        }
        names = [self._store.study_name(id) for id in spaces(self._store.backend, self._study)]
        for name in names or [self._study]:
            self._store.set_study_attr(name, PROTOCOL, protocol)

    def _give_cells(self, trials: Sequence[Trial]) -> int:
        """Queue the seeds that trials still have to be given, and return how many those are."""
        protocol = self._store.study_attrs(self._study)[PROTOCOL]
        one_by_one = self._loaded.study.pruner.name in SEED_PRUNERS
        finished = {trial.number: trial.top1_by_seed for trial in trials if trial.status == "finished"}
        num_given = 0
        for trial in trials:
            idle = trial.idle_cells
            if trial.status in ENDS or not idle or (one_by_one and trial.count("running") + trial.count("waiting")):
                continue
            num_given += 1
            why = reason_for_no_more_seeds(protocol, finished, trial.top1_by_seed)
            if why is not None:
                self._record(idle[0], trial.number, trial.suggestion, TrialState.PRUNED, {PRUNED: why})
                continue
            for cell in idle[:1] if one_by_one else idle:
                self._queue(cell, trial.number, trial.suggestion, {})
        return num_given

    def _suggest(self, trials: Sequence[Trial], number: int) -> Suggestion | None:
        """A configuration the study has not had: of its start, then by its sampler; None if there is none."""
        study, had = self._loaded.study, {trial.cells[0].key for trial in trials}

        def new(found: Suggestion) -> bool:
            return self._regime.experiment(found.temporal, 0).key not in had

        for each in study.started.values():
            if new(each):
                return each
        memory = _remembered(self._study, trials, self._max_macs)
        for retry in range(2 * NUM_RETRIES):
            seed = _seed(study.sampler.seed, number, retry)
            memory.sampler = study.sampler.make(seed, looser=retry > 0) if retry < NUM_RETRIES else RandomSampler(seed)
            found = call(study.suggest, memory.ask())
            if new(found):
                return found
        left = [each for each in walk(study.suggest) if new(each)]
        return random.Random(_seed(study.sampler.seed, number, -1)).choice(left) if left else None

    def _propose(self, number: int, suggestion: Suggestion, checked: str | int | None) -> None:
        """Queue a configuration; one that cannot be built or costs too much is recorded as such, and never trained.

        ``checked`` is why it cannot be built, or its multiply-adds where there is a budget.
        """
        cells = self._reader.cells(number, suggestion.temporal)
        if isinstance(checked, str):
            self._record(cells[0], number, suggestion, TrialState.FAIL, {"error": checked})
            return
        attrs = {} if checked is None else {MACS: checked}
        why = over(checked, self._max_macs)
        if why is not None:
            self._record(cells[0], number, suggestion, TrialState.PRUNED, {**attrs, OVER_BUDGET: why})
            return
        for cell in cells[:1] if self._loaded.study.pruner.name in SEED_PRUNERS else cells:
            self._queue(cell, number, suggestion, attrs)

    def _queue(self, cell: Cell, number: int, suggestion: Suggestion, attrs: Mapping[str, Any]) -> None:
        """Queue a cell, or copy the result that the storage has of it."""
        for attempt in self._store.attempts([cell.key]).get(cell.key, []):
            if attempt.state == "finished":
                result = attempt.attrs["result"]
                copied = {**attrs, COPIED: attempt.study, "result": result}
                self._record(cell, number, suggestion, TrialState.COMPLETE, copied, result["top1"])
                return
        self._record(cell, number, suggestion, TrialState.WAITING, attrs)

    def _record(
        self,
        cell: Cell,
        number: int,
        suggestion: Suggestion,
        state: TrialState,
        attrs: Mapping[str, Any],
        value: float | None = None,
    ) -> None:
        constraints = violation(attrs.get(MACS), self._max_macs)
        self._store.record(
            self._space(suggestion.distributions),
            cell,
            state,
            value=value,
            params=suggestion.params,
            distributions=suggestion.distributions,
            attrs={TRIAL: number, **attrs},
            # Optuna's own way to say by how much a trial violates a constraint, which its dashboard shows.
            system_attrs=create_trial(state=TrialState.FAIL, constraints=constraints).system_attrs,
        )

    def _space(self, distributions: Mapping[str, BaseDistribution]) -> str:
        """The Optuna study for a trial of these distributions: the latest that can hold it, or else a further one.

        Optuna freezes the choices of a categorical parameter in each of its studies.
        """
        names = [self._store.study_name(id) for id in spaces(self._store.backend, self._study)]
        for name in reversed(names):
            known = self._store.study_attrs(name).get(SPACE, {})
            if all(
                compatible(known[key], distribution_to_json(each))
                for key, each in distributions.items()
                if key in known
            ):
                break
        else:
            name, known = f"{self._study}-space{len(names) + 1}", {}
            self._store.set_study_attr(name, PROTOCOL, self._store.study_attrs(self._study)[PROTOCOL])
        added = {key: distribution_to_json(each) for key, each in distributions.items() if key not in known}
        self._store.set_study_attr(name, SPACE, {**known, **added})
        return name


def _seed(*parts: int) -> int:
    """A seed of 32 bits from whole numbers."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4], "big")


def _remembered(name: str, trials: Sequence[Trial], max_macs: int | None) -> optuna.Study:
    """What the sampler learns from: a trial a configuration, whichever Optuna study of the storage holds it."""
    memory = in_memory(name)
    for trial in trials:
        state, value, constraints = TrialState.RUNNING, None, violation(trial.macs, max_macs)
        intermediate = {point["epoch"]: point["val_top1"] for point in trial.curve} or trial.top1_by_seed
        match trial.status:
            case "finished":
                state, value = TrialState.COMPLETE, trial.top1
            case "pruned" | "over budget":
                state = TrialState.PRUNED
            case "failed":  # as infeasible, so that what fails is not tried over and over
                state, constraints = TrialState.PRUNED, {**(constraints or {}), "failed": 1.0}
        memory.add_trial(
            create_trial(
                state=state,
                value=value,
                params=trial.suggestion.params,
                distributions=trial.suggestion.distributions,
                intermediate_values=intermediate,
                constraints=constraints,
            )
        )
    return memory
