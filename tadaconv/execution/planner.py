"""Decides which cells of a table still have to run, and puts each into the queue once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

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
    num_most_to_run: int | None = None
    """How many cells the call may come to run; None where there will be no further ones."""
    workers: str = ""
    """How many workers run them, and why; empty where the call said how many."""

    @classmethod
    def of(cls, plans: Sequence[Self], num_most_to_run: int | None) -> Self:
        """Several plans of one call, of different cells, as one."""
        to_run = tuple(cell for planned in plans for cell in planned.to_run)
        names = ("num_finished", "num_new", "num_retried", "num_resumed")
        numbers = {name: sum(getattr(planned, name) for planned in plans) for name in names}
        return cls(to_run, **numbers, num_most_to_run=num_most_to_run)

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
        counts = f"{counts} ({', '.join(details)})" if details else counts
        if num_to_run and (self.num_most_to_run or 0) > num_to_run:
            counts += f", up to {self.num_most_to_run} with the seeds of comparisons that stay undecided"
        return counts


def plan(
    store: Store, study: str, rows: Sequence[Cell], seeds: Sequence[int], chosen: Collection[str] | None = None
) -> Planned:
    """Queue every cell of ``chosen`` rows x ``seeds`` that is neither finished nor queued or run in the storage.

    Args:
        store: the storage.
        study: Created if it does not exist; its plan defines the rows of the report.
        rows: Every row of the table, one cell each, in the table's order; the seed of the cell does not matter.
        seeds: Seeds to run. Seeds planned by earlier calls stay in the report.
        chosen: Labels to run; None means all. The others stay in the report as they were, unless they have changed.
    """
    return plan_cells(store, study, rows, {row.label: seeds for row in rows if chosen is None or row.label in chosen})


def plan_cells(store: Store, study: str, rows: Sequence[Cell], seeds: Mapping[str, Sequence[int]]) -> Planned:
    """Queue cells as :func:`plan` does, with other seeds for each row.

    Any number of processes may plan at once; a lock serialises them.

    Args:
        store: the storage.
        study: as for :func:`plan`.
        rows: as for :func:`plan`.
        seeds: Seeds to run, by label. Rows without any stay in the report as they were, unless they have changed.
    """
    cells = _wanted(rows, seeds)
    metric = common_metric(row.experiment.metric.name for row in rows)
    store.make_study(study, metric.higher_is_better)
    with store.backend.alone():
        store.write_plan(study, _merged(store.read_plan(study), rows, seeds))
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


def _wanted(rows: Sequence[Cell], seeds: Mapping[str, Sequence[int]]) -> list[Cell]:
    """Seed by seed, so that the first full table is complete early."""
    in_order = sorted({seed for of_row in seeds.values() for seed in of_row})
    return [seeded(row, seed) for seed in in_order for row in rows if seed in seeds.get(row.label, ())]


def seeded(row: Cell, seed: int) -> Cell:
    """The cell of the same row with ``seed``."""
    return Cell(row.label, row.experiment.but(seed=seed))


def _merged(old: Plan, rows: Sequence[Cell], seeds: Mapping[str, Sequence[int]]) -> Plan:
    merged: Plan = {}
    for row in rows:
        before = old[row.label].seeds if row.label in old else {}
        if row.label in seeds:
            wanted = {*seeds[row.label], *before}
        else:
            wanted = {seed for seed, key in before.items() if key == seeded(row, seed).key}
        if wanted:
            keys = {seed: seeded(row, seed).key for seed in sorted(wanted)}
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
