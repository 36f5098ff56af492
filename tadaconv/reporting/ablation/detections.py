"""What is measured of localization, over seeds: average precision by class and threshold, recall, and the ceiling."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from tadaconv import statistics as st
from tadaconv.reporting.ablation.data import Export
from tadaconv.result import DetectionScores, OrderBlind
from tadaconv.text import listed


class Detections(NamedTuple):
    """What is measured of one cell, without its average precisions by class."""

    row: str
    seed: int
    num_val: int | None
    scores: DetectionScores


def detections_of(export: Export) -> list[Detections]:
    """The cells that localize and have finished; empty for any other task."""
    return [
        Detections(cell.row, cell.seed, cell.num_val, cell.detection)
        for cell in export.manifest.cells
        if cell.detection is not None
    ]


def tiou_shown(export: Export) -> float:
    """The threshold at which classes and durations are shown: the nearest to 0.5, of two the lower."""
    tious = detections_of(export)[0].scores.tious
    return min(tious, key=lambda tiou: round(abs(tiou - 0.5), 9))


def over_seeds(values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Means in percent, one line for each value of ``by``: n, mean, low, high (95 % over seeds, within 0 to 100).

    In the order in which they appear in ``values``, which has a column ``percent`` and a line a seed. What is not
    between 0 and 100 is left out.
    """
    lines = []
    for key, group in values[values["percent"].between(0, 100)].groupby(list(by), sort=False):
        interval = st.t_interval(group["percent"])
        low, high = np.clip([interval.low, interval.high], 0, 100)
        lines.append((*key, interval.n, interval.mean, low, high))
    floats = dict.fromkeys(["mean", "low", "high"], "float64")
    return pd.DataFrame(lines, columns=[*by, "n", "mean", "low", "high"]).astype(floats)


# The ceiling of networks that are blind to the order of frames


def order_blind(export: Export) -> OrderBlind | None:
    """What such a network reaches at most; the same for all cells. None where no classes differ by order alone."""
    return next((found.scores.order_blind for found in detections_of(export)), None)


def classes_by_order(export: Export) -> str:
    """The classes that only the order of frames tells apart, in words; empty where there are none."""
    ceiling = order_blind(export)
    return "" if ceiling is None else listed(ceiling.classes)


def precision_on(export: Export, classes: Iterable[str]) -> pd.DataFrame:
    """Mean average precision on some classes at :func:`tiou_shown`, one line a row: row, n, mean, low, high."""
    lines = _at_one_tiou(export)
    chosen = lines[lines["class"].isin(list(classes))]
    return over_seeds(chosen.groupby(["row", "seed"], sort=False)["percent"].mean().reset_index(), ["row"])


def precision_of_classes(export: Export) -> pd.DataFrame:
    """Average precision at :func:`tiou_shown`, one line per row and class: row, class, n, mean, low, high."""
    return over_seeds(_at_one_tiou(export), ["row", "class"])


def _at_one_tiou(export: Export) -> pd.DataFrame:
    lines = export.detections.rename(columns={"average_precision": "percent"})
    return lines[lines["tiou"] == tiou_shown(export)]


# Scores by threshold, number of detections and duration


def scores_by(export: Export) -> pd.DataFrame:
    """One line per row, measure and place: row, measure, place, n, mean, low, high.

    ``measure`` is *map* by threshold of tIoU, *recall* by the number of detections a video on average, or *duration*:
    recall by the duration of true segments at :func:`tiou_shown`, whose place is the number of the bin, left out
    where it has no segments. ``low`` and ``high`` are the lowest and the highest seed.
    """
    lines: list[tuple[str, str, float, float]] = []
    for row, _, _, scores in detections_of(export):
        at = scores.tious.index(tiou_shown(export))
        lines += [(row, "map", *pair) for pair in zip(scores.tious, scores.by_tiou, strict=True)]
        lines += [(row, "recall", *pair) for pair in scores.average_recall.items()]
        lines += [(row, "duration", i, part.recall[at]) for i, part in enumerate(scores.by_duration) if part.recall]
    df = pd.DataFrame(lines, columns=["row", "measure", "place", "percent"])
    known = df[df["percent"].between(0, 100)].groupby(["row", "measure", "place"], sort=False)["percent"]
    return known.agg(n="size", mean="mean", low="min", high="max").reset_index()
