"""What stands under each figure, for readers who have never seen the code, and in place of it for those who cannot see.

The words say what is drawn and what an interval covers; they are computed from what the figure shows.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from tadaconv.reporting.core.format import listed, percent, plural, points, some
from tadaconv.reporting.core.text import by_seed, left_out_of_it, meaning_of_families, points_of_curves


def accuracy_by_row(data: pd.DataFrame, num_rows: int) -> str:
    """Caption of the dot plot, with what its intervals cover, and how many of ``num_rows`` it shows."""
    covers = set(data["covers"])
    text = "Validation top-1 of each row. " + _of_many(len(data), num_rows, "the most and the least accurate")
    if (data["n"] > 1).any():
        text += "Large markers are means over seeds, small rings below them the single seeds. "
    if "seeds" in covers:
        text += "Bars are 95 % intervals of the mean over seeds, for these validation clips. "
    if "clips" in covers:
        text += "Dashed bars come from one seed and cover the choice of validation clips alone, not another seed. "
    if data["versus"].any():
        text += (
            "Diamonds are rows that others are compared with. The dotted line in a row marks the mean of the row it is "
            "compared with, named below it."
        )
    elif (data["reference"] & (data["n"] > 0)).any():
        text += "The diamond and the dotted line mark the base row."
    return text.strip()


def mixed_recipes(recipes: Mapping[str, object], rows: Collection[str]) -> str:
    """That ``rows`` of a figure were trained by different recipes, with a space before it; nothing where they were not.

    ``recipes`` has, by row, in what its recipe differs from those of others.
    """
    if len({recipes[row] for row in rows if row in recipes}) < 2:
        return ""
    return (
        " Rows were trained by different recipes, which the conditions list: how they lie to each other shows the "
        "effect of these as well."
    )


def alt_by_row(data: pd.DataFrame) -> str:
    """The dot plot in words."""
    return "Dot plot of validation top-1 by row. " + "; ".join(_said(row) for row in data.to_dict("records")) + "."


def differences(data: pd.DataFrame, base: str | None, num_rows: int) -> str:
    """Caption of the forest plot; ``base`` is None where each row is compared with one of its own."""
    to = f"the base row, {base}" if base is not None else "the row it is compared with, named below it"
    text = f"Difference in validation top-1 of each row to {to}, in points, paired by seed. "
    text += _of_many(len(data), num_rows, "those with the highest and the lowest difference")
    if (data["n"] > 1).any():
        text += "Large markers are means over seeds, small rings below them the differences of single seeds. "
    if data["low"].notna().any():
        text += (
            "Bars are 95 % intervals of the mean difference over seeds. Each is for its row alone: of twenty rows that "
            "differ in nothing, one bar would leave out zero by chance. "
        )
    if ((data["n"] > 0) & data["low"].isna()).any():
        text += "A marker without a bar has one seed, or seeds that all differ by the same: its error is not known. "
    return text.strip()


def alt_differences(data: pd.DataFrame) -> str:
    """The forest plot in words."""
    rows = "; ".join(
        f"{row['row']} to {row['versus']}: " + (f"{points(row['mean'])}{_within(row)}" if row["n"] else row["why"])
        for row in data.to_dict("records")
    )
    return f"Forest plot of differences in validation top-1, in points. {rows}."


def accuracy_by_macs(data: pd.DataFrame, is_named: "pd.Series[bool]", left_out: Sequence[str] = ()) -> str:
    """Caption of the scatter, with the range of costs, which is often too small to see.

    ``left_out`` are the rows whose multiply-adds are not known.
    """
    least, most = data["macs"].min(), data["macs"].max()
    return (
        "Validation top-1 against the cost of a clip, in multiply-adds of convolutions and linear layers. Higher is "
        f"more accurate, further left is cheaper; vertical bars are 95 % intervals. {_STEPS}{_joined(data)}"
        f"{_named(is_named)}{_in_order('cheaper')} {_costs_apart(least, most)}"
        f"{left_out_of_it(left_out, 'row', 'whose multiply-adds are not known')}"
    )


def accuracy_by_latency(
    data: pd.DataFrame,
    is_named: "pd.Series[bool]",
    beyond: pd.DataFrame,
    elsewhere: pd.DataFrame,
    not_timed: pd.DataFrame,
) -> str:
    """Caption of the scatter of times.

    ``beyond`` are the bars that end beyond the axis (row, ms_low, ms_high), ``elsewhere`` the cells timed on other
    devices and ``not_timed`` those without a time (row, seed, device).
    """
    marker = "A marker is one cell"
    if (data["num_timed"] > 1).any():
        marker = (
            "A marker lies at the median over seeds, horizontal bars reach from the fastest seed to the slowest"
            f"{_cut(beyond)}"
        )
    text = (
        f"Validation top-1 against milliseconds a clip in evaluation on {_device(data['device'].iloc[0])}. {marker}; "
        "vertical bars are 95 % intervals of the accuracy over all seeds. "
        f"{_STEPS if data['front'].any() else _NO_STEPS}{_joined(data)}"
        f"{_named(is_named)}{_in_order('faster')} The time is what validation took while the cells ran, "
        "loading of clips included, perhaps with other cells beside them on the same machine; for exact timings use "
        "tada bench."
    )
    for device, cells in elsewhere.groupby("device", sort=False):
        text += left_out_of_it(by_seed(cells), "cell", f"on {_device(str(device))}")
    return text + left_out_of_it(by_seed(not_timed), "cell", "without a time")


def _cut(beyond: pd.DataFrame) -> str:
    """Where the bars end that the axis does not hold."""
    ends = [
        f"{row} " + " and ".join(
            f"{which} {value:.3g} ms" for which, value in (("from", low), ("to", high)) if value == value
        )
        for row, low, high in zip(beyond["row"], beyond["ms_low"], beyond["ms_high"], strict=True)
    ]  # fmt: skip
    return f" (an arrow marks a bar that goes on beyond the axis: {some(ends)})" if ends else ""


def alt_by_latency(data: pd.DataFrame) -> str:
    """The scatter of times in words."""
    rows = "; ".join(f"{row['row']}: {row['ms']:.3g} ms at {percent(row['mean'])} %" for row in data.to_dict("records"))
    return f"Scatter plot of validation top-1 against milliseconds a clip in evaluation. {rows}."


def alt_by_macs(data: pd.DataFrame) -> str:
    """The scatter in words."""
    rows = "; ".join(f"{row['row']}: {row['macs']:.4g} at {percent(row['mean'])} %" for row in data.to_dict("records"))
    return f"Scatter plot of validation top-1 against multiply-adds a clip. {rows}."


def learning_curves(
    data: pd.DataFrame,
    base: str | None,
    num_panels: int,
    num_rows: int,
    left_out: Sequence[str] = (),
    conditions: Iterable[Mapping[str, Any]] = (),
) -> str:
    """Caption of the small multiples; ``base`` is None where each row is compared with one of its own.

    ``left_out`` are the cells whose curve cannot be drawn, ``conditions`` as :func:`points_of_curves` takes them.
    """
    when, views = points_of_curves(conditions)
    seeds_by_row = data.groupby("row")["seed"].nunique()
    seeds = of_seeds(seeds_by_row)
    band = "; bands reach from the lowest seed to the highest" if (seeds_by_row > 1).any() else ""
    beside = ", with the base row dashed in each panel" if (data["row"] == base).any() else ""
    beside = beside if base else ", with the row it is compared with dashed and named below it"
    cut = _of_many(num_panels, num_rows, "those that end most and least accurate")
    return (
        f"Validation top-1 {when}, mean over {seeds}{band}. One panel a row{beside}.{views} {cut}".strip()
    ) + left_out_of_it(left_out, "cell", "with a value not between 0 and 100 %")


def alt_curves(data: pd.DataFrame) -> str:
    """The learning curves in words: where each row ends."""
    last = data[data["epoch"] == data["epoch"].max()].groupby("row", sort=False)["val_top1"].mean()
    ends = "; ".join(f"{name} ends at {percent(value)} %" for name, value in last.items())
    return f"Learning curves, validation top-1 over epochs, one panel a row. {ends}."


def of_seeds(num_seeds: "pd.Series[int]") -> str:
    """``3 seeds``; where rows have different numbers, of how many each row's mean is: ``2 or 3 seeds, by row``."""
    counts = sorted(set(num_seeds))
    return plural(counts[0], "seed") if len(counts) == 1 else f"{listed(counts, 'or')} seeds, by row"


