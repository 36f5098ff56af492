"""What training asks of any set of clips."""

from typing import Protocol

from torch import Tensor


class Source(Protocol):
    """Labelled clips on a device, split into training and validation.

    Batches depend on their arguments alone, so that a resumed or repeated run sees the same clips.
    """

    class_names: tuple[str, ...]
    families: dict[str, tuple[int, ...]]
    """Families of classes that belong together, as class indices; empty where there are none."""
    num_train: int
    num_val: int
    num_views: int
    """Views of a clip in evaluation: temporal clips times spatial crops."""

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        """Training clips, augmented by (seed, epoch, index): normalised (B, C, T, H, W) and int64 labels (B,)."""
        ...

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Validation clips, all views of each: normalised (B, V, C, T, H, W) and int64 labels (B,)."""
        ...
