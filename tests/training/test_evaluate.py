"""Evaluation against a loop over clips and views, in plain Python."""

import math
from collections import Counter, defaultdict

import pytest
import torch
from tiny_clips import TinyClips, TinyNet
from torch import Tensor, nn

from tadaconv.data.source import Head, classes_of_heads
from tadaconv.errors import RunError
from tadaconv.result import SubsetAccuracy
from tadaconv.training import Evaluation, evaluate
from tadaconv.training.evaluate import _by_head, averaged

CPU = torch.device("cpu")


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@torch.no_grad()
def by_brute_force(model: nn.Module, source: TinyClips) -> Evaluation:
    """One clip and one view at a time; probabilities, not their logarithms, are averaged."""
    top1, top5, losses, guesses = [], [], [], []
    by_class: dict[str, list[float]] = defaultdict(list)
    by_family: dict[str, list[float]] = defaultdict(list)
    model.eval()
    for index in range(source.num_val):
        clips, labels = source.val_batch(torch.tensor([index]))
        label = int(labels[0])
        views = [model(clips[:, view]).double().softmax(1)[0].tolist() for view in range(source.num_views)]
        probabilities = [mean(list(column)) for column in zip(*views, strict=True)]
        ranked = sorted(range(len(probabilities)), key=lambda c: -probabilities[c])
        guesses.append((label, ranked[0]))
        top1.append(100.0 * (ranked[0] == label))
        top5.append(100.0 * (label in ranked[:5]))
        losses.append(-math.log(probabilities[label]))
        by_class[source.class_names[label]].append(top1[-1])
        for family, members in source.families.items():
            if label in members:
                by_family[family].append(top1[-1])
    return Evaluation(
        mean(top1),
        mean(top5),
        mean(losses),
        {name: mean(values) for name, values in by_class.items()},
        {name: mean(values) for name, values in by_family.items()},
        list(source.class_names),
        {name: [source.class_names[i] for i in members] for name, members in source.families.items()},
        [(*pair, guesses.count(pair)) for pair in sorted(set(guesses))],
    )


@pytest.mark.parametrize("num_views", [1, 3])
@pytest.mark.parametrize("num_classes", [2, 4, 5, 9])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_against_a_loop(num_views: int, num_classes: int, batch_size: int) -> None:
    torch.manual_seed(0)
    source = TinyClips(num_val=31, num_views=num_views, num_classes=num_classes)
    model = TinyNet(num_classes)
    nn.init.normal_(model.fc.weight, std=3)
    found, expected = evaluate(model, source, batch_size, CPU), by_brute_force(model, source)
    assert found.top1 == pytest.approx(expected.top1)
    assert found.top5 == pytest.approx(expected.top5)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.per_class == pytest.approx(expected.per_class)
    assert found.per_family == pytest.approx(expected.per_family)
    assert found.classes == expected.classes
    assert found.family_classes == expected.family_classes
    assert found.confusion == expected.confusion
    assert list(found.per_class) == [name for name in source.class_names if name in expected.per_class]
    if num_classes <= 5:
        assert found.top5 == 100


