"""All claims of a table in one figure: how large each difference is, and what is known of it."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.answer import is_apart, judged
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.figures.rows import common_base, signed
from tadaconv.reporting.ablation.text import interval_of, mixed_recipes, of_many, smallest_in_words, verdict_in_words
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure
from tadaconv.reporting.core.format import difference
from tadaconv.reporting.core.labels import MOST_ROWS, label_of
from tadaconv.sequential import SeedDesign

_WIDTH = 3.5
"""Inches: as wide as a phone, where it is read without scrolling."""

_CHARACTERS = 46
"""Of a line of a label; its number is behind it."""

_LINE, _GAP = 0.15, 0.2
"""Inches: of a line of a label, and of the interval below it."""


class _Look(NamedTuple):
    """How a verdict is drawn: its sign, marker, colour, and whether the marker is filled."""

    sign: str
    marker: str
    colour: str
    is_filled: bool


_GOOD, _BAD = _Look("\u2713", "o", "#00694f", True), _Look("\u2717", "X", "#a63c00", True)
LOOKS = {
    "supported": _GOOD, "better": _GOOD, "contradicted": _BAD, "worse": _BAD,
    "equivalent": _Look("=", "s", style.ROW, True), "undecided": _Look("?", "o", style.SOFT, False),
}  # fmt: skip
"""By verdict, how it is drawn."""


def verdicts_data(export: Export) -> pd.DataFrame:
    """One line a claim, or in a table without claims a row that is compared with another, as :func:`.answer.judged`.

    Columns: text, better, worse, verdict, effect, low, high, n, and label, the text without a full stop and with the
    row compared with where there are several. Of more than ``MOST_ROWS`` rows without claims, the
    first and the last are kept.
    """
    data = judged(export)[["text", "better", "worse", "verdict", "effect", "low", "high", "n"]].reset_index(drop=True)
    data["label"] = data["text"].str.removesuffix(".") + (" to " + data["worse"] if is_apart(export) else "")
    if export.manifest.claims or len(data) <= MOST_ROWS:
        return data
    return pd.concat([data[: MOST_ROWS // 2], data[-MOST_ROWS // 2 :]]).reset_index(drop=True)


def verdicts(export: Export) -> Drawing | None:
    """Each claim's difference with its interval and verdict; None while there is no difference."""
    data = verdicts_data(export)
    if not data["n"].any():
        return None
    base = "" if export.manifest.claims else common_base(export) or ""
    is_claims = bool(export.manifest.claims)
    return draw_verdicts(data, export.metric, export.manifest.design, is_claims, base, export=export)


def verdicts_caption(data: pd.DataFrame, metric: Metric, design: SeedDesign | None, base: str, export: Export) -> str:
    """What is drawn, by verdict, and what its bars cover."""
    unit = f", in {metric.unit_of_differences}" if metric.unit_of_differences else ""
    if export.manifest.claims:
        text = f"Each claim: difference in validation {metric.label} of its two rows{unit}. "
    else:
        to = f"to {base}" if base else "to the row it is compared with"
        text = f"Each row: difference in validation {metric.label} {to}{unit}. "
        text += of_many(len(data), len(judged(export)), "the first and the last")
    kinds = dict.fromkeys(data["verdict"])
    text += ", ".join(f"{LOOKS[kind].sign} {verdict_in_words(kind, design, metric)}" for kind in kinds) + ". "
    if data["low"].notna().any():
        repeated = "repeated " if design is not None and design.is_adaptive else ""
        low, high = _limits(data, design)
        is_cut = (data["low"] < low).any() or (data["high"] > high).any()
        text += f"Bars are {repeated}95 % intervals over seeds{'; an arrow is where one continues' if is_cut else ''}. "
    else:
        text += "There are no intervals, which take two seeds or more. "
    if design is not None:
        text += f"The band reaches {smallest_in_words(design, metric)} to either side of zero. "
    return text.strip() + mixed_recipes(export, [*data["better"], *data["worse"]])


def verdicts_alt(data: pd.DataFrame, metric: Metric, design: SeedDesign | None) -> str:
    """The forest plot in words."""
    lines = "; ".join(
        f"{row['label']}: {verdict_in_words(row['verdict'], design, metric)}, {_effect(row, metric)}"
        for row in data.to_dict("records")
    )
    return f"Forest plot of verdicts. {lines}."


def _effect(row: dict[Any, Any], metric: Metric) -> str:
    return f"{difference(row['effect'], metric)}{interval_of(row, metric)}" if row["n"] else "no result"


