"""The best trials of the search, on new seeds."""

from math import isnan
from typing import Any

import pandas as pd

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export, Manifest, ReportedRow
from tadaconv.reporting.ablation.summary import summarise
from tadaconv.reporting.core.format import difference
from tadaconv.reporting.study.data import StudyExport
from tadaconv.reporting.study.text import BIASED, called
from tadaconv.text import listed, plural


def confirmation_data(export: StudyExport) -> pd.DataFrame:
    """One line per trial that was run on new seeds, the best in the search first, the base last.

    Columns: trial, name, base, best (in the search, by now), first, what, searched (score in the search; NaN for a
    trial that has not finished there), num_seeds (behind it), change (new seeds - search), then of
    :func:`.summary.summarise`, from the new seeds alone: n, num_planned, num_failed, top1_mean,
    top1_low, top1_high, covers, standing, and delta_mean, delta_low, delta_high, num_pairs and other_seeds, which
    compare with the base in pairs by seed and are unknown where the base has not been run on new seeds.
    """
    metric = export.metric
    mean = metric.column("mean")
    compared = [
        "n", "num_planned", "num_failed", mean, metric.column("low"), metric.column("high"), "covers", "standing",
        "delta_mean", "delta_low", "delta_high", "num_pairs", "other_seeds",
    ]  # fmt: skip
    kept = export.trials["trial"].isin(export.confirmation["trial"].unique())
    trials = export.trials[kept].rename(columns={metric.name: "searched"})
    ascending = [True, not metric.higher_is_better, True]
    trials = trials.sort_values(["base", "searched", "trial"], ascending=ascending, na_position="last")
    data = trials[["trial", "name", "base", "best", "first", "what", "searched", "num_seeds"]].reset_index(drop=True)
    if data.empty:
        return data.reindex(columns=[*data.columns, "change", *compared])
    summary = summarise(as_table(export, data))
    assert summary["row"].tolist() == data["trial"].map(str).tolist(), "one row a trial, in their order"
    data = data.join(summary[compared])
    return data.assign(change=data[mean] - data["searched"])


def as_table(export: StudyExport, trials: pd.DataFrame) -> Export:
    """The cells from new seeds as the export of a table, whose rows are called by the numbers of ``trials``."""
    names = trials["trial"].map(str).tolist()
    bases = [name for name, base in zip(names, trials["base"], strict=True) if base]
    numbers = export.confirmation["trial"]
    manifest = Manifest(
        metric=export.manifest.metric,
        table=export.manifest.study,
        question="",
        regime=export.manifest.regime,
        base=bases[0] if bases else names[0],
        # A row with its own name here is not compared.
        rows=[ReportedRow(name=name, paper=None, versus=None if bases else name) for name in names],
        claims=[],
        seeds=sorted(export.confirmation["seed"].unique().tolist()),
        families=[],
        conditions={},
        cells=[
            cell.model_copy(update={"row": str(number)})
            for number, cell in zip(numbers, export.manifest.confirmed, strict=True)
        ],
    )
    none = pd.DataFrame()
    return Export(manifest, export.confirmation.assign(row=numbers.map(str)), none, none, none, none, none, none)


def confirmation_sentences(export: StudyExport) -> list[str]:
    """The scores of the search and of new seeds compared, and the best trial of the search with the base."""
    data, metric = confirmation_data(export), export.metric
    mean = metric.column("mean")
    known = data.dropna(subset=["searched", mean])
    sentences = []
    for is_base, trials in known.groupby("base"):
        name = "The base, which was not selected" if is_base else f"Mean of {plural(len(trials), 'selected trial')}"
        searched, new = (metric.in_words(trials[column].mean()) for column in ("searched", mean))
        change = metric.of_difference(difference(trials["change"].mean(), metric))
        sentences.append(f"{name}: {searched} in the search, {new} on new seeds, a difference of {change}.")
    if not known["base"].all():
        sentences.insert(0, f"The {metric.noun} of a selected trial in the search is {BIASED}.")
    best = next(iter(data[~data["base"]].to_dict("records")), None)
    if best is not None and best["num_pairs"] > 0:
        sentences.append(f"{called(best)}, the best in the search, {_against_base(best, metric)}")
    return [*sentences, *_best_on_new_seeds(data, metric)]


def late_best(export: StudyExport) -> str | None:
    """That the best trial came after those that were confirmed; None where it is among them."""
    best = export.trials[export.trials["best"] & ~export.trials["trial"].isin(export.confirmation["trial"])]
    if best.empty:
        return None
    trial, metric = best.to_dict("records")[0], export.metric
    return (
        f"{called(trial)}, now the best at {metric.in_words(trial[metric.name])}, is not among them. To run it as well:"
    )


def _against_base(trial: dict[Any, Any], metric: Metric) -> str:
    """``significantly better than the base: +6.0 points in 3 pairs, ...``, from the mean paired difference."""
    by = f"{metric.of_difference(difference(trial['delta_mean'], metric))} in {plural(trial['num_pairs'], 'pair')}"
    if isnan(trial["delta_low"]):
        return f"compared with the base: {by} of new seeds, no interval (one pair, or equal differences)."
    low, high = sorted(metric.sign * trial[end] for end in ("delta_low", "delta_high"))
    verdict = "significantly better than" if low > 0 else "significantly worse than" if high < 0 else "compared with"
    ends = " to ".join(difference(trial[end], metric) for end in ("delta_low", "delta_high"))
    return f"{verdict} the base: {by} of new seeds, 95 % interval {ends}."


def _best_on_new_seeds(data: pd.DataFrame, metric: Metric) -> list[str]:
    """Which is best on new seeds, and which are not significantly different from it."""
    marked = data[data["standing"].isin(["best", "tie"])].sort_values(
        [metric.column("mean"), "trial"], ascending=[not metric.higher_is_better, True]
    )
    if marked.empty:
        return []
    top, *ties = marked["name"].tolist()
    verdict = f"significantly {metric.beyond} all others"
    if not (marked["standing"] == "best").any():
        verdict = f"not significantly different from {listed(ties)}" if ties else f"not {verdict}"
    return [f"The {metric.superlative} {metric.noun} on new seeds: {top}, {verdict}."]


def confirmation_notes(data: pd.DataFrame, metric: Metric = TOP1) -> list[str]:
    """What the numbers of the table cover, as far as they are in it."""
    is_best, is_tied = ((data["standing"] == standing).any() for standing in ("best", "tie"))
    test = "(paired t test, 5 %, Holm)"
    notes = {
        "Brackets on new seeds: 95 % interval of the mean over seeds.": (data["covers"] == "seeds").any(),
        "Brackets for one new seed: 95 % interval over the validation clips, for this one trained network.": (
            (data["covers"] == "clips").any()
        ),
        "Against base: mean of the paired differences, a pair a new seed, with its 95 % interval, not adjusted for the "
        "number of comparisons.": (data["num_pairs"] > 1).any(),
        "Where pairs are counted, seeds that trial and base do not share are left out.": data["other_seeds"].any(),
        f"Bold: significantly {metric.beyond} all others {test}.": is_best,
        f"Underlined: the {metric.superlative}, and those not significantly {metric.short_of} it {test}.": (
            is_tied and not is_best
        ),
        "Failed cells are counted, and are in no mean.": (data["num_failed"] > 0).any(),
    }
    return [note for note, applies in notes.items() if applies]
