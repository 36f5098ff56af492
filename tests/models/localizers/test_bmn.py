"""BMN: labels, losses and proposals against loops over steps and cells; shorter videos; classes."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadaconv.data.segments import Detections, Segments
from tadaconv.models.localizers import BMN
from tadaconv.models.localizers import bmn as module
from tadaconv.models.localizers.bmn import BMNOutputs

TINY: dict[str, Any] = {"num_samples": 3, "widths": (8, 12, 6), "groups": 2}
CONVENTIONS = ("meaning", "authors")


def network(steps: int = 8, duration: int = 6, num_classes: tuple[int, ...] = (3,), **options: Any) -> BMN:
    return BMN(4, num_classes, steps, duration, **TINY, **options).double()


def segments(*spans: tuple[float, float], labels: list[list[int]] | None = None, heads: int = 1) -> Segments:
    given = labels or [[0] * heads for _ in spans]
    return Segments(torch.tensor(spans).reshape(-1, 2).float(), torch.tensor(given).reshape(-1, heads).long())


def random_outputs(model: BMN, lengths: list[int], heads: tuple[int, ...] = (3,)) -> BMNOutputs:
    n, t, d = len(lengths), model.num_steps, model.max_duration
    maps = torch.rand(4, n, d, t, dtype=torch.float64)
    logits = tuple(torch.randn(n, k, t if model.fusion == "snippet" else 1, dtype=torch.float64) * 3 for k in heads)
    return BMNOutputs(maps[0, :, 0], maps[1, :, 0], maps[2], maps[3], logits, torch.tensor(lengths))


@st.composite
def truths(draw: st.DrawFn, steps: int, heads: int = 1, classes: int = 3) -> Segments:
    """Segments on and off the grid, some beyond its ends."""
    spans, labels = [], []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(-8, 4 * steps)) / 4
        spans.append((start, start + draw(st.integers(1, 4 * steps)) / 4))
        labels.append([draw(st.integers(0, classes - 1)) for _ in range(heads)])
    return segments(*spans, labels=labels, heads=heads)


def shared(a: tuple[float, float], b: tuple[float, float]) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def clipped(truth: Segments, length: int) -> list[tuple[float, float, int]]:
    found = []
    for (start, end), label in zip(truth.spans.tolist(), truth.labels[:, 0].tolist(), strict=True):
        first, last = min(max(start, 0.0), length), min(max(end, 0.0), length)
        if first < last:
            found.append((first, last, label))
    return found


@settings(max_examples=60)
@given(truths(8), st.integers(1, 8), st.sampled_from(CONVENTIONS))
def test_labels_are_those_of_loops(truth, length, conventions):
    model = network(conventions=conventions)
    targets, actions = model.targets(truth, length), clipped(truth, length)
    margin = 0.5 if conventions == "authors" else 0
    for i in range(8):
        anchor = (i - margin, i + 1 + margin)
        size = anchor[1] - anchor[0]
        starts = [shared(anchor, (a - 1.5, a + 1.5)) / size for a, _, _ in actions]
        ends = [shared(anchor, (b - 1.5, b + 1.5)) / size for _, b, _ in actions]
        assert targets.starts[i].item() == pytest.approx(max(starts, default=0), abs=1e-12)
        assert targets.ends[i].item() == pytest.approx(max(ends, default=0), abs=1e-12)
        for k in range(3):
            covered = [shared((i, i + 1), (a, b)) for a, b, label in actions if label == k]
            assert targets.covered[0][k, i].item() == pytest.approx(max(covered, default=0), abs=1e-12)
        for d in range(6):
            cell, best = (i, i + d + 1), 0.0
            for a, b, _ in actions:
                both = shared(cell, (a, b))
                best = max(best, both / (d + 1 + b - a - both))
            assert targets.overlaps[d, i].item() == pytest.approx(best, abs=1e-12)


@given(st.integers(0, 7), st.integers(1, 6))
def test_one_action_on_the_grid(start, duration):
    end = min(start + duration, 8)
    targets = network().targets(segments((start, end)), 8)
    for s in range(8):
        for d in range(6):
            both, union = max(0, min(s + d + 1, end) - max(s, start)), max(s + d + 1, end) - min(s, start)
            assert targets.overlaps[d, s].item() == both / (union if both else 1)
    assert (targets.starts > 0.5).nonzero().flatten().tolist() == [i for i in (start - 1, start) if i >= 0]
    assert (targets.ends > 0.5).nonzero().flatten().tolist() == [i for i in (end - 1, end) if i < 8]


@given(truths(8), st.sampled_from(CONVENTIONS))
def test_labels_of_a_video_played_backwards(truth, conventions):
    model = network(conventions=conventions)
    backwards = Segments(8 - truth.spans.flip(1), truth.labels)
    ahead, back = model.targets(truth, 8), model.targets(backwards, 8)
    torch.testing.assert_close(back.starts, ahead.ends.flip(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(back.covered[0], ahead.covered[0].flip(1), rtol=0, atol=1e-12)


def authors_balanced(p: list[float], positive: list[bool]) -> float:
    """The formula as it is written in the authors' code; undefined without positives or without negatives."""
    ratio = len(p) / sum(positive)
    total = 0.0
    for probability, is_positive in zip(p, positive, strict=True):
        if is_positive:
            total += 0.5 * ratio * math.log(probability + 1e-6)
        else:
            total += 0.5 * ratio / (ratio - 1) * math.log(1 - probability + 1e-6)
    return -total / len(p)


