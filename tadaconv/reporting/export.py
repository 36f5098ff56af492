"""What a report is made from: the cells of a table as frames and one manifest, in memory or in the report's folder.

The folder holds everything a colleague needs to execute the notebook again; nothing is read from the storage then.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tadaconv.ablation import Claim, LoadedTable, PaperResult, Row
from tadaconv.errors import RunError, UserError
from tadaconv.execution.cells import CellRecord
from tadaconv.spec import Experiment

CELL_COLUMNS = [
    "row", "seed", "cell", "status", "top1", "top5", "loss", "params", "macs", "seconds", "device", "version", "error",
]  # fmt: skip
OWN_COLUMNS = ["backbone", "num_frames"]
"""What cells ran on; a column of ``cells.csv`` and of ``table.csv`` where rows differ in it."""
CURVE_COLUMNS = ["row", "seed", "epoch", "step", "train_loss", "val_top1"]
FAMILY_COLUMNS = ["row", "seed", "family", "top1"]

_WORDS = ["row", "cell", "status", "device", "version", "error", "family", "backbone"]
_UNKNOWN = {column: [""] for column in {*CELL_COLUMNS, *CURVE_COLUMNS, *FAMILY_COLUMNS} - set(_WORDS)}


class ReportedRow(BaseModel):
    """A row of the table, whether or not a cell of it has run."""

    # The paper's costs may be whole numbers, which become floats; as they are, they are none of their field's types.
    model_config = ConfigDict(frozen=True, extra="forbid", revalidate_instances="always")

    name: str
    paper: PaperResult | None = Field(description="The paper's number with its source and conditions.")
    # What follows came later; a report exported before it has none of it.
    backbone: str | None = Field(
        None,
        description="The backbone the row asks for; None for the regime's. What its cells ran on, which may stand in "
        "for it at the regime's scale, their experiments say.",
    )
    num_frames: int | None = Field(None, description="Frames a clip that the row asks for; None for the regime's.")
    versus: str | None = Field(
        None, description="Name of the row its differences are taken to; None for the base. Its own: to no row."
    )


class CellOrigin(BaseModel):
    """Where the numbers of one cell come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    seed: int
    cell: str = Field(description="Cell key: the hash of the experiment's canonical JSON.")
    status: str
    experiment: dict[str, Any] = Field(description="The experiment in full, as it is hashed.")
    environment: dict[str, str] = Field(description="Device and versions the numbers come from.")
    num_val: int | None = Field(description="Validation clips behind the accuracies.")
    train_clips_per_second: float | None
    peak_memory_bytes: int | None
    traceback: str | None = Field(description="Of a failed cell.")


class Manifest(BaseModel):
    """``report.json``: everything a report says that is not in its CSV files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str = Field(description="Name of the table's file.")
    question: str = Field(description="The table's docstring; its first paragraph is the question.")
    regime: str
    base: str = Field(description="The row that rows without a comparison of their own are compared with.")
    rows: list[ReportedRow] = Field(description="In the order they are shown.")
    claims: list[Claim]
    seeds: list[int] = Field(description="Every seed any row was planned with.")
    families: list[str] = Field(description="Class families of the clips, in order; empty where there are none.")
    conditions: dict[str, Any] = Field(
        description="Backbone, data and schedule, as far as all cells share them; what differs by row is left out."
    )
    cells: list[CellOrigin]
    digests: dict[str, str] = Field(
        default_factory=dict, description="By format: hash of the data, template and code its file was made from."
    )


@dataclass(frozen=True)
class Export:
    """One table's results: a line a cell, a line an epoch, a line a class family, and what they mean."""

    manifest: Manifest
    cells: pd.DataFrame
    curves: pd.DataFrame
    families: pd.DataFrame


def collect(loaded: LoadedTable, regime_name: str, records: Sequence[CellRecord]) -> Export:
    """Arrange the records of a table; failed and missing cells stay in, without numbers.

    A finished cell whose accuracy is no number counts as failed: a NaN would otherwise hide in a mean or spoil it.
    """
    table = loaded.table
    records = [checked(record) for record in records]
    families = families_frame(records)
    manifest = Manifest(
        table=loaded.name,
        question=loaded.question,
        regime=regime_name,
        base=table.base.name,
        rows=[_reported(row) for row in table.all_rows],
        claims=list(table.claims),
        seeds=sorted({record.cell.experiment.seed for record in records}),
        families=[str(name) for name in families["family"].unique()],
        conditions=shared_conditions([record.cell.experiment for record in records]),
        cells=[origin(record) for record in records],
    )
    return Export(manifest, cells_frame(records), curves_frame(records), families)


def cells_frame(records: Sequence[CellRecord]) -> pd.DataFrame:
    """One line a cell: accuracies in percent, costs in multiply-adds, times in seconds.

    Columns are ``CELL_COLUMNS``, and those of ``OWN_COLUMNS`` in which cells differ.
    """
    frame = typed(pd.DataFrame([_cell_line(record) for record in records], columns=CELL_COLUMNS))
    experiments = [record.cell.experiment for record in records]
    ran_on = [(e.backbone.name, e.data.num_frames) for e in experiments]
    own = pd.DataFrame(ran_on, columns=OWN_COLUMNS, index=frame.index)
    return frame.join(own[[name for name in OWN_COLUMNS if len(set(own[name])) > 1]])


