"""Average precision by class, and by row how mAP and recall depend on threshold, number and duration."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.detections import (
    classes_by_order,
    detections_of,
    order_blind,
    precision_on,
    tiou_shown,
)
from tadaconv.reporting.ablation.figures.curves import BASE_CURVE, MOST_PANELS, ROW_CURVE
from tadaconv.reporting.ablation.figures.rows import LOOKS, common_base, named
from tadaconv.reporting.ablation.text import mixed_recipes, of_many, of_seeds
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure
from tadaconv.reporting.core.format import percent
from tadaconv.reporting.core.labels import ends, label_of, name_rows, pitch, to_versus
from tadaconv.result import DetectionScores, OrderBlind
from tadaconv.text import listed

MOST_CLASSES = 7
"""Of more classes only so many have a panel, those in which rows differ most."""

_BESIDE = 4
"""Panels that a line has room for."""


# Average precision by class


def precision_by_class_data(export: Export) -> pd.DataFrame:
    """Average precision in percent at one tIoU, one line per panel and row: panel, row, n, mean, low, high.

    A panel is a class, or the mean of those that the order of frames alone tells apart, which comes first. Of more than
    ``MOST_CLASSES`` those with the largest range of the rows' means are kept. Empty where cells do not localize.
    """
    ceiling, classes = order_blind(export), export.detections["class"].unique()
    together = {} if ceiling is None else {classes_by_order(export): ceiling.classes}
    data = precision_on(export, {**together, **{name: [name] for name in classes}})
    means = data[~data["panel"].isin(list(together))].groupby("panel", sort=False)["mean"]
    widest = (means.max() - means.min()).nlargest(MOST_CLASSES).index
    return data[data["panel"].isin([*together, *widest])]


def precision_by_class(export: Export) -> Drawing | None:
    """Average precision of each class by row; None where cells do not localize."""
    data = precision_by_class_data(export)
    if data.empty:
        return None
    summary = named(export)
    rows, _ = ends(summary[summary["row"].isin(data["row"])], "mean")
    # A few validation videos may lack the classes that the ceiling is of.
    ceiling = order_blind(export) if classes_by_order(export) in set(data["panel"]) else None
    return draw_precision_by_class(data, rows, ceiling, export=export)


_BLIND = "the most that a network blind to the order of frames reaches"


def precision_by_class_caption(
    data: pd.DataFrame, rows: pd.DataFrame, ceiling: OrderBlind | None, export: Export
) -> str:
    """What is drawn of the ``rows`` of ``export``."""
    num_rows, num_classes = data["row"].nunique(), export.detections["class"].nunique()
    text = f"Validation average precision of each class at tIoU {tiou_shown(export):g}, in percent. "
    text += of_many(len(rows), num_rows, "those with the highest and the lowest mAP")
    if num_classes > MOST_CLASSES:
        text += (
            f"Of {num_classes} classes the {MOST_CLASSES} in which the means of rows differ most are shown; the "
            "extremes of many are biased by selection. "
        )
    text += f"Markers are means over {of_seeds(data.groupby('row')['n'].max()[rows['row']])}"
    text += ", bars 95 % intervals over seeds, for one class each. " if data["low"].notna().any() else ". "
    if rows["reference"].any():
        text += "Diamonds are rows that others are compared with. "
    if ceiling is not None:
        text += (
            f"The first panel is the mean of {classes_by_order(export)}, which differ by the order of frames alone. "
            f"Its dotted line is {_BLIND}, {percent(ceiling.mean)} %; the band around it, {percent(ceiling.low)} to "
            f"{percent(ceiling.high)} %, holds 95 % of the ways in which it may break ties."
        )
    return text.strip() + mixed_recipes(export, rows["row"])


def precision_by_class_alt(data: pd.DataFrame, rows: pd.DataFrame, ceiling: OrderBlind | None) -> str:
    """The dot plots in words."""
    known = {(line["row"], line["panel"]): line["mean"] for line in data.to_dict("records")}
    panels = list(dict.fromkeys(data["panel"]))
    words = [
        f"{row}: " + ", ".join(f"{panel} {percent(known[row, panel])} %" for panel in panels if (row, panel) in known)
        for row in rows["row"]
    ]
    blind = "" if ceiling is None else f" A band marks {_BLIND}, {percent(ceiling.mean)} % on {panels[0]}."
    return f"Dot plots of average precision by class, one panel each. {'; '.join(words)}.{blind}"


@figure(caption=precision_by_class_caption, alt=precision_by_class_alt)
def draw_precision_by_class(data: pd.DataFrame, rows: pd.DataFrame, ceiling: OrderBlind | None) -> Figure:
    """A panel a class, all with the same rows; the ceiling is a band in the first."""
    panels, names = list(dict.fromkeys(data["panel"])), [label_of(name, 24) for name in rows["row"]]
    titles = [label_of(panel, 15) for panel in panels]
    num_columns = min(_BESIDE, len(panels))
    num_lines = -(-len(panels) // num_columns)
    a_line = 0.45 + 0.142 * max(title.count("\n") for title in titles) + pitch(names, 0.24) * len(rows)
    figure = Figure(figsize=(style.WIDTH, 0.45 + num_lines * a_line), layout="constrained")
    ratios = [1 if ceiling is None else 1.8, *[1] * (num_columns - 1)]
    axes = figure.subplots(num_lines, num_columns, sharex=True, sharey=True, squeeze=False, width_ratios=ratios)
    for ax, panel, title in zip(axes.flat, panels, titles, strict=False):
        lines = data[data["panel"] == panel].set_index("row").reindex(rows["row"])
        for is_reference, look in LOOKS.items():
            here = np.flatnonzero(rows["reference"] == is_reference)
            ax.hlines(here, lines["low"].iloc[here], lines["high"].iloc[here], color=look["color"], linewidth=2.0)
            ax.plot(lines["mean"].iloc[here], here, **{**look, "markersize": 4.5})
        ax.set_title(title, loc="left", pad=4)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x")
    if ceiling is not None:
        axes.flat[0].axvspan(
            ceiling.low, ceiling.high, color=style.SOFT, alpha=0.3, linewidth=0, label=_BLIND, zorder=0
        )
        axes.flat[0].axvline(ceiling.mean, color=style.INK, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
        style.legend(figure, 1)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    axes.flat[0].set(ylim=(len(rows) - 0.4, -0.6))
    axes.flat[0].locator_params(axis="x", nbins=3)
    for ax in axes[:, 0]:
        name_rows(ax, range(len(rows)), names, rows["reference"])
    figure.supxlabel("average precision (%)", fontsize=8.5)
    return figure


# mAP by threshold, recall by number of detections and by duration


def detection_scores_data(export: Export) -> pd.DataFrame:
    """One line per row, measure and place: row, measure, place, n, mean, low, high (the lowest and highest seed).

    ``measure`` is *map* by threshold of tIoU, *recall* by the number of detections a video on average, or *duration*:
    recall by the duration of true segments, whose place is the number of the bin, left out where it has no segments.
    """
    lines: list[tuple[str, str, float, float]] = []
    for origin, scores in detections_of(export):
        row, at = origin.row, scores.tious.index(tiou_shown(export))
        lines += [(row, "map", *pair) for pair in zip(scores.tious, scores.by_tiou, strict=True)]
        lines += [(row, "recall", *pair) for pair in scores.average_recall.items()]
        lines += [(row, "duration", i, part.recall[at]) for i, part in enumerate(scores.by_duration) if part.recall]
    df = pd.DataFrame(lines, columns=["row", "measure", "place", "percent"])
    known = df[df["percent"].between(0, 100)].groupby(["row", "measure", "place"], sort=False)["percent"]
    return known.agg(n="size", mean="mean", low="min", high="max").reset_index()


def detection_scores(export: Export) -> Drawing | None:
    """Mean AP by tIoU, and recall by the number of detections and by duration; None where cells do not localize."""
    data = detection_scores_data(export)
    if data.empty:
        return None
    summary = named(export)
    rows, _ = ends(summary[summary["row"].isin(data["row"])], "mean", MOST_PANELS)
    _, scores = detections_of(export)[0]
    return draw_detection_scores(data, rows, common_base(export), scores, export=export)


def detection_scores_caption(data: pd.DataFrame, rows: pd.DataFrame, scores: DetectionScores, export: Export) -> str:
    """What is drawn of the ``rows`` of ``export``; ``scores`` are of any cell."""
    num_seeds = data.groupby("row")["n"].max()[rows["row"]]
    band = "; bands reach from the lowest seed to the highest" if (num_seeds > 1).any() else ""
    counts = listed([f"{part.num_segments:,}" for part in scores.by_duration])
    beside = "the row it is compared with, named below it," if rows["versus"].any() else "the base row"
    return (
        f"Validation videos, in percent, mean over {of_seeds(num_seeds)}{band}; one line of panels per row, with "
        f"{beside} dashed. {of_many(len(rows), data['row'].nunique(), 'those with the highest and the lowest mAP')}"
        "Left: mAP by threshold of tIoU. Middle: average recall of true segments by the number of detections a video "
        "on average, whatever their class, mean over thresholds. Right: true segments that a detection of their class "
        f"finds at tIoU {tiou_shown(export):g}, by duration; there are {counts} of them, from the shortest on."
    ) + mixed_recipes(export, rows["row"])


def detection_scores_alt(data: pd.DataFrame, rows: pd.DataFrame) -> str:
    """The small multiples in words: both ends of each line."""
    words = []
    for row in rows["row"]:
        of_row = data[data["row"] == row].groupby("measure", sort=False)["mean"]
        parts = [f"{_MEASURES[name]} {percent(mean.iloc[0])} to {percent(mean.iloc[-1])} %" for name, mean in of_row]
        words.append(f"{row}: {', '.join(parts)}")
    return (
        "Lines of mAP from the lowest tIoU to the highest, of average recall from few detections a video to many, and "
        f"of recall from the shortest segments to the longest. {'; '.join(words)}."
    )


_MEASURES = {"map": "mAP", "recall": "average recall", "duration": "recall"}
"""The measures of :func:`detection_scores_data`, a panel of a row each, with what is written above."""


@figure(caption=detection_scores_caption, alt=detection_scores_alt)
def draw_detection_scores(data: pd.DataFrame, rows: pd.DataFrame, base: str | None, scores: DetectionScores) -> Figure:
    """A line of three panels a row, each with the row it is compared with; the band is the range of the seeds.

    ``base`` is the row that all are compared with; None where they differ. ``scores`` are of any cell.
    """
    names = [label_of(row["row"], 18) + to_versus(row["versus"], 18) for row in rows.to_dict("records")]
    figure = Figure(figsize=(style.WIDTH, 0.75 + pitch(names, 0.72) * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(_MEASURES), sharex="col", sharey=True, squeeze=False)
    numbers = list(scores.average_recall)
    edges = [part.shortest for part in scores.by_duration[1:]]
    for line, name, row in zip(axes, names, rows.to_dict("records"), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        versus = row["versus"] or base
        looks = {versus: BASE_CURVE, row["row"]: BASE_CURVE if row["row"] == base else ROW_CURVE}
        for ax, measure in zip(line, _MEASURES, strict=True):
            ax.grid(axis="y")
            for drawn, look in looks.items():
                curve = data[(data["row"] == drawn) & (data["measure"] == measure)]
                # Numbers of detections at even distances, or those of a few would lie upon each other.
                at = curve["place"].map(numbers.index) if measure == "recall" else curve["place"]
                marker = "o" if len(at) < 20 else ""
                ax.fill_between(at, curve["low"], curve["high"], color=look["color"], alpha=0.18, linewidth=0)
                ax.plot(at, curve["mean"], marker=marker, markersize=2.5, **look)
    for ax, title in zip(axes[0], _MEASURES.values(), strict=True):
        ax.set_title(title, loc="left", pad=4)
    axes[0, 0].set(ylim=(-4, 104), yticks=[0, 50, 100])
    by_tiou, by_number, by_duration = axes[-1]
    by_tiou.set(xlabel="tIoU")
    by_tiou.locator_params(axis="x", nbins=4)
    by_number.set(xlabel="detections a video", xticks=range(len(numbers)), xticklabels=numbers)
    by_duration.set(
        xlabel=f"duration ({scores.unit})", xlim=(-0.5, len(edges) + 0.5),
        xticks=[i + 0.5 for i in range(len(edges))], xticklabels=[f"{edge:.3g}" for edge in edges],
    )  # fmt: skip
    return figure
