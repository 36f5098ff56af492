"""The figures of a table's report. Each is a data function, ``export -> DataFrame``, and a drawing function.

A new figure is one function that returns a :class:`Drawing`, and one line in the notebook's template.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tadaconv.reporting import captions, style
from tadaconv.reporting.export import Export, write_atomically
from tadaconv.reporting.summary import compares_apart, comparisons, scores_by_seed, summarise
from tadaconv.reporting.words import count_scale


@dataclass(frozen=True)
class Drawing:
    """A figure with the name of its files, a caption for those who see it and a text for those who do not."""

    name: str
    figure: Figure
    caption: str
    alt: str

    @cached_property
    def svg(self) -> bytes:
        """The figure as SVG, on transparent ground."""
        return style.as_svg(self.figure, self.name)

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG, on white."""
        return style.as_png(self.figure)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # PNG beside SVG: a notebook that its reader has not declared trusted shows no SVG.
        data = {"image/svg+xml": self.svg.decode(), "image/png": self.png, "text/plain": self.alt}
        return data, {"alt": self.alt, "caption": self.caption}


def show(drawing: Drawing | None, folder: Path | str = ".") -> None:
    """Save a drawing as ``figures/<name>.svg`` and ``.png`` in ``folder`` and display it; None says nothing."""
    if drawing is None:
        return
    from IPython.display import Markdown, display

    for kind, content in (("svg", drawing.svg), ("png", drawing.png)):
        write_atomically(Path(folder) / "figures" / f"{drawing.name}.{kind}", content)
    display(drawing)  # type: ignore[no-untyped-call]
    # In a notebook the caption stands below as text of its own; the page takes it from the figure.
    display(Markdown(captions.as_markdown(drawing.caption)), metadata={"is_caption": True})  # type: ignore[no-untyped-call]


_SHORT = {"top1_mean": "mean", "top1_low": "low", "top1_high": "high"}
_BY_ROW = ["row", "status", "n", "num_planned", "covers", "mean", "low", "high", "reference", "versus"]


def _named(export: Export) -> pd.DataFrame:
    """The summary under the figures' names of columns; ``versus`` is kept only where it has to be named."""
    summary = summarise(export).rename(columns=_SHORT)
    return summary if compares_apart(summary, export.manifest.base) else summary.assign(versus="")


# Accuracy by row


def accuracy_by_row_data(export: Export) -> pd.DataFrame:
    """One line a row: ``_BY_ROW`` and seeds (list of top-1, %).

    ``reference`` marks the base, or rows that others are compared with; ``versus`` is the row that a row is compared
    with, and empty where all are compared with the base.
    """
    summary, scores = _named(export), scores_by_seed(export)
    frame = summary[_BY_ROW].copy()
    frame["seeds"] = [scores.loc[name].dropna().tolist() for name in frame["row"]]
    return frame


def accuracy_by_row(export: Export) -> Drawing | None:
    """Mean top-1 of each row with its interval and its single seeds; None while no row has a result."""
    data = accuracy_by_row_data(export)
    if not data["n"].any():
        return None
    return Drawing(
        "accuracy_by_row", draw_accuracy_by_row(data), captions.accuracy_by_row(data), captions.alt_by_row(data)
    )


@style.styled
def draw_accuracy_by_row(data: pd.DataFrame) -> Figure:
    """A horizontal dot plot; a reference is a diamond, a dashed interval covers the validation clips alone."""
    names = [_row_label(row) for row in data.to_dict("records")]
    labels = [name + _to(versus) for name, versus in zip(names, data["versus"], strict=True)]
    figure, ax = style.canvas(0.75 + _pitch(labels, 0.3) * len(data))
    for position, row in enumerate(data.to_dict("records")):
        _mean_with_interval(ax, position, row)
        if row["n"] > 1:
            below = [position + 0.24] * len(row["seeds"])
            ax.scatter(row["seeds"], below, s=9, facecolors="none", edgecolors=style.SOFT, linewidths=0.8)
    _mark_references(ax, data)
    ax.set(ylim=(len(data) - 0.4, -0.6), xlabel="validation top-1 (%)")
    _name_rows(ax, range(len(data)), names, data["reference"], [_to(versus) for versus in data["versus"]])
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    return figure


