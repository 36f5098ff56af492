"""Training, evaluation and checkpoints."""

from tadaconv.training.evaluate import Evaluation, evaluate
from tadaconv.training.fit import Fit, State, learning_rate

__all__ = ["Evaluation", "Fit", "State", "evaluate", "learning_rate"]
