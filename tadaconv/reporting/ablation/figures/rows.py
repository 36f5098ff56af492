"""Score of every row, and its difference to the row it is compared with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.summary import compares_apart, comparisons, scores_by_seed, summarise
from tadaconv.reporting.ablation.text import interval_of, mixed_recipes, of_many
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure
from tadaconv.reporting.core.format import MINUS, difference
from tadaconv.reporting.core.labels import ends, label_of, mark_breaks, name_rows, pitch, to_versus, with_seeds
from tadaconv.reporting.core.page import Block

_BY_ROW = ["row", "n", "num_planned", "covers", "mean", "low", "high", "reference", "versus", "why"]
LOOKS: dict[bool, dict[str, Any]] = {
    is_reference: {
        "marker": marker, "color": colour, "linestyle": "", "markersize": 5.5, "markeredgecolor": "white",
        "markeredgewidth": 0.6,
    }
    for is_reference, marker, colour in ((False, "o", style.ROW), (True, "D", style.BASE))
}  # fmt: skip
"""How a row is drawn, and one that others are compared with."""


def named(export: Export) -> pd.DataFrame:
    """The summary by the figures' names of columns; ``versus`` is kept only where it has to be named."""
    short = {export.metric.column(statistic): statistic for statistic in ("mean", "low", "high")}
    summary = summarise(export).rename(columns={**short, "state": "why"})
    return summary if compares_apart(summary, export.manifest.base) else summary.assign(versus="")


def common_base(export: Export) -> str | None:
    """The row that all others are compared with; None where rows are compared with different ones."""
    base = export.manifest.base
    return None if compares_apart(summarise(export), base) else base


# Scores by row


def accuracy_by_row_data(export: Export) -> pd.DataFrame:
    """One line per row: ``_BY_ROW`` and seeds (list of scores).

    ``why`` is why there is no score. ``reference`` marks the base, or rows that others are compared with; ``versus`` is
    the row that a row is compared with, and empty where all are compared with the base.
    """
    summary, scores = named(export), scores_by_seed(export)
    df = summary[_BY_ROW].copy()
    df["seeds"] = [scores.loc[name].dropna().tolist() for name in df["row"]]
    return df


def accuracy_by_row(export: Export) -> Drawing | None:
    """Mean score of each row with its interval and its single seeds; None while no row has a result."""
    data = accuracy_by_row_data(export)
    if not data["n"].any():
        return None
    shown, breaks = ends(data, "mean")
    return draw_accuracy_by_row(shown, breaks, export.metric, export=export)


def accuracy_by_row_caption(data: pd.DataFrame, export: Export) -> str:
    """What is drawn of the rows of ``export``, what its intervals cover, and whether recipes differ by row."""
    covers, metric = set(data["covers"]), export.metric
    shown = of_many(len(data), len(export.manifest.rows), metric.extremes("the "))
    text = f"Validation {metric.label} of each row. {shown}"
    if (data["n"] > 1).any():
        text += "Large markers are means over seeds, small rings below them the single seeds. "
    if "seeds" in covers:
        text += f"Bars are 95 % intervals of the mean over seeds, for these validation {metric.samples}. "
    if "clips" in covers:
        text += (
            f"Dashed bars come from one seed and cover the choice of validation {metric.samples} alone, not another "
            "seed. "
        )
    if data["versus"].any():
        text += (
            "Diamonds are rows that others are compared with. The dotted line in a row marks the mean of the row it is "
            "compared with, named below it."
        )
    elif (data["reference"] & (data["n"] > 0)).any():
        text += "The diamond and the dotted line mark the base row."
    return text.strip() + mixed_recipes(export, data["row"])


