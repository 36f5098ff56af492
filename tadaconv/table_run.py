"""Runs the cells of a table that have no result yet, and reads the records of those in a storage.

:func:`run_table` is what ``tada ablate`` calls, :func:`current_records` what a report reads.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from tadaconv import discovery
from tadaconv.command import given
from tadaconv.errors import UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.locations import as_planned, places_of
from tadaconv.metrics import TOP1, Metric, metric_named
from tadaconv.regime import Regime
from tadaconv.spec import Experiment, errors_of
from tadaconv.table import LoadedTable, Table

if TYPE_CHECKING:
    from tadaconv.execution.launcher import Crew
    from tadaconv.execution.live import Show
    from tadaconv.execution.planner import Planned
    from tadaconv.execution.seed_design import TableStudy
    from tadaconv.execution.store import Store
    from tadaconv.sequential import SeedDesign


def current_records(loaded: LoadedTable, regime: Regime, study: str, store: "Store") -> list[CellRecord]:
    """The cells of a table by its file and its regime as they are now, for every seed its study was planned with.

    A cell counts by its key: one of a row or a regime that has changed since it ran is left out, not shown under a name
    that means something else by now. The clips of a folder regime are those of its layout and split that the study was
    last planned on.

    Args:
        loaded: the table.
        regime: as its file has it, or with its clips resolved.
        study: the name of its study; see :func:`tadaconv.table.study_name`.
        store: where results are kept.

    Raises:
        UserError: the study was never planned.
    """
    if study not in store.studies():
        run = loaded.command(given("regime") or study.removeprefix(f"{loaded.name}-"))
        raise UserError(f"{store.shown} has no {study}; run it with: {run}, or name another storage with --storage")
    seeds = sorted({cell.experiment.seed for cell in store.planned(study)})
    regime = as_planned(regime, (row.experiment for row in store.read_plan(study).values()))
    cells = [row.cell(regime, seed) for row in loaded.table.trained() for seed in seeds]
    return [record for record in store.records_of(cells) if record.status != "missing"]


def stored_design(study: str, store: "Store", records: Sequence[CellRecord] = ()) -> "SeedDesign | None":
    """The seed design that a table's study was last run with; None where an earlier version ran it, or none has.

    Args:
        study: the name of its study.
        store: where results are kept.
        records: cells that are to be judged by it; None as well where the study was last run without any of them, as
            with another recipe of its regime.
    """
    from tadaconv.execution import seed_design  # scipy is waited for only where there is a storage

    planned = {key for row in store.read_plan(study).values() for key in row.seeds.values()}
    if records and planned and planned.isdisjoint(record.cell.key for record in records):
        return None
    return seed_design.stored_design(study, store)


def table_study(loaded: LoadedTable, regime: Regime, study: str, first_seed: int = 0) -> "TableStudy":
    """The study of a table with what decides how it can be continued.

    Args:
        loaded: the table.
        regime: what it is run on, with its data resolved.
        study: the name of its study; see :func:`tadaconv.table.study_name`.
        first_seed: the least of its seeds.
    """
    from tadaconv.execution.seed_design import TableStudy

    def is_done(design: "SeedDesign", store: "Store") -> bool:
        seeding = Seeding(loaded.table, regime, design, None, first_seed)
        seeding.note_results(store)
        return not seeding.has_work

    former = f"{loaded.name}-{regime.formerly}" if regime.formerly else ""
    return TableStudy(study, loaded.table.cells(regime, [0]), former, is_done)


def dry_run_cells(cells: Iterable[Cell]) -> None:
    """Raise :class:`UserError`, with the row's name, for a cell that could never have a result; seeds do not matter."""
    done: list[Experiment] = []
    for cell in cells:
        without_seed = cell.experiment.but(seed=0)
        if without_seed in done:
            continue
        from tadaconv.dry_run import dry_run  # torch is waited for only where there is something to run

        done.append(without_seed)
        with errors_of(f"row {cell.label!r}"):
            dry_run(without_seed)


