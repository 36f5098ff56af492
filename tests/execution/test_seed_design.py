"""With which numbers of seeds a table can be run again, by what its storage holds."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_cells import ROWS, result, row

from tadaconv.errors import UserError
from tadaconv.execution import attrs
from tadaconv.execution.merge import merge
from tadaconv.execution.planner import plan
from tadaconv.execution.seed_design import (
    TableStudy,
    asked_design,
    kept_design,
    merged_design,
    read_seeds,
    read_smallest,
    stored_design,
)
from tadaconv.execution.store import Store
from tadaconv.metrics import TOP1
from tadaconv.sequential import SeedDesign

STUDY = "t-quick"
OTHERS = [("3", None), ("12", None), ("3:11", None), ("4:12", None), (None, 2.0)]
BAD_SEEDS = ["", ":", "3:", ":3", "x", "3:x", "1.5", "-3", "3:5:7", "\u00b3", "0", "0:3", True, 2.0, None]


def design(seeds: str, smallest: float = 1.0) -> SeedDesign:
    first, last = read_seeds(seeds)
    return SeedDesign(first=first, last=last, smallest=smallest)


OF_TABLE = TableStudy(STUDY, ROWS)
EARLIER = TableStudy("t-quick_1", [row(cell.label, 3, lr=0.3 + i) for i, cell in enumerate(ROWS)], former=STUDY)
"""The same table by the recipe that the regime had before."""


def run(
    store: Store, seeds: str | int | None = None, smallest: float | None = None, study: TableStudy = OF_TABLE
) -> SeedDesign:
    """What a call that is asked for this runs; it is stored, and its first seeds are planned, as a call does."""
    asked = asked_design(study, store, TOP1, seeds, smallest)
    store.set_study_attr(study.name, attrs.SEEDS, kept_design(study, store, asked).model_dump())
    plan(store, study.name, study.rows, range(asked.first))
    return asked


@pytest.mark.parametrize(
    ("seeds", "smallest", "expected"),
    [
        (None, None, design("1", TOP1.difference)),
        (4, None, design("4", TOP1.difference)),
        ("4", 2.0, design("4", 2.0)),
        ("3:12", 0.5, design("3:12", 0.5)),
    ],
)
def test_a_new_table_is_run_as_asked_and_that_is_stored(
    store: Store, seeds: str | None, smallest: float | None, expected: SeedDesign
) -> None:
    assert stored_design(STUDY, store) is None
    assert run(store, seeds, smallest) == expected
    assert stored_design(STUDY, Store.open(store.shown)) == expected


@pytest.mark.parametrize("seeds", ["3", "3:12"])
def test_what_is_not_asked_for_is_as_stored(store: Store, seeds: str) -> None:
    run(store, seeds, 2.0)
    for again in (None, seeds):
        for smallest in (None, 2.0):
            assert run(store, again, smallest) == stored_design(STUDY, store) == design(seeds, 2.0)


def test_a_fixed_number_can_be_raised_lowered_and_given_another_smallest_difference(store: Store) -> None:
    run(store, "3")
    assert run(store, "5", 2.0) == stored_design(STUDY, store) == design("5", 2.0)
    assert run(store, "2") == design("2", 2.0)
    assert stored_design(STUDY, store) == design("5", 2.0), "five seeds have been run"
    assert run(store, None, 3.0) == design("5", 3.0)


@pytest.mark.parametrize("is_old", [False, True])
def test_an_adaptive_number_follows_a_fixed_one_whose_seeds_are_all_in_its_first_look(
    store: Store, is_old: bool
) -> None:
    if is_old:
        plan(store, STUDY, ROWS, range(4))
        assert stored_design(STUDY, store) is None
    else:
        run(store, "4")
    with pytest.raises(UserError, match=f"{STUDY} in .* has 4 seeds already, .* give --seeds 4:12, or name") as refused:
        run(store, "3:12")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="give --seeds 4:5, or name"):
        run(store, "2:4")
    assert run(store, "4:12") == stored_design(STUDY, store) == design("4:12")


def test_an_earlier_version_ran_as_many_seeds_as_it_planned(store: Store) -> None:
    plan(store, STUDY, ROWS, range(4))
    assert run(store) == design("1"), "as it was without the option"
    assert stored_design(STUDY, store) == design("4")
    assert run(store, "5:6") == design("5:6")


def run_before(store: Store, seeds: str | int | None, *, is_stored: bool = True) -> None:
    """What a call ran when the regime had another recipe, under the name that is the present one's."""
    before = replace(EARLIER, name=STUDY, former="")
    if is_stored:
        run(store, seeds, study=before)
    else:
        plan(store, STUDY, before.rows, range(int(str(seeds))))
    for cell in store.planned(STUDY):
        (of_cell,) = store.attempts([cell.key])[cell.key]
        attempt = store.claim(of_cell.trial_id)
        assert attempt is not None
        store.finish(attempt, result(50.0))


