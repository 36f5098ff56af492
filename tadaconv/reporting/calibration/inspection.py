"""Opens the weights of a trained cell and passes clips through; the only part that needs torch."""

from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tadaconv.data import Source, open_source
from tadaconv.data.transforms import MEAN, STD
from tadaconv.environment import environment, resolve_device
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord, weights_file
from tadaconv.experiment import build_model, fixed_threads
from tadaconv.measure.calibration import LayerCalibration, calibrations, inspected_clips, summarise
from tadaconv.models import Host
from tadaconv.nn.frames import channels_last
from tadaconv.reporting.calibration.data import QUANTILES, Array, Inspection, calibrating_rows, constant_part
from tadaconv.run_options import FLOAT32, Precision, RunOptions, precision_of
from tadaconv.spec import TAda, Temporal
from tadaconv.table import LoadedTable
from tadaconv.training import autocast, computing_as
from tadaconv.training.checkpoint import load_weights

MOST_SHOWN = 3
"""Clips whose alpha is shown, side by side."""
LARGEST_FRAME = 112
"""Pixels to which the frames of the clips shown are scaled down."""
_CLIPS_AT_ONCE = 8


def inspect_cell(loaded: LoadedTable, regime_name: str, record: CellRecord, out: Path, num_clips: int) -> Inspection:
    """Pass ``num_clips`` validation clips through the trained network of ``record``.

    Raises :class:`UserError` where there is no such network, or none that calibrates; see
    :func:`tadaconv.reporting.calibration.calibration_report`.
    """
    _require_calibration(loaded, regime_name, record)
    again = _command(loaded, regime_name, record, out="OTHER", storage=None)  # where it has no result yet
    path = weights_file(out, record.cell.key)
    weights = _weights(path, record, again)
    device = resolve_device("auto")
    with fixed_threads(device):
        source = open_source(record.cell.experiment.data, device)
        model = _load(record, weights, len(source.class_names), path, again)
        margin = _margin(record.cell.experiment.temporal)
        assert record.result is not None
        precision: Precision = "float32" if precision_of(record.result.environment) == FLOAT32 else "auto"
        with computing_as(RunOptions(precision=precision), device):
            return inspect_network(channels_last(model.to(device)).eval(), source, num_clips, margin, device, precision)


def _weights(path: Path, record: CellRecord, again: str) -> dict[str, Tensor]:
    """The trained weights of a cell; raises :class:`UserError` where ``path`` does not hold them."""
    try:
        return load_weights(path, record.cell.key)
    except UserError as error:
        raise UserError(
            f"{record.cell.label!r}, seed {record.cell.experiment.seed}: {error}; name the run folder of the machine "
            f"that trained it with --out, bring it here with tada merge, or train the cell anew with: {again}"
        ) from error


@torch.no_grad()
def inspect_network(
    model: Host, source: Source, num_clips: int, margin: int, device: torch.device, precision: Precision = "auto"
) -> Inspection:
    """What the calibrations of ``model`` do to ``num_clips`` validation clips, of each its first view and label.

    The context of ``margin`` frames at either end of a clip reaches beyond it.
    """
    indices = inspected_clips(source.num_val, num_clips)
    layers, labels = _pass_through(model, source, indices, device, precision)
    shown = _chosen(source, labels)
    views, _ = source.val_batch(indices[shown])
    with autocast(device, precision):
        of_first_head = model(views[:, 0]).float()[:, : len(source.heads[0].class_names)]
        probabilities = of_first_head.softmax(1).cpu()
    family_of = {label: name for name, members in source.families.items() for label in members}
    clips = [
        (number, int(indices[at]), source.class_names[labels[at]], family_of.get(labels[at], ""),
         source.class_names[int(scores.argmax())], float(scores.max()), f"clips/clip_{number}.png")
        for number, (at, scores) in enumerate(zip(shown, probabilities, strict=True))
    ]  # fmt: skip
    every = np.concatenate([layer.alpha.numpy().ravel() for layer in layers])
    if not np.isfinite(every).all():
        raise UserError("the trained network makes calibrations that are no finite numbers, which nothing can show")
    low, high = np.quantile(every, (0.025, 0.975))
    return Inspection(
        num_clips=len(indices),
        alpha_low=float(low),
        alpha_high=float(high),
        layers=[_line(layer, name, alpha, margin) for layer in layers for name, alpha in layer.factors().items()],
        clips=clips,
        alphas={
            f"{layer.site.conv}.{name}": alpha[shown].numpy()
            for layer in layers
            for name, alpha in layer.factors().items()
        },
        frames=[_pictures(clip) for clip in views[:, 0]],
        environment=environment(device),
    )


