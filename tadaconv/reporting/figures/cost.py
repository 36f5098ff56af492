"""Accuracy against what it costs: multiply-adds, and time in evaluation."""

from math import inf
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tadaconv.reporting import captions, style
from tadaconv.reporting.export import Export
from tadaconv.reporting.figures.drawing import Drawing
from tadaconv.reporting.figures.labels import label_of
from tadaconv.reporting.figures.rows import LOOKS, named
from tadaconv.reporting.pareto import on_front
from tadaconv.reporting.words import count_scale

MOST_NAMED = 30
"""Where there are more rows than this, those on the front and those that others are compared with have names alone."""

_TOP1 = ["mean", "low", "high", "reference", "versus"]
_FRONT: dict[str, Any] = {"color": style.ROW, "linewidth": 1.4}
_DOTTED: dict[str, Any] = {"color": style.BASE, "linewidth": 0.9, "linestyle": (0, (1, 2))}


# Multiply-adds


def accuracy_by_macs_data(export: Export) -> pd.DataFrame:
    """One line a row with a result.

    Columns: row, macs (multiply-adds a clip), mean, low, high (top-1, %), reference, versus, front (whether no row
    costs as little, is as accurate, and is better in one of the two).
    """
    summary = named(export)
    data = summary.loc[summary["n"] > 0, ["row", "macs", *_TOP1]].astype({"macs": "float64"}).reset_index(drop=True)
    return data.assign(front=on_front(data["macs"], data["mean"]))


def accuracy_by_macs(export: Export) -> Drawing | None:
    """Top-1 against multiply-adds a clip; None while no row has a result."""
    data = accuracy_by_macs_data(export)
    if data.empty:
        return None
    shown = with_names(data)
    return Drawing(
        "accuracy_by_macs",
        draw_accuracy_by_macs(data),
        captions.accuracy_by_macs(data, shown),
        captions.alt_by_macs(data[shown]),
    )


@style.styled
def draw_accuracy_by_macs(data: pd.DataFrame) -> Figure:
    """A scatter with the front as steps, and names in a column at the right."""
    unit, name = count_scale(data["macs"])
    cost = data["macs"] / unit
    words = f"multiply-adds a clip ({name})" if name else "multiply-adds a clip"
    return _scatter(data, cost, cost, cost, words)


# Time in evaluation


def latency_cells(export: Export) -> pd.DataFrame:
    """One line a finished cell that timed its evaluation: row, seed, device, ms (milliseconds a clip)."""
    cells = export.cells[export.cells["status"] == "finished"].rename(columns={"eval_clips_per_second": "speed"})
    timed = cells[cells["speed"].between(0, inf, inclusive="neither")]
    return timed[["row", "seed", "device"]].assign(ms=1000 / timed["speed"]).reset_index(drop=True)


def most_used_device(cells: pd.DataFrame) -> str:
    """The device that most of ``cells``, of :func:`latency_cells`, ran on; of equally many the first."""
    return str(cells["device"].value_counts(sort=False).idxmax())


def accuracy_by_latency_data(export: Export) -> pd.DataFrame:
    """One line a row that was timed on the device most cells ran on; without one there is no line.

    Columns: row, device, num_timed (cells), ms, ms_low, ms_high (milliseconds a clip: median, least and most over
    those cells), and of the row over all its seeds mean, low, high (top-1, %), reference, versus; front as in
    :func:`accuracy_by_macs_data`.
    """
    cells, summary = latency_cells(export), named(export)
    columns = ["row", "device", "num_timed", "ms", "ms_low", "ms_high", *_TOP1, "front"]
    if cells.empty:
        return pd.DataFrame(columns=columns)
    device = most_used_device(cells)
    over_seeds = cells[cells["device"] == device].groupby("row")["ms"]
    timed = over_seeds.agg(num_timed="count", ms="median", ms_low="min", ms_high="max")
    data = summary[["row", *_TOP1]].merge(timed, left_on="row", right_index=True).reset_index(drop=True)
    data = data.assign(device=device, front=on_front(data["ms"], data["mean"]))
    return data.reindex(columns=columns)


def accuracy_by_latency(export: Export) -> Drawing | None:
    """Top-1 against the time of a clip in evaluation, on one device; None where no cell was timed."""
    data, cells = accuracy_by_latency_data(export), latency_cells(export)
    if data.empty:
        return None
    shown, left_out = with_names(data), cells[cells["device"] != data["device"].iloc[0]]
    return Drawing(
        "accuracy_by_latency",
        draw_accuracy_by_latency(data),
        captions.accuracy_by_latency(data, shown, left_out),
        captions.alt_by_latency(data[shown]),
    )


