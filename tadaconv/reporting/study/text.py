"""What the report of a study says in words: what became of its trials, which is best, and how far to believe it."""

from math import sqrt
from typing import Any

import pandas as pd

from tadaconv.metrics import Metric
from tadaconv.reporting.core.export import Listing, ends_of
from tadaconv.reporting.core.format import count_scale, scaled, score
from tadaconv.reporting.core.text import first_line
from tadaconv.reporting.study.data import StudyExport, StudyManifest, counts
from tadaconv.reporting.study.selection import expected_maximum, seed_sd
from tadaconv.text import listed, plural


def title(manifest: StudyManifest) -> str:
    """The question of the study in one line."""
    return first_line(manifest.question) or manifest.study


def listing(export: StudyExport) -> Listing:
    """What the page of all reports says of this one."""
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
            f"Best of {num_finished} that finished: {each['name']}, {metric.in_words(each[metric.name])}."
            for each in best
        ],
        **ends_of(manifest.cells),
    )


def what_became(trials: pd.DataFrame, num_infeasible: int | None = None) -> str:
    """How many trials there are, and how they ended: ``12 trials: 8 finished, 4 pruned`` and so on.

    ``num_infeasible`` are the draws that could not be run, which are no trials; None where nobody knows.
    """
    found = counts(trials)
    if not found:
        return "No trials yet."
    said = f"{plural(len(trials), 'trial')}: {listed([f'{n} {status}' for status, n in found.items()])}."
    if not num_infeasible:
        return said
    were, are = ("was", "is no trial") if num_infeasible == 1 else ("were", "are no trials")
    return f"{said} {plural(num_infeasible, 'draw')} {were} infeasible in this regime, and {are}."


def best_sentences(export: StudyExport) -> list[str]:
    """The best configuration in words, and how it stands to the base of the study; empty while none has finished."""
    trials, metric = export.trials, export.metric
    if not trials["best"].any():
        return []
    finished = trials[trials["status"] == "finished"]
    best = trials[trials["best"]].to_dict("records")[0]
    cost = "" if pd.isna(best["macs"]) else f" at {macs_in_words(best['macs'])} multiply-adds a clip"
    of = "the only trial that finished" if len(finished) == 1 else f"the best of {len(finished)} that finished"
    found = [f"{called(best)} is {of}: {metric.in_words(best[metric.name])}{cost}, {over_seeds(best['num_seeds'])}."]
    equal = finished[(finished[metric.name] == best[metric.name]) & ~finished["best"]]["name"].tolist()
    if equal:
        found.append(f"{listed(equal)} came out equal.")
    bases = finished[finished["base"]].to_dict("records")
    if best["base"]:
        found.append(f"It is the base of the study: nothing that was tried came out {metric.beyond} it.")
    else:
        found.append(f"Against the base of the study: {best['what']}.")
        found += [_to_base(best, base, metric) for base in bases] or [
            "The base itself has no finished trial to compare with."
        ]
    return found


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
    gain = metric.sign * (best[metric.name] - base[metric.name])
    by = metric.of_difference(score(gain, metric))
    above = "level with" if round(gain, metric.decimals) == 0 else f"{by} {metric.beyond}"
    cost = ""
    if not (pd.isna(best["macs"]) or pd.isna(base["macs"])) and best["macs"] != base["macs"]:
        change = 100 * (best["macs"] / base["macs"] - 1)
        cost = f", at {abs(change):.2g} % {'more' if change > 0 else 'fewer'} multiply-adds"
    its = f"{metric.in_words(base[metric.name])}, {over_seeds(base['num_seeds'])}"
    return f"It lies {above} \u201c{base['name']}\u201d ({its}){cost}."


def biased(metric: Metric) -> str:
    """In which direction luck shifts the best: *upwards* where higher is better."""
    return "upwards" if metric.higher_is_better else "downwards"


def too_good(metric: Metric) -> str:
    """What the best of many is too much of: too *high* where higher is better."""
    return "high" if metric.higher_is_better else "low"


def warning(export: StudyExport) -> str:
    """That the best of many was lucky, and by how much as far as the study can tell."""
    finished = export.trials[export.trials["status"] == "finished"]
    number, metric = len(finished), export.metric
    opening = f"The best of many trials is in part the luckiest: its {metric.noun} is biased {biased(metric)}."
    if number < 2:
        return opening
    lift, sd = expected_maximum(number), seed_sd(export.cells, metric)
    if sd == sd:
        num_seeds = int(finished["num_seeds"].median())
        return (
            f"{opening} Seeds of one trial vary by {metric.of_difference(score(sd, metric))} here (standard "
            f"deviation); were all {number} finished trials equally good, the best of them would still come out about "
            f"{metric.of_difference(score(lift * sd / sqrt(max(num_seeds, 1)), metric))} too {too_good(metric)}."
        )
    return (
        f"{opening} Trials of one seed cannot tell by how much. Where seeds vary by "
        f"{metric.difference_in_words} (standard deviation), the best of {number} equally good trials comes out about "
        f"{metric.of_difference(score(lift * metric.difference, metric))} too {too_good(metric)}."
    )
