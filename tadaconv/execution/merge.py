"""Merges storages: the results of one are copied into another, none twice, and weights and scores with them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tadaconv.errors import UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Backend
from tadaconv.execution.cells import scores_file
from tadaconv.execution.merged_weights import run_folder, take_files
from tadaconv.execution.origins import ORIGINS, differ
from tadaconv.execution.spaces import optuna_studies, optuna_study_for
from tadaconv.execution.store import Store
from tadaconv.locations import apart
from tadaconv.metrics import Metric, common_metric, metric_named
from tadaconv.result import stored_metric, stored_score
from tadaconv.spec import without_places
from tadaconv.text import plural

_SAYS_NOTHING = (attr.INTERRUPTED, attr.WITHDRAWN)
"""User attributes of attempts that were requeued or taken out of the queue."""

_OWN = (attr.TRIAL, attr.LABEL, attr.RETRIED)
"""User attributes that may change when an attempt is copied."""


@dataclass
class Merged:
    """What came of merging one storage into another."""

    source: str
    num_results: int = 0
    num_ended: int = 0
    """Failed and pruned attempts that were copied."""
    num_known: int = 0
    """Results, failed and pruned attempts that the other storage had already."""
    num_open: int = 0
    """Cells that only wait or run in the source."""
    num_busy: int = 0
    """Results that were not copied, as their cells are being run in the other storage."""
    num_weights: int = 0
    """Files of trained weights that were copied."""
    num_scores: int = 0
    """Files of class probabilities that were copied."""
    notes: list[str] = field(default_factory=list)
    """Where the two storages disagree, and what the source lacks, one line each."""

    def __str__(self) -> str:
        """One line, for example ``a.log: 12 results and 1 failed or pruned attempt copied, 3 known already``."""
        counts = [
            f"{plural(self.num_results, 'result')} and {plural(self.num_ended, 'failed or pruned attempt')} copied, "
            f"{self.num_known} known already"
        ]
        if self.num_weights:
            counts.append(f"{plural(self.num_weights, 'file')} of trained weights copied")
        if self.num_scores:
            counts.append(f"{plural(self.num_scores, 'file')} of class probabilities copied")
        if self.num_open:
            counts.append(f"{plural(self.num_open, 'cell')} without a result left where they wait or run")
        if self.num_busy:
            counts.append(
                f"{plural(self.num_busy, 'result')} left out, as the cells are being run: merge again when they "
                "have ended"
            )
        return f"{self.source}: {'; '.join(counts)}"


def merge(sources: Sequence[Store], into: Store, out: Path | None = None) -> list[Merged]:
    """Copy every study, result, and failed or pruned attempt of ``sources`` into ``into``, unless it is there already.

    A cell that has a result in both keeps the one ``into`` has, and a difference in score is noted. What waits or
    runs is not copied: its plan is, so the next run of its table queues it. Configurations of a search get the next
    free numbers. Sources are only read, one after the other. Merging again changes nothing.

    The trained weights of a result and its class probabilities go with it, from the folder of the source's journal to
    that of ``into``, or to the run folder ``out`` where ``into`` is a server's; so do those of a result that ``into``
    has from an earlier merge.
    A file that is there already is never written over.

    Raises:
        UserError: a source is ``into`` itself, or a name is a table's in one and a search's in the other.
        StorageError: ``into`` cannot be written; what was copied so far stays.
        RunError: the results are merged, but a file of weights or class probabilities cannot be copied.
    """
    for source in sources:
        if _same(source, into):
            raise UserError(f"{source.shown} cannot be merged into itself; name another with --storage")
    into.heal()
    with into.backend.alone():
        merges = [_Merge(source, into) for source in sources]
        for each in merges:
            each.run()
    # Large files: whoever plans meanwhile need not wait for them.
    folder = run_folder(into) or out
    return [each.found if folder is None else each.take_files(folder) for each in merges]


def _same(one: Store, other: Store) -> bool:
    paths = Path(one.shown), Path(other.shown)
    return paths[0].samefile(paths[1]) if all(path.is_file() for path in paths) else one.shown == other.shown


@dataclass(frozen=True)
class _Ended:
    """A trial of the source that has ended, and the study it belongs to."""

    study: str
    search: str | None
    trial: FrozenTrial

    @property
    def attrs(self) -> Mapping[str, Any]:
        return self.trial.user_attrs

    @property
    def key(self) -> str:
        return str(self.attrs[attr.CELL])

    @property
    def metric(self) -> Metric:
        """What its score is of; top-1 where it has none."""
        scored = [self.attrs.get(attr.RESULT), *self.attrs.get(attr.CURVE, [])]
        return common_metric(stored_metric(tree) for tree in scored if tree)

    @property
    def name(self) -> str:
        return f"{self.attrs[attr.LABEL]}, seed {self.attrs[attr.SPEC].get('seed')}"


class _Merge:
    """The merging of one source."""

    def __init__(self, source: Store, into: Store) -> None:
        self._source, self._into = source, into
        self.found = Merged(source.shown)
        self._held: dict[str, str] = {}  # by cell key, the names of cells whose result both have
        self._new: set[str] = set()  # the keys of those that had none before
        self._numbers: dict[str, dict[str, int]] = {}
        self._known: dict[str, set[str]] = {}

    def run(self) -> None:
        """Copy what the storage holds."""
        names = self._source.studies()
        ended: list[_Ended] = []
        open_keys: set[str] = set()
        for name in names:
            attrs = self._source.study_attrs(name)
            search = attrs.get(attr.SEARCH_PROTOCOL, {}).get("study")
            self._merge_study(name, search, attrs)
            for trial in _attempts(self._source.backend, name):
                if trial.state.is_finished():
                    ended.append(_Ended(name, search, trial))
                else:
                    open_keys.add(str(trial.user_attrs[attr.CELL]))
        results = [each for each in ended if each.trial.state == TrialState.COMPLETE]
        self.found.num_open = len(open_keys - {each.key for each in results})
        for each in results:
            if attr.COPIED not in each.attrs:
                self._merge_result(each)
        for each in results:
            if each.search is not None:
                self._merge_search_result(each)
        for each in ended:
            if each.trial.state != TrialState.COMPLETE and not set(_SAYS_NOTHING) & each.attrs.keys():
                self._merge_ended(each)

    def take_files(self, folder: Path) -> Merged:
        """Copy weights and scores of every result that both storages have now into the run folder ``folder``."""
        out = run_folder(self._source)
        taken = take_files(self._held, out, folder)
        scores = take_files(self._held, out, folder, scores_file, "class probabilities")
        self.found.num_weights, self.found.num_scores = len(taken.copied), len(scores.copied)
        self.found.notes += [
            f"{self._held[key]} (cell {key}): other {called} in {out} than in {folder}, which are kept"
            for called, files in (("trained weights", taken), ("class probabilities", scores))
            for key in files.differing
        ]
        if missing := [self._held[key] for key in taken.missing if key in self._new]:
            where = "lie on the machines that trained them" if out is None else f"are not in {out / 'weights'}"
            self.found.notes.append(
                f"{self._source.shown}: {plural(len(missing), 'result')} without trained weights, which {where}: "
                f"{'; '.join(missing[:3])}{f'; and {len(missing) - 3} more' if len(missing) > 3 else ''}"
            )
        return self.found

    def _merge_study(self, name: str, search: str | None, attrs: Mapping[str, Any]) -> None:
        """Write what ``into`` lacks of what is known about a study; of searches, what its trials do not bring along."""
        known = self._into.study_attrs(search or name)
        if (search is None and attr.SEARCH_PROTOCOL in known) or (search is not None and attr.PLAN in known):
            raise UserError(
                f"{search or name} is a table in one of {self._source.shown} and {self._into.shown} and a study in the "
                "other; rename the file of one, and run it under its new name"
            )
        for origin in ORIGINS.keys() & attrs.keys() & known.keys():
            if differ(origin, attrs[origin], known[origin]):
                raise UserError(
                    f"{search or name} in {self._source.shown} holds the results of another {origin} than in "
                    f"{self._into.shown}; rename the file of one, and run it under its new name"
                )
        if search is not None:
            return
        directions = self._source.backend.storage.get_study_directions(self._source.backend.studies()[name])
        self._into.make_study(name, directions == [StudyDirection.MAXIMIZE])
        for written, value in attrs.items():
            if written != attr.PLAN and written not in known:
                self._into.set_study_attr(name, written, value)
        self._merge_plan(name)

    def _merge_plan(self, name: str) -> None:
        ours, theirs = self._into.read_plan(name), self._source.read_plan(name)
        merged = dict(ours)
        for label, row in theirs.items():
            if label not in ours:
                merged[label] = row
            elif ours[label].experiment == row.experiment:
                merged[label] = type(row)(row.experiment, {**row.seeds, **ours[label].seeds})
            else:
                self.found.notes.append(
                    f"{name}, row {label!r}: another experiment in {self._source.shown}; the plan of "
                    f"{self._into.shown} is kept"
                )
        if merged:
            self._into.write_plan(name, merged)

    def _merge_result(self, each: _Ended) -> None:
        """Copy a result that was run, unless its cell has one or is being run."""
        attempts = self._into.attempts([each.key]).get(each.key, [])
        ours = [attempt for attempt in attempts if attempt.status == "finished"]
        if ours:
            self.found.num_known += 1
            self._compare(each, ours[0].attrs[attr.RESULT])
            return
        # Once nothing waits, nobody can begin to run the cell: queueing takes the lock that is held here.
        for attempt in attempts:
            if attempt.status == "waiting":
                self._into.withdraw(attempt, f"its result is in {self._source.shown}")
        if any(attempt.status == "running" for attempt in self._into.attempts([each.key]).get(each.key, [])):
            self.found.num_busy += 1
            return
        self._copy(each, {})
        self._held[each.key] = each.name
        self._new.add(each.key)
        self.found.num_results += 1

    def _compare(self, each: _Ended, ours: Mapping[str, Any]) -> None:
        theirs = each.attrs[attr.RESULT]
        if theirs == ours:  # to the second it took: it was copied
            self._held[each.key] = each.name
        elif stored_score(theirs) != stored_score(ours):
            metric = metric_named(stored_metric(ours))
            there, here = (metric.in_words(stored_score(result), more_decimals=1) for result in (theirs, ours))
            self.found.notes.append(
                f"{each.name} (cell {each.key}): {metric.label} {there} in {self._source.shown}, "
                f"{here} in {self._into.shown}, which is kept"
            )

    def _merge_search_result(self, each: _Ended) -> None:
        """Let a search have a trial whose cell another study has finished, as searches themselves do."""
        assert each.search is not None
        attempts = [row for row in self._into.backend.attempts([each.key]) if row.state == TrialState.COMPLETE]
        ids = optuna_studies(self._into.backend, each.search)
        run = [row for row in attempts if attr.COPIED not in row.attrs]
        if run and not any(row.study_id in ids for row in attempts):
            result = run[0].attrs[attr.RESULT]
            self._copy(
                each, {attr.COPIED: self._into.name_of(run[0].study_id), attr.RESULT: result}, stored_score(result)
            )

    def _merge_ended(self, each: _Ended) -> None:
        """Copy a failed or pruned attempt. Its cell is not requeued: that is for the next run."""
        place = each.search or each.study
        if place not in self._known:
            self._known[place] = {_identity(trial) for trial in self._trials_of(place)}
        if _identity(each.trial) in self._known[place]:
            self.found.num_known += 1
            return
        self._copy(each, {})
        self._known[place].add(_identity(each.trial))
        self.found.num_ended += 1

    def _trials_of(self, place: str) -> list[FrozenTrial]:
        backend = self._into.backend
        names = {self._into.name_of(id) for id in optuna_studies(backend, place)} | ({place} & backend.studies().keys())
        return [trial for name in names for trial in _attempts(backend, name)]

    def _copy(self, each: _Ended, changed: Mapping[str, Any], value: float | None = None) -> None:
        """Write the trial with all that is known of it, in one step."""
        attrs = {name: value for name, value in each.attrs.items() if name != attr.RETRIED}
        study = each.study
        if each.search is not None:
            study = self._optuna_study(each)
            if attr.TRIAL in attrs:
                number = self._number(each)
                if attrs[attr.LABEL] == f"trial {attrs[attr.TRIAL]}":
                    attrs[attr.LABEL] = f"trial {number}"
                attrs[attr.TRIAL] = number
        old = each.trial
        copy = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=old.state,
            value=old.value if value is None else value,
            datetime_start=old.datetime_start,
            datetime_complete=old.datetime_complete,
            params=old.params,
            distributions=old.distributions,
            user_attrs={**attrs, **changed},
            system_attrs=old.system_attrs,
            intermediate_values=old.intermediate_values,
        )
        self._into.backend.storage.create_new_trial(self._into.make_study(study), copy)

    def _number(self, each: _Ended) -> int:
        """The number of a trial's configuration in ``into``: its own there, or the next."""
        assert each.search is not None
        if each.search not in self._numbers:
            trials = self._trials_of(each.search)
            self._numbers[each.search] = {
                _configuration(trial.user_attrs): int(trial.user_attrs[attr.TRIAL])
                for trial in trials
                if attr.TRIAL in trial.user_attrs
            }
        numbers = self._numbers[each.search]
        return numbers.setdefault(_configuration(each.attrs), 1 + max(numbers.values(), default=-1))

    def _optuna_study(self, each: _Ended) -> str:
        """The Optuna study of ``into`` for a search's trial."""
        assert each.search is not None
        ids = optuna_studies(self._into.backend, each.search)
        model = self._into.backend.study_attrs(ids[0]) if ids else self._source.study_attrs(each.search)
        attrs = {name: model[name] for name in (attr.SEARCH_PROTOCOL, *ORIGINS) if name in model}
        return optuna_study_for(self._into, each.search, each.trial.distributions, attrs, each.metric)


def _attempts(backend: Backend, study: str) -> Iterable[FrozenTrial]:
    """The attempts of a study with all that is known of them, oldest first."""
    trials = backend.storage.get_all_trials(backend.studies()[study], deepcopy=False)
    return [trial for trial in trials if attr.CELL in trial.user_attrs]


def _identity(trial: FrozenTrial) -> str:
    """What tells an ended attempt from any other, whichever storage it is in."""
    attrs = {name: value for name, value in trial.user_attrs.items() if name not in _OWN}
    times = _moment(trial.datetime_start), _moment(trial.datetime_complete)
    return json.dumps([trial.state.name, times, trial.params, attrs], sort_keys=True)


def _moment(time: datetime | None) -> list[int] | None:
    """Where in its quarter of an hour a time lies: Optuna gives local times, and their zones differ by quarters."""
    return None if time is None else [time.minute % 15, time.second, time.microsecond]


def _configuration(attrs: Mapping[str, Any]) -> str:
    """What the attempts of one configuration have in common, whatever their seed and wherever their clips lie."""
    spec, _ = apart({**attrs[attr.SPEC], "seed": 0})
    spec["data"] = without_places(spec["data"])
    return json.dumps(spec, sort_keys=True)
