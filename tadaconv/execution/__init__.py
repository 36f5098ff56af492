"""Runs every cell of a table exactly once, on the results kept in one Optuna storage."""

from typing import TYPE_CHECKING, Any

from tadaconv.execution.cells import Cell as Cell
from tadaconv.execution.cells import CellRecord as CellRecord
from tadaconv.execution.cells import Status as Status

if TYPE_CHECKING:
    from tadaconv.execution.launcher import Crew as Crew
    from tadaconv.execution.launcher import join as join
    from tadaconv.execution.launcher import run_cells as run_cells
    from tadaconv.execution.planner import Planned as Planned
    from tadaconv.execution.planner import plan as plan
    from tadaconv.execution.store import Store as Store
    from tadaconv.execution.worker import Event as Event
    from tadaconv.execution.worker import WorkerCall as WorkerCall
    from tadaconv.execution.worker import run_worker as run_worker

_HOMES = {
    "Event": "worker",
    "WorkerCall": "worker",
    "Crew": "launcher",
    "join": "launcher",
    "run_cells": "launcher",
    "Planned": "planner",
    "plan": "planner",
    "Store": "store",
    "run_worker": "worker",
}


def __getattr__(name: str) -> Any:
    # What needs Optuna is imported when first used: tables import the cells alone, and listing them stays instant.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
