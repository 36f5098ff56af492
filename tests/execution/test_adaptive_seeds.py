"""Which cells an adaptive number of seeds trains: those of a plain loop over the same scores, whoever runs them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import scored_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.launcher import Crew
from tadaconv.execution.live import LineView
from tadaconv.execution.planner import Planned
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.regime import Regime
from tadaconv.sequential import SeedDesign
from tadaconv.spec import Backbone, Context, Experiment, Schedule, Synthetic, TAda
from tadaconv.table import Claim, LoadedTable, Row, Table
from tadaconv.table_run import run_table, stored_design

REGIME = Regime(
    summary="Small.", backbone=Backbone(name="tiny"), data=Synthetic(num_train=8, num_val=8),
    schedule=Schedule(epochs=1, batch_size=2, lr=0.1),
)  # fmt: skip
KERNELS = ((1,), (3,), (1, 1), (3, 3), (3, 1))
STUDY = "t-small"
Scores = dict[tuple[str, int], float | None]


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadaconv.dry_run.dry_run", lambda _: None)


def table(num_rows: int, claims: Sequence[tuple[int, int]] = (), versus: Sequence[int | None] = ()) -> LoadedTable:
    """A table whose base is its first row."""
    against = [None if one is None else f"row {one}" for one in versus] or [None] * num_rows
    rows = [Row(f"row {i}", TAda(context=Context(kernels=KERNELS[i])), versus=against[i]) for i in range(num_rows)]
    said = [Claim(f"{a} beats {b}.", f"row {a}", f"row {b}", "paper") for a, b in claims]
    return LoadedTable("t", "?", Table(rows[0], rows, said))


def plain_loop(loaded: LoadedTable, design: SeedDesign, scores: Scores, chosen: set[str]) -> set[tuple[str, int]]:
    """The cells by row and seed that are wanted, found by trying the definition again and again."""
    rows = {row.name: row for row in loaded.table.all_rows}
    pairs = {(claim.better, claim.worse) for claim in loaded.table.claims}
    pairs |= {(name, row.versus or loaded.table.base.name) for name, row in rows.items()}
    pairs = {(a, b) for a, b in pairs if a != b and {a, b} <= chosen}
    ended: set[tuple[str, int]] = set()

    def is_open(pair: tuple[str, str], k: int) -> bool:
        if not all((row, seed) in ended for row in pair for seed in range(k)):
            return False
        both = [(scores[pair[0], seed], scores[pair[1], seed]) for seed in range(k)]
        differences = [a - b for a, b in both if a is not None and b is not None]
        if any(all(scores[row, seed] is None for seed in range(design.first)) for row in pair):
            return False
        return design.judge(differences).direction == "undecided"

    while True:
        wanted = {
            (row, k)
            for row in chosen
            for k in range(design.last)
            if k < design.first or any(row in pair and is_open(pair, k) for pair in pairs)
        }
        if wanted <= ended:
            return ended
        ended |= wanted


class Run:
    """One storage with given scores, on which a table is run."""

    study = STUDY

    def __init__(
        self,
        out: Path,
        loaded: LoadedTable,
        design: SeedDesign,
        scores: Scores,
        tell: Callable[[str], None] = lambda _: None,
        location: str = "",
    ) -> None:
        self.tell = tell
        self.out, self.loaded, self.design, self.scores = out, loaded, design, scores
        self.store = Store.open(location or str(out / "journal.log"))
        self.keys = {
            (row.name, seed): row.cell(REGIME, seed).key
            for row in loaded.table.trained()
            for seed in range(design.last)
        }
        scored_cells.give(out, {key: scores[place] for place, key in self.keys.items()})

    def __call__(self, num_workers: int = 1, rows: Sequence[str] | None = None) -> list[CellRecord]:
        """What ``tada ablate`` does between reading the table and reporting it."""
        call = WorkerCall(self.store.shown, "", "cpu", self.out, run="scored_cells:run", lease_seconds=2.0)
        store = Store.open(self.store.shown)

        def show(planned: Planned) -> LineView:
            self.tell(str(planned))
            return LineView(Console(quiet=True), len(planned.to_run))

        return run_table(
            self.loaded, REGIME, self.study, store, design=self.design, rows=rows, crew=Crew(call, num_workers),
            show=show,
        )  # fmt: skip

    @property
    def ended(self) -> set[tuple[str, int]]:
        """The cells that have a result or have failed."""
        by_key = {key: place for place, key in self.keys.items()}
        attempts = Store.open(self.store.shown).attempts()
        statuses = {key: {attempt.status for attempt in of_cell} for key, of_cell in attempts.items()}
        assert all(of_cell <= {"finished", "failed", "dropped"} for of_cell in statuses.values()), (
            "nothing is left over"
        )
        return {by_key[key] for key in statuses}

    def wanted(self, rows: Sequence[str] | None = None) -> set[tuple[str, int]]:
        chosen = {row.name for row in self.loaded.table.trained(rows)}
        return plain_loop(self.loaded, self.design, self.scores, chosen)


@st.composite
def tables(draw: st.DrawFn) -> tuple[LoadedTable, SeedDesign, Scores]:
    """Tables of two to five rows with claims, a design, and scores of which a few are missing."""
    num_rows = draw(st.integers(2, 5))
    index = st.integers(0, num_rows - 1)
    claims = draw(st.lists(st.tuples(index, index), max_size=4))
    versus = draw(st.lists(st.one_of(st.none(), index), min_size=num_rows, max_size=num_rows))
    first = draw(st.integers(2, 3))
    design = SeedDesign(first=first, last=first + draw(st.integers(1, 4)), smallest=draw(st.sampled_from([0.5, 2.0])))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    means = rng.normal(50, draw(st.sampled_from([0.0, 1.0, 5.0])), num_rows)
    sd = draw(st.sampled_from([0.1, 0.5, 2.0]))
    share_failed = draw(st.sampled_from([0.0, 0.1, 0.4]))
    scores: Scores = {
        (f"row {row}", seed): None if rng.random() < share_failed else float(rng.normal(means[row], sd))
        for row in range(num_rows)
        for seed in range(design.last)
    }
    return table(num_rows, claims, versus), design, scores


@settings(max_examples=40, deadline=None)
@given(tables(), st.data())
def test_the_cells_are_those_of_a_plain_loop(
    given: tuple[LoadedTable, SeedDesign, Scores], data: st.DataObject
) -> None:
    names = [row.name for row in given[0].table.all_rows]
    rows = data.draw(st.none() | st.lists(st.sampled_from(names), min_size=1, unique=True))
    with TemporaryDirectory() as folder:
        run = Run(Path(folder), *given)
        records = run(rows=rows)
        assert run.ended == run.wanted(rows)
        assert {record.cell.key for record in records} == {run.keys[place] for place in run.ended}
        assert len(records) == len(run.ended)
        num_begun = len(scored_cells.ran(run.out))
        again = run(rows=rows)
        failed = {place for place in run.ended if run.scores[place] is None}
        assert {record.cell.key for record in again} == {run.keys[place] for place in failed}, "failed ones are retried"
        assert len(scored_cells.ran(run.out)) - num_begun == 2 * len(failed)
        assert run.ended == run.wanted(rows)


@settings(max_examples=10, deadline=None)
@given(tables())
def test_three_workers_of_as_many_calls_train_the_same_cells(made: tuple[LoadedTable, SeedDesign, Scores]) -> None:
    with TemporaryDirectory() as folder:
        run = Run(Path(folder), *made)
        in_threads(run, run, run)
        assert run.ended == run.wanted()
        finished = [key for place, key in run.keys.items() if place in run.ended and run.scores[place] is not None]
        assert all(scored_cells.ran(run.out).count(key) == 1 for key in finished)


def in_threads(*calls: Callable[[], object]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


THREE_ROWS = table(3, claims=[(1, 2)])
ADAPTIVE = SeedDesign(first=3, last=8, smallest=0.5)


def scores_of(means: Sequence[float], sd: float, failed: Collection[tuple[str, int]] = (), seed: int = 0) -> Scores:
    """Scores of the rows of a table, those of ``failed`` missing."""
    rng = np.random.default_rng(seed)
    draws = rng.normal(means, sd, (ADAPTIVE.last, len(means)))
    places = {(f"row {row}", n): float(draws[n, row]) for n in range(ADAPTIVE.last) for row in range(len(means))}
    return {place: None if place in failed else score for place, score in places.items()}


SOME_OPEN = scores_of([50.0, 51.0, 58.0], 1.0, failed=[("row 1", 1), ("row 0", 4)])
"""Scores with which some rows get further seeds, and not all get all; see the first assertions below."""


def test_these_scores_decide_some_comparisons_early_and_others_late(tmp_path: Path) -> None:
    wanted = Run(tmp_path, THREE_ROWS, ADAPTIVE, SOME_OPEN).wanted()
    numbers = {row.name: sum(name == row.name for name, _ in wanted) for row in THREE_ROWS.table.all_rows}
    assert ADAPTIVE.first < numbers["row 2"] < max(numbers.values())


@pytest.mark.parametrize("num_workers", [2, 3])
def test_processes_train_the_cells_of_a_plain_loop(tmp_path: Path, num_workers: int, location: str) -> None:
    run = Run(tmp_path, THREE_ROWS, ADAPTIVE, SOME_OPEN, location=location)
    records = run(num_workers)
    assert run.ended == run.wanted()
    assert {record.cell.key for record in records} == {run.keys[place] for place in run.wanted()}
    assert run(num_workers, rows=["row 2"]) == []
    assert stored_design(STUDY, Store.open(run.store.shown)) == ADAPTIVE


def test_several_callers_train_the_cells_of_a_plain_loop_together(tmp_path: Path) -> None:
    (tmp_path / "seconds").write_text("0.02")
    scores = scores_of([50.0, 51.0, 58.0], 1.0)
    run = Run(tmp_path, THREE_ROWS, ADAPTIVE, scores)
    records: list[list[CellRecord]] = []
    in_threads(*[lambda: records.append(run())] * 3)
    assert run.ended == run.wanted()
    assert len(records) == 3
    assert sorted(scored_cells.ran(tmp_path)) == sorted(run.keys[place] for place in run.wanted()), "each once"


def test_a_caller_that_is_killed_is_followed_by_the_next_call(tmp_path: Path) -> None:
    run = Run(tmp_path, THREE_ROWS, ADAPTIVE, SOME_OPEN)
    program = "import sys, test_adaptive_seeds as t; t.be_killed(sys.argv[1], int(sys.argv[2]))"
    path = os.pathsep.join(map(str, [Path(__file__).parents[2], Path(__file__).parents[1], Path(__file__).parent]))
    for number in (4, 12, 15):  # cells begun in all: among the first seeds, and among further ones
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(number)],
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
    run()
    assert run.ended == run.wanted()


def be_killed(folder: str, number: int) -> None:
    """Run the table in this process, until it is killed in the cell that is begun as the ``number``-th."""
    import tadaconv.dry_run

    tadaconv.dry_run.dry_run = lambda _: None  # type: ignore[assignment]
    scored_cells.kill_at(Path(folder), number)
    Run(Path(folder), THREE_ROWS, ADAPTIVE, SOME_OPEN)()


def test_workers_that_are_killed_cost_no_cell(tmp_path: Path) -> None:
    run = Run(tmp_path, THREE_ROWS, ADAPTIVE, SOME_OPEN)
    scored_cells.kill_at(tmp_path, 2, 10, 13)
    run(2)
    assert scored_cells.num_kills_due(tmp_path) == 0
    assert run.ended == run.wanted()


def test_a_verdict_is_that_of_all_results(tmp_path: Path) -> None:
    """What a report judges, all pairs of the storage, is decided where the loop ended before the last seed."""
    run = Run(tmp_path, THREE_ROWS, ADAPTIVE, SOME_OPEN)
    run()
    by_key = {record.cell.key: record for record in Store.open(run.store.shown).records(STUDY)}
    for pair in THREE_ROWS.table.comparisons():
        results = [[by_key.get(run.keys[row, n]) for n in range(ADAPTIVE.last)] for row in pair]
        differences = [
            a.result.score - b.result.score for a, b in zip(*results, strict=True) if a and b and a.result and b.result
        ]
        is_decided = ADAPTIVE.judge(differences).direction != "undecided"
        assert is_decided or {(row, ADAPTIVE.last - 1) for row in pair} <= run.ended


def test_results_of_another_table_count_and_are_not_trained_again(tmp_path: Path) -> None:
    """The base has all its seeds from another table: they are known from the start, whenever they come to be wanted."""
    run = Run(tmp_path, THREE_ROWS, ADAPTIVE, scores_of([50.0, 51.0, 58.0], 1.0))
    only_base = LoadedTable("other", "?", Table(THREE_ROWS.table.base, []))
    other = Run(tmp_path, only_base, SeedDesign(first=8, last=8, smallest=1.0), run.scores)
    other.study = "other-small"
    assert len(other()) == 8
    scored_cells.give(tmp_path, {key: run.scores[place] for place, key in run.keys.items()})
    run()
    assert {place for place in run.ended if place[0] != "row 0"} == {p for p in run.wanted() if p[0] != "row 0"}
    assert len(scored_cells.ran(tmp_path)) == len(set(scored_cells.ran(tmp_path)))


def test_no_record_is_read_while_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results come with the events of cells, so that a long table is not read again and again."""
    num_read = 0
    records_of = Store.records_of

    def counted(store: Store, cells: Sequence[Cell]) -> list[CellRecord]:
        nonlocal num_read
        num_read += len(cells)
        return records_of(store, cells)

    monkeypatch.setattr(Store, "records_of", counted)
    run = Run(tmp_path, THREE_ROWS, ADAPTIVE, scores_of([50.0, 51.0, 58.0], 1.0))
    run()
    assert num_read == 3 * ADAPTIVE.last


