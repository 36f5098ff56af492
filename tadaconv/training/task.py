"""What a network is trained for: its loss on a batch, and how it is evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.data.source import SegmentSource, Source
from tadaconv.metrics import MEAN_AVERAGE_PRECISION, TOP1
from tadaconv.models import Host
from tadaconv.models.localizing import LocalizingNetwork
from tadaconv.run_options import Precision
from tadaconv.spec import Experiment
from tadaconv.spec import Localization as LocalizationSpec
from tadaconv.training.evaluate import Evaluation, evaluate
from tadaconv.training.localization import LocalizationEvaluation, as_arguments, evaluate_localization
from tadaconv.training.ranks import ALONE, Ranks


def cross_entropy(scores: Tensor, labels: Tensor, num_classes: Sequence[int]) -> Tensor:
    """The cross-entropy of a batch in nats; of several heads the sum of theirs.

    Args:
        scores: (B, sum of num_classes), the scores of one head after those of the other.
        labels: int64, (B,), or (B, heads) of several.
        num_classes: of each head.
    """
    if len(num_classes) == 1:
        return F.cross_entropy(scores, labels)
    by_head = scores.split(list(num_classes), 1)
    return torch.stack([F.cross_entropy(of_head, labels[:, i]) for i, of_head in enumerate(by_head)]).sum()


def task_of(experiment: Experiment, model: Host, source: Source) -> "Task":
    """What ``model`` is trained for.

    Args:
        experiment: what is run.
        model: its network, not compiled.
        source: its clips.
    """
    if experiment.localization is None:
        return Recognition([len(head.class_names) for head in source.heads])
    assert isinstance(model, LocalizingNetwork)
    return Localization(model, experiment.localization)


class Task(ABC):
    """Recognition or localization.

    Attributes:
        metric: the name of the metric of its scores, see :mod:`tadaconv.metrics`.
    """

    metric: str

    @abstractmethod
    def loss(self, network: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """The loss of a batch, a scalar with its graph.

        Args:
            network: in training mode, perhaps compiled.
            inputs: as the source's ``train_batch`` gives them.
            targets: as well.
        """

    @abstractmethod
    def evaluate(
        self,
        network: nn.Module,
        source: Source,
        batch_size: int,
        device: torch.device,
        precision: Precision = "auto",
        ranks: Ranks = ALONE,
        clips: Tensor | None = None,
    ) -> Evaluation | LocalizationEvaluation:
        """Evaluate on the validation clips; arguments and errors are those of :func:`tadaconv.training.evaluate`.

        Args:
            network: left in the mode it is in.
            source: the clips.
            batch_size: clips of a training step.
            device: where the network is.
            precision: of the forward passes.
            ranks: which of the processes that evaluate together this is.
            clips: indices of the validation clips; None for all.
        """


class Recognition(Task):
    """The class of a clip, or a class of each of its labels.

    Args:
        num_classes: of each label.
    """

    metric = TOP1.name

    def __init__(self, num_classes: Sequence[int]) -> None:
        self.num_classes = tuple(num_classes)

    def loss(self, network: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """The cross-entropy in nats; of several labels the sum of theirs."""
        return cross_entropy(network(inputs), targets, self.num_classes)

    def evaluate(self, network: nn.Module, source: Source, *args: Any, **options: Any) -> Evaluation:
        """Accuracies, see :func:`tadaconv.training.evaluate`."""
        return evaluate(network, source, *args, **options)


class Localization(Task):
    """The segments of untrimmed videos, with a class of each of their labels.

    Args:
        model: the network, not compiled.
        localization: how detections are evaluated.
    """

    metric = MEAN_AVERAGE_PRECISION.name

    def __init__(self, model: LocalizingNetwork, localization: LocalizationSpec) -> None:
        self.model, self.localization = model, localization

    def loss(self, network: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """The loss of the localizer."""
        return self.model.localizer.loss(network(*as_arguments(inputs)), targets)

    def evaluate(self, network: nn.Module, source: Source, *args: Any, **options: Any) -> LocalizationEvaluation:
        """Mean average precision, see :func:`tadaconv.training.localization.evaluate_localization`."""
        assert isinstance(source, SegmentSource)
        return evaluate_localization(network, self.model.localizer, self.localization, source, *args, **options)