def claim_name(
    loaded: LoadedTable, study: str, store: "Store", regime_file: Path | None = None, metric: Metric = TOP1
) -> None:
    """Store which table and regime the results of ``study`` are of.

    Args:
        loaded: the table.
        study: the name of its study.
        store: where results are kept.
        regime_file: the file of the regime; None for one made in memory.
        metric: the metric that its cells are evaluated by.

    Raises:
        UserError: the results are of another table or regime of the same name, or the name is too long for a folder.
    """
    discovery.require_short(study)
    if loaded.path is not None and attr.SEARCH_PROTOCOL in store.study_attrs(study):
        raise UserError(
            f"{study} in {store.shown} holds the trials of a design study; rename {loaded.path}, or name another --out "
            "or --storage"
        )
    from tadaconv.execution.origins import claim  # a storage is waited for only where there is one

    claim(study, {"table": loaded.path, "regime": regime_file}, store, metric)


def run_table(
    loaded: LoadedTable,
    regime: Regime,
    study: str,
    store: "Store",
    *,
    design: "SeedDesign",
    rows: Sequence[str] | None,
    crew: "Crew",
    show: Callable[["Planned"], AbstractContextManager["Show"]],
    first_seed: int = 0,
    regime_file: Path | None = None,
) -> list[CellRecord]:
    """Run every cell of ``rows`` that ``design`` wants and that has no result yet.

    Returns a record of each cell that ended meanwhile. Any number of calls may run one table or several on one storage:
    they share the work.

    Args:
        loaded: The table.
        regime: What it is run on, with its data resolved.
        study: The name of its study; see :func:`study_name`.
        store: Where results are kept.
        design: How many seeds each row gets; it is stored with the study.
        rows: Names of the rows to run; None means all, and an ensemble its parts. Raises :class:`UserError` for one the
            table does not have.
        crew: The workers.
        show: Given the plan, a context for the run; its value is called with the events of cells.
        first_seed: Seeds of the weights, the data order and the augmentation are counted from here.
        regime_file: The file that holds the regime, in which reports look for it; None for one made in memory.

    Raises:
        UserError: a row that cannot be run, or a design with which the study cannot be continued.
    """
    from tadaconv.execution.launcher import run_cells
    from tadaconv.execution.seed_design import kept_design

    of_table = table_study(loaded, regime, study, first_seed)
    kept_design(of_table, store, design)
    seeding = Seeding(loaded.table, regime, design, rows, first_seed)
    seeding.note_results(store)
    workers = ""
    if seeding.has_work:
        to_check = seeding.may_run
        for cell in to_check:
            crew.require(cell)
        dry_run_cells(to_check)
        crew, workers = crew.fitted(to_check, seeding.num_at_once)
    claim_name(loaded, study, store, regime_file, metric_named(regime.data.METRIC))
    with store.backend.alone():
        store.set_study_attr(study, attr.SEEDS, kept_design(of_table, store, design).model_dump())
    planned = replace(seeding.plan(store, study), workers=workers)
    with show(planned) as shown:
        if not planned.to_run:  # torch is not even imported
            return []

        def further(ended: Sequence[CellRecord]) -> Sequence[Cell]:
            seeding.note(ended)
            if not seeding.wanted():
                return ()
            more = seeding.plan(store, study).to_run
            shown.queued(more)
            return more

        at_home = replace(crew, call=crew.call.but(places=places_of(regime)))
        keys = [cell.key for cell in seeding.cells.values()]
        return run_cells(store, study, planned.to_run, at_home, shown.event, shown.line, further, keys)


