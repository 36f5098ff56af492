"""Scores against what they cost: multiply-adds, and time in evaluation."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.figures.rows import LOOKS, named
from tadaconv.reporting.ablation.text import mixed_recipes
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure
from tadaconv.reporting.core.format import count_scale
from tadaconv.reporting.core.labels import label_of
from tadaconv.reporting.core.scatter import FRONT, beside_the_cheapest, draw_front, names_at_the_right
from tadaconv.reporting.core.text import by_seed, left_out_note
from tadaconv.statistics import on_front

MOST_NAMED = 30
"""In a longer table, only rows on the front and rows that others are compared with have names."""

_SCORES = ["mean", "low", "high", "reference", "versus"]
_DOTTED: dict[str, Any] = {"color": style.BASE, "linewidth": 0.9, "linestyle": (0, (1, 2))}


# Multiply-adds


def accuracy_by_macs_data(export: Export) -> pd.DataFrame:
    """One line per row with a result and a cost of one multiply-add or more.

    Columns: row, macs (multiply-adds per clip), mean, low, high (of the score), reference, versus, front (whether no
    row costs as little, is as good, and is better in one of the two).
    """
    data = _with_results(export)
    data = data[data["macs"] > 0].reset_index(drop=True)
    return data.assign(front=on_front(data["macs"], data["mean"], export.metric.sign))


def _with_results(export: Export) -> pd.DataFrame:
    summary = named(export)
    return summary.loc[summary["n"] > 0, ["row", "macs", *_SCORES]].astype({"macs": "float64"})


def accuracy_by_macs(export: Export) -> Drawing | None:
    """The score against multiply-adds per clip; None while no row has a result and a cost."""
    data = accuracy_by_macs_data(export)
    return None if data.empty else draw_accuracy_by_macs(data, export.metric, export=export)


def accuracy_by_macs_caption(data: pd.DataFrame, export: Export) -> str:
    """What is drawn of ``export``, and how far costs are apart, which is often too little to see."""
    rows = _with_results(export)["row"]
    left_out = rows[~rows.isin(data["row"])].tolist()
    return (
        f"Validation {export.metric.label} against the multiply-adds of convolutions and linear layers for a clip. "
        f"{_reading(data, export.metric)} {_costs_apart(data['macs'].max() / data['macs'].min())}"
        f"{left_out_note(left_out, 'row', 'whose multiply-adds are not known')}{mixed_recipes(export, data['row'])}"
    )


def _costs_apart(factor: float) -> str:
    if factor == 1:
        return "All rows cost the same."
    return (
        f"Costs differ by up to {100 * (factor - 1):.2g} %."
        if factor < 1.01
        else (f"Costs differ by a factor of up to {factor:.4g}.")
    )


def accuracy_by_macs_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The scatter in words."""
    return _alt(data, f"{metric.label} against multiply-adds per clip", lambda row: f"{row['macs']:.4g}", metric)


@figure(caption=accuracy_by_macs_caption, alt=accuracy_by_macs_alt)
def draw_accuracy_by_macs(data: pd.DataFrame, metric: Metric = TOP1) -> Figure:
    """A scatter with the front as steps, and names in a column at the right."""
    unit, name = count_scale(data["macs"])
    cost = data["macs"] / unit
    words = f"multiply-adds per clip ({name})" if name else "multiply-adds per clip"
    return _scatter(data, cost, cost, cost, words, metric)


# Time in evaluation


_SPEEDS = (1e-9, 1e9)
"""Clips a second that can be a timing."""


def latency_cells(export: Export) -> pd.DataFrame:
    """One line a finished cell: row, seed, device, ms (milliseconds per clip; NaN where evaluation was not timed)."""
    cells = export.cells[export.cells["status"] == "finished"].rename(columns={"eval_clips_per_second": "speed"})
    timed = cells["speed"].where(cells["speed"].between(*_SPEEDS))
    return cells[["row", "seed", "device"]].assign(ms=1000 / timed).reset_index(drop=True)


