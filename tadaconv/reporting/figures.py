"""The figures of a table's report. Each is a data function, ``export -> DataFrame``, and a drawing function.

A new figure is one function that returns a :class:`Drawing`, and one line in the notebook's template.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tadaconv.reporting import captions, style
from tadaconv.reporting.export import Export, write_atomically
from tadaconv.reporting.summary import scores_by_seed, summarise
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

# Accuracy by row


def accuracy_by_row_data(export: Export) -> pd.DataFrame:
    """One line a row: row, status, n, num_planned, covers, mean, low, high, base (bool), seeds (list of top-1, %)."""
    summary, scores = summarise(export).rename(columns=_SHORT), scores_by_seed(export)
    frame = summary[["row", "status", "n", "num_planned", "covers", "mean", "low", "high"]].copy()
    frame["base"] = frame["row"] == export.manifest.base
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
    """A horizontal dot plot; the base is a diamond, a dashed interval covers the validation clips alone."""
    figure, ax = style.canvas(0.75 + 0.3 * len(data))
    for position, row in enumerate(data.to_dict("records")):
        _mean_with_interval(ax, position, row)
        if row["n"] > 1:
            below = [position + 0.24] * len(row["seeds"])
            ax.scatter(row["seeds"], below, s=9, facecolors="none", edgecolors=style.SOFT, linewidths=0.8)
    for base in data[data["base"] & (data["n"] > 0)].to_dict("records"):
        ax.axvline(base["mean"], color=style.BASE, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
    ax.set(ylim=(len(data) - 0.4, -0.6), xlabel="validation top-1 (%)")
    _name_rows(ax, data)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    return figure


def _mean_with_interval(ax: Axes, y: float, row: dict[Any, Any]) -> None:
    if not row["n"]:
        words = {"failed": "every seed failed", "missing": "not run"}[row["status"]]
        ax.text(0.02, y, words, transform=ax.get_yaxis_transform(), va="center", style="italic", color=style.SOFT)
        return
    colour, marker = (style.BASE, "D") if row["base"] else (style.ROW, "o")
    if row["low"] == row["low"]:
        dashes = "-" if row["covers"] == "seeds" else (0, (2, 1.5))
        ax.hlines(y, row["low"], row["high"], color=colour, linewidth=2.0, linestyle=dashes)
    ax.plot(row["mean"], y, marker=marker, color=colour, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6)


def _name_rows(ax: Axes, data: pd.DataFrame) -> None:
    names = [
        _label(row["row"]) + (f"  (n = {row['n']})" if 0 < row["n"] < row["num_planned"] else "")
        for row in data.to_dict("records")
    ]
    ax.set_yticks(range(len(data)), names)
    for label, base in zip(ax.get_yticklabels(), data["base"], strict=True):
        label.set_fontweight("bold" if base else "normal")


# Accuracy against cost


def accuracy_by_macs_data(export: Export) -> pd.DataFrame:
    """One line a row with a result: row, macs (multiply-adds a clip), mean, low, high (top-1, %), base (bool)."""
    summary = summarise(export).rename(columns=_SHORT)
    frame = summary.loc[summary["n"] > 0, ["row", "macs", "mean", "low", "high"]].astype({"macs": "float64"})
    frame["base"] = frame["row"] == export.manifest.base
    return frame.reset_index(drop=True)


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
    figure, ax = style.canvas(max(3.4, 1.0 + 0.17 * len(data)))
    unit, name = count_scale(data["macs"])
    cost = data["macs"] / unit
    for x, row in zip(cost, data.to_dict("records"), strict=True):
        colour, marker = (style.BASE, "D") if row["base"] else (style.ROW, "o")
        if row["low"] == row["low"]:
            ax.vlines(x, row["low"], row["high"], color=colour, linewidth=1.0, alpha=0.6)
        ax.plot(
            x, row["mean"], marker=marker, color=colour, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6
        )
    # A cost that differs by a thousandth must not look like a cost that differs by half.
    least, most = float(cost.min()), float(cost.max())
    span = max(most - least, 0.005 * least)
    ax.set(xlim=(least - 0.08 * span, least + 1.08 * span), ylabel="validation top-1 (%)")
    ax.set_xlabel(f"multiply-adds a clip ({name})" if name else "multiply-adds a clip")
    _percent_above(ax, least)
    ax.grid(axis="y")
    _names_at_the_right(ax, cost.tolist(), data)
    return figure


def _percent_above(ax: Axes, least: float) -> None:
    def percent_above(cost: Any) -> Any:
        return 100 * (cost / least - 1)

    def cost_at(above: Any) -> Any:
        return least * (1 + above / 100)

    above = ax.secondary_xaxis("top", functions=(percent_above, cost_at))
    above.set_xlabel("above the cheapest row (%)", color=style.SOFT, fontsize=8)
    above.tick_params(labelcolor=style.SOFT)
    above.spines["top"].set_visible(False)


def _names_at_the_right(ax: Axes, cost: list[float], data: pd.DataFrame) -> None:
    low, high = ax.get_ylim()
    heights = style.spread(data["mean"].tolist(), gap=(high - low) / max(18, len(data)))
    ax.set_ylim(min(low, min(heights) - (high - low) / 40), max(high, max(heights) + (high - low) / 40))
    left, right = ax.get_xlim()
    column = right + 0.04 * (right - left)
    for x, height, row in zip(cost, heights, data.to_dict("records"), strict=True):
        ax.plot([x, column], [row["mean"], height], color=style.SOFT, linewidth=0.6, clip_on=False, zorder=1)
        colour, weight = (style.BASE, "bold") if row["base"] else (style.INK, "normal")
        ax.text(column, height, f" {_label(row['row'], 60)}", color=colour, fontweight=weight, fontsize=8, va="center")
    ax.set_xlim(left, right)


# Learning curves


def learning_curves_data(export: Export) -> pd.DataFrame:
    """One line a row, seed and epoch: row, seed, epoch, val_top1 (%), base (bool), in the table's order of rows."""
    order = {row.name: i for i, row in enumerate(export.manifest.rows)}
    frame = export.curves[["row", "seed", "epoch", "val_top1"]].copy()
    frame["base"] = frame["row"] == export.manifest.base
    return frame.sort_values(["row", "seed", "epoch"], key=lambda c: c.map(order) if c.name == "row" else c)


