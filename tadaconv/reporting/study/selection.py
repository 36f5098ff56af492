"""The bias of the best of many by selection: the winner's curse."""

from math import nan, sqrt

import numpy as np
import pandas as pd
from scipy import special

from tadaconv.metrics import TOP1, Metric


def expected_maximum(n: int) -> float:
    """The mean of the largest of ``n`` independent standard normal numbers.

    The integral of n x phi(x) Phi(x)^(n - 1) (David and Nagaraja, Order Statistics, 2003, section 3.1), by the
    trapezoidal rule, which is exact to rounding for an integrand that vanishes at both ends. NaN for n < 1.
    """
    if n < 1:
        return nan
    x = np.linspace(-12.0, 12.0, 4801)
    log_density = np.log(n) - x**2 / 2 - np.log(2 * np.pi) / 2 + (n - 1) * special.log_ndtr(x)
    return float(np.sum(x * np.exp(log_density)) * (x[1] - x[0]))


def seed_sd(cells: pd.DataFrame, metric: Metric = TOP1) -> float:
    """The standard deviation of scores between seeds of one trial, pooled over the finished cells of trials.

    NaN where no trial has two seeds.
    """
    by_trial = cells[cells["status"] == "finished"].groupby("trial")[metric.name]
    sizes, variances = by_trial.count(), by_trial.var()
    several = sizes > 1
    freedom = (sizes[several] - 1).sum()
    return sqrt(((sizes[several] - 1) * variances[several]).sum() / freedom) if freedom else nan