def test_an_ensemble_gets_the_seeds_that_its_parts_get(tmp_path: Path) -> None:
    rows = THREE_ROWS.table.all_rows
    both = Row("both", None, ensemble=("row 1", "row 2"))
    claims = [*THREE_ROWS.table.claims, Claim("Both help.", "both", "row 0", "paper")]
    made = LoadedTable("t", "?", Table(rows[0], [*rows, both], claims))
    assert (
        made.table.comparisons()
        == THREE_ROWS.table.comparisons()
        == [("row 1", "row 2"), ("row 1", "row 0"), ("row 2", "row 0")]
    )
    assert made.table.comparisons(["both"]) == [("row 1", "row 2")]
    run = Run(tmp_path, made, ADAPTIVE, SOME_OPEN)
    run()
    assert run.ended == Run(tmp_path, THREE_ROWS, ADAPTIVE, SOME_OPEN).wanted()


def test_a_row_that_is_decided_is_not_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights or its clips may be on another machine by now."""
    scores = scores_of([50.0, 50.3, 58.0], 0.5, failed=[("row 1", 1)])
    run = Run(tmp_path, table(3), ADAPTIVE, scores)
    run()
    assert ("row 2", ADAPTIVE.first) not in run.ended
    checked: list[Experiment] = []
    monkeypatch.setattr("tadaconv.dry_run.dry_run", checked.append)
    run()
    assert [one.temporal for one in checked] == [THREE_ROWS.table.row("row 1").temporal]


def test_rows_that_are_one_experiment_get_no_further_seeds_for_each_other(tmp_path: Path) -> None:
    base, other, _ = THREE_ROWS.table.all_rows
    again = Row("again", base.temporal)
    scores = scores_of([50.0, 51.0, 58.0], 1.0)
    scores |= {("again", seed): scores[base.name, seed] for seed in range(ADAPTIVE.last)}
    run = Run(tmp_path, LoadedTable("t", "?", Table(base, [again])), ADAPTIVE, scores)
    run()
    assert len(scored_cells.ran(tmp_path)) == ADAPTIVE.first
    assert run() == []
    (tmp_path / "with").mkdir()
    further = Run(tmp_path / "with", LoadedTable("t", "?", Table(base, [again, other])), ADAPTIVE, scores)
    further()
    assert set(scored_cells.ran(tmp_path / "with")) == {
        further.keys[place] for place in plain_loop(table(2), ADAPTIVE, scores, {base.name, other.name})
    }


def test_equal_scores_of_two_experiments_go_on(tmp_path: Path) -> None:
    run = Run(tmp_path, table(2), ADAPTIVE, dict.fromkeys(SOME_OPEN, 50.0))
    run()
    assert len(run.ended) == 2 * ADAPTIVE.last


def test_a_row_that_fails_in_all_first_seeds_is_given_up(tmp_path: Path) -> None:
    """Its partner gets no further seeds for its sake, and the next call tries it again."""
    failed = {("row 1", seed) for seed in range(ADAPTIVE.first)}
    run = Run(tmp_path, table(3), ADAPTIVE, scores_of([50.0, 51.0, 68.0], 1.0, failed=failed))
    run()
    assert run.ended == run.wanted() == {(f"row {row}", seed) for row in range(3) for seed in range(ADAPTIVE.first)}
    run = Run(tmp_path, table(3), ADAPTIVE, scores_of([50.0, 51.0, 68.0], 1.0))
    run()
    assert run.ended == run.wanted()
    assert ("row 1", ADAPTIVE.first) in run.ended


def test_a_fixed_number_stays_one(tmp_path: Path) -> None:
    run = Run(tmp_path, THREE_ROWS, SeedDesign(first=3, last=3, smallest=1.0), SOME_OPEN)
    run()
    assert run.ended == {(row.name, seed) for row in THREE_ROWS.table.all_rows for seed in range(3)}


def test_the_number_of_cells_at_most_is_told_and_reached_where_nothing_is_decided(tmp_path: Path) -> None:
    told: list[str] = []
    equal = dict.fromkeys(SOME_OPEN, 50.0)  # without any spread there is no verdict
    run = Run(tmp_path, THREE_ROWS, ADAPTIVE, equal, told.append)
    run()
    assert told == ["9 cells: 0 finished before, 9 to run, up to 24 with the seeds of comparisons that stay undecided"]
    assert len(run.ended) == 24
    run()
    assert told[1:] == ["24 cells: 24 finished before, 0 to run"]
