"""What the report of a table is made from: its cells as frames and one manifest, in memory or in the report's folder.

The folder holds everything a colleague needs to execute the notebook again, without the storage.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_serializer

from tadaconv.discovery import plain_name
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord, metric_of
from tadaconv.metrics import TOP1, Metric, metric_named
from tadaconv.regime import Published, Regime
from tadaconv.reporting.core.export import (
    OWN_COLUMNS,
    TEXT,
    CellOrigin,
    Columns,
    ScoredManifest,
    as_csv,
    cell_columns,
    cells_data,
    checked,
    data_frame,
    origin,
    read_csv,
    shared_conditions,
)
from tadaconv.result import HeadAccuracy, Result, Scored
from tadaconv.sequential import SeedDesign
from tadaconv.table import Claim, LoadedTable, PaperResult, Row
from tadaconv.text import encodable

_OF_CELL: Columns = {"row": TEXT, "seed": "int64"}
CALIBRATION_COLUMNS: Columns = {
    **_OF_CELL, "epoch": "int64", "stage": TEXT, "distance": "float64", "over_time": "float64", "over_clips": "float64"
}  # fmt: skip
"""One line per cell, epoch and calibrated stage, see :class:`tadaconv.result.StageCalibration`."""
OF_CLASSES: Mapping[str, Columns] = {
    "families": {**_OF_CELL, "family": TEXT, "top1": "float64"},
    "classes": {**_OF_CELL, "class": TEXT, "family": TEXT, "top1": "float64"},
    "confusion": {**_OF_CELL, "class": TEXT, "predicted": TEXT, "clips": "int64"},
}
"""The tables that only a metric of classes has: one line per cell and class family, class with validation clips (its
family may be empty), or pair of class and predicted class that occurs."""
OF_SEGMENTS: Mapping[str, Columns] = {
    "detections": {**_OF_CELL, "class": TEXT, "tiou": "float64", "average_precision": "float64"},
}
"""The table that only a metric of segments has: one line per cell, class with true segments, and threshold of tIoU."""


def curve_columns(metric: Metric) -> Columns:
    """The columns of one line per cell and epoch: loss in nats, and the score."""
    return {
        **_OF_CELL, "epoch": "int64", "step": "int64", "train_loss": "float64", metric.curve_column: "float64"
    }  # fmt: skip


def csv_columns(metric: Metric) -> dict[str, Columns]:
    """The frames of an :class:`Export` that are written; each is a CSV file of this name."""
    return {
        "cells": {**cell_columns(metric), **OWN_COLUMNS},
        "curves": curve_columns(metric),
        **(OF_CLASSES if metric.of_classes else {}),
        **(OF_SEGMENTS if metric.of_segments else {}),
        "calibration": CALIBRATION_COLUMNS,
    }


class ReportedRow(BaseModel):
    """A row of the table, whether or not a cell of it has run."""

    # The paper's costs may be whole numbers, which become floats; before that they are not of their field's types.
    model_config = ConfigDict(frozen=True, extra="forbid", revalidate_instances="always")

    name: str
    paper: PaperResult | None = Field(description="The paper's number with its source and conditions.")

    @field_serializer("paper", mode="wrap")
    def _paper_as_ever(self, paper: PaperResult | None, write: SerializerFunctionWrapHandler) -> dict[str, Any] | None:
        """Without the metric of a number of top-1, as it was always written."""
        tree: dict[str, Any] | None = write(paper)
        if tree is not None and tree["metric"] == TOP1.name:
            del tree["metric"]
        return tree

    # Fields that came later; earlier reports lack them.
    backbone: str | None = Field(
        None,
        description="The backbone the row asks for; None for the regime's. The experiments of its cells have "
        "what they ran on, which may stand in for it at the regime's scale.",
    )
    num_frames: int | None = Field(None, description="Frames per clip that the row asks for; None for the regime's.")
    versus: str | None = Field(
        None, description="Name of the row its differences are taken to; None for the base. Its own: to no row."
    )
    measured_as: Published | None = Field(
        None,
        description="What the paper measured such a cell on, as the regime states; None where the paper trained "
        "otherwise, so that only orders are compared.",
    )
    recipe: Literal["paper", "ours"] | None = Field(
        None, description="Whose the recipe is that the regime trains the row by; None for the regime's own."
    )
    ensemble: tuple[str, ...] = Field(
        (), description="Names of the rows whose class probabilities the row averages; empty where it trains itself."
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


class Elsewhere(Scored):
    """The same table in another regime of the same storage, to compare the order of rows with."""

    regime: str
    score: dict[str, float] = Field(description="By row, the mean score over its seeds; of top-1 called ``top1``.")
    num_seeds: dict[str, int] = Field(description="By row, the seeds behind it.")


class Learned(BaseModel):
    """What the table cost, what it decided, and estimates of what other numbers of seeds would cost and decide.

    A comparison is a claim, or a row with the row it is compared with; decided are those with a verdict other than
    *undecided*. Estimates are from the measured differences and standard deviations, at 80 % power.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_cells: int = Field(description="Cells that have finished or failed.")
    num_failed: int = Field(description="Failed ones among them.")
    hours: float = Field(description="Of all these cells, each GPU by itself; of a failed one where it is known.")
    device: str = Field(description="Of which the hours are: *CPU*, *GPU*, or *CPU and GPU*.")
    claims_decided: int
    num_claims: int
    rows_decided: int = Field(description="Rows whose difference to the row they are compared with is decided.")
    num_rows: int = Field(description="Rows that are compared with another.")
    pairs_decided: int = Field(description="Pairs of rows with a decided comparison, each once.")
    rest_pairs: int = Field(
        description="Undecided pairs for which it can be estimated what deciding them takes, within the seeds of an "
        "adaptive design."
    )
    rest_seeds: int = Field(description="Seeds of the row that would need the most to decide the rest; 0: none would.")
    rest_cells: int = Field(description="Further cells that would take.")
    rest_hours: float
    rest_beyond: int = Field(description="Undecided pairs that would take more than 1000 seeds, left out of these.")
    rest_unknown: int = Field(description="Undecided pairs without a standard deviation, left out of these.")
    fixed_seeds: int | None = Field(
        description="Seeds of every row that a fixed design takes to decide as much; None for no decision."
    )
    fixed_hours: float | None
    # Fields that came later; earlier reports lack them.
    is_exhausted: bool = Field(
        False, description="Whether an adaptive design gives no undecided pair of rows that train further seeds."
    )
    new_run_pairs: int = Field(
        0, description="Undecided pairs that take more seeds than an adaptive design has, hence a new run."
    )
    new_run_seeds: int = Field(0, description="Seeds of the row that would need the most in that run.")
    new_run_cells: int = Field(0, description="Cells of that run, of the rows of these pairs.")
    new_run_hours: float = 0.0
    saved_cells: int | None = Field(description="Cells fewer than the most seeds of every row; of adaptive designs.")
    saved_hours: float | None


