"""Interleaved trials: one of every method a round, in random order; and the statistics of what came of it."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import quantile_test

from tadaconv.bench.interleaved import run_interleaved
from tadaconv.bench.statistics import spread

NUMBERS = st.floats(0.1, 100, allow_nan=False)


class FakeClock:
    """A machine that gets slower with every trial."""

    def __init__(self) -> None:
        self.slowness = 1.0
        self.trials: list[str] = []

    def trial(self, name: str, seconds: float) -> float:
        self.trials.append(name)
        self.slowness *= 1.01
        return seconds * self.slowness


def timed(rounds: int, seed: int = 0) -> tuple[FakeClock, list[dict[str, float]]]:
    clock = FakeClock()
    costs = {"plain": 1.0, "ours": 1.1, "naive": 5.0}
    trials = {name: lambda name=name, cost=cost: clock.trial(name, cost) for name, cost in costs.items()}
    return clock, list(run_interleaved(trials, rounds, seed=seed))


def test_every_method_has_one_trial_a_round_and_warm_up_is_dropped() -> None:
    clock, rounds = timed(7)

    assert len(clock.trials) == 3 * (1 + 7)
    assert clock.trials[:3] == ["plain", "ours", "naive"]
    ran = [clock.trials[i : i + 3] for i in range(3, len(clock.trials), 3)]
    assert [list(outcome) for outcome in rounds] == ran
    assert all(sorted(names) == ["naive", "ours", "plain"] for names in ran)
    assert min(rounds[0].values()) > 1.01**3  # no outcome of the warm-up is among them


def test_the_order_changes_between_rounds_and_follows_from_the_seed() -> None:
    orders = [tuple(outcome) for outcome in timed(60)[1]]

    assert len(set(orders)) == 6  # all orders of three turn up
    assert {order[0] for order in orders} == {"plain", "ours", "naive"}
    assert orders == [tuple(outcome) for outcome in timed(60)[1]]
    assert orders != [tuple(outcome) for outcome in timed(60, seed=1)[1]]


def test_ratios_within_a_round_outlast_a_machine_that_slows_down() -> None:
    _, rounds = timed(40)
    ratios = spread([outcome["ours"] / outcome["plain"] for outcome in rounds])
    times = spread([outcome["ours"] for outcome in rounds])

    assert ratios.median == pytest.approx(1.1, rel=0.025)
    assert times.quartile_high / times.quartile_low > 1.5


def test_a_round_is_yielded_when_it_is_over() -> None:
    seen: list[str] = []
    for _ in run_interleaved({"a": lambda: seen.append("a")}, 2):
        seen.append("|")

    assert seen == ["a", "a", "|", "a", "|"]


@given(st.lists(NUMBERS, min_size=3, max_size=40))
def test_median_and_quartiles_are_those_of_numpy(values: list[float]) -> None:
    found = spread(values)

    expected = [np.percentile(values, percent) for percent in (25, 50, 75)]
    assert [found.quartile_low, found.median, found.quartile_high] == pytest.approx(expected)


@given(st.lists(NUMBERS, min_size=3, max_size=40))
def test_the_interval_is_that_of_scipys_quantile_test(values: list[float]) -> None:
    found = spread(values)

    interval = quantile_test(values, p=0.5).confidence_interval(0.95)
    ends = [None if np.isnan(end) else end for end in (interval.low, interval.high)]
    assert [found.interval_low, found.interval_high] == ends
    if found.interval_low is not None and found.interval_high is not None:
        assert found.interval_low <= found.median <= found.interval_high


@pytest.mark.parametrize("num_rounds", range(3, 13))
def test_the_interval_holds_the_true_median_in_95_of_100_runs_by_enumeration(num_rounds: int) -> None:
    """Each number is as likely below the true median as above: all 2^n ways, the true median being 0."""
    low_end = spread([float(i) for i in range(num_rounds)]).interval_low
    misses: Counter[int] = Counter()
    for signs in product((-1.0, 1.0), repeat=num_rounds):
        ordered = sorted(signs)
        for rank in range(1, num_rounds // 2 + 1):
            misses[rank] += ordered[rank - 1] > 0 or ordered[-rank] < 0
    narrow = [rank for rank in range(1, num_rounds // 2 + 1) if misses[rank] <= 0.05 * 2**num_rounds]

    assert low_end == (max(narrow) - 1 if narrow else None)
