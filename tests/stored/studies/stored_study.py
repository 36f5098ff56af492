"""Which random start, in which stage, is the luckiest?

Run: tada study stored_study --regime stored_regime --trials 5
"""

import optuna

from tadaconv.spec import Context, Placement, TAda, Temporal
from tadaconv.study import Budget, Pruner, Sampler, Study


def suggest(trial: optuna.Trial) -> Temporal:
    """One stage, a context of one or two layers, and all of the channels or a half of them."""
    stage = trial.suggest_categorical("stage", [2, 3, 4, 5])
    layers = trial.suggest_int("layers", 1, 2)
    share = trial.suggest_categorical("share", [0.5, 1.0])
    return TAda(
        context=Context(kernels=(1,) * layers), init="random", placement=Placement(stages=(stage,), share=share)
    )


STUDY = Study(
    suggest=suggest,
    start={"res2": {"stage": 2, "layers": 2, "share": 1.0}, "res5": {"stage": 5, "layers": 1, "share": 1.0}},
    base="res2",
    sampler=Sampler("random", seed=4),
    pruner=Pruner("median", {"n_startup_trials": 2, "n_warmup_steps": 1}),
    budget=Budget(relative_macs=1.02),
)
