"""Simulations: intervals cover what they say, tests err as often as they say, and power is as promised."""

from bisect import bisect_left
from itertools import pairwise
from math import isnan, nan, pi, sin

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from tadaconv import statistics as st
from tadaconv.reporting.ablation.summary import standings

TRIALS = 2500


def normal_samples(n: int, trials: int = TRIALS) -> NDArray[np.float64]:
    return np.random.default_rng(n).normal(70, 1.5, (trials, n))


def accuracy_samples(n: int, trials: int = TRIALS) -> NDArray[np.float64]:
    """Accuracies in percent over 400 clips, of networks whose own accuracy varies by 1.5 points between seeds."""
    draw = np.random.default_rng(n)
    networks = draw.normal(0.70, 0.015, (trials, n))
    return 100 * draw.binomial(400, networks) / 400


@pytest.mark.parametrize("samples", [normal_samples, accuracy_samples])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_t_interval_covers_95_percent(samples, n: int) -> None:
    covered = np.mean([i.low <= 70 <= i.high for i in map(st.t_interval, samples(n))])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("samples", [normal_samples, accuracy_samples])
@pytest.mark.parametrize(("n", "says"), [(3, 0.76), (5, 0.83), (10, 0.90)])
def test_the_percentile_bootstrap_does_not(samples, n: int, says: float) -> None:
    # The figures that the page gives as its reason for Student's t.
    data = samples(n, 1000)
    interval = stats.bootstrap(
        (data,), np.mean, axis=1, method="percentile", n_resamples=500, batch=50, rng=np.random.default_rng(0)
    ).confidence_interval
    covered = np.mean((interval.low <= 70) & (interval.high >= 70))
    assert covered == pytest.approx(says, abs=0.04)
    assert covered < 0.93


def table_of_differences(n: int, tables: int) -> NDArray[np.float64]:
    """Differences of nine rows to a tenth where none differs, paired by seed: (tables, 9, n)."""
    scores = np.random.default_rng(n).normal(0, 1, (tables, 10, n))
    return scores[:, 1:] - scores[:, :1]


@pytest.mark.parametrize("n", [6, 8, 10])
def test_a_table_without_an_effect_has_a_false_finding_in_at_most_5_percent(n: int) -> None:
    tables = table_of_differences(n, 600)
    found = np.mean([st.holm([st.sign_flip_p(row) for row in table]).min() <= 0.05 for table in tables])
    assert found <= 0.05
    # Nine tests of six or eight seeds cannot reach 5 % after Holm at all, which the page says.
    assert (n >= st.seeds_for_sign_flip(9)) == (n == 10)
    assert found == 0 or n == 10


@pytest.mark.parametrize("n", [6, 8, 10])
def test_a_single_sign_flip_test_errs_as_often_as_it_says(n: int) -> None:
    p = np.array([st.sign_flip_p(x) for x in np.random.default_rng(n).normal(0, 1, (TRIALS, n))])
    for alpha in (0.05, 0.2):
        exact = np.floor(alpha * 2 ** (n - 1)) / 2 ** (n - 1)  # p-values are multiples of 2^(1 - n)
        assert np.mean(p <= alpha + 1e-12) == pytest.approx(exact, abs=4 * (exact * (1 - exact) / TRIALS) ** 0.5)


def seen(effect: float, spread: float, n: int) -> float:
    """The share of samples whose paired t interval lies wholly above zero."""
    samples = np.random.default_rng(n).normal(effect, spread, (TRIALS, n))
    return float(np.mean([st.t_interval(sample).low > 0 for sample in samples]))


@pytest.mark.parametrize(("effect", "n"), [(0.5, 3), (1.0, 5), (2.0, 4), (0.7, 12)])
def test_power_is_what_simulation_sees(effect: float, n: int) -> None:
    assert st.power(effect, 1.0, n) == pytest.approx(seen(effect, 1.0, n), abs=0.03)


