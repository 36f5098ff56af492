from itertools import combinations, product
from math import comb, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from scipy import stats

from tadaconv import statistics as st

ACCURACIES = hs.lists(hs.floats(0, 100), min_size=2, max_size=12)


def test_t_interval_by_hand() -> None:
    # mean 2, s = 1, t(2) = 4.302653: half width 4.302653 / sqrt(3).
    assert st.t_interval([1, 2, 3]) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138, 3), abs=1e-6)


@given(ACCURACIES)
def test_t_interval_equals_scipys(values: list[float]) -> None:
    interval = st.t_interval(values)
    if np.ptp(values) <= 1e-9:
        assert isnan(interval.low)
        assert isnan(interval.high)
    else:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("values", [[], [70.0], [70.1, 70.1, 70.1]])
def test_no_interval_where_the_values_cannot_tell_their_spread(values: list[float]) -> None:
    interval = st.t_interval(values)
    assert interval.n == len(values)
    assert isnan(interval.low)
    assert isnan(interval.high)
    assert isnan(interval.mean) == (not values)


@pytest.mark.parametrize("values", [[1.0, nan], [[1.0], [2.0]], [float("inf"), 1.0]])
def test_values_are_flat_and_finite(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        st.t_interval(values)


@given(hs.integers(1, 5000), hs.data())
def test_wilson_equals_scipys(num_clips: int, data: hs.DataObject) -> None:
    hits = data.draw(hs.integers(0, num_clips))
    expected = stats.binomtest(hits, num_clips).proportion_ci(method="wilson")
    low, high = st.wilson_interval(100 * hits / num_clips, num_clips)
    assert (low / 100, high / 100) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("percent", "num_clips"), [(-1, 10), (101, 10), (50, 0), (nan, 10)])
def test_wilson_rejects_what_is_no_accuracy(percent: float, num_clips: int) -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        st.wilson_interval(percent, num_clips)


@given(hs.lists(hs.integers(-9, 9), min_size=1, max_size=9))
def test_sign_flip_equals_enumeration(differences: list[int]) -> None:
    observed = abs(sum(differences))
    flips = list(product((1, -1), repeat=len(differences)))
    extreme = sum(abs(sum(s * d for s, d in zip(f, differences, strict=True))) >= observed for f in flips)
    assert st.sign_flip_p(differences) == pytest.approx(extreme / len(flips))


def test_sign_flip_of_many_is_drawn_and_near_the_exact_one() -> None:
    # 15 equal differences, 12 of one sign: the binomial tail gives the exact value.
    exact = 2 * sum(comb(15, k) for k in range(12, 16)) / 2**15
    assert st.sign_flip_p([1.0] * 12 + [-1.0] * 3) == pytest.approx(exact, abs=0.003)


def test_sign_flip_needs_six_seeds() -> None:
    assert [st.sign_flip_p([1.0] * n) for n in (3, 5, 6)] == [0.25, 0.0625, 0.03125]
    assert st.seeds_for_sign_flip() == 6
    assert isnan(st.sign_flip_p([]))


@given(hs.integers(1, 60))
def test_tests_over_a_table_need_more_seeds(num_tests: int) -> None:
    n = st.seeds_for_sign_flip(num_tests)
    for seeds, reached in ((n, True), (n - 1, False)):
        surest = st.holm([2.0 ** (1 - seeds)] * num_tests).min()
        assert (surest <= 0.05) == reached


def test_holm_by_hand() -> None:
    assert st.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = st.holm([nan, 0.03, 0.9, nan])
    assert adjusted[1:3].tolist() == pytest.approx([0.06, 0.9])
    assert np.isnan(adjusted[[0, 3]]).all()


@given(hs.lists(hs.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p_values: list[float]) -> None:
    adjusted = st.holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    for i, j in combinations(range(len(p_values)), 2):
        if p_values[i] < p_values[j]:
            assert adjusted[i] <= adjusted[j]


@settings(deadline=None)
@given(hs.floats(0.05, 20), hs.integers(2, 40))
def test_detectable_effect_has_a_power_of_80_percent(spread: float, n: int) -> None:
    assert st.power(st.detectable_effect(spread, n), spread, n) == pytest.approx(0.8, abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(hs.floats(0.1, 5), hs.floats(0.1, 5))
def test_seeds_needed_are_the_fewest(effect: float, spread: float) -> None:
    n = st.seeds_needed(effect, spread, most=300)
    if n is None:
        assert st.power(effect, spread, 300) < 0.8
    else:
        assert st.power(effect, spread, n) >= 0.8
        assert n == 2 or st.power(effect, spread, n - 1) < 0.8


def test_power_is_unknown_without_a_spread() -> None:
    assert isnan(st.power(1.0, 0.0, 3))
    assert isnan(st.detectable_effect(nan, 1))
    assert isnan(st.upper_sd(1.0, 1))
    assert isnan(st.upper_sd(0.0, 5))
    assert st.seeds_needed(1.0, nan) is None
    assert st.seeds_needed(0.0, 1.0) is None


@given(hs.permutations(range(6)))
def test_kendall_counts_pairs_in_one_order(other: list[int]) -> None:
    agreeing = [(b - a) * (other[b] - other[a]) > 0 for a, b in combinations(range(6), 2)]
    tau = st.kendall_tau(list(range(6)), [float(v) for v in other]).tau
    assert tau == pytest.approx((2 * sum(agreeing) - len(agreeing)) / len(agreeing))


def test_kendall_takes_three_pairs() -> None:
    with pytest.raises(ValueError, match="three"):
        st.kendall_tau([1.0, 2.0], [1.0, 2.0])
