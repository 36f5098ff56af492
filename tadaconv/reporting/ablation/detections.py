"""What is measured of localization: average precision by class over seeds, and the ceiling of some classes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tadaconv import statistics as st
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.core.export import CellOrigin
from tadaconv.result import DetectionScores, OrderBlind
from tadaconv.text import listed


def detections_of(export: Export) -> list[tuple[CellOrigin, DetectionScores]]:
    """The cells that localize and have finished, with what is measured of them; empty for any other task."""
    return [(cell, cell.detection) for cell in export.manifest.cells if cell.detection is not None]


def tiou_shown(export: Export) -> float:
    """The threshold at which classes and durations are shown: the nearest to 0.5, of two the lower."""
    _, scores = detections_of(export)[0]
    return min(scores.tious, key=lambda tiou: round(abs(tiou - 0.5), 9))


def order_blind(export: Export) -> OrderBlind | None:
    """The ceiling of networks that are blind to the order of frames; None where no classes differ by it alone."""
    return next((scores.order_blind for _, scores in detections_of(export)), None)


def classes_by_order(export: Export) -> str:
    """The classes that only the order of frames tells apart, in words; empty where there are none."""
    ceiling = order_blind(export)
    return "" if ceiling is None else listed(ceiling.classes)


def precision_on(export: Export, panels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Average precision in percent at :func:`tiou_shown`, one line per panel and row with a result.

    Columns: panel, row, n (seeds), mean, low, high (95 % interval over seeds, cut to 0 to 100).

    Args:
        export: Of cells that localize.
        panels: By name, the classes over which a mean is taken, seed by seed.
    """
    known = export.detections[export.detections["average_precision"].between(0, 100)]
    lines = []
    for panel, classes in panels.items():
        chosen = known[known["class"].isin(classes) & (known["tiou"] == tiou_shown(export))]
        by_seed = chosen.groupby(["row", "seed"], sort=False)["average_precision"].mean()
        for row, values in by_seed.groupby("row", sort=False):
            interval = st.t_interval(values)
            ends = np.clip([interval.low, interval.high], 0, 100)
            lines.append((panel, row, interval.n, interval.mean, *ends))
    floats = dict.fromkeys(["mean", "low", "high"], "float64")
    return pd.DataFrame(lines, columns=["panel", "row", "n", *floats]).astype(floats)
