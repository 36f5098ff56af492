"""Where should a given number of extra multiply-adds be spent?

The operator goes into any set of stages, into all of their blocks or every second one, on all of their channels or a
fraction, with a context of more or fewer hidden channels. The paper only places it in growing sets of stages (section
5); everything else is not in the paper. No stage at all is the bare backbone.

The budget is 1.02 times the bare backbone's multiply-adds. At the scale of the quick regime that excludes wide
contexts in many stages; at the paper's, where the context costs next to nothing, it excludes none. On a backbone with
one block per stage, as in the quick regime, there is no second block: such a draw is infeasible there. It is rejected
before it is queued, does not count as a trial, and is replaced by another draw.

As in the tables, the operator has no temporal aggregation here, so that trials differ in the placement of the
calibration alone. The space has 361 configurations. In the quick regime a trial takes about 35 seconds on one core,
less where it is pruned.
Run: tada study stage_placement --trials 40
"""

import optuna

from tadaconv.spec import Aggregation, TAda, Temporal
from tadaconv.study import Budget, Pruner, Study

BASE = TAda(aggregation=Aggregation(kind="none"))


def suggest(trial: optuna.Trial) -> Temporal:
    """Every trial draws every parameter, so that the sampler learns about all of them from every trial."""
    stages = tuple(stage for stage in (2, 3, 4, 5) if trial.suggest_categorical(f"res{stage}", [True, False]))
    blocks = trial.suggest_categorical("blocks", ["all", "alternate"])
    share = trial.suggest_categorical("share", [1 / 4, 1 / 2, 1.0])
    reduction = trial.suggest_categorical("reduction", [1, 2, 4, 8])
    if not stages:
        return None
    return BASE.but(
        placement__stages=stages, placement__blocks=blocks, placement__share=share, context__reduction=reduction
    )


PUBLISHED = {"res2": True, "res3": True, "res4": True, "res5": True, "blocks": "all", "share": 1.0, "reduction": 4}

STUDY = Study(
    suggest=suggest,
    start={
        "paper: all stages": PUBLISHED,
        "paper: res4+5": {**PUBLISHED, "res2": False, "res3": False},
        "paper: res5": {**PUBLISHED, "res2": False, "res3": False, "res4": False},
        "paper: no calibration (TSN)": {**PUBLISHED, "res2": False, "res3": False, "res4": False, "res5": False},
    },
    base="paper: all stages",
    pruner=Pruner("median", {"n_startup_trials": 4, "n_warmup_steps": 2}),
    budget=Budget(relative_macs=1.02),
)