def curves_frame(records: Sequence[CellRecord]) -> pd.DataFrame:
    """One line a cell and epoch, columns ``CURVE_COLUMNS``: loss in nats, accuracy in percent."""
    lines = [
        (record.cell.label, record.cell.experiment.seed, point.epoch, point.step, point.train_loss, point.val_top1)
        for record in records
        if record.result is not None
        for point in record.result.curve
    ]
    return pd.DataFrame(lines, columns=CURVE_COLUMNS)


def families_frame(records: Sequence[CellRecord]) -> pd.DataFrame:
    """One line a cell and class family, columns ``FAMILY_COLUMNS``: accuracy in percent. Empty without families."""
    lines = [
        (record.cell.label, record.cell.experiment.seed, family, top1)
        for record in records
        if record.result is not None
        for family, top1 in record.result.per_family.items()
    ]
    return pd.DataFrame(lines, columns=FAMILY_COLUMNS)


def write_csvs(export: Export, folder: Path) -> None:
    """Write ``cells.csv``, ``curves.csv`` and, where there are class families, ``families.csv``, to the last digit."""
    write_atomically(folder / "cells.csv", as_csv(export.cells))
    write_atomically(folder / "curves.csv", as_csv(export.curves))
    if export.manifest.families:
        write_atomically(folder / "families.csv", as_csv(export.families))


def as_csv(frame: pd.DataFrame, digits: int | None = None) -> str:
    """A frame as CSV, with empty fields for what is not known; ``digits`` significant ones, or every digit."""
    form = None if digits is None else f"%.{digits}g"
    return frame.to_csv(index=False, float_format=form, lineterminator="\n")


def read_export(folder: Path | str = ".") -> Export:
    """Read back what a report's folder holds; raises :class:`UserError` where it is not one."""
    folder = Path(folder)
    try:
        manifest = Manifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
        cells = typed(read_csv(folder / "cells.csv"))
        curves = read_csv(folder / "curves.csv")
        # A families.csv that an earlier report left behind must not lend its numbers to one without families.
        families = read_csv(folder / "families.csv") if manifest.families else families_frame([])
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no exported report: {error.filename} is missing") from error
    return Export(manifest, cells, curves, families)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Put a file in place in one step: a reader, or a full disk, never sees half of it.

    Raises :class:`UserError` where the folder cannot be written, and :class:`RunError` where the disk is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105 - one call for both kinds of system
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}; the results are kept, report them again") from error


def read_csv(path: Path, words: Sequence[str] = _WORDS, unknown: dict[str, list[str]] = _UNKNOWN) -> pd.DataFrame:
    """A frame as :func:`as_csv` wrote it: columns of ``words`` are text, empty fields of ``unknown`` are not known."""
    # A row may be called "NA" or "none": only empty fields of numbers are unknown.
    with path.open(encoding="utf-8", newline="") as file:
        return pd.read_csv(file, dtype=dict.fromkeys(words, str), keep_default_na=False, na_values=unknown)


def typed(cells: pd.DataFrame) -> pd.DataFrame:
    """The frame of cells with the types that its columns have, whatever is not known."""
    floats = dict.fromkeys(["top1", "top5", "loss", "seconds"], "float64")
    return cells.astype({**floats, "seed": "int64", "params": "Int64", "macs": "Int64"})


def _reported(row: Row) -> ReportedRow:
    return ReportedRow(
        name=row.name, paper=row.paper, backbone=row.backbone, num_frames=row.num_frames, versus=row.versus
    )


def shared_conditions(experiments: Sequence[Experiment]) -> dict[str, Any]:
    """What all of ``experiments`` have in common of backbone, data and schedule; empty without any."""
    trees = [e.model_dump(mode="json", include={"backbone", "data", "schedule"}) for e in experiments]
    return {
        part: {name: value for name, value in values.items() if all(tree[part].get(name) == value for tree in trees)}
        for part, values in (trees[0] if trees else {}).items()
    }


def checked(record: CellRecord) -> CellRecord:
    """The record; as failed, where its accuracy is no number."""
    if record.result is None or isfinite(record.result.top1):
        return record
    return CellRecord(record.cell, "failed", error="the accuracy is not a number")


def _cell_line(record: CellRecord) -> tuple[Any, ...]:
    cell, result = record.cell, record.result
    name = (cell.label, cell.experiment.seed, cell.key)
    if record.status != "finished" or result is None:
        return (*name, record.status, nan, nan, nan, None, None, nan, "", "", record.error or "")
    origin = (result.environment.get("device", ""), result.environment.get("tadaconv", ""))
    scores = (result.top1, result.top5, result.loss)
    return (*name, "finished", *scores, result.params, result.macs, result.seconds, *origin, "")


def origin(record: CellRecord) -> CellOrigin:
    """Where the numbers of a cell come from."""
    experiment, result = record.cell.experiment, record.result
    return CellOrigin(
        row=record.cell.label,
        seed=experiment.seed,
        cell=record.cell.key,
        status=record.status,
        experiment=json.loads(experiment.canonical_json()),
        environment={} if result is None else dict(sorted(result.environment.items())),
        num_val=None if result is None else result.num_val,
        train_clips_per_second=None if result is None else result.train_clips_per_second,
        peak_memory_bytes=None if result is None else result.peak_memory_bytes,
        traceback=record.traceback,
    )
