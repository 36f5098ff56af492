"""A design study: a search space over what is plugged in, and the protocol by which it is searched.

One file in ``studies/`` holds one study under the name ``STUDY``; its docstring is the question. A study proposes; it
never trains: :class:`Proposer` queues what its sampler suggests as attempts like a table's, and any worker runs them.
"""

from tadaconv.study.confirmation import confirm, confirm_seeds, confirmed
from tadaconv.study.cost import budget_macs
from tadaconv.study.definition import (
    SAMPLERS,
    Budget,
    LoadedStudy,
    Pruner,
    Sampler,
    Study,
    load_study,
    study_name,
)
from tadaconv.study.proposer import Proposed, Proposer
from tadaconv.study.search import search
from tadaconv.study.space import Suggestion, walk
from tadaconv.study.trials import (
    ENDS,
    InfeasibleDraw,
    Status,
    TrialRecord,
    infeasible_draws,
    kept_budget,
    trial_records,
)

__all__ = [
    "ENDS",
    "SAMPLERS",
    "Budget",
    "InfeasibleDraw",
    "LoadedStudy",
    "Proposed",
    "Proposer",
    "Pruner",
    "Sampler",
    "Status",
    "Study",
    "Suggestion",
    "TrialRecord",
    "budget_macs",
    "confirm",
    "confirm_seeds",
    "confirmed",
    "infeasible_draws",
    "kept_budget",
    "load_study",
    "search",
    "study_name",
    "trial_records",
    "walk",
]
