"""What the report of a trained cell is made from, in memory or in its folder; needs no torch.

The folder holds everything a colleague needs to execute the notebook again, in files that need no tadaconv to be read.
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
from pydantic import Field

from tadaconv.discovery import plain_name
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord
from tadaconv.reporting.core.export import (
    TEXT,
    CellOrigin,
    Columns,
    ReportManifest,
    as_csv,
    data_frame,
    origin,
    read_csv,
    shared_conditions,
)
from tadaconv.spec import TAda
from tadaconv.table import LoadedTable, Table

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
    "epoch": "int64",
    "stage": TEXT,
    "distance": "float64",
    "over_time": "float64",
    "over_clips": "float64",
}

Array = NDArray[Any]


class CalibrationManifest(ReportManifest):
    """``report.json`` of a trained cell's report: all that is not in its other files."""

    table: str = Field(description="Name of the table's file.")
    question: str = Field(description="The table's docstring; its first paragraph is the question.")
    regime: str
    row: str
    seed: int
    top1: float = Field(description="Validation top-1 of the cell, in percent.")
    seconds: float = Field(description="Wall time of its training and evaluation.")
    num_clips: int = Field(description="Validation clips that were passed through the network.")
    alpha_low: float = Field(description="2.5 % of all alphas are lower: over clips, layers, frames and channels.")
    alpha_high: float = Field(description="2.5 % of all alphas are higher.")
    conditions: dict[str, Any] = Field(description="Backbone, data and schedule of the cell.")
    cells: list[CellOrigin] = Field(description="The cell alone.")
    opened_with: dict[str, str] = Field(description="Device and versions that opened the weights.")


@dataclass(frozen=True)
class CalibrationExport:
    """What was seen in a trained network.

    Attributes:
        manifest: what it is.
        layers: a line for each adaptive layer and factor of its calibration, first to last, ``LAYER_COLUMNS``:
            ``num`` numbers a frame, ``num_frames`` frames of the layer's input; root mean squares as in
            :class:`tadaconv.result.StageCalibration` and of what is ``constant``; ``over_inner_time`` is ``over_time``
            over the frames whose context lies within the clip alone, and not known where there are not two of these
            or where a context looks at no other frame; quantiles of alpha.
        clips: a line for each clip that is shown, ``CLIP_COLUMNS``: ``index`` in the validation set, and the
            probability that the network gives to what it takes the clip for.
        training: a line an epoch and stage, ``TRAINING_COLUMNS``; empty for results from before it was recorded.
        alphas: by ``<layer>.<factor>``, alpha of the clips shown, (clips, num, num_frames), float32.
        frames: for each clip shown, its frames, (T, H, W, 3), uint8.
    """

    manifest: CalibrationManifest
    layers: pd.DataFrame
    clips: pd.DataFrame
    training: pd.DataFrame
    alphas: dict[str, Array]
    frames: list[Array]


@dataclass(frozen=True)
class Inspection:
    """What was seen in a network; see :class:`CalibrationExport`."""

    num_clips: int
    alpha_low: float
    alpha_high: float
    layers: list[tuple[Any, ...]]
    clips: list[tuple[Any, ...]]
    alphas: dict[str, Array]
    frames: list[Array]
    environment: dict[str, str]


def collect(loaded: LoadedTable, regime_name: str, record: CellRecord, seen: Inspection) -> CalibrationExport:
    """Arrange what was seen in the network of ``record``."""
    assert record.result is not None
    cell = record.cell
    manifest = CalibrationManifest(
        table=loaded.name,
        question=loaded.question,
        regime=plain_name(regime_name),
        row=cell.label,
        seed=cell.experiment.seed,
        top1=record.result.top1,
        seconds=record.result.seconds,
        num_clips=seen.num_clips,
        alpha_low=seen.alpha_low,
        alpha_high=seen.alpha_high,
        conditions=shared_conditions([cell.experiment]),
        cells=[origin(record)],
        opened_with={name: seen.environment[name] for name in ("device", "tadaconv", "torch")},
    )
    training = [
        (point.epoch, stage, each.distance, each.over_time, each.over_clips)
        for point in record.result.curve
        for stage, each in point.calibration.items()
    ]
    return CalibrationExport(
        manifest,
        data_frame(seen.layers, LAYER_COLUMNS),
        data_frame(seen.clips, CLIP_COLUMNS),
        data_frame(training, TRAINING_COLUMNS),
        seen.alphas,
        seen.frames,
    )


