"""What became of the best trials on seeds that the search had not seen."""

from typing import Any

import pandas as pd

from tadaconv.reporting.ablation.data import Export, Manifest, ReportedRow
from tadaconv.reporting.ablation.summary import scores_by_seed, summarise
from tadaconv.reporting.core import statistics as st
from tadaconv.reporting.core.format import percent, points
from tadaconv.reporting.study.data import StudyExport
from tadaconv.reporting.study.text import called
from tadaconv.text import listed, plural

_BESIDE = [
    "n", "num_planned", "num_failed", "top1_mean", "top1_low", "top1_high", "covers", "standing", "delta_mean",
    "delta_low", "delta_high", "num_pairs", "other_seeds",
]  # fmt: skip


def confirmation_data(export: StudyExport) -> pd.DataFrame:
    """One line a trial that was run on new seeds, the most accurate in the search first, the base last.

    Columns: trial, name, base, best (in the search, by now), first, what, searched (top-1 in the search, %; NaN for a
    trial that has not finished there), num_seeds (behind it), change (points, new seeds - search), then of
    :func:`.summary.summarise`, from the new seeds alone: n, num_planned, num_failed, top1_mean,
    top1_low, top1_high, covers, standing, and delta_mean, delta_low, delta_high, num_pairs and other_seeds, which
    compare with the base in pairs by seed and are not known where the base has not been run on new seeds.
    """
    kept = export.trials["trial"].isin(export.confirmation["trial"].unique())
    trials = export.trials[kept].rename(columns={"top1": "searched"})
    trials = trials.sort_values(["base", "searched", "trial"], ascending=[True, False, True], na_position="last")
    data = trials[["trial", "name", "base", "best", "first", "what", "searched", "num_seeds"]].reset_index(drop=True)
    if data.empty:
        return data.reindex(columns=[*data.columns, "change", *_BESIDE])
    summary = summarise(as_table(export, data))
    assert summary["row"].tolist() == data["trial"].map(str).tolist(), "one row a trial, in their order"
    data = data.join(summary[_BESIDE])
    return data.assign(change=data["top1_mean"] - data["searched"])


def as_table(export: StudyExport, trials: pd.DataFrame) -> Export:
    """The cells from new seeds as the export of a table, whose rows are called by the numbers of ``trials``."""
    names = trials["trial"].map(str).tolist()
    bases = [name for name, base in zip(names, trials["base"], strict=True) if base]
    numbers = export.confirmation["trial"]
    manifest = Manifest(
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
    found = _fall(data)
    if len(picked) and picked["top1_mean"].notna().any():
        found.append(" ".join(_standing(export, data)))
    return found


def late_best(export: StudyExport) -> str | None:
    """That the best by now came after those that were confirmed; None where it is among them."""
    best = export.trials[export.trials["best"] & ~export.trials["trial"].isin(export.confirmation["trial"])]
    for trial in best.to_dict("records"):
        return (
            f"{called(trial)}, the best by now at {percent(trial['top1'])} %, is not among them: it came out best "
            "after they were picked. To run it as well:"
        )
    return None


def _fall(data: pd.DataFrame) -> list[str]:
    """The winner's curse, as far as it shows: what the search saw, and what new seeds came to, over the same trials."""
    both = data.dropna(subset=["searched", "top1_mean"])
    picked = both[~both["base"]]
    if picked.empty:
        return []
    change = float(picked["change"].mean())
    who = "The trial that was picked" if len(picked) == 1 else f"The {len(picked)} trials that were picked"
    mean = "" if len(picked) == 1 else " on average"
    opening = f"{who} had {percent(picked['searched'].mean())} %{mean} in the search and"
    came = f"{percent(picked['top1_mean'].mean())} %{mean} on new seeds"
    if round(change, 1) < 0:
        said = (
            f"{opening} {came}, {abs(change):.1f} points less. A fall is to be expected, the winner\u2019s curse: what "
            "is picked for its accuracy was lucky as well as good, and new seeds do not repeat the luck."
        )
    else:
        how = "as much" if round(change, 1) == 0 else f"{change:.1f} points more"
        said = f"{opening} {came}, {how}: no winner\u2019s curse shows here."
    base = both[both["base"]].to_dict("records")
    if base:
        ((one),) = base
        said += (
            f" The base, which was not picked for its accuracy, went from {percent(one['searched'])} % to "
            f"{percent(one['top1_mean'])} %."
        )
    return [said]


def _standing(export: StudyExport, data: pd.DataFrame) -> list[str]:
    """The search's favourite against the base and the second, and what is highest on new seeds."""
    picked = data[~data["base"]].to_dict("records")
    base = data[data["base"]].to_dict("records")
    favourite, *others = picked
    scores = scores_by_seed(as_table(export, data))
    found = [_compared(scores, favourite, each, "the base") for each in base]
    found += [_compared(scores, favourite, each, f"{each['name']}, the second") for each in others[:1]]
    opening = "the best of them in the search" if others else "the best in the search beside the base"
    found[:1] = [f"{called(favourite)}, {opening}, {said}" for said in found[:1]]
    found[1:] = [f"It {said}" for said in found[1:]]
    return [*found, *_highest(data)]


def _compared(scores: pd.DataFrame, one: dict[Any, Any], other: dict[Any, Any], called_: str) -> str:
    """``stands above the base on new seeds, by ...``: the mean difference in pairs, and what its interval says."""
    found = st.t_interval((scores.loc[str(one["trial"])] - scores.loc[str(other["trial"])]).dropna())
    if found.n == 0:
        return f"cannot be compared with {called_}: they have no new seed with a result in common."
    by = f"{points(found.mean)} points in {plural(found.n, 'pair')} of new seeds"
    if found.low > 0:
        return f"still stands above {called_}: {_with_interval(by, found)}."
    if found.high < 0:
        return f"now stands below {called_}: {_with_interval(by, found)}."
    if found.low == found.low:
        return f"cannot be told from {called_}: {_with_interval(by, found)}."
    why = "one pair cannot tell" if found.n == 1 else "without a spread nothing can be tested"
    return f"is not shown to stand above {called_}: {by}, and {why}."


def _with_interval(by: str, found: st.Interval) -> str:
    return f"{by}, 95 % interval {points(found.low)} to {points(found.high)}"


def _highest(data: pd.DataFrame) -> list[str]:
    """Which is highest on new seeds, and what it can be told from."""
    marked = data[data["standing"].isin(["best", "tie"])].sort_values(["top1_mean", "trial"], ascending=[False, True])
    if marked.empty:
        return []
    top, *ties = marked["name"].tolist()
    if (marked["standing"] == "best").any():
        return [f"Highest on new seeds is {top}, significantly above each of the others."]
    if not ties:
        return [f"Highest on new seeds is {top}, which is not significantly above all of the others."]
    return [f"Highest on new seeds is {top}; these seeds cannot tell it from {listed(ties)}."]


def confirmation_notes(data: pd.DataFrame) -> list[str]:
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
        found.append("Bold: significantly above each of the others (t test in pairs, 5 %, Holm).")
    elif (data["standing"] == "tie").any():
        found.append("Underlined: the highest, and what is not significantly below it (t test in pairs, 5 %, Holm).")
    if (data["num_failed"] > 0).any():
        found.append("Cells that failed are counted and enter no mean.")
    return found