def accuracy_by_latency_data(export: Export) -> pd.DataFrame:
    """One line per row that was timed on the device most cells ran on; without one there is no line.

    Columns: row, device, num_timed (cells), ms, ms_low, ms_high (milliseconds per clip: median, least and most over
    those cells), and of the row over all its seeds mean, low, high (of the score), reference, versus; front as in
    :func:`accuracy_by_macs_data`.
    No row is on the front where times differ more between seeds of a row than between rows, see :func:`times_vary`.
    """
    cells, summary = latency_cells(export).dropna(subset="ms"), named(export)
    columns = ["row", "device", "num_timed", "ms", "ms_low", "ms_high", *_SCORES, "front"]
    if cells.empty:
        return pd.DataFrame(columns=columns)
    device = str(cells["device"].value_counts(sort=False).idxmax())
    over_seeds = cells[cells["device"] == device].groupby("row")["ms"]
    timed = over_seeds.agg(num_timed="count", ms="median", ms_low="min", ms_high="max")
    data = summary[["row", *_SCORES]].merge(timed, left_on="row", right_index=True).reset_index(drop=True)
    front = on_front(data["ms"], data["mean"], export.metric.sign) & (not times_vary(data))
    return data.assign(device=device, front=front).reindex(columns=columns)


def times_vary(data: pd.DataFrame) -> bool:
    """Whether times differ more between the seeds of a row, by the median over rows, than between rows.

    Such times, of a machine that did other things as well, do not rank rows. ``data`` has num_timed, ms, ms_low
    and ms_high of :func:`accuracy_by_latency_data`; False where no row was timed twice, and
    for a row alone.
    """
    twice = data[data["num_timed"] > 1]
    return len(data) > 1 and bool((twice["ms_high"] - twice["ms_low"]).median() > data["ms"].max() - data["ms"].min())


def accuracy_by_latency(export: Export) -> Drawing | None:
    """The score against the time of a clip in evaluation, on one device; None where no cell was timed."""
    data = accuracy_by_latency_data(export)
    return None if data.empty else draw_accuracy_by_latency(data, export.metric, export=export)


def accuracy_by_latency_caption(data: pd.DataFrame, export: Export) -> str:
    """What is drawn of ``export``, and what the times are of."""
    cells, metric = latency_cells(export), export.metric
    marker = "A marker is one cell."
    if (data["num_timed"] > 1).any():
        marker = (
            "A marker is at the median over seeds; horizontal bars reach from the fastest seed to the slowest, and an "
            "arrow ends a bar that the axis does not hold."
        )
    text = (
        f"Validation {metric.label} against milliseconds per clip in evaluation on {_device(data['device'].iloc[0])}. "
        f"{marker} {_reading(data, metric)}{'' if data['front'].any() else _NO_FRONT} The time is that of validation "
        "while the cells ran, loading of clips included, perhaps next to other cells on the same machine; for exact "
        "timings use tada bench."
    )
    timed = cells.dropna(subset="ms")
    for device, elsewhere in timed[timed["device"] != data["device"].iloc[0]].groupby("device", sort=False):
        text += left_out_note(by_seed(elsewhere), "cell", f"on {_device(str(device))}")
    text += left_out_note(by_seed(cells[cells["ms"].isna()]), "cell", "without a time")
    return text + mixed_recipes(export, data["row"])


