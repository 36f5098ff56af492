"""Intervals, paired tests and power, as pure functions on numbers.

Scores go in and come out in the unit of their metric. Only ``scipy.special`` is imported at the top: these functions
also feed the table that is shown while cells run, and ``scipy.stats`` takes longer to import than they take to run.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from math import isfinite, nan, sin, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from tadaconv.metrics import ROUNDING_ERROR

CONFIDENCE = 0.95
"""The fraction of intervals that cover the truth."""

POWER = 0.8
"""The chance of seeing a difference that is there, for which seeds are counted (Cohen, 1988)."""

EXACT_UP_TO = 14
"""Sign-flip tests enumerate all 2^n assignments up to this n; beyond, they draw ``_DRAWS`` of them."""

_DRAWS = 100_000

_FEWEST_RANKED = 5
"""Rows below which the interval of a rank correlation is not given: it would hold nearly every order there is."""


class Interval(NamedTuple):
    """A mean of ``n`` values with its bounds; NaN where they are not known."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of a mean, ``mean +- t(n - 1) * s / sqrt(n)`` (Student, Biometrika 6, 1908).

    Exact for normal values at any n >= 2, and within a point of 95 % for accuracies over a few hundred clips. The
    percentile bootstrap (Efron, Annals of Statistics 7, 1979) is not used: where it says 95 % it covers about 76 % at
    three seeds, 83 % at five and 90 % at ten. NaN bounds where the values cannot tell their standard deviation: fewer
    than two of them, or all equal. ``values`` has shape (n,); raises ValueError unless all are finite.
    """
    x = _finite(values)
    mean = float(x.mean()) if len(x) else nan
    sd = standard_deviation(x)
    if not sd > 0:
        return Interval(mean, nan, nan, len(x))
    half = float(special.stdtrit(len(x) - 1, (1 + confidence) / 2)) * sd / sqrt(len(x))
    return Interval(mean, mean - half, mean + half, len(x))


def standard_deviation(values: ArrayLike) -> float:
    """The sample standard deviation, with n - 1; NaN for fewer than two values, exactly 0 where all are equal."""
    x = _finite(values)
    if len(x) < 2:
        return nan
    # Equal accuracies must give exactly zero, not the rounding error of their mean.
    return 0.0 if np.ptp(x) <= ROUNDING_ERROR else float(x.std(ddof=1))


def wilson_interval(percent: float, num_clips: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a proportion, in percent (Wilson, JASA 22, 1927), for an accuracy over ``num_clips`` clips.

    How far the accuracy on all clips of the kind may be from that on these, for this one trained network, without other
    seeds.

    Args:
        percent: accuracy, from 0 to 100.
        num_clips: clips it is over, one or more.
        confidence: of the interval.

    Raises ValueError for others.
    """
    if not 0 <= percent <= 100 or num_clips < 1:
        raise ValueError(f"accuracy must be in 0 to 100 % over at least one clip, not {percent} % over {num_clips}")
    fraction, z = percent / 100, float(special.ndtri((1 + confidence) / 2))
    centre = (fraction + z * z / (2 * num_clips)) / (1 + z * z / num_clips)
    half = z / (1 + z * z / num_clips) * sqrt(fraction * (1 - fraction) / num_clips + (z / (2 * num_clips)) ** 2)
    return 100 * max(centre - half, 0.0), 100 * min(centre + half, 1.0)


