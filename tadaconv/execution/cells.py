"""A cell, which is one experiment of a table, and the record of what became of it."""

from dataclasses import dataclass
from typing import Literal

from tadaconv.result import Result
from tadaconv.spec import Experiment

Status = Literal["finished", "failed", "running", "waiting", "missing"]
"""What became of a cell: only ``finished`` has a result; ``missing`` was never planned."""


@dataclass(frozen=True)
class Cell:
    """``label`` names the row for readers; the experiment alone decides the result."""

    label: str
    experiment: Experiment

    @property
    def key(self) -> str:
        """The cell key: same key, same result."""
        return self.experiment.key


@dataclass(frozen=True)
class CellRecord:
    """A cell with what the storage knows of it. ``error`` is one line, ``traceback`` the whole of it."""

    cell: Cell
    status: Status
    result: Result | None = None
    error: str | None = None
    traceback: str | None = None