def accuracy_by_row_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The dot plot in words."""
    rows = "; ".join(_in_words(row, metric) for row in data.to_dict("records"))
    return f"Dot plot of validation {metric.label} by row. {rows}."


def _in_words(row: dict[object, object], metric: Metric) -> str:
    if not row["n"]:
        return f"{row['row']}: {row['why']}"
    against = f" (compared with {row['versus']})" if row["versus"] else ""
    return f"{row['row']}: {metric.in_words(float(str(row['mean'])))}{against}"


@figure(caption=accuracy_by_row_caption, alt=accuracy_by_row_alt)
def draw_accuracy_by_row(data: pd.DataFrame, breaks: Sequence[int] = (), metric: Metric = TOP1) -> Figure:
    """A horizontal dot plot; a reference is a diamond, a dashed interval covers the validation clips alone.

    ``breaks`` are the positions before which rows are left out.
    """
    dashes = [(0, (2, 1.5)) if covers == "clips" else "-" for covers in data["covers"]]
    below = [to_versus(versus) for versus in data["versus"]]
    figure, ax = _dot_plot(data, metric.axis, data["reference"].tolist(), dashes, below, breaks)
    _mark_references(ax, data)
    return figure


def _dot_plot(
    data: pd.DataFrame,
    about: str,
    reference: Sequence[bool],
    dashes: Sequence[Any],
    below: list[str],
    breaks: Sequence[int],
) -> tuple[Figure, Axes]:
    """A line a row: the mean with its interval, below it a ring a seed, or why it has no result.

    Args:
        data: row, n, num_planned, mean, low, high, seeds, why.
        about: The label of the axis.
        reference: Which rows are drawn as references.
        dashes: The style of each interval.
        below: The text below each name.
        breaks: The positions before which rows are left out.
    """
    names = [with_seeds(row["row"], row["n"], row["num_planned"]) for row in data.to_dict("records")]
    labels = [name + under for name, under in zip(names, below, strict=True)]
    figure, ax = style.canvas(0.75 + 0.14 * about.count("\n") + pitch(labels, 0.3) * len(data))
    for y, (row, is_reference, dash) in enumerate(zip(data.to_dict("records"), reference, dashes, strict=True)):
        look = LOOKS[is_reference]
        if row["low"] == row["low"]:
            ax.hlines(y, row["low"], row["high"], color=look["color"], linewidth=2.0, linestyle=dash)
        if not row["n"]:
            where = ax.get_yaxis_transform()
            ax.text(0.02, y, row["why"], transform=where, va="center", style="italic", color=style.SOFT)
    for is_reference, look in LOOKS.items():
        here = [is_reference == kind for kind in reference]
        ax.plot(data.loc[here, "mean"], np.flatnonzero(here), **look)
    rings = [(x, y + 0.24) for y, seeds in enumerate(data["seeds"]) if len(seeds) > 1 for x in seeds]
    ax.scatter([x for x, _ in rings], [y for _, y in rings], s=9, facecolors="none", edgecolors=style.SOFT,
               linewidths=0.8)  # fmt: skip
    ax.set(xlabel=about, ylim=(len(data) - 0.4, -0.6))
    name_rows(ax, range(len(data)), names, reference, below)
    mark_breaks(ax, breaks)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    return figure, ax


def _mark_references(ax: Axes, data: pd.DataFrame) -> None:
    """A dotted line at the mean of the base; or in each row, at the mean of the row that it is compared with."""
    look: dict[str, Any] = {"color": style.BASE, "linewidth": 0.9, "linestyle": (0, (1, 2)), "zorder": 0}
    if not data["versus"].any():
        for mean in data.loc[data["reference"] & (data["n"] > 0), "mean"]:
            ax.axvline(mean, **look)
        return
    means = data[data["n"] > 0].set_index("row")["mean"]
    for position, versus in enumerate(data["versus"]):
        if versus in means:
            ax.vlines(means[versus], position - 0.45, position + 0.45, **look)


# Paired differences


def differences_data(export: Export) -> pd.DataFrame:
    """One line per row that is compared with another, in the table's order.

    Columns: row, versus (what it is compared with), n (seeds that both have), num_planned, mean, low, high (score of
    the row minus that of ``versus``, with the 95 % interval over seeds), seeds (list of differences), why
    (there is no difference; else empty).
    """
    summary, scores = summarise(export), scores_by_seed(export)
    have_result = set(summary.loc[summary["n"] > 0, "row"])
    short = {"num_pairs": "n", "delta_mean": "mean", "delta_low": "low", "delta_high": "high"}
    df = summary[summary["versus"] != ""].drop(columns="n").rename(columns=short).reset_index(drop=True)
    pairs = list(zip(df["row"], df["versus"], strict=True))
    df["seeds"] = [(scores.loc[row] - scores.loc[versus]).dropna().tolist() for row, versus in pairs]
    no_pair = [
        "no seed that both have" if versus in have_result else "no result to compare with" for _, versus in pairs
    ]
    df["why"] = df["state"].where(df["state"] != "", no_pair).where(df["n"] == 0, "")
    return df[["row", "versus", "n", "num_planned", "mean", "low", "high", "seeds", "why"]]


def differences(export: Export) -> Drawing | None:
    """Each row's difference to the row it is compared with; None while there is none."""
    data = differences_data(export)
    if not data["n"].any():
        return None
    base = common_base(export)
    shown, breaks = ends(data, "mean")
    return draw_differences(shown, base, breaks, export.metric, export=export)


