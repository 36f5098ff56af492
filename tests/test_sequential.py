"""Group-sequential designs: critical values against simulation and quadrature, verdicts against a plain loop."""

from functools import cache
from itertools import pairwise
from math import inf, isfinite, isnan, nan, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import integrate, stats

from tadaconv import sequential
from tadaconv import statistics as st
from tadaconv.sequential import Judgement, SeedDesign

DESIGNS = [(2, 3), (2, 6), (3, 12), (5, 9), (4, 30)]
LEVEL = 1 - st.CONFIDENCE


@cache
def critical_values(first: int, last: int, *alphas: float) -> NDArray[np.float64]:
    return sequential._critical_values(first, last, np.array(alphas))


def adaptive(first: int = 3, last: int = 8, smallest: float = 1.0) -> SeedDesign:
    return SeedDesign(first=first, last=last, smallest=smallest)


# Critical values


@pytest.mark.parametrize(("first", "last"), DESIGNS)
def test_the_error_spent_by_each_look_is_in_proportion_to_its_seeds(first: int, last: int) -> None:
    num, alphas = 200_000, (0.05, 0.4, 0.002)
    x = np.random.default_rng(last).normal(size=(num, last))
    t_KN = np.stack(
        [np.abs(x[:, :n].mean(axis=1)) / x[:, :n].std(axis=1, ddof=1) * sqrt(n) for n in range(first, last + 1)]
    )
    for alpha, bounds_K in zip(alphas, critical_values(first, last, *alphas), strict=True):
        crossed_K = np.maximum.accumulate(t_KN > bounds_K[:, None], axis=0).mean(axis=1)
        spent_K = alpha * np.arange(first, last + 1) / last
        # Four standard errors of simulation, and the half percent that bins are off.
        assert np.all(np.abs(crossed_K - spent_K) < 4 * np.sqrt(spent_K / num) + 0.005 * spent_K)


def test_a_design_that_is_changed_after_a_look_spends_more() -> None:
    """The figures of the module's docstring."""
    x = np.random.default_rng(1).normal(size=(200_000, 24))
    t_KN = {n: np.abs(x[:, :n].mean(axis=1)) / x[:, :n].std(axis=1, ddof=1) * sqrt(n) for n in range(3, 25)}

    def significant(first: int, last: int) -> NDArray[np.bool_]:
        design = SeedDesign(first=first, last=last, smallest=1)
        return np.any([t_KN[n] > design.critical_value(n) for n in range(first, last + 1)], axis=0)

    assert np.mean(significant(3, 3) | significant(3, 12)) == pytest.approx(0.078, abs=0.002)
    assert np.mean(significant(3, 12) | significant(3, 24)) == pytest.approx(0.069, abs=0.002)


@pytest.mark.parametrize(("first", "last"), DESIGNS)
def test_the_first_look_is_students_test(first: int, last: int) -> None:
    for alpha in (0.9, 0.05, 1e-6):
        expected = stats.t.isf(alpha * first / last / 2, first - 1)
        assert critical_values(first, last, alpha)[0, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 12, 40])
def test_a_single_look_is_students_interval(n: int) -> None:
    design = SeedDesign(first=n, last=n, smallest=1)
    if n > 1:
        assert design.critical_value(n) == pytest.approx(stats.t.ppf(0.975, n - 1), rel=1e-9)
        assert design.p_value(n, [3.0, -3.0]) == pytest.approx(2 * stats.t.sf(3, n - 1), rel=1e-6)


def chance_of_crossing_second(n: int, first_bound: float, second_bound: float) -> float:
    """That |t| of n normal differences is below its bound, and that of n + 1 is above its own, by quadrature.

    Given t of n differences of mean m and deviation 1, the next difference is ``k`` times Student's t of n degrees of
    freedom, as all n squares sum to ``n - 1 + t^2``, and their scale is independent of t. The t of n + 1 differences is
    within its bound c where ``(n m + w)^2 (n + c^2) <= c^2 (n + 1) (n - 1 + n m^2 + w^2)``: a quadratic in that
    difference w, which is solved.
    """

    def crossing(theta: float) -> float:
        t = sqrt(n - 1) * np.tan(theta)
        m, k, c2 = t / sqrt(n), sqrt((n - 1 + t * t) / n), second_bound**2
        a, b = n + c2 - c2 * (n + 1), 2 * n * m * (n + c2)
        inside = b * b - 4 * a * ((n * m) ** 2 * (n + c2) - c2 * (n + 1) * (n - 1 + n * m * m))
        density = stats.t.pdf(t, n - 1) * sqrt(n - 1) / np.cos(theta) ** 2
        if inside <= 0:
            return 0.0 if a < 0 else float(density)
        low, high = sorted((-b + sign * sqrt(inside)) / (2 * a) / k for sign in (1, -1))
        between = stats.t.cdf(high, n) - stats.t.cdf(low, n)
        return float(density * (between if a < 0 else 1 - between))

    end = np.arctan(first_bound / sqrt(n - 1))
    return float(integrate.quad(crossing, -end, end, limit=200, points=np.linspace(-end, end, 22)[1:-1])[0])


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize(("alpha", "tolerance"), [(0.5, 1e-3), (0.05, 3e-3), (1e-3, 0.02), (1e-4, 0.15)])
def test_two_looks_equal_quadrature(n: int, alpha: float, tolerance: float) -> None:
    (bounds,) = critical_values(n, n + 1, alpha)
    assert chance_of_crossing_second(n, *bounds) == pytest.approx(alpha / (n + 1), rel=tolerance)


