"""Which cells an adaptive number of seeds trains: those of a plain loop over the same scores, whoever runs them."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import scored_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tadaconv.execution.cells import CellRecord
from tadaconv.execution.launcher import Crew
from tadaconv.execution.live import LineView
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.regime import Regime
from tadaconv.sequential import SeedDesign
from tadaconv.spec import Backbone, Context, Schedule, Synthetic, TAda
from tadaconv.table import Claim, LoadedTable, Row, Table
from tadaconv.table_run import run_table

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
    monkeypatch.setattr(SeedDesign, "_p_value", lambda *_: 1.0)  # which takes most of the time, and is not used here


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

    def __init__(self, out: Path, loaded: LoadedTable, design: SeedDesign, scores: Scores) -> None:
        self.out, self.loaded, self.design, self.scores = out, loaded, design, scores
        self.store = Store.open(str(out / "journal.log"))
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
        return run_table(
            self.loaded, REGIME, STUDY, store, design=self.design, rows=rows, crew=Crew(call, num_workers),
            show=lambda planned: LineView(Console(quiet=True), len(planned.to_run)),
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
