"""Interleaved trials: every round has one trial of each method, and only ratios within a round count.

A machine that slows down does so for every method of that round, and a round's order is random, so that no method
always runs after the same one.
"""

import random
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def run_interleaved(
    trials: Mapping[str, Callable[[], T]],
    rounds: int,
    *,
    warm_up: int = 1,
    seed: int = 0,
    after_round: Callable[[], None] = lambda: None,
) -> list[dict[str, T]]:
    """Run one trial of every method a round; returns what they returned, a dict a round in the order of that round.

    Args:
        trials: by method, what runs one.
        rounds: how many.
        warm_up: trials of each method before the first round, whose outcome is dropped.
        seed: of the order within the rounds.
        after_round: called when a round is over.
    """
    generator = random.Random(seed)
    for trial in trials.values():
        for _ in range(warm_up):
            trial()
    outcome = []
    for _ in range(rounds):
        order = list(trials)
        generator.shuffle(order)
        outcome.append({name: trials[name]() for name in order})
        after_round()
    return outcome