@pytest.mark.parametrize(("first", "last"), [*DESIGNS, (3, 100)])
def test_boundaries_are_nested(first: int, last: int) -> None:
    bounds_AK = sequential._boundaries(first, last)
    assert np.isfinite(bounds_AK).all()
    assert np.all(np.diff(bounds_AK, axis=0) < 0)
    # No look costs less than a fixed design of as many seeds.
    students = [stats.t.ppf(0.975, n - 1) for n in range(first, last + 1)]
    assert np.all(bounds_AK[np.searchsorted(sequential._ALPHAS, LEVEL)] >= students)


def test_more_bins_change_little(monkeypatch: pytest.MonkeyPatch) -> None:
    alphas = np.array([0.5, 0.05, 0.001])
    values = sequential._critical_values(3, 12, alphas)
    monkeypatch.setattr(sequential, "_EDGES", np.linspace(0, np.pi / 2, 2 * sequential._NUM_BINS + 1))
    finer_values = sequential._critical_values(3, 12, alphas)
    for value, finer, tolerance in zip(values, finer_values, (1e-3, 1e-3, 5e-3), strict=True):
        assert value == pytest.approx(finer, rel=tolerance)


@pytest.mark.parametrize(("first", "last"), [(2, 5), (3, 12), (3, 40)])
def test_p_is_the_rate_whose_boundary_is_reached(first: int, last: int) -> None:
    alphas = np.array([1e-4, 0.003, 0.02, LEVEL, 0.07, 0.3, 0.8])
    design = adaptive(first, last)
    for alpha, bounds in zip(alphas, critical_values(first, last, *alphas), strict=True):
        p = [float(design.p_value(first + i, bound)) for i, bound in enumerate(bounds)]
        assert p == pytest.approx([alpha] * len(bounds), rel=0.05)


def test_p_has_ends() -> None:
    assert adaptive().p_value(3, 0.0) == 1
    assert adaptive().p_value(8, 1e300) == pytest.approx(sequential._ALPHAS[0])


# Verdicts


def plain_judgement(design: SeedDesign, x: list[float]) -> Judgement:
    """From the definition: the looks whose intervals overlap with those before, and what they say together."""
    lows, highs, p_values = [-inf], [inf], []
    verdicts: list[tuple[int, Any]] = []
    bounds = critical_values(design.first, design.last, LEVEL)[0]
    for n, bound in zip(range(design.first, len(x) + 1), bounds, strict=False):
        if max(x[:n]) - min(x[:n]) <= 1e-9:
            continue
        mean, error = np.mean(x[:n]), stats.sem(x[:n])
        p_values.append(float(design.p_value(n, mean / error)))
        if max([*lows, mean - bound * error]) <= min([*highs, mean + bound * error]):
            lows.append(float(mean - bound * error))
            highs.append(float(mean + bound * error))
        if max(lows) > 0 or min(highs) < 0:
            verdicts.append((n, "above" if max(lows) > 0 else "below"))
        elif max(-max(lows), min(highs)) < design.smallest:
            verdicts.append((n, "equivalent"))
    num_needed, direction = verdicts[0] if verdicts else (None, "undecided")
    low, high = (max(lows), min(highs)) if p_values else (nan, nan)
    mean = float(np.mean(x)) if x else nan
    within = sorted((low, mean, high))[1] if p_values else mean
    return Judgement(st.Interval(within, low, high, len(x)), direction, num_needed, min(p_values, default=nan))


def same(one: Judgement, other: Judgement) -> bool:
    numbers = [(*judgement.interval, judgement.p) for judgement in (one, other)]
    return one[1:3] == other[1:3] and numbers[0] == pytest.approx(numbers[1], rel=1e-6, abs=1e-9, nan_ok=True)


