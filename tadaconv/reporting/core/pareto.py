"""The Pareto front of scores against cost."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def on_front(cost: ArrayLike, score: ArrayLike, sign: int = 1) -> NDArray[np.bool_]:
    """Which points no other dominates, (N,) of both to (N,): none costs as little, is as good, and better in one.

    ``sign`` is 1 where a higher score is better, else -1.

    Points that are equal in both do not dominate each other: all of them are on the front, or none. One of which a
    coordinate is NaN is not on it, and dominates none.
    """
    x, y = np.asarray(cost, dtype=float), sign * np.asarray(score, dtype=float)
    front = np.zeros(len(x), dtype=bool)
    highest = -np.inf
    known = ~(np.isnan(x) | np.isnan(y))
    for price in np.unique(x[known]):  # from the cheapest on
        here = known & (x == price)
        top = y[here].max()
        if top > highest:
            front |= here & (y == top)
            highest = top
    return front
