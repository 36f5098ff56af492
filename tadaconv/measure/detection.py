"""Detections in untrimmed videos: suppression of those that overlap, average precision and average recall; NumPy only.

Equal to the protocols of ActivityNet (Caba Heilbron et al., CVPR 2015; ``activitynet/ActivityNet``, ``Evaluation``) and
EPIC-KITCHENS-100 (Damen et al., IJCV 2022; ``epic-kitchens/C2-Action-Detection``), which leave open what comes first
where scores are equal. Here it is what starts earlier, then what ends earlier, then the video of the lower number; of
true segments that overlap equally, the one that starts and then ends earlier. So no result depends on the order of
its input.

Time is in any unit, the same for all spans. tIoU is temporal intersection over union, 0 where both spans are empty.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rule = Literal["official", "authors"]

ACTIVITYNET_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Of ActivityNet and HACS, to the last digit."""
EPIC_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.1, 0.5, 5).tolist())
NUM_DRAWS = 1000
"""Bootstrap samples of an interval."""

_LARGEST_AN = 100


def tiou(first_N2: Floats, second_N2: Floats) -> Floats:
    """Temporal intersection over union of spans, (..., 2) and (..., 2), which are broadcast against each other."""
    shared = np.minimum(first_N2[..., 1], second_N2[..., 1]) - np.maximum(first_N2[..., 0], second_N2[..., 0])
    shared = shared.clip(0)
    united = (first_N2[..., 1] - first_N2[..., 0]) + (second_N2[..., 1] - second_N2[..., 0]) - shared
    overlap: Floats = np.divide(shared, united, out=np.zeros_like(united), where=united > 0)
    return overlap


@dataclass(frozen=True, eq=False)
class Kept:
    """What suppression leaves of the detections of a video, the best first.

    Attributes:
        indices: into the detections, (K,).
        scores: perhaps lowered, (K,), float64.
    """

    indices: Ints
    scores: Floats


def nms(
    spans_N2: ArrayLike, scores_N: ArrayLike, threshold: float, labels: ArrayLike | None = None, most: int | None = None
) -> Kept:
    """Keep a detection unless its tIoU with a better one that is kept is above ``threshold``.

    Args:
        spans_N2: starts and ends, (N, 2).
        scores_N: (N,).
        threshold: in tIoU.
        labels: (N,) or (N, H); detections suppress only those of equal labels. None for all.
        most: how many are kept at most.
    """

    def factors(overlap: Floats, _width: float) -> Floats:
        return np.where(overlap > threshold, -1.0, 1.0)

    return _suppress(spans_N2, scores_N, labels, factors, most)


def soft_nms(
    spans_N2: ArrayLike,
    scores_N: ArrayLike,
    alpha: float,
    labels: ArrayLike | None = None,
    most: int | None = None,
    *,
    exponent: float = 2.0,
    low: float = 0.0,
    high: float = 0.0,
    duration: float = 1.0,
    min_score: float = 0.0,
    loses_last: bool = False,
) -> Kept:
    """Lower the scores of detections that overlap a better one (Bodla et al., ICCV 2017, arXiv:1704.04503).

    The best is kept, the scores of the others are multiplied by ``exp(-tIoU ** exponent / alpha)``, and so on. As in
    BMN (Lin et al., ICCV 2019, arXiv:1907.09702), only scores of those with a tIoU above ``low + (high - low) * width``
    are lowered, where width is that of the best as a share of ``duration``; with the thresholds at 0 it is the plain
    Gaussian, whose sigma is ``alpha``. With an alpha close to 0 it is :func:`nms`.

    Args:
        spans_N2: starts and ends, (N, 2).
        scores_N: (N,), not below 0.
        alpha: the larger, the less scores are lowered.
        labels: (N,) or (N, H); detections lower only scores of those of equal labels. None for all.
        most: how many are kept at most.
        exponent: of tIoU; 2.5 in proposals for HACS by the authors.
        low: the threshold of a detection without width.
        high: the threshold of one as wide as the video.
        duration: of the video, in the unit of the spans.
        min_score: those whose score sinks below are left out.
        loses_last: leave out the detection that is the last one left, of every label, as the authors' loop does.
    """

    def factors(overlap: Floats, width: float) -> Floats:
        lowered = overlap > low + (high - low) * width / duration
        return np.where(lowered, np.exp(-(overlap**exponent) / alpha), 1.0)

    return _suppress(spans_N2, scores_N, labels, factors, most, min_score, loses_last)


