"""Micro-batches: the parts of a step's batch that go through the network one after the other.

A batch norm in training takes its statistics over what goes through at once, so a micro-batch is as large as the
recipe's ``norm_batch``, and only one at a time has a graph in memory. Which clips a micro-batch has, what they weigh
and what dropout draws for them follow from the step alone, and neither gradients nor running statistics depend on the
order: a part of the micro-batches may be taken elsewhere, and the sums of both added up.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """A part of the batch of a step.

    Attributes:
        number: counted from 0.
        of: how many the batch is cut into.
        epoch: of its clips, counted from 0.
        indices: of its clips among the training clips, int64.
        share: of the batch's clips, above 0 to 1; the shares of a batch add up to 1.
    """

    number: int
    of: int
    epoch: int
    indices: Tensor
    share: float


def num_micro_batches(num_clips: int, norm_batch: int) -> int:
    """Into how many micro-batches of at most ``norm_batch`` clips a batch is cut; 0 leaves it whole."""
    return math.ceil(num_clips / norm_batch) if norm_batch else 1


def cut(indices: Tensor, epoch: int, norm_batch: int) -> list[MicroBatch]:
    """The micro-batches of a batch. They are even: one has at most one clip more than another.

    Args:
        indices: of the batch's clips.
        epoch: of the batch.
        norm_batch: most clips of a micro-batch; 0 for all.
    """
    parts = indices.tensor_split(num_micro_batches(len(indices), norm_batch))
    return [MicroBatch(i, len(parts), epoch, part, len(part) / len(indices)) for i, part in enumerate(parts)]


@contextmanager
def random_numbers_of(micro_batch: MicroBatch, seed: int, step: int, device: torch.device) -> Generator[None]:
    """A context whose random numbers follow from (seed, step, number of the micro-batch); the random state is restored.

    A batch in one piece draws from the random state itself.

    Args:
        micro_batch: the part of the batch.
        seed: of the run.
        step: from 0.
        device: of the network.
    """
    if micro_batch.of == 1:
        yield
        return
    (drawn_from,) = np.random.SeedSequence((seed, step, micro_batch.number)).generate_state(1, np.uint64)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(drawn_from))
        yield


class RunningStatistics:
    """The running statistics of the norms of ``model`` over a step's batch, however it is cut.

    Every micro-batch changes the statistics of before the step, and at the end the mean of these changes, weighted by
    clips, is applied: of statistics ``s_k`` with shares ``w_k`` and a momentum m they come to
    ``(1 - m) running + m * sum(w_k s_k)``. That is what K updates one after the other come to whose k-th, from 0, has
    the momentum ``m w_k / (1 - m * sum(w_j for j > k))``, but depends neither on the order nor on how a norm updates:
    its momentum may be None, an average over all steps, and it may be called twice. A step counts once in
    ``num_batches_tracked``. A norm that keeps its statistics, as a frozen one does, keeps them bit for bit.

    Reached are buffers by their names, those of torch: ``running_mean``, ``running_var`` and others of ``running_``,
    and ``num_batches_tracked``.

    Where ranks take a part of the micro-batches each, :attr:`changes` are added up before the end.
    """

    def __init__(self, model: nn.Module, *, counts_steps: bool = True) -> None:
        """Only one of several ranks counts the steps."""
        by_name = [(name.rpartition(".")[2], buffer) for name, buffer in model.named_buffers()]
        self._means = [buffer for name, buffer in by_name if name.startswith("running_")]
        self._counts = [buffer for name, buffer in by_name if name == "num_batches_tracked"]
        self._means_before, self._counts_before = _copies(self._means), _copies(self._counts)
        self._mean_changes = [torch.zeros_like(mean) for mean in self._means]
        self._count_changes = [torch.zeros_like(count) for count in self._counts]
        self._counts_steps = counts_steps

    @property
    def changes(self) -> list[Tensor]:
        """The changes of the statistics so far, of these micro-batches."""
        return [*self._mean_changes, *self._count_changes]

    @torch.no_grad()
    def add(self, share: float) -> None:
        """After a micro-batch that is ``share`` of the batch: record its change, and undo it for the next."""
        if self._means:
            torch._foreach_add_(self._mean_changes, torch._foreach_sub(self._means, self._means_before), alpha=share)
        if self._counts and self._counts_steps:
            self._count_changes = list(torch._foreach_sub(self._counts, self._counts_before))
        _set(self._means, self._means_before)
        _set(self._counts, self._counts_before)

    @torch.no_grad()
    def finish(self) -> None:
        """After the last micro-batch: apply the changes."""
        for kept, changes in ((self._means, self._mean_changes), (self._counts, self._count_changes)):
            if kept:
                torch._foreach_add_(kept, changes)


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _set(tensors: list[Tensor], values: list[Tensor]) -> None:
    """Copy the values at once: a network has hundreds of statistics, and a micro-batch may take a few milliseconds."""
    if tensors:
        torch._foreach_copy_(tensors, values)
