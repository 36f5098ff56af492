"""The figures of a table's report. Each is a data function, ``export -> DataFrame``, and a drawing function.

A new figure is one function that returns a :class:`Drawing`, and one line in the notebook's template.
"""

from tadaconv.reporting.ablation.figures.classes import (
    accuracy_by_family,
    accuracy_by_family_data,
    confusion,
    confusion_data,
    draw_accuracy_by_family,
    draw_confusion,
    draw_gain_by_class,
    gain_by_class,
    gain_by_class_data,
)
from tadaconv.reporting.ablation.figures.cost import (
    accuracy_by_latency,
    accuracy_by_latency_data,
    accuracy_by_macs,
    accuracy_by_macs_data,
    beside_the_cheapest,
    draw_accuracy_by_latency,
    draw_accuracy_by_macs,
    names_at_the_right,
)
from tadaconv.reporting.ablation.figures.curves import draw_learning_curves, learning_curves, learning_curves_data
from tadaconv.reporting.ablation.figures.placement import (
    draw_placement_map,
    placed,
    placed_rows,
    placement_map,
    placement_map_data,
    placement_map_of,
)
from tadaconv.reporting.ablation.figures.rows import (
    accuracy_by_row,
    accuracy_by_row_data,
    differences,
    differences_data,
    draw_accuracy_by_row,
    draw_differences,
    heading,
)
from tadaconv.reporting.core.figure import Drawing, show
from tadaconv.reporting.core.labels import label_of

__all__ = [
    "Drawing",
    "accuracy_by_family",
    "accuracy_by_family_data",
    "accuracy_by_latency",
    "accuracy_by_latency_data",
    "accuracy_by_macs",
    "accuracy_by_macs_data",
    "accuracy_by_row",
    "accuracy_by_row_data",
    "beside_the_cheapest",
    "confusion",
    "confusion_data",
    "differences",
    "differences_data",
    "draw_accuracy_by_family",
    "draw_accuracy_by_latency",
    "draw_accuracy_by_macs",
    "draw_accuracy_by_row",
    "draw_confusion",
    "draw_differences",
    "draw_gain_by_class",
    "draw_learning_curves",
    "draw_placement_map",
    "gain_by_class",
    "gain_by_class_data",
    "heading",
    "label_of",
    "learning_curves",
    "learning_curves_data",
    "names_at_the_right",
    "placed",
    "placed_rows",
    "placement_map",
    "placement_map_data",
    "placement_map_of",
    "show",
]