def accuracy_by_family(
    data: pd.DataFrame, num_seeds: "pd.Series[int]", num_rows: int, left_out: Sequence[str] = ()
) -> str:
    """Caption of the heat map; families of the synthetic clips are explained.

    ``num_seeds`` has the seeds behind each row of ``data``, and ``left_out`` are the cells and families whose accuracy
    is none.
    """
    cut = _of_many(len(data), num_rows, "the most and the least accurate")
    return (
        f"Validation top-1 in percent by family of classes, mean over {of_seeds(num_seeds)}; the stronger the colour, "
        f"the more accurate. {cut}{meaning_of_families(data.columns)}"
    ).strip() + left_out_of_it(left_out, "value", "not between 0 and 100 %")


def alt_by_family(data: pd.DataFrame) -> str:
    """The heat map in words."""
    rows = (
        f"{name}: " + ", ".join(f"{family} {percent(value)} %" for family, value in values.items())
        for name, values in data.to_dict("index").items()
    )
    return "Heat map of validation top-1 by row and class family. " + "; ".join(rows) + "."


def confusion(num_seeds: dict[str, int], classes: list[tuple[str, str]], left_out: Sequence[str] = ()) -> str:
    """Caption of the confusion matrices of the rows ``num_seeds``; ``classes`` are pairs of class and family.

    ``left_out`` are the cells, each with two classes, whose clips cannot be shown.
    """
    rows = listed([f"{row} ({plural(seeds, 'seed')})" for row, seeds in num_seeds.items()])
    families = list(dict.fromkeys(family for _, family in classes if family))
    text = (
        f"What the validation clips of each class are taken for: {rows}. Clips are summed over seeds; every line is in "
        "percent of its class, what rounds to zero is left blank, and colour grows with the square root of the share. "
    )
    if families:
        text += f"Lines part the families {listed(families)}. " if len(families) > 1 else ""
    return (text + meaning_of_families(families, classes=True)).strip() + left_out_of_it(
        left_out, "count", "of no clips or of an unknown class"
    )