def accuracy_by_latency_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The scatter of times in words."""
    about = f"{metric.label} against milliseconds per clip in evaluation"
    return _alt(data, about, lambda row: f"{row['ms']:.3g} ms", metric)


_NO_FRONT = (
    " No Pareto front is drawn, since times of the seeds of one row, which do the same work, differ more than those of "
    "rows."
)


def _device(name: str) -> str:
    return name or "a device without a name"


@figure(caption=accuracy_by_latency_caption, alt=accuracy_by_latency_alt)
def draw_accuracy_by_latency(data: pd.DataFrame, metric: Metric = TOP1) -> Figure:
    """A scatter like that of multiply-adds; horizontal bars are the range over seeds, cut where the axis ends."""
    words = "milliseconds per clip in evaluation, as cells ran"
    return _scatter(data, data["ms"], data["ms_low"], data["ms_high"], words, metric, "fastest")


# What both have in common


def _reading(data: pd.DataFrame, metric: Metric) -> str:
    """What bars, steps, lines and names are."""
    named = with_names(data, metric)
    parts = {
        f"Vertical bars are 95 % intervals of the {metric.noun}, those of the table.": data["low"].notna().any(),
        f"Steps are the Pareto front: no other row has better {metric.noun} at the same or a lower cost.": data[
            "front"
        ].any(),
        "Dotted lines join each row to the row it is compared with.": data["versus"].any(),
        f"Of {len(named)} rows, {named.sum()} are named, those on the front and those that others are compared "
        "with.": not named.all(),
    }
    return " ".join(part for part, is_shown in parts.items() if is_shown)


def _alt(data: pd.DataFrame, about: str, cost: Callable[[Mapping[Any, Any]], str], metric: Metric) -> str:
    named = data[with_names(data, metric)].to_dict("records")
    rows = "; ".join(f"{row['row']}: {cost(row)} at {metric.in_words(row['mean'])}" for row in named)
    return f"Scatter plot of validation {about}. {rows}."


def with_names(data: pd.DataFrame, metric: Metric = TOP1) -> "pd.Series[bool]":
    """Which points have a name: all of a short table, else the front and the rows that others are compared with."""
    if len(data) <= MOST_NAMED:
        return pd.Series(data=True, index=data.index)
    chosen = data[data["front"] | data["reference"]]
    # The front, or the rows that others are compared with, may be as long as the table.
    ascending = [False, not metric.higher_is_better]
    first = chosen.sort_values(["front", "mean"], ascending=ascending, kind="stable").head(MOST_NAMED).index
    return pd.Series(data.index.isin(first), index=data.index)


def _scatter(
    data: pd.DataFrame, cost: "pd.Series[float]", low: "pd.Series[float]", high: "pd.Series[float]", words: str,
    metric: Metric, best: str = "cheapest",
) -> Figure:  # fmt: skip
    """Names are in a column at the right, as those of rows of nearly one cost would overlap next to their points."""
    shown = with_names(data, metric)
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
    ax.set(xlim=(max(0.0, least - 0.08 * span), least + 1.08 * span), ylabel=metric.axis, xlabel=words)
    beside_the_cheapest(ax, float(cost.min()), float(cost.max()), best=best)
    if data["front"].any():
        draw_front(ax, cost[data["front"]], data.loc[data["front"], "mean"], ax.get_xlim()[1])
    _join_to_references(ax, cost.tolist(), data)
    names_at_the_right(ax, cost[shown].tolist(), labelled, labels, num_lines)
    _explain(figure, data)
    return figure


def _reach(cost: "pd.Series[float]", low: "pd.Series[float]", high: "pd.Series[float]") -> tuple[float, float]:
    """The range of the axis of costs: all of ``cost``, and of the bars no more than half its range to either side.

    A tenth of the least cost is always included. One slow cell would otherwise press all rows into a corner.
    """
    least, most = float(cost.min()), float(cost.max())
    room = max(0.5 * (most - least), 0.1 * least)
    return max(float(low.min()), least - room), min(float(high.max()), most + room)


def _explain(figure: Figure, data: pd.DataFrame) -> None:
    reference = "row that others are compared with" if data["versus"].any() else "base row"
    keys = {
        text: Line2D([], [], **LOOKS[kind])
        for text, kind in (("row", False), (reference, True))
        if (data["reference"] == kind).any()
    }
    keys |= {"Pareto front": Line2D([], [], **FRONT)} if data["front"].any() else {}
    figure.legend(list(keys.values()), list(keys), ncols=3, handlelength=1.6, columnspacing=1.2, **style.LEGEND)


def _join_to_references(ax: Axes, cost: list[float], data: pd.DataFrame) -> None:
    """A dotted line from each row to the row that it alone is compared with."""
    at = {row: point for row, *point in zip(data["row"], cost, data["mean"], strict=True)}
    pairs = [(at[row], at[versus]) for row, versus in zip(data["row"], data["versus"], strict=True) if versus in at]
    ax.add_collection(LineCollection(pairs, **_DOTTED, zorder=1), autolim=False)