def _mean_with_interval(ax: Axes, y: float, row: dict[Any, Any]) -> None:
    if not row["n"]:
        words = {"failed": "every seed failed", "missing": "not run"}[row["status"]]
        ax.text(0.02, y, words, transform=ax.get_yaxis_transform(), va="center", style="italic", color=style.SOFT)
        return
    colour, marker = (style.BASE, "D") if row["reference"] else (style.ROW, "o")
    if row["low"] == row["low"]:
        dashes = "-" if row["covers"] == "seeds" else (0, (2, 1.5))
        ax.hlines(y, row["low"], row["high"], color=colour, linewidth=2.0, linestyle=dashes)
    ax.plot(row["mean"], y, marker=marker, color=colour, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6)


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


def _row_label(row: dict[Any, Any]) -> str:
    """A row's name, and how many seeds it has where some are missing."""
    return label_of(row["row"]) + (f"  (n = {row['n']})" if 0 < row["n"] < row["num_planned"] else "")


def _to(versus: str, width: int = 26) -> str:
    return "\n" + label_of(f"\u0394 to {versus}", width) if versus else ""


def _pitch(labels: list[str], least: float) -> float:
    """Inches from row to row, so that labels of several lines keep apart."""
    return max(least, 0.07 + 0.142 * max(label.count("\n") + 1 for label in labels))


def _name_rows(
    ax: Axes, positions: Iterable[float], names: list[str], bold: Iterable[bool], below: Iterable[str] = ()
) -> None:
    """Label the rows, bold where they are references, each with what stands ``below`` its name in secondary ink."""
    places, below = list(positions), list(below) or [""] * len(names)
    # Two texts of equally many lines, each empty where the other is written, so that only the name is bold.
    ax.set_yticks(
        places, [name + "\n" * under.count("\n") for name, under in zip(names, below, strict=True)], rotation=0
    )
    for label, is_bold in zip(ax.get_yticklabels(), bold, strict=True):
        label.set_fontweight("bold" if is_bold else "normal")
    pad = mpl.rcParams["ytick.major.pad"]
    for place, name, under in zip(places, names, below, strict=True):
        if under:
            ax.annotate(
                "\n" * name.count("\n") + under, (0, place), (-pad, 0), ax.get_yaxis_transform(), "offset points",
                ha="right", va="center_baseline", multialignment="right", color=style.SOFT, annotation_clip=False,
            )  # fmt: skip


# Accuracy against cost


def accuracy_by_macs_data(export: Export) -> pd.DataFrame:
    """One line a row with a result: row, macs (multiply-adds a clip), mean, low, high (top-1, %), reference, versus."""
    summary = _named(export)
    columns = ["row", "macs", "mean", "low", "high", "reference", "versus"]
    return summary.loc[summary["n"] > 0, columns].astype({"macs": "float64"}).reset_index(drop=True)


def accuracy_by_macs(export: Export) -> Drawing | None:
    """Top-1 against multiply-adds a clip; None while no row has a result."""
    data = accuracy_by_macs_data(export)
    if data.empty:
        return None
    return Drawing(
        "accuracy_by_macs", draw_accuracy_by_macs(data), captions.accuracy_by_macs(data), captions.alt_by_macs(data)
    )


@style.styled
def draw_accuracy_by_macs(data: pd.DataFrame) -> Figure:
    """A scatter with names in a column at the right: rows of nearly one cost would write over each other beside."""
    labels = [label_of(name, 40) for name in data["row"]]
    num_lines = max(label.count("\n") + 1 for label in labels)
    figure, ax = style.canvas(max(3.4, 1.0 + 0.17 * num_lines * len(data)))
    unit, name = count_scale(data["macs"])
    cost = data["macs"] / unit
    for x, row in zip(cost, data.to_dict("records"), strict=True):
        colour, marker = (style.BASE, "D") if row["reference"] else (style.ROW, "o")
        if row["low"] == row["low"]:
            ax.vlines(x, row["low"], row["high"], color=colour, linewidth=1.0, alpha=0.6)
        ax.plot(
            x, row["mean"], marker=marker, color=colour, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6,
            clip_on=False,
        )  # fmt: skip
    # A cost that differs by a thousandth must not look like a cost that differs by half.
    least, most = float(cost.min()), float(cost.max())
    span = max(most - least, 0.005 * least)
    ax.set(xlim=(max(0.0, least - 0.08 * span), least + 1.08 * span), ylabel="validation top-1 (%)")
    ax.set_xlabel(f"multiply-adds a clip ({name})" if name else "multiply-adds a clip")
    beside_the_cheapest(ax, least, most)
    ax.grid(axis="y")
    _join_to_references(ax, cost.tolist(), data)
    names_at_the_right(ax, cost.tolist(), data, labels, num_lines)
    return figure


