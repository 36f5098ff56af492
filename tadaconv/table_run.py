"""Runs the cells of a table that have no result yet, and reads the records of those in a storage.

:func:`run_table` is what ``tada ablate`` calls, :func:`current_records` what a report reads.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
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
from tadaconv.table import LoadedTable

if TYPE_CHECKING:
    from tadaconv.execution.launcher import Crew
    from tadaconv.execution.live import Show
    from tadaconv.execution.planner import Planned
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


def stored_design(study: str, store: "Store") -> "SeedDesign | None":
    """The seed design that the study of a table is run with; None where an earlier version ran it."""
    from tadaconv.sequential import SeedDesign

    stored = store.study_attrs(study).get(attr.SEEDS)
    return None if stored is None else SeedDesign.model_validate(stored)


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
    seeds: Sequence[int],
    rows: Sequence[str] | None,
    crew: "Crew",
    show: Callable[["Planned"], AbstractContextManager["Show"]],
    regime_file: Path | None = None,
) -> list[CellRecord]:
    """Run every cell of ``rows`` x ``seeds`` that has no result yet; return a record of each cell that ended meanwhile.

    Any number of calls may run one table or several on one storage: they share the work.

    Args:
        loaded: The table.
        regime: What it is run on, with its data resolved.
        study: The name of its study; see :func:`study_name`.
        store: Where results are kept.
        seeds: Seeds of the weights, the data order and the augmentation.
        rows: Names of the rows to run; None means all, and an ensemble its parts. Raises :class:`UserError` for one the
            table does not have.
        crew: The workers.
        show: Given the plan, a context for the run; its value is called with the events of cells.
        regime_file: The file that holds the regime, in which reports look for it; None for one made in memory.
    """
    from tadaconv.execution.launcher import run_cells
    from tadaconv.execution.planner import plan

    chosen = None if rows is None else [row.name for row in loaded.table.trained(rows)]
    records = store.records_of(loaded.table.cells(regime, seeds, chosen))
    to_run = [record.cell for record in records if record.status != "finished"]
    for cell in to_run:
        crew.require(cell)
    dry_run_cells(to_run)
    claim_name(loaded, study, store, regime_file, metric_named(regime.data.METRIC))
    planned = plan(store, study, loaded.table.cells(regime, [0]), seeds, chosen)
    with show(planned) as shown:
        if not planned.to_run:  # torch is not even imported
            return []
        at_home = replace(crew, call=crew.call.but(places=places_of(regime)))
        return run_cells(store, study, planned.to_run, at_home, shown.event, shown.line)