def paired_t_p(differences: ArrayLike) -> float:
    """Two-sided p-value of paired differences by Student's t test (Student, Biometrika 6, 1908).

    It is below 0.05 exactly where :func:`t_interval` leaves out zero. NaN for fewer than two differences, and where all
    are equal: then their standard deviation is unknown. ``differences`` has shape (n,).
    """
    x = _finite(differences)
    sd = standard_deviation(x)
    if not sd > 0:
        return nan
    return float(2 * special.stdtr(len(x) - 1, -abs(x.mean()) / sd * sqrt(len(x))))


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p-value of paired differences under exchangeable signs (Fisher, 1935, section 21).

    The fraction of the 2^n sign assignments whose mean is at least as far from zero as the observed one; exact up to
    n = 14, and from 100,000 random assignments beyond, counting the observed one (Phipson and Smyth, 2010). Its
    smallest value is 2^(1 - n), so fewer than six seeds never reach 0.05. NaN for no differences.
    """
    x = _finite(differences)
    if len(x) == 0:
        return nan
    signs, extra = _signs(len(x)), int(len(x) > EXACT_UP_TO)
    # Assignments as extreme as the observed one must not be lost to rounding.
    threshold = abs(x.sum()) * (1 - 1e-12) - 1e-12
    return float((np.count_nonzero(np.abs(signs @ x) >= threshold) + extra) / (len(signs) + extra))


@lru_cache(maxsize=EXACT_UP_TO + 1)
def _signs(n: int) -> NDArray[np.float64]:
    """Assignments of signs to ``n`` differences, shape (assignments, n): every one, or ``_DRAWS`` of very many."""
    if n > EXACT_UP_TO:
        return np.random.default_rng(0).choice((1.0, -1.0), size=(_DRAWS, n))
    flipped = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return 1.0 - 2.0 * flipped.astype(np.float64)


def seeds_for_sign_flip(num_tests: int = 1, alpha: float = 1 - CONFIDENCE) -> int:
    """The fewest seeds at which sign-flip tests can reach ``alpha``, after Holm over ``num_tests`` of them.

    The least n with ``num_tests * 2^(1 - n) <= alpha``.
    """
    n = 1
    while num_tests * 2.0 ** (1 - n) > alpha:
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


def power(effect: float, sd: float, n: int, confidence: float = CONFIDENCE) -> float:
    """The chance that the paired t interval of ``n`` seeds leaves out zero (Cohen, 1988, chapter 2).

    From the non-central t distribution with n - 1 degrees of freedom. NaN for n < 2 or an ``sd`` of zero.

    Args:
        effect: the true mean difference.
        sd: standard deviation of the differences between seeds, in the unit of ``effect``.
        n: seeds.
        confidence: of the interval.
    """
    if n < 2 or not sd > 0:
        return nan
    noncentrality = abs(effect) / sd * sqrt(n)
    bound = float(special.stdtrit(n - 1, (1 + confidence) / 2))
    # The chance of a significant difference of the wrong sign is left out: it is no success.
    return float(1 - special.nctdtr(n - 1, noncentrality, bound))


def upper_sd(sd: float, n: int, confidence: float = POWER) -> float:
    """The upper bound of a standard deviation that ``n`` normal values put at ``sd``, of one side.

    ``sd * sqrt((n - 1) / q)`` with q the quantile of chi-square that lies below in 1 - ``confidence``. Seeds that
    are counted with it suffice in four of five studies, and with ``sd`` itself in about half of them (Browne,
    Statistics in Medicine 14, 1995). NaN for n < 2 or an ``sd`` of zero.

    Args:
        sd: the sample standard deviation.
        n: values behind it.
        confidence: that the true one is below the bound.
    """
    if n < 2 or not sd > 0:
        return nan
    return sd * sqrt((n - 1) / float(special.chdtri(n - 1, confidence)))


def detectable_effect(sd: float, n: int) -> float:
    """The minimum detectable difference of ``n`` seeds at 80 % power, in the unit of ``sd``; NaN: unknown."""
    if n < 2 or not sd > 0:
        return nan
    bound = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return sd * float(special.nctdtrinc(n - 1, 1 - POWER, bound)) / sqrt(n)


def seeds_needed(effect: float, sd: float, most: int = 1000) -> int | None:
    """The fewest seeds that detect a true difference of ``effect`` at 80 % power.

    None where ``sd`` is unknown or ``most`` do not do.

    Args:
        effect: the true mean difference.
        sd: standard deviation of the paired differences.
        most: seeds to try.
    """
    if not (isfinite(effect) and effect != 0 and sd > 0):
        return None
    n = 2 + bisect_left(range(2, most + 1), POWER, key=lambda n: power(effect, sd, n))
    return n if n <= most else None


def seeds_for_equivalence(effect: float, sd: float, smallest: float, most: int = 1000) -> int | None:
    """The fewest seeds that show, at 80 % power, that a true difference of ``effect`` is smaller than ``smallest``.

    By two one-sided t tests at 2.5 % each, as the 95 % interval makes them. The chance that both reject is bounded from
    below by that of either failing, so the number is exact where one of them hardly fails, and at most a few too high.
    None where the difference is not smaller, ``sd`` is unknown or ``most`` do not do.

    Args:
        effect: the true mean difference.
        sd: standard deviation of the paired differences.
        smallest: the smallest difference of interest.
        most: seeds to try.
    """
    if not (abs(effect) < smallest and sd > 0):
        return None

    def chance(n: int) -> float:
        return power(smallest - abs(effect), sd, n) + power(smallest + abs(effect), sd, n) - 1

    n = 2 + bisect_left(range(2, most + 1), POWER, key=chance)
    return n if n <= most else None


class Agreement(NamedTuple):
    """Kendall's tau between two orders of ``n`` rows with its 95 % interval; NaN where they are not known."""

    tau: float
    low: float
    high: float
    n: int