def _suppress(
    spans_N2: ArrayLike,
    scores_N: ArrayLike,
    labels: ArrayLike | None,
    factors: Callable[[Floats, float], Floats],
    most: int | None,
    min_score: float = -np.inf,
    loses_last: bool = False,
) -> Kept:
    """Keep the best in turn, and each time multiply the scores of the rest by ``factors``, of their tIoU and its width.

    Those of a negative factor are removed.
    """
    spans, scores = _spans(spans_N2), np.asarray(scores_N, dtype=np.float64)
    groups = _groups(labels, len(spans))
    order = _best_first(groups, scores, spans, groups)
    indices, kept_scores = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for group in np.unique(groups):
        members = order[groups[order] == group]
        own, left = spans[members], scores[members]
        picked: list[int] = []
        lowered: list[float] = []
        while len(left) > loses_last and len(picked) != most:
            best = int(left.argmax())
            if left[best] < min_score:
                break
            picked.append(int(members[best]))
            lowered.append(float(left[best]))
            changed = factors(tiou(own[best], own), float(own[best, 1] - own[best, 0]))
            changed[best] = -1.0
            rest = changed >= 0
            members, own, left = members[rest], own[rest], left[rest] * changed[rest]
        indices.append(np.array(picked, dtype=np.int64))
        kept_scores.append(np.array(lowered))
    chosen, final = np.concatenate(indices), np.concatenate(kept_scores)
    best_first = np.lexsort((groups[chosen], spans[chosen, 1], spans[chosen, 0], -final))[:most]
    return Kept(chosen[best_first], final[best_first])


def _best_first(first_N: Ints, scores_N: Floats, spans_N2: Floats, last_N: Ints) -> Ints:
    """The order by ``first_N``, score, start, end and ``last_N``, of which only scores descend."""
    order = np.argsort(-scores_N)
    small = first_N.astype(np.min_scalar_type(first_N.max(initial=0)))  # numbers of 16 bits are sorted in linear time
    order = order[np.argsort(small[order], kind="stable")]
    same = (np.diff(scores_N[order]) == 0) & (np.diff(first_N[order]) == 0)
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same)) if len(order) else order
    among = order[tied]  # few, as a rule: the others need not be sorted by more
    keys = last_N[among], spans_N2[among, 1], spans_N2[among, 0], -scores_N[among], first_N[among]
    order[tied] = among[np.lexsort(keys)]
    return order


def _spans(spans_N2: ArrayLike) -> Floats:
    return np.asarray(spans_N2, dtype=np.float64).reshape(-1, 2)


def _groups(labels: ArrayLike | None, count: int) -> Ints:
    """A number for each detection, equal where labels are."""
    if labels is None or not count:
        return np.zeros(count, dtype=np.int64)
    columns = np.asarray(labels, dtype=np.int64).reshape(count, -1)
    return np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Instances:
    """The true segments of all videos, in columns.

    Attributes:
        videos: the number of the video of each, from 0, int64 (M,).
        spans: starts and ends, float64 (M, 2).
        labels: the class of each by head, int64 (M, H); -1 for a class that no truth has.
    """

    videos: Ints
    spans: Floats
    labels: Ints

    def __len__(self) -> int:
        return len(self.videos)


@dataclass(frozen=True, eq=False)
class Predictions(Instances):
    """The detections of all videos, in columns.

    Attributes:
        scores: finite, float64 (M,).
    """

    scores: Floats


