"""A table before it is run: what rows cost, whether each can be built, what a run will take. Trains next to nothing."""

from tadaconv.preview.cost_table import Costs as Costs
from tadaconv.preview.cost_table import NetworkCosts as NetworkCosts
from tadaconv.preview.cost_table import RowCost as RowCost
from tadaconv.preview.cost_table import costs as costs
from tadaconv.preview.cost_table import render_costs as render_costs
from tadaconv.preview.plan import Expected as Expected
from tadaconv.preview.plan import Measure as Measure
from tadaconv.preview.plan import RowPlan as RowPlan
from tadaconv.preview.plan import RunPlan as RunPlan
from tadaconv.preview.plan import plan_table as plan_table
from tadaconv.preview.plan import plan_trials as plan_trials
from tadaconv.preview.plan import render_plan as render_plan
from tadaconv.preview.plan import workers_of_table as workers_of_table
from tadaconv.preview.probing import Probe as Probe
from tadaconv.preview.probing import probe as probe
from tadaconv.preview.reading import Load as Load
from tadaconv.preview.reading import Reading as Reading
from tadaconv.preview.reading import Spread as Spread
from tadaconv.preview.scale import PAPER as PAPER
from tadaconv.preview.scale import scale_of as scale_of
from tadaconv.preview.start_check import check as check
from tadaconv.preview.start_check import render_check as render_check
