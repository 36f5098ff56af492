"""What reports are exported to, in memory and in a folder: cells as a frame, where each comes from, and files."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from tadaconv.execution.cells import CellRecord
from tadaconv.files import write_atomically
from tadaconv.metrics import TOP1, Metric, metric_named
from tadaconv.result import DetectionScores, HeadAccuracy, SubsetAccuracy
from tadaconv.spec import Experiment
from tadaconv.text import encodable

Columns = Mapping[str, str]
"""The columns of a frame and of its file: by name, in order, ``TEXT`` or a type of pandas."""

TEXT = "text"


_OF_RESULT: Columns = {
    "loss": "float64", "params": "Int64", "macs": "Int64", "seconds": "float64", "train_clips_per_second": "float64",
    "eval_clips_per_second": "float64",
}  # fmt: skip
"""Columns that are fields of a result."""


def cell_columns(metric: Metric) -> Columns:
    """The columns of one line per cell: score, multiply-adds per clip; numbers are missing where there is no result."""
    scores = {metric.name: "float64", "top5": "float64"} if metric.of_classes else {metric.name: "float64"}
    return {
        "row": TEXT, "seed": "int64", "cell": TEXT, "status": TEXT, **scores, **_OF_RESULT, "device": TEXT,
        "version": TEXT, "error": TEXT,
    }  # fmt: skip


OWN_COLUMNS: Columns = {"backbone": TEXT, "num_frames": "int64"}
"""What cells ran on; a column of ``cells.csv`` and of ``table.csv`` where rows differ in it."""


def no_number(metric: Metric) -> str:
    """Why a cell counts as failed that has a result; for the storage it has finished."""
    return f"the {metric.noun} is not a number {metric.range_in_words}".rstrip()


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
    started: datetime | None = Field(None, description="When the attempt that ended the cell began, in UTC.")
    ended: datetime | None = Field(None, description="When it ended, in UTC.")
    worker: str | None = Field(None, description="The worker that ran it, and its host.")
    per_head: dict[str, HeadAccuracy] = Field(
        default_factory=dict, description="Accuracies of each label alone, in percent, where clips have several."
    )
    per_subset: dict[str, SubsetAccuracy] = Field(
        default_factory=dict, description="Accuracies on subsets that the data set evaluates separately, by name."
    )
    detection: DetectionScores | None = Field(
        None,
        description="What is measured of localization, and missing where cells are not; ``by_class`` is empty, as a "
        "table has it in ``detections.csv``.",
    )

    @model_serializer(mode="wrap")
    def _write_detection(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        return {name: value for name, value in tree.items() if name != "detection" or value is not None}


class Template(BaseModel):
    """The notebook template that a page was made by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Its file's name, without its folder.")
    digest: str = Field(description="Hash of its text.")


class Listing(BaseModel):
    """The entry of a report on the page of all reports."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(
        description="*table*, *study*, *calibration*, *benchmark*, or what a kind of one's own is called."
    )
    name: str = Field(description="Of the table, study or benchmark.")
    regime: str = Field("", description="Empty without one.")
    title: str = Field("", description="The question of the table or study, or what was measured, in one line.")
    ran: str = Field(description="What was run, and how much of it finished, failed or is missing.")
    claims: dict[str, int] = Field(
        default_factory=dict, description="How many of the claims came out how; empty but for a table that makes some."
    )
    findings: list[str] = Field(default_factory=list, description="What came out, a sentence each.")
    first: datetime | None = Field(None, description="When the first cell ended, in UTC, where that is known.")
    last: datetime | None = Field(None, description="When the last cell ended, in UTC, where that is known.")


def ends_of(cells: Iterable[CellOrigin]) -> dict[str, datetime | None]:
    """When the ``first`` and the ``last`` of ``cells`` ended, as far as it is known."""
    ended = [cell.ended for cell in cells if cell.ended is not None]
    return {"first": min(ended, default=None), "last": max(ended, default=None)}


class ReportManifest(BaseModel):
    """The fields of every ``report.json``: from what the files next to it were made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: Template | None = Field(
        None, description="What the page and the notebook were made by when either was last written; none: never."
    )
    parameters: dict[str, str] = Field(
        default_factory=dict,
        description="The template's parameters that were given then, by name, as Python literals; for any other, the "
        "template has its value.",
    )
    digests: dict[str, str] = Field(
        default_factory=dict, description="By format: hash of the data, template and code its file was made from."
    )
    listing: Listing | None = Field(
        None, description="Its entry on the page of all reports; missing where an earlier version wrote it."
    )


