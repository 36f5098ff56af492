"""What became of the best trials on seeds that the search had not seen."""

from typing import Any

import pandas as pd

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export, Manifest, ReportedRow
from tadaconv.reporting.ablation.summary import scores_by_seed, summarise
from tadaconv.reporting.core import statistics as st
from tadaconv.reporting.core.format import difference, score
from tadaconv.reporting.study.data import StudyExport
from tadaconv.reporting.study.text import called
from tadaconv.text import listed, plural


def confirmation_data(export: StudyExport) -> pd.DataFrame:
    """One line a trial that was run on new seeds, the best in the search first, the base last.

    Columns: trial, name, base, best (in the search, by now), first, what, searched (score in the search; NaN for a
    trial that has not finished there), num_seeds (behind it), change (new seeds - search), then of
    :func:`.summary.summarise`, from the new seeds alone: n, num_planned, num_failed, top1_mean,
    top1_low, top1_high, covers, standing, and delta_mean, delta_low, delta_high, num_pairs and other_seeds, which
    compare with the base in pairs by seed and are not known where the base has not been run on new seeds.
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
        # Its own name says that a row is compared with none.
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
    return Export(manifest, export.confirmation.assign(row=numbers.map(str)), none, none, none, none, none)


def confirmation_sentences(export: StudyExport) -> list[str]:
    """How far the picked fell, and whether the best of them still stands above base and second: a paragraph each."""
    data = confirmation_data(export)
    picked = data[~data["base"]]
    found = _fall(data, export.metric)
    if len(picked) and picked[export.metric.column("mean")].notna().any():
        found.append(" ".join(_standing(export, data)))
    return found


def late_best(export: StudyExport) -> str | None:
    """That the best by now came after those that were confirmed; None where it is among them."""
    best = export.trials[export.trials["best"] & ~export.trials["trial"].isin(export.confirmation["trial"])]
    for trial in best.to_dict("records"):
        return (
            f"{called(trial)}, the best by now at {export.metric.in_words(trial[export.metric.name])}, is not among "
            "them: it came out best after they were picked. To run it as well:"
        )
    return None


def _fall(data: pd.DataFrame, metric: Metric) -> list[str]:
    """The winner's curse, as far as it shows: what the search saw, and what new seeds came to, over the same trials."""
    mean = metric.column("mean")
    both = data.dropna(subset=["searched", mean])
    picked = both[~both["base"]]
    if picked.empty:
        return []
    loss = -metric.sign * float(picked["change"].mean())
    by, more, less = metric.of_difference(score(abs(loss), metric)), *_more_and_less(metric)
    who = "The trial that was picked" if len(picked) == 1 else f"The {len(picked)} trials that were picked"
    averaged = "" if len(picked) == 1 else " on average"
    opening = f"{who} had {metric.in_words(picked['searched'].mean())}{averaged} in the search and"
    came = f"{metric.in_words(picked[mean].mean())}{averaged} on new seeds"
    if round(-loss, metric.decimals) < 0:
        said = (
            f"{opening} {came}, {by} {less}. A {'fall' if metric.higher_is_better else 'rise'} is to be expected, the "
            f"winner\u2019s curse: what is picked for its {metric.noun} was lucky as well as good, and new seeds do "
            "not repeat the luck."
        )
    else:
        how = "as much" if round(loss, metric.decimals) == 0 else f"{by} {more}"
        said = f"{opening} {came}, {how}: no winner\u2019s curse shows here."
    base = both[both["base"]].to_dict("records")
    if base:
        ((one),) = base
        said += (
            f" The base, which was not picked for its {metric.noun}, went from {metric.in_words(one['searched'])} to "
            f"{metric.in_words(one[mean])}."
        )
    return [said]


