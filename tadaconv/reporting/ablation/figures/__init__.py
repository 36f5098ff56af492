"""The figures of a table's report, as notebooks call them: each a function from an export to a :class:`Drawing`.

A new figure is one function with ``@figure``, and one cell in the notebook's template.
"""

from tadaconv.reporting.ablation.figures.calibration import calibration_over_training, calibration_over_training_data
from tadaconv.reporting.ablation.figures.classes import (
    accuracy_by_family,
    accuracy_by_family_data,
    confusion,
    confusion_data,
    gain_by_class,
    gain_by_class_data,
)
from tadaconv.reporting.ablation.figures.cost import (
    accuracy_by_latency,
    accuracy_by_latency_data,
    accuracy_by_macs,
    accuracy_by_macs_data,
)
from tadaconv.reporting.ablation.figures.curves import learning_curves, learning_curves_data
from tadaconv.reporting.ablation.figures.detections import (
    detection_scores,
    detection_scores_data,
    precision_by_class,
    precision_by_class_data,
)
from tadaconv.reporting.ablation.figures.placement import placed_rows, placement_map
from tadaconv.reporting.ablation.figures.rows import (
    accuracy_by_row,
    accuracy_by_row_data,
    differences,
    differences_data,
    heading,
)
from tadaconv.reporting.ablation.figures.verdicts import verdicts, verdicts_data
from tadaconv.reporting.core.figure import Drawing, figure, show
from tadaconv.reporting.core.labels import label_of
from tadaconv.reporting.core.placement import placement_map_data

__all__ = [
    "Drawing", "accuracy_by_family", "accuracy_by_family_data", "accuracy_by_latency", "accuracy_by_latency_data",
    "accuracy_by_macs", "accuracy_by_macs_data", "accuracy_by_row", "accuracy_by_row_data",
    "calibration_over_training", "calibration_over_training_data", "confusion", "confusion_data", "detection_scores",
    "detection_scores_data", "differences", "differences_data", "figure", "gain_by_class", "gain_by_class_data",
    "heading", "label_of", "learning_curves", "learning_curves_data", "placed_rows", "placement_map",
    "placement_map_data", "precision_by_class", "precision_by_class_data", "show", "verdicts", "verdicts_data",
]  # fmt: skip
