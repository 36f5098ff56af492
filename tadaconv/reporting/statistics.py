"""Intervals, paired tests and power, as pure functions on numbers.

Percentages and points go in and come out as percent. Only ``scipy.special`` is imported at the top: these functions
also feed the table that is shown while cells run, and ``scipy.stats`` takes longer to import than they take to run.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import inf, isfinite, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

CONFIDENCE = 0.95
"""The share of intervals that cover the truth."""

POWER = 0.8
"""The chance of seeing a difference that is there, for which seeds are counted (Cohen, 1988)."""

_EXACT_UP_TO = 14
"""Sign-flip tests enumerate all 2^n assignments up to this n; beyond, they draw ``_DRAWS`` of them."""

_DRAWS = 100_000


class Interval(NamedTuple):
    """A mean of ``n`` values with its bounds; NaN where they are not known."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of a mean, ``mean +- t(n - 1) * s / sqrt(n)`` (Student, Biometrika 6, 1908).

    Exact for normal values at any n >= 2. The percentile bootstrap is not used because at the three to five seeds an
    ablation can afford it covers only 68 to 83 % where it says 95 %. NaN bounds where the values cannot tell their
    spread: fewer than two of them, or all equal. ``values`` has shape (n,); raises ValueError unless all are finite.
    """
    x = _finite(values)
    mean = float(x.mean()) if len(x) else nan
    spread = standard_deviation(x)
    if not spread > 0:
        return Interval(mean, nan, nan, len(x))
    half = float(special.stdtrit(len(x) - 1, (1 + confidence) / 2)) * spread / sqrt(len(x))
    return Interval(mean, mean - half, mean + half, len(x))


def standard_deviation(values: ArrayLike) -> float:
    """The sample standard deviation, with n - 1; NaN for fewer than two values, exactly 0 where all are equal."""
    x = _finite(values)
    if len(x) < 2:
        return nan
    # Equal accuracies must give exactly zero, not the rounding error of their mean.
    return 0.0 if np.ptp(x) <= 1e-9 else float(x.std(ddof=1))


def wilson_interval(percent: float, num_clips: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a share, in percent (Wilson, JASA 22, 1927), for an accuracy over ``num_clips`` clips.

    It says how far the accuracy on all clips of the kind may lie from that on these, for this one trained network;
    it knows nothing of other seeds. Raises ValueError unless ``percent`` lies in 0 to 100 and there is a clip.
    """
    if not 0 <= percent <= 100 or num_clips < 1:
        raise ValueError(f"an accuracy lies in 0 to 100 % over at least one clip, not {percent} % over {num_clips}")
    share, z = percent / 100, float(special.ndtri((1 + confidence) / 2))
    centre = (share + z * z / (2 * num_clips)) / (1 + z * z / num_clips)
    half = z / (1 + z * z / num_clips) * sqrt(share * (1 - share) / num_clips + (z / (2 * num_clips)) ** 2)
    return 100 * max(centre - half, 0.0), 100 * min(centre + half, 1.0)


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p-value of paired differences under exchangeable signs (Fisher, 1935, section 21).

    The share of the 2^n sign assignments whose mean is at least as far from zero as the observed one; exact up to
    n = 14, and from 100,000 random assignments beyond, counting the observed one (Phipson and Smyth, 2010). Its
    smallest value is 2^(1 - n), so fewer than six seeds never reach 0.05. NaN for no differences.
    """
    x = _finite(differences)
    if len(x) == 0:
        return nan
    if len(x) <= _EXACT_UP_TO:
        signs = np.array(list(product((1.0, -1.0), repeat=len(x))))
        extra = 0
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), size=(_DRAWS, len(x)))
        extra = 1
    # Assignments as extreme as the observed one must not be lost to rounding.
    threshold = abs(x.sum()) * (1 - 1e-12) - 1e-12
    return float((np.count_nonzero(np.abs(signs @ x) >= threshold) + extra) / (len(signs) + extra))


def seeds_for_sign_flip(alpha: float = 1 - CONFIDENCE) -> int:
    """The fewest seeds at which a sign-flip test can reach ``alpha``: the least n with 2^(1 - n) <= alpha."""
    n = 1
    while 2.0 ** (1 - n) > alpha:
        n += 1
    return n


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Step-down adjusted p-values that bound the chance of any false finding (Holm, Scand. J. Statist. 6, 1979).

    The i-th smallest of m is multiplied by m - i + 1, made monotone and capped at 1. NaN stays NaN and is not counted.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def power(effect: float, spread: float, n: int, confidence: float = CONFIDENCE) -> float:
    """The chance that the paired t interval of ``n`` seeds leaves out zero (Cohen, 1988, chapter 2).

    ``effect`` is the true mean difference and ``spread`` the standard deviation of the differences between seeds, both
    in points. From the non-central t distribution with n - 1 degrees of freedom. NaN for n < 2 or no spread.
    """
    if n < 2 or not spread > 0:
        return nan
    noncentrality = abs(effect) / spread * sqrt(n)
    bound = float(special.stdtrit(n - 1, (1 + confidence) / 2))
    # The chance of a significant difference of the wrong sign is left out: it is no success.
    return float(1 - special.nctdtr(n - 1, noncentrality, bound))


def detectable_effect(spread: float, n: int) -> float:
    """The smallest true difference, in points, that ``n`` seeds show with a chance of 80 %; NaN where unknown."""
    if n < 2 or not spread > 0:
        return nan
    return spread * _smallest(lambda effect: power(effect, 1.0, n) >= POWER)


def seeds_needed(effect: float, spread: float, most: int = 1000) -> int | None:
    """The fewest seeds that show a true difference of ``effect`` points with a chance of 80 %.

    ``spread`` is the standard deviation of the paired differences. None where it is unknown or ``most`` do not do.
    """
    if not (isfinite(effect) and effect != 0 and spread > 0):
        return None
    few, many = 2, 2
    while power(effect, spread, many) < POWER:
        if many >= most:
            return None
        few, many = many, min(2 * many, most)
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if power(effect, spread, middle) >= POWER else (middle + 1, many)
    return many


def kendall_tau(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Agreement of two orders, tau-b in -1 to 1, and its two-sided p-value (Kendall, Biometrika 30, 1938).

    Raises ValueError for fewer than three pairs: two rows agree or not by a coin's throw.
    """
    if len(ours) != len(theirs) or len(ours) < 3:
        raise ValueError("an order is compared over at least three rows known to both")
    from scipy.stats import kendalltau

    outcome = kendalltau(ours, theirs)
    return float(outcome.statistic), float(outcome.pvalue)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("values are a flat sequence of finite numbers")
    return x


def _smallest(enough: Callable[[float], bool]) -> float:
    """The smallest positive number that is ``enough``, by doubling and halving, to a relative 1e-6."""
    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, 2 * high
        if high == inf:
            return nan
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
