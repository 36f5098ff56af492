"""Decides which cells of a table still have to run, and puts each into the queue once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tadaconv.execution.cells import Cell
from tadaconv.execution.store import Attempt, Plan, PlannedCell, Store


@dataclass(frozen=True)
class Planned:
    """What one call has to do. Cells with the same experiment count once."""

    to_run: tuple[Cell, ...]
    num_finished: int
    num_new: int
    num_retried: int
    """Cells whose last attempt failed; every call tries them once more."""
    num_resumed: int
    """Cells an earlier call queued or started and did not end."""

    def __str__(self) -> str:
        """For example ``30 cells: 20 finished before, 10 to run (1 failed before and is tried again)``."""
        details = []
        if self.num_resumed:
            details.append(f"{self.num_resumed} taken up again")
        if self.num_retried:
            details.append(f"{self.num_retried} failed before, tried once more")
        num_to_run = len(self.to_run)
        cells = "cell" if self.num_finished + num_to_run == 1 else "cells"
        counts = f"{self.num_finished + num_to_run} {cells}: {self.num_finished} finished before, {num_to_run} to run"
        return f"{counts} ({', '.join(details)})" if details else counts


def plan(
    store: Store, study: str, rows: Sequence[Cell], seeds: Sequence[int], chosen: Collection[str] | None = None
) -> Planned:
    """Queue every cell of ``chosen`` rows x ``seeds`` that is neither finished nor waiting anywhere in the storage.

    Args:
        store: Held exclusively, so that a running trial is really running.
        study: Created if it does not exist; its plan becomes what the report shows.
        rows: Every row of the table, one cell each, in the table's order; the seed of the cell does not matter.
        seeds: Seeds to run. Seeds planned by earlier calls stay in the report.
        chosen: Labels to run; None means all. The others stay in the report as they were, unless they have changed.
    """
    new_plan = _merged(store.read_plan(study), rows, seeds, chosen)
    store.write_plan(study, new_plan)
    attempts = store.attempts()
    _withdraw_unplanned(store, study, attempts)
    to_run: dict[str, Cell] = {}
    finished: set[str] = set()
    num_retried = num_resumed = 0
    for cell in _wanted(rows, seeds, chosen):
        states = {attempt.state for attempt in attempts.get(cell.key, [])}
        if "finished" in states:
            finished.add(cell.key)
        elif cell.key not in to_run:
            to_run[cell.key] = cell
            if "waiting" in states or "running" in states:
                num_resumed += 1
            else:
                num_retried += "failed" in states
                store.enqueue(study, cell)
    num_new = len(to_run) - num_retried - num_resumed
    return Planned(tuple(to_run.values()), len(finished), num_new, num_retried, num_resumed)


def _wanted(rows: Sequence[Cell], seeds: Sequence[int], chosen: Collection[str] | None) -> list[Cell]:
    """Seed by seed, so that a first full table stands early."""
    return [_seeded(row, seed) for seed in seeds for row in rows if chosen is None or row.label in chosen]


def _seeded(row: Cell, seed: int) -> Cell:
    return Cell(row.label, row.experiment.but(seed=seed))


def _merged(old: Plan, rows: Sequence[Cell], seeds: Sequence[int], chosen: Collection[str] | None) -> Plan:
    merged: Plan = {}
    for row in rows:
        was_planned = old.get(row.label, {})
        if chosen is None or row.label in chosen:
            merged[row.label] = {seed: _planned(row, seed) for seed in sorted({*seeds, *was_planned})}
        else:
            kept = {seed: cell for seed, cell in was_planned.items() if cell.key == _seeded(row, seed).key}
            if kept:
                merged[row.label] = kept
    return merged


def _planned(row: Cell, seed: int) -> PlannedCell:
    cell = _seeded(row, seed)
    return PlannedCell(cell.key, cell.experiment.model_dump(mode="json"))


def _withdraw_unplanned(store: Store, study: str, attempts: dict[str, list[Attempt]]) -> None:
    """Take cells off the queue that their table no longer has, unless another study of the storage still wants them."""
    wanted = {
        cell.key for name in store.studies() for seeds in store.read_plan(name).values() for cell in seeds.values()
    }
    for key in attempts.keys() - wanted:
        for attempt in attempts[key]:
            if attempt.study == study and attempt.state == "waiting":
                store.withdraw(attempt, "the table no longer has this cell")