# Of accuracies on 800 clips: multiples of an eighth, so that some are equal, and sums are exact.
DIFFERENCES = hs.lists(hs.integers(-40, 40).map(lambda eighths: eighths / 8), max_size=8)
NARROW = hs.lists(hs.integers(-3, 4).map(lambda eighths: eighths / 8), max_size=8)
FLOATS = hs.lists(hs.floats(-20, 20), max_size=8)
LOOKS = hs.sampled_from([(2, 8), (3, 8), (5, 6), (2, 3)])


@given(LOOKS, hs.sampled_from([0.3, 1.0, 4.0]), DIFFERENCES | NARROW | FLOATS)
@settings(max_examples=300)
def test_a_judgement_equals_a_plain_loop(looks: tuple[int, int], smallest: float, x: list[float]) -> None:
    design = adaptive(*looks, smallest)
    assert same(design.judge(x), plain_judgement(design, x[: design.last]))


def test_the_plain_loop_meets_all_verdicts() -> None:
    """Or it would prove little: drawn differences come to each verdict, and some intervals do not overlap."""
    draws = np.random.default_rng(0)
    design, seen, apart = adaptive(2, 8), set(), 0
    for x in draws.normal(draws.choice([-1, 0, 1], (400, 1)), draws.choice([0.3, 1, 3], (400, 1)), (400, 8)):
        # A sudden change, so that later looks contradict the first.
        x[4:] += draws.choice([0, 5])
        judgement = design.judge(x)
        assert same(judgement, plain_judgement(design, x.tolist()))
        seen.add(judgement.direction)
        apart += judgement.interval.mean != pytest.approx(x.mean())
    assert seen == {"above", "below", "equivalent", "undecided"}
    assert apart > 0


def test_an_interval_never_becomes_empty() -> None:
    """Differences that jump: at the end they contradict the first looks, and are significant, but the verdict stays."""
    x = [0.0, 0.001, 0.002, 1.0, 1.001, 0.999, 1.0, 1.002]
    before, after = (adaptive(3, 8).judge(x[:n]) for n in (3, 8))
    alone = st.t_interval(x)
    assert alone.mean - adaptive(3, 8).critical_value(8) * st.standard_deviation(x) / sqrt(8) > before.interval.high
    assert after[1:3] == before[1:3] == ("equivalent", 3)
    assert after.interval == (before.interval.high, *before.interval[1:3], 8)
    assert after.p < LEVEL < before.p
    assert same(after, plain_judgement(adaptive(3, 8), x))


@given(LOOKS, DIFFERENCES | NARROW | FLOATS)
@settings(max_examples=200)
def test_a_verdict_is_never_reversed_and_intervals_only_shrink(looks: tuple[int, int], x: list[float]) -> None:
    course = [adaptive(*looks).judge(x[:n]) for n in range(len(x) + 1)]
    for before, after in pairwise(course):
        if before.direction != "undecided":
            assert after[1:3] == before[1:3]
        if isfinite(before.interval.low):
            assert before.interval.low <= after.interval.low <= after.interval.mean
            assert after.interval.mean <= after.interval.high <= before.interval.high
            assert after.p <= before.p
        assert (after.direction == "undecided") == (after.num_needed is None)


@given(LOOKS, DIFFERENCES, hs.sampled_from([0.5, 2.0, 8.0]))
def test_units_do_not_matter(looks: tuple[int, int], x: list[float], unit: float) -> None:
    judgement, scaled = adaptive(*looks).judge(x), adaptive(*looks, unit).judge([unit * value for value in x])
    interval = st.Interval(*(unit * value for value in judgement.interval[:3]), judgement.interval.n)
    assert same(scaled, judgement._replace(interval=interval))


@given(LOOKS, DIFFERENCES | NARROW)
def test_swapped_rows_have_the_opposite_verdict(looks: tuple[int, int], x: list[float]) -> None:
    mean, low, high, n = adaptive(*looks).judge(x).interval
    swapped = adaptive(*looks).judge([-value for value in x])
    opposite = {"above": "below", "below": "above"}
    expected = adaptive(*looks).judge(x)._replace(interval=st.Interval(-mean, -high, -low, n))
    assert same(swapped, expected._replace(direction=opposite.get(expected.direction, expected.direction)))  # type: ignore[arg-type]


@given(LOOKS, DIFFERENCES | FLOATS, hs.randoms())
def test_the_order_of_the_first_seeds_does_not_matter(looks: tuple[int, int], x: list[float], random: Any) -> None:
    first = x[: looks[0]]
    random.shuffle(first)
    assert same(adaptive(*looks).judge(x), adaptive(*looks).judge(first + x[looks[0] :]))