@settings(max_examples=40)
@given(st.lists(st.tuples(truths(8), st.integers(1, 8)), min_size=1, max_size=3))
def test_losses_are_those_of_loops(videos):
    model = network()
    outputs = random_outputs(model, [length for _, length in videos])
    steps: dict[str, tuple[list[float], list[bool]]] = {"starts": ([], []), "ends": ([], []), "matches": ([], [])}
    classes = []
    for n, (truth, length) in enumerate(videos):
        targets = model.targets(truth, length)
        for i in range(length):
            for name in ("starts", "ends"):
                steps[name][0].append(getattr(outputs, name)[n, i].item())
                steps[name][1].append(getattr(targets, name)[i].item() > 0.5)
            for d in range(min(6, length - i)):
                steps["matches"][0].append(outputs.matches[n, d, i].item())
                steps["matches"][1].append(targets.overlaps[d, i].item() > 0.9)
            step_loss = 0.0
            for k in range(3):
                p, share = outputs.logits[0][n, k, i].sigmoid().item(), targets.covered[0][k, i].item()
                step_loss -= share * math.log(p) + (1 - share) * math.log(1 - p)
            classes.append(step_loss)
    expected = {}
    for name, (p, positive) in steps.items():
        if not any(positive):
            expected[name] = 0.0
        elif all(positive):
            expected[name] = -0.5 * sum(math.log(q + 1e-6) for q in p) / len(p)
        else:
            expected[name] = authors_balanced(p, positive)
    terms = model.loss_terms(outputs, [truth for truth, _ in videos])
    assert terms["boundaries"].item() == pytest.approx(expected["starts"] + expected["ends"], abs=1e-10)
    assert terms["matching"].item() == pytest.approx(expected["matches"], abs=1e-10)
    assert terms["classes"].item() == pytest.approx(sum(classes) / len(classes), abs=1e-10)
    assert all(term.isfinite() for term in terms.values())


def test_the_loss_is_the_weighted_sum():
    model, truth = network(), [segments((1.0, 3.0))]
    outputs = random_outputs(model, [8])
    torch.manual_seed(1)
    terms = model.loss_terms(outputs, truth)
    torch.manual_seed(1)
    expected = terms["boundaries"] + 10 * terms["regression"] + terms["matching"] + terms["classes"]
    torch.testing.assert_close(model.loss(outputs, truth), expected)


def test_regression_without_chance():
    """All of the middle and low cells are drawn where they are fewer than the high ones."""
    truth = torch.tensor([[0.95, 0.8, 0.75, 0.7, 0.3, 0.0]], dtype=torch.float64)
    p = torch.rand(1, 6, dtype=torch.float64)
    expected = 0.5 * (p - truth)[0, :5].square().sum() / 5
    torch.testing.assert_close(module._regression(p, truth), expected)


def test_regression_draws_about_as_many_as_are_high():
    torch.manual_seed(0)
    truth = torch.cat([torch.full((100,), 0.8), torch.full((1000,), 0.5), torch.full((2000,), 0.2), torch.zeros(50)])
    p = truth.double() + torch.cat([torch.zeros(100), torch.ones(1000), torch.full((2000,), 2.0), torch.ones(50)])
    losses = torch.stack([module._regression(p, truth.double()) for _ in range(100)])
    assert losses.mean().item() == pytest.approx(0.5 * (0 + 1 + 4) / 3, rel=0.02)
    assert losses.std() > 0