@pytest.mark.parametrize("is_stored", [False, True])
def test_results_of_an_earlier_recipe_are_no_seeds_of_the_present_one(store: Store, is_stored: bool) -> None:
    run_before(store, "3", is_stored=is_stored)
    assert run(store, "2:4") == stored_design(STUDY, store) == design("2:4")
    with pytest.raises(UserError, match="is run with --seeds 2:4"):
        run(store, "3:4")


def test_after_an_earlier_recipe_fixed_seeds_are_counted_from_new(store: Store) -> None:
    run_before(store, "3")
    assert run(store, "2") == stored_design(STUDY, store) == design("2")
    assert run(store, "2:4") == design("2:4"), "the plan names three seeds, and two have been seen"


def test_an_adaptive_number_of_an_earlier_recipe_does_not_bind(store: Store) -> None:
    run_before(store, "3:12")
    assert run(store, "2:4") == design("2:4")


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("has_new", [False, True])
def test_results_under_the_former_name_are_seeds_of_the_earlier_recipe(
    store: Store, is_stored: bool, has_new: bool
) -> None:
    run_before(store, "3", is_stored=is_stored)
    if has_new:
        run(store, "2:4")
    with pytest.raises(UserError, match=f"{EARLIER.name} in .* has 3 seeds already, .* give --seeds 3:4, or name"):
        run(store, "2:4", study=EARLIER)
    assert stored_design(EARLIER.name, store) is None
    assert asked_design(EARLIER, store, TOP1) == design("3" if is_stored and not has_new else "1")
    assert run(store, "3:4", study=EARLIER) == stored_design(EARLIER.name, store) == design("3:4")


def test_an_adaptive_number_is_kept_under_the_former_name(store: Store) -> None:
    run_before(store, "3:12")
    with pytest.raises(UserError, match=f"{EARLIER.name} in .* is run with --seeds 3:12"):
        run(store, "3:8", study=EARLIER)
    assert run(store, study=EARLIER) == stored_design(EARLIER.name, store) == design("3:12")


def test_results_of_another_table_are_no_seeds_of_this_one(store: Store) -> None:
    plan(store, "other-quick", ROWS, range(5))
    assert run(store, "2:4") == design("2:4")


def test_what_has_run_out_is_not_to_be_continued(store: Store) -> None:
    run(store, "3:12")
    done = replace(OF_TABLE, is_done=lambda before, _: before == design("3:12"))
    with pytest.raises(UserError, match=r"has run all seeds of --seeds 3:12 --smallest 1, .* with --out") as refused:
        run(store, "3:13", study=done)
    assert "continue" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("seeds", "smallest"), [("3", None), ("12", None), ("3:11", None), ("4:12", None), (None, 2.0)]
)
def test_an_adaptive_number_is_not_exchanged_for_another(
    store: Store, seeds: str | None, smallest: float | None
) -> None:
    run(store, "3:12")
    with pytest.raises(
        UserError, match=r"is run with --seeds 3:12 --smallest 1, .* error rates .* without --seeds"
    ) as e:
        run(store, seeds, smallest)
    assert "\n" not in str(e.value)
    assert stored_design(STUDY, store) == design("3:12")


