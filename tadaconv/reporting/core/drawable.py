"""Which numbers can be drawn: a diverged cell may hold any, and a figure leaves out what its axis cannot hold."""

import numpy as np
import pandas as pd

LARGEST = float(np.finfo(np.float32).max)
"""Networks compute in single precision or less; beyond its range nothing was measured."""


def parted(data: pd.DataFrame, column: str, most: float = 100.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lines of ``data`` with a number from 0 to ``most`` in ``column``, and the others, NaN among them."""
    is_drawn = data[column].between(0, most)
    return data[is_drawn], data[~is_drawn]


def parted_by_cell(data: pd.DataFrame, column: str, most: float = 100.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As :func:`parted`, where one wrong line leaves out all of its cell (columns row and seed).

    A mean over seeds that some leave on the way would jump without any of them having changed.
    """
    is_wrong = ~data[column].between(0, most)
    keeps = ~is_wrong.groupby([data["row"], data["seed"]]).transform("any")
    return data[keeps], data[~keeps]