class Says(nn.Module):
    """Scores read off the first pixels of a clip."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 0, 0, 0]


def test_views_average_probabilities_not_scores() -> None:
    """Two views lean to class 1 and one is sure of class 0, which the mean of their scores would weigh differently."""
    scores = torch.tensor([[[0.0, 2.0, -9.0], [0.0, 2.0, -9.0], [9.0, 0.0, -9.0]]])
    (of_views,) = _by_head(Says(), scores[..., None, None, None])
    found = averaged(of_views)
    torch.testing.assert_close(found.double(), scores.double().softmax(2).mean(1).log())
    torch.testing.assert_close(found.exp().sum(1), torch.ones(1))
    assert scores.mean(1).argmax() == 0
    assert found.argmax() == 1


class Fixed(TinyClips):
    """Clips that hold the scores a network is to give them."""

    def __init__(self, scores: Tensor, labels: list[int]) -> None:
        super().__init__(num_val=len(labels), num_classes=scores.shape[1])
        self.scores, self.labels = scores, torch.tensor(labels)

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores[indices][:, None, :, None, None, None], self.labels[indices]


def test_what_has_no_clip_is_left_out() -> None:
    source = Fixed(torch.eye(6), [2, 3, 2, 4, 5, 2])
    result = evaluate(Says(), source, 4, CPU)
    assert result.per_class == pytest.approx({"class 2": 100 / 3, "class 3": 0, "class 4": 0, "class 5": 0})
    assert result.per_family == pytest.approx({"rest": 100 / 6})
    assert result.top1 == pytest.approx(100 / 6)


class Labelled(TinyClips):
    """Clips of several views that hold the scores of two heads, and two labels each."""

    def __init__(self, scores: Tensor, labels: Tensor, num_verbs: int) -> None:
        verbs, nouns = (tuple(map(str, range(n))) for n in (num_verbs, scores.shape[2] - num_verbs))
        self.heads = (Head("verb", verbs), Head("noun", nouns))
        super().__init__(num_val=len(labels), num_views=scores.shape[1])
        self.class_names, self.families = classes_of_heads(self.heads), {}
        self.scores, self.labels = scores, labels

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores[indices][..., None, None, None], self.labels[indices]


@pytest.mark.parametrize("num_views", [1, 3])
@pytest.mark.parametrize(("num_verbs", "num_nouns"), [(5, 7), (2, 2), (1, 3)])
def test_actions_against_an_enumeration_of_all_pairs(num_views: int, num_verbs: int, num_nouns: int) -> None:
    drawn = torch.Generator().manual_seed(num_views)
    scores = 2 * torch.randn(40, num_views, num_verbs + num_nouns, generator=drawn)
    labels = torch.stack([torch.randint(n, (40,), generator=drawn) for n in (num_verbs, num_nouns)], 1)
    expected: dict[str, list[float]] = defaultdict(list)
    not_the_best_of_each = 0
    for of_clip, (verb, noun) in zip(scores.double(), labels.tolist(), strict=True):
        p_verbs, p_nouns = (each.softmax(1).tolist() for each in of_clip.split([num_verbs, num_nouns], 1))
        pairs = {
            (v, n): mean([p_verb[v] * p_noun[n] for p_verb, p_noun in zip(p_verbs, p_nouns, strict=True)])
            for v in range(num_verbs)
            for n in range(num_nouns)
        }
        best = sorted(pairs, key=lambda pair: -pairs[pair])
        expected["top1"].append(100.0 * (best[0] == (verb, noun)))
        expected["top5"].append(100.0 * ((verb, noun) in best[:5]))
        of_each = []
        for name, by_view, label in (("verb", p_verbs, verb), ("noun", p_nouns, noun)):
            averages = [mean(list(column)) for column in zip(*by_view, strict=True)]
            ranked = sorted(range(len(averages)), key=lambda c: -averages[c])
            expected[f"{name} top1"].append(100.0 * (ranked[0] == label))
            expected[f"{name} top5"].append(100.0 * (label in ranked[:5]))
            expected[f"{name} loss"].append(-math.log(averages[label]))
            of_each.append(ranked[0])
        not_the_best_of_each += best[0] != tuple(of_each)
    assert (not_the_best_of_each > 0) == (num_views > 1 and num_verbs > 1)
    found = evaluate(Says(), Labelled(scores, labels, num_verbs), 7, CPU)
    assert (found.top1, found.top5) == pytest.approx((mean(expected["top1"]), mean(expected["top5"])))
    assert list(found.per_head) == ["verb", "noun"]
    for name, accuracy in found.per_head.items():
        of_head = mean(expected[f"{name} top1"]), mean(expected[f"{name} top5"])
        assert (accuracy.top1, accuracy.top5) == pytest.approx(of_head)
    assert found.loss == pytest.approx(mean(expected["verb loss"]) + mean(expected["noun loss"]), rel=1e-5)


def test_classes_of_two_heads_are_told_apart_by_the_head() -> None:
    scores = torch.tensor([[[3.0, 0.0, 0.0, 9.0, 0.0]], [[0.0, 3.0, 0.0, 9.0, 0.0]]])
    found = evaluate(Says(), Labelled(scores, torch.tensor([[0, 1], [0, 2]]), 2), 4, CPU)
    assert found.classes == ["verb: 0", "verb: 1", "noun: 0", "noun: 1", "noun: 2"]
    assert found.per_class == {"verb: 0": 50, "noun: 1": 100, "noun: 2": 0}
    assert found.confusion == [(0, 0, 1), (0, 1, 1), (3, 3, 1), (4, 3, 1)]
    assert (found.top1, found.per_head["verb"].top1, found.per_head["noun"].top1) == (50, 50, 50)


def test_clips_that_are_judged_apart() -> None:
    scores = torch.tensor([[[3.0, 0.0, 0.0, 9.0]], [[0.0, 3.0, 0.0, 9.0]], [[0.0, 3.0, 9.0, 0.0]]])
    source = Labelled(scores, torch.tensor([[0, 1], [0, 1], [1, 1]]), 2)
    source.subsets = {"tail": torch.tensor([1, 2]), "first": torch.tensor([0]), "none": torch.tensor([], dtype=int)}
    assert evaluate(Says(), source, 2, CPU).per_subset == {
        "tail": SubsetAccuracy(num_val=2, top1=0, per_head={"verb": 50, "noun": 50}),
        "first": SubsetAccuracy(num_val=1, top1=100, per_head={"verb": 100, "noun": 100}),
    }
    one_head = Fixed(torch.eye(6), [2, 1, 2, 4, 5, 2])
    one_head.subsets = {"even": torch.tensor([2, 4])}
    found = evaluate(Says(), one_head, 4, CPU).per_subset
    assert found == {"even": SubsetAccuracy(num_val=2, top1=50, per_head={})}


def test_a_source_of_one_head_is_evaluated_as_one_that_names_none() -> None:
    class OneHead(TinyClips):
        heads = (Head("class", TinyClips().class_names),)

    assert evaluate(TinyNet(), OneHead(num_views=2), 3, CPU).per_head == {}
    torch.manual_seed(1)
    model = TinyNet()
    assert evaluate(model, OneHead(num_views=2), 3, CPU) == evaluate(model, TinyClips(num_views=2), 3, CPU)


def test_every_clip_is_asked_for_once_and_batches_hold_at_most_so_many_views() -> None:
    asked: Counter[int] = Counter()
    sizes = []

    class Counting(TinyClips):
        def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
            asked.update(indices.tolist())
            sizes.append(len(indices) * self.num_views)
            return super().val_batch(indices)

    evaluate(TinyNet(), Counting(num_val=11, num_views=3), 8, CPU)
    assert asked == Counter(range(11))
    assert max(sizes) <= 8
    evaluate(TinyNet(), Counting(num_val=2, num_views=3), 2, CPU)  # one clip at a time is the least


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    model = TinyNet().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    evaluate(model, TinyClips(), 3, CPU)
    assert model.training == training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_a_failure(bad: float) -> None:
    scores = torch.eye(6)
    scores[1, 1] = bad
    with pytest.raises(RunError, match="the validation loss is nan; "):
        evaluate(Says(), Fixed(scores, [0, 1, 2, 3, 4, 5]), 4, CPU)
