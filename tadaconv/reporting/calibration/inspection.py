"""Inspects a trained cell: loads its weights and passes clips through; the only part that needs torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tadaconv.data import Source, open_source
from tadaconv.data.segments import Segments
from tadaconv.data.source import SegmentSource
from tadaconv.data.transforms import MEAN, STD
from tadaconv.environment import environment, resolve_device
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord, weights_file
from tadaconv.experiment import build_model, fixed_threads
from tadaconv.measure.calibration import LayerCalibration, calibrations, inspected_clips, summarise
from tadaconv.measure.detection import NUM_DRAWS, Predictions, tiou
from tadaconv.models import Host
from tadaconv.models.localizing import LocalizingNetwork
from tadaconv.nn.frames import channels_last
from tadaconv.reporting.calibration.data import PLACES, QUANTILES, Array, Inspection, constant_part
from tadaconv.run_options import FLOAT32, Precision, RunOptions, precision_of
from tadaconv.spec import Features, Suppression, TAda, Temporal
from tadaconv.table import LoadedTable
from tadaconv.training import autocast, computing_as
from tadaconv.training.checkpoint import load_weights
from tadaconv.training.localization import by_video

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
        num_classes = [len(head.class_names) for head in source.heads]
        model = trained_network(loaded, regime_name, record, out, num_classes)
        network, margin = channels_last(model.to(device)).eval(), _margin(experiment.temporal)
        suppression = None if experiment.localization is None else experiment.localization.suppression
        return inspect_network(network, source, num_clips, margin, device, precision, suppression)


@torch.no_grad()
def inspect_network(
    model: Host,
    source: Source,
    num_clips: int,
    margin: int,
    device: torch.device,
    precision: Precision = "auto",
    suppression: Suppression | None = None,
) -> Inspection:
    """The calibrations of ``model`` for ``num_clips`` validation clips, of each its first view and label.

    Args:
        model: in evaluation mode.
        source: the clips.
        num_clips: how many at most.
        margin: the context of so many frames at either end of a clip reaches beyond it.
        device: where the network is.
        precision: of the forward passes.
        suppression: of detections, for a network that localizes.
    """
    indices = inspected_clips(source.num_val, num_clips)
    layers, targets = _pass_through(model, source, indices, device, precision)
    localizes = isinstance(model, LocalizingNetwork)
    shown = _with_most_classes(targets) if localizes else _chosen(source, targets)
    views, _ = source.val_batch(indices[shown])
    with autocast(device, precision):
        outputs = model(views[:, 0])
    files = [f"clips/clip_{number}.png" for number in range(len(shown))]
    of_localization: dict[str, list[tuple[Any, ...]]] = {}
    clips: list[tuple[Any, ...]]
    if isinstance(model, LocalizingNetwork):
        assert model.backbone is not None
        assert suppression is not None
        assert isinstance(source, SegmentSource)
        candidates = model.localizer.detect(outputs, source.window_lengths[indices[shown]].to(device))
        detected = by_video(indices[shown], candidates, source, suppression)
        truth = {int(indices[at]): targets[at] for at in shown}
        clips = [(number, index, files[number]) for number, index in enumerate(truth)]
        of_localization = {
            "segments": _segments(detected, truth, source.heads[0].class_names, model.backbone.window),
            "changes": [
                line for layer in layers for line in _changes(layer, targets, views.shape[3] // model.backbone.window)
            ],
        }
    else:
        probabilities = outputs.float()[:, : len(source.heads[0].class_names)].softmax(1).cpu()
        family_of = {label: name for name, members in source.families.items() for label in members}
        clips = [
            (number, int(indices[at]), source.class_names[targets[at]], family_of.get(targets[at], ""),
             source.class_names[int(scores.argmax())], float(scores.max()), files[number])
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
        **of_localization,
    )


def _pass_through(
    model: Host, source: Source, indices: Tensor, device: torch.device, precision: Precision
) -> tuple[list[LayerCalibration], list[Any]]:
    """The calibrations of every layer for the clips at ``indices``, and the labels of these: the first of several.

    Of untrimmed clips it is their :class:`Segments`.
    """
    batches: list[list[LayerCalibration]] = []
    targets: list[Any] = []
    for part in indices.split(_CLIPS_AT_ONCE):
        views, of_part = source.val_batch(part)
        targets += of_part if isinstance(of_part, list) else of_part.view(len(part), -1)[:, 0].tolist()
        with autocast(device, precision):
            batches.append(calibrations(model, views[:, 0]))
    joined = [replace(same[0], alpha=torch.cat([layer.alpha for layer in same])) for same in zip(*batches, strict=True)]
    return joined, targets


def _chosen(source: Source, labels: list[int]) -> list[int]:
    """Positions in ``labels`` of the clips to show: the first of each family, or of classes where there are none."""
    groups = list(source.families.values()) or [(label,) for label in sorted(set(labels))]
    firsts = [next((at for at, label in enumerate(labels) if label in members), None) for members in groups]
    chosen = [at for at in firsts if at is not None]
    if not source.families:  # of the classes that occur first, not of those with the lowest numbers
        chosen = sorted(sorted(chosen)[:MOST_SHOWN], key=lambda at: labels[at])
    return chosen[:MOST_SHOWN]


def _with_most_classes(truth: Sequence[Segments]) -> list[int]:
    """Positions in ``truth`` of the clips to show: those whose segments are of most classes, the first of them."""
    num_classes = [len(segments.labels[:, 0].unique()) for segments in truth]
    return sorted(range(len(truth)), key=lambda at: -num_classes[at])[:MOST_SHOWN]


def _segments(
    detected: Predictions, truth: Mapping[int, Segments], names: Sequence[str], window: int
) -> list[tuple[Any, ...]]:
    """The lines of ``segments.csv``: of each clip its true segments, then twice as many of the best detections.

    Args:
        detected: in the clips shown, the best of each first, in steps.
        truth: the segments of each clip, by its number.
        names: of the classes.
        window: frames of a step.
    """
    lines: list[tuple[Any, ...]] = []
    for clip, (index, segments) in enumerate(truth.items()):
        spans, labels = segments.spans.cpu().double().numpy(), segments.labels[:, 0].cpu().numpy()
        true = zip(labels.tolist(), (spans * window).tolist(), strict=True)
        lines += [(clip, "true", names[label], *span, nan, nan) for label, span in true]
        for number in np.flatnonzero(detected.videos == index)[: 2 * len(segments)]:
            label, span = int(detected.labels[number, 0]), detected.spans[number]
            best = float(tiou(span, spans[labels == label]).max(initial=0.0))
            lines.append(
                (clip, "detected", names[label], *(span * window).tolist(), float(detected.scores[number]), best)
            )
    return lines


def places_of_pairs(spans_M2: Array, num_frames: int) -> Array:
    """Where each pair of neighbouring frames, (t, t + 1), is: numbers of ``PLACES``, int64.

    A start or end is within the pair that is before and behind it. Of other pairs the middle counts. Spans are starts
    and ends of the true segments, in frames; frame t spans [t, t + 1].
    """
    middles = np.arange(1, num_frames)  # of pairs, where one frame ends and the next begins
    starts, ends = spans_M2[:, :1], spans_M2[:, 1:]
    offsets = spans_M2.reshape(-1, 1) - middles
    is_boundary = ((offsets > -0.5) & (offsets <= 0.5)).any(0)
    is_inside = ((middles > starts) & (middles < ends)).any(0)
    return np.where(is_boundary, 0, np.where(is_inside, 1, 2))


def _changes(layer: LayerCalibration, truth: Sequence[Segments], num_steps: int) -> list[tuple[Any, ...]]:
    """The lines of ``changes.csv`` of a layer.

    Args:
        layer: with alpha of all inspected clips.
        truth: the segments of these, in steps.
        num_steps: of a clip.
    """
    num_frames = layer.alpha.shape[2]
    spans_of = [segments.spans.cpu().double().numpy() * (num_frames / num_steps) for segments in truth]
    places_NT = np.stack([places_of_pairs(spans_M2, num_frames) for spans_M2 in spans_of])
    weights_KN = np.random.default_rng(0).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), NUM_DRAWS)
    lines = []
    for factor, alpha_NDT in layer.factors().items():
        changes_NT = alpha_NDT.double().diff(dim=2).abs().mean(1).numpy()
        for number, place in enumerate(PLACES):
            is_here = places_NT == number
            sums, counts = (changes_NT * is_here).sum(1), is_here.sum(1)
            with np.errstate(invalid="ignore"):  # there may be no such pair
                mean = sums.sum() / counts.sum()
                drawn = (weights_KN @ sums) / (weights_KN @ counts)
            low, high = np.nanquantile(drawn, (0.025, 0.975)) if counts.any() else (nan, nan)
            lines.append((layer.site.conv, factor, place, float(mean), float(low), float(high), int(counts.sum())))
    return lines


def _margin(temporal: Temporal) -> int:
    """How many frames from an end of a clip the context is padded with zeros."""
    assert isinstance(temporal, TAda)
    return sum(k // 2 for k in temporal.context.kernels) if temporal.context.variation == "dynamic" else 0


def _line(layer: LayerCalibration, factor: str, alpha: Tensor, margin: int) -> tuple[Any, ...]:
    """A line of ``layers.csv``."""
    site, parts = layer.site, summarise([alpha.double()])
    inner = alpha[..., margin : alpha.shape[2] - margin].double()
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
    if isinstance(cell.experiment.data, Features):
        raise UserError(
            f"row {cell.label!r} localizes on features of a disk, and whatever calibrated is in the network that made "
            "them: there is no calibration to inspect"
        )
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
