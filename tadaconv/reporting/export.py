"""What a report is made from: the cells of a table as frames and one manifest, in memory or in the report's folder.

The folder holds everything a colleague needs to execute the notebook again; nothing is read from the storage then.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, overload

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tadaconv.ablation import Claim, LoadedTable, PaperResult, Row
from tadaconv.discovery import plain_name
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord
from tadaconv.files import write_atomically as write_atomically
from tadaconv.regime import Published, Regime
from tadaconv.result import HeadAccuracy, Result, SubsetAccuracy
from tadaconv.spec import Experiment

CELL_COLUMNS = [
    "row", "seed", "cell", "status", "top1", "top5", "loss", "params", "macs", "seconds", "train_clips_per_second",
    "eval_clips_per_second", "device", "version", "error",
]  # fmt: skip
OWN_COLUMNS = ["backbone", "num_frames"]
"""What cells ran on; a column of ``cells.csv`` and of ``table.csv`` where rows differ in it."""
CURVE_COLUMNS = ["row", "seed", "epoch", "step", "train_loss", "val_top1"]
FAMILY_COLUMNS = ["row", "seed", "family", "top1"]
CLASS_COLUMNS = ["row", "seed", "class", "family", "top1"]
CONFUSION_COLUMNS = ["row", "seed", "class", "predicted", "clips"]
CALIBRATION_COLUMNS = ["row", "seed", "epoch", "stage", "distance", "over_time", "over_clips"]

NO_NUMBER = "the accuracy is not a number from 0 to 100"
"""Why a cell counts as failed that has a result; for the storage it has finished."""

_WORDS = ["row", "cell", "status", "device", "version", "error", "family", "backbone", "class", "predicted", "stage"]
_FRAMES = {"families": FAMILY_COLUMNS, "classes": CLASS_COLUMNS, "confusion": CONFUSION_COLUMNS,
           "calibration": CALIBRATION_COLUMNS}  # fmt: skip
_UNKNOWN = {
    column: [""]
    for column in {*CELL_COLUMNS, *CURVE_COLUMNS, *(c for each in _FRAMES.values() for c in each)} - set(_WORDS)
}


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
    measured_as: Published | None = Field(
        None,
        description="What the regime says that the paper measured such a cell on; None where the paper trained "
        "otherwise, so that only orders are compared.",
    )
    recipe: Literal["paper", "ours"] | None = Field(
        None, description="Whose the recipe is that the regime trains the row by; None for the regime's own."
    )
    ensemble: tuple[str, ...] = Field(
        (), description="Names of the rows whose class probabilities the row averages; empty where it trains itself."
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
    started: datetime | None = Field(None, description="When the attempt that ended the cell began, in UTC.")
    ended: datetime | None = Field(None, description="When it ended, in UTC.")
    worker: str | None = Field(None, description="The worker that ran it, and its host.")
    per_head: dict[str, HeadAccuracy] = Field(
        default_factory=dict, description="Accuracies of each label alone, in percent, where clips have several."
    )
    per_subset: dict[str, SubsetAccuracy] = Field(
        default_factory=dict, description="Accuracies on the clips that the data set judges apart, by their name."
    )


class EnsembleOrigin(BaseModel):
    """What a row that averages others comes to for one seed: the accuracy of the mean of their class probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    seed: int
    cells: dict[str, str] = Field(description="By row, the keys of the cells that are averaged, as far as there are.")
    top1: float | None = Field(None, description="In percent; none where something is missing, see ``why``.")
    top5: float | None = None
    per_head: dict[str, HeadAccuracy] = Field(
        default_factory=dict, description="Accuracies of each label alone, in percent, where clips have several."
    )
    num_val: int | None = Field(None, description="Validation clips behind the accuracies.")
    params: int | None = Field(None, description="Of all its networks together.")
    macs: int | None = Field(None, description="Of all its networks together, each on its own frames of a clip.")
    why: str | None = Field(None, description="Why there is no accuracy.")


