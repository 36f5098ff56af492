"""What training asks of any set of clips."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # a process that reads clips needs no torch
    from torch import Tensor

    from tadaconv.data.segments import Segments


class Head(NamedTuple):
    """One of several labels that every clip has, such as its verb, and the classes it may be of."""

    name: str
    class_names: tuple[str, ...]


class Source(ABC):
    """Labelled clips on a device, split into training and validation.

    Batches depend on their arguments alone, so that a resumed or repeated run sees the same clips. A source may read
    batches before they are asked for, if it is given which these are; it reads them no less.
    """

    class_names: tuple[str, ...]
    """The classes, in the order of the network's scores; of several heads as :func:`classes_of_heads` has it."""
    families: dict[str, tuple[int, ...]]
    """Families of classes that belong together, as class indices; empty where there are none."""
    num_train: int
    num_val: int
    num_views: int
    """Views of a clip in evaluation: temporal clips times spatial crops."""
    subsets: "Mapping[str, Tensor]" = MappingProxyType({})
    """Validation clips that are evaluated separately as well, such as of the tail: by name, their int64 indices."""
    form: str = ""
    """As what clips are stored on a disk: video, frames or pack; empty where they are made."""
    is_in_memory: bool = True
    """Whether all clips are made, or kept in memory, so that no file is read."""

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """The labels of every clip, all of them predicted from one feature; by default one, called ``class``."""
        return (Head("class", self.class_names),)

    @abstractmethod
    def train_batch(self, indices: "Tensor", epoch: int, seed: int) -> "tuple[Any, Any]":
        """Training clips, augmented by (seed, epoch, index).

        Args:
            indices: which training clips, int64 (B,).
            epoch: from 0.
            seed: of the run.

        Returns:
            Normalised clips (B, C, T, H, W), and int64 labels (B,); where clips have several labels they are (B,
            heads), each an index into the classes of its head.
        """

    @abstractmethod
    def val_batch(self, indices: "Tensor") -> "tuple[Any, Any]":
        """Validation clips, all views of each: normalised (B, V, C, T, H, W) and int64 labels as in training."""

    def expect_train(
        self, batches: "Iterable[tuple[Tensor, int, int]]", batch_size: int = 1, views: int | None = None
    ) -> None:
        """Read ahead for the calls of :meth:`train_batch` to come, in their order, in place of those expected before.

        Args:
            batches: the arguments of these calls.
            batch_size: clips of a step, which trains on them in one call or in several.
            views: that an evaluation in between takes at once, at most; None for as many.
        """
        del batches, batch_size, views

    def expect_val(self, batches: "Iterable[Tensor]") -> None:
        """Read ahead for the calls of :meth:`val_batch` to come, in their order, in place of those expected before."""
        del batches

    def eval_batch(self, batch_size: int) -> int:
        """Views that go through a network at once in evaluation, where training takes ``batch_size`` clips."""
        return batch_size

    def close(self) -> None:
        """Stop reading ahead, and release what that took; the source can still be used."""
        return


class Spread(NamedTuple):
    """What chance alone makes of a score, in percent: its mean, and what 2.5 % of draws are below and above."""

    mean: float
    low: float
    high: float


class SegmentSource(Source):
    """Untrimmed videos with the segments in them, in windows of steps that a network localizes in.

    Targets are a list of :class:`tadaconv.data.segments.Segments`, in steps of the window, and inputs are clips, or
    features with the number of steps of each: (B, C, T) and int64 (B,).
    """

    unit: str
    """Of durations, such as frames or seconds."""
    duration_edges: tuple[float, ...]
    """Limits in this unit between short and long segments, for recall by duration."""
    num_videos: int
    """Validation videos."""
    window_videos: "Tensor"
    """Of which validation video each window is, int64 (num_val,)."""
    window_starts: "Tensor"
    """At which step of its video each window starts, (num_val,)."""
    window_lengths: "Tensor"
    """Steps of each window, int64 (num_val,)."""
    video_lengths: "Tensor"
    """Steps of each validation video, (num_videos,)."""
    step_lengths: "Tensor"
    """How long a step of each validation video is in the unit, float64 (num_videos,)."""

    @property
    def order_blind(self) -> tuple[tuple[str, ...], Spread] | None:
        """Classes that only the order of frames tells apart, and how precise a network that is blind to it is at most.

        Of the mean of their average precisions, at any tIoU. None where there are no such classes.
        """
        return None

    @abstractmethod
    def val_truth(self) -> "list[Segments]":
        """The segments of each validation video, in steps of the video."""


def classes_of_heads(heads: tuple[Head, ...]) -> tuple[str, ...]:
    """The classes of all heads, one head's after the other: ``verb: take``, ..., ``noun: cup``; of one head its own."""
    if len(heads) == 1:
        return heads[0].class_names
    return tuple(f"{head.name}: {name}" for head in heads for name in head.class_names)
