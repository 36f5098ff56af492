"""The data of the report of a trained cell, in memory or in its folder; needs no torch.

The folder holds all that the notebook needs to be executed again, in files that can be read without tadaconv.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AliasChoices, Field, SerializerFunctionWrapHandler, model_serializer

from tadaconv.discovery import plain_name
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord
from tadaconv.metrics import TOP1
from tadaconv.reporting.core.export import (
    TEXT,
    CellOrigin,
    Columns,
    ScoredManifest,
    as_csv,
    data_frame,
    origin,
    read_csv,
    shared_conditions,
)
from tadaconv.table import LoadedTable

QUANTILES = {"q025": 0.025, "q250": 0.25, "q500": 0.5, "q750": 0.75, "q975": 0.975}
"""Columns of ``layers.csv`` that hold quantiles of alpha over clips, frames and channels."""
LAYER_COLUMNS: Columns = {
    **dict.fromkeys(["layer", "factor"], TEXT), **dict.fromkeys(["stage", "block"], "int64"),
    **dict.fromkeys(["kind", "kernel"], TEXT), **dict.fromkeys(["num", "num_frames"], "int64"),
    **dict.fromkeys(["distance", "constant", "over_clips", "over_time", "over_inner_time", *QUANTILES], "float64"),
}  # fmt: skip
CLIP_COLUMNS: Columns = {
    "clip": "int64", "index": "int64", "class": TEXT, "family": TEXT, "predicted": TEXT, "probability": "float64",
    "frames": TEXT,
}  # fmt: skip
TRAINING_COLUMNS: Columns = {
    "epoch": "int64", "stage": TEXT, **dict.fromkeys(["distance", "over_time", "over_clips"], "float64"),
}  # fmt: skip
FRAMES: dict[str, Columns] = {"layers": LAYER_COLUMNS, "clips": CLIP_COLUMNS, "training": TRAINING_COLUMNS}
"""The frames of a :class:`CalibrationExport`; each is a CSV file of this name."""
PLACES = {"boundary": "at a start or end", "inside": "within segments", "background": "in the background"}
"""Where two neighbouring frames of a clip are, in words."""
LOCALIZATION_FRAMES: dict[str, Columns] = {
    **FRAMES,
    "clips": {"clip": "int64", "index": "int64", "frames": TEXT},
    "segments": {
        "clip": "int64", "kind": TEXT, "class": TEXT, **dict.fromkeys(["start", "end", "score", "tiou"], "float64"),
    },
    "changes": {
        **dict.fromkeys(["layer", "factor", "place"], TEXT), **dict.fromkeys(["change", "low", "high"], "float64"),
        "num_pairs": "int64",
    },
}  # fmt: skip
"""The same of a cell of localization."""

Array = NDArray[Any]


class CalibrationManifest(ScoredManifest):
    """``report.json`` of a trained cell's report: all that is not in its other files.

    A score of top-1 is written as ``top1``, as reports called it before there were other metrics.
    """

    table: str = Field(description="Name of the table's file.")
    question: str = Field(description="The table's docstring; its first paragraph is the question.")
    regime: str
    row: str
    seed: int
    score: float = Field(
        validation_alias=AliasChoices("top1", "score"),
        description="Validation score of the cell; of top-1, in percent, it is called top1.",
    )
    seconds: float = Field(description="Wall time of its training and evaluation.")
    num_clips: int = Field(description="Validation clips that were passed through the network.")
    alpha_low: float = Field(description="2.5 % of all alphas are lower: over clips, layers, frames and channels.")
    alpha_high: float = Field(description="2.5 % of all alphas are higher.")
    conditions: dict[str, Any] = Field(description="Backbone, data and schedule of the cell.")
    cells: list[CellOrigin] = Field(description="The cell alone.")
    opened_with: dict[str, str] = Field(description="Device and versions that inspected the weights.")

    @property
    def localizes(self) -> bool:
        """Whether the cell is one of localization."""
        return "localization" in self.cells[0].experiment

    @model_serializer(mode="wrap")
    def _write_metric(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        if self.metric != TOP1.name:
            return tree
        return {"top1" if name == "score" else name: value for name, value in tree.items() if name != "metric"}


@dataclass(frozen=True)
class CalibrationExport:
    """The calibrations of a trained network.

    Attributes:
        manifest: what it is.
        layers: a line for each adaptive layer and factor of its calibration, first to last, ``LAYER_COLUMNS``:
            ``num`` numbers a frame, ``num_frames`` frames of the layer's input; root mean squares as in
            :class:`tadaconv.result.StageCalibration` and of the ``constant`` part; ``over_inner_time`` is
            ``over_time`` over the frames whose context is within the clip, and unknown where there are fewer than two
            of these or where the context of a frame is that frame; quantiles of alpha.
        clips: a line for each clip that is shown, ``CLIP_COLUMNS``: ``index`` in the validation set, and the
            ``probability`` of the ``predicted`` class.
        training: a line an epoch and stage, ``TRAINING_COLUMNS``; empty for results without a record of it.
        alphas: by ``<layer>.<factor>``, alpha of the clips shown, (clips, num, num_frames), float32.
        frames: for each clip shown, its frames, (T, H, W, 3), uint8.
        segments: of localization, a line for each true segment and each of the best detections in the clips shown:
            ``kind`` is ``true`` or ``detected``, ``start`` and ``end`` are in frames, ``score`` is that of a detection,
            and ``tiou`` its largest with a true segment of its class.
        changes: of localization, a line a layer, factor and place of ``PLACES``: the mean absolute ``change`` of alpha
            from a frame to the next, over clips, channels and ``num_pairs`` pairs of frames, with a 95 % bootstrap
            interval over clips.
    """

    manifest: CalibrationManifest
    layers: pd.DataFrame
    clips: pd.DataFrame
    training: pd.DataFrame
    alphas: dict[str, Array]
    frames: list[Array]
    segments: pd.DataFrame | None = None
    changes: pd.DataFrame | None = None


@dataclass(frozen=True)
class Inspection:
    """The calibrations of a network, as it was inspected; see :class:`CalibrationExport`."""

    num_clips: int
    alpha_low: float
    alpha_high: float
    layers: list[tuple[Any, ...]]
    clips: list[tuple[Any, ...]]
    alphas: dict[str, Array]
    frames: list[Array]
    environment: dict[str, str]
    segments: list[tuple[Any, ...]] | None = None
    changes: list[tuple[Any, ...]] | None = None


def collect(loaded: LoadedTable, regime_name: str, record: CellRecord, inspection: Inspection) -> CalibrationExport:
    """The export of the cell of ``record`` and of its inspection."""
    assert record.result is not None
    cell = record.cell
    manifest = CalibrationManifest(
        table=loaded.name,
        question=loaded.question,
        regime=plain_name(regime_name),
        row=cell.label,
        seed=cell.experiment.seed,
        metric=record.result.metric,
        score=record.result.score,
        seconds=record.result.seconds,
        num_clips=inspection.num_clips,
        alpha_low=inspection.alpha_low,
        alpha_high=inspection.alpha_high,
        conditions=shared_conditions([cell.experiment]),
        cells=[origin(record)],
        opened_with={name: inspection.environment[name] for name in ("device", "tadaconv", "torch")},
    )
    training = [
        (point.epoch, stage, parts.distance, parts.over_time, parts.over_clips)
        for point in record.result.curve
        for stage, parts in point.calibration.items()
    ]
    columns = _frames_of(manifest)
    lines = {"training": training, **{name: getattr(inspection, name) for name in columns if name != "training"}}
    return CalibrationExport(
        manifest,
        **{name: data_frame(lines[name], columns[name]) for name in columns},
        alphas=inspection.alphas,
        frames=inspection.frames,
    )


def _frames_of(manifest: CalibrationManifest) -> dict[str, Columns]:
    """The frames of the export, with their columns."""
    return LOCALIZATION_FRAMES if manifest.localizes else FRAMES


def constant_part(distance: float, over_clips: float, over_time: float) -> float:
    """The part of a distance from one that all clips and frames share; see :func:`tadaconv.measure.summarise`."""
    return sqrt(max(0.0, distance**2 - over_clips**2 - over_time**2))


PARTS = ("distance", "constant", "over_clips", "over_time")


def by_stage(layers: pd.DataFrame) -> pd.DataFrame:
    """The root mean squares of ``layers`` joined by stage, each factor weighing the same: a line a stage, ``PARTS``."""
    weighed = layers[[*PARTS]].pow(2).mul(layers["num"], axis=0).groupby(layers["stage"]).sum()
    means: pd.DataFrame = weighed.div(layers.groupby("stage")["num"].sum(), axis=0)
    return means.pow(0.5)


def shares(layers: pd.DataFrame) -> dict[str, float] | None:
    """The fractions of the mean square distance that are constant, over clips and over time; None where it is zero."""
    squares = {part: float((layers[part] ** 2 * layers["num"]).sum()) for part in PARTS}
    if squares["distance"] <= 1e-14 * layers["num"].sum():  # float32 rounds alpha to 1e-7
        return None
    return {part: squares[part] / squares["distance"] for part in PARTS[1:]}


def files_of(export: CalibrationExport) -> dict[str, str | bytes]:
    """The files next to ``report.json``, by their names."""
    texts = {f"{name}.csv": as_csv(getattr(export, name)) for name in _frames_of(export.manifest)}
    return {**texts, "alphas.npz": _npz(export.alphas), **strips(export)}


def strips(export: CalibrationExport) -> dict[str, bytes]:
    """The frames of each clip shown, side by side as PNG, by the names of their files."""
    clips = zip(export.clips["frames"], export.frames, strict=True)
    return {str(name): _png(np.concatenate(list(clip), 1)) for name, clip in clips}


def read_calibration(folder: Path | str = ".") -> CalibrationExport:
    """Read the folder of a cell's report; raises :class:`UserError` where it is not one."""
    folder = Path(folder)
    try:
        manifest = CalibrationManifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
        df = {name: read_csv(folder / f"{name}.csv", columns) for name, columns in _frames_of(manifest).items()}
        with np.load(folder / "alphas.npz", allow_pickle=False) as arrays:
            alphas = dict(arrays)
        num_frames = int(manifest.conditions["data"]["num_frames"])
        frames = [np.stack(np.split(_read_png(folder / name), num_frames, 1)) for name in df["clips"]["frames"]]
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no exported report of a trained cell: {error.filename} is missing") from error
    except (BadZipFile, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the report of a trained cell in {folder} is damaged ({reason}); report it again") from error
    return CalibrationExport(manifest, **df, alphas=alphas, frames=frames)


def _npz(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _png(image_HWC: Array) -> bytes:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, image_HWC, format="png", metadata={"Software": None})  # type: ignore[dict-item]
    return buffer.getvalue()


def _read_png(path: Path) -> Array:
    from matplotlib.image import imread

    pixels: Array = np.rint(imread(path, format="png")[:, :, :3] * 255).astype(np.uint8)
    return pixels
