"""The simulation of verdicts: its parts against definitions, and the error rates that designs promise."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tadaconv import statistics as st
from tadaconv.sequential import SeedDesign

ROOT = Path(__file__).resolve().parents[1]
NUM_TABLES = 2000
LEVEL = 1 - st.CONFIDENCE


@pytest.fixture(scope="module")
def verdicts() -> Iterator[Any]:
    path = ROOT / "benchmarks" / "verdicts.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def most(rate: float, num: int = NUM_TABLES) -> float:
    """Three standard errors above a rate."""
    return rate + 3 * sqrt(rate * (1 - rate) / num)


DIRECTIONS = ("undecided", "above", "below", "equivalent")


@pytest.mark.parametrize("noise", ["normal", "rounded", "5 % failed"])
@pytest.mark.parametrize("seeds", ["3", "12", "3:12"])
def test_many_differences_are_judged_as_one_is(verdicts: Any, noise: str, seeds: str) -> None:
    design = verdicts.DESIGNS[seeds]
    scores_TRS = verdicts.simulated_scores(noise, verdicts.SCENARIOS["differences of 0 to 2"], 12, 5)
    x_DS = (scores_TRS[:, 1:] - scores_TRS[:, :1]).reshape(-1, verdicts.MOST_SEEDS)[:, : design.last]
    course = verdicts.course(design, x_DS)
    met = set()
    for d, x in enumerate(x_DS):
        for last in range(design.last if not design.is_adaptive else 1, design.last + 1):
            known = x[:last][~np.isnan(x[:last])]
            judgement = design.judge(known)
            of_many = [values[d, last - 1] for values in course]
            assert DIRECTIONS[of_many[3]] == judgement.direction
            met.add(judgement.direction)
            if np.isnan(judgement.p):
                assert of_many[:2] == [-np.inf, np.inf]
                assert of_many[4] == 1
            else:
                expected = (judgement.interval.low, judgement.interval.high, judgement.interval.mean, judgement.p)
                assert (*of_many[:3], of_many[4]) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert len(met) >= 3


def test_seeds_of_rows_follow_the_rule(verdicts: Any) -> None:
    """A cell is wanted if its seed is below the first, or a comparison of its row is undecided after those before."""
    design = verdicts.DESIGNS["3:12"]
    scores_TRS = verdicts.simulated_scores("5 % failed", -1.5 * verdicts.DEPTHS, 20, 6)
    better, worse = verdicts.COMPARISONS.T
    course = verdicts.course(design, scores_TRS[:, better] - scores_TRS[:, worse])
    numbers = verdicts.seeds_of_rows(design, course.verdict)
    for scores_RS, numbers_R in zip(scores_TRS, numbers, strict=True):
        num_seeds = dict.fromkeys(range(len(verdicts.ROWS)), design.first)
        for seed in range(design.first, design.last):
            running = set()
            for one, other in verdicts.COMPARISONS:
                if num_seeds[one] >= seed and num_seeds[other] >= seed:
                    x = scores_RS[one, :seed] - scores_RS[other, :seed]
                    if design.judge(x[~np.isnan(x)]).direction == "undecided":
                        running |= {one, other}
            num_seeds |= dict.fromkeys(running, seed + 1)
        assert list(num_seeds.values()) == list(numbers_R)
    assert len(np.unique(numbers)) > 5


def test_holm_of_many_tables_is_that_of_one(verdicts: Any) -> None:
    p_TC = np.random.default_rng(0).uniform(size=(50, 7)) ** 3
    assert verdicts.holm(p_TC) == pytest.approx(np.stack([st.holm(p_C) for p_C in p_TC]))


def test_the_rows_of_a_claim_differ_by_one_step(verdicts: Any) -> None:
    better, worse = np.array(verdicts.CLAIMS).T
    assert np.all(verdicts.DEPTHS[worse] - verdicts.DEPTHS[better] == 1)
    assert len(verdicts.COMPARISONS) == len(verdicts.CLAIMS) + len(verdicts.ROWS) - 1


@pytest.mark.parametrize("noise", ["normal", "heavy-tailed", "rounded", "5 % failed"])
@pytest.mark.parametrize("scenario", ["no differences", "differences of 0 or the smallest", "differences of 0 to 2"])
@pytest.mark.parametrize("seeds", ["3", "12", "3:12"])
def test_error_rates_are_as_promised(verdicts: Any, noise: str, scenario: str, seeds: str) -> None:
    means_R = verdicts.SCENARIOS[scenario]
    scores_TRS = verdicts.simulated_scores(noise, means_R, NUM_TABLES, 7)
    rates = verdicts.rates(verdicts.DESIGNS[seeds], scores_TRS, means_R)
    assert rates["false_verdicts_of_the_worst_claim"] <= most(LEVEL)
    assert rates["tables_with_a_false_finding_among_claims"] <= most(LEVEL)
    assert rates["tables_with_a_false_finding_among_rows"] <= most(LEVEL)
    assert 1 - rates["coverage"] <= most(LEVEL)
    assert 1 - rates["coverage_at_all_looks"] <= most(LEVEL)
    if noise == "normal":
        # The error is spent, so that no power is lost.
        assert 1 - rates["coverage_at_all_looks"] >= 2 * LEVEL - most(LEVEL)


def test_ordinary_intervals_at_all_looks_would_be_noticed(verdicts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeedDesign, "critical_value", lambda _, n: stats.t.ppf(0.975, n - 1))
    monkeypatch.setattr(SeedDesign, "p_value", lambda _, n, t: 2 * stats.t.sf(np.abs(t), n - 1))
    means_R = verdicts.SCENARIOS["no differences"]
    rates = verdicts.rates(verdicts.DESIGNS["3:12"], verdicts.simulated_scores("normal", means_R, 500, 8), means_R)
    assert rates["false_verdicts"] > 0.1
    assert rates["tables_with_a_false_finding_among_claims"] > 0.1
    assert rates["coverage_at_all_looks"] < 0.9


@pytest.mark.parametrize("effect", [0.5, 1.0, 2.0])
def test_power_is_that_of_the_formula_and_between_the_fixed_designs(verdicts: Any, effect: float) -> None:
    means_R = -effect * verdicts.DEPTHS
    scores_TRS = verdicts.simulated_scores("normal", means_R, NUM_TABLES, 9)
    rates = {name: verdicts.rates(design, scores_TRS, means_R) for name, design in verdicts.DESIGNS.items()}
    for n in (3, 12):
        promised = st.power(effect, 1.0, n)
        margin = 3 * sqrt(promised * (1 - promised) / NUM_TABLES) + 0.001
        assert rates[str(n)]["right_direction"] == pytest.approx(promised, abs=margin)
        assert rates[str(n)]["cells"] == 1
    assert rates["3"]["right_direction"] < rates["3:12"]["right_direction"] <= rates["12"]["right_direction"]
    assert 3 / 12 < rates["3:12"]["cells"] < 1


def test_stored_rates_are_those_of_the_script(verdicts: Any) -> None:
    stored = json.loads((ROOT / "benchmarks" / "results" / "verdicts.json").read_text())
    num = stored["tables"]
    assert num >= 10_000
    assert len(stored["error_rates"]) == len(verdicts.NOISES) * len(verdicts.SCENARIOS) * len(verdicts.DESIGNS)
    assert len(verdicts.printed(stored).splitlines()) > len(stored["error_rates"]) + len(stored["power"])
    first = stored["error_rates"][0]
    means_R = verdicts.SCENARIOS[first["scenario"]]
    scores_TRS = verdicts.simulated_scores(first["noise"], means_R, num, 0)
    assert first == pytest.approx(first | verdicts.rates(verdicts.DESIGNS[first["seeds"]], scores_TRS, means_R))