def test_the_draw_follows_the_global_generator():
    torch.manual_seed(3)
    truth, p = torch.rand(2, 20, 20, dtype=torch.float64)
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(module._regression(p, truth).item())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("videos", "positive"),
    [
        ([segments()], False),
        ([segments((-5.0, 0.0))], False),
        ([segments((2.1, 2.4))], False),  # no proposal overlaps it by more than 0.3
        ([segments((2.0, 4.0)), segments()], True),
    ],
)
def test_losses_without_positives_are_zero_and_finite_in_their_gradients(videos, positive):
    model = network()
    x = torch.randn(len(videos), 4, 8, dtype=torch.float64)
    outputs = model(x, torch.full((len(videos),), 8))
    terms = model.loss_terms(outputs, videos)
    assert (terms["matching"] > 0) == positive
    assert (terms["regression"] > 0) == positive
    model.loss(outputs, videos).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_only_positives():
    model = network(steps=1, duration=1)  # one step, one cell, and one action that is both
    outputs = model(torch.randn(1, 4, 1, dtype=torch.float64), torch.tensor([1]))
    terms = model.loss_terms(outputs, [segments((0.0, 1.0))])
    expected = -0.5 * ((outputs.starts + 1e-6).log() + (outputs.ends + 1e-6).log())
    torch.testing.assert_close(terms["boundaries"], expected.squeeze())
    torch.testing.assert_close(terms["matching"], -0.5 * (outputs.matches + 1e-6).log().squeeze())
    torch.testing.assert_close(terms["regression"], 0.5 * (outputs.overlaps - 1).square().squeeze())


@pytest.mark.parametrize("saturated", [0.0, 1.0])
def test_saturated_probabilities(saturated):
    model = network()
    outputs = random_outputs(model, [8])
    full = {name: torch.full_like(getattr(outputs, name), saturated) for name in ("starts", "ends", "matches")}
    for value in full.values():
        value.requires_grad_()
    loss = model.loss(replace(outputs, **full), [segments((1.0, 3.0))])
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(full.values())))


def test_shares_are_of_the_whole_batch():
    """One video has one positive cell and the other has many: their losses do not average to the batch's."""
    model = network()
    truth = [segments((2.0, 4.0)), segments((0.0, 1.0), (2.0, 3.0), (4.0, 5.0), (6.0, 7.0))]
    outputs = random_outputs(model, [8, 8])
    alone = []
    for n in range(2):
        part = BMNOutputs(
            outputs.starts[n : n + 1],
            outputs.ends[n : n + 1],
            outputs.overlaps[n : n + 1],
            outputs.matches[n : n + 1],
            (outputs.logits[0][n : n + 1],),
            outputs.lengths[n : n + 1],
        )
        alone.append(model.loss_terms(part, truth[n : n + 1])["matching"])
    assert abs(sum(alone) / 2 - model.loss_terms(outputs, truth)["matching"]) > 1e-3


@pytest.mark.parametrize("fusion", ["snippet", "video"])
def test_zeros_after_a_video_change_nothing(fusion):
    model = network(fusion=fusion)
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    x[1, :, 3:] = 0
    lengths = torch.tensor([5, 3])
    batch, alone = model(x, lengths), model(x[1:, :, :3], torch.tensor([3]))
    truth = segments((0.5, 2.0), labels=[[1]])
    for name in ("starts", "ends", "overlaps", "matches"):
        torch.testing.assert_close(getattr(batch, name)[1:], getattr(alone, name))
    torch.testing.assert_close(batch.logits[0][1:], alone.logits[0])
    (short,) = model.detect(alone, torch.tensor([3]))
    found = model.detect(batch, lengths)[1]
    torch.testing.assert_close((found.spans, found.scores), (short.spans, short.scores))
    assert found.spans.max() <= 3

    torch.manual_seed(0)
    loss = model.loss(alone, [truth])
    names = ("starts", "ends", "overlaps", "matches")
    changed = replace(alone, **{name: getattr(alone, name).clone() for name in names})
    changed.starts[:, 3:] = changed.ends[:, 3:] = 0.123
    for d in range(6):
        changed.overlaps[:, d, max(0, 3 - d) :] = changed.matches[:, d, max(0, 3 - d) :] = 0.123
    torch.manual_seed(0)
    assert torch.equal(model.loss(changed, [truth]), loss)
    (again,) = model.detect(changed, torch.tensor([3]))
    assert torch.equal(again.scores, short.scores)