class Seeding:
    """Which cells of a table a call queues, as scores come in.

    Args:
        table: the table.
        regime: what it is run on, with its data resolved.
        design: how many seeds its rows get.
        rows: names of the rows to run; None means all.
        first_seed: the least seed.
    """

    def __init__(
        self,
        table: Table,
        regime: Regime,
        design: "SeedDesign",
        rows: Sequence[str] | None = None,
        first_seed: int = 0,
    ) -> None:
        self._design, self._first_seed = design, first_seed
        self._of_plan = table.cells(regime, [0])
        self._num_planned = {row.name: 0 for row in table.trained(rows)}
        self._planned: set[str] = set()
        self._scores: dict[str, float | None] = {}
        self.cells = {
            (cell.label, seed): cell
            for seed in range(design.last)
            for cell in table.cells(regime, [first_seed + seed], list(self._num_planned))
        }
        """By row and number of the seed, all that may come to be run."""
        self.comparisons = [
            pair for pair in table.comparisons(rows) if len({self.cells[row, 0].key for row in pair}) == 2
        ]
        """The pairs of rows that further seeds are for: two rows that are the same experiment are level as they are."""

    def note(self, ended: Iterable[CellRecord]) -> None:
        """Take in what has ended; a cell without a result has failed."""
        for record in ended:
            self._scores[record.cell.key] = None if record.result is None else record.result.score

    def note_results(self, store: "Store") -> None:
        """Take in what has a result; a cell that has failed is to be run again."""
        records = store.records_of(list(self.cells.values()))
        self.note(record for record in records if record.status == "finished")

    @property
    def may_run(self) -> list[Cell]:
        """The cells without an end that are or may come to be wanted; of rows that share one, that of the first."""
        _, most = self._num_seeds()
        cells = {
            cell.key: cell
            for (row, seed), cell in reversed(self.cells.items())
            if seed < most[row] and cell.key not in self._scores
        }
        return list(cells.values())[::-1]

    @property
    def has_work(self) -> bool:
        """Whether a cell is wanted by now that has not ended."""
        return any(
            self.cells[row, seed].key not in self._scores for row, seeds in self.wanted().items() for seed in seeds
        )

    @property
    def num_at_once(self) -> int:
        """How many cells, at most, can come to be run at a time: later seeds of a row wait for the earlier ones."""
        open_keys = {self.cells[row, seed].key for row, seeds in self.wanted().items() for seed in seeds}
        now, most = self._num_seeds()
        further_keys = {self.cells[row, 0].key for row in now if most[row] > now[row]}
        return max(len(open_keys - self._scores.keys()), len(further_keys))

    def wanted(self) -> dict[str, range]:
        """The seeds, by row, that are wanted by now and have not been planned by this call."""
        now, _ = self._num_seeds()
        return {row: range(before, now[row]) for row, before in self._num_planned.items() if now[row] > before}

    def plan(self, store: "Store", study: str) -> "Planned":
        """Queue what is wanted, and what turns out to be wanted because of results that others have finished."""
        from tadaconv.execution.planner import Planned, plan_cells

        plans: list[Planned] = []
        while wanted := self.wanted():
            self._num_planned |= {row: seeds.stop for row, seeds in wanted.items()}
            places = [(row, seed) for row, seeds in wanted.items() for seed in seeds]
            new = [place for place in places if self.cells[place].key not in self._planned]  # rows may share cells
            by_row: dict[str, list[int]] = {}
            for row, seed in new:
                by_row.setdefault(row, []).append(self._first_seed + seed)
            plans.append(plan_cells(store, study, self._of_plan, by_row))
            cells = {self.cells[place].key: self.cells[place] for place in new}
            self._planned |= cells.keys()
            finished = cells.keys() - {cell.key for cell in plans[-1].to_run}
            self.note(store.records_of([cells[key] for key in finished - self._scores.keys()]))
        return Planned.of(plans, len(self.may_run) if self._design.is_adaptive else None)

    def _num_seeds(self) -> tuple[dict[str, int], dict[str, int]]:
        """By row, how many seeds are wanted by now, and how many may come to be."""
        now, most = (dict.fromkeys(self._num_planned, self._design.first) for _ in range(2))
        scores = {row: self._ended(row) for row in self._num_planned}
        for pair in self.comparisons:
            by_now, at_most = self._design.seeds_wanted(*(scores[row] for row in pair))
            for row in pair:
                now[row], most[row] = max(now[row], by_now), max(most[row], at_most)
        return now, most

    def _ended(self, row: str) -> list[float | None]:
        """The scores of a row up to the first seed that has not ended."""
        keys = [self.cells[row, seed].key for seed in range(self._design.last)]
        return [self._scores[key] for key in takewhile(self._scores.__contains__, keys)]
