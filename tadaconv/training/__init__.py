"""Training, evaluation and checkpoints."""

from tadaconv.training.evaluate import Evaluation, evaluate
from tadaconv.training.fit import Fit, State, autocast, learning_rate, smallest_batch

__all__ = ["Evaluation", "Fit", "State", "autocast", "evaluate", "learning_rate", "smallest_batch"]