class Elsewhere(BaseModel):
    """The same table in another regime of the same storage, to compare the order of rows with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    regime: str
    top1: dict[str, float] = Field(description="By row, the mean validation top-1 over its seeds, in percent.")
    num_seeds: dict[str, int] = Field(description="By row, the seeds behind it.")


class Template(BaseModel):
    """The notebook template that a page was made by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Its file's name, without its folder.")
    digest: str = Field(description="Hash of its text.")


class ReportManifest(BaseModel):
    """What the ``report.json`` of every kind has: from what the files beside it were made."""

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


class Manifest(ReportManifest):
    """``report.json``: everything a report says that is not in its CSV files. ``docs/reports.md`` explains it."""

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
    class_families: dict[str, str] = Field(
        default_factory=dict,
        description="Every class, in order, and its family; the family is empty where there is none.",
    )
    elsewhere: list[Elsewhere] = Field(default_factory=list, description="This table in other regimes, by name.")
    left_out: dict[str, int] = Field(
        default_factory=dict,
        description="Finished cells of this study that are not shown, by reason: *changed*, where the row or the "
        "regime has changed since they ran, *protocol*, where another version of tadaconv ran them.",
    )
    ensembles: list[EnsembleOrigin] = Field(
        default_factory=list, description="One for each seed of a row that averages others, which has no cells."
    )
    cells: list[CellOrigin]


@dataclass(frozen=True, eq=False)  # by identity: frames have no equality of their own
class Export:
    """One table's results and what they mean.

    ``cells`` has a line a cell, ``curves`` a cell and epoch, ``families`` a cell and class family, ``classes`` a cell
    and class (top-1 in percent), ``confusion`` a cell, class and predicted class (validation clips; pairs that do not
    occur are left out), ``calibration`` a cell, epoch and stage (see :class:`tadaconv.result.StageCalibration`).
    """

    manifest: Manifest
    cells: pd.DataFrame
    curves: pd.DataFrame
    families: pd.DataFrame
    classes: pd.DataFrame
    confusion: pd.DataFrame
    calibration: pd.DataFrame


def collect(
    loaded: LoadedTable,
    regime_name: str,
    records: Sequence[CellRecord],
    elsewhere: Mapping[str, Sequence[CellRecord]] | None = None,
    left_out: Mapping[str, int] | None = None,
    *,
    regime: Regime | None = None,
    cells_alone: bool = False,
    ensembles: Sequence[EnsembleOrigin] = (),
) -> Export:
    """Arrange the records of a table; failed and missing cells stay in, without numbers.

    ``elsewhere`` holds, by the name of another regime, what the same table came to there; ``left_out`` counts the
    finished cells that are not among the records. ``regime`` says what of it the paper measured so, and whose its
    recipes are; without it nothing is known of either. With ``cells_alone`` the frames beside ``cells`` stay empty.
    ``ensembles`` are what :func:`tadaconv.reporting.ensembles.ensembles_of` found.
    A finished cell whose accuracy is no number counts as failed: a NaN would otherwise hide in a mean or spoil it.
    """
    table = loaded.table
    records = [checked(record) for record in records]
    detailed = [] if cells_alone else records
    families = families_frame(detailed)
    manifest = Manifest(
        table=loaded.name,
        question=loaded.question,
        regime=plain_name(regime_name),
        base=table.base.name,
        rows=[_reported(row, regime) for row in table.all_rows],
        claims=list(table.claims),
        seeds=sorted({record.cell.experiment.seed for record in records}),
        families=[str(name) for name in families["family"].unique()],
        conditions=shared_conditions([record.cell.experiment for record in records]),
        class_families=_class_families(records),
        elsewhere=[_elsewhere(name, each) for name, each in sorted((elsewhere or {}).items())],
        left_out=dict(left_out or {}),
        ensembles=list(ensembles),
        cells=[origin(record) for record in records],
    )
    return Export(
        manifest,
        cells_frame(records),
        curves_frame(detailed),
        families,
        classes_frame(detailed),
        confusion_frame(detailed),
        calibration_frame(detailed),
    )


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


