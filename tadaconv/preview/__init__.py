"""What a table is before it is run: what its rows cost, and whether every row can be built. Trains nothing."""

from tadaconv.preview.check import RowCheck, TableCheck, check, render_check
from tadaconv.preview.costs import Costs, RowCost, costs, render_costs
from tadaconv.preview.scale import PAPER, Scale, scale_of

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
