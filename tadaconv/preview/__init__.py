"""A table before it is run: what rows cost, whether each can be built, what a run will take. Trains next to nothing."""

from tadaconv.preview.cost_table import Costs, NetworkCosts, RowCost, costs, render_costs
from tadaconv.preview.plan import Measure, RowPlan, RunPlan, plan_table, plan_trials, render_plan
from tadaconv.preview.probing import Probe, probe
from tadaconv.preview.reading import Load, Reading, Spread
from tadaconv.preview.scale import PAPER, Scale, scale_of
from tadaconv.preview.start_check import RowCheck, TableCheck, check, render_check

__all__ = [
    "PAPER",
    "Costs",
    "Load",
    "Measure",
    "NetworkCosts",
    "Probe",
    "Reading",
    "RowCheck",
    "RowCost",
    "RowPlan",
    "RunPlan",
    "Scale",
    "Spread",
    "TableCheck",
    "check",
    "costs",
    "plan_table",
    "plan_trials",
    "probe",
    "render_check",
    "render_costs",
    "render_plan",
    "scale_of",
]
