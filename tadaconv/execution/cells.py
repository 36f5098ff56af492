"""A cell, which is one experiment of a table, and the record of its outcome."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tadaconv.errors import UserError
from tadaconv.metrics import Metric, common_metric
from tadaconv.result import Result
from tadaconv.spec import PROTOCOL, Experiment

Status = Literal["finished", "failed", "running", "waiting", "missing"]
"""The status of a cell: only ``finished`` has a result; ``missing`` was never planned."""


def weights_file(out: Path, key: str) -> Path:
    """The file in the run folder ``out`` with the trained weights of a cell."""
    return out / "weights" / f"{key}.pt"


def scores_file(out: Path, key: str) -> Path:
    """The file in the run folder ``out`` with a cell's class probabilities of the validation clips."""
    return out / "weights" / f"{key}.scores.npz"


@dataclass(frozen=True)
class Cell:
    """``label`` names the row for readers; the experiment alone decides the result."""

    label: str
    experiment: Experiment

    @property
    def key(self) -> str:
        """The cell key: same key, same result."""
        return self.experiment.key

    @property
    def name(self) -> str:
        """For readers, for example ``(1,1), seed 0``."""
        return f"{self.label}, seed {self.experiment.seed}"


@dataclass(frozen=True)
class CellRecord:
    """A cell with its outcome in the storage.

    ``error`` is one line, ``traceback`` the whole of it. ``started`` and ``ended``, in universal time, and ``worker``,
    with its host, are those of the attempt that ended the cell.
    """

    cell: Cell
    status: Status
    result: Result | None = None
    error: str | None = None
    traceback: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    worker: str | None = None


def metric_of(records: Iterable[CellRecord]) -> Metric:
    """The metric of cells that are shown together; raises :class:`UserError` where they have several."""
    return common_metric(
        record.result.metric if record.result is not None else record.cell.experiment.metric.name for record in records
    )


def stored_experiment(tree: Mapping[str, Any], name: str) -> Experiment:
    """The experiment that a storage holds as ``tree``; ``name`` is for messages.

    Raises :class:`UserError` if another version of tadaconv, with other descriptions, wrote it.
    """
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(
            f"{name} was planned by another version of tadaconv (protocol {tree.get('protocol')}, here {PROTOCOL}); "
            "run it again"
        ) from error