def alt_confusion(data: pd.DataFrame, num_seeds: dict[str, int]) -> str:
    """The confusion matrices in words: the most frequent mistakes of each row."""
    said = []
    for row in num_seeds:
        wrong = data[(data["row"] == row) & (data["class"] != data["predicted"])]
        worst = wrong.sort_values("percent", ascending=False, kind="stable").head(3)
        mistakes = [
            f"{line['class']} for {line['predicted']} in {line['percent']:.0f} %" for line in worst.to_dict("records")
        ]
        said.append(f"{row} most often takes " + ", ".join(mistakes) if mistakes else f"{row} makes no mistake")
    return f"Confusion matrices. {'; '.join(said)}."


def gain_by_class(data: pd.DataFrame, base: str, without: str, num_classes: int, left_out: Sequence[str] = ()) -> str:
    """Caption of the gains by class, and how many of ``num_classes`` it shows.

    ``left_out`` are the cells and classes whose accuracy is none.
    """
    text = (
        f"Gain in top-1 of {base} over {without} by class, in points, paired by seed; in each family from the largest "
        "down. "
    )
    if (data["low"].notna()).any():
        cut = ", cut at 100 points" if (data[["low", "high"]].abs() >= 100).any(axis=None) else ""
        text += f"Bars are 95 % intervals over seeds{cut}, each for its class alone. "
    if data["low"].isna().any():
        text += "A marker without a bar has one seed, or seeds that all gain the same: its error is not known. "
    if len(data) < num_classes:
        gains, losses = int((data["mean"] > 0).sum()), int((data["mean"] < 0).sum())
        text += (
            f"Of {num_classes} classes the {gains} with the largest gains and the {losses} with the largest losses are "
            "shown; the extremes of many owe a part to chance. "
        )
    return (text + meaning_of_families(data["family"].unique(), classes=True)).strip() + left_out_of_it(
        left_out, "value", "not between 0 and 100 %"
    )


