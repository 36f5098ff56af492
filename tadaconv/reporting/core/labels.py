"""Names in figures: escaped, wrapped, and where a table is too long to show, the choice of rows that are."""

from collections.abc import Iterable, Sequence
from textwrap import fill

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes

from tadaconv.reporting.core import style

MOST_ROWS = 30
"""More rows than this make a figure that no page holds; it then shows its two ends."""


def label_of(name: str, width: int = 26) -> str:
    """A name as a label of lines of ``width`` characters or less."""
    # Names are the user's: a dollar sign in one must not start a formula, and an SVG file takes no control characters.
    words = " ".join(name.split())
    return fill("".join(c if c.isprintable() else "\ufffd" for c in words), width).replace("$", r"\$")


def short_labels(names: Sequence[str], width: int) -> list[str]:
    """Names on one line each of ``width`` characters or less: long ones lose their middle.

    Where two would read the same, all begin with their number in ``names``, from 1.
    """
    plain = [" ".join(name.split()) for name in names]
    labels = [_without_middle(name, width) for name in plain]
    if len(set(labels)) < len(labels):
        labels = [_without_middle(f"{i} {name}", width) for i, name in enumerate(plain, start=1)]
    return [label_of(name, width) for name in labels]


def _without_middle(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    kept = width - 1
    return f"{name[: kept - kept // 2].rstrip()}\u2026{name[-(kept // 2) :].lstrip()}"


def with_seeds(name: str, n: int, num_planned: int) -> str:
    """A name as a label, with how many seeds it has where some are missing."""
    return label_of(name) + (f"  (n = {n})" if 0 < n < num_planned else "")


def to_versus(versus: str, width: int = 26) -> str:
    """The line below a label that names the row it is compared with; empty for none."""
    return "\n" + label_of(f"\u0394 to {versus}", width) if versus else ""


def pitch(labels: list[str], least: float) -> float:
    """Inches from row to row, so that labels of several lines keep apart."""
    return max(least, 0.07 + 0.142 * max(label.count("\n") + 1 for label in labels))


def name_rows(
    ax: Axes, positions: Iterable[float], names: list[str], bold: Iterable[bool], below: Iterable[str] = ()
) -> None:
    """Label the rows, bold where they are references, each with the text ``below`` its name in secondary ink."""
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


def ends(data: pd.DataFrame, by: str, most: int = MOST_ROWS) -> tuple[pd.DataFrame, list[int]]:
    """At most ``most`` rows, half of them highest in ``by`` and half lowest, and where rows between are left out.

    A table that is short enough stays as it is, in its order. Of a longer one the rows with a value of ``by`` are
    sorted from the highest down; a few that others are compared with (``reference``) stay too. The second result holds
    the positions before which rows are missing.
    """
    if len(data) <= most:
        return data, []
    ranked = data[data[by].notna()].sort_values(by, ascending=False, kind="stable").reset_index(drop=True)
    half = most // 2
    kept = (ranked.index < half) | (ranked.index >= len(ranked) - half)
    if "reference" in ranked and ranked["reference"].sum() <= half // 2:
        kept |= ranked["reference"]
    shown = ranked[kept]
    breaks = [i for i in range(1, len(shown)) if shown.index[i] - shown.index[i - 1] > 1]
    return shown.reset_index(drop=True), breaks


def mark_breaks(ax: Axes, breaks: Iterable[int]) -> None:
    """A dashed line before each of these rows: others between are left out."""
    for position in breaks:
        ax.axhline(position - 0.5, color=style.SOFT, linewidth=0.8, linestyle=(0, (6, 3)), zorder=0)


def epochs_axis(ax: Axes, last: int) -> None:
    """Epochs from 0 to ``last`` across, few ticks either way, and a grid of levels."""
    ax.grid(axis="y")
    ax.set_xlim(0, last)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
