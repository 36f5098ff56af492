"""The figure of a benchmark: time over the plain network's, a panel a case."""

from math import isnan
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from tadaconv.bench.record import Benchmark, Case, Timing
from tadaconv.reporting.benchmark import text
from tadaconv.reporting.benchmark.data import BenchmarkManifest
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing
from tadaconv.reporting.core.labels import label_of
from tadaconv.text import listed

LOG_FROM = 3.0
"""The largest ratio that is still drawn on a linear axis."""

_PITCH = 0.3
"""Inches from method to method."""


def ratios_data(run: Benchmark) -> pd.DataFrame:
    """One line a case and method of a run, forward and backward together.

    Columns: case, mode, method, plain (whether it is the plain network), seconds (median of a pass), ratio, low,
    high (95 % interval, NaN where there is none), rounds (list of the ratios by round), memory (peak in bytes, NaN
    where it is not known; of a training step alone, as an operator's is mostly the libraries').
    """
    lines = [_line(case, timing, run.bench == "step") for case in run.cases for timing in case.timings]
    return pd.DataFrame(lines).astype(dict.fromkeys(["low", "high", "memory"], "float64"))


def _line(case: Case, timing: Timing, with_memory: bool) -> dict[str, Any]:
    ratio, memory = timing.ratio["both"], timing.peak_memory_bytes
    rounds = zip(timing.seconds["both"], case.plain.seconds["both"], strict=True)
    return {
        "case": case.name,
        "mode": case.mode,
        "method": timing.name,
        "plain": timing is case.plain,
        "seconds": timing.time["both"].median,
        "ratio": ratio.median,
        "low": ratio.interval_low,
        "high": ratio.interval_high,
        "rounds": [seconds / plain for seconds, plain in rounds],
        "memory": memory if with_memory else None,
    }


def ratios(manifest: BenchmarkManifest) -> list[Drawing]:
    """A figure a run, in the order of the runs; none of a run of the plain network alone."""
    drawings = []
    for number, named in enumerate(manifest.runs, start=1):
        data, name = ratios_data(named.run), "ratios" if len(manifest.runs) == 1 else f"ratios_{number}"
        if not data["plain"].all():
            words = caption(named.run, data), alt(data)
            drawings.append(Drawing(name, draw_ratios(data, text.clips(named.run)), *words))
    return drawings


def picture(run: Benchmark) -> bytes | None:
    """The figure of one run as PNG, with its setting as title; None where a plain network ran alone."""
    data = ratios_data(run)
    if data["plain"].all():
        return None
    return style.saved(draw_ratios(data, f"{text.subject(run)}: {text.setting(run)}"), "png")


@style.styled
def draw_ratios(data: pd.DataFrame, title: str) -> Figure:
    """A dot plot a case: the median with its interval, and below it one ring per round.

    ``title`` is the heading of the figure.
    """
    panels = [part for _, part in data.groupby(["case", "mode"], sort=False) if not part["plain"].all()]
    methods = [tuple(part.loc[~part["plain"], "method"]) for part in panels]
    # Side by side only where the rows of all panels are the same methods.
    columns = 2 if len(panels) > 1 and len(set(methods)) == 1 else 1
    heights = [0.62 + _PITCH * max(map(len, methods[i : i + columns])) for i in range(0, len(panels), columns)]
    title_lines = [label_of(line, 60) for line in wrap(title, 60)]
    figure = Figure(figsize=(style.WIDTH, 0.35 + 0.2 * len(title_lines) + sum(heights)))
    figure.set_layout_engine("constrained", w_pad=0.08)
    figure.suptitle("\n".join(title_lines), x=0.01, ha="left", fontsize=8.5, fontweight="bold")
    grid = figure.subplots(
        len(heights), columns, sharex=True, sharey="row", squeeze=False, height_ratios=heights
    ).ravel()
    limits, is_log = _limits(data)
    for ax, part in zip(grid, panels, strict=False):
        _draw_case(ax, part[~part["plain"]], part[part["plain"]].iloc[0])
        _scale(ax, limits, is_log)
    for ax in grid[len(panels) :]:
        ax.set_visible(False)
    for ax in grid[max(0, len(panels) - columns) : len(panels)]:
        ax.xaxis.set_tick_params(labelbottom=True)  # the panel below may be an empty one
    figure.supxlabel("time relative to plain, forward and backward", fontsize=8.5)
    return figure