def _join_to_references(ax: Axes, cost: list[float], data: pd.DataFrame) -> None:
    """A dotted line from each row to the row that it alone is compared with."""
    at = {row: point for row, *point in zip(data["row"], cost, data["mean"], strict=True)}
    for row, versus in zip(data["row"], data["versus"], strict=True):
        if versus in at:
            (x, y), (x_to, y_to) = at[row], at[versus]
            ax.plot([x, x_to], [y, y_to], color=style.BASE, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)


def beside_the_cheapest(ax: Axes, least: float, most: float, noun: str = "row") -> None:
    """A second axis: per cent above the cheapest ``noun``, or times its cost where percents would pass a hundred."""
    name, zero, unit = f"above the cheapest {noun} (%)", 1, 100
    if most > 2 * least:
        name, zero, unit = f"times the cheapest {noun}", 0, 1

    def beside(cost: Any) -> Any:
        return unit * (cost / least - zero)

    def cost_at(beside: Any) -> Any:
        return least * (beside / unit + zero)

    above = ax.secondary_xaxis("top", functions=(beside, cost_at))
    above.set_xlabel(name, color=style.SOFT, fontsize=8)
    above.tick_params(labelcolor=style.SOFT)
    above.spines["top"].set_visible(False)


def names_at_the_right(ax: Axes, cost: list[float], data: pd.DataFrame, labels: list[str], num_lines: int) -> None:
    """Join each point, at ``cost`` and the mean of its line in ``data``, to its label in a column at the right."""
    low, high = ax.get_ylim()
    gap = num_lines * (high - low) / max(18, num_lines * len(data))
    heights = style.spread(data["mean"].tolist(), gap)
    ax.set_ylim(min(low, min(heights) - (high - low) / 40), max(high, max(heights) + (high - low) / 40))
    left, right = ax.get_xlim()
    column = right + 0.04 * (right - left)
    for x, height, row, label in zip(cost, heights, data.to_dict("records"), labels, strict=True):
        ax.plot([x, column], [row["mean"], height], color=style.SOFT, linewidth=0.6, clip_on=False, zorder=1)
        colour, weight = (style.BASE, "bold") if row["reference"] else (style.INK, "normal")
        indented = " " + label.replace("\n", "\n ")
        ax.text(column, height, indented, color=colour, fontweight=weight, fontsize=8, va="center")
    ax.set_xlim(left, right)


# Learning curves


def learning_curves_data(export: Export) -> pd.DataFrame:
    """One line a row, seed and epoch: row, seed, epoch, val_top1 (%), versus, in the table's order of rows.

    ``versus`` is the row that a row is compared with, empty for none.
    """
    order = {row.name: i for i, row in enumerate(export.manifest.rows)}
    frame = export.curves[["row", "seed", "epoch", "val_top1"]].copy()
    frame["versus"] = frame["row"].map({row: versus or "" for row, versus in comparisons(export.manifest).items()})
    return frame.sort_values(["row", "seed", "epoch"], key=lambda c: c.map(order) if c.name == "row" else c)


def learning_curves(export: Export) -> Drawing | None:
    """Validation top-1 over the epochs; None while no cell has finished one."""
    data = learning_curves_data(export)
    if data.empty:
        return None
    base = None if compares_apart(summarise(export), export.manifest.base) else export.manifest.base
    return Drawing(
        "learning_curves",
        draw_learning_curves(data, base),
        captions.learning_curves(data, base),
        captions.alt_curves(data),
    )