def calibrating_rows(table: Table) -> list[str]:
    """The rows of a table that plug in an adaptive convolution."""
    return [row.name for row in table.all_rows if isinstance(row.temporal, TAda)]


def constant_part(distance: float, over_clips: float, over_time: float) -> float:
    """What of a distance from one is the same for every clip and frame; see :func:`tadaconv.measure.summarise`."""
    return sqrt(max(0.0, distance**2 - over_clips**2 - over_time**2))


PARTS = ("distance", "constant", "over_clips", "over_time")


def by_stage(layers: pd.DataFrame) -> pd.DataFrame:
    """The root mean squares of ``layers`` joined by stage, each factor weighing the same: a line a stage, ``PARTS``."""
    weighed = layers[[*PARTS]].pow(2).mul(layers["num"], axis=0).groupby(layers["stage"]).sum()
    found: pd.DataFrame = weighed.div(layers.groupby("stage")["num"].sum(), axis=0).pow(0.5)
    return found


def shares(layers: pd.DataFrame) -> dict[str, float] | None:
    """What part of the mean square distance from one is constant, over clips and over time; None where it is zero."""
    squares = {part: float((layers[part] ** 2 * layers["num"]).sum()) for part in PARTS}
    if squares["distance"] <= 1e-14 * layers["num"].sum():  # float32 rounds alpha to 1e-7
        return None
    return {part: squares[part] / squares["distance"] for part in PARTS[1:]}


def files_of(export: CalibrationExport) -> dict[str, str | bytes]:
    """The files beside ``report.json``, by their names."""
    texts = {
        "layers.csv": as_csv(export.layers),
        "clips.csv": as_csv(export.clips),
        "training.csv": as_csv(export.training),
    }
    return {**texts, "alphas.npz": _npz(export.alphas), **strips(export)}


def strips(export: CalibrationExport) -> dict[str, bytes]:
    """The frames of each clip shown, side by side as PNG, by the names of their files."""
    clips = zip(export.clips["frames"], export.frames, strict=True)
    return {str(name): _png(np.concatenate(list(clip), 1)) for name, clip in clips}


def read_calibration(folder: Path | str = ".") -> CalibrationExport:
    """Read back what the folder of a cell's report holds; raises :class:`UserError` where it is not one."""
    folder = Path(folder)
    try:
        manifest = CalibrationManifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
        layers = read_csv(folder / "layers.csv", LAYER_COLUMNS)
        clips = read_csv(folder / "clips.csv", CLIP_COLUMNS)
        training = read_csv(folder / "training.csv", TRAINING_COLUMNS)
        with np.load(folder / "alphas.npz", allow_pickle=False) as kept:
            alphas = {name: kept[name] for name in kept.files}
        num_frames = int(manifest.conditions["data"]["num_frames"])
        frames = [_cut(_read_png(folder / name), num_frames) for name in clips["frames"]]
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no exported report of a trained cell: {error.filename} is missing") from error
    except (BadZipFile, ValueError, KeyError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"{folder} holds no whole report of a trained cell ({said}); report it again") from error
    return CalibrationExport(manifest, layers, clips, training, alphas, frames)


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


def _cut(strip_HWC: Array, num_frames: int) -> Array:
    return np.stack(np.split(strip_HWC, num_frames, 1))
