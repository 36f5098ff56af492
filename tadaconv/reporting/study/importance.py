"""Which parameters the score depends on: fANOVA over the finished trials, compared with the level of noise."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.study.data import Parameter, StudyExport, with_operator
from tadaconv.text import listed, plural

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

NUM_FORESTS = 10
"""Random forests over which the importance is averaged; they differ in their seed alone."""

NUM_SHUFFLES = 19
"""Random permutations of the scores; by chance, a parameter exceeds all of them 1 time in 20."""

IMPORTANCE_COLUMNS = ["parameter", "importance", "low", "high", "noise"]


@dataclass(frozen=True)
class Importance:
    """The result of fANOVA.

    Attributes:
        data: a line a parameter, ``IMPORTANCE_COLUMNS``, the most important first. ``importance`` is the fraction of
            the variance of the score over the space that the parameter explains by itself: the mean over
            ``NUM_FORESTS`` forests, with the ``low``est and the ``high``est of them. ``noise`` is the largest
            importance of any parameter over ``NUM_SHUFFLES`` permutations of the scores, in which no parameter matters:
            one bound for all, so that many parameters do not make a false positive likelier. Empty where ``why_not``
            gives a reason.
        num_trials: finished trials it is computed from.
        num_bare: finished trials that plug nothing in; their parameters have no effect, and they are left out.
        left_out: by parameter, why it is not among them.
        metric: the metric that the trials are evaluated by.
        why_not: why there is no importance, in a sentence; None where there is.
    """

    data: pd.DataFrame
    num_trials: int
    num_bare: int
    left_out: dict[str, str]
    metric: Metric = TOP1
    why_not: str | None = None


def fewest_trials(num_parameters: int) -> int:
    """The finished trials below which no importance is estimated: ten, and two a parameter."""
    return max(10, 2 * num_parameters)


def importance(export: StudyExport) -> Importance:
    """The importance of each parameter that all finished trials have and that varies among them.

    fANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014) as Optuna computes it, main effects only and not scaled to a sum
    of one: the rest is interactions. Parameters drawn on a logarithmic scale are measured on it. Trials that were
    pruned have no final score and do not count. The range over forests shows how steady the estimate is on these
    trials, not how it would be on others.
    """
    finished = export.trials[export.trials["status"] == "finished"].set_index("trial")
    trials = finished[finished.index.isin(with_operator(export))]
    num_bare = len(finished) - len(trials)
    reasons = {parameter.name: _unusable(parameter, trials.index.tolist()) for parameter in export.space.parameters}
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    usable = [parameter for parameter in export.space.parameters if parameter.name not in left_out]
    metric = export.metric
    why_not = _too_little(len(trials), len(usable), trials[metric.name], metric)
    if why_not is not None:
        return Importance(pd.DataFrame(columns=IMPORTANCE_COLUMNS), len(trials), num_bare, left_out, metric, why_not)
    scores = trials[metric.name].to_numpy()
    forests = pd.DataFrame([_fanova(usable, trials.index, scores, seed) for seed in range(NUM_FORESTS)])
    draw = np.random.default_rng(0)
    shuffled = [_fanova(usable, trials.index, draw.permutation(scores), seed) for seed in range(NUM_SHUFFLES)]
    data = pd.DataFrame(
        {
            "parameter": forests.columns,
            "importance": forests.mean().to_numpy(),
            "low": forests.min().to_numpy(),
            "high": forests.max().to_numpy(),
            "noise": float(pd.DataFrame(shuffled).to_numpy().max()),
        }
    )
    data = data.sort_values(["importance", "parameter"], ascending=[False, True], ignore_index=True)
    return Importance(data, len(trials), num_bare, left_out, metric)


def _unusable(parameter: Parameter, finished: Sequence[int]) -> str | None:
    having = [number for number in finished if number in parameter.drawn]
    if len(having) < len(finished):
        return f"only {len(having)} of {len(finished)} finished trials have it"
    if parameter.distribution is None:
        return "it was drawn from distributions of different kinds"
    if len({repr(parameter.drawn[number]) for number in having}) < 2:
        return "it has one value in all finished trials"
    return None


def _too_little(num_trials: int, num_parameters: int, scores: "pd.Series[float]", metric: Metric) -> str | None:
    fewest = fewest_trials(num_parameters)
    if num_trials < fewest:
        finished = plural(num_trials, "finished trial")
        return f"Too few trials to estimate importance: {finished} with an operator plugged in, of {fewest} needed."
    if num_parameters < 2:
        return f"Importance compares two parameters or more; {num_parameters} varies among all finished trials."
    if scores.nunique() < 2:
        return f"All finished trials have the same {metric.noun}: no variance to explain."
    return None


def _fanova(parameters: Sequence[Parameter], numbers: Iterable[int], scores: Any, seed: int) -> Mapping[str, float]:
    """The fraction of the variance that each parameter explains, from one forest; by name, in the order given."""
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.trial import create_trial

    from tadaconv.study.pruning import in_memory

    study = in_memory("importance", TOP1)  # the direction has no effect
    drawn = {parameter.name: _drawn(parameter) for parameter in parameters}
    for number, value in zip(numbers, scores, strict=True):
        study.add_trial(
            create_trial(
                params={name: values[number] for name, (_, values) in drawn.items()},
                distributions={name: distribution for name, (distribution, _) in drawn.items()},
                value=float(value),
            )
        )
    importances = FanovaImportanceEvaluator(n_trees=32, seed=seed).evaluate(study)
    return {name: importances[name] for name in drawn}


def _drawn(parameter: Parameter) -> "tuple[BaseDistribution, dict[int, Any]]":
    """The distribution and the values a forest sees.

    These are logarithms where the parameter is drawn on that scale, and positions among the choices of a categorical
    one: of tuples, JSON has made lists.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, json_to_distribution

    whole = json_to_distribution(json.dumps(parameter.distribution))
    if isinstance(whole, CategoricalDistribution):
        place = {json.dumps(choice): i for i, choice in enumerate(whole.choices)}
        positions = CategoricalDistribution(list(place.values()))
        return positions, {n: place[json.dumps(value)] for n, value in parameter.drawn.items()}
    if getattr(whole, "log", False):
        low, high = log(whole.low), log(whole.high)  # type: ignore[attr-defined]
        return FloatDistribution(low, high), {n: log(value) for n, value in parameter.drawn.items()}
    return whole, parameter.drawn


def sentences(result: Importance) -> list[str]:
    """The importances in words, with what is left out of them."""
    left_out = {name: f"as {why}" for name, why in result.left_out.items()}
    if result.num_bare:
        left_out = {plural(result.num_bare, "trial"): "with nothing plugged in", **left_out}
    notes = [f"Left out: {name}, {why}." for name, why in left_out.items()]
    if result.why_not is not None:
        return [result.why_not, *notes]
    noun, data = result.metric.noun, result.data
    above = data[data["importance"] > data["noise"]]["parameter"].tolist()
    names = listed(above) if above else "none"
    interactions = max(0.0, 1 - float(data["importance"].sum()))
    return [
        f"Parameters that explain more of the {noun} than noise, in {result.num_trials} finished trials: {names}.",
        f"About {100 * interactions:.0f} % of the variance of the fitted forests is due to interactions of parameters"
        + (", a rough estimate from so few trials." if result.num_trials < 50 else "."),
        *notes,
    ]