@style.styled
def draw_learning_curves(data: pd.DataFrame, base: str | None) -> Figure:
    """A small panel for each row with the row it is compared with; ten lines in one panel could not be told apart.

    ``base`` is the row that all are compared with; None where each has its own, which its panel then names.
    """
    versus = dict(zip(data["row"], data["versus"], strict=True))
    names = [name for name, other in versus.items() if other or name not in versus.values()] or [*versus]
    titles = [label_of(name, 21) + ("" if base else _to(versus[name], 21)) for name in names]
    num_columns = min(3, len(names))
    num_rows = -(-len(names) // num_columns)
    height = num_rows * max(1.15, 0.88 + 0.142 * max(title.count("\n") + 1 for title in titles))
    figure = Figure(figsize=(style.WIDTH, 0.75 + height), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    curves = {str(name): _curve(rows) for name, rows in data.groupby("row")}
    for ax, name, title in zip(panels, names, titles, strict=False):
        ax.grid(axis="y")
        ax.locator_params(nbins=4)
        looks = [(versus[name], _BASE_CURVE), (name, _BASE_CURVE if name == base else _ROW_CURVE)]
        for row, look in looks:
            if row in curves:
                epochs, mean, low, high = curves[row]
                # The band is the range of the seeds: at three of them a confidence band hides the curves.
                ax.fill_between(epochs, low, high, color=look["color"], alpha=0.18, linewidth=0)
                ax.plot(epochs, mean, **look)
        ax.set_title(title, loc="left", pad=3)
    for ax in panels[len(names) :]:
        ax.set_visible(False)
    for ax in panels[len(names) - num_columns : len(names)]:
        ax.xaxis.set_tick_params(labelbottom=True)  # the panel below may be an empty one
    figure.supxlabel("epoch", fontsize=8.5)
    figure.supylabel("validation top-1 (%)", fontsize=8.5)
    keys = [Line2D([], [], **_ROW_CURVE), Line2D([], [], **_BASE_CURVE)]
    dashed = label_of(f"base: {base}", 40) if base else "the row it is compared with"
    figure.legend(keys, ["the row named above the panel", dashed], loc="outside upper left",
                  ncols=2, frameon=False, handlelength=2.2, borderaxespad=0, fontsize=8)  # fmt: skip
    return figure


_ROW_CURVE: dict[str, Any] = {"color": style.ROW}
_BASE_CURVE: dict[str, Any] = {"color": style.BASE, "linestyle": (0, (3, 1.5))}


def _curve(rows: pd.DataFrame) -> tuple[Any, Any, Any, Any]:
    """Epochs, and over the seeds the mean, the lowest and the highest top-1 at each."""
    over_seeds = rows.groupby("epoch")["val_top1"]
    mean = over_seeds.mean()
    return mean.index.to_numpy(), mean.to_numpy(), over_seeds.min().to_numpy(), over_seeds.max().to_numpy()


# Accuracy by class family


def accuracy_by_family_data(export: Export) -> pd.DataFrame:
    """Mean top-1 in percent over the seeds, a line a row with a result and a column a class family."""
    names = [row.name for row in export.manifest.rows]
    table = export.families.pivot_table(index="row", columns="family", values="top1", aggfunc="mean")
    return table.reindex(index=[n for n in names if n in table.index], columns=export.manifest.families)


def accuracy_by_family(export: Export) -> Drawing | None:
    """Top-1 by class family; None where the classes have no families."""
    data = accuracy_by_family_data(export)
    if data.empty:
        return None
    summary = summarise(export)
    return Drawing(
        "accuracy_by_family", draw_accuracy_by_family(data, set(summary.loc[summary["reference"], "row"])),
        captions.accuracy_by_family(data), captions.alt_by_family(data),
    )  # fmt: skip


@style.styled
def draw_accuracy_by_family(data: pd.DataFrame, references: Collection[str]) -> Figure:
    """A heat map with its numbers written in; one hue from light to dark, so it reads in grey."""
    labels = [label_of(str(name)) for name in data.index]
    figure, ax = style.canvas(0.55 + _pitch(labels, 0.28) * len(data))
    sns.heatmap(
        data, ax=ax, annot=True, fmt=".0f", vmin=0, vmax=100, cmap=sns.light_palette(style.FILL, as_cmap=True),
        cbar=False, linewidths=1.5, linecolor="white", annot_kws={"fontsize": 8.5, "color": style.INK},
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="x", top=False, bottom=False, labeltop=True, labelbottom=False)
    _name_rows(ax, [i + 0.5 for i in range(len(data))], labels, [name in references for name in data.index])
    return figure


def label_of(name: str, width: int = 26) -> str:
    """A name as a label of lines of ``width`` characters or less."""
    # Row names are the user's: a dollar sign in one must not start a formula.
    return fill(" ".join(name.split()), width).replace("$", r"\$")
