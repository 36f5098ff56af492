"""Evaluation of localization: detections of whole videos, and their mean average precision."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tadaconv.data.segments import Detections
from tadaconv.data.source import SegmentSource
from tadaconv.errors import RunError
from tadaconv.measure.detection import (
    NUM_DRAWS,
    DurationRecall,
    Instances,
    Kept,
    Predictions,
    average_precision,
    average_recall,
    in_columns,
    recall_by_duration,
    soft_nms,
)
from tadaconv.metrics import MEAN_AVERAGE_PRECISION
from tadaconv.models.localizers import Localizer
from tadaconv.result import DetectionScores, DurationScores, OrderBlind
from tadaconv.run_options import Precision
from tadaconv.spec import Localization, Suppression
from tadaconv.training.computing import autocast
from tadaconv.training.ranks import ALONE, Ranks

_NUMBERS = (1, 5, 10, 50, 100)
"""Average numbers of detections a video whose recall is kept."""


@dataclass(frozen=True)
class LocalizationEvaluation:
    """What detections of the validation videos score; ``score`` is the mean over classes and thresholds, in percent."""

    score: float
    loss: float
    num_val: int
    classes: list[str]
    detection: DetectionScores

    def result_fields(self) -> dict[str, Any]:
        """The fields of a :class:`tadaconv.result.Result` that an evaluation gives."""
        return {"metric": MEAN_AVERAGE_PRECISION.name, **vars(self)}


def as_arguments(inputs: Any) -> tuple[Tensor, ...]:
    """What a localizing network takes, of what a source gives: clips, or features with their lengths."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


@torch.no_grad()
def evaluate_localization(
    network: nn.Module,
    localizer: Localizer[Any],
    localization: Localization,
    source: SegmentSource,
    batch_size: int,
    device: torch.device,
    precision: Precision = "auto",
    ranks: Ranks = ALONE,
    clips: Tensor | None = None,
) -> LocalizationEvaluation:
    """Detect in validation videos, ``batch_size`` windows at a time, and score the detections.

    Detections in overlapping windows of a video are pooled before those that overlap are suppressed. Each rank does
    all of it. Raises :class:`RunError` if the loss is not finite.

    Args:
        network: left in the mode it is in.
        localizer: its last part, not compiled.
        localization: how detections are suppressed, and from which tIoU they are right.
        source: the videos.
        batch_size: windows at a time.
        device: where the network is.
        precision: of the forward passes.
        ranks: of the processes that train together.
        clips: int64 indices of the windows to detect in, for the score of their videos; None for all.
    """
    del ranks
    chosen = torch.arange(source.num_val) if clips is None else clips
    was_training = network.training
    network.eval()
    losses, windows = [], []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)  # losses may sample
        for indices in chosen.split(max(1, batch_size)):
            inputs, targets = source.val_batch(indices)
            arguments = as_arguments(inputs)
            if arguments[0].ndim == 6:  # one view
                arguments = (arguments[0][:, 0],)
            with autocast(device, precision):
                outputs = network(*arguments)
                losses.append(float(localizer.loss(outputs, targets)) * len(indices))
            windows += localizer.detect(outputs, source.window_lengths[indices].to(device))
    network.train(was_training)
    loss = math.fsum(losses) / len(chosen)
    if not math.isfinite(loss):
        raise RunError(
            f"the validation loss is {loss}; lower the learning rate or clip the gradient norm (schedule.clip_norm)"
        )
    detections = by_video(chosen, windows, source, localization.suppression)
    truth = source.val_truth()
    videos = source.window_videos[chosen].unique().tolist()
    spans, labels = ([getattr(truth[i], name).cpu() for i in videos] for name in ("spans", "labels"))
    instances = in_columns(spans, labels, len(source.heads))
    true_segments = Instances(np.array(videos)[instances[0]], *instances[1:])
    return summarise(true_segments, detections, source, localization, loss)


def by_video(
    chosen: Tensor, windows: Sequence[Detections], source: SegmentSource, suppression: Suppression
) -> Predictions:
    """The detections of each video, in steps of the video, of all its windows, after suppression.

    Args:
        chosen: which windows, int64 (N,).
        windows: the candidates of each, N.
        source: which windows are of which video.
        suppression: how they are suppressed.
    """
    columns: list[list[NDArray[Any]]] = [[], [], [], []]
    num_heads, videos, starts = len(source.heads), source.window_videos[chosen], source.window_starts[chosen].tolist()
    for video in videos.unique().tolist():
        own = torch.nonzero(videos == video).flatten().tolist()
        spans = np.concatenate([windows[i].spans.cpu().double().numpy() + starts[i] for i in own])
        scores = np.concatenate([windows[i].scores.cpu().double().numpy() for i in own])
        labels = np.concatenate([windows[i].labels.cpu().numpy() for i in own]).reshape(-1, num_heads)
        duration = float(source.video_lengths[video])
        kept = suppress(spans, scores, labels, suppression, duration)
        numbers = np.full(len(kept.indices), video, dtype=np.int64)
        for column, values in zip(
            columns, (numbers, spans[kept.indices], labels[kept.indices], kept.scores), strict=True
        ):
            column.append(values)
    return Predictions(*(np.concatenate(column) for column in columns))


