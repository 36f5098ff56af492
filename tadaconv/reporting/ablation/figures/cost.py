"""Accuracy against what it costs: multiply-adds, and time in evaluation."""

from collections.abc import Sequence
from math import inf
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import BboxTransformTo, ScaledTranslation, blended_transform_factory

from tadaconv.reporting.ablation import captions
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.figures.rows import LOOKS, named
from tadaconv.reporting.ablation.summary import recipes_of
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing
from tadaconv.reporting.core.format import count_scale
from tadaconv.reporting.core.labels import label_of
from tadaconv.reporting.core.pareto import on_front

MOST_NAMED = 30
"""Where there are more rows than this, those on the front and those that others are compared with have names alone."""

_TOP1 = ["mean", "low", "high", "reference", "versus"]
_FRONT: dict[str, Any] = {"color": style.ROW, "linewidth": 1.4}
_DOTTED: dict[str, Any] = {"color": style.BASE, "linewidth": 0.9, "linestyle": (0, (1, 2))}


# Multiply-adds


def accuracy_by_macs_data(export: Export) -> pd.DataFrame:
    """One line a row with a result and a cost of one multiply-add or more.

    Columns: row, macs (multiply-adds a clip), mean, low, high (top-1, %), reference, versus, front (whether no row
    costs as little, is as accurate, and is better in one of the two).
    """
    data = _with_results(export)
    data = data[data["macs"] > 0].reset_index(drop=True)
    return data.assign(front=on_front(data["macs"], data["mean"]))


def _with_results(export: Export) -> pd.DataFrame:
    summary = named(export)
    return summary.loc[summary["n"] > 0, ["row", "macs", *_TOP1]].astype({"macs": "float64"})


