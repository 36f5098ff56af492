"""Training, evaluation and checkpoints."""

from tadaconv.training.computing import autocast, computing_as
from tadaconv.training.evaluate import Evaluation, evaluate
from tadaconv.training.fit import Fit, State, learning_rate, smallest_batch

__all__ = [
    "Evaluation",
    "Fit",
    "State",
    "autocast",
    "computing_as",
    "evaluate",
    "learning_rate",
    "smallest_batch",
]