def alt_gain(data: pd.DataFrame) -> str:
    """The gains by class in words."""
    classes = "; ".join(f"{row['class']}: {points(row['mean'])}{_within(row)}" for row in data.to_dict("records"))
    return f"Dot plot of the gain in top-1 by class, in points. {classes}."


def placement_map(data: pd.DataFrame, noun: str) -> str:
    """Caption of the map, with the rows or trials, ``noun``, that are not on it."""
    shown, apart = data[data["on_map"]], data[~data["on_map"]]
    others = [
        f"{row} ({percent(top1)} %)" if n else row
        for row, top1, n in zip(apart["row"], apart["top1"], apart["n"], strict=True)
    ]
    text = (
        "Validation top-1 in percent, mean over seeds, by the stages that hold the operator and the share of their "
        f"channels that is calibrated. The {noun}s on it are alike in all else; a dash marks what none asks for. "
    )
    if (shown["n"] < shown["num_planned"]).any():
        text += "Below a mean stand its seeds where some are missing. "
    if others:
        names = listed(others) if len(others) <= 8 else f"{', '.join(others[:6])} and {len(others) - 6} more"
        text += f"Not on the map, since something else differs: {names}."
    return text.strip()


def alt_placement(data: pd.DataFrame) -> str:
    """The map in words."""
    cells = "; ".join(
        f"{row['stages']}, {100 * row['share']:.3g} % of the channels: "
        + (f"{percent(row['top1'])} %" if row["n"] else "no result")
        for row in data.to_dict("records")
    )
    return f"Heat map of validation top-1 by stages and share of channels. {cells}."


_NO_STEPS = (
    "No Pareto front is drawn: seeds of one row, which all do the same work, lie further apart in time than rows do, "
    "so these times tell no row from another."
)
_STEPS = "Steps are the Pareto front: no row on it is beaten in accuracy at its cost or less."


def _in_order(first: str) -> str:
    return f" Names stand in the order of their markers' heights; of markers at one height the {first} row is first."


def _joined(data: pd.DataFrame) -> str:
    return " Dotted lines join each row to the row it is compared with." if data["versus"].any() else ""


def _named(is_named: "pd.Series[bool]") -> str:
    if is_named.all():
        return ""
    return (
        f" Of {len(is_named)} rows, {int(is_named.sum())} have their names beside them, all of them on the front or "
        "such as others are compared with."
    )


def _of_many(shown: int, num_rows: int, which: str) -> str:
    """What is shown of a table that is too long for a figure, with a space at the end; nothing of a shorter one."""
    if shown == num_rows:
        return ""
    return f"Of {num_rows} rows, {shown} are shown, sorted: {which}. "


def _within(row: dict[Hashable, Any]) -> str:
    known = row["low"] == row["low"]
    return f" ({points(row['low'])} to {points(row['high'])})" if known else ""


def _device(name: str) -> str:
    return name or "a device without a name"


def _costs_apart(least: float, most: float) -> str:
    if most == least:
        return "All rows cost the same."
    if most > 2 * least:
        factor = f"{most / least:.{0 if most >= 10 * least else 1}f}"
        return f"The dearest row costs {factor} times as much as the cheapest."
    return f"The dearest row costs {100 * (most / least - 1):.2f} % more than the cheapest."


def _said(row: dict[object, object]) -> str:
    if not row["n"]:
        return f"{row['row']}: {'failed' if row['status'] == 'failed' else 'not run'}"
    against = f" (compared with {row['versus']})" if row["versus"] else ""
    return f"{row['row']}: {percent(float(str(row['mean'])))} %{against}"
