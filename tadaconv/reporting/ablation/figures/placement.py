"""Where in the network the operator pays: scores by stages and fraction of channels."""

import pandas as pd
from matplotlib.figure import Figure

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.core.figure import Drawing, figure
from tadaconv.reporting.core.format import in_unit_of
from tadaconv.reporting.core.placement import draw_heatmap, placed, placement_map_data
from tadaconv.text import listed


def placed_rows(export: Export) -> pd.DataFrame:
    """As :func:`placed`, a line a cell of the table."""
    return placed(export.manifest.cells, export.cells, export.metric)


def placement_map(export: Export) -> Drawing | None:
    """Score by stages and fraction of channels; None unless rows that are otherwise equal differ in one of them."""
    data = placement_map_data(placed_rows(export), export.metric)
    shown = data[data["on_map"]]
    if len(shown[["stages", "share"]].drop_duplicates()) < 2 or not shown["n"].any():
        return None
    return draw_placement_map(data, export.metric)


def placement_map_caption(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """What is drawn, and the rows that are not on the map."""
    shown, apart = data[data["on_map"]], data[~data["on_map"]]
    others = [
        f"{row} ({metric.in_words(score)})" if n else row
        for row, score, n in zip(apart["row"], apart[metric.name], apart["n"], strict=True)
    ]
    text = (
        f"Validation {in_unit_of(metric)}, mean over seeds, by the stages that hold the operator and the fraction "
        "of their channels that is calibrated. The rows shown differ in nothing else; a dash marks a missing row. "
    )
    if (shown["n"] < shown["num_planned"]).any():
        text += "Below a mean is the number of its seeds where some are missing. "
    if others:
        names = listed(others) if len(others) <= 8 else f"{', '.join(others[:6])} and {len(others) - 6} more"
        text += f"Not on the map, since something else differs: {names}."
    return text.strip()


def placement_map_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The map in words."""
    cells = "; ".join(
        f"{row['stages']}, {100 * row['share']:.3g} % of the channels: "
        + (metric.in_words(row[metric.name]) if row["n"] else "no result")
        for row in data[data["on_map"]].to_dict("records")
    )
    return f"Heat map of validation {metric.label} by stages and fraction of channels. {cells}."


@figure(caption=placement_map_caption, alt=placement_map_alt)
def draw_placement_map(data: pd.DataFrame, metric: Metric = TOP1) -> Figure:
    """The map of the rows of ``data``, of :func:`placement_map_data`, that are on it."""
    return draw_heatmap(data[data["on_map"]], metric)
