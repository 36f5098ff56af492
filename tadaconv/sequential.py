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

What the error rates depend on:

- The design is chosen before results are seen. If it is changed after a look, both designs spend their error: a
  difference of zero is significant in a fixed design of 3 seeds or in 3:12 after it in 7.8 % of cases, in 3:12 or in
  3:24 after it in 6.9 %.
- Why a row gets further seeds does not matter, so it may be run for one of its comparisons and used in all; nor does it
  matter when looks are skipped.
- Seeds without a pair, as a cell failed, are left out. That is valid where failures do not depend on the score that the
  cell would have had. If the cell is run after all, the looks from its seed on are others, and so may the verdict be.
- As in a fixed design, differences are normal. Heavy tails and rounding make false verdicts rarer, skewed differences
  more frequent: if they are as skewed as a gamma distribution of shape 2, 9 % of a claim's verdicts are false where
  rows do not differ, and 8 % in a fixed design.

`benchmarks/verdicts.py` simulates all of these.
"""

from collections.abc import Sequence
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

_NUM_BINS = 400
_EDGES = np.linspace(0, np.pi / 2, _NUM_BINS + 1)
"""Of the bins of theta; the last is that of infinite t."""

MOST_SEEDS = 100
"""Of an adaptive design: computing its critical values takes a second."""

_ALPHAS = np.union1d(np.geomspace(1e-5, 1, 36), 1 - CONFIDENCE)
"""Error rates whose critical values are computed, and between which p-values are read; no p is below the first. What a
look spends of them is right to 1 % at 0.05, to 2 % at 0.001, and to a factor of two at 1e-5, where bins are coarse."""

NUM_SIMULATED = 1000
"""Runs that :meth:`SeedDesign.simulated_seeds` simulates: expected numbers of seeds are then within a few percent."""


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
        if self.is_adaptive and self.last > MOST_SEEDS:
            raise ValueError(f"an adaptive design has at most {MOST_SEEDS} seeds, not {self.last}")
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

        In an adaptive design the interval is the intersection of those of all looks, and the verdict is the first there
        was; it is never reversed. If the interval would become empty, as one of them misses the truth, it stays what it
        was. In about 1 % of cases the mean of all differences is outside it: then the nearest bound is given as the
        mean, which is no farther from any value inside. A look is skipped where the differences are all equal, as their
        standard deviation is unknown. In a fixed design the interval is Student's, at any number of seeds.

        ``equivalent`` is the verdict of two one-sided tests (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987), at 2.5
        % each: the same interval lies within ``smallest`` on either side of zero. So at most 5 % of verdicts are false,
        of all kinds and looks together.

        Args:
            differences: paired by seed, in the order of seeds, (n,); those after the ``last`` are left out.
        """
        x = np.asarray(differences, dtype=float)[: self.last if self.is_adaptive else None]
        interval = t_interval(x)
        if not self.is_adaptive:
            direction = self._direction(interval.low, interval.high)
            return Judgement(interval, direction, None if direction == "undecided" else len(x), paired_t_p(x))
        low, high, p = -inf, inf, nan
        direction, num_needed = "undecided", None
        for n in range(self.first, len(x) + 1):
            sd = standard_deviation(x[:n])
            if not sd > 0:
                continue
            mean, half = float(x[:n].mean()), self.critical_value(n) * sd / sqrt(n)
            if max(low, mean - half) <= min(high, mean + half):
                low, high = max(low, mean - half), min(high, mean + half)
            p = float(np.fmin(p, self.p_value(n, mean / sd * sqrt(n))))
            if direction == "undecided":
                direction = self._direction(low, high)
                num_needed = None if direction == "undecided" else n
        if low == -inf:
            return Judgement(Interval(interval.mean, nan, nan, len(x)), direction, num_needed, p)
        mean = min(max(interval.mean, low), high)
        return Judgement(Interval(mean, low, high, len(x)), direction, num_needed, p)

    def num_needed(self, differences: ArrayLike) -> NDArray[np.int64]:
        """After how many seeds there is a verdict, as :meth:`judge` has it, for many comparisons at once; 0: undecided.

        Only for an adaptive design. ``differences`` are of shape (..., n), and the result of shape (...).
        """
        x = np.asarray(differences, dtype=float)[..., : self.last]
        low, high = np.full(x.shape[:-1], -inf), np.full(x.shape[:-1], inf)
        needed = np.zeros(x.shape[:-1], dtype=np.int64)
        for n in range(self.first, x.shape[-1] + 1):
            head = x[..., :n]
            mean, half = head.mean(-1), self.critical_value(n) * head.std(-1, ddof=1) / sqrt(n)
            new_low, new_high = np.maximum(low, mean - half), np.minimum(high, mean + half)
            is_taken = (np.ptp(head, -1) > ROUNDING_ERROR) & (new_low <= new_high)
            low, high = np.where(is_taken, new_low, low), np.where(is_taken, new_high, high)
            is_decided = (low > 0) | (high < 0) | ((low > -self.smallest) & (high < self.smallest))
            needed[is_decided & (needed == 0)] = n
        return needed

    def seeds_wanted(self, first: Sequence[float | None], second: Sequence[float | None]) -> tuple[int, int]:
        """How many seeds two rows need by now for the comparison of the two, and how many they may come to need.

        Until the verdict, the next seed is wanted as soon as all before have ended; so the numbers follow from the
        scores alone, in whichever order the cells end. A seed that fails gives no pair, and later ones take its place;
        but where a row has failed in all of the first seeds, there are no further ones.

        Args:
            first: scores of one row in the order of seeds, up to the first cell that has not ended; None for a cell
                that failed.
            second: of the other.
        """
        if any(len(row) >= self.first and all(score is None for score in row[: self.first]) for row in (first, second)):
            return self.first, self.first
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

    def critical_value(self, n: int) -> float:
        """Of Student's |t| at the look after ``n`` seeds, from ``first`` to ``last``."""
        return float(self._boundary(n)[np.searchsorted(_ALPHAS, 1 - CONFIDENCE)])

    def p_value(self, n: int, t: ArrayLike) -> NDArray[np.float64]:
        """The least error rate at which ``t`` crosses the boundary after ``n`` seeds (a repeated p-value).

        It is read between the rates of ``_ALPHAS``, where its logarithm is nearly linear in that of Student's p-value.
        """
        log_p = np.interp(_log_student_p(t, n), _log_student_p(self._boundary(n), n), np.log(_ALPHAS))
        return np.asarray(np.exp(log_p), dtype=np.float64)

    def _boundary(self, n: int) -> NDArray[np.float64]:
        """Of |t| after ``n`` seeds at each of ``_ALPHAS``."""
        assert self.first <= n <= self.last
        return _boundaries(self.first, self.last)[:, n - self.first]

    def _direction(self, low: float, high: float) -> Direction:
        if low > 0:
            return "above"
        if high < 0:
            return "below"
        return "equivalent" if -self.smallest < low and high < self.smallest else "undecided"