class Manifest(ScoredManifest):
    """``report.json``: everything in a report that is not in its CSV files. ``docs/reports.md`` explains it."""

    table: str = Field(description="Name of the table's file.")
    question: str = Field(description="The table's docstring; its first paragraph is the question.")
    regime: str
    base: str = Field(description="The row that others are compared with, but where a row names another one.")
    rows: list[ReportedRow] = Field(description="In the order they are shown.")
    claims: list[Claim]
    seeds: list[int] = Field(description="Every seed any row was planned with.")
    families: list[str] = Field(description="Class families of the clips, in order; may be empty.")
    conditions: dict[str, Any] = Field(
        description="Backbone, data and schedule, as far as all cells share them; what differs by row is left out."
    )
    class_families: dict[str, str] = Field(
        default_factory=dict,
        description="Every class, in order, and its family, which may be empty.",
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
    design: SeedDesign | None = Field(
        None, description="How many seeds the table is run with, and which difference matters; None where not stored."
    )
    learned: Learned | None = Field(None, description="What the cells cost, and what they decided.")
    cells: list[CellOrigin]


@dataclass(frozen=True, eq=False, repr=False)  # by identity: frames have no equality; a notebook would print them all
class Export:
    """One table's results and what they mean.

    ``cells`` has one line per cell, ``curves`` per cell and epoch, ``families`` per cell and class family, ``classes``
    per cell and class (top-1 in percent), ``confusion`` per cell, class and predicted class (validation clips, without
    pairs that do not occur), ``detections`` per cell, class and threshold of tIoU (average precision in percent),
    ``calibration`` per cell, epoch and stage (:class:`tadaconv.result.StageCalibration`).
    """

    manifest: Manifest
    cells: pd.DataFrame
    curves: pd.DataFrame
    families: pd.DataFrame
    classes: pd.DataFrame
    confusion: pd.DataFrame
    detections: pd.DataFrame
    calibration: pd.DataFrame

    @property
    def metric(self) -> Metric:
        """The metric that the cells are evaluated by."""
        return metric_named(self.manifest.metric)


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
    design: SeedDesign | None = None,
) -> Export:
    """Arrange the records of a table; failed and missing cells stay in, without numbers.

    A finished cell whose score is not finite or out of range counts as failed.

    Args:
        loaded: The table.
        regime_name: The regime, as it was named.
        records: The cells of the table in it.
        elsewhere: By the name of another regime, the cells of the same table there.
        left_out: Finished cells that are not among the records, by reason.
        regime: States what the paper measured and whose its recipes are.
        cells_alone: Whether the frames other than ``cells`` stay empty.
        ensembles: Of :func:`tadaconv.reporting.ablation.ensembles.ensembles_of`.
        design: How many seeds the table is run with, as the storage has it.
    """
    table = loaded.table
    records = [checked(record) for record in records]
    detailed = [] if cells_alone else records
    metric = metric_of(records)
    columns = {**OF_CLASSES, **OF_SEGMENTS, **csv_columns(metric)}
    details = {name: _detail(name, columns[name], detailed) for name in columns if name != "cells"}
    seeds = sorted({record.cell.experiment.seed for record in records})
    manifest = Manifest(
        metric=metric.name,
        table=loaded.name,
        question=loaded.question,
        regime=plain_name(regime_name),
        base=table.base.name,
        rows=[_reported(row, regime) for row in table.all_rows],
        claims=list(table.claims),
        seeds=seeds,
        families=[str(name) for name in details["families"]["family"].unique()],
        conditions=shared_conditions([record.cell.experiment for record in records]),
        class_families=_class_families(records),
        elsewhere=[_elsewhere(name, cells) for name, cells in sorted((elsewhere or {}).items())],
        left_out=dict(left_out or {}),
        ensembles=[ensemble for ensemble in ensembles if _is_planned(ensemble, table.row(ensemble.row), seeds, design)],
        design=design,
        cells=[origin(record) for record in records],
    )
    return Export(manifest, cells_data(records, metric), **details)


