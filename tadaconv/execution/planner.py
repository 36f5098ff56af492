"""Decides which cells of a table still have to run, and puts each into the queue once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from tadaconv.execution.cells import Cell
from tadaconv.execution.store import Plan, PlannedRow, Store
from tadaconv.metrics import common_metric


@dataclass(frozen=True)
class Planned:
    """The cells that one call has to run. Cells with the same experiment count once."""

    to_run: tuple[Cell, ...]
    num_finished: int
    num_new: int
    num_retried: int
    """Cells whose last attempt failed; every call tries them again."""
    num_resumed: int
    """Cells that another call has queued, or that a worker runs now."""

    def __str__(self) -> str:
        """For example ``30 cells: 20 finished before, 10 to run (1 failed before and is tried again)``."""
        details = []
        if self.num_resumed:
            details.append(f"{self.num_resumed} queued or started before")
        if self.num_retried:
            details.append(f"{self.num_retried} failed before, tried once more")
        num_to_run = len(self.to_run)
        cells = "cell" if self.num_finished + num_to_run == 1 else "cells"
        counts = f"{self.num_finished + num_to_run} {cells}: {self.num_finished} finished before, {num_to_run} to run"
        return f"{counts} ({', '.join(details)})" if details else counts


def plan(
    store: Store, study: str, rows: Sequence[Cell], seeds: Sequence[int], chosen: Collection[str] | None = None
) -> Planned:
    """Queue every cell of ``chosen`` rows x ``seeds`` that is neither finished nor queued or run in the storage.

    Any number of processes may plan at once; a lock serialises them.

    Args:
        store: the storage.
        study: Created if it does not exist; its plan defines the rows of the report.
        rows: Every row of the table, one cell each, in the table's order; the seed of the cell does not matter.
        seeds: Seeds to run. Seeds planned by earlier calls stay in the report.
        chosen: Labels to run; None means all. The others stay in the report as they were, unless they have changed.
    """
    cells = _wanted(rows, seeds, chosen)
    metric = common_metric(row.experiment.metric.name for row in rows)
    store.make_study(study, metric.higher_is_better)
    with store.backend.alone():
        store.write_plan(study, _merged(store.read_plan(study), rows, seeds, chosen))
        _withdraw_unplanned(store, study)
        states = store.backend.states({cell.key for cell in cells})
        to_run: dict[str, Cell] = {}
        finished: set[str] = set()
        num_retried = num_resumed = 0
        for cell in cells:
            of_cell = set(states.get(cell.key, []))
            if TrialState.COMPLETE in of_cell:
                finished.add(cell.key)
            elif cell.key not in to_run:
                to_run[cell.key] = cell
                if of_cell & {TrialState.WAITING, TrialState.RUNNING}:
                    num_resumed += 1
                else:
                    num_retried += bool(of_cell) and _has_failed(store, cell.key)
                    store.add(study, cell, is_new=not of_cell)
    num_new = len(to_run) - num_retried - num_resumed
    return Planned(tuple(to_run.values()), len(finished), num_new, num_retried, num_resumed)


def _has_failed(store: Store, key: str) -> bool:
    return any(attempt.status == "failed" for attempt in store.attempts([key]).get(key, []))


def _wanted(rows: Sequence[Cell], seeds: Sequence[int], chosen: Collection[str] | None) -> list[Cell]:
    """Seed by seed, so that the first full table is complete early."""
    return [_seeded(row, seed) for seed in seeds for row in rows if chosen is None or row.label in chosen]


def _seeded(row: Cell, seed: int) -> Cell:
    return Cell(row.label, row.experiment.but(seed=seed))


def _merged(old: Plan, rows: Sequence[Cell], seeds: Sequence[int], chosen: Collection[str] | None) -> Plan:
    merged: Plan = {}
    for row in rows:
        before = old[row.label].seeds if row.label in old else {}
        if chosen is None or row.label in chosen:
            wanted = {*seeds, *before}
        else:
            wanted = {seed for seed, key in before.items() if key == _seeded(row, seed).key}
        if wanted:
            keys = {seed: _seeded(row, seed).key for seed in sorted(wanted)}
            merged[row.label] = PlannedRow(row.experiment.but(seed=0).model_dump(mode="json"), keys)
    return merged


def _withdraw_unplanned(store: Store, study: str) -> None:
    """Take cells off the queue that their table no longer has, unless another study of the storage still wants them."""
    study_id = store.make_study(study)
    own = store.backend.waiting([study_id], None, limit=1 << 60)
    if not own:
        return
    wanted = {key for name in store.studies() for row in store.read_plan(name).values() for key in row.seeds.values()}
    for trial_id, _, key in own:
        if key not in wanted:
            store.withdraw(store.backend.attempt(trial_id), "the table no longer has this cell")