@given(LOOKS, DIFFERENCES | FLOATS)
def test_p_is_below_its_level_where_a_look_leaves_out_zero(looks: tuple[int, int], x: list[float]) -> None:
    design = adaptive(*looks)
    x = x[: design.last]
    significant = [
        abs(st.t_interval(x[:n]).mean) > design.critical_value(n) * st.standard_deviation(x[:n]) / sqrt(n)
        for n in range(design.first, len(x) + 1)
        if st.standard_deviation(x[:n]) > 0
    ]
    p = design.judge(x).p
    assert isnan(p) == (not significant)
    assert (p < LEVEL) == any(significant)


@given(hs.integers(1, 12), DIFFERENCES | FLOATS)
def test_a_fixed_design_is_students(n: int, x: list[float]) -> None:
    judgement = SeedDesign(first=n, last=n, smallest=1.0).judge(x)
    interval = st.t_interval(x)
    assert (*judgement.interval, judgement.p) == pytest.approx((*interval, st.paired_t_p(x)), nan_ok=True)
    leaves_out_zero = interval.low > 0 or interval.high < 0
    assert (judgement.direction in ("above", "below")) == leaves_out_zero
    within = interval.low > -1 and interval.high < 1
    assert (judgement.direction == "equivalent") == (within and not leaves_out_zero)
    assert judgement.num_needed == (None if judgement.direction == "undecided" else len(x))


@pytest.mark.parametrize("design", [adaptive(), SeedDesign(first=3, last=3, smallest=1)])
def test_no_verdict_without_a_standard_deviation(design: SeedDesign) -> None:
    for x in ([], [2.5], [2.5] * 2, [2.5] * 8, [0.0] * 5):
        judgement = design.judge(x)
        assert judgement.direction == "undecided"
        assert judgement.num_needed is None
        assert [judgement.interval.mean] == pytest.approx([x[0] if x else nan], nan_ok=True)
        assert all(isnan(value) for value in (judgement.interval.low, judgement.interval.high, judgement.p))


def test_a_look_at_equal_differences_is_skipped() -> None:
    judgement = adaptive(3, 8).judge([2.0, 2.0, 2.0, 2.1])
    assert judgement.interval.low > 0
    assert judgement.num_needed == 4


def test_differences_after_the_last_seed_are_left_out() -> None:
    x = [0.5, -0.25, 1.0, 2.0, 0.75]
    assert same(adaptive(3, 4).judge(x), adaptive(3, 4).judge(x[:4]))


@pytest.mark.parametrize("design", [adaptive(), SeedDesign(first=3, last=3, smallest=1)])
@pytest.mark.parametrize("x", [[nan], [1.0, nan, 2.0, 3.0], [inf, 1.0, 2.0], [[1.0, 2.0, 3.0], [1.0, 2.0, 4.0]]])
def test_differences_are_flat_and_finite(design: SeedDesign, x: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        design.judge(x)


# Designs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"first": 0, "last": 3}, "greater than or equal to 1"),
        ({"first": 4, "last": 3}, "the largest number of seeds, 3, is below the first, 4"),
        ({"first": 1, "last": 3}, "one seed has no standard deviation"),
        ({"first": 3, "last": 101}, "at most 100 seeds, not 101"),
        ({"first": 3.5, "last": 4}, "integer"),
        ({"smallest": 0.0}, "greater than 0"),
        ({"smallest": -1.0}, "greater than 0"),
        ({"smallest": nan}, "finite|greater than 0"),
        ({"smallest": inf}, "finite"),
        ({"looks": 3}, "looks"),
    ],
)
def test_bad_designs_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SeedDesign.model_validate({"first": 3, "last": 12, "smallest": 1.0} | values)


@given(hs.integers(2, 100), hs.integers(2, 100), hs.floats(0, 1e6, exclude_min=True))
def test_designs_are_read_as_they_were_written(one: int, other: int, smallest: float) -> None:
    design = SeedDesign(first=min(one, other), last=max(one, other), smallest=smallest)
    assert SeedDesign.model_validate_json(design.model_dump_json()) == design
    assert str(design) == (f"{design.first}:{design.last}" if one != other else str(one))
    assert design.is_adaptive == (one != other)


def test_a_fixed_design_has_any_number_of_seeds() -> None:
    assert not SeedDesign(first=1, last=1, smallest=1).is_adaptive
    assert str(SeedDesign(first=500, last=500, smallest=1)) == "500"
