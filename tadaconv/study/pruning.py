"""Decides whether a running trial of a study is pruned.

The pruner's configuration is stored as a study's user attribute ``protocol``, plain data, so that a worker needs no
study file. A step of Optuna's pruners is a finished epoch, counted from 1, or a finished seed.
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from tadaconv.errors import UserError, lookup
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Attempt, Backend
from tadaconv.execution.spaces import optuna_studies
from tadaconv.locations import apart
from tadaconv.metrics import Metric, metric_named
from tadaconv.result import CurvePoint, stored_curve
from tadaconv.spec import without_places

Pruners = dict[str, Callable[..., BasePruner]]

EPOCH_PRUNERS: Pruners = {"median": MedianPruner, "hyperband": HyperbandPruner}
"""Over epochs: these compare validation scores while a trial trains."""

SEED_PRUNERS: Pruners = {"wilcoxon": WilcoxonPruner}
"""Over seeds: these compare results and decide whether a configuration is given another seed."""

PRUNERS: Pruners = {"none": NopPruner, **EPOCH_PRUNERS, **SEED_PRUNERS}
"""Pruners by name."""

_REASONS = {
    "median": "not {beyond} the median of the others there",
    "hyperband": "not among the best of its bracket there",
}


def make_pruner(name: str, options: Mapping[str, Any]) -> BasePruner:
    """The pruner called ``name`` with Optuna's options of it.

    Raises :class:`UserError` for an unknown name, which lists the right ones, and for options it does not take.
    """
    pruner = lookup("pruner", name, PRUNERS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna's notice on the Wilcoxon test
            return pruner(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"pruner {name!r} does not take options {dict(options)!r}: {error}") from error


def in_memory(name: str, metric: Metric, pruner: BasePruner | None = None) -> optuna.Study:
    """An empty study in the direction of ``metric``, seen by this process alone."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it logs every study it creates
    return optuna.create_study(
        study_name=name, direction=metric.direction, sampler=RandomSampler(), pruner=pruner or NopPruner()
    )


def reason_to_prune(backend: Backend, attempt: Attempt, curve: Sequence[CurvePoint]) -> str | None:
    """Called by a worker at the end of each epoch of ``attempt``; see :func:`should_prune`.

    Workers import it by the name in :class:`tadaconv.execution.worker.WorkerCall`: a worker of tables never needs it.
    """
    protocol = backend.study_attrs(attempt.study_id).get(attr.SEARCH_PROTOCOL)
    if attr.TRIAL not in attempt.attrs or protocol is None or protocol["pruner"]["name"] not in EPOCH_PRUNERS:
        return None
    history = backend.attempts(study_ids=optuna_studies(backend, protocol["study"]))
    return should_prune(protocol, history, attempt, curve)


def should_prune(
    protocol: Mapping[str, Any], history: Sequence[Attempt], attempt: Attempt, curve: Sequence[CurvePoint]
) -> str | None:
    """The reason to end ``attempt`` now, one line, or None.

    Args:
        protocol: ``pruner`` (``name`` and ``options``) and ``study``, the name that Hyperband draws brackets from.
        history: the attempts of the study. Those that finished or were pruned are compared with, if they trained on
            the same clips by the same schedule.
        attempt: the running one.
        curve: its epochs so far. A trial is not pruned after its last epoch.
    """
    name = protocol["pruner"]["name"]
    num_epochs = attempt.attrs[attr.SPEC]["schedule"]["epochs"]
    if not curve or curve[-1].epoch >= num_epochs or name not in EPOCH_PRUNERS:
        return None
    options = dict(protocol["pruner"]["options"])
    if name == "hyperband":
        options = {"max_resource": num_epochs, **options}
    metric = metric_named(curve[-1].metric)
    study = in_memory(protocol["study"], metric, make_pruner(name, options))
    rungs = _rungs(options, num_epochs) if name == "hyperband" else frozenset()
    others = _ended(history, attempt)
    number = int(attempt.attrs[attr.TRIAL])
    now: optuna.Trial | None = None
    for other in range(max([number, *others]) + 1):  # brackets are drawn by number, so numbers must be the trials' own
        if other == number:
            now = study.ask()
        elif other in others:
            finished, score_by_epoch = others[other]
            past = study.ask()
            _report(past, score_by_epoch, rungs)
            if finished:
                study.tell(past, list(score_by_epoch.values())[-1])
            else:
                study.tell(past, state=TrialState.PRUNED)
        else:
            study.add_trial(create_trial(state=TrialState.FAIL))
    assert now is not None
    _report(now, {point.epoch: point.score for point in curve[:-1]}, rungs)
    last = curve[-1]
    now.report(last.score, last.epoch)
    if not now.should_prune():
        return None
    why = _REASONS[name].format(beyond=metric.beyond)
    return f"validation {metric.label} {metric.in_words(last.score)} after epoch {last.epoch} of {num_epochs}, {why}"


