"""The interface of localizers: networks from the features of an untrimmed video to segments with classes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from torch import Tensor, nn

from tadaconv.data.segments import Detections, Segments

Outputs = TypeVar("Outputs")


class Localizer(nn.Module, ABC, Generic[Outputs]):
    """A network that finds the segments of classes in (N, C, T) features.

    A localizer has the features of all videos of a batch, the shorter ones with zeros after their last step. What it
    says of a video does not depend on how many zeros those are.
    """

    @abstractmethod
    def forward(self, features_NCT: Tensor, lengths_N: Tensor) -> Outputs:
        """The network's outputs, from which :meth:`loss` and :meth:`detect` follow.

        Args:
            features_NCT: T steps of C channels of N videos.
            lengths_N: steps of each video, int64; at least 1, at most T.
        """

    @abstractmethod
    def loss(self, outputs: Outputs, truth: Sequence[Segments]) -> Tensor:
        """The loss of a batch, a scalar; finite for any truth, one without segments included.

        Random numbers come from torch's global generator, whose state a checkpoint keeps.

        Args:
            outputs: of :meth:`forward` in training mode.
            truth: the segments of each video, on the device of the outputs.
        """

    @abstractmethod
    def detect(self, outputs: Outputs, lengths_N: Tensor) -> list[Detections]:
        """The candidates of each video, at the largest score first; overlapping ones are still in."""