def _draw_case(ax: Axes, part: pd.DataFrame, plain: "pd.Series[Any]") -> None:
    ax.axvline(1, color=style.SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
    for y, line in enumerate(part.to_dict("records")):
        numbers = text.three_digits(line["ratio"]) + _memory(line["memory"])
        ax.annotate(numbers, (1, y), (4, 0), ax.get_yaxis_transform(), "offset points", fontsize=7.5, va="center")
        colour, marker = style.ROW if text.is_ours(line["method"]) else style.SOFT, _mark(line["method"])
        if line["low"] == line["low"]:
            ax.hlines(y, line["low"], line["high"], color=colour, linewidth=2.0)
        ax.plot(line["ratio"], y, marker=marker, color=colour, markersize=5.5, markeredgecolor="white",
                markeredgewidth=0.6)  # fmt: skip
        ax.scatter(line["rounds"], [y + 0.26] * len(line["rounds"]), s=9, facecolors="none", edgecolors=style.SOFT,
                   linewidths=0.8)  # fmt: skip
    ax.set_yticks(range(len(part)), [label_of(name, 20) for name in part["method"]])
    ax.set_ylim(len(part) - 0.4, -0.6)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    name, _, layer = text.capitalised(plain["case"]).partition(": ")
    under = f"{layer}; " if layer else ""
    of_plain = f"plain {text.three_digits(1e3 * plain['seconds'])} ms{_memory(plain['memory'])}"
    ax.set_title(f"{label_of(name, 60)}, {label_of(plain['mode'])}", loc="left", pad=15 if layer else 14)
    below = label_of(f"{under}{of_plain}", 60)
    ax.annotate(below, (0, 1), (0, 3), "axes fraction", "offset points", color=style.SOFT, fontsize=7.5, va="bottom")


def _memory(memory: float) -> str:
    return "" if isnan(memory) else f", {text.mebibytes(int(memory))} MiB"


def _limits(data: pd.DataFrame) -> tuple[tuple[float, float], bool]:
    """Ends of the axis that all panels share, and whether it is logarithmic."""
    drawn = np.concatenate([[1.0], data[["ratio", "low", "high"]].to_numpy().ravel(), *data["rounds"]])
    low, high = float(np.nanmin(drawn)), float(np.nanmax(drawn))
    if high > LOG_FROM:
        return (low / 1.12, high * 1.12), True
    room = max(0.05 * (high - low), 0.01)
    return (low - room, high + room), False


def _scale(ax: Axes, limits: tuple[float, float], is_log: bool) -> None:
    if is_log:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
    else:
        ax.locator_params(axis="x", nbins=5)
    ax.set_xlim(*limits)


def caption(run: Benchmark, data: pd.DataFrame) -> str:
    """The caption of the figure of a run, whose ``data`` are those of :func:`ratios_data`."""
    subject, plain = ("the operator alone", "convolution") if run.bench == "op" else ("a training step", "network")
    marks = {"o": "circles", "s": "squares"}
    kinds = text.kinds(data.loc[~data["plain"], "method"])
    by_mark = "; ".join(f"{marks[_mark(names[0])]} for {listed(names)} ({kind})" for kind, names in kinds.items())
    interval = " and its 95 % interval" if data["low"].notna().any() else ""
    memory = " and the peak memory of a separate process" if data["memory"].notna().any() else ""
    words = (
        f"Time of {subject}, divided by that of the plain {plain} in the same round ({text.setting(run)}). Marks: "
        f"{by_mark}. Filled: the median over the rounds{interval}. Rings: single rounds. Left of the dotted line: "
        f"faster than the plain {plain}. To the right: the median{memory}."
    )
    return f"{words} The axis is logarithmic." if _limits(data)[1] else words


def _mark(method: str) -> str:
    """A circle for ours, a square for others."""
    return "o" if text.is_ours(method) else "s"


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    panels = []
    for (case, mode), part in data[~data["plain"]].groupby(["case", "mode"], sort=False):
        medians = ", ".join(f"{line['method']} {text.three_digits(line['ratio'])}" for line in part.to_dict("records"))
        panels.append(f"{case}, {mode}: {medians}")
    return f"Dot plot of time relative to the plain network, medians. {'; '.join(panels)}."
