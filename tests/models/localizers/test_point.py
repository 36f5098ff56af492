"""The point localizer against definitions in plain loops: assignment, losses, detections, and videos of any length."""

import math
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tadaconv.data.segments import Segments
from tadaconv.models.localizers import Point
from tadaconv.models.localizers.point import PointOutputs, _distance_iou_loss, _focal_loss

CHANNELS = 5
EMPTY = Segments(torch.zeros(0, 2), torch.zeros(0, 1, dtype=torch.int64))
SHORT = Segments(torch.tensor([[3.2, 4.7]]), torch.tensor([[1]]))


def point_of(num_classes: tuple[int, ...] = (3,), levels: int = 3, seed: int = 0) -> Point:
    """A small one whose parameters are not at their start, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        point = Point(CHANNELS, num_classes, width=8, levels=levels)
        for parameter in point.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return point.eval()


def features_of(num_videos: int, num_steps: int, seed: int = 0) -> Tensor:
    return torch.randn(num_videos, CHANNELS, num_steps, generator=torch.Generator().manual_seed(seed))


def random_truth(seed: int, num_steps: int, num_classes: tuple[int, ...] = (3,), most: int = 5) -> Segments:
    """Segments that overlap, some of equal length; their ends are anywhere or on points."""
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(0, most + 1, (), generator=generator))
    spans = (torch.rand(count, 2, generator=generator) * num_steps).sort(1).values
    spans = torch.where(torch.rand(count, 1, generator=generator) < 0.3, (2 * spans).round() / 2, spans)
    spans = spans[spans[:, 1] > spans[:, 0]]
    labels = [torch.randint(0, n, (len(spans),), generator=generator) for n in num_classes]
    return Segments(spans, torch.stack(labels, 1))


# The pyramid


@given(
    lengths=st.lists(st.integers(1, 21), min_size=1, max_size=4),
    more=st.integers(0, 9),
    fill=st.sampled_from([0.0, 100.0, math.nan]),
    levels=st.integers(1, 4),
)
def test_what_is_said_of_a_video_does_not_depend_on_what_follows_it(
    lengths: list[int], more: int, fill: float, levels: int
) -> None:
    point = point_of(levels=levels)
    features = features_of(len(lengths), max(lengths) + more)
    lengths_N = torch.tensor(lengths)
    beyond = torch.arange(features.shape[2]) >= lengths_N.unsqueeze(1)
    features = features.masked_fill(beyond.unsqueeze(1), fill)
    together = point(features, lengths_N)
    truth = [random_truth(i, length) for i, length in enumerate(lengths)]
    detections = point.detect(together, lengths_N)
    losses = torch.zeros(())
    for i, length in enumerate(lengths):
        alone = point(features[i : i + 1, :, :length], torch.tensor([length]))
        assert alone.is_valid.all()
        valid = together.is_valid[i]
        for ours, theirs in ((together.logits, alone.logits), (together.distances, alone.distances)):
            torch.testing.assert_close(ours[i][valid], theirs[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(together.points[valid], alone.points)
        (detected,) = point.detect(alone, torch.tensor([length]))
        assert len(detected) == len(detections[i])
        torch.testing.assert_close(detected.scores, detections[i].scores, rtol=1e-4, atol=1e-5)
        losses = losses + point.loss(alone, truth[i : i + 1])
    torch.testing.assert_close(point.loss(together, truth), losses, rtol=1e-4, atol=1e-5)


@given(length=st.integers(1, 40), levels=st.integers(1, 6))
def test_points_of_a_level_are_a_stride_apart_from_the_middle_of_the_first_step(length: int, levels: int) -> None:
    outputs = point_of(levels=levels)(features_of(1, length), torch.tensor([length]))
    expected = [(i + 0.5, 2.0**level) for level in range(levels) for i in range(0, length, 2**level)]
    assert list(zip(outputs.points.tolist(), outputs.strides.tolist(), strict=True)) == expected
    assert outputs.logits.shape == (1, len(expected), 3)
    assert (outputs.distances >= 0).all()


def test_the_ranges_of_the_levels_join_up() -> None:
    outputs = point_of(levels=6)(features_of(1, 1), torch.tensor([1]))
    bounds = [0, 4, 8, 16, 32, 64, math.inf]
    assert outputs.ranges.tolist() == [list(pair) for pair in pairwise(bounds)]


def test_every_class_scores_a_hundredth_at_the_start() -> None:
    torch.manual_seed(0)
    outputs = Point(CHANNELS, (3, 4))(features_of(2, 16), torch.tensor([16, 9]))
    torch.testing.assert_close(outputs.logits.sigmoid().mean(), torch.tensor(0.01), rtol=0.2, atol=0)


# Assignment and losses


@given(seed=st.integers(0, 10_000), levels=st.integers(1, 4))
def test_points_are_assigned_as_in_a_loop_over_points_and_segments(seed: int, levels: int) -> None:
    num_classes = (3, 2)
    truth = random_truth(seed, 12, num_classes)
    outputs = point_of(num_classes, levels)(features_of(1, 12), torch.tensor([12]))
    classes, distances, is_positive = point_of(num_classes, levels)._targets(outputs, truth)
    spans, labels = truth.spans.tolist(), truth.labels.tolist()
    for i, (at, stride) in enumerate(zip(outputs.points.tolist(), outputs.strides.tolist(), strict=True)):
        low = 0 if stride == 1 else 2 * stride
        high = math.inf if stride == 2 ** (levels - 1) else 4 * stride
        usable = [
            (end - start, start, end, label)
            for (start, end), label in zip(spans, labels, strict=True)
            if start < at < end
            and abs(at - (start + end) / 2) < 1.5 * stride
            and low <= max(at - start, end - at) < high
        ]
        assert bool(is_positive[i]) == bool(usable)
        if usable:
            length, start, end, (verb, noun) = min(usable, key=lambda segment: segment[0])
            assert distances[i].tolist() == pytest.approx([at - start, end - at], abs=1e-5)
            if sum(segment[0] == length for segment in usable) == 1:
                assert classes[i].nonzero().flatten().tolist() == [verb, 3 + noun]
        else:
            assert not classes[i].any()


def test_segments_of_one_span_and_two_classes_are_both_learned() -> None:
    point = point_of()
    outputs = point(features_of(1, 8), torch.tensor([8]))
    truth = Segments(torch.tensor([[2.0, 5.0], [2.0, 5.0]]), torch.tensor([[0], [2]]))
    classes, _, is_positive = point._targets(outputs, truth)
    assert is_positive.sum() == 3
    assert (classes[is_positive] == torch.tensor([1.0, 0.0, 1.0])).all()


def test_focal_loss_is_its_definition() -> None:
    logits = torch.linspace(-6, 6, 25, dtype=torch.float64)
    for target in (0.0, 1.0):
        losses = _focal_loss(logits, torch.full_like(logits, target))
        for logit, loss in zip(logits.tolist(), losses.tolist(), strict=True):
            p = 1 / (1 + math.exp(-logit))
            p, alpha = (p, 0.25) if target else (1 - p, 0.75)
            assert loss == pytest.approx(-alpha * (1 - p) ** 2 * math.log(p))


@given(st.tuples(*[st.floats(0, 50)] * 2, *[st.floats(0.1, 50)] * 2))
def test_distance_iou_loss_is_that_of_the_spans(distances: tuple[float, float, float, float]) -> None:
    left, right, true_left, true_right = distances
    tensors = torch.tensor([distances[:2]], dtype=torch.float64), torch.tensor([distances[2:]], dtype=torch.float64)
    overlap = min(right, true_right) - max(-left, -true_left)
    hull = max(right, true_right) - min(-left, -true_left)
    iou = overlap / ((right + left) + (true_right + true_left) - overlap)
    middles = (right - left) / 2 - (true_right - true_left) / 2
    assert float(_distance_iou_loss(*tensors)) == pytest.approx(1 - iou + (middles / hull) ** 2)
    assert float(_distance_iou_loss(tensors[1], tensors[1])) == pytest.approx(0)


@pytest.mark.parametrize(
    ("truth", "num_positive"),
    [(EMPTY, 0), (Segments(torch.tensor([[1.6, 1.9]]), torch.tensor([[0]])), 0),
     (Segments(torch.tensor([[1.2, 1.9]]), torch.tensor([[0]])), 1),
     (Segments(torch.tensor([[0.0, 3.0]]), torch.tensor([[0]])), 3)],
    ids=["no segment", "no positive point", "one positive point", "positive points alone"],
)  # fmt: skip
def test_the_loss_is_finite_with_no_one_and_only_positive_points(truth: Segments, num_positive: int) -> None:
    torch.manual_seed(0)
    point = Point(CHANNELS, (3,), width=8, levels=1)
    outputs = point(features_of(1, 3), torch.tensor([3]))
    assert point._targets(outputs, truth)[2].sum() == num_positive
    loss = point.loss(outputs, [truth])
    loss.backward()
    assert loss.isfinite()
    gradients = {name: parameter.grad for name, parameter in point.named_parameters()}
    for name, gradient in gradients.items():
        assert gradient is not None
        assert gradient.isfinite().all()
        of_distances = name.startswith(("distances", "scales"))
        assert bool(gradient.any()) or (of_distances and not num_positive), name


def test_one_short_action_is_learned_in_200_steps() -> None:
    torch.manual_seed(0)
    point = Point(CHANNELS, (3,), width=8, levels=3, positives=1.0)
    optimizer = torch.optim.AdamW(point.parameters(), lr=0.01)
    features, lengths = features_of(1, 16), torch.tensor([16])
    losses = []
    for _ in range(200):
        loss = point.loss(point(features, lengths), [SHORT])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert losses[-1] < 0.1 * losses[0]
    (detected,) = point.eval().detect(point(features, lengths), lengths)
    assert detected.labels[0].tolist() == [1]
    torch.testing.assert_close(detected.spans[0], SHORT.spans[0], rtol=0, atol=0.2)


def test_the_loss_is_over_a_running_count_of_positives_that_a_checkpoint_has() -> None:
    point = Point(CHANNELS, (3,), width=8, levels=3, positives=7.0)
    outputs = point(features_of(1, 16), torch.tensor([16]))
    truth = [Segments(torch.tensor([[2.0, 5.0]]), torch.tensor([[0]]))]  # three points of the first level
    at_first = point.eval().loss(outputs, truth).item() * 7
    assert float(point.state_dict()["num_positives"]) == 7
    count = 7.0
    for _ in range(3):
        count = 0.9 * count + 0.1 * 3
        assert point.train().loss(outputs, truth).item() == pytest.approx(at_first / count)
        assert float(point.state_dict()["num_positives"]) == pytest.approx(count)


def test_several_losses_can_be_added_up_before_the_backward_pass() -> None:
    point = Point(CHANNELS, (3,), width=8, levels=2)
    outputs = point(features_of(1, 8), torch.tensor([8]))
    (point.loss(outputs, [SHORT]) + point.loss(outputs, [EMPTY])).backward()


# Detections


def exact_outputs(truth: Segments, num_steps: int, num_classes: int) -> PointOutputs:
    """What a network says that has learned a video exactly."""
    point = point_of((num_classes,))
    outputs: PointOutputs = point(features_of(1, num_steps), torch.tensor([num_steps]))
    classes, distances, is_positive = point._targets(outputs, truth)
    distances = distances.where(is_positive.unsqueeze(1), 1.0)
    return outputs._replace(logits=(20 * classes - 10).unsqueeze(0), distances=distances.unsqueeze(0))


def test_targets_as_outputs_are_detected_as_the_truth() -> None:
    truth = Segments(torch.tensor([[0.5, 2.0], [4.0, 12.5], [13.0, 16.0]]), torch.tensor([[0], [2], [1]]))
    (detected,) = point_of().detect(exact_outputs(truth, 16, 3), torch.tensor([16]))
    kept = detected.scores > 0.5
    found = {
        (*span, *label)
        for span, label in zip(detected.spans[kept].tolist(), detected.labels[kept].tolist(), strict=True)
    }
    assert found == {(*span, *label) for span, label in zip(truth.spans.tolist(), truth.labels.tolist(), strict=True)}


@pytest.mark.parametrize("num_classes", [(3,), (4, 3), (2, 3, 2), (30, 25)])
def test_the_best_products_of_every_point_are_detected(num_classes: tuple[int, ...]) -> None:
    point = point_of(num_classes, levels=2)
    point.most_detections = 150
    lengths = torch.tensor([7, 4])
    outputs = point(features_of(2, 7), lengths)
    outputs = outputs._replace(logits=outputs.logits - 2)
    for i, detected in enumerate(point.detect(outputs, lengths)):
        expected, least = [], 1e-3 ** len(num_classes)
        for at, valid, (left, right), logits in zip(
            outputs.points.tolist(), outputs.is_valid[i], outputs.distances[i].tolist(), outputs.logits[i], strict=True
        ):
            by_label = [scores.tolist() for scores in logits.sigmoid().split(num_classes)]
            combined = [
                (math.prod(scores[c] for scores, c in zip(by_label, classes, strict=True)), classes)
                for classes in product(*map(range, num_classes))
            ]
            span = (max(at - left, 0), min(at + right, int(lengths[i])))
            expected += [(score, span, classes) for score, classes in sorted(combined, reverse=True)[:20] if valid]
        expected = sorted(((s, *rest) for s, *rest in expected if s > least), key=lambda entry: -entry[0])[:150]
        assert len(detected) == len(expected) > 0
        torch.testing.assert_close(detected.scores, torch.tensor([score for score, *_ in expected]))
        assert (detected.spans[:, 0] < detected.spans[:, 1]).all()
        for span, label, (_, expected_span, classes) in zip(detected.spans, detected.labels, expected, strict=True):
            assert span.tolist() == pytest.approx(expected_span, abs=1e-4)
            assert tuple(label.tolist()) == classes


def test_nothing_is_detected_where_every_score_is_small() -> None:
    point = point_of()
    outputs = point(features_of(1, 4), torch.tensor([4]))
    outputs = outputs._replace(logits=torch.full_like(outputs.logits, -10))
    (detected,) = point.detect(outputs, torch.tensor([4]))
    assert (len(detected), detected.spans.shape, detected.labels.shape) == (0, (0, 2), (0, 1))
