"""A fair race on a machine that is never quite the same: contestants take turns, and only ratios within a round count.

A machine that slows down does so for everyone in that round, and a round's order is drawn anew, so nobody always runs
after the same neighbour.
"""

import random
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def hold(
    turns: Mapping[str, Callable[[], T]],
    rounds: int,
    *,
    warm_up: int = 1,
    seed: int = 0,
    after_round: Callable[[], None] = lambda: None,
) -> list[dict[str, T]]:
    """What every contestant's turn returned, a dict a round in the order of that round.

    Args:
        turns: by contestant, what is done in a turn.
        rounds: each contestant has one turn in each.
        warm_up: turns of each contestant before the first round, whose outcome is dropped.
        seed: of the order within the rounds.
        after_round: called when a round is over.
    """
    generator = random.Random(seed)
    for turn in turns.values():
        for _ in range(warm_up):
            turn()
    outcome = []
    for _ in range(rounds):
        order = list(turns)
        generator.shuffle(order)
        outcome.append({name: turns[name]() for name in order})
        after_round()
    return outcome