def learning_curves(export: Export) -> Drawing | None:
    """Validation top-1 over the epochs; None while no cell has finished one."""
    data = learning_curves_data(export)
    if data.empty:
        return None
    base = export.manifest.base
    return Drawing(
        "learning_curves",
        draw_learning_curves(data, base),
        captions.learning_curves(data, base),
        captions.alt_curves(data),
    )


@style.styled
def draw_learning_curves(data: pd.DataFrame, base: str) -> Figure:
    """A small panel for each row with the base row in all of them; ten lines in one panel could not be told apart."""
    names = [name for name in data["row"].unique() if name != base] or [base]
    num_columns = min(3, len(names))
    num_rows = -(-len(names) // num_columns)
    figure = Figure(figsize=(style.WIDTH, 0.75 + 1.15 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    curves = {str(name): _curve(rows) for name, rows in data.groupby("row")}
    for ax, name in zip(panels, names, strict=False):
        ax.grid(axis="y")
        ax.locator_params(nbins=4)
        for row, look in ((base, _BASE_CURVE), (name, _ROW_CURVE))[: 1 if name == base else 2]:
            if row in curves:
                epochs, mean, low, high = curves[row]
                # The band is the range of the seeds: at three of them a confidence band hides the curves.
                ax.fill_between(epochs, low, high, color=look["color"], alpha=0.18, linewidth=0)
                ax.plot(epochs, mean, **look)
        ax.set_title(_label(name), loc="left", pad=3)
    for ax in panels[len(names) :]:
        ax.set_visible(False)
    for ax in panels[len(names) - num_columns : len(names)]:
        ax.xaxis.set_tick_params(labelbottom=True)  # the panel below may be an empty one
    figure.supxlabel("epoch", fontsize=8.5)
    figure.supylabel("validation top-1 (%)", fontsize=8.5)
    keys = [Line2D([], [], **_ROW_CURVE), Line2D([], [], **_BASE_CURVE)]
    figure.legend(keys, ["the row named above the panel", f"base: {_label(base, 60)}"], loc="outside upper left",
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
    return Drawing(
        "accuracy_by_family", draw_accuracy_by_family(data, export.manifest.base),
        captions.accuracy_by_family(data), captions.alt_by_family(data),
    )  # fmt: skip


@style.styled
def draw_accuracy_by_family(data: pd.DataFrame, base: str) -> Figure:
    """A heat map with its numbers written in; one hue from light to dark, so it reads in grey."""
    figure, ax = style.canvas(0.55 + 0.28 * len(data))
    sns.heatmap(
        data, ax=ax, annot=True, fmt=".0f", vmin=0, vmax=100, cmap=sns.light_palette(style.FILL, as_cmap=True),
        cbar=False, linewidths=1.5, linecolor="white", annot_kws={"fontsize": 8.5, "color": style.INK},
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="x", top=False, bottom=False, labeltop=True, labelbottom=False)
    ax.set_yticks([i + 0.5 for i in range(len(data))], [_label(str(name)) for name in data.index], rotation=0)
    for label, name in zip(ax.get_yticklabels(), data.index, strict=True):
        label.set_fontweight("bold" if name == base else "normal")
    return figure


def _label(name: str, width: int = 26) -> str:
    # Row names are the user's: a dollar sign in one must not start a formula.
    return fill(" ".join(name.split()), width).replace("$", r"\$")
