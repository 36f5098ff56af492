from math import isnan, nan, pi, sqrt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as hs

from tadaconv.reporting.study.selection import expected_maximum, seed_sd
from tadaconv.statistics import on_front

POINTS = hs.lists(hs.tuples(hs.integers(0, 6), hs.integers(0, 6)), max_size=14)


def dominated(point: tuple[float, float], points: list[tuple[float, float]]) -> bool:
    cost, accuracy = point
    return any(c <= cost and a >= accuracy and (c, a) != point for c, a in points)


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    found = on_front([cost for cost, _ in points], [accuracy for _, accuracy in points])
    assert found.tolist() == [not dominated(point, points) for point in points]


@given(POINTS, hs.randoms(use_true_random=False))
def test_the_order_of_trials_does_not_matter(points: list[tuple[int, int]], draw) -> None:
    order = draw.sample(range(len(points)), len(points))
    found = on_front(*np.array(points).reshape(-1, 2).T)
    shuffled = on_front(*np.array([points[i] for i in order]).reshape(-1, 2).T)
    assert shuffled.tolist() == [found[i] for i in order]


@given(hs.lists(hs.tuples(hs.integers(0, 6) | hs.just(nan), hs.integers(0, 6) | hs.just(nan)), max_size=14))
def test_what_is_not_known_is_on_no_front_and_takes_none_off_it(points: list[tuple[float, float]]) -> None:
    known = [point for point in points if not any(map(isnan, point))]
    found = on_front([cost for cost, _ in points], [accuracy for _, accuracy in points])
    assert found.tolist() == [point in known and not dominated(point, known) for point in points]


def test_equal_trials_are_on_the_front_together() -> None:
    assert on_front([1, 1, 1, 2], [5, 5, 4, 5]).tolist() == [True, True, False, False]


@pytest.mark.parametrize(("n", "exact"), [(1, 0.0), (2, 1 / sqrt(pi)), (3, 1.5 / sqrt(pi))])
def test_the_largest_of_a_few_normals(n: int, exact: float) -> None:
    assert expected_maximum(n) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("n", [5, 20, 200])
def test_the_largest_of_many_normals(n: int) -> None:
    draws = np.random.default_rng(0).normal(size=(20_000, n)).max(axis=1)
    assert expected_maximum(n) == pytest.approx(draws.mean(), abs=4 * draws.std() / sqrt(len(draws)))


def test_of_nothing_there_is_no_largest() -> None:
    assert np.isnan(expected_maximum(0))


def test_the_spread_is_pooled_over_trials() -> None:
    scores = {0: [50.0, 52.0, 57.0], 1: [60.0, 61.0], 2: [70.0]}
    lines = [(trial, "finished", score) for trial, values in scores.items() for score in values]
    cells = pd.DataFrame([*lines, (2, "failed", float("nan"))], columns=["trial", "status", "top1"])
    by_hand = sum((x - sum(v) / len(v)) ** 2 for v in scores.values() for x in v) / (2 + 1 + 0)
    assert seed_sd(cells) == pytest.approx(sqrt(by_hand))
    assert np.isnan(seed_sd(cells[cells["trial"] == 2]))