def accuracy_by_macs(export: Export) -> Drawing | None:
    """Top-1 against multiply-adds a clip; None while no row has a result and a cost."""
    data, every = accuracy_by_macs_data(export), _with_results(export)["row"]
    if data.empty:
        return None
    shown, left_out = with_names(data), every[~every.isin(data["row"])].tolist()
    return Drawing(
        "accuracy_by_macs",
        draw_accuracy_by_macs(data),
        captions.accuracy_by_macs(data, shown, left_out) + captions.mixed_recipes(recipes_of(export), data["row"]),
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


_SPEEDS = (1e-9, 1e9)
"""Clips a second that can be a timing: thirty years a clip is none, nor is a nanosecond."""


def latency_cells(export: Export) -> pd.DataFrame:
    """One line a finished cell: row, seed, device, ms (milliseconds a clip; NaN where evaluation was not timed)."""
    cells = export.cells[export.cells["status"] == "finished"].rename(columns={"eval_clips_per_second": "speed"})
    timed = cells["speed"].where(cells["speed"].between(*_SPEEDS))
    return cells[["row", "seed", "device"]].assign(ms=1000 / timed).reset_index(drop=True)


def most_used_device(cells: pd.DataFrame) -> str:
    """The device that most of ``cells``, of :func:`latency_cells`, ran on; of equally many the first."""
    return str(cells["device"].value_counts(sort=False).idxmax())


def accuracy_by_latency_data(export: Export) -> pd.DataFrame:
    """One line a row that was timed on the device most cells ran on; without one there is no line.

    Columns: row, device, num_timed (cells), ms, ms_low, ms_high (milliseconds a clip: median, least and most over
    those cells), and of the row over all its seeds mean, low, high (top-1, %), reference, versus; front as in
    :func:`accuracy_by_macs_data`.
    No row is on the front where the times of one row's seeds lie further apart than rows do, see :func:`times_vary`.
    """
    cells, summary = latency_cells(export).dropna(subset="ms"), named(export)
    columns = ["row", "device", "num_timed", "ms", "ms_low", "ms_high", *_TOP1, "front"]
    if cells.empty:
        return pd.DataFrame(columns=columns)
    device = most_used_device(cells)
    over_seeds = cells[cells["device"] == device].groupby("row")["ms"]
    timed = over_seeds.agg(num_timed="count", ms="median", ms_low="min", ms_high="max")
    data = summary[["row", *_TOP1]].merge(timed, left_on="row", right_index=True).reset_index(drop=True)
    front = on_front(data["ms"], data["mean"]) & (not times_vary(data))
    return data.assign(device=device, front=front).reindex(columns=columns)


def times_vary(data: pd.DataFrame) -> bool:
    """Whether seeds of one row, by the median over rows, lie further apart in time than the rows do.

    Such times, of a machine that did other things as well, tell no row from another. ``data`` has num_timed, ms, ms_low
    and ms_high of :func:`accuracy_by_latency_data`; False where no row was timed twice, and
    for a row alone.
    """
    twice = data[data["num_timed"] > 1]
    return len(data) > 1 and bool((twice["ms_high"] - twice["ms_low"]).median() > data["ms"].max() - data["ms"].min())


def accuracy_by_latency(export: Export) -> Drawing | None:
    """Top-1 against the time of a clip in evaluation, on one device; None where no cell was timed."""
    data, cells = accuracy_by_latency_data(export), latency_cells(export)
    if data.empty:
        return None
    shown, beyond = with_names(data), beyond_the_axis(data)
    not_timed = cells[cells["ms"].isna()]
    elsewhere = cells[cells["ms"].notna() & (cells["device"] != data["device"].iloc[0])]
    return Drawing(
        "accuracy_by_latency",
        draw_accuracy_by_latency(data),
        captions.accuracy_by_latency(data, shown, beyond, elsewhere, not_timed)
        + captions.mixed_recipes(recipes_of(export), data["row"]),
        captions.alt_by_latency(data[shown]),
    )


@style.styled
def draw_accuracy_by_latency(data: pd.DataFrame) -> Figure:
    """A scatter like that of multiply-adds; horizontal bars are the range over seeds, cut where the axis ends."""
    words = "milliseconds a clip in evaluation, as cells ran"
    return _scatter(data, data["ms"], data["ms_low"], data["ms_high"], words, "fastest")


def beyond_the_axis(data: pd.DataFrame) -> pd.DataFrame:
    """The lines of :func:`accuracy_by_latency_data` whose bar ends beyond the axis, the longest first.

    Columns: row, ms_low, ms_high (milliseconds; NaN at an end that the axis holds).
    """
    low, high = _reach(data["ms"], data["ms_low"], data["ms_high"])
    cut = data.assign(ms_low=data["ms_low"].where(data["ms_low"] < low),
                      ms_high=data["ms_high"].where(data["ms_high"] > high))  # fmt: skip
    cut = cut.dropna(subset=["ms_low", "ms_high"], how="all")
    return cut.sort_values("ms_high", ascending=False, kind="stable", ignore_index=True)[["row", "ms_low", "ms_high"]]


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
    least, most = _reach(cost, low, high)
    ax.hlines(data["mean"], low.clip(least, most), high.clip(least, most), **bars)
    arrows: dict[str, Any] = {"color": style.ROW, "linestyle": "", "markersize": 4, "zorder": 2}
    ax.plot([most] * int((high > most).sum()), data.loc[high > most, "mean"], marker=">", **arrows)
    ax.plot([least] * int((low < least).sum()), data.loc[low < least, "mean"], marker="<", **arrows)
    for is_reference, look in LOOKS.items():
        here = data["reference"] == is_reference
        ax.plot(cost[here], data.loc[here, "mean"], **look, clip_on=False, zorder=3)
    # A cost that differs by a thousandth must not look like a cost that differs by half.
    span = max(most - least, 0.005 * least)
    ax.set(xlim=(max(0.0, least - 0.08 * span), least + 1.08 * span), ylabel="validation top-1 (%)", xlabel=words)
    beside_the_cheapest(ax, float(cost.min()), float(cost.max()), best=best)
    if data["front"].any():
        draw_front(ax, cost[data["front"]], data.loc[data["front"], "mean"], ax.get_xlim()[1])
    _join_to_references(ax, cost.tolist(), data)
    names_at_the_right(ax, cost[shown].tolist(), labelled, labels, num_lines)
    _explain(figure, data)
    return figure


def _reach(cost: "pd.Series[float]", low: "pd.Series[float]", high: "pd.Series[float]") -> tuple[float, float]:
    """What the axis of costs holds: all of ``cost``, and of the bars no more than half its range to either side.

    A tenth of the least cost is always held. One slow cell would otherwise press all rows into a corner.
    """
    least, most = float(cost.min()), float(cost.max())
    room = max(0.5 * (most - least), 0.1 * least)
    return max(float(low.min()), least - room), min(float(high.max()), most + room)


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
    if data["front"].any():
        keys, words = [*keys, Line2D([], [], **_FRONT)], [*words, "Pareto front"]
    figure.legend(keys, words, loc="outside upper left", ncols=3,
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


def names_at_the_right(ax: Axes, cost: Sequence[float], data: pd.DataFrame, labels: list[str], num_lines: int) -> None:
    """Join each point, at ``cost`` and the mean of its line in ``data``, to its label in a column at the right.

    A line runs level from its point to the edge, and turns to its name only there. Names stand in the order in which
    the lines arrive, so that none crosses another; of points at one height, the cheaper is named first.
    """
    low, high = ax.get_ylim()
    whole = high - low
    means = data["mean"].tolist()
    wanted = _levels(means, cost, whole / 200)
    heights = style.spread(wanted, num_lines * whole / max(18, num_lines * len(data)))
    ax.set_ylim(min(low, min(heights) - whole / 40), max(high, max(heights) + whole / 40))
    left, right = ax.get_xlim()
    steepest = max(abs(height - mean) for height, mean in zip(heights, means, strict=True)) / whole
    column = min(0.2 + 1.5 * steepest, 0.45)
    # Inches right of the axes, and the axes' heights: the layout, which changes their width, leaves the column alone.
    inches = ax.figure.dpi_scale_trans + ScaledTranslation(1, 0, BboxTransformTo(ax.bbox))
    beside = blended_transform_factory(inches, ax.transData)
    level = [[(x, y), (right, y)] for x, y in zip(cost, means, strict=True)]
    turned = [[(0, y), (column, height)] for y, height in zip(means, heights, strict=True)]
    for lines, colour, where in ((level, style.LEADER, ax.transData), (turned, style.SOFT, beside)):
        leaders = LineCollection(lines, colors=colour, linewidths=0.6, clip_on=False, zorder=0.5, transform=where)
        ax.add_collection(leaders, autolim=False)
    for height, is_reference, label in zip(heights, data["reference"], labels, strict=True):
        colour, weight = (style.BASE, "bold") if is_reference else (style.INK, "normal")
        indented = " " + label.replace("\n", "\n ")
        ax.text(column, height, indented, transform=beside, color=colour, fontweight=weight, fontsize=8, va="center")
    ax.set_xlim(left, right)
    # A grid would be taken for more of these lines.
    ax.grid(visible=False)
    ax.tick_params(axis="y", length=3)


def _levels(heights: Sequence[float], cost: Sequence[float], near: float) -> list[float]:
    """Heights in whose order names stand: points within ``near`` of one another share one, the cheaper a hair above."""
    levels, first, group = [0.0] * len(heights), -inf, list[int]()
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        if heights[i] - first > near:
            first, group = heights[i], []
        group.append(i)
        for rank, member in enumerate(sorted(group, key=lambda i: -cost[i])):
            levels[member] = first + 1e-6 * near * rank
    return levels
