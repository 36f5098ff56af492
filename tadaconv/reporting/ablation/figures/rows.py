"""Accuracy of every row, and its difference to the row it is compared with."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.summary import compares_apart, recipes_of, scores_by_seed, summarise
from tadaconv.reporting.ablation.text import interval_of, mixed_recipes, of_many
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure
from tadaconv.reporting.core.format import MINUS, percent, points
from tadaconv.reporting.core.labels import ends, label_of, mark_breaks, name_rows, pitch, to_versus, with_seeds
from tadaconv.reporting.core.page import Block

_BY_ROW = ["row", "status", "n", "num_planned", "covers", "mean", "low", "high", "reference", "versus"]
_SHORT = {"top1_mean": "mean", "top1_low": "low", "top1_high": "high"}
LOOKS: dict[bool, dict[str, Any]] = {
    is_reference: {
        "marker": marker, "color": colour, "linestyle": "", "markersize": 5.5, "markeredgecolor": "white",
        "markeredgewidth": 0.6,
    }
    for is_reference, marker, colour in ((False, "o", style.ROW), (True, "D", style.BASE))
}  # fmt: skip
"""How a row is drawn, and one that others are compared with."""


def named(export: Export) -> pd.DataFrame:
    """The summary under the figures' names of columns; ``versus`` is kept only where it has to be named."""
    summary = summarise(export).rename(columns=_SHORT)
    return summary if compares_apart(summary, export.manifest.base) else summary.assign(versus="")


def common_base(export: Export) -> str | None:
    """The row that all others are compared with; None where rows are compared with different ones."""
    base = export.manifest.base
    return None if compares_apart(summarise(export), base) else base


# Accuracy by row


def accuracy_by_row_data(export: Export) -> pd.DataFrame:
    """One line a row: ``_BY_ROW`` and seeds (list of top-1, %).

    ``reference`` marks the base, or rows that others are compared with; ``versus`` is the row that a row is compared
    with, and empty where all are compared with the base.
    """
    summary, scores = named(export), scores_by_seed(export)
    df = summary[_BY_ROW].copy()
    df["seeds"] = [scores.loc[name].dropna().tolist() for name in df["row"]]
    return df


def accuracy_by_row(export: Export) -> Drawing | None:
    """Mean top-1 of each row with its interval and its single seeds; None while no row has a result."""
    data = accuracy_by_row_data(export)
    if not data["n"].any():
        return None
    shown, breaks = ends(data, "mean")
    return draw_accuracy_by_row(shown, breaks, num_rows=len(data), recipes=recipes_of(export))


def accuracy_by_row_caption(data: pd.DataFrame, num_rows: int, recipes: Mapping[str, object]) -> str:
    """What is drawn of ``num_rows``, what its intervals cover, and whether ``recipes`` differ by row."""
    covers = set(data["covers"])
    text = "Validation top-1 of each row. " + of_many(len(data), num_rows, "the most and the least accurate")
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
    return text.strip() + mixed_recipes(recipes, data["row"])


def accuracy_by_row_alt(data: pd.DataFrame) -> str:
    """The dot plot in words."""
    return "Dot plot of validation top-1 by row. " + "; ".join(_in_words(row) for row in data.to_dict("records")) + "."


def _in_words(row: dict[object, object]) -> str:
    if not row["n"]:
        return f"{row['row']}: {'failed' if row['status'] == 'failed' else 'not run'}"
    against = f" (compared with {row['versus']})" if row["versus"] else ""
    return f"{row['row']}: {percent(float(str(row['mean'])))} %{against}"


@figure(caption=accuracy_by_row_caption, alt=accuracy_by_row_alt)
def draw_accuracy_by_row(data: pd.DataFrame, breaks: list[int] | None = None) -> Figure:
    """A horizontal dot plot; a reference is a diamond, a dashed interval covers the validation clips alone.

    ``breaks`` are the positions before which rows are left out.
    """
    names = [with_seeds(row["row"], row["n"], row["num_planned"]) for row in data.to_dict("records")]
    labels = [name + to_versus(versus) for name, versus in zip(names, data["versus"], strict=True)]
    figure, ax = style.canvas(0.75 + pitch(labels, 0.3) * len(data))
    data = data.assign(y=range(len(data)))
    for is_reference, look in LOOKS.items():
        part = data[data["reference"] == is_reference]
        _intervals(ax, part[part["covers"] == "seeds"], look["color"], "-")
        _intervals(ax, part[part["covers"] == "clips"], look["color"], (0, (2, 1.5)))
        ax.plot(part["mean"], part["y"], **look)
    _rings(ax, data)
    for row in data[data["n"] == 0].to_dict("records"):
        _say(ax, row["y"], _NO_RESULT[row["status"]])
    _mark_references(ax, data)
    ax.set_xlabel("validation top-1 (%)")
    _finish(ax, data, breaks, names, data["reference"].tolist(), [to_versus(versus) for versus in data["versus"]])
    return figure


_NO_RESULT = {"failed": "every seed failed", "missing": "not run"}


def _intervals(ax: Axes, data: pd.DataFrame, colour: str, dashes: Any) -> None:
    known = data.dropna(subset=["low", "high"])
    ax.hlines(known["y"], known["low"], known["high"], color=colour, linewidth=2.0, linestyle=dashes)


def _rings(ax: Axes, data: pd.DataFrame) -> None:
    """The single seeds below the mean, where they are several."""
    rings = [(x, row["y"] + 0.24) for row in data[data["n"] > 1].to_dict("records") for x in row["seeds"]]
    ax.scatter([x for x, _ in rings], [y for _, y in rings], s=9, facecolors="none", edgecolors=style.SOFT,
               linewidths=0.8)  # fmt: skip


