"""Merges storages: copies results of one into another, each once, with weights and class probabilities."""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tadaconv.errors import UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Attempt
from tadaconv.execution.merged_weights import CELL_FILES, run_folder, take_files
from tadaconv.execution.origins import ORIGINS, differ
from tadaconv.execution.seed_design import merged_design
from tadaconv.execution.spaces import optuna_studies, optuna_study_for
from tadaconv.execution.store import Store
from tadaconv.locations import apart
from tadaconv.metrics import common_metric, metric_named
from tadaconv.result import stored_metric, stored_score
from tadaconv.spec import without_places
from tadaconv.text import plural

_NO_OUTCOME = {attr.INTERRUPTED, attr.WITHDRAWN}
"""User attributes of attempts that were requeued or removed from the queue."""

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
    """Differences between the two storages, and files that the source lacks, one line each."""

    def __str__(self) -> str:
        """One line, for example ``a.log: 12 results and 1 failed or pruned attempt copied, 3 known already``."""
        more = {
            f"{plural(self.num_weights, 'file')} of trained weights copied": self.num_weights,
            f"{plural(self.num_scores, 'file')} of class probabilities copied": self.num_scores,
            f"{plural(self.num_open, 'cell')} without a result left where they wait or run": self.num_open,
            f"{plural(self.num_busy, 'result')} left out, as the cells are being run; merge again when they have "
            "ended": self.num_busy,
        }
        return (
            f"{self.source}: {plural(self.num_results, 'result')} and "
            f"{plural(self.num_ended, 'failed or pruned attempt')} copied, {self.num_known} known already"
            + "".join(f"; {text}" for text, number in more.items() if number)
        )


def merge(sources: Sequence[Store], into: Store, out: Path | None = None) -> list[Merged]:
    """Copy every study, result, and failed or pruned attempt of ``sources`` into ``into``, unless it is there already.

    A cell that has a result in both keeps the one ``into`` has, and a difference in score is noted. What waits or
    runs is not copied: its plan is, so the next run of its table queues it. Configurations of a search get the next
    free numbers. Sources are only read, one after the other. Merging again has no effect.

    The trained weights of a result and its class probabilities go with it, from the folder of the source's journal to
    that of ``into``, or to the run folder ``out`` where ``into`` is a server's; so do those of a result that ``into``
    has from an earlier merge.
    A file that is there already is never written over.

    Raises:
        UserError: a source is ``into`` itself, a name is a table's in one and a search's in the other, or the numbers
            of seeds of a table do not go together.
        StorageError: ``into`` cannot be written; what was copied so far stays.
        RunError: the results are merged, but a file of weights or class probabilities cannot be copied.
    """
    for source in sources:
        if _same(source, into):
            raise UserError(f"{source.shown} cannot be merged into itself; name another with --storage")
    into.requeue_ended()
    with into.backend.alone():
        merges = [_Merge(source, into) for source in sources]
        for one in merges:
            one.run()
    # Outside the lock, as copying large files takes long.
    folder = run_folder(into) or out
    return [one.merged if folder is None else one.take_files(folder) for one in merges]


def _same(one: Store, other: Store) -> bool:
    paths = Path(one.shown), Path(other.shown)
    return paths[0].samefile(paths[1]) if all(path.is_file() for path in paths) else one.shown == other.shown