def classes_frame(records: Sequence[CellRecord]) -> pd.DataFrame:
    """One line a cell and class with validation clips, columns ``CLASS_COLUMNS``: accuracy in percent."""
    lines = []
    for record in records:
        if record.result is not None:
            family_of = {name: family for family, names in record.result.family_classes.items() for name in names}
            lines += [
                (record.cell.label, record.cell.experiment.seed, name, family_of.get(name, ""), top1)
                for name, top1 in record.result.per_class.items()
            ]
    return pd.DataFrame(lines, columns=CLASS_COLUMNS)


def confusion_frame(records: Sequence[CellRecord]) -> pd.DataFrame:
    """One line a cell, class and predicted class that occur, columns ``CONFUSION_COLUMNS``: validation clips."""
    lines = [
        (record.cell.label, record.cell.experiment.seed, names[label], names[predicted], clips)
        for record in records
        if record.result is not None and (names := record.result.classes)
        for label, predicted, clips in record.result.confusion
    ]
    return pd.DataFrame(lines, columns=CONFUSION_COLUMNS)


def calibration_frame(records: Sequence[CellRecord]) -> pd.DataFrame:
    """One line a cell, epoch and calibrated stage, columns ``CALIBRATION_COLUMNS``."""
    lines = [
        (record.cell.label, record.cell.experiment.seed, point.epoch, stage, c.distance, c.over_time, c.over_clips)
        for record in records
        if record.result is not None
        for point in record.result.curve
        for stage, c in point.calibration.items()
    ]
    return pd.DataFrame(lines, columns=CALIBRATION_COLUMNS)


def _class_families(records: Sequence[CellRecord]) -> dict[str, str]:
    for record in records:
        if record.result is not None and record.result.classes:
            family_of = {name: family for family, names in record.result.family_classes.items() for name in names}
            return {name: family_of.get(name, "") for name in record.result.classes}
    return {}


def _elsewhere(regime: str, records: Sequence[CellRecord]) -> Elsewhere:
    found: dict[str, list[float]] = {}
    for record in map(checked, records):
        if record.result is not None:
            found.setdefault(record.cell.label, []).append(record.result.top1)
    return Elsewhere(
        regime=plain_name(regime),
        top1={name: fmean(values) for name, values in found.items()},
        num_seeds={name: len(values) for name, values in found.items()},
    )


def frames(export: Export) -> dict[str, pd.DataFrame]:
    """The frames beside the table, by the name of their file."""
    names = ("cells", "curves", *_FRAMES)
    return {f"{name}.csv": getattr(export, name) for name in names}


@lru_cache(maxsize=1)  # they decide whether a report is up to date, and are then written
def csv_texts(export: Export) -> dict[str, str]:
    """Every frame of :func:`frames` as CSV, to the last digit; one without a line has its head alone."""
    return {name: as_csv(frame) for name, frame in frames(export).items()}


def write_csvs(export: Export, folder: Path) -> None:
    """Write every frame of :func:`frames` as :func:`csv_texts` has it."""
    for name, text in csv_texts(export).items():
        write_atomically(folder / name, text)


def as_csv(frame: pd.DataFrame, digits: int | None = None) -> str:
    """A frame as CSV, with empty fields for what is not known; ``digits`` significant ones, or every digit."""
    form = None if digits is None else f"%.{digits}g"
    # Python before 3.13 leaves a lone carriage return without quotes, and readers take it for the end of a line.
    texts = frame.select_dtypes(include=["object", "string"])
    returns = any(texts[name].astype("string").str.contains("\r", regex=False).any() for name in texts)
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    return frame.to_csv(index=False, float_format=form, lineterminator="\n", quoting=quoting)


def read_export(folder: Path | str = ".") -> Export:
    """Read back what a report's folder holds; raises :class:`UserError` where it is not one."""
    folder = Path(folder)
    try:
        manifest = Manifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
        cells = typed(read_csv(folder / "cells.csv"))
        curves = read_csv(folder / "curves.csv")
        others = {name: read_csv(folder / f"{name}.csv") for name in _FRAMES}
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no exported report: {error.filename} is missing") from error
    return Export(manifest, cells, curves, **others)


