"""Several processes that train one network together, a rank each: the part of each, and the sums over them.

Every rank builds the same network, takes the same optimizer steps, and differs from the others in its part of the
micro-batches and of the validation clips alone. Between them pass sums, once a step and once an evaluation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from tadaconv.errors import RunError

T = TypeVar("T")


class BrokenSumError(RunError):
    """A sum over ranks failed, as another rank has failed."""


@dataclass(frozen=True)
class Ranks:
    """One of the processes that train a cell together; :data:`ALONE` is a process that trains by itself.

    Attributes:
        rank: of this process, from 0. Rank 0 reports, and writes what is written.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def own(self, parts: Sequence[T]) -> Sequence[T]:
        """Which of the parts of something this process takes: every ``size``-th, from its rank on."""
        return parts[self.rank :: self.size]

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each of the tensors, on the device of this process, by the sum over all ranks.

        All ranks call it equally often, with tensors of the same shapes and types, and get the same sums bit for bit,
        in one message for each type. Raises :class:`BrokenSumError` where another rank is gone.
        """
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for of_dtype in by_dtype.values():
            message = torch.cat([tensor.reshape(-1) for tensor in of_dtype])
            try:
                dist.all_reduce(message)
            except RuntimeError as error:
                raise BrokenSumError(f"the sum over ranks failed: {error}") from error
            sums = message.split([tensor.numel() for tensor in of_dtype])
            torch._foreach_copy_(of_dtype, [part.view(t.shape) for part, t in zip(sums, of_dtype, strict=True)])


ALONE = Ranks()