def in_columns(
    spans: Sequence[ArrayLike], labels: Sequence[ArrayLike], num_heads: int = 1
) -> tuple[Ints, Floats, Ints]:
    """The columns of :class:`Instances`.

    Args:
        spans: starts and ends, (M, 2) by video.
        labels: (M, num_heads) by video, or (M,) of one head.
        num_heads: labels of a segment.
    """
    by_video = [_spans(one) for one in spans]
    columns = [np.asarray(one, dtype=np.int64).reshape(-1, num_heads) for one in labels]
    return (
        np.repeat(np.arange(len(by_video)), [len(one) for one in by_video]),
        np.concatenate([np.zeros((0, 2)), *by_video]),
        np.concatenate([np.zeros((0, num_heads), dtype=np.int64), *columns]),
    )


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """Average precision in percent, of C classes at K thresholds.

    Attributes:
        thresholds: in tIoU, (K,).
        classes: those that occur in the truth, ascending, (C,).
        num_instances: of each class, (C,).
        by_class: of each class at each threshold, (K, C).
        found: whether each true segment was matched at each threshold, (K, M).
        interval: 95 % bootstrap interval over videos of :attr:`mean`; NaN where none was asked for.
        intervals: those of :attr:`by_threshold`, (K, 2).
    """

    thresholds: Floats
    classes: Ints
    num_instances: Ints
    by_class: Floats
    found: NDArray[np.bool_]
    interval: tuple[float, float]
    intervals: Floats

    @property
    def by_threshold(self) -> Floats:
        """The mean over classes at each threshold, (K,)."""
        means: Floats = self.by_class.mean(axis=1)
        return means

    @property
    def mean(self) -> float:
        """The mean over classes and thresholds."""
        return float(self.by_threshold.mean())


def average_precision(
    truth: Instances,
    predictions: Predictions,
    heads: Mapping[str, int],
    thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
    *,
    rule: Rule = "official",
    num_draws: int = 0,
    seed: int = 0,
) -> dict[str, AveragePrecision]:
    """Average precision by head, and of ``action``, all labels at once, where there are several heads.

    By class, each prediction in the order of scores takes the true segment of its video that overlaps it most among
    those that none has taken; it is correct if there is one with a tIoU of at least the threshold. Precision at a
    recall is the highest at that recall or above. Means are over the classes of the truth: predictions of other classes
    do not count. Predictions in videos without true segments are wrong.

    The interval says what the mean would be of as many other videos. It is of a bootstrap over the videos of truth and
    predictions: matching is within a video, so a sample is a weight for each. Classes without a true segment in a
    sample are left out of its mean. Average precision rises where there is less truth, as in samples, in which videos
    repeat: they score several points higher. So the central 95 % of them are moved to have the score as their mean.

    Raises ValueError without true segments, and for thresholds that are not above 0 and at most 1.

    Args:
        truth: the true segments.
        predictions: of the same videos.
        heads: how many classes there are by head, in the order of the columns of labels.
        thresholds: in tIoU.
        rule: of several heads. ``official`` scores every head by all predictions; ``authors``, as the authors' code,
            drops those whose labels never occur together in the truth, of every head.
        num_draws: samples of the bootstrap; 0 for no interval.
        seed: of the bootstrap.
    """
    levels = np.asarray(thresholds, dtype=np.float64)
    if not len(truth):
        raise ValueError("there is no true segment")
    if not len(levels) or not ((levels > 0) & (levels <= 1)).all():
        raise ValueError(f"thresholds of tIoU are above 0 and at most 1, got {levels.tolist()}")
    true_labels, labels = _by_head(truth.labels, heads), _by_head(predictions.labels, heads)
    if rule == "authors":
        (*_, true_action), (*_, action) = true_labels.values(), labels.values()
        counted = np.isin(action, true_action)
        predictions = Predictions(
            predictions.videos[counted], predictions.spans[counted], predictions.labels[counted],
            predictions.scores[counted],
        )  # fmt: skip
        labels = {name: column[counted] for name, column in labels.items()}
    return {
        name: _of_head(truth, true_labels[name], predictions, labels[name], levels, num_draws, seed) for name in labels
    }