def _pass_through(
    model: Host, source: Source, indices: Tensor, device: torch.device, precision: Precision
) -> tuple[list[LayerCalibration], list[int]]:
    """The calibrations of every layer for the clips at ``indices``, and the labels of these: the first of several."""
    batches, labels = [], []
    for part in indices.split(_CLIPS_AT_ONCE):
        views, found = source.val_batch(part)
        labels += found.view(len(found), -1)[:, 0].tolist()
        with autocast(device, precision):
            batches.append(calibrations(model, views[:, 0]))
    joined = [replace(same[0], alpha=torch.cat([layer.alpha for layer in same])) for same in zip(*batches, strict=True)]
    return joined, labels


def _chosen(source: Source, labels: list[int]) -> list[int]:
    """Positions in ``labels`` of the clips to show: the first of each family, or of classes where there are none."""
    groups = list(source.families.values()) or [(label,) for label in sorted(set(labels))]
    firsts = [next((at for at, label in enumerate(labels) if label in members), None) for members in groups]
    found = [at for at in firsts if at is not None]
    if not source.families:  # those of classes that come up first, not those with the lowest numbers
        found = sorted(sorted(found)[:MOST_SHOWN], key=lambda at: labels[at])
    return found[:MOST_SHOWN]


def _margin(temporal: Temporal) -> int:
    """At how many frames from an end of a clip its end is seen by the context, which pads with zeros."""
    assert isinstance(temporal, TAda)
    return sum(k // 2 for k in temporal.context.kernels) if temporal.context.variation == "dynamic" else 0


def _line(layer: LayerCalibration, factor: str, alpha: Tensor, margin: int) -> tuple[Any, ...]:
    """A line of ``layers.csv``."""
    site, found = layer.site, summarise([alpha.double()])
    inner = alpha[:, :, margin : alpha.shape[2] - margin].double()
    over_inner_time = summarise([inner]).over_time if margin and inner.shape[2] > 1 else nan
    quantiles = np.quantile(alpha.numpy(), list(QUANTILES.values()))
    return (
        site.conv, factor, site.stage, site.block, site.kind, " x ".join(map(str, layer.kernel)), *alpha.shape[1:],
        found.distance, constant_part(found.distance, found.over_clips, found.over_time), found.over_clips,
        found.over_time, over_inner_time, *map(float, quantiles),
    )  # fmt: skip


def _pictures(clip_CTHW: Tensor) -> Array:
    """The frames of a clip as a viewer sees them, (T, H, W, 3), uint8."""
    pixels_TCHW = (clip_CTHW.float() * STD + MEAN).clamp(0, 1).transpose(0, 1)
    height, width = pixels_TCHW.shape[2:]
    if height > LARGEST_FRAME:
        size = (LARGEST_FRAME, max(1, round(width * LARGEST_FRAME / height)))
        pixels_TCHW = F.interpolate(pixels_TCHW, size=size, mode="bilinear", antialias=True, align_corners=False)
    found: Array = (255 * pixels_TCHW).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return found


def _load(record: CellRecord, weights: dict[str, Tensor], num_classes: int, path: Path, again: str) -> Host:
    """The network of a cell with its trained ``weights``; raises :class:`UserError` where they do not fit."""
    experiment = record.cell.experiment
    # What it started from is overwritten; the file may be gone.
    bare = experiment.but(backbone__weights="", backbone__weights_fingerprint="")
    model = build_model(bare, num_classes)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, AttributeError) as error:
        raise UserError(
            f"the weights in {path} do not fit the network that this version of tadaconv builds for "
            f"{record.cell.label!r}; train the cell anew with: {again}"
        ) from error
    return model


def _require_calibration(loaded: LoadedTable, regime_name: str, record: CellRecord) -> None:
    cell = record.cell
    if not isinstance(cell.experiment.temporal, TAda):
        others = ", ".join(map(repr, calibrating_rows(loaded.table)))
        raise UserError(
            f"row {cell.label!r} calibrates nothing, so there is nothing to look at; "
            + (f"rows of {loaded.name} that do: {others}" if others else f"no row of {loaded.name} does")
        )
    if record.result is None:
        raise UserError(
            f"{cell.label!r}, seed {cell.experiment.seed}, has no result yet ({record.status}); train it with: "
            + _command(loaded, regime_name, record)
        )


def _command(loaded: LoadedTable, regime_name: str, record: CellRecord, **options: object) -> str:
    """What trains the cell of ``record``."""
    cell = record.cell
    return loaded.command(regime_name, [cell.experiment], rows=cell.label, seeds=cell.experiment.seed + 1, **options)