class ScoredManifest(ReportManifest):
    """What the ``report.json`` of cells that are compared has: the metric they are evaluated by.

    It names the metric where that is not top-1, as reports named none before there were others.
    """

    metric: str = Field(TOP1.name, description="Name of the metric that cells are evaluated by.")

    @model_serializer(mode="wrap")
    def _write_metric(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        return {name: value for name, value in tree.items() if (name, value) != ("metric", TOP1.name)}


def data_frame(lines: Iterable[Sequence[Any] | dict[str, Any]], columns: Columns) -> pd.DataFrame:
    """``lines`` as a frame of these columns, each of its type; text as any file can hold it."""
    df = pd.DataFrame(list(lines), columns=list(columns))
    texts = {name: df[name].map(encodable, na_action="ignore") for name, kind in columns.items() if kind == TEXT}
    return df.assign(**texts).astype({name: kind for name, kind in columns.items() if kind != TEXT})


def cells_data(records: Sequence[CellRecord], metric: Metric) -> pd.DataFrame:
    """One line per cell: :func:`cell_columns`, and those of ``OWN_COLUMNS`` in which cells differ."""
    cells = data_frame([_cell_line(record, metric) for record in records], cell_columns(metric))
    experiments = [record.cell.experiment for record in records]
    own = data_frame([(e.backbone.name, e.data.num_frames) for e in experiments], OWN_COLUMNS)
    return cells.join(own[[name for name in OWN_COLUMNS if len(set(own[name])) > 1]])


def as_csv(df: pd.DataFrame, digits: int | None = None) -> str:
    """A frame as CSV, with empty fields for what is not known; ``digits`` significant ones, or every digit."""
    form = None if digits is None else f"%.{digits}g"
    # Python before 3.13 leaves a lone carriage return without quotes, and readers take it for the end of a line.
    texts = df.select_dtypes(include=["object", "string"])
    returns = any(texts[name].astype("string").str.contains("\r", regex=False).any() for name in texts)
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    return df.to_csv(index=False, float_format=form, lineterminator="\n", quoting=quoting)


def write_files(files: Mapping[str, str | bytes], folder: Path) -> None:
    """Write every one of ``files``, which are contents by name, into ``folder``."""
    for name, content in files.items():
        write_atomically(folder / name, content)


def read_csv(path: Path, columns: Columns) -> pd.DataFrame:
    """A frame as :func:`as_csv` wrote it; columns other than ``columns`` are text.

    Empty fields of text are empty, those of numbers are not known: a row may be called "NA" or "none".
    """
    kinds = {name: str if kind == TEXT else kind for name, kind in columns.items()}
    unknown = {name: [""] for name, kind in columns.items() if kind != TEXT}
    with path.open(encoding="utf-8", newline="") as file:
        return pd.read_csv(file, dtype=defaultdict(lambda: str, kinds), keep_default_na=False, na_values=unknown)


def shared_conditions(experiments: Sequence[Experiment]) -> dict[str, Any]:
    """What all of ``experiments`` have in common of backbone, data and schedule; empty without any."""
    trees = [e.model_dump(mode="json", include={"backbone", "data", "schedule"}) for e in experiments]
    return {
        part: {name: value for name, value in values.items() if all(tree[part].get(name) == value for tree in trees)}
        for part, values in (trees[0] if trees else {}).items()
    }


def checked(record: CellRecord) -> CellRecord:
    """The record with text that any file can hold; failed, where its score is not finite or out of range."""
    error, traceback, worker = (text and encodable(text) for text in (record.error, record.traceback, record.worker))
    record = replace(record, error=error, traceback=traceback, worker=worker)
    if record.result is None:
        return record
    metric = metric_named(record.result.metric)
    if metric.holds(record.result.score):
        return record
    return replace(record, status="failed", result=None, error=no_number(metric))


def _cell_line(record: CellRecord, metric: Metric) -> dict[str, Any]:
    cell, result = record.cell, record.result
    line = {"row": cell.label, "seed": cell.experiment.seed, "cell": cell.key, "status": record.status}
    if record.status != "finished" or result is None:
        return {**line, "device": "", "version": "", "error": record.error or ""}
    scores = {metric.name: result.score, **({"top5": result.top5} if metric.of_classes else {})}
    numbers = {name: getattr(result, name) for name in _OF_RESULT}
    environment = result.environment
    origin = {"device": environment.get("device", ""), "version": environment.get("tadaconv", ""), "error": ""}
    return {**line, **scores, **numbers, **origin}


def origin(record: CellRecord) -> CellOrigin:
    """Where the numbers of a cell come from."""
    result = record.result
    detection = None if result is None else result.detection
    return CellOrigin(
        row=record.cell.label,
        seed=record.cell.experiment.seed,
        cell=record.cell.key,
        status=record.status,
        experiment=json.loads(record.cell.experiment.canonical_json()),
        environment={} if result is None else dict(sorted(result.environment.items())),
        traceback=record.traceback,
        started=record.started,
        ended=record.ended,
        worker=record.worker,
        num_val=getattr(result, "num_val", None),
        train_clips_per_second=getattr(result, "train_clips_per_second", None),
        peak_memory_bytes=getattr(result, "peak_memory_bytes", None),
        per_head={} if result is None else result.per_head,
        per_subset={} if result is None else result.per_subset,
        detection=None if detection is None else detection.model_copy(update={"by_class": {}}),
    )