def _by_head(labels_MH: Ints, heads: Mapping[str, int]) -> dict[str, Ints]:
    """The labels of each head, and of all at once where there are several."""
    columns = dict(zip(heads, labels_MH.T, strict=True))
    if len(heads) > 1:
        action = np.zeros(len(labels_MH), dtype=np.int64)
        for name, size in heads.items():
            action = action * size + columns[name]
        columns["action"] = np.where((labels_MH < 0).any(axis=1), -1, action)
    return columns


def _of_head(
    truth: Instances,
    true_labels: Ints,
    predictions: Predictions,
    labels: Ints,
    thresholds: Floats,
    num_draws: int,
    seed: int,
) -> AveragePrecision:
    classes, true_places = np.unique(true_labels, return_inverse=True)
    places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    known = np.flatnonzero(classes[places] == labels)
    # By class, and in each the best first.
    order = known[
        _best_first(places[known], predictions.scores[known], predictions.spans[known], predictions.videos[known])
    ]
    places, own_videos = places[order], predictions.videos[order]
    num_videos = int(max(truth.videos.max(), predictions.videos.max(initial=0))) + 1
    true_keys, keys = true_places * num_videos + truth.videos, places * num_videos + own_videos
    correct, found = _match(true_keys, truth.spans, keys, predictions.spans[order], thresholds)
    precision = _Precision(correct, places, len(classes))

    def by_class(weights_V: Floats) -> Floats:
        totals = np.bincount(true_places, weights_V[truth.videos], len(classes))
        with np.errstate(invalid="ignore"):
            return 100 * precision.summed(weights_V[own_videos]) / totals  # NaN: none of the class is in the sample

    videos = np.unique(np.concatenate([truth.videos, predictions.videos]))
    weights = np.ones(num_videos)
    scores = by_class(weights)
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(num_draws):
        weights[videos] = generator.multinomial(len(videos), np.full(len(videos), 1 / len(videos)))
        if weights[truth.videos].any():
            draws.append(np.nanmean(by_class(weights), axis=1))
    levels = scores.mean(axis=1)
    samples = np.array(draws).reshape(-1, len(levels))
    (interval,) = _intervals(samples.mean(axis=1, keepdims=True), levels.mean(keepdims=True)).tolist()
    return AveragePrecision(
        thresholds=thresholds,
        classes=classes,
        num_instances=np.bincount(true_places, minlength=len(classes)),
        by_class=scores,
        found=found,
        interval=tuple(interval),
        intervals=_intervals(samples, levels),
    )


def _intervals(draws_DK: Floats, scores_K: Floats) -> Floats:
    """The central 95 % of the draws, moved so that their mean is the score, (K, 2); NaN without draws."""
    if not len(draws_DK):
        return np.full((len(scores_K), 2), np.nan)
    tails = np.percentile(draws_DK, (2.5, 97.5), axis=0) - draws_DK.mean(axis=0)
    moved: Floats = (scores_K + tails).clip(0, 100).T
    return moved


