"""In which stages does the operator pay for localization?

The operator goes into any set of stages, with or without the global descriptor of a clip. The paper localizes with
all stages calibrated, and does not ask. No stage at all is the bare backbone. As in the table, the operator has no
temporal aggregation, so that trials differ in the placement of the calibration alone. The space has 31 configurations,
all of which can be run.
Run: tada study localization_placement --trials 31 --regime quick_localize
"""

import optuna

from tadaconv.spec import Aggregation, TAda, Temporal
from tadaconv.study import Pruner, Study

BASE = TAda(aggregation=Aggregation(kind="none"))


def suggest(trial: optuna.Trial) -> Temporal:
    """Every trial draws every parameter, so that the sampler learns about all of them from every trial."""
    stages = tuple(stage for stage in (2, 3, 4, 5) if trial.suggest_categorical(f"res{stage}", [True, False]))
    global_descriptor = trial.suggest_categorical("global", [True, False])
    if not stages:
        return None
    return BASE.but(placement__stages=stages, context__global_descriptor=global_descriptor)


PUBLISHED = {"res2": True, "res3": True, "res4": True, "res5": True, "global": True}

STUDY = Study(
    suggest=suggest,
    start={
        "paper: all stages": PUBLISHED,
        "paper: no calibration (TSN)": {**PUBLISHED, "res2": False, "res3": False, "res4": False, "res5": False},
    },
    base="paper: all stages",
    pruner=Pruner("median", {"n_startup_trials": 4, "n_warmup_steps": 4}),
)
