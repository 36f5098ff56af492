"""Detections, suppressed and evaluated in columns, next to plain loops over lists and to what follows from algebra."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plain_detection as plain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_detection import Item

from tadaconv.measure import detection
from tadaconv.measure.detection import (
    ACTIVITYNET_THRESHOLDS,
    EPIC_THRESHOLDS,
    AveragePrecision,
    Instances,
    Predictions,
    average_precision,
    average_recall,
    in_columns,
    nms,
    recall_by_duration,
    soft_nms,
    tiou,
)

THRESHOLDS = (0.1, 0.3, 0.5, 0.75, 1.0)
LIMITS = st.integers(0, 6).map(float)
"""Few, so that spans coincide, touch, are empty and overlap equally."""


def items(max_size: int, labels: st.SearchStrategy[int], min_size: int = 0) -> st.SearchStrategy[list[Item]]:
    """Segments of three videos with scores that are often equal."""
    score = st.sampled_from([0.2, 0.5, 0.9]) | st.floats(0, 1)
    one = st.builds(
        lambda video, limits, label, score: Item(video, min(limits), max(limits), label, score),
        st.integers(0, 2), st.tuples(LIMITS, LIMITS), labels, score,
    )  # fmt: skip
    return st.lists(one, min_size=min_size, max_size=max_size)


TRUTH = items(12, st.integers(0, 2), min_size=1)
PREDICTED = items(25, st.integers(-1, 4))


def columns(of: Sequence[Item]) -> Predictions:
    return Predictions(
        np.array([item.video for item in of], dtype=np.int64),
        np.array([(item.start, item.end) for item in of], dtype=np.float64).reshape(-1, 2),
        np.array([[item.label] for item in of], dtype=np.int64).reshape(-1, 1),
        np.array([item.score for item in of], dtype=np.float64),
    )


def arrays(of: Sequence[Item]) -> dict[str, Any]:
    rows = columns(of)
    return {"spans_N2": rows.spans, "scores_N": rows.scores, "labels": rows.labels}


def evaluated(truth: Sequence[Item], predictions: Sequence[Item], **options: Any) -> AveragePrecision:
    (of_head,) = average_precision(
        columns(truth), columns(predictions), {"label": 5}, **{"thresholds": THRESHOLDS, **options}
    ).values()
    return of_head


def random_case(seed: int, num_videos: int, num_true: int, num_predicted: int) -> tuple[list[Item], list[Item]]:
    """Predictions near the truth, some of unknown classes and with equal scores."""
    generator = np.random.default_rng(seed)
    truth = [
        Item(int(generator.integers(num_videos)), start, start + generator.uniform(1, 20), int(generator.integers(6)))
        for start in generator.uniform(0, 80, num_true).tolist()
    ]
    predictions = []
    for _ in range(num_predicted):
        near = truth[int(generator.integers(num_true))]
        start, end = sorted(np.array(near[1:3]) + generator.normal(0, 2, 2))
        label = near.label if generator.random() < 0.8 else int(generator.integers(-1, 9))
        predictions.append(Item(near.video, start, end, label, round(float(generator.random()), 2)))
    return truth, predictions


@given(TRUTH, PREDICTED)
def test_average_precision_is_that_of_plain_loops(truth: list[Item], predictions: list[Item]) -> None:
    ours = evaluated(truth, predictions)
    for level, threshold in enumerate(THRESHOLDS):
        expected = plain.precisions(truth, predictions, threshold)
        assert dict(zip(ours.classes.tolist(), ours.by_class[level].tolist(), strict=True)) == expected
        assert ours.by_threshold[level] == np.mean(list(expected.values()))


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_of_many_predictions_is_that_of_plain_loops(seed: int) -> None:
    truth, predictions = random_case(seed, 5, 60, 600)
    ours = evaluated(truth, predictions, thresholds=ACTIVITYNET_THRESHOLDS)
    for level, threshold in enumerate(ACTIVITYNET_THRESHOLDS):
        assert ours.by_class[level].tolist() == list(plain.precisions(truth, predictions, threshold).values())
    assert 20 < ours.by_class[0].mean() < 95
    assert ours.mean == ours.by_class.mean(axis=1).mean()


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 9))
def test_precision_is_interpolated_at_all_points(correct: list[bool], num_missed: int) -> None:
    num_true = sum(correct) + num_missed
    if not num_true:
        return
    truth = [Item(0, 10.0 * place, 10.0 * place + 1, 0) for place in range(num_true)]
    places = np.where(correct, np.cumsum(correct) - 1, -9).tolist()
    predictions = [Item(0, 10.0 * place, 10.0 * place + 1, 0, 1 - rank / 100) for rank, place in enumerate(places)]
    assert evaluated(truth, predictions).by_class[:, 0] == pytest.approx(plain.official_area(correct, num_true))


@given(TRUTH)
def test_the_truth_scores_100(truth: list[Item]) -> None:
    whole = [item for item in truth if item.end > item.start]
    if whole:
        assert (evaluated(whole, whole).by_class == 100).all()
        assert evaluated(whole, whole, num_draws=20).interval == (100, 100)


def test_an_empty_segment_is_never_found() -> None:
    empty = [Item(0, 1.0, 1.0, 0)]
    assert evaluated(empty, empty).mean == 0


@given(TRUTH, PREDICTED, st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(truth: list[Item], predictions: list[Item], random: Any) -> None:
    mixed, shuffled = random.sample(truth, len(truth)), random.sample(predictions, len(predictions))
    one, other = evaluated(truth, predictions), evaluated(mixed, shuffled)
    assert (one.by_class == other.by_class).all()
    found = [
        sorted((item[:4], of) for item, of in zip(items, scored.found.T.tolist(), strict=True))
        for items, scored in ((truth, one), (mixed, other))
    ]
    assert found[0] == found[1]
    recall, again = (average_recall(columns(t), columns(p)) for t, p in ((truth, predictions), (mixed, shuffled)))
    assert (recall.by_threshold == again.by_threshold).all()


@given(TRUTH, items(20, st.integers(0, 4)), st.permutations(range(5)))
def test_other_numbers_of_classes_change_nothing(
    truth: list[Item], predictions: list[Item], numbers: Sequence[int]
) -> None:
    def renamed(of: list[Item]) -> list[Item]:
        return [item._replace(label=numbers[item.label]) for item in of]

    one, other = evaluated(truth, predictions), evaluated(renamed(truth), renamed(predictions))
    by_number = dict(zip(other.classes.tolist(), other.by_class.T.tolist(), strict=True))
    assert one.by_class.T.tolist() == [by_number[numbers[label]] for label in one.classes.tolist()]


@given(TRUTH, PREDICTED, st.permutations(range(3)))
def test_other_numbers_of_videos_change_nothing_without_ties(
    truth: list[Item], predictions: list[Item], numbers: Sequence[int]
) -> None:
    distinct = [item._replace(score=1 - place / 100) for place, item in enumerate(predictions)]

    def renamed(of: list[Item]) -> list[Item]:
        return [item._replace(video=numbers[item.video]) for item in of]

    assert (evaluated(truth, distinct).by_class == evaluated(renamed(truth), renamed(distinct)).by_class).all()


def test_every_prediction_twice() -> None:
    # The second of each is wrong: of n found in turn, the k-th has a precision of k / (2k - 1), interpolated.
    truth = [Item(video, 0.0, 1.0, 0) for video in range(7)]
    predictions = [item._replace(score=1 - item.video / 10) for item in truth for _ in range(2)]
    expected = 100 * np.mean([k / (2 * k - 1) for k in range(1, 8)])
    assert evaluated(truth, predictions).by_class[:, 0] == pytest.approx(expected)


def test_a_prediction_takes_the_next_best_segment_that_is_left() -> None:
    truth = [Item(0, 0.0, 10.0, 0), Item(0, 2.0, 12.0, 0)]
    predictions = [Item(0, 0.0, 10.0, 0, 0.9), Item(0, 0.5, 10.5, 0, 0.8)]
    assert evaluated(truth, predictions, thresholds=(0.5,)).mean == 100


@given(TRUTH, PREDICTED, st.tuples(*[st.integers(0, 3)] * 3))
def test_weights_are_copies_of_videos(truth: list[Item], predictions: list[Item], weights: tuple[int, ...]) -> None:
    def copied(of: list[Item]) -> list[Item]:
        return [item._replace(video=4 * item.video + copy) for item in of for copy in range(weights[item.video])]

    if not copied(truth):
        return
    predictions = [item._replace(score=1 - place / 100) for place, item in enumerate(predictions)]  # no ties
    expected = evaluated(copied(truth), copied(predictions))
    order = [item for label in range(-1, 5) for item in plain.best_first([p for p in predictions if p.label == label])]
    counted = [item for item in order if item.label in {item.label for item in truth}]
    classes, places = np.unique([item.label for item in truth], return_inverse=True)
    rows, own = columns(counted), np.searchsorted(classes, [item.label for item in counted]).astype(np.int64)
    keys = columns(truth).videos * 9 + places, rows.videos * 9 + own
    correct, _ = detection._match(keys[0], columns(truth).spans, keys[1], rows.spans, np.array(THRESHOLDS))
    by_video = np.array(weights, dtype=np.float64)
    sums = detection._Precision(correct, own, len(classes)).summed(by_video[rows.videos])
    totals = np.bincount(places, by_video[columns(truth).videos], len(classes))
    ours = 100 * sums[:, totals > 0] / totals[totals > 0]
    assert classes[totals > 0].tolist() == expected.classes.tolist()
    assert ours == pytest.approx(expected.by_class, rel=1e-12)


def test_the_interval_is_that_of_samples_of_videos() -> None:
    truth, predictions = random_case(3, 40, 120, 900)
    ours = evaluated(truth, predictions, num_draws=300, seed=1)
    assert ours.interval == evaluated(truth, predictions, num_draws=300, seed=1).interval
    assert ours.interval != evaluated(truth, predictions, num_draws=300, seed=2).interval
    assert np.isnan(evaluated(truth, predictions).interval).all()
    generator = np.random.default_rng(8)
    means = []
    for _ in range(60):
        videos = generator.integers(40, size=40).tolist()
        sample = [[i._replace(video=place) for place, v in enumerate(videos) for i in of if i.video == v]
                  for of in (truth, predictions)]  # fmt: skip
        means.append(evaluated(*sample).mean)
    low, high = np.percentile(means, (2.5, 97.5)) - np.mean(means) + ours.mean
    assert ours.interval == pytest.approx((low, high), abs=0.35 * (high - low))
    assert ours.interval[0] < ours.mean < ours.interval[1]
    assert (ours.intervals[:, 0] <= ours.by_threshold).all()
    assert (ours.intervals[:, 1] >= ours.by_threshold).all()


def test_intervals_cover_the_mean_of_other_videos() -> None:
    # Three in four of them do if samples are not moved: they score higher than the videos that they are drawn from.
    def case(seed: int) -> list[list[Item]]:
        of_six_classes = random_case(seed, 60, 90, 300)
        return [[item._replace(label=item.label + 10 * (item.video % 4)) for item in of] for of in of_six_classes]

    scored = [evaluated(*case(seed), thresholds=(0.5,), num_draws=60) for seed in range(60)]
    expected = np.mean([of.mean for of in scored])
    covered = np.mean([of.interval[0] <= expected <= of.interval[1] for of in scored])
    assert 0.88 <= covered <= 1


def test_verbs_nouns_and_actions_counted_by_hand() -> None:
    # Two true actions, (0, 1) and (2, 1); the predictions find the first, then its verb with another noun, which is
    # wrong for the noun too as its segment is taken, and last the second action.
    truth = Instances(*in_columns([[(0, 10), (20, 30)]], [[(0, 1), (2, 1)]], 2))
    predictions = Predictions(
        *in_columns([[(0, 10), (0, 10), (20, 30)]], [[(0, 1), (0, 3), (2, 1)]], 2), np.array([0.9, 0.8, 0.7])
    )
    heads = {"verb": 97, "noun": 300}
    official = average_precision(truth, predictions, heads, EPIC_THRESHOLDS)
    assert {name: of.mean for name, of in official.items()} == {"verb": 100, "noun": 100, "action": 100}
    assert official["action"].classes.tolist() == [1, 601]
    swapped = replace(predictions, scores=np.array([0.8, 0.9, 0.7]))
    official = average_precision(truth, swapped, heads, EPIC_THRESHOLDS)
    assert {name: of.mean for name, of in official.items()} == {"verb": 100, "noun": 100, "action": 100}
    wrong_first = replace(swapped, labels=np.array([(0, 1), (1, 1), (2, 1)]))  # action (1, 1) is not in the truth
    official = average_precision(truth, wrong_first, heads, EPIC_THRESHOLDS)
    assert {name: of.mean for name, of in official.items()} == {
        "verb": 100, "noun": pytest.approx(100 * (1 + 2 / 3) / 2), "action": 100
    }  # fmt: skip
    # By the authors' rule that prediction is dropped, so the noun of (0, 1) is not found twice.
    authors = average_precision(truth, wrong_first, heads, EPIC_THRESHOLDS, rule="authors")
    assert {name: of.mean for name, of in authors.items()} == {"verb": 100, "noun": 100, "action": 100}


@given(TRUTH, PREDICTED, st.lists(st.integers(-1, 2), min_size=37, max_size=37))
def test_each_head_is_scored_as_if_alone(truth: list[Item], predictions: list[Item], seconds: list[int]) -> None:
    nouns, guessed = np.array(seconds[:12]).clip(0), np.array(seconds[12:])
    rows, guesses = columns(truth), columns(predictions)
    rows = replace(rows, labels=np.c_[rows.labels[:, 0], nouns[: len(rows)]])
    guesses = replace(guesses, labels=np.c_[guesses.labels[:, 0], guessed[: len(guesses)]])
    scored = average_precision(rows, guesses, {"verb": 5, "noun": 3}, THRESHOLDS)
    numbers = {(verb, noun): 3 * verb + noun for verb in range(5) for noun in range(3)}

    def alone(labels: np.ndarray, of: list[Item]) -> list[Item]:
        return [item._replace(label=int(label)) for item, label in zip(of, labels, strict=True)]

    def joint(labels: np.ndarray) -> np.ndarray:
        return np.array([numbers.get((int(verb), int(noun)), -1) for verb, noun in labels])

    for name, own, others in (
        ("verb", rows.labels[:, 0], guesses.labels[:, 0]),
        ("noun", rows.labels[:, 1], guesses.labels[:, 1]),
        ("action", joint(rows.labels), joint(guesses.labels)),
    ):
        for level, threshold in enumerate(THRESHOLDS):
            expected = plain.precisions(alone(own, truth), alone(others, predictions), threshold)
            assert scored[name].by_class[level].tolist() == list(expected.values())


@given(TRUTH, PREDICTED, st.sampled_from([1, 2, 7, 29, 50, 100]))
def test_average_recall_is_that_of_plain_loops(truth: list[Item], proposals: list[Item], number: int) -> None:
    ours = average_recall(columns(truth), columns(proposals), THRESHOLDS)
    expected = [plain.recall_at(truth, proposals, threshold, number) for threshold in THRESHOLDS]
    assert ours.by_threshold[:, number - 1].tolist() == expected
    assert ours.at(number) == np.mean(expected)


@pytest.mark.parametrize("seed", range(3))
def test_average_recall_of_many_proposals(seed: int) -> None:
    truth, proposals = random_case(seed, 4, 40, 700)
    ours = average_recall(columns(truth), columns(proposals))
    for number in (1, 10, 29, 57, 100):
        expected = [plain.recall_at(truth, proposals, threshold, number) for threshold in ACTIVITYNET_THRESHOLDS]
        assert ours.by_threshold[:, number - 1].tolist() == expected
    assert ours.at(1) < ours.at(10) < ours.at(100)


def test_recall_of_one_video_enumerated() -> None:
    # Of four proposals, the second finds one of two segments, and the fourth the other.
    truth = [Item(0, 0.0, 10.0, 0), Item(0, 50.0, 60.0, 1)]
    spans = ((20, 30), (0, 10), (30, 40), (50, 60))
    proposals = [Item(0, start, end, 0, 1 - place / 10) for place, (start, end) in enumerate(spans)]
    ours = average_recall(columns(truth), columns(proposals))
    assert [ours.at(number) for number in (1, 2, 3, 4, 100)] == [0, 50, 50, 100, 100]
    assert ours.auc == pytest.approx((50 / 2 + 50 + (50 + 100) / 2 + 100 * 96) / 100)


@pytest.mark.parametrize("num_videos", [1, 3, 41])
def test_the_area_of_a_perfect_detector_is_99(num_videos: int) -> None:
    truth = [Item(video, 1.0, 2.0 + video, 0) for video in range(num_videos)]
    assert average_recall(columns(truth), columns(truth)).auc == 99


def test_recall_by_duration() -> None:
    truth = [Item(0, 0.0, length, 0) for length in (1.0, 2.0, 3.0, 10.0)]
    found = evaluated(truth, [Item(0, 0.0, 1.0, 0), Item(0, 0.0, 3.0, 0)], thresholds=(0.9, 1.0)).found
    by_bin = recall_by_duration(columns(truth), found, (2.0, 5.0, 8.0))
    assert by_bin.num_instances.tolist() == [1, 2, 0, 1]
    np.testing.assert_array_equal(by_bin.percent, [[100, 50, np.nan, 0]] * 2)


def test_what_cannot_be_evaluated() -> None:
    nothing, something = columns([]), columns([Item(0, 0.0, 1.0, 0)])
    for call in (lambda: average_precision(nothing, nothing, {"label": 1}), lambda: average_recall(nothing, nothing)):
        with pytest.raises(ValueError, match="no true segment"):
            call()
    for thresholds in ((), (0.0, 0.5), (0.5, 1.1), (float("nan"),)):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            average_precision(something, nothing, {"label": 1}, thresholds)
    assert evaluated([Item(0, 0.0, 1.0, 0)], []).mean == 0
    assert average_recall(something, nothing).auc == 0


def test_columns_of_videos() -> None:
    videos, spans, labels = in_columns([[(0, 1), (2, 3)], [], [(4, 5)]], [[(0, 1), (2, 3)], [], [(4, 5)]], 2)
    assert (videos.tolist(), spans.tolist()) == ([0, 0, 2], [[0, 1], [2, 3], [4, 5]])
    assert labels.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert [column.shape for column in in_columns([], [])] == [(0,), (0, 2), (0, 1)]


@given(items(8, st.just(0)), items(8, st.just(0)))
def test_overlap_of_pairs(some: list[Item], others: list[Item]) -> None:
    table = tiou(columns(some).spans[:, None], columns(others).spans)
    assert table.tolist() == [[plain.overlap(one, other) for other in others] for one in some]


def of_one_video(max_size: int, labels: st.SearchStrategy[int], min_size: int = 0) -> st.SearchStrategy[list[Item]]:
    return items(max_size, labels, min_size).map(lambda of: [item._replace(video=0) for item in of])


def kept_items(of: list[Item], kept: detection.Kept) -> list[Item]:
    return [of[index]._replace(score=score) for index, score in zip(kept.indices, kept.scores.tolist(), strict=True)]


@given(
    of_one_video(15, st.just(0)), st.sampled_from([0.05, 0.4, 0.75]), st.sampled_from([2.0, 2.5]),
    st.sampled_from([(0.0, 0.0), (0.25, 0.9), (0.5, 0.9)]), st.booleans(),
)  # fmt: skip
def test_soft_nms_is_that_of_lists(
    of: list[Item], alpha: float, exponent: float, limits: tuple[float, float], keeps_last: bool
) -> None:
    low, high = limits
    # Twice as long, in a video of length two: the share is the same.
    doubled = [item._replace(start=2 * item.start, end=2 * item.end) for item in of]
    kept = soft_nms(
        **arrays(doubled), alpha=alpha, exponent=exponent, low=low, high=high, duration=2, loses_last=not keeps_last
    )
    expected = plain.suppressed(of, alpha, exponent, low, high, keeps_last)
    assert len(kept.indices) == len(expected) == max(len(of) - (not keeps_last), 0)
    assert kept.scores == pytest.approx([item.score for item in expected], rel=1e-9)
    assert sorted(set(kept.indices.tolist())) == sorted(kept.indices.tolist())


@given(of_one_video(15, st.just(0)), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_hard_nms_is_that_of_lists(of: list[Item], threshold: float) -> None:
    assert kept_items(of, nms(**arrays(of), threshold=threshold)) == plain.hard_suppressed(of, threshold)


@given(of_one_video(15, st.just(0)), st.sampled_from([0.0, 0.3, 0.5]))
def test_soft_nms_of_small_alpha_is_hard(of: list[Item], threshold: float) -> None:
    positive = [item._replace(score=item.score + 0.1) for item in of]
    soft = soft_nms(**arrays(positive), alpha=1e-9, low=threshold, high=threshold, min_score=1e-6)
    hard = nms(**arrays(positive), threshold=threshold)
    assert (soft.indices.tolist(), soft.scores.tolist()) == (hard.indices.tolist(), hard.scores.tolist())


@given(of_one_video(15, st.integers(0, 2)))
def test_soft_nms_of_infinite_alpha_sorts(of: list[Item]) -> None:
    kept = kept_items(of, soft_nms(**arrays(of), alpha=float("inf")))
    best_first = sorted(of, key=lambda item: (-item.score, item.start, item.end, item.label))
    assert [item[1:] for item in kept] == [item[1:] for item in best_first]


@given(
    of_one_video(15, st.integers(0, 2)), st.randoms(use_true_random=False), st.booleans(), st.none() | st.integers(1, 6)
)
def test_suppression_does_not_depend_on_the_order_of_its_input(
    of: list[Item], random: Any, loses_last: bool, most: int | None
) -> None:
    shuffled = random.sample(of, len(of))
    options: dict[str, Any] = {"alpha": 0.4, "most": most, "min_score": 0.01, "loses_last": loses_last}
    results = [soft_nms(**arrays(order), **options) for order in (of, shuffled)]
    assert kept_items(of, results[0]) == kept_items(shuffled, results[1])


@given(of_one_video(15, st.integers(0, 2)), st.none() | st.integers(1, 6))
def test_classes_are_suppressed_apart(of: list[Item], most: int | None) -> None:
    parts = [
        kept_items(own, soft_nms(**arrays(own), alpha=0.4)) for label in range(3)
        for own in [[item for item in of if item.label == label]]
    ]  # fmt: skip
    together = kept_items(of, soft_nms(**arrays(of), alpha=0.4, most=most))
    best = sorted((item for part in parts for item in part), key=lambda item: -item.score)
    assert [item.score for item in together] == [item.score for item in best][:most]
    if most is None:
        assert sorted(together) == sorted(best)
    two = np.c_[columns(of).labels, columns(of).labels]  # of two heads: the same groups
    again = soft_nms(columns(of).spans, columns(of).scores, 0.4, two, most)
    assert kept_items(of, again) == together


def test_the_last_detection_is_kept_unless_the_authors_loop_is_wanted() -> None:
    three = [Item(0, 0.0, 1.0, 0, 0.9), Item(0, 5.0, 6.0, 0, 0.1), Item(0, 8.0, 9.0, 1, 0.5)]
    assert soft_nms(**arrays(three), alpha=0.4).indices.tolist() == [0, 2, 1]
    assert soft_nms(**arrays(three), alpha=0.4, loses_last=True).indices.tolist() == [0]
    assert soft_nms(**arrays([]), alpha=0.4, loses_last=True).indices.tolist() == []
    assert nms(**arrays(three[:1]), threshold=0.5).indices.tolist() == [0]


def test_it_needs_no_torch() -> None:
    program = "import sys; import tadaconv.measure.detection; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
