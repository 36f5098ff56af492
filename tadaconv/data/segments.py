"""Segments of time with labels: what is true of an untrimmed video, and what a network says of it.

Times are in steps of a grid of features, of which feature i spans [i, i + 1].
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """The true segments of a video.

    Attributes:
        spans_M2: starts and ends in steps, float32; a start is before its end.
        labels_MH: the class of each, int64, by label: one column, or one for verbs and one for nouns.
    """

    spans_M2: Tensor
    labels_MH: Tensor

    def __len__(self) -> int:
        return len(self.spans_M2)

    def to(self, device: torch.device) -> "Segments":
        """The same on ``device``."""
        return Segments(self.spans_M2.to(device), self.labels_MH.to(device))


@dataclass(frozen=True)
class Detections:
    """What a network detects in a video, before overlapping detections are suppressed.

    Attributes:
        spans_K2: starts and ends in steps, float32.
        scores_K: how sure the network is, from 0 to 1.
        labels_KH: the predicted class of each, int64, by label as of :class:`Segments`.
    """

    spans_K2: Tensor
    scores_K: Tensor
    labels_KH: Tensor

    def __len__(self) -> int:
        return len(self.spans_K2)