def differences_caption(data: pd.DataFrame, base: str | None, export: Export) -> str:
    """What is drawn of the rows of ``export``; ``base`` is None where rows are compared with different rows."""
    metric, num_rows = export.metric, sum(versus is not None for versus in comparisons(export.manifest).values())
    to = f"the base row, {base}" if base is not None else "the row it is compared with, named below it"
    unit = f", in {metric.unit_of_differences}" if metric.unit_of_differences else ""
    text = f"Difference in validation {metric.label} of each row to {to}{unit}, paired by seed. "
    text += of_many(len(data), num_rows, "those with the highest and the lowest difference")
    if (data["n"] > 1).any():
        text += "Large markers are means over seeds, small rings below them the differences of single seeds. "
    if data["low"].notna().any():
        design = export.manifest.design
        repeated = "repeated " if design is not None and design.is_adaptive else ""
        text += (
            f"Bars are {repeated}95 % intervals of the mean difference over seeds, each for its row alone and not "
            "adjusted for others. "
        )
    if ((data["n"] > 0) & data["low"].isna()).any():
        text += "A marker without a bar has one seed, or the same difference in all seeds. "
    return text.strip() + mixed_recipes(export, [*data["row"], *data["versus"]])


def differences_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The forest plot in words."""
    rows = "; ".join(
        f"{row['row']} to {row['versus']}: "
        + (f"{difference(row['mean'], metric)}{interval_of(row, metric)}" if row["n"] else row["why"])
        for row in data.to_dict("records")
    )
    unit = f", in {metric.unit_of_differences}" if metric.unit_of_differences else ""
    return f"Forest plot of differences in validation {metric.label}{unit}. {rows}."


@figure(caption=differences_caption, alt=differences_alt)
def draw_differences(data: pd.DataFrame, base: str | None, breaks: Sequence[int] = (), metric: Metric = TOP1) -> Figure:
    """A forest plot. ``base`` is the row that all are compared with; None where these differ, and labels name them.

    ``breaks`` are the positions before which rows are left out.
    """
    below = ["" if base is not None else to_versus(versus) for versus in data["versus"]]
    to = "" if base is None else f" to {base}"
    unit = f" ({metric.unit_of_differences})" if metric.unit_of_differences else ""
    about = label_of(f"difference in validation {metric.label}{to}{unit}", 44)
    figure, ax = _dot_plot(data, about, [False] * len(data), ["-"] * len(data), below, breaks)
    ax.axvline(0, color=style.BASE, linewidth=1.1, zorder=0)
    ax.xaxis.set_major_formatter(lambda value, _: signed(value))
    return figure


def signed(value: float) -> str:
    """A difference on an axis, with its sign."""
    return "0" if abs(value) < 1e-9 else f"{value:+g}".replace("-", MINUS)


def heading(export: Export) -> Block | None:
    """The heading above the figures; None where no cell has a result to draw."""
    return Block("<h2>Figures</h2>", "Figures") if (export.cells["status"] == "finished").any() else None
