"""How many seeds two rows get for the comparison of the two, against the definition, and in simulated runs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.sequential import NUM_SIMULATED, SeedDesign

DESIGNS = st.builds(
    lambda first, more, smallest: SeedDesign(first=first, last=first + more, smallest=smallest),
    st.integers(2, 3), st.integers(1, 4), st.sampled_from([0.5, 2.0]),
)  # fmt: skip


@given(DESIGNS, st.integers(0, 10**6), st.sampled_from([0.2, 1.0, 4.0]), st.integers(0, 9))
def test_many_comparisons_are_decided_as_each_by_itself(design: SeedDesign, seed: int, sd: float, n: int) -> None:
    x = np.random.default_rng(seed).normal(1.0, sd, (2, 3, n)).round(1)  # some are all equal
    needed = design.num_needed(x)
    assert needed.shape == (2, 3)
    for place in np.ndindex(2, 3):
        assert needed[place] == (design.judge(x[place]).num_needed or 0)


def wanted(design: SeedDesign, first: list[float | None], second: list[float | None]) -> int:
    """Seed by seed: the next one is wanted if all before have ended and their pairs decide nothing.

    None is, where all first seeds of a row have failed.
    """
    number = design.first
    if any(row[:number] == [None] * number for row in (first, second)):
        return number
    for k in range(design.first, design.last):
        both = list(zip(first[:k], second[:k], strict=False))
        pairs = [a - b for a, b in both if a is not None and b is not None]
        if len(both) < k or design.judge(pairs).direction != "undecided":
            break
        number = k + 1
    return number


@given(DESIGNS, st.integers(0, 10**6), st.sampled_from([0.2, 1.0, 4.0]), st.integers(0, 7), st.integers(0, 7))
def test_seeds_are_wanted_by_the_definition(design: SeedDesign, seed: int, sd: float, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (
        [None if rng.random() < 0.2 else float(score) for score in rng.normal(mean, sd, number)]
        for mean, number in ((1.0, n), (0.0, m))
    )
    number, most = design.seeds_wanted(first, second)
    assert number == wanted(design, first, second) == design.seeds_wanted(second, first)[0]
    # As if all that are left failed, but for the last of the first seeds where a row has none yet: one pair at most.
    ends = [
        row + [1.0 if seed == design.first - 1 and row == [None] * n else None for seed in range(n, design.last)]
        for row, n in ((first, n), (second, m))
    ]
    assert most == wanted(design, *ends)


@given(DESIGNS, st.lists(st.none() | st.floats(0, 100), max_size=8))
def test_a_row_that_has_failed_in_all_first_seeds_gets_no_further_ones(
    design: SeedDesign, other: list[float | None]
) -> None:
    failed: list[float | None] = [None] * design.first
    for more in ([], [None], [60.0]):
        assert design.seeds_wanted(failed + more, other) == (design.first, design.first)
        assert design.seeds_wanted(other, failed + more) == (design.first, design.first)
    assert design.seeds_wanted([*failed[1:], 60.0], [50.0] * design.first) == (design.first + 1, design.last)


def test_a_fixed_number_is_wanted_whatever_the_scores() -> None:
    assert SeedDesign(first=3, last=3, smallest=1.0).seeds_wanted([50.0] * 9, [None, 1.0]) == (3, 3)


ADAPTIVE = SeedDesign(first=3, last=12, smallest=1.0)


def test_simulated_runs_begin_with_what_is_known() -> None:
    rng = np.random.default_rng(0)
    decided = [5.0, 5.1, 4.9, 5.0]
    assert set(ADAPTIVE.simulated_seeds(decided, 1.0, rng)) == {ADAPTIVE.judge(decided).num_needed} == {3}
    undecided = [-3.0, 3.0, -2.0, 2.5, 0.1]
    assert ADAPTIVE.judge(undecided).direction == "undecided"
    simulated = ADAPTIVE.simulated_seeds(undecided, 1.0, rng)
    assert simulated.shape == (NUM_SIMULATED,)
    assert simulated.min() > len(undecided)
    assert simulated.max() <= ADAPTIVE.last


def test_simulated_runs_are_those_of_the_assumptions_where_nothing_is_known() -> None:
    """The same by a loop over runs that judges each difference of its own draws, within four standard errors."""
    rng = np.random.default_rng(1)
    numbers = []
    for mean in rng.normal(0, 2 * 1.5, 400):
        numbers.append(ADAPTIVE.judge(rng.normal(mean, 1.5, ADAPTIVE.last)).num_needed or ADAPTIVE.last)
    simulated = ADAPTIVE.simulated_seeds([], 1.5, rng)
    error = np.std(numbers) * np.sqrt(1 / len(numbers) + 1 / NUM_SIMULATED)
    assert abs(np.mean(simulated) - np.mean(numbers)) < 4 * error


def test_clear_differences_are_expected_to_need_fewer_seeds() -> None:
    rng = np.random.default_rng(2)
    clear, unclear = ([mean + noise for noise in (-1.0, 0.0, 1.0)] for mean in (4.0, 1.5))
    assert ADAPTIVE.simulated_seeds(clear, 1.0, rng).mean() < ADAPTIVE.simulated_seeds(unclear, 1.0, rng).mean()