def read_csv(path: Path, words: Sequence[str] = _WORDS, unknown: dict[str, list[str]] = _UNKNOWN) -> pd.DataFrame:
    """A frame as :func:`as_csv` wrote it: columns of ``words`` are text, empty fields of ``unknown`` are not known."""
    # A row may be called "NA" or "none": only empty fields of numbers are unknown.
    with path.open(encoding="utf-8", newline="") as file:
        return pd.read_csv(file, dtype=dict.fromkeys(words, str), keep_default_na=False, na_values=unknown)


def typed(cells: pd.DataFrame) -> pd.DataFrame:
    """The frame of cells with the types that its columns have, whatever is not known."""
    names = ["top1", "top5", "loss", "seconds", "train_clips_per_second", "eval_clips_per_second"]
    floats = dict.fromkeys(names, "float64")
    return cells.astype({**floats, "seed": "int64", "params": "Int64", "macs": "Int64"})


def _reported(row: Row, regime: Regime | None) -> ReportedRow:
    recipe = None if regime is None else regime.recipe(row.backbone, row.num_frames)
    return ReportedRow(
        name=row.name,
        paper=row.paper,
        backbone=row.backbone,
        num_frames=row.num_frames,
        versus=row.versus,
        measured_as=None if regime is None else regime.published_as(row.backbone, row.num_frames),
        recipe=None if recipe is None else recipe.origin,
        ensemble=row.ensemble,
    )


def shared_conditions(experiments: Sequence[Experiment]) -> dict[str, Any]:
    """What all of ``experiments`` have in common of backbone, data and schedule; empty without any."""
    trees = [e.model_dump(mode="json", include={"backbone", "data", "schedule"}) for e in experiments]
    return {
        part: {name: value for name, value in values.items() if all(tree[part].get(name) == value for tree in trees)}
        for part, values in (trees[0] if trees else {}).items()
    }


def checked(record: CellRecord) -> CellRecord:
    """The record, in text that any file can hold; as failed, where its accuracy is none."""
    texts = {name: printable(getattr(record, name)) for name in ("error", "traceback", "worker")}
    record = replace(record, **texts)
    if record.result is None:
        return record
    if not 0 <= record.result.top1 <= 100:  # nor is NaN
        return replace(record, status="failed", result=None, error=NO_NUMBER)
    return replace(record, result=_printable_classes(record.result))


@overload
def printable(text: str) -> str: ...


@overload
def printable(text: str | None) -> str | None: ...


def printable(text: str | None) -> str | None:
    """Text as UTF-8 can hold it: half a surrogate pair, of a file's name say, is written as its escape."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _printable_classes(result: Result) -> Result:
    names = [*result.per_class, *result.classes, *result.per_family]
    if all(name.isascii() or name == printable(name) for name in names):
        return result
    return result.model_copy(
        update={
            "per_class": {printable(name): value for name, value in result.per_class.items()},
            "per_family": {printable(name): value for name, value in result.per_family.items()},
            "classes": [printable(name) for name in result.classes],
            "family_classes": {
                printable(family): [printable(name) for name in each] for family, each in result.family_classes.items()
            },
        }
    )


def _cell_line(record: CellRecord) -> tuple[Any, ...]:
    cell, result = record.cell, record.result
    name = (cell.label, cell.experiment.seed, cell.key)
    if record.status != "finished" or result is None:
        return (*name, record.status, nan, nan, nan, None, None, nan, nan, nan, "", "", record.error or "")
    origin = (result.environment.get("device", ""), result.environment.get("tadaconv", ""))
    scores = (result.top1, result.top5, result.loss)
    speed = (result.seconds, result.train_clips_per_second, result.eval_clips_per_second)
    return (*name, "finished", *scores, result.params, result.macs, *speed, *origin, "")


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
        started=record.started,
        ended=record.ended,
        worker=record.worker,
        per_head={} if result is None else result.per_head,
        per_subset={} if result is None else result.per_subset,
    )