@style.styled
def draw_accuracy_by_latency(data: pd.DataFrame) -> Figure:
    """A scatter like that of multiply-adds; horizontal bars are the range over seeds."""
    words = "milliseconds a clip in evaluation"
    return _scatter(data, data["ms"], data["ms_low"], data["ms_high"], words, "fastest")


# What both have in common


def with_names(data: pd.DataFrame) -> "pd.Series[bool]":
    """Which points have a name beside them: all of a short table, else the front and what others are compared with."""
    if len(data) <= MOST_NAMED:
        return pd.Series(data=True, index=data.index)
    chosen = data[data["front"] | data["reference"]]
    # The front, or the rows that others are compared with, may be as long as the table.
    first = chosen.sort_values(["front", "mean"], ascending=False, kind="stable").head(MOST_NAMED).index
    return pd.Series(data.index.isin(first), index=data.index)


def _scatter(
    data: pd.DataFrame, cost: "pd.Series[float]", low: "pd.Series[float]", high: "pd.Series[float]", words: str,
    best: str = "cheapest",
) -> Figure:  # fmt: skip
    """Names stand in a column at the right: rows of nearly one cost would write over each other beside."""
    shown = with_names(data)
    labelled = data[shown]
    labels = [label_of(name, 40) for name in labelled["row"]]
    num_lines = max(label.count("\n") + 1 for label in labels)
    figure, ax = style.canvas(max(3.6, 1.2 + 0.17 * num_lines * len(labels)))
    bars: dict[str, Any] = {"colors": style.ROW, "linewidth": 1.0, "alpha": 0.6, "zorder": 1}
    ax.vlines(cost, data["low"], data["high"], **bars)
    ax.hlines(data["mean"], low, high, **bars)
    for is_reference, look in LOOKS.items():
        here = data["reference"] == is_reference
        ax.plot(cost[here], data.loc[here, "mean"], **look, clip_on=False, zorder=3)
    # A cost that differs by a thousandth must not look like a cost that differs by half.
    least, most = float(low.min()), float(high.max())
    span = max(most - least, 0.005 * least)
    ax.set(xlim=(max(0.0, least - 0.08 * span), least + 1.08 * span), ylabel="validation top-1 (%)", xlabel=words)
    beside_the_cheapest(ax, float(cost.min()), float(cost.max()), best=best)
    ax.grid(axis="y")
    draw_front(ax, cost[data["front"]], data.loc[data["front"], "mean"], ax.get_xlim()[1])
    _join_to_references(ax, cost.tolist(), data)
    names_at_the_right(ax, cost[shown].tolist(), labelled, labels, num_lines)
    _explain(figure, data)
    return figure


def draw_front(ax: Axes, cost: "pd.Series[float]", accuracy: "pd.Series[float]", right: float) -> None:
    """The front as steps, up to ``right``: the accuracy that can be had at a cost."""
    steps = sorted(zip(cost, accuracy, strict=True))
    costs, heights = [x for x, _ in steps], [y for _, y in steps]
    ax.step([*costs, max(right, costs[-1])], [*heights, heights[-1]], where="post", **_FRONT, zorder=2)


def _explain(figure: Figure, data: pd.DataFrame) -> None:
    apart = data["versus"].any()
    said = {False: "row", True: "row that others are compared with" if apart else "base row"}
    keys = [Line2D([], [], **LOOKS[kind]) for kind in said if (data["reference"] == kind).any()]
    words = [text for kind, text in said.items() if (data["reference"] == kind).any()]
    figure.legend([*keys, Line2D([], [], **_FRONT)], [*words, "Pareto front"], loc="outside upper left", ncols=3,
                  frameon=False, handlelength=1.6, fontsize=8, borderaxespad=0, columnspacing=1.2)  # fmt: skip


def _join_to_references(ax: Axes, cost: list[float], data: pd.DataFrame) -> None:
    """A dotted line from each row to the row that it alone is compared with."""
    at = {row: point for row, *point in zip(data["row"], cost, data["mean"], strict=True)}
    pairs = [(at[row], at[versus]) for row, versus in zip(data["row"], data["versus"], strict=True) if versus in at]
    ax.add_collection(LineCollection(pairs, **_DOTTED, zorder=1), autolim=False)


def beside_the_cheapest(ax: Axes, least: float, most: float, noun: str = "row", best: str = "cheapest") -> None:
    """A second axis: per cent above the cheapest ``noun``, or times its cost where percents would pass a hundred.

    ``best`` is what the least of a cost is called.
    """
    name, zero, unit = f"above the {best} {noun} (%)", 1, 100
    if most > 2 * least:
        name, zero, unit = f"times the {best} {noun}", 0, 1

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
