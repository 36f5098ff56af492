"""The Pareto front of accuracy against cost."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def on_front(cost: ArrayLike, accuracy: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other dominates, (N,) of both to (N,): none costs as little, is as accurate, and better in one.

    Points that are equal in both do not dominate each other: all of them are on the front, or none.
    """
    x, y = np.asarray(cost, dtype=float), np.asarray(accuracy, dtype=float)
    front = np.zeros(len(x), dtype=bool)
    highest = -np.inf
    for price in np.unique(x):  # from the cheapest on
        here = x == price
        top = y[here].max()
        if top > highest:
            front |= here & (y == top)
            highest = top
    return front
