"""The sentences of a study's report: the statuses of its trials, the best of them, and its bias by selection."""

from math import isnan, sqrt
from typing import Any

import pandas as pd

from tadaconv.metrics import Metric
from tadaconv.reporting.core.export import Listing, ends_of
from tadaconv.reporting.core.format import MINUS, count_scale, difference, scaled, score
from tadaconv.reporting.core.text import first_line
from tadaconv.reporting.study.data import StudyExport, StudyManifest, counts
from tadaconv.reporting.study.selection import expected_maximum, seed_sd
from tadaconv.text import listed, plural


def title(manifest: StudyManifest) -> str:
    """The question of the study in one line."""
    return first_line(manifest.question) or manifest.study


def listing(export: StudyExport) -> Listing:
    """The entry of this report on the page of all reports."""
    manifest, trials, metric = export.manifest, export.trials, export.metric
    num_finished = int((trials["status"] == "finished").sum())
    best = trials[trials["best"]].to_dict("records")
    return Listing(
        kind="study",
        name=manifest.study,
        regime=manifest.regime,
        title=title(manifest),
        ran=what_became(trials, manifest.num_infeasible),
        findings=[
            f"Best of {plural(num_finished, 'finished trial')}: {trial['name']}, {metric.in_words(trial[metric.name])}."
            for trial in best
        ],
        **ends_of(manifest.cells),
    )


def what_became(trials: pd.DataFrame, num_infeasible: int | None = None) -> str:
    """How many trials there are, and how they ended, as ``12 trials: 8 finished and 4 pruned``.

    ``num_infeasible`` draws could not be run and are no trials; None where this is not recorded.
    """
    by_status = counts(trials)
    if not by_status:
        return "No trials yet."
    text = f"{plural(len(trials), 'trial')}: {listed([f'{n} {status}' for status, n in by_status.items()])}."
    if not num_infeasible:
        return text
    return f"{text} Not counted: {plural(num_infeasible, 'draw')} infeasible in this regime."


def best_sentences(export: StudyExport) -> list[str]:
    """The best configuration in words, and how it compares with the base; empty while none has finished."""
    trials, metric = export.trials, export.metric
    if not trials["best"].any():
        return []
    finished = trials[trials["status"] == "finished"]
    best = trials[trials["best"]].to_dict("records")[0]
    cost = "" if pd.isna(best["macs"]) else f" at {macs_in_words(best['macs'])} multiply-adds per clip"
    sentences = [
        f"{called(best)} is the best of {plural(len(finished), 'finished trial')}: "
        f"{metric.in_words(best[metric.name])}{cost}, {over_seeds(best['num_seeds'])}."
    ]
    equal = finished[(finished[metric.name] == best[metric.name]) & ~finished["best"]]["name"].tolist()
    if equal:
        sentences.append(f"Equally good: {listed(equal)}.")
    if best["base"]:
        return [*sentences, "It is the base of the study."]
    sentences.append(f"Compared with the base of the study: {best['what']}.")
    bases = finished[finished["base"]].to_dict("records")
    return sentences + ([_to_base(best, base, metric) for base in bases] or ["The base itself has not finished."])


def called(trial: dict[Any, Any]) -> str:
    """The name of a trial at the start of a sentence."""
    name = str(trial["name"])
    return f"\u201c{name}\u201d" if trial["first"] else name[:1].upper() + name[1:]


def over_seeds(num_seeds: int) -> str:
    """``from one seed``, ``mean of 3 seeds``."""
    return "from one seed" if num_seeds == 1 else f"mean of {plural(num_seeds, 'seed')}"


def macs_in_words(macs: int) -> str:
    """``10.31 M``."""
    unit, name = count_scale([macs])
    return f"{scaled(int(macs), unit)} {name}".rstrip()


def _to_base(best: dict[Any, Any], base: dict[Any, Any], metric: Metric) -> str:
    """``Difference to “base” (60.0 %, from one seed): +2.5 points, -4.1 % multiply-adds``."""
    gain = metric.of_difference(difference(best[metric.name] - base[metric.name], metric))
    change = 100 * (best["macs"] / base["macs"] - 1)
    cost = "" if pd.isna(change) else f", {f'{change:+.2g}'.replace('-', MINUS)} % multiply-adds"
    its = f"{metric.in_words(base[metric.name])}, {over_seeds(base['num_seeds'])}"
    return f"Difference to \u201c{base['name']}\u201d ({its}): {gain}{cost}."


BIASED = "optimistically biased by selection (winner\u2019s curse)"
"""What the score of the best of many is."""


def warning(export: StudyExport) -> str:
    """That the score of the best of many is biased, and by how much, as far as the study allows an estimate."""
    finished = export.trials[export.trials["status"] == "finished"]
    number, metric = len(finished), export.metric
    opening = f"The {metric.noun} of the best of many trials is {BIASED}."
    if number < 2:
        return opening
    expected, sd = expected_maximum(number), seed_sd(export.cells, metric)
    if isnan(sd):
        opening += " Trials of one seed do not show by how much."
        sd, num_seeds, source = metric.difference, 1, f"an assumed {metric.difference_in_words}"
    else:
        num_seeds = max(int(finished["num_seeds"].median()), 1)
        source = f"{metric.of_difference(score(sd, metric))} here"
    bias = metric.of_difference(score(expected * sd / sqrt(num_seeds), metric))
    return (
        f"{opening} With a standard deviation between seeds of {source}, the best of {number} equally good trials "
        f"is overestimated by about {bias}."
    )
