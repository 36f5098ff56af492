"""What a table is before it is run: what its rows cost, and whether every row can be built. Trains nothing."""

from tadaconv.preview.cost_table import Costs, RowCost, costs, render_costs
from tadaconv.preview.scale import PAPER, Scale, scale_of
from tadaconv.preview.start_check import RowCheck, TableCheck, check, render_check

__all__ = [
    "PAPER",
    "Costs",
    "RowCheck",
    "RowCost",
    "Scale",
    "TableCheck",
    "check",
    "costs",
    "render_check",
    "render_costs",
    "scale_of",
]
