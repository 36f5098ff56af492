"""Evaluation of detections by plain loops: over thresholds, predictions in the order of their scores, and the truth."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Item(NamedTuple):
    """A true segment, or a prediction with its score."""

    video: int
    start: float
    end: float
    label: int
    score: float = 0.0


def overlap(one: Item, other: Item) -> float:
    shared = max(min(one.end, other.end) - max(one.start, other.start), 0.0)
    united = (one.end - one.start) + (other.end - other.start) - shared
    return shared / united if united > 0 else 0.0


def best_first(items: Sequence[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (-item.score, item.start, item.end, item.video))


def precisions(truth: Sequence[Item], predictions: Sequence[Item], threshold: float) -> dict[int, float]:
    """Average precision in percent of each class of the truth, at one threshold."""
    by_class = {}
    for label in sorted({item.label for item in truth}):
        own = [item for item in truth if item.label == label]
        taken = [False] * len(own)
        correct = []
        for prediction in best_first([item for item in predictions if item.label == label]):
            best = None
            for place in sorted(range(len(own)), key=lambda place: own[place][1:3]):
                if own[place].video != prediction.video or taken[place]:
                    continue
                here = overlap(prediction, own[place])
                if here >= threshold and (best is None or here > overlap(prediction, own[best])):
                    best = place
            if best is not None:
                taken[best] = True
            correct.append(best is not None)
        precision = [sum(correct[: rank + 1]) / (rank + 1) for rank in range(len(correct))]
        area = 0.0
        for rank, is_correct in enumerate(correct):
            if is_correct:
                area += max(precision[rank:])
        by_class[label] = 100 * area / len(own)
    return by_class


def official_area(correct: Sequence[bool], num_instances: int) -> float:
    """Average precision in percent from recall and precision, interpolated at all points."""
    hits = np.cumsum(correct)
    recall = np.concatenate([[0.0], hits / num_instances, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1), [0.0]])
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    return 100 * float(sum((recall[1:] - recall[:-1]) * precision[1:]))


def recall_at(truth: Sequence[Item], proposals: Sequence[Item], threshold: float, number: int) -> float:
    """Recall in percent with ``number`` proposals a video on average, the same share of each video's."""
    videos = sorted({item.video for item in truth})
    lists = {video: best_first([item for item in proposals if item.video == video]) for video in videos}
    if not proposals:
        return 0.0
    ratio = 100.0 * len(videos) / len(proposals)
    lists = {video: own[: min(int(len(own) * ratio), len(own))] for video, own in lists.items()}
    total = sum(map(len, lists.values()))
    found = 0
    for item in truth:
        own = lists[item.video]
        count = min(int(len(own) * (number / 100.0 * (100.0 * len(videos) / total))), len(own)) if total else 0
        found += any(overlap(one, item) >= threshold for one in own[:count])
    return 100 * found / len(truth)


def suppressed(
    items: Sequence[Item], alpha: float, exponent: float, low: float, high: float, keeps_last: bool
) -> list[Item]:
    """Soft-NMS on lists, regardless of labels; the scores are those that are left."""
    waiting, kept = best_first(items), []
    while len(waiting) > (0 if keeps_last else 1):
        best = max(waiting, key=lambda item: item.score)
        waiting.remove(best)
        kept.append(best)
        for place, item in enumerate(waiting):
            here = overlap(item, best)
            if here > low + (high - low) * (best.end - best.start):
                factor = float(np.exp(-(here**exponent) / alpha))
                waiting[place] = item._replace(score=item.score * factor)
    return kept


def hard_suppressed(items: Sequence[Item], threshold: float) -> list[Item]:
    kept: list[Item] = []
    for item in best_first(items):
        if all(overlap(item, one) <= threshold for one in kept):
            kept.append(item)
    return kept
