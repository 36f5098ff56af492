"""Validation scores while rows train."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.figures.rows import common_base
from tadaconv.reporting.ablation.summary import comparisons
from tadaconv.reporting.ablation.text import mixed_recipes, of_many, of_seeds
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure, parted_by_cell
from tadaconv.reporting.core.labels import ends, label_of, to_versus
from tadaconv.reporting.core.text import by_seed, left_out_note, outside, points_of_curves

MOST_PANELS = 10


def learning_curves_data(export: Export) -> pd.DataFrame:
    """One line per row, seed and epoch: row, seed, epoch, val_top1 (or another metric), versus, in the table's order.

    ``versus`` is the row that a row is compared with, empty for none. A cell with a score that is not finite or out
    of range in any epoch is left out.
    """
    order = {row.name: i for i, row in enumerate(export.manifest.rows)}
    column = export.metric.curve_column
    df, _ = parted_by_cell(export.curves[["row", "seed", "epoch", column]], column, *export.metric.ends)
    versus = {row: versus or "" for row, versus in comparisons(export.manifest).items()}
    df = df.assign(versus=df["row"].map(versus))
    return df.sort_values(["row", "seed", "epoch"], key=lambda c: c.map(order) if c.name == "row" else c)


def learning_curves(export: Export) -> Drawing | None:
    """The validation score over the epochs; None while no cell has finished two: a single point is no curve."""
    data = learning_curves_data(export)
    if data["epoch"].nunique() < 2:
        return None
    shown = _ends_of_curves(data, rows_with_panels(data), export.metric)
    return draw_learning_curves(shown, common_base(export), export.metric, export=export)


def rows_with_panels(data: pd.DataFrame) -> list[str]:
    """Rows with a panel: those that are compared with another, or that no other is compared with."""
    versus = dict(zip(data["row"], data["versus"], strict=True))
    return [name for name, other in versus.items() if other or name not in versus.values()] or [*versus]


def _ends_of_curves(data: pd.DataFrame, rows: list[str], metric: Metric) -> pd.DataFrame:
    """The curves of the rows that :func:`ends` keeps, in its order, and of those they are compared with."""
    if len(rows) <= MOST_PANELS:
        return data
    last = data.sort_values("epoch", kind="stable").groupby(["row", "seed"])[metric.curve_column].last()
    final = pd.DataFrame({"row": rows, "final": last.groupby("row").mean().reindex(rows).to_numpy()})
    kept = ends(final, "final", MOST_PANELS)[0]["row"].tolist()
    versus = dict(zip(data["row"], data["versus"], strict=True))
    order = {name: i for i, name in enumerate(dict.fromkeys([*kept, *(versus[name] for name in kept)]))}
    return data[data["row"].isin(order)].sort_values("row", key=lambda names: names.map(order), kind="stable")


def learning_curves_caption(data: pd.DataFrame, base: str | None, export: Export) -> str:
    """What is drawn of ``export``; ``base`` is None where rows are compared with different rows."""
    metric, num_rows = export.metric, len(rows_with_panels(learning_curves_data(export)))
    when, views = points_of_curves((cell.experiment for cell in export.manifest.cells), metric)
    _, unknown = parted_by_cell(export.curves, metric.curve_column, *metric.ends)
    seeds_by_row = data.groupby("row")["seed"].nunique()
    seeds = of_seeds(seeds_by_row)
    band = "; bands reach from the lowest seed to the highest" if (seeds_by_row > 1).any() else ""
    beside = ", with the base row dashed in each panel" if (data["row"] == base).any() else ""
    beside = beside if base else ", with the row it is compared with dashed and named below it"
    cut = of_many(len(rows_with_panels(data)), num_rows, f"those that end {metric.extremes()}")
    text = f"Validation {metric.label} {when}, mean over {seeds}{band}. One panel per row{beside}.{views} {cut}".strip()
    text += left_out_note(by_seed(unknown), "cell", f"with a value {outside(metric)}")
    return text + mixed_recipes(export, data["row"])


def learning_curves_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The learning curves in words: where each row ends."""
    last = data[data["epoch"] == data["epoch"].max()].groupby("row", sort=False)[metric.curve_column].mean()
    ends = "; ".join(f"{name} ends at {metric.in_words(value)}" for name, value in last.items())
    return f"Learning curves, validation {metric.label} over epochs, one panel per row. {ends}."


@figure(caption=learning_curves_caption, alt=learning_curves_alt)
def draw_learning_curves(data: pd.DataFrame, base: str | None, metric: Metric = TOP1) -> Figure:
    """A small panel for each row with the row it is compared with, as ten lines in one panel are not legible.

    ``base`` is the row that all are compared with; None where they differ, and each panel names its own.
    """
    versus, names = dict(zip(data["row"], data["versus"], strict=True)), rows_with_panels(data)
    titles = [label_of(name, 21) + ("" if base else to_versus(versus[name], 21)) for name in names]
    dashed = label_of(f"base: {base}", 40) if base else "the row it is compared with"
    keys = {"the row named above the panel": ROW_CURVE, dashed: BASE_CURVE}
    figure, panels = small_panels(titles, metric.axis, keys)
    curves = data.groupby(["row", "epoch"])[metric.curve_column].agg(["mean", "min", "max"])
    for ax, name in zip(panels, names, strict=True):
        ax.grid(axis="y")
        ax.locator_params(nbins=4)
        looks = {versus[name]: BASE_CURVE, name: BASE_CURVE if name == base else ROW_CURVE}
        for row, look in looks.items():
            if row in versus:
                curve = curves.loc[row]
                # The band is the range of the seeds: at three of them a confidence band hides the curves.
                ax.fill_between(curve.index, curve["min"], curve["max"], color=look["color"], alpha=0.18, linewidth=0)
                ax.plot(curve.index, curve["mean"], **look)
    return figure


ROW_CURVE: dict[str, Any] = {"color": style.ROW}
BASE_CURVE: dict[str, Any] = {"color": style.BASE, "linestyle": (0, (3, 1.5))}


def small_panels(titles: Sequence[str], label: str, keys: Mapping[str, dict[str, Any]]) -> tuple[Figure, list[Axes]]:
    """A grid of panels over the epochs, one a title.

    Args:
        titles: The text above each panel, in one line or more.
        label: That of the vertical axis.
        keys: The entries of the legend, with the look of the line next to each.
    """
    num_columns = min(3, len(titles))
    num_rows = -(-len(titles) // num_columns)
    num_lines = max(title.count("\n") + 1 for title in titles)
    figure = Figure(figsize=(style.WIDTH, 0.7 + num_rows * (0.95 + 0.142 * num_lines)), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    figure.supxlabel("epoch", fontsize=8.5)
    figure.supylabel(label, fontsize=8.5)
    lines = [Line2D([], [], **look) for look in keys.values()]
    figure.legend(lines, list(keys), ncols=len(keys), handlelength=2.2, **style.LEGEND)
    for ax, title in zip(panels, titles, strict=False):
        ax.set_title(title, loc="left", pad=3)
    for ax in panels[len(titles) :]:
        ax.set_visible(False)
    for ax in panels[max(0, len(titles) - num_columns) : len(titles)]:
        ax.xaxis.set_tick_params(labelbottom=True)  # the panel below may be an empty one
    return figure, list(panels[: len(titles)])