def suppress(
    spans: NDArray[np.float64],
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    suppression: Suppression,
    duration: float,
) -> Kept:
    """Lower the scores of detections that overlap a better one, and keep the best.

    Not by class, it is segments that suppress each other, whatever their classes: a segment with several is as good as
    the best of them, and the scores of all are lowered alike.

    Args:
        spans: of the detections of a video, (N, 2).
        scores: (N,).
        labels: (N, H).
        suppression: how.
        duration: of the video, in the unit of the spans.
    """
    lower = partial(
        soft_nms,
        alpha=suppression.sigma,
        exponent=suppression.exponent,
        low=suppression.low,
        high=suppression.high,
        duration=duration,
    )
    if suppression.by_class or not len(spans):
        return lower(spans, scores, labels=labels, most=suppression.most)
    segments, segment_of = np.unique(spans, axis=0, return_inverse=True)
    best = np.zeros(len(segments))
    np.maximum.at(best, segment_of.reshape(-1), scores)
    kept = lower(segments, best)
    factors = np.zeros(len(segments))
    factors[kept.indices] = kept.scores / np.maximum(best[kept.indices], np.finfo(np.float64).tiny)
    lowered = scores * factors[segment_of.reshape(-1)]
    order = np.lexsort((*labels.T[::-1], spans[:, 1], spans[:, 0], -lowered))[: suppression.most]
    return Kept(order, lowered[order])


def summarise(
    truth: Instances,
    predictions: Predictions,
    source: SegmentSource,
    localization: Localization,
    loss: float,
) -> LocalizationEvaluation:
    """Average precisions and recalls of detections.

    Args:
        truth: the segments of the videos, in steps.
        predictions: the detections in them.
        source: names of classes, and how long a step is.
        localization: the thresholds, and by which rule several labels are scored.
        loss: mean validation loss.
    """
    heads, tious = {head.name: len(head.class_names) for head in source.heads}, localization.tious
    precisions = average_precision(truth, predictions, heads, tious, rule=localization.rule, num_draws=NUM_DRAWS)
    whole = precisions["action"] if len(heads) > 1 else precisions[source.heads[0].name]
    recall = average_recall(truth, predictions, tious)
    lengths = source.step_lengths.numpy()[truth.videos]
    in_units = Instances(truth.videos, truth.spans * lengths[:, None], truth.labels)
    by_duration = recall_by_duration(in_units, whole.found, source.duration_edges)
    by_class: dict[str, list[float]] = {}
    first = 0
    for head in source.heads:
        of_head = precisions[head.name]
        for number, values in zip(of_head.classes.tolist(), of_head.by_class.T.tolist(), strict=True):
            by_class[source.class_names[first + number]] = values
        first += len(head.class_names)
    blind = source.order_blind
    return LocalizationEvaluation(
        score=whole.mean,
        loss=loss,
        num_val=source.num_videos,
        classes=list(source.class_names),
        detection=DetectionScores(
            tious=list(tious),
            by_tiou=whole.by_threshold.tolist(),
            interval=whole.interval,
            by_head={name: of.by_threshold.tolist() for name, of in precisions.items()} if len(heads) > 1 else {},
            by_class=by_class,
            average_recall={number: recall.at(number) for number in _NUMBERS},
            recall_auc=recall.auc,
            num_segments=len(truth),
            unit=source.unit,
            by_duration=_by_duration(by_duration, source.duration_edges),
            order_blind=None if blind is None else OrderBlind(classes=list(blind[0]), **blind[1]._asdict()),
        ),
    )


def _by_duration(recalls: DurationRecall, edges: Sequence[float]) -> list[DurationScores]:
    limits = [0.0, *edges], [*edges, None]
    bins = zip(*limits, recalls.num_instances.tolist(), recalls.percent.T.tolist(), strict=True)
    return [
        DurationScores(shortest=low, longest=high, num_segments=number, recall=recall if number else [])
        for low, high, number, recall in bins
    ]