def _is_planned(ensemble: EnsembleOrigin, row: Row, seeds: Sequence[int], design: SeedDesign | None) -> bool:
    """Whether a seed of ``seeds`` is one for the ensemble: in an adaptive design, not all parts have further seeds."""
    if design is None or not design.is_adaptive:
        return True
    return ensemble.seed < min(seeds) + design.first or len(ensemble.cells) == len(row.ensemble)


def _detail(name: str, columns: Columns, records: Sequence[CellRecord]) -> pd.DataFrame:
    """A frame other than that of the cells, of the records that have a result."""
    lines = [
        (record.cell.label, record.cell.experiment.seed, *line)
        for record in records
        if record.result is not None
        for line in _LINES[name](record.result)
    ]
    return data_frame(lines, columns)


def _class_lines(result: Result) -> Iterator[tuple[Any, ...]]:
    family_of = _family_of(result)
    return ((name, family_of.get(name, ""), top1) for name, top1 in result.per_class.items())


def _confusion_lines(result: Result) -> Iterator[tuple[Any, ...]]:
    names = result.classes
    return ((names[label], names[predicted], clips) for label, predicted, clips in result.confusion if names)


def _detection_lines(result: Result) -> Iterator[tuple[Any, ...]]:
    if result.detection is not None:
        for name, values in result.detection.by_class.items():
            yield from ((name, *pair) for pair in zip(result.detection.tious, values, strict=True))


_LINES: Mapping[str, Callable[[Result], Iterable[tuple[Any, ...]]]] = {
    "curves": lambda result: ((p.epoch, p.step, p.train_loss, p.score) for p in result.curve),
    "families": lambda result: result.per_family.items(),
    "classes": _class_lines,
    "confusion": _confusion_lines,
    "detections": _detection_lines,
    "calibration": lambda result: (
        (point.epoch, stage, part.distance, part.over_time, part.over_clips)
        for point in result.curve
        for stage, part in point.calibration.items()
    ),
}
"""By frame, the fields of its lines after those that name the cell."""


def _family_of(result: Result) -> dict[str, str]:
    return {name: family for family, names in result.family_classes.items() for name in names}


def _class_families(records: Sequence[CellRecord]) -> dict[str, str]:
    for record in records:
        if record.result is not None and record.result.classes:
            family_of = _family_of(record.result)
            return {encodable(name): encodable(family_of.get(name, "")) for name in record.result.classes}
    return {}


def _elsewhere(regime: str, records: Sequence[CellRecord]) -> Elsewhere:
    scores: dict[str, list[float]] = {}
    records = [checked(record) for record in records]
    for record in records:
        if record.result is not None:
            scores.setdefault(record.cell.label, []).append(record.result.score)
    return Elsewhere(
        metric=metric_of(records).name,
        regime=plain_name(regime),
        score={name: fmean(values) for name, values in scores.items()},
        num_seeds={name: len(values) for name, values in scores.items()},
    )


def files_of(export: Export) -> dict[str, str]:
    """The frames of an export as CSV, to the last digit, by the name of their file."""
    return {f"{name}.csv": as_csv(getattr(export, name)) for name in csv_columns(export.metric)}


def read_export(folder: Path | str = ".") -> Export:
    """Read back what a report's folder holds; raises :class:`UserError` where it is not one."""
    folder = Path(folder)
    try:
        manifest = Manifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
        columns = csv_columns(metric_named(manifest.metric))
        frames = {name: read_csv(folder / f"{name}.csv", columns[name]) for name in columns}
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no exported report: {error.filename} is missing") from error
    others = {**OF_CLASSES, **OF_SEGMENTS}
    absent = {name: data_frame([], others[name]) for name in others if name not in frames}
    return Export(manifest, **frames, **absent)


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