@pytest.mark.parametrize(("effect", "spread"), [(1.0, 1.0), (1.0, 0.5), (2.0, 1.3)])
def test_the_seeds_needed_see_the_effect_and_fewer_do_not(effect: float, spread: float) -> None:
    n = st.seeds_needed(effect, spread)
    assert n is not None
    assert seen(effect, spread, n) >= 0.8 - 0.025
    assert seen(effect, spread, n - 1) < 0.8 + 0.025


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_detectable_effect_is_seen_four_times_in_five(n: int) -> None:
    assert seen(st.detectable_effect(1.3, n), 1.3, n) == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_seeds_counted_to_be_safe_suffice_in_four_of_five_studies(n: int) -> None:
    # A study of n seeds says how many it takes; what these then truly show depends on the true spread, of one point.
    studies = np.random.default_rng(n).normal(0, 1, (400, n))
    spreads = studies.std(axis=1, ddof=1)
    enough = st.seeds_needed(1.5, 1.0)
    assert enough is not None

    def sufficient(counted: list[float]) -> float:
        return float(np.mean([(st.seeds_needed(1.5, spread, most=5000) or 5000) >= enough for spread in counted]))

    safe = sufficient([st.upper_sd(spread, n) for spread in spreads])
    assert safe >= 0.8 - 0.04
    assert sufficient(spreads.tolist()) < safe - 0.1
    # The bound itself holds the true spread as often as it says.
    assert np.mean([st.upper_sd(spread, n) >= 1 for spread in spreads]) == pytest.approx(0.8, abs=0.05)
    quantile = stats.chi2.ppf(0.2, n - 1)
    assert st.upper_sd(2.0, n) == pytest.approx(2 * ((n - 1) / quantile) ** 0.5)


# Kendall's tau


def sampled(tau: float, n: int) -> list[float]:
    """Kendall's tau of samples of ``n`` normal pairs whose true tau is ``tau``."""
    draw, rho = np.random.default_rng(n), sin(pi / 2 * tau)
    x = draw.normal(size=(2000, n))
    y = rho * x + (1 - rho**2) ** 0.5 * draw.normal(size=x.shape)
    i, j = np.triu_indices(n, 1)
    return (np.sign(x[:, i] - x[:, j]) * np.sign(y[:, i] - y[:, j])).mean(1).round(12).tolist()


def tau_interval(discordant: int, n: int) -> st.Agreement:
    """The interval of two orders of ``n`` rows in which so many pairs are the other way round."""
    order, left = list(range(n)), discordant
    for end in range(n - 1, 0, -1):  # each swap of neighbours that stand in order makes one more pair discordant
        for k in range(end):
            if left:
                order[k], order[k + 1], left = order[k + 1], order[k], left - 1
    found = st.kendall_tau(list(range(n)), [float(v) for v in order])
    assert found.tau == pytest.approx(1 - 4 * discordant / (n * (n - 1)))
    return found