def reason_for_no_more_seeds(
    protocol: Mapping[str, Any],
    finished: Mapping[int, Mapping[int, float]],
    score_by_seed: Mapping[int, float],
    metric: Metric,
) -> str | None:
    """The reason to give a configuration no further seed, one line, or None.

    Args:
        protocol: ``pruner`` (``name`` and ``options``) and ``study``.
        finished: by number, the score by seed of the configurations that have had all their seeds.
        score_by_seed: the scores of the configuration in question.
        metric: of these scores.
    """
    name = protocol["pruner"]["name"]
    if name not in SEED_PRUNERS or not finished or not score_by_seed:
        return None
    study = in_memory(protocol["study"], metric)
    for results in finished.values():
        mean = sum(results.values()) / len(results)
        study.add_trial(create_trial(state=TrialState.COMPLETE, value=mean, intermediate_values=dict(results)))
    running = create_trial(state=TrialState.RUNNING, intermediate_values=dict(score_by_seed))
    if not make_pruner(name, protocol["pruner"]["options"]).prune(study, running):
        return None
    best = list(finished)[study.best_trial.number]
    return f"worse than trial {best} on {len(score_by_seed)} seeds (Wilcoxon test)"


def _ended(history: Sequence[Attempt], attempt: Attempt) -> dict[int, tuple[bool, dict[int, float]]]:
    """The trials that ``attempt`` is compared with, by number: whether they finished, and their scores by epoch.

    A result outweighs an earlier pruning.
    """
    ended: dict[int, tuple[bool, dict[int, float]]] = {}
    for row in history:
        finished = row.state == TrialState.COMPLETE
        curve = row.attrs[attr.RESULT]["curve"] if finished else row.attrs.get(attr.CURVE, [])
        number = row.attrs.get(attr.TRIAL)
        if number is None or number == attempt.attrs[attr.TRIAL] or not curve or _recipe(row) != _recipe(attempt):
            continue
        if finished or int(number) not in ended:
            ended[int(number)] = finished, stored_curve(curve)
    return ended


def _recipe(row: Attempt) -> dict[str, Any]:
    spec, _ = apart({name: part for name, part in row.attrs[attr.SPEC].items() if name not in ("temporal", "seed")})
    return {**spec, "data": without_places(spec["data"])}


def _rungs(options: Mapping[str, Any], num_epochs: int) -> frozenset[int]:
    """The epochs at which, or at the next one evaluated, Hyperband records the score of a trial.

    At other epochs it has no effect.
    """
    rung, factor = int(options.get("min_resource", 1)), int(options.get("reduction_factor", 3))
    rungs = set()
    while rung <= num_epochs:
        rungs.add(rung)
        rung *= factor
    return frozenset(rungs)


def _report(trial: optuna.Trial, score_by_epoch: Mapping[int, float], rungs: Collection[int]) -> None:
    """Report the epochs of a trial again, so that its pruner is in the same state."""
    before = 0
    for epoch, score in score_by_epoch.items():
        trial.report(score, epoch)
        if any(before < rung <= epoch for rung in rungs):  # not every epoch is evaluated
            trial.should_prune()
        before = epoch
