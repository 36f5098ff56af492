"""How many seeds a comparison gets: a fixed number, or one more at a time while it is undecided.

A fixed design looks at the paired differences of two rows once. An adaptive one, ``first:last``, looks after ``first``
seeds, and then after each further seed up to ``last``; ordinary 95 % intervals would all cover the truth at once in
far fewer than 95 % of cases. So the interval at the look after n seeds is ``mean +- c_n * s / sqrt(n)``, a repeated
confidence interval (Jennison and Turnbull, J. R. Stat. Soc. B 51, 1989): the critical values c_n are such that the
intervals of all looks cover the true difference together with 95 %, whatever decides when to stop. The error is spent
evenly over seeds, so that looks up to n have spent ``0.05 * n / last`` of it: the error-spending function of Lan and
DeMets (Biometrika 70, 1983) in the power family of Kim and DeMets (Biometrika 74, 1987) at exponent 1, which takes
the fewest seeds of the exponents 0.5 to 3 for differences of two standard deviations and more.

The critical values are exact for normal differences of unknown standard deviation. Put ``U_n = sum x / (sqrt(n) |x|)``
for n differences x from a normal distribution of mean 0, so that Student's t is ``sqrt(n - 1) * U / sqrt(1 - U^2)``.
U does not depend on the scale of x, hence is independent of ``|x|``, and is a Markov chain::

    U_(n+1) = (sqrt(n) * U_n * cos(phi) + sin(phi)) / sqrt(n + 1)

with phi independent of U_n, of a density proportional to ``cos(phi)^(n-1)`` on -pi/2 to pi/2. Its distribution among
the sequences that have not crossed a boundary yet is followed in bins of ``theta = arcsin |U|``.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import inf, nan, sqrt
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator
from scipy import special

from tadaconv.metrics import ROUNDING_ERROR
from tadaconv.spec import Record
from tadaconv.statistics import CONFIDENCE, Interval, paired_t_p, standard_deviation, t_interval

Direction = Literal["above", "below", "equivalent", "undecided"]
"""``above`` and ``below``: the difference is, significantly, greater or less than zero. ``equivalent``: it is
significantly smaller, in size, than the smallest difference of interest."""

_NUM_BINS = 600
_EDGES = np.linspace(0, np.pi / 2, _NUM_BINS + 1)
"""Of the bins of theta; the last is that of infinite t."""

NUM_SIMULATED = 1000
"""Runs that :meth:`SeedDesign.simulated_seeds` simulates: expected numbers of seeds are then within a few percent."""

_LEAST_P = 1e-6
"""Below it, a p-value is this: the bins do not resolve less."""


class Judgement(NamedTuple):
    """What is known of a true difference.

    ``interval`` has NaN bounds where there are none yet. ``num_needed`` is the number of seeds after which the verdict
    was there; None while there is none. ``p`` is two-sided, of the hypothesis that the difference is zero; NaN where
    there was no test.
    """

    interval: Interval
    direction: Direction
    num_needed: int | None
    p: float


class SeedDesign(Record):
    """How many seeds a table is run with, and which differences matter."""

    first: int = Field(ge=1)
    """Seeds of every row."""
    last: int = Field(ge=1)
    """The most seeds of a row; equal to ``first`` in a fixed design."""
    smallest: float = Field(gt=0, allow_inf_nan=False)
    """The smallest difference of interest, in the unit of differences of the metric: rows whose difference is shown to
    be smaller are equivalent."""

    @model_validator(mode="after")
    def _has_looks(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"the largest number of seeds, {self.last}, is below the first, {self.first}")
        if self.is_adaptive and self.first < 2:
            raise ValueError("one seed has no standard deviation; let the first number of seeds be 2 or more")
        return self

    @property
    def is_adaptive(self) -> bool:
        """Whether rows get further seeds while they are undecided."""
        return self.last > self.first

    def __str__(self) -> str:
        """As ``--seeds`` takes it: ``3`` or ``3:12``."""
        return f"{self.first}:{self.last}" if self.is_adaptive else str(self.first)

    def judge(self, differences: ArrayLike) -> Judgement:
        """The interval of a true difference, and which side of zero it is on.

        In an adaptive design the interval is the intersection of those of all looks, so a verdict is never reversed. If
        it would become empty, which takes an interval that misses the truth, it stays what it was. A look is skipped
        where the differences are all equal, as their standard deviation is unknown. In a fixed design it is Student's,
        at any number of seeds.

        ``equivalent`` is the verdict of two one-sided tests (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987), at 2.5
        % each: the same interval lies within ``smallest`` on either side of zero. So at most 5 % of verdicts are false,
        of all kinds and looks together.

        Args:
            differences: paired by seed, in the order of seeds, (n,); those after the ``last`` are left out.
        """
        x = np.asarray(differences, dtype=float)[: self.last if self.is_adaptive else None]
        if not self.is_adaptive:
            interval = t_interval(x)
            direction = self._direction(interval.low, interval.high)
            return Judgement(interval, direction, None if direction == "undecided" else len(x), paired_t_p(x))
        low, high = np.asarray(-inf), np.asarray(inf)
        p, direction, num_needed = nan, "undecided", None
        for n, low, high in self._looks(x):
            sd = standard_deviation(x[:n])
            if not sd > 0:
                continue
            p = np.fmin(p, self._p_value(n, abs(float(x[:n].mean())) / sd * sqrt(n)))
            if direction == "undecided":
                direction = self._direction(float(low), float(high))
                num_needed = None if direction == "undecided" else n
        mean = float(x.mean()) if len(x) else nan
        bounds = (nan, nan) if low == -inf else (float(low), float(high))
        return Judgement(Interval(mean, *bounds, len(x)), direction, num_needed, float(p))

    def num_needed(self, differences: ArrayLike) -> NDArray[np.int64]:
        """After how many seeds there is a verdict, as :meth:`judge` has it, for many comparisons at once; 0: undecided.

        Only for an adaptive design. ``differences`` are of shape (..., n), and the result of shape (...).
        """
        x = np.asarray(differences, dtype=float)[..., : self.last]
        needed = np.zeros(x.shape[:-1], dtype=np.int64)
        for n, low, high in self._looks(x):
            is_equivalent = (low > -self.smallest) & (high < self.smallest)
            decided = (low > 0) | (high < 0) | is_equivalent
            needed[decided & (needed == 0)] = n
        return needed

    def seeds_wanted(self, first: Sequence[float | None], second: Sequence[float | None]) -> tuple[int, int]:
        """How many seeds two rows need by now for the comparison of the two, and how many they may come to need.

        Until the verdict, the next seed is wanted as soon as all before have ended; so the numbers follow from the
        scores alone, in whichever order the cells end. A seed that fails gives no pair, and later ones take its place.

        Args:
            first: scores of one row in the order of seeds, up to the first cell that has not ended; None for a cell
                that failed.
            second: of the other.
        """
        num_ended = min(len(first), len(second), self.last)
        if num_ended < self.first or not self.is_adaptive:
            return self.first, self.last
        pairs = [
            (seed, a - b)
            for seed, (a, b) in enumerate(zip(first, second, strict=False))
            if seed < num_ended and a is not None and b is not None
        ]
        needed = int(self.num_needed([difference for _, difference in pairs]))
        if needed:
            return (num_decided := pairs[needed - 1][0] + 1), num_decided
        return min(num_ended + 1, self.last), self.last

    def simulated_seeds(self, differences: ArrayLike, typical: float, rng: np.random.Generator) -> NDArray[np.int64]:
        """How many seeds two rows come to need in :data:`NUM_SIMULATED` simulated continuations of their comparison.

        From two differences on, the true mean and standard deviation are drawn from what the differences leave open
        (under the flat prior of both, from Student's and the chi-square distribution). Before, true differences come
        from a normal distribution around zero of standard deviation ``2 * typical``, and those of seeds have a standard
        deviation of ``typical``.

        Args:
            differences: paired by seed, so far, (n,).
            typical: the standard deviation of differences between seeds where there are none.
            rng: draws.
        """
        known = np.asarray(differences, dtype=float)[: self.last]
        n, sd = len(known), standard_deviation(known)
        means, sds = rng.normal(0, 2 * typical, NUM_SIMULATED), np.full(NUM_SIMULATED, typical)
        if sd > 0:
            sds = sd * np.sqrt((n - 1) / rng.chisquare(n - 1, NUM_SIMULATED))
            means = known.mean() + sds / sqrt(n) * rng.normal(size=NUM_SIMULATED)
        x = means[:, None] + sds[:, None] * rng.normal(size=(NUM_SIMULATED, self.last))
        x[:, :n] = known
        needed = self.num_needed(x)
        return np.where(needed > 0, needed, self.last)

    def _looks(self, x: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
        """The numbers of seeds at the looks with the bounds after each, of differences of shape (..., n)."""
        low, high = np.full(x.shape[:-1], -inf), np.full(x.shape[:-1], inf)
        for n in range(self.first, x.shape[-1] + 1):
            head = x[..., :n]
            mean, sd = head.mean(-1), head.std(-1, ddof=1)
            half = self.critical_value(n) * sd / sqrt(n)
            narrower_low, narrower_high = np.maximum(low, mean - half), np.minimum(high, mean + half)
            is_taken = (np.ptp(head, -1) > ROUNDING_ERROR) & (narrower_low <= narrower_high)
            low, high = np.where(is_taken, narrower_low, low), np.where(is_taken, narrower_high, high)
            yield n, low, high

    def critical_value(self, n: int) -> float:
        """Of Student's t at the look after ``n`` seeds, from ``first`` to ``last``."""
        return _critical_values(self.first, self.last, 1 - CONFIDENCE)[n - self.first]

    def _direction(self, low: float, high: float) -> Direction:
        if low > 0:
            return "above"
        if high < 0:
            return "below"
        return "equivalent" if -self.smallest < low and high < self.smallest else "undecided"

    def _p_value(self, n: int, t: float) -> float:
        """The least error rate at which the boundary after ``n`` seeds is crossed by ``t`` (a repeated p-value)."""

        def crosses(log_alpha: float) -> bool:
            return t > _critical_values(self.first, self.last, 10**log_alpha)[n - self.first]

        if t <= _critical_values(self.first, self.last, 1.0)[n - self.first]:
            return 1.0
        grid = np.linspace(np.log10(_LEAST_P), 0, 2000)
        return float(10 ** grid[bisect_left(range(len(grid)), True, key=lambda i: crosses(float(grid[i])))])


@lru_cache(maxsize=4096)
def _critical_values(first: int, last: int, alpha: float) -> tuple[float, ...]:
    """Of |t| at the looks after ``first`` to ``last`` seeds: under no difference, all are kept with 1 - ``alpha``."""
    cdf_of_theta = 1 - 2 * special.stdtr(first - 1, -sqrt(first - 1) * np.tan(_EDGES[:-1]))
    mass = np.diff(np.append(cdf_of_theta, 1.0))
    values, spent = [], 0.0
    for n in range(first, last + 1):
        to_spend, spent = alpha * n / last - spent, alpha * n / last
        if n == first:
            theta = float(np.arctan(special.stdtrit(n - 1, 1 - to_spend / 2) / sqrt(n - 1)))
        else:
            mass = mass @ _transition(n - 1)
            beyond = np.append(np.cumsum(mass[::-1])[::-1], 0.0)
            theta = float(np.interp(-to_spend, -beyond, _EDGES))
        values.append(float(sqrt(n - 1) * np.tan(theta)))
        mass = mass * np.clip((theta - _EDGES[:-1]) / np.diff(_EDGES), 0, 1)
    return tuple(values)


@lru_cache(maxsize=64)
def _transition(n: int) -> NDArray[np.float64]:
    """The chance that theta after n + 1 differences is in a bin, (bins before, bins after), from the middle of one."""
    phi = np.linspace(-np.pi / 2, np.pi / 2, 20001)
    cdf = 0.5 + np.sign(phi) * special.betainc(0.5, n / 2, np.sin(phi) ** 2) / 2
    u = np.sin((_EDGES[1:] + _EDGES[:-1]) / 2)[:, None]
    # sqrt(n) u cos(phi) + sin(phi) is an amplitude times sin(phi + shift)
    amplitude, shift = np.sqrt((n * u * u + 1) / (n + 1)), np.arctan2(sqrt(n) * u, 1)
    angle = np.arcsin(np.minimum(np.sin(_EDGES) / amplitude, 1))

    def below(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(angles - shift, phi, cdf)

    return np.asarray(np.diff(below(angle) - below(-angle) + 1 - below(np.pi - angle), axis=1), dtype=np.float64)
