"""Which context, and how large a network, should generate a frame's calibration?

The context of the calibration is one temporal convolution (linear) or two with a ReLU between them, each over 1, 3 or
5 frames, with or without the clip's global descriptor, from the frame's average or its maximum; the non-linear one has
a reduction and a norm to choose. The paper tries ten of these (sections 3.2 and 5); the space has 228.

As in the table `context`, the operator has no temporal aggregation here, so that the context is the only exchange
between frames. In the quick regime a trial takes about 35 seconds on one core, less where it is pruned.
Run: tada study context_design --trials 40
"""

import optuna

from tadaconv.spec import Aggregation, Context, TAda
from tadaconv.study import Pruner, Study

BASE = TAda(aggregation=Aggregation(kind="none"))


def suggest(trial: optuna.Trial) -> TAda:
    """A linear context has no second kernel, reduction or norm: they are not drawn for it."""
    linear = trial.suggest_categorical("linear", [False, True])
    shared = {
        "global_descriptor": trial.suggest_categorical("global", [True, False]),
        "descriptor": trial.suggest_categorical("descriptor", ["average", "max"]),
    }
    first = trial.suggest_categorical("kernel 1", [1, 3, 5])
    if linear:
        return BASE.but(context=Context(kernels=(first,), **shared))
    second = trial.suggest_categorical("kernel 2", [1, 3, 5])
    reduction = trial.suggest_categorical("reduction", [2, 4, 8])
    norm = trial.suggest_categorical("norm", ["batch", "layer"])
    return BASE.but(context=Context(kernels=(first, second), reduction=reduction, norm=norm, **shared))


LINEAR = {"linear": True, "global": False, "descriptor": "average", "kernel 1": 3}
PUBLISHED = {**LINEAR, "linear": False, "global": True, "kernel 2": 3, "reduction": 4, "norm": "batch"}

STUDY = Study(
    suggest=suggest,
    start={
        "paper: (3,3) + global": PUBLISHED,
        "paper: (3,3)": {**PUBLISHED, "global": False},
        "paper: (1,1)": {**PUBLISHED, "global": False, "kernel 1": 1, "kernel 2": 1},
        "paper: linear 3": LINEAR,
    },
    base="paper: (3,3) + global",
    pruner=Pruner("median", {"n_startup_trials": 4, "n_warmup_steps": 2}),
)
