"""The figure of a benchmark: time over the plain network's, a panel a race."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from tadaconv.reporting.benchmark import words
from tadaconv.reporting.benchmark.frame import rounds_frame, table_frame
from tadaconv.reporting.benchmark.record import BenchmarkManifest
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing
from tadaconv.reporting.core.format import listed
from tadaconv.reporting.core.labels import label_of

LOG_FROM = 3.0
"""The largest ratio that is still drawn on a linear axis."""

_PITCH = 0.3
"""Inches from contestant to contestant."""


def ratios_data(manifest: BenchmarkManifest, file: str) -> pd.DataFrame:
    """One line a race and contestant of the run in ``file``, forward and backward together.

    Columns: race, mode, contestant, plain (whether it is the plain network), seconds (median of a pass), ratio, low,
    high (95 % interval, NaN where there is none), rounds (list of the ratios by round).
    """
    table, rounds = (frame(manifest) for frame in (table_frame, rounds_frame))
    chosen = table[(table["file"] == file) & (table["phase"] == "both")].reset_index(drop=True)
    data = chosen[["race", "mode", "contestant", "seconds", "ratio"]].copy()
    data["low"], data["high"] = chosen["ratio_low"], chosen["ratio_high"]
    data["plain"] = ~data.duplicated(["race", "mode"])
    of_run = rounds[(rounds["file"] == file) & (rounds["phase"] == "both")]
    by_round = of_run.groupby(["race", "mode", "contestant"])["ratio"].apply(list)
    data["rounds"] = [by_round[key] for key in zip(data["race"], data["mode"], data["contestant"], strict=True)]
    return data


def ratios(manifest: BenchmarkManifest) -> list[Drawing]:
    """A figure a run, in the order of the runs; none of a run without a contestant beside the plain network."""
    drawings = []
    for number, named in enumerate(manifest.runs, start=1):
        data = ratios_data(manifest, named.file)
        if not data["plain"].all():
            drawings.append(
                Drawing(
                    "ratios" if len(manifest.runs) == 1 else f"ratios_{number}",
                    draw_ratios(data, "" if len(manifest.runs) == 1 else words.clips(named.run)),
                    caption(named.run.bench, words.setting(named.run), data),
                    alt(data),
                )
            )
    return drawings


@style.styled
def draw_ratios(data: pd.DataFrame, clips: str = "") -> Figure:
    """A dot plot a race: the median with its interval, and below it a ring a round.

    ``clips`` stands above the panels where other figures are told from this one by them.
    """
    races = [part for _, part in data.groupby(["race", "mode"], sort=False)]
    panels = [part for part in races if not part["plain"].all()]
    raced = [part[~part["plain"]] for part in panels]
    # Side by side only where a line means the same contestant in both.
    pairs = len(panels) > 1 and len({tuple(part["contestant"]) for part in raced}) == 1
    columns = 2 if pairs else 1
    lines = [max(map(len, raced[i : i + columns])) for i in range(0, len(panels), columns)]
    heights = [0.62 + _PITCH * num for num in lines]
    figure = Figure(figsize=(style.WIDTH, (0.55 if clips else 0.35) + sum(heights)), layout="constrained")
    if clips:
        figure.suptitle(label_of(clips, 60), x=0.01, ha="left", fontsize=8.5, fontweight="bold")
    grid = figure.subplots(
        len(lines), columns, sharex=True, sharey="row" if pairs else False, squeeze=False, height_ratios=heights
    )
    limits, is_log = _limits(data)
    for ax, part, plain in zip(grid.ravel(), raced, (part[part["plain"]] for part in panels), strict=False):
        _draw_race(ax, part, plain.iloc[0])
        _scale(ax, limits, is_log)
    for ax in grid.ravel()[len(panels) :]:
        ax.set_visible(False)
    for ax in grid.ravel()[max(0, len(panels) - columns) : len(panels)]:
        ax.xaxis.set_tick_params(labelbottom=True)  # the panel below may be an empty one
    figure.supxlabel("time relative to plain, forward and backward", fontsize=8.5)
    return figure


def _draw_race(ax: Axes, part: pd.DataFrame, plain: "pd.Series[Any]") -> None:
    ax.axvline(1, color=style.SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
    for y, line in enumerate(part.to_dict("records")):
        colour, marker = (style.ROW, "o") if words.is_ours(line["contestant"]) else (style.SOFT, "s")
        if line["low"] == line["low"]:
            ax.hlines(y, line["low"], line["high"], color=colour, linewidth=2.0)
        ax.plot(line["ratio"], y, marker=marker, color=colour, markersize=5.5, markeredgecolor="white",
                markeredgewidth=0.6)  # fmt: skip
        ax.scatter(line["rounds"], [y + 0.26] * len(line["rounds"]), s=9, facecolors="none", edgecolors=style.SOFT,
                   linewidths=0.8)  # fmt: skip
    ax.set_yticks(range(len(part)), [label_of(name, 20) for name in part["contestant"]])
    ax.set_ylim(len(part) - 0.4, -0.6)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    name, _, what = words.capitalised(plain["race"]).partition(": ")
    under = f"{what}; " if what else ""
    milliseconds = words.three_digits(1e3 * plain["seconds"])
    ax.set_title(f"{label_of(name, 60)}, {label_of(plain['mode'])}", loc="left", pad=15 if what else 14)
    below = label_of(f"{under}plain {milliseconds} ms", 60)
    ax.annotate(below, (0, 1), (0, 3), "axes fraction", "offset points", color=style.SOFT, fontsize=7.5, va="bottom")


def _limits(data: pd.DataFrame) -> tuple[tuple[float, float], bool]:
    """Ends of the axis that all panels share, and whether it is logarithmic."""
    drawn = [
        *data["ratio"],
        *data["low"].dropna(),
        *data["high"].dropna(),
        *(r for each in data["rounds"] for r in each),
    ]
    low, high = min(1.0, *drawn), max(1.0, *drawn)
    if high > LOG_FROM:
        return (low / 1.12, high * 1.12), True
    room = max(0.05 * (high - low), 0.01)
    return (low - room, high + room), False


def _scale(ax: Axes, limits: tuple[float, float], is_log: bool) -> None:
    if is_log:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        ax.locator_params(axis="x", nbins=5)
    ax.set_xlim(*limits)


def caption(bench: str, setting: str, data: pd.DataFrame) -> str:
    """What stands under the figure."""
    what, plain = ("the operator alone", "convolution") if bench == "op" else ("a training step", "network")
    kinds = words.kinds(data.loc[~data["plain"], "contestant"])
    ours = [f"{listed(names)} ({kind})" for kind, names in kinds.items() if words.is_ours(names[0])]
    others = [f"{listed(names)} ({kind})" for kind, names in kinds.items() if not words.is_ours(names[0])]
    said = [f"{mark}: {listed(each)}." for mark, each in (("Circles", ours), ("Squares", others)) if each]
    interval = " and its 95 % interval" if data["low"].notna().any() else ""
    text = (
        f"Time of {what}, divided by that of the plain {plain} in the same round ({setting}). {' '.join(said)} Filled "
        f"marks: the median over the rounds{interval}. Rings: single rounds. Left of the dotted line is faster than "
        f"the plain {plain}."
    )
    return f"{text} The axis is logarithmic." if _limits(data)[1] else text


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    said = []
    for (race, mode), part in data[~data["plain"]].groupby(["race", "mode"], sort=False):
        found = ", ".join(
            f"{line['contestant']} {words.three_digits(line['ratio'])}" for line in part.to_dict("records")
        )
        said.append(f"{race}, {mode}: {found}")
    return f"Dot plot of time relative to the plain network, medians. {'; '.join(said)}."
