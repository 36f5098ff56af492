"""A design study: a search space over what is plugged in, and the protocol by which it is searched.

One file in ``studies/`` holds one study under the name ``STUDY``; its docstring is the question. A study proposes; it
never trains: :class:`Proposer` queues what its sampler suggests as attempts like a table's, and any worker runs them.
"""

from tadaconv.study.confirmation import confirm as confirm
from tadaconv.study.confirmation import confirm_seeds as confirm_seeds
from tadaconv.study.confirmation import confirmed as confirmed
from tadaconv.study.cost import budget_macs as budget_macs
from tadaconv.study.definition import SAMPLERS as SAMPLERS
from tadaconv.study.definition import Budget as Budget
from tadaconv.study.definition import LoadedStudy as LoadedStudy
from tadaconv.study.definition import Pruner as Pruner
from tadaconv.study.definition import Sampler as Sampler
from tadaconv.study.definition import Study as Study
from tadaconv.study.definition import load_study as load_study
from tadaconv.study.definition import study_name as study_name
from tadaconv.study.proposer import Proposed as Proposed
from tadaconv.study.proposer import Proposer as Proposer
from tadaconv.study.search import search as search
from tadaconv.study.space import Suggestion as Suggestion
from tadaconv.study.space import walk as walk
from tadaconv.study.trials import ENDS as ENDS
from tadaconv.study.trials import InfeasibleDraw as InfeasibleDraw
from tadaconv.study.trials import Status as Status
from tadaconv.study.trials import TrialRecord as TrialRecord
from tadaconv.study.trials import infeasible_draws as infeasible_draws
from tadaconv.study.trials import kept_budget as kept_budget
from tadaconv.study.trials import trial_records as trial_records
