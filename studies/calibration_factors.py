"""Which dimensions of the kernel should the calibration scale together?

A kernel can be scaled along its input channels, its output channels, its taps, and every pair of input channel and
tap; any set of these makes an outer product. The paper compares the four single ones (section 5) and leaves the
products open. There are 15 sets, and the empty one, the bare backbone, so that the space is a full factorial of four
binary factors: 16 trials run all of it.

As in the tables, the operator has no temporal aggregation here, so that trials differ in the calibration dimension
alone. Every configuration gets three seeds, since differences are small. In the quick regime 16 x 3 cells take about
half an hour on one core, factors of taps the longest.
Run: tada study calibration_factors --trials 16
"""

import optuna

from tadaconv.spec import FACTORS, Aggregation, TAda, Temporal
from tadaconv.study import Pruner, Study

BASE = TAda(aggregation=Aggregation(kind="none"))


def suggest(trial: optuna.Trial) -> Temporal:
    """One question per factor."""
    chosen = [factor for factor in FACTORS if trial.suggest_categorical(factor, [False, True])]
    return BASE.but(calibration="+".join(chosen)) if chosen else None


def only(*chosen: str) -> dict[str, bool]:
    """The parameters of a set of factors."""
    return {factor: factor in chosen for factor in FACTORS}


STUDY = Study(
    suggest=suggest,
    start={
        "paper: cin": only("cin"),
        "paper: cout": only("cout"),
        "paper: k2": only("k2"),
        "paper: cin_k2": only("cin_k2"),
        "paper: no calibration (TSN)": only(),
    },
    base="paper: cin",
    pruner=Pruner("none"),
    seeds=3,
)
