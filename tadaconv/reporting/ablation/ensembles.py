"""The rows of a table that average others: their accuracy for each seed, from what the cells left in a run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord, scores_file
from tadaconv.reporting.ablation.data import EnsembleOrigin
from tadaconv.reporting.core.export import checked
from tadaconv.scores import ensemble, read_scores
from tadaconv.table import LoadedTable, Row
from tadaconv.text import listed

_NO_RESULT = {"failed": "failed", "running": "is still running"}


def ensembles_of(loaded: LoadedTable, records: Sequence[CellRecord], out: Path) -> list[EnsembleOrigin]:
    """One of each ensemble of a table and each seed of ``records``; one without a value says why it has none.

    ``out`` is the run folder in whose ``weights/`` the class probabilities of the cells lie.
    """
    by_cell = {(record.cell.label, record.cell.experiment.seed): checked(record) for record in records}
    seeds = sorted({seed for _, seed in by_cell})
    return [_of_seed(row, seed, by_cell, out) for row in loaded.table.ensembles for seed in seeds]


def _of_seed(row: Row, seed: int, by_cell: Mapping[tuple[str, int], CellRecord], out: Path) -> EnsembleOrigin:
    parts = {name: by_cell.get((name, seed)) for name in row.ensemble}
    without = EnsembleOrigin(
        row=row.name, seed=seed, cells={name: record.cell.key for name, record in parts.items() if record is not None}
    )
    results = {name: record.result for name, record in parts.items() if record is not None and record.result}
    lacking = [f"“{name}” {_state(record)}" for name, record in parts.items() if name not in results]
    if lacking:
        return without.model_copy(update={"why": listed(lacking)})
    files = {name: scores_file(out, key) for name, key in without.cells.items()}
    if absent := [f"“{name}”" for name, file in files.items() if not file.is_file()]:
        why = (
            f"{out / 'weights'} holds no class probabilities of {listed(absent)}; take them along with tada merge, or "
            "name the run folder that has them with --out (results of before they were kept have none)"
        )
        return without.model_copy(update={"why": why})
    try:
        found = ensemble({name: read_scores(file, without.cells[name]) for name, file in files.items()})
    except UserError as error:
        return without.model_copy(update={"why": str(error)})
    return EnsembleOrigin(
        row=row.name,
        seed=seed,
        cells=without.cells,
        top1=found.top1,
        top5=found.top5,
        per_head=found.per_head,
        num_val=found.num_val,
        params=sum(result.params for result in results.values()),
        macs=sum(result.macs for result in results.values()),
    )


def _state(record: CellRecord | None) -> str:
    return "has no result yet" if record is None else _NO_RESULT.get(record.status, "has no result yet")
