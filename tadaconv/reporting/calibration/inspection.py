"""Inspects a trained cell: loads its weights and passes clips through; the only part that needs torch."""

from collections.abc import Sequence
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
from tadaconv.reporting.calibration.data import QUANTILES, Array, Inspection, constant_part
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
    assert record.result is not None
    experiment, result = record.cell.experiment, record.result
    device = resolve_device("auto")
    precision: Precision = "float32" if precision_of(result.environment) == FLOAT32 else "auto"
    with fixed_threads(device), computing_as(RunOptions(precision=precision), device):
        source = open_source(experiment.data, device)
        model = trained_network(loaded, regime_name, record, out, [len(source.class_names)])
        network, margin = channels_last(model.to(device)).eval(), _margin(experiment.temporal)
        return inspect_network(network, source, num_clips, margin, device, precision)


@torch.no_grad()
def inspect_network(
    model: Host, source: Source, num_clips: int, margin: int, device: torch.device, precision: Precision = "auto"
) -> Inspection:
    """The calibrations of ``model`` for ``num_clips`` validation clips, of each its first view and label.

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
    all_alphas = np.concatenate([layer.alpha.numpy().ravel() for layer in layers])
    if not np.isfinite(all_alphas).all():
        raise UserError("the calibrations of the trained network are non-finite (NaN or inf)")
    low, high = np.quantile(all_alphas, (0.025, 0.975))
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
        views, batch_labels = source.val_batch(part)
        labels += batch_labels.view(len(part), -1)[:, 0].tolist()
        with autocast(device, precision):
            batches.append(calibrations(model, views[:, 0]))
    joined = [replace(same[0], alpha=torch.cat([layer.alpha for layer in same])) for same in zip(*batches, strict=True)]
    return joined, labels


def _chosen(source: Source, labels: list[int]) -> list[int]:
    """Positions in ``labels`` of the clips to show: the first of each family, or of classes where there are none."""
    groups = list(source.families.values()) or [(label,) for label in sorted(set(labels))]
    firsts = [next((at for at, label in enumerate(labels) if label in members), None) for members in groups]
    chosen = [at for at in firsts if at is not None]
    if not source.families:  # of the classes that occur first, not of those with the lowest numbers
        chosen = sorted(sorted(chosen)[:MOST_SHOWN], key=lambda at: labels[at])
    return chosen[:MOST_SHOWN]


def _margin(temporal: Temporal) -> int:
    """How many frames from an end of a clip the context is padded with zeros."""
    assert isinstance(temporal, TAda)
    return sum(k // 2 for k in temporal.context.kernels) if temporal.context.variation == "dynamic" else 0


def _line(layer: LayerCalibration, factor: str, alpha: Tensor, margin: int) -> tuple[Any, ...]:
    """A line of ``layers.csv``."""
    site, parts = layer.site, summarise([alpha.double()])
    inner = alpha[:, :, margin : alpha.shape[2] - margin].double()
    over_inner_time = summarise([inner]).over_time if margin and inner.shape[2] > 1 else nan
    quantiles = np.quantile(alpha.numpy(), list(QUANTILES.values()))
    return (
        site.conv, factor, site.stage, site.block, site.kind, " x ".join(map(str, layer.kernel)), *alpha.shape[1:],
        parts.distance, constant_part(parts.distance, parts.over_clips, parts.over_time), parts.over_clips,
        parts.over_time, over_inner_time, *map(float, quantiles),
    )  # fmt: skip


def _pictures(clip_CTHW: Tensor) -> Array:
    """The frames of a clip as a viewer sees them, (T, H, W, 3), uint8."""
    pixels_TCHW = (clip_CTHW.float() * STD + MEAN).clamp(0, 1).transpose(0, 1)
    height, width = pixels_TCHW.shape[2:]
    if height > LARGEST_FRAME:
        size = (LARGEST_FRAME, max(1, round(width * LARGEST_FRAME / height)))
        pixels_TCHW = F.interpolate(pixels_TCHW, size=size, mode="bilinear", antialias=True, align_corners=False)
    pixels_THWC: Array = (255 * pixels_TCHW).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels_THWC


def trained_network(
    loaded: LoadedTable, regime_name: str, record: CellRecord, out: Path, num_classes: Sequence[int]
) -> Host:
    """The network of a cell with its trained weights; raises :class:`UserError` where there are none that fit.

    Args:
        loaded: the table of the cell.
        regime_name: the regime, as the caller names it.
        record: the cell.
        out: the run folder, which keeps weights.
        num_classes: of each label of its clips.
    """
    cell, path = record.cell, weights_file(out, record.cell.key)
    again = _command(loaded, regime_name, record, out="OTHER", storage=None)  # where it has no result yet
    name = f"{cell.label!r}, seed {cell.experiment.seed}"
    # The weights it started from are overwritten; the file may be gone.
    model = build_model(cell.experiment.but(backbone__weights="", backbone__weights_fingerprint=""), num_classes)
    try:
        model.load_state_dict(load_weights(path, cell.key))
    except UserError as error:
        raise UserError(
            f"{name}: {error}; name the run folder of the machine that trained it with --out, copy it here with tada "
            f"merge, or train the cell again with: {again}"
        ) from error
    except (RuntimeError, AttributeError) as error:
        raise UserError(
            f"{name}: the weights in {path} do not fit the network of this version of tadaconv; train the cell again "
            f"with: {again}"
        ) from error
    return model


def _require_calibration(loaded: LoadedTable, regime_name: str, record: CellRecord) -> None:
    cell = record.cell
    if not isinstance(cell.experiment.temporal, TAda):
        names = [repr(row.name) for row in loaded.table.all_rows if isinstance(row.temporal, TAda)]
        others = f"rows with one: {', '.join(names)}" if names else f"no row of {loaded.name} has one"
        raise UserError(f"row {cell.label!r} has no calibration to inspect; {others}")
    if record.result is None:
        raise UserError(
            f"{cell.label!r}, seed {cell.experiment.seed}, has no result yet ({record.status}); train it with: "
            + _command(loaded, regime_name, record)
        )


def _command(loaded: LoadedTable, regime_name: str, record: CellRecord, **options: object) -> str:
    """The command that trains the cell of ``record``."""
    cell = record.cell
    return loaded.command(regime_name, [cell.experiment], rows=cell.label, seeds=cell.experiment.seed + 1, **options)
