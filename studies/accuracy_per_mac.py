"""How much accuracy can be had for two percent more multiply-adds?

All design choices at once: temporally-adaptive convolutions with any calibration, context, aggregation and placement,
or instead the temporal shift, the temporal adaptive module, squeeze-and-excitation and plain convolutions over
frames. Nothing over 1.02 times the bare backbone's multiply-adds is trained; the report shows the Pareto front of the
rest.

The paper's rows are the operator as published, with and without its aggregation, and the rivals it compares with. The
space has 63,301 configurations, so run as many trials as time allows. In the quick regime a trial
takes about 35 seconds on one core, less if it is pruned, and none if it is over the budget.
Run: tada study accuracy_per_mac --trials 100
"""

from typing import Any

import optuna

from tadaconv.spec import Aggregation, Context, Placement, Rival, TAda, Temporal
from tadaconv.study import Budget, Pruner, Study

RIVALS = ["tsm", "tam", "squeeze_excitation", "temporal_conv"]
CALIBRATIONS = ["cin", "cout", "k2", "cin_k2", "cin+cout", "cin+k2"]


def suggest(trial: optuna.Trial) -> Temporal:
    """Every operator has a placement and an aggregation; the other parameters depend on the operator."""
    operator = trial.suggest_categorical("operator", ["tada", *RIVALS])
    stages = {stage: trial.suggest_categorical(f"res{stage}", [True, False]) for stage in (2, 3, 4, 5)}
    kind = trial.suggest_categorical("aggregation", ["none", "average", "max", "mix", "conv"])
    if not any(stages.values()):
        return None
    aggregation = Aggregation(kind=kind)
    placement = Placement(stages=tuple(stage for stage, chosen in stages.items() if chosen))
    if operator != "tada":
        return Rival(name=operator, aggregation=aggregation, placement=placement)
    calibration = trial.suggest_categorical("calibration", CALIBRATIONS)
    if "k2" not in calibration.split("+"):  # taps have no channels to share out
        placement = placement.but(share=trial.suggest_categorical("share", [1 / 4, 1 / 2, 1.0]))
    return TAda(calibration=calibration, context=context(trial), aggregation=aggregation, placement=placement)


def context(trial: optuna.Trial) -> Context:
    """A linear context has no second kernel and no reduction."""
    kernels = [trial.suggest_categorical("kernel 1", [1, 3, 5])]
    options: dict[str, Any] = {"global_descriptor": trial.suggest_categorical("global", [True, False])}
    if not trial.suggest_categorical("linear", [False, True]):
        kernels.append(trial.suggest_categorical("kernel 2", [1, 3, 5]))
        options["reduction"] = trial.suggest_categorical("reduction", [2, 4, 8])
    return Context(kernels=tuple(kernels), **options)


EVERYWHERE = {"res2": True, "res3": True, "res4": True, "res5": True}
PUBLISHED = {
    "operator": "tada", **EVERYWHERE, "aggregation": "average", "calibration": "cin", "share": 1.0,
    "kernel 1": 3, "global": True, "linear": False, "kernel 2": 3, "reduction": 4,
}  # fmt: skip

STUDY = Study(
    suggest=suggest,
    start={
        "paper: TAda2D": PUBLISHED,
        "paper: TAdaConv": {**PUBLISHED, "aggregation": "none"},
        **{f"paper: {name}": {"operator": name, **EVERYWHERE, "aggregation": "none"} for name in RIVALS},
        "paper: TSN": {"operator": "tada", **dict.fromkeys(EVERYWHERE, False), "aggregation": "none"},
    },
    base="paper: TAda2D",
    pruner=Pruner("hyperband"),
    budget=Budget(relative_macs=1.02),
)
