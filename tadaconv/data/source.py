"""What training asks of any set of clips."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:  # a process that reads clips needs no torch
    from torch import Tensor


class Head(NamedTuple):
    """One of several labels that every clip has, such as its verb, and the classes it may be of."""

    name: str
    class_names: tuple[str, ...]


class Source(Protocol):
    """Labelled clips on a device, split into training and validation.

    Batches depend on their arguments alone, so that a resumed or repeated run sees the same clips.
    """

    class_names: tuple[str, ...]
    """What the network tells apart, in the order of its scores; of several heads as :func:`classes_of_heads` has it."""
    families: dict[str, tuple[int, ...]]
    """Families of classes that belong together, as class indices; empty where there are none."""
    num_train: int
    num_val: int
    num_views: int
    """Views of a clip in evaluation: temporal clips times spatial crops."""

    def train_batch(self, indices: "Tensor", epoch: int, seed: int) -> "tuple[Tensor, Tensor]":
        """Training clips, augmented by (seed, epoch, index): normalised (B, C, T, H, W) and int64 labels (B,).

        Where clips have several labels they are (B, heads), each an index into the classes of its head.
        """
        ...

    def val_batch(self, indices: "Tensor") -> "tuple[Tensor, Tensor]":
        """Validation clips, all views of each: normalised (B, V, C, T, H, W) and int64 labels as in training."""
        ...


@runtime_checkable
class HasHeads(Protocol):
    """A source whose clips may have several labels, all of them told from one feature."""

    heads: tuple[Head, ...]


@runtime_checkable
class HasSubsets(Protocol):
    """A source some of whose validation clips are judged apart as well, such as those of its tail."""

    subsets: "Mapping[str, Tensor]"
    """By name, the indices of validation clips, int64."""


@runtime_checkable
class HasForm(Protocol):
    """A source of clips that lie on a disk."""

    form: str
    """As what they lie there: video, frames or pack."""


@runtime_checkable
class ReadsAhead(Protocol):
    """A source that reads batches before they are asked for, if it is told which these are. It reads them no less."""

    is_in_memory: bool
    """Whether all clips are kept in memory, so that nothing is read."""

    def expect_train(
        self, batches: "Iterable[tuple[Tensor, int, int]]", batch_size: int = 1, views: int | None = None
    ) -> None:
        """Take the arguments of the calls of ``train_batch`` to come, in their order, in place of those told before.

        A step trains on ``batch_size`` clips, in one such call or in several; an evaluation in between takes at most so
        many ``views`` at once, by default as many.
        """
        ...

    def expect_val(self, batches: "Iterable[Tensor]") -> None:
        """Take the arguments of the calls of ``val_batch`` to come, in their order, in place of those told before."""
        ...

    def close(self) -> None:
        """Stop reading ahead, and leave nothing behind of it; the source goes on without."""
        ...


def expect_train(
    source: Source, batches: "Iterable[tuple[Tensor, int, int]]", batch_size: int = 1, views: int | None = None
) -> None:
    """Tell a source that reads ahead which training batches come next: indices, epoch and seed of each.

    They may be parts of the ``batch_size`` clips of a step; an evaluation takes at most so many ``views`` at once, by
    default as many.
    """
    if isinstance(source, ReadsAhead):
        source.expect_train(batches, batch_size, views)


def expect_val(source: Source, batches: "Iterable[Tensor]") -> None:
    """Tell a source that reads ahead which validation batches come next: the indices of each."""
    if isinstance(source, ReadsAhead):
        source.expect_val(batches)


def is_read(source: Source) -> bool:
    """Whether batches are read from a disk, rather than made, or taken from memory."""
    return isinstance(source, ReadsAhead) and not source.is_in_memory


def close(source: Source) -> None:
    """Stop the reading ahead of a source that does."""
    if isinstance(source, ReadsAhead):
        source.close()


def subsets_of(source: Source) -> "Mapping[str, Tensor]":
    """The validation clips that are judged apart, by name; none where the source names none."""
    return source.subsets if isinstance(source, HasSubsets) else {}


def heads_of(source: Source) -> tuple[Head, ...]:
    """The labels of every clip; one, called ``class``, where the source names none."""
    return source.heads if isinstance(source, HasHeads) else (Head("class", source.class_names),)


def classes_of_heads(heads: tuple[Head, ...]) -> tuple[str, ...]:
    """The classes of all heads, one head's after the other: ``verb: take``, ..., ``noun: cup``; of one head its own."""
    if len(heads) == 1:
        return heads[0].class_names
    return tuple(f"{head.name}: {name}" for head in heads for name in head.class_names)
