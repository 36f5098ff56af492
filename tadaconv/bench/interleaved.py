"""Interleaved trials: every round has one trial of each method, and only ratios within a round count.

A machine that slows down does so for every method of that round, and a round's order is random, so that no method
always runs after the same one.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


def run_interleaved(trials: Mapping[str, Callable[[], T]], rounds: int, *, seed: int = 0) -> Iterator[dict[str, T]]:
    """Run one trial of every method a round, after a warm-up trial of each.

    Args:
        trials: by method, what runs one.
        rounds: how many.
        seed: of the order within the rounds.

    Yields:
        What the trials of a round returned, by method in the order of that round.
    """
    generator = random.Random(seed)
    for trial in trials.values():
        trial()
    for _ in range(rounds):
        order = list(trials)
        generator.shuffle(order)
        yield {name: trials[name]() for name in order}
