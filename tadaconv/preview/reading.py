"""Compares how fast clips are read with how fast a device computes on clips in memory."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from statistics import quantiles
from typing import NamedTuple, Self

import torch
from torch import Tensor

from tadaconv.data import Source
from tadaconv.data.prefetch import num_cores, num_readers
from tadaconv.spec import Record


class Spread(Record):
    """The quartiles of measured seconds."""

    low: float
    """The lower quartile."""
    median: float
    high: float
    """The upper quartile."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """The quartiles of at least one measurement."""
        low, middle, high = quantiles(seconds, method="inclusive") if len(seconds) > 1 else 3 * [seconds[0]]
        return cls(low=low, median=middle, high=high)

    def each(self, change: Callable[[float], float]) -> Self:
        """The quartiles of what ``change``, which keeps the order, makes of the seconds."""
        return type(self)(low=change(self.low), median=change(self.median), high=change(self.high))


class Load(Record):
    """The times of a step or an evaluation, in seconds."""

    compute_seconds: Spread
    """On clips in memory."""
    reading_seconds: float
    """Until its clips are read, cropped and normalised, while the network does not compute."""
    seconds: Spread
    """Of both: the faster waits for the slower. On the CPU they share the cores as well; without reading ahead, one
    follows the other."""
    waiting: float
    """Fraction of the time that computing waits for clips."""
    num_cores_wanted: int
    """Cores with which it would not wait: those that read, times reading over computing; and on the CPU those that
    compute."""


class Reading(Record):
    """How the clips of a cell that do not fit into memory are read, and how long computing waits for them."""

    form: str
    """What clips are read from: video, frames or pack."""
    num_readers: int
    """Processes that read ahead; 0 reads when a batch is asked for."""
    num_cores: int
    """Cores of a worker, which these share."""
    train_clips_per_second: float
    """Read by all of them, while the network does not compute."""
    val_clips_per_second: float
    """All views of a clip."""
    step: Load
    evaluation: Load
    """On all validation clips, all views of each."""


class Rates(NamedTuple):
    """Clips a second that are read while the network does not compute."""

    train: float
    val: float


def measure_rates(source: Source, views: int, seconds: float) -> Rates:
    """How fast clips are read, cropped and normalised by themselves.

    Args:
        source: the clips, which do not stay in memory.
        views: that a training batch or an evaluation takes at once.
        seconds: for how long training clips are read, after the first few; validation clips are for half as long.
    """
    # Other clips every time: those that were read a moment ago would come from the system's memory.
    seed = time.time_ns() % 2**31

    def train() -> Iterator[tuple[Tensor, int, int]]:
        for epoch in count():
            for indices in _in_random_order(source.num_train, seed + epoch, _clips_at_once(views)):
                yield indices, epoch, seed

    def val() -> Iterator[Tensor]:
        for epoch in count():
            yield from _in_random_order(source.num_val, seed + epoch, _clips_at_once(views // source.num_views))

    source.expect_train(train(), views)
    train_batches = train()
    train_rate = _rate(lambda: len(source.train_batch(*next(train_batches))[0]), seconds)
    source.expect_val(val())
    val_batches = val()
    return Rates(train_rate, _rate(lambda: len(source.val_batch(next(val_batches))[0]), seconds / 2))


def _clips_at_once(most: int) -> int:
    """Clips of a batch that is timed: all who read have work, and the time is not much overrun."""
    return max(1, min(most, 2 * (num_readers() or num_cores())))


def _in_random_order(num_clips: int, seed: int, at_once: int) -> Sequence[Tensor]:
    parts: Sequence[Tensor] = torch.randperm(num_clips, generator=torch.Generator().manual_seed(seed)).split(at_once)
    return parts


def _rate(read: Callable[[], int], seconds: float) -> float:
    """Clips a second of ``read``, which gives their number; of at least one time after the first."""
    read()  # readers start, and what they have read ahead is used up
    started, num_clips = time.perf_counter(), 0
    while True:
        num_clips += read()
        passed = time.perf_counter() - started
        if passed >= seconds:
            return num_clips / passed


class BatchesThere(Source):
    """A source of batches that have been read already; it returns as many of their clips as are asked for.

    Args:
        source: which the clips are of.
        train: training batches, clips and labels, the first as large as any that is asked for.
        val: validation clips and labels, which are taken for all of them.
    """

    def __init__(
        self, source: Source, train: Sequence[tuple[Tensor, Tensor]] = (), val: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self.class_names, self.families, self.heads = source.class_names, source.families, source.heads
        self.num_train, self.num_views = source.num_train, source.num_views
        self.num_val = source.num_val if val is None else len(val[0])
        self._train, self._val = deque(train), val

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """As many training clips as ``indices``."""
        self._train.rotate(-1)
        clips, labels = next(batch for batch in self._train if len(batch[0]) >= len(indices))
        return clips[: len(indices)], labels[: len(indices)]

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Validation clips."""
        assert self._val is not None
        clips, labels = self._val
        return clips[indices], labels[indices]


class Machine(NamedTuple):
    """The cores of a worker."""

    num_cores: int
    num_computing: int = 0
    """Cores that computing takes: on the CPU one for each process that trains the cell."""


def load(compute: Spread, reading_seconds: float, machine: Machine) -> Load:
    """Combine the times of computing and of reading its clips.

    Args:
        compute: seconds of computing, on clips that are there.
        reading_seconds: of reading these clips, while the network does not compute.
        machine: the cores for both.
    """
    readers = num_readers()
    reading_cores = min(readers or machine.num_cores, machine.num_cores)

    def combined(compute_seconds: float) -> float:
        if readers == 0:
            return compute_seconds + reading_seconds
        work = compute_seconds * machine.num_computing + reading_seconds * reading_cores
        shared = work / machine.num_cores if machine.num_computing else 0.0
        return max(compute_seconds, reading_seconds, shared)

    seconds = compute.each(combined)
    return Load(
        compute_seconds=compute,
        reading_seconds=reading_seconds,
        seconds=seconds,
        waiting=1 - compute.median / seconds.median,
        num_cores_wanted=math.ceil(reading_cores * reading_seconds / compute.median) + machine.num_computing,
    )


def reading(source: Source, rates: Rates, machine: Machine, step: tuple[Spread, float], evaluation: Spread) -> Reading:
    """How long a cell's steps and evaluations wait for clips; the spreads are of computing alone.

    Args:
        source: the clips.
        rates: clips a second that are read.
        machine: the cores for computing and reading.
        step: seconds of a step's computing, and how many clips it takes.
        evaluation: seconds of an evaluation's computing.
    """
    return Reading(
        form=source.form,
        num_readers=num_readers(),
        num_cores=machine.num_cores,
        train_clips_per_second=rates.train,
        val_clips_per_second=rates.val,
        step=load(step[0], step[1] / rates.train, machine),
        evaluation=load(evaluation, source.num_val / rates.val, machine),
    )
