"""Which parameters the score hangs on: fANOVA over the finished trials, beside what noise alone would give."""

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
    from optuna import Study
    from optuna.distributions import BaseDistribution

NUM_FORESTS = 10
"""Random forests that the importance is read from; they differ in their seed alone."""

NUM_SHUFFLES = 19
"""Times the scores are dealt out anew; noise lifts any parameter above all of them 1 time in 20."""

IMPORTANCE_COLUMNS = ["parameter", "importance", "low", "high", "noise"]


@dataclass(frozen=True)
class Importance:
    """What fANOVA found.

    Attributes:
        data: a line a parameter, ``IMPORTANCE_COLUMNS``, the most important first. ``importance`` is the share of the
            variance of the score over the space that the parameter explains by itself: the mean over ``NUM_FORESTS``
            forests, with the ``low``est and the ``high``est of them. ``noise`` is the most that any parameter came to
            over ``NUM_SHUFFLES`` random orders of the scores, in which nothing matters: one bound for all, so that
            many parameters do not make a false finding likelier. Empty where ``why_not`` says so.
        num_trials: finished trials behind it.
        num_bare: finished trials that plug nothing in; their parameters mean nothing, and they are left out.
        left_out: by parameter, why it is not among them.
        metric: what the trials are judged by.
        why_not: why there is no importance, in a sentence; None where there is.
    """

    data: pd.DataFrame
    num_trials: int
    num_bare: int
    left_out: dict[str, str]
    metric: Metric = TOP1
    why_not: str | None = None


def fewest_trials(num_parameters: int) -> int:
    """The finished trials below which no importance is told: ten, and two a parameter."""
    return max(10, 2 * num_parameters)


def importance(export: StudyExport) -> Importance:
    """The importance of each parameter that all finished trials have and that varies among them.

    fANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014) as Optuna computes it, main effects only and not scaled to a sum
    of one: what is left over is interactions. Parameters drawn on a logarithmic scale are measured on it. Trials that
    were pruned have no final score and do not count. The spread over forests tells how steady the estimate is on
    these trials; it says nothing of other trials.
    """
    finished = export.trials[export.trials["status"] == "finished"].set_index("trial")
    trials = finished[finished.index.isin(with_operator(export))]
    num_bare = len(finished) - len(trials)
    usable: list[Parameter] = []
    left_out: dict[str, str] = {}
    for parameter in export.space.parameters:
        reason = _unusable(parameter, trials.index.tolist())
        if reason is None:
            usable.append(parameter)
        else:
            left_out[parameter.name] = reason
    empty = pd.DataFrame(columns=IMPORTANCE_COLUMNS)
    metric = export.metric
    why_not = _too_little(len(trials), len(usable), trials[metric.name], metric)
    if why_not is not None:
        return Importance(empty, len(trials), num_bare, left_out, metric, why_not)
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
        return (
            f"{plural(num_trials, 'trial')} with something plugged in finished; it takes {fewest} to tell the "
            "importance of parameters."
        )
    if num_parameters < 2:
        return f"Importance compares two parameters or more; all finished trials share {num_parameters} that varies."
    if scores.nunique() < 2:
        return f"All finished trials have the same {metric.noun}, so there is nothing to explain."
    return None


def _fanova(parameters: Sequence[Parameter], numbers: Iterable[int], scores: Any, seed: int) -> Mapping[str, float]:
    """The share of the variance each parameter explains, from one forest; by name, in the order given."""
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.trial import create_trial

    study = _new_study()
    drawn = {parameter.name: _drawn(parameter) for parameter in parameters}
    for number, value in zip(numbers, scores, strict=True):
        study.add_trial(
            create_trial(
                params={name: values[number] for name, (_, values) in drawn.items()},
                distributions={name: distribution for name, (distribution, _) in drawn.items()},
                value=float(value),
            )
        )
    found = FanovaImportanceEvaluator(n_trees=32, seed=seed).evaluate(study)
    return {name: float(found[name]) for name in drawn}


def _new_study() -> "Study":
    """An empty study in memory, of which no log is told: nobody will look for it."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)


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


def found_in_words(found: Importance) -> list[str]:
    """What the importances say, and what they leave out."""
    if found.why_not is not None:
        return [found.why_not, *_left_out(found)]
    above = found.data[found.data["importance"] > found.data["noise"]]["parameter"].tolist()
    noun = found.metric.noun
    beyond = (
        f"{listed(above)} {'explains' if len(above) == 1 else 'explain'} more of the {noun} than noise would"
        if above
        else f"No parameter explains more of the {noun} than noise would"
    )
    few = ", as far as so few trials tell" if found.num_trials < 50 else ""
    rest = max(0.0, 1 - float(found.data["importance"].sum()))
    return [
        f"{beyond}, in {found.num_trials} finished trials.",
        f"About {100 * rest:.0f} % of the variance of the fitted forests is no single parameter\u2019s: they put it "
        f"down to how parameters act together{few}.",
        *_left_out(found),
    ]


def _left_out(found: Importance) -> list[str]:
    plug = "plugs" if found.num_bare == 1 else "plug"
    bare = (
        [f"Left out: {plural(found.num_bare, 'trial')} that {plug} nothing in, where parameters have no meaning."]
        if found.num_bare
        else []
    )
    return [*bare, *(f"Left out: {name}, as {why}." for name, why in found.left_out.items())]