def test_a_design_of_another_version_is_one_line(store: Store) -> None:
    store.set_study_attr(STUDY, attrs.SEEDS, {"first": 3, "last": 12, "smallest": 1.0, "looks": "every second"})
    with pytest.raises(UserError, match=r"the seeds of t-quick in .* were written by another version"):
        run(store)


@pytest.mark.parametrize("seeds", BAD_SEEDS)
def test_what_is_no_number_of_seeds_is_one_line(seeds: object) -> None:
    with pytest.raises(UserError, match=r"no number of seeds; give one, such as 3|would run no cells"):
        read_seeds(seeds)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "advised"),
    [("5:3", "5:20"), ("2:2", "2:12"), ("1:4", "2:4"), ("3:100000", "3:12"), ("1:100000", "2:12"), ("60:50", "60:100")],
)
def test_numbers_that_make_no_design_are_refused_with_some_that_do(seeds: str, advised: str) -> None:
    with pytest.raises(UserError, match=rf"give .*{advised}\b") as refused:
        read_seeds(seeds)
    assert "\n" not in str(refused.value)
    assert str(design(advised)) == advised


def test_all_that_is_wrong_with_two_numbers_is_named_at_once() -> None:
    with pytest.raises(UserError, match=r"one seed has no standard deviation .*; .* up to 100 seeds; give 2:12$"):
        read_seeds("1:100000")
    with pytest.raises(UserError, match=r"^--seeds 1:1: one seed has .* judge by; the last number is to be above"):
        read_seeds("1:1")


@pytest.mark.parametrize("smallest", [0, -1.0, float("nan"), float("inf"), "1", None])
def test_a_smallest_difference_is_positive(smallest: object) -> None:
    with pytest.raises(UserError, match="is no size of a difference; give a number above 0"):
        read_smallest(smallest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("into", "source", "merged"),
    [
        (None, "3", "3"),
        ("3", None, "3"),
        ("3", "5", "5"),
        ("5", "3", "5"),
        ("3:12", "3:12", "3:12"),
        ("3", "3:12", "3:12"),
        ("3:12", "2", "3:12"),
        ("4", "3:12", None),
        ("3:12", "4", None),
        ("3:12", "3:11", None),
    ],
)
def test_merged_storages_keep_a_design_whose_error_rates_hold(
    tmp_path: Path, into: str | None, source: str | None, merged: str | None
) -> None:
    stores = [Store.open(str(tmp_path / name)) for name in ("into.log", "source.log")]
    for store, seeds in zip(stores, (into, source), strict=True):
        if seeds is not None:
            run(store, seeds)
    if merged is not None:
        assert merged_design(STUDY, stores[0], stores[1]) == design(merged)
        merge([stores[1]], stores[0])
        assert stored_design(STUDY, stores[0]) == design(merged)
        return
    before = {name: dict(stores[0].study_attrs(name)) for name in stores[0].studies()}
    with pytest.raises(UserError, match=rf"t-quick was run with --seeds {source} .* report each by itself") as refused:
        merge([stores[1]], stores[0])
    assert "\n" not in str(refused.value)
    assert before == {name: dict(stores[0].study_attrs(name)) for name in stores[0].studies()}


def test_a_merged_run_of_an_earlier_version_counts_with_the_seeds_it_planned(tmp_path: Path) -> None:
    into, source = (Store.open(str(tmp_path / name)) for name in ("into.log", "source.log"))
    plan(source, STUDY, [row("TSN")], range(4))
    assert merged_design(STUDY, into, source) is None
    run(third := Store.open(str(tmp_path / "fixed.log")), "3", 2.0)
    assert merged_design(STUDY, third, source) == merged_design(STUDY, source, third) == design("4", 2.0)
    run(into, "3:12")
    with pytest.raises(UserError, match="run with --seeds 4"):
        merge([source], into)
    third = Store.open(str(tmp_path / "third.log"))
    merge([into], third)
    assert stored_design(STUDY, third) == design("3:12")
