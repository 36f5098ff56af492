"""Scatter plots of scores against cost: the front, an axis of relative costs, and names in a column."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.transforms import BboxTransformTo, ScaledTranslation, blended_transform_factory

from tadaconv.reporting.core import style

FRONT: dict[str, Any] = {"color": style.ROW, "linewidth": 1.4}


def draw_front(ax: Axes, cost: "pd.Series[float]", score: "pd.Series[float]", right: float) -> None:
    """The front as steps, up to ``right``: the score that can be had at a cost."""
    steps = sorted(zip(cost, score, strict=True))
    costs, heights = [x for x, _ in steps], [y for _, y in steps]
    ax.step([*costs, max(right, costs[-1])], [*heights, heights[-1]], where="post", **FRONT, zorder=2)


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

    A line runs level from its point to the edge, and turns to its name only there. Names are in the order in which
    the lines arrive, so that none crosses another; of points at one height, the cheaper is named first.
    """
    low, high = ax.get_ylim()
    whole = high - low
    means = data["mean"].tolist()
    near = whole / 200  # points this near are at one height
    by_cost = np.argsort(cost, kind="stable")[::-1]  # so that of these the cheaper is above
    gap = num_lines * whole / max(18, num_lines * len(data))
    heights = np.empty(len(means))
    heights[by_cost] = style.space_out([near * round(means[i] / near) for i in by_cost], gap)
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
