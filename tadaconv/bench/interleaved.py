"""A fair race on a machine that is never quite the same: contestants take turns, and only ratios within a round count.

A machine that slows down does so for everyone in that round, and a round's order is drawn anew, so nobody always runs
after the same neighbour.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from pydantic import Field

from tadaconv.spec import Spec

T = TypeVar("T")

CONFIDENCE = 0.95
"""Of the interval of a median."""


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


class Spread(Spec):
    """The middle of some numbers, how far they scatter, and how sure the middle is."""

    median: float
    quartile_low: float
    quartile_high: float
    interval_low: float | None = Field(
        description="95 % interval of the median by order statistics, which holds whatever the distribution; "
        "None below 6 numbers, which cannot give one."
    )
    interval_high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Median, quartiles (linear between order statistics) and the 95 % interval of the median."""
    from scipy.stats import binom

    low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    # How many numbers lie below the true median is binomial; the rank from either end that seldom lies beyond it.
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, len(values), 0.5))
    ordered = sorted(values)
    return Spread(
        median=median,
        quartile_low=low,
        quartile_high=high,
        interval_low=ordered[rank - 1] if rank else None,
        interval_high=ordered[-rank] if rank else None,
    )