def _log_student_p(t: ArrayLike, n: int) -> NDArray[np.float64]:
    p = 2 * special.stdtr(n - 1, -np.abs(t))
    return np.asarray(np.log(np.maximum(p, np.finfo(float).tiny)), dtype=np.float64)


@lru_cache(maxsize=16)
def _boundaries(first: int, last: int) -> NDArray[np.float64]:
    """Of |t| at each of ``_ALPHAS``, (alphas, looks)."""
    return _critical_values(first, last, _ALPHAS)


def _critical_values(first: int, last: int, alphas_A: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of |t| after ``first`` to ``last`` seeds, (alphas, looks): a difference of zero crosses none with 1 - alpha."""
    cdf_of_theta = 1 - 2 * special.stdtr(first - 1, -sqrt(first - 1) * np.tan(_EDGES[:-1]))
    mass_AB = np.tile(np.diff(np.append(cdf_of_theta, 1.0)), (len(alphas_A), 1))
    values, spent_A = [], np.zeros(len(alphas_A))
    for n in range(first, last + 1):
        to_spend_A, spent_A = alphas_A * n / last - spent_A, alphas_A * n / last
        if n == first:
            theta_A = np.arctan(-special.stdtrit(n - 1, to_spend_A / 2) / sqrt(n - 1))
        else:
            mass_AB = mass_AB @ _transition(n - 1)
            beyond_AB = np.cumsum(mass_AB[:, ::-1], axis=1)[:, ::-1]
            rows = zip(to_spend_A, beyond_AB, strict=True)
            theta_A = np.array([np.interp(-to_spend, -np.append(beyond, 0), _EDGES) for to_spend, beyond in rows])
        values.append(sqrt(n - 1) * np.tan(theta_A))
        mass_AB *= np.clip((theta_A[:, None] - _EDGES[:-1]) / np.diff(_EDGES), 0, 1)
    return np.stack(values, axis=1)


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
