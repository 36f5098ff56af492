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
        spans: starts and ends in steps, float32 (M, 2); a start is before its end.
        labels: the class of each, int64 (M, H), by label: one column, or one for verbs and one for nouns.
    """

    spans: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.spans)

    def to(self, device: torch.device) -> "Segments":
        """The same on ``device``."""
        return Segments(self.spans.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Detections:
    """What a network detects in a video, before overlapping detections are suppressed.

    Attributes:
        spans: starts and ends in steps, float32 (K, 2).
        scores: how sure the network is, from 0 to 1, (K,).
        labels: the predicted class of each, int64 (K, H), by label as of :class:`Segments`.
    """

    spans: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.spans)