def _say(ax: Axes, y: float, words: str) -> None:
    ax.text(0.02, y, words, transform=ax.get_yaxis_transform(), va="center", style="italic", color=style.SOFT)


def _finish(
    ax: Axes, data: pd.DataFrame, breaks: list[int] | None, names: list[str], bold: list[bool], below: list[str]
) -> None:
    ax.set_ylim(len(data) - 0.4, -0.6)
    name_rows(ax, range(len(data)), names, bold, below)
    mark_breaks(ax, breaks or ())
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")


def _mark_references(ax: Axes, data: pd.DataFrame) -> None:
    """A dotted line at the mean of the base; or, where each row has its own, at the mean of its own in each row."""
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
    """One line a row that is compared with another, in the table's order.

    Columns: row, versus (what it is compared with), n (seeds that both have), num_planned, mean, low, high (top-1 of
    the row minus that of ``versus``, points, with the 95 % interval over seeds), seeds (list of differences), why
    (there is no difference; else empty).
    """
    summary, scores = summarise(export), scores_by_seed(export)
    have = dict(zip(summary["row"], summary["n"], strict=True))
    lines = []
    for row in summary[summary["versus"] != ""].to_dict("records"):
        seeds = (scores.loc[row["row"]] - scores.loc[row["versus"]]).dropna().tolist()
        why = "" if seeds else _why_none(row, have[row["versus"]])
        change = (row["delta_mean"], row["delta_low"], row["delta_high"])
        lines.append((row["row"], row["versus"], len(seeds), row["num_planned"], *change, seeds, why))
    return pd.DataFrame(
        lines, columns=["row", "versus", "n", "num_planned", "mean", "low", "high", "seeds", "why"]
    ).astype({"mean": "float64", "low": "float64", "high": "float64", "n": "int64"})


def _why_none(row: dict[Any, Any], num_versus: int) -> str:
    if not row["n"]:
        return _NO_RESULT[row["status"]]
    return "no seed that both have" if num_versus else "no result to compare with"


def differences(export: Export) -> Drawing | None:
    """Each row's difference to the row it is compared with; None while there is none."""
    data = differences_data(export)
    if not data["n"].any():
        return None
    base = common_base(export)
    shown, breaks = ends(data, "mean")
    return draw_differences(shown, base, breaks, num_rows=len(data), recipes=recipes_of(export))


def differences_caption(data: pd.DataFrame, base: str | None, num_rows: int, recipes: Mapping[str, object]) -> str:
    """What is drawn of ``num_rows``; ``base`` is None where each row is compared with one of its own."""
    to = f"the base row, {base}" if base is not None else "the row it is compared with, named below it"
    text = f"Difference in validation top-1 of each row to {to}, in points, paired by seed. "
    text += of_many(len(data), num_rows, "those with the highest and the lowest difference")
    if (data["n"] > 1).any():
        text += "Large markers are means over seeds, small rings below them the differences of single seeds. "
    if data["low"].notna().any():
        text += (
            "Bars are 95 % intervals of the mean difference over seeds. Each is for its row alone: of twenty rows that "
            "differ in nothing, one bar would leave out zero by chance. "
        )
    if ((data["n"] > 0) & data["low"].isna()).any():
        text += "A marker without a bar has one seed, or seeds that all differ by the same: its error is not known. "
    return text.strip() + mixed_recipes(recipes, [*data["row"], *data["versus"]])


def differences_alt(data: pd.DataFrame) -> str:
    """The forest plot in words."""
    rows = "; ".join(
        f"{row['row']} to {row['versus']}: " + (f"{points(row['mean'])}{interval_of(row)}" if row["n"] else row["why"])
        for row in data.to_dict("records")
    )
    return f"Forest plot of differences in validation top-1, in points. {rows}."


@figure(caption=differences_caption, alt=differences_alt)
def draw_differences(data: pd.DataFrame, base: str | None, breaks: list[int] | None = None) -> Figure:
    """A forest plot. ``base`` is the row that all are compared with; None where each has its own, which it then names.

    ``breaks`` are the positions before which rows are left out.
    """
    names = [with_seeds(row["row"], row["n"], row["num_planned"]) for row in data.to_dict("records")]
    below = ["" if base is not None else to_versus(versus) for versus in data["versus"]]
    labels = [name + under for name, under in zip(names, below, strict=True)]
    to = "" if base is None else f" to {base}"
    about = label_of(f"difference in validation top-1{to} (points)", 44)
    figure, ax = style.canvas(0.75 + 0.14 * about.count("\n") + pitch(labels, 0.3) * len(data))
    data = data.assign(y=range(len(data)))
    _intervals(ax, data, style.ROW, "-")
    ax.plot(data["mean"], data["y"], **LOOKS[False])
    _rings(ax, data)
    for row in data[data["n"] == 0].to_dict("records"):
        _say(ax, row["y"], row["why"])
    ax.axvline(0, color=style.BASE, linewidth=1.1, zorder=0)
    ax.set_xlabel(about)
    ax.xaxis.set_major_formatter(lambda value, _: signed(value))
    _finish(ax, data, breaks, names, [False] * len(data), below)
    return figure


def signed(value: float) -> str:
    """A number of points on an axis, with its sign."""
    return "0" if abs(value) < 1e-9 else f"{value:+g}".replace("-", MINUS)


def heading(export: Export) -> Block | None:
    """What stands above the figures; None, which shows nothing, where no cell has a result to draw."""
    return Block("<h2>Figures</h2>", "Figures") if (export.cells["status"] == "finished").any() else None