def kendall_tau(ours: Sequence[float], theirs: Sequence[float]) -> Agreement:
    """Agreement of two orders, tau-b in -1 to 1 (Kendall, Biometrika 30, 1938), with its 95 % interval.

    The interval takes the pairs as a sample and holds every tau under which the one found lies in neither tail of
    2.5 % (Clopper and Pearson, Biometrika 26, 1934; half of the ties counted, as Lancaster, JASA 56, 1961), where both
    orders come from a normal distribution after some monotone change of scale, ``rho = sin(pi / 2 * tau)`` (Kruskal,
    JASA 53, 1958). Its tails are counted over fixed draws. Fisher's z with the variance ``0.437 / (n - 4)`` (Fieller,
    Hartley and Pearson, Biometrika 44, 1957) is not used: beyond a tau of 0.7 it covers 74 to 91 % at ten rows, and
    there is no interval at tau 1.

    NaN bounds for fewer than five pairs; everything NaN where one side is all equal. Raises ValueError for fewer than
    three pairs: two rows agree or not by a coin's throw.
    """
    if len(ours) != len(theirs) or len(ours) < 3:
        raise ValueError("an order is compared over at least three rows known to both")
    from scipy.stats import kendalltau

    tau, n = float(kendalltau(ours, theirs).statistic), len(ours)
    if n < _FEWEST_RANKED or tau != tau:
        return Agreement(tau, nan, nan, n)
    return Agreement(tau, _least_tau(tau, n), -_least_tau(-tau, n), n)


def _least_tau(tau: float, n: int) -> float:
    """The tau below which one of ``tau`` or more would come about in fewer than 2.5 % of samples of ``n`` pairs."""
    draws_2KN = _normal_pairs(n)
    low, high = -1.0, 1.0
    while high - low > 2e-3:
        middle = (low + high) / 2
        taus_K = _sampled_taus(draws_2KN, sin(np.pi / 2 * middle))
        # Half a tie counts for either side, or an interval of so few distinct values would be needlessly wide.
        reached = np.mean(taus_K > tau + 1e-9) + np.mean(np.abs(taus_K - tau) <= 1e-9) / 2
        low, high = (middle, high) if reached < (1 - CONFIDENCE) / 2 else (low, middle)
    # At the end of the scale there is nothing beyond, whatever was drawn.
    return -1.0 if low == -1 else high


@lru_cache(maxsize=4)
def _normal_pairs(n: int) -> NDArray[np.float64]:
    """Independent normal draws, shape (2, draws, n), the first sorted; fewer draws where a sample has many pairs."""
    num_draws = min(max(4_000_000 * 2 // (n * (n - 1)), 1000), 4000)
    draws_2KN = np.random.default_rng(0).normal(size=(2, num_draws, n))
    draws_2KN[0].sort(axis=1)
    return draws_2KN


def _sampled_taus(draws_2KN: NDArray[np.float64], rho: float) -> NDArray[np.float64]:
    """Kendall's tau of every draw, shape (draws,), at a correlation of ``rho``; it grows with rho in each draw."""
    num_draws, n = draws_2KN.shape[1:]
    y_KN = rho * draws_2KN[0] + sqrt(max(0.0, 1 - rho * rho)) * draws_2KN[1]
    agreeing = np.zeros(num_draws, dtype=np.float64)
    for lag in range(1, n):
        agreeing += np.count_nonzero(y_KN[:, lag:] > y_KN[:, :-lag], axis=1)
    return np.asarray(4 * agreeing / (n * (n - 1)) - 1, dtype=np.float64)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("values are a flat sequence of finite numbers")
    return x


def on_front(cost: ArrayLike, score: ArrayLike, sign: int = 1) -> NDArray[np.bool_]:
    """The points that no other dominates, (N,) of both to (N,): none costs as little, is as good, and better in one.

    Args:
        cost: of each point.
        score: of each point.
        sign: 1 where a higher score is better, else -1.

    Points that are equal in both do not dominate each other.
    A point with a NaN is not on the front, and dominates none.
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