class _Merge:
    """The merging of one source."""

    def __init__(self, source: Store, into: Store) -> None:
        self._source, self._into = source, into
        self.merged = Merged(source.shown)
        self._search: dict[int, str] = {}  # by its id, the design study that an Optuna study of the source belongs to
        self._held: dict[str, str] = {}  # by cell key, the names of cells whose result both have
        self._new: set[str] = set()  # the keys of those that had none before
        self._numbers: dict[str, dict[str, int]] = {}
        self._known: dict[str, set[str]] = {}

    def run(self) -> None:
        """Copy the contents of the storage."""
        for name, study_id in self._source.backend.studies().items():
            attrs = self._source.study_attrs(name)
            if attr.SEARCH_PROTOCOL in attrs:
                self._search[study_id] = attrs[attr.SEARCH_PROTOCOL]["study"]
            self._merge_study(name, self._search.get(study_id), attrs)
        attempts = sorted(self._source.backend.attempts(), key=lambda attempt: attempt.study_id)
        results = [attempt for attempt in attempts if attempt.status == "finished"]
        open_keys = {attempt.key for attempt in attempts if attempt.status in ("waiting", "running")}
        self.merged.num_open = len(open_keys - {attempt.key for attempt in results})
        for attempt in results:
            if attr.COPIED not in attempt.attrs:
                self._merge_result(attempt)
        for attempt in results:
            if attempt.study_id in self._search:
                self._merge_search_result(attempt, self._search[attempt.study_id])
        for attempt in attempts:
            if attempt.state in (TrialState.FAIL, TrialState.PRUNED) and not _NO_OUTCOME & attempt.attrs.keys():
                self._merge_ended(attempt)

    def take_files(self, folder: Path) -> Merged:
        """Copy weights and scores of every result that both storages have now into the run folder ``folder``."""
        out = run_folder(self._source)
        weights, scores = (take_files(contents, self._held, out, folder) for contents in CELL_FILES)
        self.merged.num_weights, self.merged.num_scores = len(weights.copied), len(scores.copied)
        self.merged.notes += [
            f"{self._held[key]} (cell {key}): other {contents} in {out} than in {folder}, which are kept"
            for contents, files in zip(CELL_FILES, (weights, scores), strict=True)
            for key in files.differing
        ]
        if missing := [self._held[key] for key in weights.missing if key in self._new]:
            where = "are on the machines that trained them" if out is None else f"are not in {out / 'weights'}"
            self.merged.notes.append(
                f"{self._source.shown}: {plural(len(missing), 'result')} without trained weights, which {where}: "
                f"{'; '.join(missing[:3])}{f'; and {len(missing) - 3} more' if len(missing) > 3 else ''}"
            )
        return self.merged

    def _merge_study(self, name: str, search: str | None, attrs: Mapping[str, Any]) -> None:
        """Write the attributes that ``into`` lacks of a table's study; a search's are written with its trials."""
        known = self._into.study_attrs(search or name)
        if (search is None and attr.SEARCH_PROTOCOL in known) or (search is not None and attr.PLAN in known):
            raise UserError(
                f"{search or name} is a table in one of {self._source.shown} and {self._into.shown} and a study in the "
                "other; rename the file of one, and run it under its new name"
            )
        for origin in ORIGINS.keys() & attrs.keys() & known.keys():
            if differ(origin, attrs[origin], known[origin]):
                raise UserError(
                    f"{search or name} in {self._source.shown} holds the results of a different {origin} than in "
                    f"{self._into.shown}; rename the file of one, and run it under its new name"
                )
        if search is not None or not attrs:  # without any, a study is another program's
            return
        design = merged_design(name, self._into, self._source)
        directions = self._source.backend.storage.get_study_directions(self._source.backend.studies()[name])
        self._into.make_study(name, directions == [StudyDirection.MAXIMIZE])
        for written, value in attrs.items():
            if written not in (attr.PLAN, attr.SEEDS) and written not in known:
                self._into.set_study_attr(name, written, value)
        if design is not None:
            self._into.set_study_attr(name, attr.SEEDS, design.model_dump())
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
                self.merged.notes.append(
                    f"{name}, row {label!r}: another experiment in {self._source.shown}; the plan of "
                    f"{self._into.shown} is kept"
                )
        if merged:
            self._into.write_plan(name, merged)

    def _merge_result(self, theirs: Attempt) -> None:
        """Copy a result that was run, unless its cell has one or is being run."""
        attempts = self._into.attempts([theirs.key]).get(theirs.key, [])
        finished = [attempt for attempt in attempts if attempt.status == "finished"]
        if finished:
            self.merged.num_known += 1
            self._compare(theirs, finished[0].attrs[attr.RESULT])
            return
        # Once no attempt waits, no worker can begin to run the cell: queueing takes the lock that is held here.
        for attempt in attempts:
            if attempt.status == "waiting":
                self._into.withdraw(attempt, f"its result is in {self._source.shown}")
        if TrialState.RUNNING in self._into.backend.states([theirs.key]).get(theirs.key, []):
            self.merged.num_busy += 1
            return
        self._copy(theirs, {})
        self._held[theirs.key] = theirs.name
        self._new.add(theirs.key)
        self.merged.num_results += 1

    def _compare(self, attempt: Attempt, ours: Mapping[str, Any]) -> None:
        theirs = attempt.attrs[attr.RESULT]
        if theirs == ours:  # to the second it took: it was copied
            self._held[attempt.key] = attempt.name
        elif stored_score(theirs) != stored_score(ours):
            metric = metric_named(stored_metric(ours))
            there, here = (metric.in_words(stored_score(result), more_decimals=1) for result in (theirs, ours))
            self.merged.notes.append(
                f"{attempt.name} (cell {attempt.key}): {metric.label} {there} in {self._source.shown}, "
                f"{here} in {self._into.shown}, which is kept"
            )

    def _merge_search_result(self, theirs: Attempt, search: str) -> None:
        """Give a search a trial whose cell another study has finished, as searches themselves do."""
        finished = [row for row in self._into.backend.attempts([theirs.key]) if row.status == "finished"]
        ids = optuna_studies(self._into.backend, search)
        run = [row for row in finished if attr.COPIED not in row.attrs]
        if run and not any(row.study_id in ids for row in finished):
            result = run[0].attrs[attr.RESULT]
            copied = {attr.COPIED: self._into.name_of(run[0].study_id), attr.RESULT: result}
            self._copy(theirs, copied, stored_score(result))

    def _merge_ended(self, theirs: Attempt) -> None:
        """Copy a failed or pruned attempt. Its cell is not requeued: that is for the next run."""
        study = self._search.get(theirs.study_id, self._source.name_of(theirs.study_id))
        if study not in self._known:
            self._known[study] = {_identity(attempt) for attempt in self._attempts_of(study)}
        if _identity(theirs) in self._known[study]:
            self.merged.num_known += 1
            return
        self._copy(theirs, {})
        self._known[study].add(_identity(theirs))
        self.merged.num_ended += 1

    def _attempts_of(self, study: str) -> list[Attempt]:
        backend = self._into.backend
        ids = {id for name, id in backend.studies().items() if name == study}
        return backend.attempts(study_ids=[*ids.union(optuna_studies(backend, study))])

    def _copy(self, theirs: Attempt, changed: Mapping[str, Any], value: float | None = None) -> None:
        """Write the trial with everything that is stored of it, in one step."""
        trial = copy(self._source.backend.storage.get_trial(theirs.trial_id))
        attrs = {name: value for name, value in theirs.attrs.items() if name != attr.RETRIED}
        study, search = self._source.name_of(theirs.study_id), self._search.get(theirs.study_id)
        if search is not None:
            study = self._optuna_study(search, theirs, trial.distributions)
            if attr.TRIAL in attrs:
                number = self._number(search, theirs)
                if attrs[attr.LABEL] == f"trial {attrs[attr.TRIAL]}":
                    attrs[attr.LABEL] = f"trial {number}"
                attrs[attr.TRIAL] = number
        trial.user_attrs = {**attrs, **changed}
        if value is not None:
            trial.value = value
        self._into.backend.storage.create_new_trial(self._into.make_study(study), trial)

    def _number(self, search: str, theirs: Attempt) -> int:
        """The number of a trial's configuration in ``into``: its own there, or the next."""
        if search not in self._numbers:
            self._numbers[search] = {
                _configuration(attempt.attrs): int(attempt.attrs[attr.TRIAL])
                for attempt in self._attempts_of(search)
                if attr.TRIAL in attempt.attrs
            }
        numbers = self._numbers[search]
        return numbers.setdefault(_configuration(theirs.attrs), 1 + max(numbers.values(), default=-1))

    def _optuna_study(self, search: str, theirs: Attempt, distributions: Mapping[str, BaseDistribution]) -> str:
        """The Optuna study of ``into`` for a search's trial."""
        ids = optuna_studies(self._into.backend, search)
        model = self._into.backend.study_attrs(ids[0]) if ids else self._source.study_attrs(search)
        attrs = {name: model[name] for name in (attr.SEARCH_PROTOCOL, *ORIGINS) if name in model}
        scored = [theirs.attrs.get(attr.RESULT), *theirs.attrs.get(attr.CURVE, [])]
        metric = common_metric(stored_metric(tree) for tree in scored if tree)
        return optuna_study_for(self._into, search, distributions, attrs, metric)


def _identity(attempt: Attempt) -> str:
    """Text that identifies an ended attempt, whichever storage it is in."""
    attrs = {name: value for name, value in attempt.attrs.items() if name not in _OWN}
    times = _moment(attempt.started), _moment(attempt.ended)
    return json.dumps([attempt.state.name, times, attempt.params, attrs], sort_keys=True)


def _moment(time: datetime | None) -> list[int] | None:
    """A time modulo a quarter of an hour: Optuna gives local times, and time zones differ by quarters."""
    return None if time is None else [time.minute % 15, time.second, time.microsecond]


def _configuration(attrs: Mapping[str, Any]) -> str:
    """Text that identifies the configuration of an attempt, without its seed and its paths."""
    spec, _ = apart({**attrs[attr.SPEC], "seed": 0})
    spec["data"] = without_places(spec["data"])
    return json.dumps(spec, sort_keys=True)