def _standing(export: StudyExport, data: pd.DataFrame) -> list[str]:
    """The search's favourite against the base and the second, and what is highest on new seeds."""
    picked = data[~data["base"]].to_dict("records")
    base = data[data["base"]].to_dict("records")
    favourite, *others = picked
    metric = export.metric
    scores = scores_by_seed(as_table(export, data))
    found = [_compared(scores, favourite, each, "the base", metric) for each in base]
    found += [_compared(scores, favourite, each, f"{each['name']}, the second", metric) for each in others[:1]]
    opening = "the best of them in the search" if others else "the best in the search beside the base"
    found[:1] = [f"{called(favourite)}, {opening}, {said}" for said in found[:1]]
    found[1:] = [f"It {said}" for said in found[1:]]
    return [*found, *_highest(data, metric)]


def _compared(scores: pd.DataFrame, one: dict[Any, Any], other: dict[Any, Any], called_: str, metric: Metric) -> str:
    """``stands above the base on new seeds, by ...``: the mean difference in pairs, and what its interval says."""
    found = st.t_interval((scores.loc[str(one["trial"])] - scores.loc[str(other["trial"])]).dropna())
    if found.n == 0:
        return f"cannot be compared with {called_}: they have no new seed with a result in common."
    by = f"{metric.of_difference(difference(found.mean, metric))} in {plural(found.n, 'pair')} of new seeds"
    with_interval = f"{by}, 95 % interval {difference(found.low, metric)} to {difference(found.high, metric)}"
    better, worse = (found.low > 0, found.high < 0) if metric.higher_is_better else (found.high < 0, found.low > 0)
    if better:
        return f"still stands {metric.beyond} {called_}: {with_interval}."
    if worse:
        return f"now stands {metric.short_of} {called_}: {with_interval}."
    if found.low == found.low:
        return f"cannot be told from {called_}: {with_interval}."
    why = "one pair cannot tell" if found.n == 1 else "without a spread nothing can be tested"
    return f"is not shown to stand {metric.beyond} {called_}: {by}, and {why}."


def _more_and_less(metric: Metric) -> tuple[str, str]:
    """How a better and a worse score is called, as a quantity."""
    return ("more", "less") if metric.higher_is_better else ("less", "more")


def _highest(data: pd.DataFrame, metric: Metric) -> list[str]:
    """Which is best on new seeds, and what it can be told from."""
    marked = data[data["standing"].isin(["best", "tie"])].sort_values(
        [metric.column("mean"), "trial"], ascending=[not metric.higher_is_better, True]
    )
    if marked.empty:
        return []
    top, *ties = marked["name"].tolist()
    opening = f"{metric.superlative.capitalize()} on new seeds is {top}"
    if (marked["standing"] == "best").any():
        return [f"{opening}, significantly {metric.beyond} each of the others."]
    if not ties:
        return [f"{opening}, which is not significantly {metric.beyond} all of the others."]
    return [f"{opening}; these seeds cannot tell it from {listed(ties)}."]


def confirmation_notes(data: pd.DataFrame, metric: Metric = TOP1) -> list[str]:
    """What the numbers of the table cover, as far as they are in it."""
    covers = set(data["covers"])
    found = []
    if "seeds" in covers:
        found.append("Brackets on new seeds: 95 % interval of the mean over seeds.")
    if "clips" in covers:
        found.append(
            "Brackets behind one new seed: 95 % interval over the validation clips, for this one trained network."
        )
    if (data["num_pairs"] > 1).any():
        found.append(
            "Against base: mean of the differences in pairs, each from one new seed, with its 95 % interval. Each "
            "interval errs one time in twenty; they are not adjusted for their number."
        )
    if data["other_seeds"].any():
        found.append("Where pairs are counted, trial or base has a result of other new seeds as well, left out there.")
    if (data["standing"] == "best").any():
        found.append(f"Bold: significantly {metric.beyond} each of the others (t test in pairs, 5 %, Holm).")
    elif (data["standing"] == "tie").any():
        found.append(
            f"Underlined: the {metric.superlative}, and what is not significantly {metric.short_of} it (t test in "
            "pairs, 5 %, Holm)."
        )
    if (data["num_failed"] > 0).any():
        found.append("Cells that failed are counted and enter no mean.")
    return found