@pytest.mark.parametrize("n", [5, 8])
def test_the_interval_of_tau_moves_with_tau(n: int) -> None:
    found = [tau_interval(discordant, n) for discordant in range(n * (n - 1) // 2 + 1)]
    for above, below in pairwise(found):
        assert above.low >= below.low
        assert above.high >= below.high
    assert all(each.low <= each.tau <= each.high for each in found)


@pytest.mark.parametrize(
    ("n", "tau", "most"),
    [*((n, tau, 0.985) for n in (8, 10) for tau in (0.0, 0.5, 0.9)), (20, 0.5, 0.97), (20, 0.9, 0.97)],
)
def test_the_interval_of_tau_covers(n: int, tau: float, most: float) -> None:
    # With ten rows or fewer tau takes so few values near 1 that coverage cannot but jump by a few points.
    discordant = np.rint((1 - np.array(sampled(tau, n))) * n * (n - 1) / 4)
    counts = range(n * (n - 1) // 2 + 1)
    # Bounds move with tau: those whose interval holds the true one lie side by side.
    first = bisect_left(counts, True, key=lambda count: tau_interval(count, n).low <= tau)
    last = bisect_left(counts, True, key=lambda count: tau_interval(count, n).high < tau)
    assert 0.93 <= np.mean((discordant >= first) & (discordant < last)) <= most


@pytest.mark.parametrize(("tau", "n", "covers"), [(0.5, 10, True), (0.9, 10, False), (0.9, 20, False)])
def test_fishers_z_covers_only_where_orders_agree_little(tau: float, n: int, covers: bool) -> None:
    taus = np.clip(sampled(tau, n), -1 + 1e-12, 1 - 1e-12)
    covered = np.mean(np.abs(np.arctanh(taus) - np.arctanh(tau)) <= 1.959964 * (0.437 / (n - 4)) ** 0.5)
    assert (covered >= 0.93) == covers


def test_the_interval_of_tau_turns_with_the_order() -> None:
    ours, theirs = [1.0, 2, 3, 4, 5, 6, 7], [2.0, 1, 4, 3, 7, 5, 6]
    there, back = st.kendall_tau(ours, theirs), st.kendall_tau(ours, [-v for v in theirs])
    assert (back.tau, back.low, back.high) == pytest.approx((-there.tau, -there.high, -there.low))
    assert st.kendall_tau(theirs, ours) == there
    same = st.kendall_tau(ours, ours)
    assert (same.tau, same.high) == (1, 1)
    assert 0.5 < same.low < 0.9


def test_the_interval_of_tau_by_hand() -> None:
    # Five rows in one order: the lower bound is where a sample is in one order once in twenty (half of it counts).
    low = st.kendall_tau([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]).low
    draw, rho = np.random.default_rng(9), sin(pi / 2 * low)
    x = np.sort(draw.normal(size=(200_000, 5)), axis=1)
    y = rho * x + (1 - rho**2) ** 0.5 * draw.normal(size=x.shape)
    assert np.mean((np.diff(y) > 0).all(axis=1)) == pytest.approx(0.05, abs=0.01)


def test_tau_of_few_rows_has_no_interval() -> None:
    found = st.kendall_tau([1, 2, 3, 4], [1, 2, 4, 3])
    assert found.tau == pytest.approx(2 / 3)
    assert isnan(found.low)
    assert isnan(found.high)
    assert isnan(st.kendall_tau([1.0] * 6, [1, 2, 3, 4, 5, 6]).tau)


# The best row


def marked(means: list[float], n: int, trials: int) -> list[dict[str, str]]:
    """What :func:`standings` says of tables with these true means, one point between paired seeds."""
    draw = np.random.default_rng(n)
    rows = [str(i) for i in range(len(means))]
    shape = (trials, len(means), n)
    scores = np.array(means)[:, None] + draw.normal(size=(trials, 1, n)) + draw.normal(size=shape)
    return [standings(pd.DataFrame(table, index=rows), [rows]) for table in scores]


@pytest.mark.parametrize(("means", "n"), [([70.0] * 6, 5), ([70.0, 70, 69.5, 60, 50, 40], 5), ([70.0, 69.9, 50], 10)])
def test_the_marked_rows_leave_out_the_best_at_most_one_time_in_twenty(means: list[float], n: int) -> None:
    found = marked(means, n, 200)
    assert np.mean([each["0"] == "below" for each in found]) <= 0.05
    # A row below the best is called best no more often than that.
    assert np.mean(["best" in (each[str(i)] for i in range(1, len(means))) for each in found]) <= 0.05


def test_the_best_row_is_found_where_it_is_far_ahead() -> None:
    found = marked([70.0, 65, 64, 50], 5, 100)
    assert np.mean([each == {"0": "best", "1": "below", "2": "below", "3": "below"} for each in found]) >= 0.8


# Second implementations


def test_multiple_testing_equals_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="the second implementation of Holm")
    draw = np.random.default_rng(0)
    for m in (1, 2, 9, 30):
        p = draw.uniform(size=m) ** 3
        assert st.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
        assert st.holm([*p, nan])[:-1] == pytest.approx(multitest.multipletests(p, method="holm")[1])


def test_wilson_equals_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion", reason="the second implementation of Wilson")
    for hits, clips in ((0, 1), (3, 7), (256, 512), (400, 400)):
        expected = proportion.proportion_confint(hits, clips, method="wilson")
        found = np.array(st.wilson_interval(100 * hits / clips, clips)) / 100
        assert found == pytest.approx(np.clip(expected, 0, 1), abs=1e-12)


def test_power_equals_statsmodels() -> None:
    module = pytest.importorskip("statsmodels.stats.power", reason="the second implementation of power")
    for n in (3, 5, 10, 40):
        for effect in (0.3, 1.0, 2.5):
            # Theirs one-sided at half the level, which leaves out significance of the wrong sign as ours does.
            expected = module.TTestPower().power(effect, n, 0.025, alternative="larger")
            assert st.power(effect, 1.0, n) == pytest.approx(expected, abs=1e-6)
    needed = module.TTestPower().solve_power(effect_size=0.8, alpha=0.025, power=0.8, alternative="larger")
    assert st.seeds_needed(0.8, 1.0) == int(np.ceil(needed))


@pytest.mark.parametrize("n", [2, 5, 9])
def test_tests_in_pairs_equal_scipys(n: int) -> None:
    ours, theirs = np.random.default_rng(n).normal(70, 1.5, (2, n))
    differences = ours - theirs
    assert st.paired_t_p(differences) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    flips = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert st.sign_flip_p(differences) == pytest.approx(flips.pvalue)


def test_the_t_test_and_its_interval_agree() -> None:
    for differences in np.random.default_rng(3).normal(1, 1, (300, 5)):
        interval = st.t_interval(differences)
        assert (st.paired_t_p(differences) < 0.05) == (interval.low > 0 or interval.high < 0)


@pytest.mark.parametrize("differences", [[], [1.0], [1.0, 1.0, 1.0], [0.0, 0.0]])
def test_the_t_test_says_nothing_without_a_spread(differences: list[float]) -> None:
    assert isnan(st.paired_t_p(differences))