@figure(caption=verdicts_caption, alt=verdicts_alt)
def draw_verdicts(
    data: pd.DataFrame,
    metric: Metric = TOP1,
    design: SeedDesign | None = None,
    is_claims: bool = True,
    base: str = "",
) -> Figure:
    """A forest plot with the text of each line above its interval, so that it fits a phone.

    Args:
        data: Of :func:`verdicts_data`.
        metric: Where lower is better, differences grow to the left: better is right.
        design: With one, a band marks the smallest difference of interest.
        is_claims: Whether the lines are claims.
        base: The row that all lines are compared with; empty where there are several.
    """
    lines = data.to_dict("records")
    labels = [label_of(f"{LOOKS[row['verdict']].sign} {row['label']}", _CHARACTERS) for row in lines]
    tops = np.cumsum([0.0, *(_LINE * (label.count("\n") + 1) + _GAP for label in labels)])
    about = _about(metric, is_claims, base)
    drawn = Figure(figsize=(_WIDTH, tops[-1] + 0.5 + 0.14 * about.count("\n")), layout="constrained")
    ax = drawn.subplots()
    limits = _limits(data, design)
    ax.set(ylim=(tops[-1], 0), xlim=limits[:: metric.sign], xlabel=about, yticks=[])
    for row, label, top, bottom in zip(lines, labels, tops, tops[1:], strict=False):
        lane = (bottom - _GAP, bottom)
        if design is not None:
            ends = np.clip((-design.smallest, design.smallest), *limits)
            ax.fill_betweenx(lane, *ends, color=style.FAINT, alpha=0.7, linewidth=0, zorder=0)
        ax.vlines(0, *lane, color=style.INK, linewidth=0.9, zorder=0)
        _draw_line(ax, row, bottom - 0.5 * _GAP, limits)
        look: dict[str, Any] = {
            "transform": ax.get_yaxis_transform(), "va": "top", "color": LOOKS[row["verdict"]].colour,
            "linespacing": 1.15,
        }  # fmt: skip
        ax.text(0, top + 0.03, label, **look)
        number = difference(row["effect"], metric) if row["n"] else "no result"
        ax.text(1, top + 0.03, number, ha="right", fontweight="bold", **look)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(lambda value, _: signed(value))
    return drawn


def _about(metric: Metric, is_claims: bool, base: str) -> str:
    """The label of the axis, with the direction of what is better."""
    unit = f" ({metric.unit_of_differences})" if metric.unit_of_differences else ""
    to = "\n" + label_of(f"to {base}", _CHARACTERS) if base else ""
    return (
        f"difference in validation {metric.label}{unit}{to}\n{'supports the claim' if is_claims else 'better'} \u2192"
    )


def _limits(data: pd.DataFrame, design: SeedDesign | None) -> tuple[float, float]:
    """The ends of the axis: differences and decided intervals fit, of undecided ones the most part.

    Where nothing is decided, intervals of median width fit.
    """
    is_decided, smallest = data["verdict"] != "undecided", 0.0 if design is None else design.smallest
    half = 0.0 if is_decided.any() else np.nan_to_num(((data["high"] - data["low"]) / 2).median())
    low = np.nanmin([0.0, -1.5 * smallest, (data["effect"] - half).min(), data.loc[is_decided, "low"].min()])
    high = np.nanmax([0.0, 1.5 * smallest, (data["effect"] + half).max(), data.loc[is_decided, "high"].max()])
    room = max(high - low, 1e-6) / 2
    widest_low, widest_high = np.nanmin([low, data["low"].min()]), np.nanmax([high, data["high"].max()])
    low, high = max(low - room, widest_low), min(high + room, widest_high)
    margin = 0.04 * max(high - low, 1e-6)
    return float(low - margin), float(high + margin)


def _draw_line(ax: Axes, row: dict[Any, Any], y: float, limits: tuple[float, float]) -> None:
    """The interval, with an arrow where it leaves the axis, and the marker of the verdict."""
    look = LOOKS[row["verdict"]]
    if row["low"] == row["low"]:
        shown = np.clip((row["low"], row["high"]), *limits)
        ax.hlines(y, *shown, color=look.colour, linewidth=2.0)
        arrows = "><" if ax.xaxis_inverted() else "<>"
        for end, known, arrow in zip(shown, (row["low"], row["high"]), arrows, strict=True):
            if end != known:
                ax.plot(end, y, arrow, color=look.colour, markersize=5, clip_on=False)
    if row["n"]:
        face, edge = (look.colour, "white") if look.is_filled else ("white", look.colour)
        width = 0.6 if look.is_filled else 1.2
        ax.plot(
            row["effect"], y, look.marker, markersize=6.5, markerfacecolor=face, markeredgecolor=edge,
            markeredgewidth=width,
        )  # fmt: skip
