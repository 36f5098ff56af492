"""The ensembles of a table: their accuracy for each seed, from the class probabilities in a run folder."""

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
    """One of each ensemble of a table and each seed of ``records``; one without a value has the reason.

    ``out`` is the run folder with the class probabilities of the cells in its ``weights/``.
    """
    by_cell = {(record.cell.label, record.cell.experiment.seed): checked(record) for record in records}
    seeds = sorted({seed for _, seed in by_cell})
    return [_of_seed(row, seed, by_cell, out) for row in loaded.table.ensembles for seed in seeds]


def _of_seed(row: Row, seed: int, by_cell: Mapping[tuple[str, int], CellRecord], out: Path) -> EnsembleOrigin:
    parts = {name: by_cell.get((name, seed)) for name in row.ensemble}
    cells = {name: record.cell.key for name, record in parts.items() if record is not None}
    results = {name: record.result for name, record in parts.items() if record is not None and record.result}
    files = {name: scores_file(out, key) for name, key in cells.items()}
    try:
        if missing := [f"“{name}” {_state(record)}" for name, record in parts.items() if name not in results]:
            raise UserError(listed(missing))
        if absent := [f"“{name}”" for name, file in files.items() if not file.is_file()]:
            raise UserError(
                f"{out / 'weights'} has no class probabilities of {listed(absent)}; copy them with tada merge, or name "
                "the run folder that has them with --out (early versions did not store them)"
            )
        average = ensemble({name: read_scores(file, cells[name]) for name, file in files.items()})
    except UserError as error:
        return EnsembleOrigin(row=row.name, seed=seed, cells=cells, why=str(error))
    return EnsembleOrigin(
        row=row.name,
        seed=seed,
        cells=cells,
        top1=average.top1,
        top5=average.top5,
        per_head=average.per_head,
        num_val=average.num_val,
        params=sum(result.params for result in results.values()),
        macs=sum(result.macs for result in results.values()),
    )


def _state(record: CellRecord | None) -> str:
    return "has no result yet" if record is None else _NO_RESULT.get(record.status, "has no result yet")
