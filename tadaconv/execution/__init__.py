"""Runs every cell of a table exactly once, on the results kept in one Optuna storage."""

from typing import TYPE_CHECKING, Any

from tadaconv.execution.cells import Cell as Cell
from tadaconv.execution.cells import CellRecord as CellRecord
from tadaconv.execution.cells import Status as Status

if TYPE_CHECKING:
    from tadaconv.execution.planner import Planned as Planned
    from tadaconv.execution.planner import plan as plan
    from tadaconv.execution.store import Store as Store
    from tadaconv.execution.worker import Event as Event
    from tadaconv.execution.worker import exclusive as exclusive
    from tadaconv.execution.worker import recover as recover
    from tadaconv.execution.worker import work as work

_HOMES = {
    "Planned": "planner",
    "plan": "planner",
    "Store": "store",
    "Event": "worker",
    "exclusive": "worker",
    "recover": "worker",
    "work": "worker",
}


def __getattr__(name: str) -> Any:
    # What needs Optuna is imported when first used: tables import the cells alone, and listing them stays instant.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