def _match(
    true_keys: Ints, true_spans: Floats, keys: Ints, spans: Floats, thresholds: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which predictions, the best first, are correct, (K, P), and which true segments are found, (K, M).

    A key is of a video and a class. Of every key at once, the first prediction that overlaps a segment takes the one
    that it overlaps most; then the first of those that overlap one that is left, and so on.
    """
    ranks, members, overlaps = _overlapping(true_keys, true_spans, keys, spans, float(thresholds.min()))
    # A stable order: of segments with equal overlap, the one that starts earlier stays first.
    order = np.lexsort((-overlaps, keys[ranks] * len(keys) + ranks))
    ranks, members, overlaps = ranks[order], members[order], overlaps[order]
    correct = np.zeros((len(thresholds), len(keys)), dtype=bool)
    found = np.zeros((len(thresholds), len(true_keys)), dtype=bool)
    for is_correct, is_found, threshold in zip(correct, found, thresholds, strict=True):
        pairs = np.flatnonzero(overlaps >= threshold)
        while len(pairs):
            first = pairs[np.diff(keys[ranks[pairs]], prepend=-1) != 0]
            is_correct[ranks[first]] = True
            is_found[members[first]] = True
            pairs = pairs[~(is_correct[ranks[pairs]] | is_found[members[pairs]])]
    return correct, found


def _overlapping(
    true_keys: Ints, true_spans: Floats, keys: Ints, spans: Floats, least: float
) -> tuple[Ints, Ints, Floats]:
    """Pairs of a prediction and a true segment of its key with a tIoU of at least ``least``.

    Returns the prediction, the true segment and the tIoU of each; of one prediction, segments that start earlier first.
    """
    order = np.lexsort((true_spans[:, 1], true_spans[:, 0], true_keys))
    true_keys, true_spans = true_keys[order], true_spans[order]
    distinct, firsts, counts = np.unique(true_keys, return_index=True, return_counts=True)
    places = np.searchsorted(distinct, keys).clip(max=len(distinct) - 1)
    members, num_left = firsts[places], np.where(distinct[places] == keys, counts[places], 0)
    ranks = np.arange(len(keys))
    parts = []
    while True:  # in turn the first segment of every key, the second, ...
        there = num_left > 0
        ranks, members, num_left, spans = ranks[there], members[there], num_left[there] - 1, spans[there]
        overlaps = tiou(spans, true_spans[members])
        enough = overlaps >= least
        parts.append((ranks[enough], order[members[enough]], overlaps[enough]))
        if not len(ranks):
            break
        members = members + 1
    first, second, third = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, third


def _count_from_start(values: Ints) -> Ints:
    """The place of each in its stretch of equal values, from 0."""
    new = np.diff(values, prepend=values[:1] - 1) != 0
    starts = np.flatnonzero(new)
    return np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))


class _Precision:
    """Sums of the precision at each correct prediction, for any weights of predictions.

    Args:
        correct_KP: whether each prediction is correct at each threshold, by class and the best first.
        classes_P: of the predictions, ascending.
        num_classes: how many there are.
    """

    def __init__(self, correct_KP: NDArray[np.bool_], classes_P: Ints, num_classes: int) -> None:
        levels, self._places = np.nonzero(correct_KP)
        self._curves = levels * num_classes + classes_P[self._places]
        """The curve of each correct prediction, that of a threshold and a class."""
        self._starts = np.searchsorted(classes_P, classes_P[self._places])
        self._shape = len(correct_KP), num_classes

    def summed(self, weights_P: Floats) -> Floats:
        """Of each threshold and class, the weighted sum of the highest precision there or later, (K, C)."""
        there = weights_P[self._places] > 0
        places, curves, starts = self._places[there], self._curves[there], self._starts[there]
        weights = weights_P[places]
        before = np.append(0.0, weights_P.cumsum())
        hits = np.append(0.0, weights.cumsum())
        precision = (hits[1:] - hits[np.searchsorted(curves, curves)]) / (before[places + 1] - before[starts])
        # The running maximum from the end of each curve: of 1, 2, 4, ... to the right.
        step = 1
        while step < len(curves) and (same := curves[step:] == curves[:-step]).any():
            np.maximum(precision[:-step], np.where(same, precision[step:], 0.0), out=precision[:-step])
            step *= 2
        num_levels, num_classes = self._shape
        sums = np.asarray(np.bincount(curves, weights * precision, num_levels * num_classes), dtype=np.float64)
        return sums.reshape(num_levels, num_classes)


@dataclass(frozen=True, eq=False)
class AverageRecall:
    """Recall of proposals in percent, by the average number of them (AN) in a video, 1 to 100.

    Attributes:
        thresholds: in tIoU, (K,).
        by_threshold: at each threshold and AN, (K, 100).
    """

    thresholds: Floats
    by_threshold: Floats

    def at(self, number: int) -> float:
        """AR@AN, the mean over thresholds with ``number`` proposals in a video on average."""
        return float(self.by_threshold[:, number - 1].mean())

    @property
    def auc(self) -> float:
        """The area under AR from AN 1 to 100 by the trapezoidal rule, in percent of 100: 99 at most."""
        recall = self.by_threshold.mean(axis=0)
        return float((recall[1:] + recall[:-1]).sum() / 2 / _LARGEST_AN)


def average_recall(
    truth: Instances, proposals: Predictions, thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS
) -> AverageRecall:
    """Average recall over AN, by ActivityNet's protocol for proposals; labels do not count.

    With an AN of k, the best ``k * videos / proposals`` of every video's proposals are taken, the same share of each.
    A true segment is found if one of them has a tIoU of at least the threshold; one proposal may find several.

    Raises ValueError without true segments.

    Args:
        truth: the true segments.
        proposals: of the same videos; others count among the proposals that the budget is a share of.
        thresholds: in tIoU.
    """
    if not len(truth):
        raise ValueError("there is no true segment")
    levels = np.asarray(thresholds, dtype=np.float64)
    spans, num_proposals = proposals.spans, len(proposals)
    videos, true_places = np.unique(truth.videos, return_inverse=True)
    order = _best_first(proposals.videos, proposals.scores, spans, proposals.videos)
    order = order[np.isin(proposals.videos[order], videos)]
    turns = _count_from_start(proposals.videos[order])
    there = np.bincount(np.searchsorted(videos, proposals.videos[order]), minlength=len(videos))
    # In the order of the official arithmetic, which truncates.
    budget = float(_LARGEST_AN) * len(videos)
    kept = np.minimum((there * (budget / max(num_proposals, 1))).astype(np.int64), there)
    share = np.arange(1, _LARGEST_AN + 1) / 100.0 * (budget / max(int(kept.sum()), 1))
    taken = np.minimum((kept[:, None] * share).astype(np.int64), kept[:, None])
    ranks, members, overlaps = _overlapping(
        truth.videos, truth.spans, proposals.videos[order], spans[order], float(levels.min())
    )
    # The place of the first proposal that finds it, by threshold and true segment.
    first = np.full((len(levels), len(truth)), num_proposals)
    for level, threshold in enumerate(levels):
        enough = overlaps >= threshold
        np.minimum.at(first[level], members[enough], turns[ranks[enough]])
    found = np.array([(row[:, None] < taken[true_places]).sum(axis=0) for row in first], dtype=np.float64)
    return AverageRecall(levels, 100 * found / len(truth))


@dataclass(frozen=True, eq=False)
class DurationRecall:
    """Recall in percent by the duration of true segments, of B bins at K thresholds.

    Attributes:
        num_instances: true segments of each bin, (B,).
        percent: of them found, (K, B); NaN where there are none.
    """

    num_instances: Ints
    percent: Floats


def recall_by_duration(truth: Instances, found_KM: NDArray[np.bool_], edges: Sequence[float]) -> DurationRecall:
    """Recall by the duration of the true segments.

    Args:
        truth: the true segments.
        found_KM: whether each was found, of :class:`AveragePrecision`.
        edges: ascending limits between the len(edges) + 1 bins; a duration on an edge belongs to the longer ones.
    """
    bins = np.digitize(truth.spans[:, 1] - truth.spans[:, 0], np.asarray(edges, dtype=np.float64))
    counts = np.bincount(bins, minlength=len(edges) + 1)
    found = np.array([np.bincount(bins, row, len(edges) + 1) for row in found_KM])
    percent = 100 * np.divide(found, counts, out=np.full_like(found, np.nan), where=counts > 0)
    return DurationRecall(counts, percent)