def test_a_video_longer_than_the_grid_is_refused():
    with pytest.raises(ValueError, match="features have 9 steps, the grid has 8"):
        network()(torch.zeros(1, 4, 9, dtype=torch.float64), torch.tensor([9]))


def listed(found: Detections) -> list[tuple[float, ...]]:
    rows = zip(found.spans.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    return sorted((*span, *labels, score) for span, labels, score in rows)


def loops(
    model: BMN, outputs: BMNOutputs, n: int, length: int, score: Callable[[float, float, float, float], float]
) -> list[tuple[float, ...]]:
    """Detections by loops over starts and ends; ``score`` of match, overlap, start and end."""

    def candidates(p: list[float]) -> set[int]:
        inner = [i for i in range(length) if p[i] > 0.5 * max(p)]
        peaks = [i for i in range(length) if (i == 0 or p[i] > p[i - 1]) and (i == length - 1 or p[i] > p[i + 1])]
        return {*inner, *peaks}

    authors = model.as_authors
    starts, ends = outputs.starts[n, :length].tolist(), outputs.ends[n, :length].tolist()
    found = []
    for s in sorted(candidates(starts) | {0}):
        for j in sorted(candidates(ends) | {length - 1}):
            d = j - s - 1 if authors else j - s
            if 0 <= d < model.max_duration:
                proposal = score(outputs.matches[n, d, s].item(), outputs.overlaps[n, d, s].item(), starts[s], ends[j])
                by_head = []
                for logits in outputs.logits:
                    p = logits[n].sigmoid()
                    p = p[:, s : s + d + 1].mean(1) if model.fusion == "snippet" else p[:, 0]
                    by_head.append(sorted(((q, k) for k, q in enumerate(p.tolist())), reverse=True))
                if len(by_head) == 1:
                    pairs = [(q, (k,)) for q, k in by_head[0]]
                else:
                    pairs = [(q * r, (k, m)) for q, k in by_head[0][:10] for r, m in by_head[1][:30]]
                for q, labels in sorted(pairs, reverse=True)[: model.most_labels]:
                    found.append((float(s), float(s + d + 1), *map(float, labels), proposal * q))
    return sorted(found)


@settings(max_examples=60)
@given(
    length=st.integers(1, 8),
    conventions=st.sampled_from(CONVENTIONS),
    fusion=st.sampled_from(["snippet", "video"]),
    heads=st.sampled_from([(3,), (1,), (12, 33), (2, 1)]),
    boundaries=st.booleans(),
)
def test_detections_are_those_of_loops(length, conventions, fusion, heads, boundaries):
    model = network(
        num_classes=heads, conventions=conventions, fusion=fusion, boundary_scores=boundaries, powers=(1.2, 0.5)
    )
    outputs = random_outputs(model, [8, length], heads)

    def score(match: float, overlap: float, start: float, end: float) -> float:
        second = start if conventions == "authors" else end
        return match**1.2 * overlap**0.5 * (start * second if boundaries else 1)

    for n, found in enumerate(model.detect(outputs, torch.tensor([8, length]))):
        expected = loops(model, outputs, n, (8, length)[n], score)
        assert [row[:-1] for row in listed(found)] == [row[:-1] for row in expected]
        assert [row[-1] for row in listed(found)] == pytest.approx([row[-1] for row in expected], rel=1e-6)
        assert (found.scores.diff() <= 0).all()
        assert found.spans.dtype == found.scores.dtype == torch.float32
        assert found.labels.shape == (len(found), len(heads))


def test_who_ends_with_the_video():
    outputs = random_outputs(network(duration=8), [8])
    for conventions, most in (("meaning", 8), ("authors", 7)):
        model = network(duration=8, conventions=conventions)
        (found,) = model.detect(outputs, torch.tensor([8]))
        assert found.spans[:, 1].max() == most


def test_detections_in_a_video_played_backwards():
    model = network(boundary_scores=True, duration=8)
    outputs = random_outputs(model, [8])
    maps = {name: torch.zeros_like(outputs.matches) for name in ("matches", "overlaps")}
    for d in range(8):
        for s in range(8 - d):
            for name, back in maps.items():
                back[0, d, 7 - s - d] = getattr(outputs, name)[0, d, s]
    back = replace(
        outputs, starts=outputs.ends.flip(1), ends=outputs.starts.flip(1), logits=(outputs.logits[0].flip(2),), **maps
    )
    (ahead,), (found,) = model.detect(outputs, torch.tensor([8])), model.detect(back, torch.tensor([8]))
    mirrored = Detections(8 - found.spans.flip(1), found.scores, found.labels)
    assert [row[:-1] for row in listed(mirrored)] == [row[:-1] for row in listed(ahead)]
    torch.testing.assert_close(found.scores, ahead.scores)


def test_the_best_detections_are_kept(monkeypatch: pytest.MonkeyPatch):
    model = network()
    outputs = random_outputs(model, [8])
    (every,) = model.detect(outputs, torch.tensor([8]))
    monkeypatch.setattr(module, "MOST_DETECTIONS", 5)
    (best,) = model.detect(outputs, torch.tensor([8]))
    assert len(every) > 5
    assert torch.equal(best.scores, every.scores[:5])
    assert torch.equal(best.spans, every.spans[:5])


def test_classes_of_a_video_and_of_two_heads():
    model = network(num_classes=(3, 2), fusion="video")
    outputs = random_outputs(model, [8, 8], (3, 2))
    truth = [segments((1.0, 2.0), (4.0, 7.0), labels=[[0, 1], [2, 1]], heads=2), segments(heads=2)]
    expected = 0.0
    for head, present in enumerate(([[1, 0, 1], [0, 0, 0]], [[0, 1], [0, 0]])):
        p = outputs.logits[head].sigmoid().squeeze(2)
        target = torch.tensor(present).double()
        expected += -(target * p.log() + (1 - target) * (1 - p).log()).sum().item() / 2
    assert model.loss_terms(outputs, truth)["classes"].item() == pytest.approx(expected)


def test_the_features_learn_classes():
    model = network()
    x = torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    terms = model.loss_terms(model(x, torch.tensor([8])), [segments((1.0, 5.0))])
    (grad,) = torch.autograd.grad(terms["classes"], x)
    assert grad.abs().min() > 0


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_200_steps_on_one_short_action(conventions):
    torch.manual_seed(0)
    model = BMN(4, (2,), 16, 16, **TINY, conventions=conventions)
    truth = [segments((5.3, 5.9), labels=[[1]])]
    x = torch.randn(1, 4, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.loss(model(x, torch.tensor([16])), truth)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.isfinite().all() for p in model.parameters())


def test_it_finds_what_it_was_trained_on():
    torch.manual_seed(0)
    model = BMN(4, (2,), 16, 16, **TINY)
    x, lengths = torch.randn(2, 4, 16), torch.tensor([16, 12])
    x[1, :, 12:] = 0
    truth = [segments((2.0, 6.0), (9.0, 16.0), labels=[[0], [1]]), segments((4.0, 12.0), labels=[[1]])]
    for video, actions in enumerate(truth):  # a channel a class
        for (start, end), label in zip(actions.spans.int().tolist(), actions.labels[:, 0].tolist(), strict=True):
            x[video, label, start:end] += 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(model(x, lengths), truth).backward()
        optimizer.step()
    first, second = model.detect(model(x, lengths), lengths)
    best = {(*span, *label) for span, label in zip(first.spans.tolist()[:2], first.labels.tolist()[:2], strict=True)}
    assert best == {(2, 6, 0), (9, 16, 1)}
    assert [*second.spans[0].tolist(), second.labels[0].item()] == [4, 12, 1]


def test_under_autocast():
    model = BMN(4, (3,), 8, 6, **TINY)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.randn(2, 4, 8), torch.tensor([8, 8]))
        loss = model.loss(outputs, [segments((1.0, 3.0)), segments()])
    assert outputs.matches.dtype == outputs.logits[0].dtype == torch.float32
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_its_size_is_the_authors():
    model = BMN(400, (1,), 20, 10)
    classifier = sum(p.numel() for p in model.classifiers.parameters())
    assert sum(p.numel() for p in model.parameters()) - classifier == 4_978_564
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("classes", [(), (3, 3, 3)])
def test_other_numbers_of_heads_are_refused(classes: tuple[int, ...]):
    with pytest.raises(ValueError, match="one or two label heads"):
        network(num_classes=classes)


def test_each_class_starts_rare():
    model = network(num_classes=(9,))
    logits = model(torch.zeros(1, 4, 8, dtype=torch.float64), torch.tensor([8])).logits[0]
    torch.testing.assert_close(logits.sigmoid(), torch.full((1, 9, 8), 0.1, dtype=torch.float64), rtol=0, atol=1e-6)
