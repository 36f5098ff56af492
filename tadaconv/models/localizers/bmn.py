"""The boundary-matching network (BMN, arXiv:1907.09702), with classes.

Layers, widths and losses are those of the authors of TAda2D (github.com/alibaba-mmai-research/TAdaConv), who localize
with it. Where their conventions are not what a step means, ``conventions`` chooses between the two:

| | ``meaning`` | ``authors`` |
|---|---|---|
| step i as the labels of boundaries see it | [i, i + 1] | [i - 0.5, i + 1.5] |
| the end score of the proposal [s, e] | that of its last step, e - 1 | that of step e |
| a proposal that ends with the video | is one like others | is never made |
| boundary scores, where they are multiplied in | start * end | start * start |

BMN finds segments without classes, so it gets a linear classifier of the features: of each step, averaged over the
steps of a proposal (``snippet``), or of the video (``video``). Several classes may hold at once. Its gradient reaches
the features: no other term of the loss depends on classes, so a backbone that is trained along would not learn them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.data.segments import Detections, Segments
from tadaconv.models.localizers.localizer import Localizer
from tadaconv.nn.boundary_matching import BoundaryMatching

LOSS_WEIGHTS = {"boundaries": 1.0, "regression": 10.0, "matching": 1.0, "classes": 1.0}
MATCHED = 0.9
"""A proposal matches an action if their IoU is above this."""
HIGH, LOW = 0.7, 0.3
"""All proposals of an IoU above HIGH are regressed, and by chance about as many from LOW to HIGH and from 0 to LOW."""
EPSILON = 1e-6
"""Added to a probability before its logarithm is taken."""
REACH = 1.5
"""Steps to both sides of a start or end that are labelled as near it."""
MOST_CLASSES = (10, 30)
"""Where there are two label heads, the number of classes of each whose pairs are considered."""
MOST_DETECTIONS = 3000
"""Detections of a video; those of the highest scores are kept."""


@dataclass(frozen=True)
class BMNOutputs:
    """What BMN computes of N videos on its grid of T steps and D durations, beyond the ends of videos as well.

    Attributes:
        starts: the probability that an action starts near a step, (N, T).
        ends: the probability that one ends near it, (N, T).
        overlaps: the estimated IoU of the proposal [s, s + d + 1] and the action that it overlaps most, (N, D, T).
        matches: the probability that this IoU is above 0.9, (N, D, T).
        logits: by label head, of the classes in each step, (N, K, T), or in the video, (N, K, 1).
        lengths: steps of each video, (N,).
    """

    starts: Tensor
    ends: Tensor
    overlaps: Tensor
    matches: Tensor
    logits: tuple[Tensor, ...]
    lengths: Tensor


@dataclass(frozen=True)
class BMNTargets:
    """What BMN is to compute of a video, in float64; see :class:`BMNOutputs`.

    Attributes:
        starts: the largest share of a step, by the conventions, that is near the start of an action, (T,).
        ends: the same of ends, (T,).
        overlaps: the largest IoU of each proposal with an action, (D, T).
        covered: by label head, the largest share of a step that an action of each class covers, (K, T).
    """

    starts: Tensor
    ends: Tensor
    overlaps: Tensor
    covered: tuple[Tensor, ...]


def _shared(first_M: Tensor, last_M: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """How many steps each of M spans has in common with each interval, (M, *shape of the intervals)."""
    shape = (-1, *[1] * starts.dim())
    return (torch.minimum(last_M.view(shape), ends) - torch.maximum(first_M.view(shape), starts)).clamp(min=0)


def _largest(values: Tensor) -> Tensor:
    """The maximum over the first axis, at least zero: zero where that axis is empty."""
    return torch.cat([values.new_zeros(1, *values.shape[1:]), values]).amax(0)


def _balanced_cross_entropy(probability: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
    """Half the mean over positives and half that over negatives; zero without positives.

    Args:
        probability: of being positive.
        positive: whether it is; both of any one shape.
        counted: where it counts.
    """
    parts = ((counted & positive, probability), (counted & ~positive, 1 - probability))
    means = [torch.where(of, -(p + EPSILON).log(), 0).sum() / of.sum().clamp(min=1) for of, p in parts]
    return 0.5 * sum(means) * (counted & positive).any()


def _regression(overlaps: Tensor, targets: Tensor) -> Tensor:
    """Half the mean square error over cells of high IoU and as many of middle and of low IoU, drawn at random.

    Args:
        overlaps: estimated IoU.
        targets: true IoU, float64 of the same shape; cells at zero are never drawn.
    """
    high, middle, low = targets > HIGH, (targets > LOW) & (targets <= HIGH), (targets > 0) & (targets <= LOW)
    chances = sum(of * (high.sum() / of.sum().clamp(min=1)) for of in (middle, low))
    drawn = high | (torch.rand_like(overlaps) < chances)
    errors = torch.where(drawn, (overlaps - targets.to(overlaps.dtype)).square(), 0)
    return 0.5 * errors.sum() / drawn.sum().clamp(min=1)


def _candidates(scores_T: Tensor, always: int) -> Tensor:
    """Whether a step is a local maximum, above half of the maximum, or the one that always is a candidate."""
    before, after = F.pad(scores_T, (1, 0))[:-1], F.pad(scores_T, (0, 1))[1:]
    chosen = ((scores_T > before) & (scores_T > after)) | (scores_T > 0.5 * scores_T.max())
    chosen[always] = True
    return chosen


def _fine(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class BMN(Localizer[BMNOutputs]):
    """The boundary-matching network.

    Steps after the end of a video, and proposals that end after it, count neither in the loss nor as detections.

    Args:
        in_channels: C, of the features; groups divide it.
        num_classes: K by label head; one head, or two such as verbs and nouns.
        num_steps: T, the longest video; shorter ones are padded with zeros.
        max_duration: D, the longest proposal in steps.
        num_samples: S, features that are sampled of a proposal.
        widths: channels of the features over time, of the map of proposals, and of its convolutions.
        groups: of the convolutions over time.
        conventions: see the module.
        fusion: see the module.
        powers: exponents of match and overlap in the score of a proposal.
        boundary_scores: whether scores of its start and end are factors as well.
        most_labels: detections that a proposal becomes at most, one a class or pair; 2 for one head and 5 for two.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: Sequence[int],
        num_steps: int,
        max_duration: int,
        *,
        num_samples: int = 32,
        widths: tuple[int, int, int] = (256, 512, 128),
        groups: int = 4,
        conventions: Literal["meaning", "authors"] = "meaning",
        fusion: Literal["snippet", "video"] = "snippet",
        powers: tuple[float, float] = (1.0, 1.0),
        boundary_scores: bool = False,
        most_labels: int | None = None,
    ) -> None:
        super().__init__()
        if len(num_classes) not in (1, 2):
            raise ValueError(f"BMN has one or two label heads, got {len(num_classes)}")
        self.num_steps, self.max_duration = num_steps, max_duration
        self.as_authors, self.fusion = conventions == "authors", fusion
        self.powers, self.boundary_scores = powers, boundary_scores
        self.most_labels = most_labels or (2 if len(num_classes) == 1 else 5)
        over_time, in_map, inner = widths

        def conv(channels: int) -> nn.Conv1d:
            return nn.Conv1d(channels, over_time, 3, padding=1, groups=groups)

        self.base = nn.Sequential(conv(in_channels), nn.ReLU(), conv(over_time), nn.ReLU())
        self.start = nn.Sequential(conv(over_time), nn.ReLU(), nn.Conv1d(over_time, 1, 1))
        self.end = nn.Sequential(conv(over_time), nn.ReLU(), nn.Conv1d(over_time, 1, 1))
        self.proposal = nn.Sequential(nn.Conv1d(over_time, over_time, 3, padding=1), nn.ReLU())
        self.matching = BoundaryMatching(over_time, in_map, num_steps, max_duration, num_samples)
        self.evaluation = nn.Sequential(
            nn.Conv2d(in_map, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, 2, 1),
        )
        self.num_classes = tuple(num_classes)
        self.classifiers = nn.ModuleList()
        for classes in num_classes:
            classifier = nn.Conv1d(in_channels, classes, 1)
            assert classifier.bias is not None
            nn.init.constant_(classifier.bias, -math.log(classes))  # each class starts at 1 / (K + 1)
            self.classifiers.append(classifier)

    def forward(self, features_NCT: Tensor, lengths_N: Tensor) -> BMNOutputs:
        """Boundaries, the maps of all proposals, and classes.

        Args:
            features_NCT: of N videos of T steps at most; the shorter ones with zeros after their last step.
            lengths_N: steps of each video.

        Raises:
            ValueError: there are more steps than the grid has.
        """
        if features_NCT.shape[2] > self.num_steps:
            raise ValueError(f"features have {features_NCT.shape[2]} steps, the grid has {self.num_steps}")
        x_NCT = F.pad(features_NCT, (0, self.num_steps - features_NCT.shape[2]))
        seen = x_NCT if self.fusion == "snippet" else x_NCT.sum(2, keepdim=True) / lengths_N[:, None, None]
        base = self.base(x_NCT)
        starts, ends = (_fine(head(base)).sigmoid().squeeze(1) for head in (self.start, self.end))
        maps_N2DT = _fine(self.evaluation(F.relu(self.matching(self.proposal(base))))).sigmoid()
        logits = tuple(_fine(classifier(seen)) for classifier in self.classifiers)
        return BMNOutputs(starts, ends, maps_N2DT[:, 0], maps_N2DT[:, 1], logits, lengths_N)

    def targets(self, truth: Segments, length: int) -> BMNTargets:
        """What the network is to compute of a video; of segments, what is within it counts.

        Args:
            truth: the video's segments.
            length: its steps.
        """
        spans = truth.spans.double().clamp(0, length)
        inside = spans[:, 1] > spans[:, 0]
        first, last = spans[inside].unbind(1)
        steps = torch.arange(self.num_steps, dtype=torch.float64, device=spans.device)
        durations = steps[: self.max_duration, None] + 1
        shared = _shared(first, last, steps.expand(self.max_duration, -1), steps + durations)
        overlaps = _largest(shared / (durations + (last - first)[:, None, None] - shared))
        margin = 0.5 if self.as_authors else 0.0
        starts, ends = (
            _largest(_shared(t - REACH, t + REACH, steps - margin, steps + 1 + margin)) / (1 + 2 * margin)
            for t in (first, last)
        )
        covered_MT = _shared(first, last, steps, steps + 1)
        covered = tuple(
            shared.new_zeros(classes, self.num_steps).scatter_reduce(
                0, labels[:, None].expand(-1, self.num_steps), covered_MT, "amax"
            )
            for classes, labels in zip(self.num_classes, truth.labels[inside].unbind(1), strict=True)
        )
        return BMNTargets(starts, ends, overlaps, covered)

    def loss_terms(self, outputs: BMNOutputs, truth: Sequence[Segments]) -> dict[str, Tensor]:
        """The terms of the loss, not yet weighted by :data:`LOSS_WEIGHTS`.

        Means and shares are taken over all videos, steps and proposals of the batch, so they are not means of those of
        its parts. A term is zero where nothing in the batch is positive in it.
        """
        steps = torch.arange(self.num_steps, device=outputs.lengths.device)
        steps_NT = steps < outputs.lengths[:, None]
        cells_NDT = steps + steps[: self.max_duration, None] < outputs.lengths[:, None, None]
        videos = [self.targets(*video) for video in zip(truth, outputs.lengths.tolist(), strict=True)]
        overlaps = torch.where(cells_NDT, torch.stack([video.overlaps for video in videos]), 0)
        starts, ends = (torch.stack(of) > 0.5 for of in zip(*((v.starts, v.ends) for v in videos), strict=True))
        classes = []
        for head, logits in enumerate(outputs.logits):
            covered, counted = torch.stack([video.covered[head] for video in videos]), steps_NT
            if self.fusion == "video":
                covered, counted = (covered.amax(2, keepdim=True) > 0), counted[:, :1]
            errors = F.binary_cross_entropy_with_logits(logits, covered.to(logits.dtype), reduction="none").sum(1)
            classes.append(torch.where(counted, errors, 0).sum() / counted.sum())
        return {
            "boundaries": _balanced_cross_entropy(outputs.starts, starts, steps_NT)
            + _balanced_cross_entropy(outputs.ends, ends, steps_NT),
            "regression": _regression(outputs.overlaps, overlaps),
            "matching": _balanced_cross_entropy(outputs.matches, overlaps > MATCHED, cells_NDT),
            "classes": torch.stack(classes).sum(),
        }

    def loss(self, outputs: BMNOutputs, truth: Sequence[Segments]) -> Tensor:
        """The weighted sum of :meth:`loss_terms`; proposals to regress are drawn from torch's global generator."""
        terms = self.loss_terms(outputs, truth)
        return torch.stack([weight * terms[name] for name, weight in LOSS_WEIGHTS.items()]).sum()

    @torch.no_grad()
    def detect(self, outputs: BMNOutputs, lengths_N: Tensor) -> list[Detections]:
        """Proposals from starts to ends that are candidates, each with its most probable classes; on the CPU.

        A candidate is a local maximum, or above half of the video's maximum; the first step always is a start, the last
        one always an end. The score is match ** a * overlap ** b, with the powers a and b, times that of the class.
        """
        on_cpu = BMNOutputs(
            outputs.starts.cpu(),
            outputs.ends.cpu(),
            outputs.overlaps.cpu(),
            outputs.matches.cpu(),
            tuple(logits.cpu() for logits in outputs.logits),
            outputs.lengths,
        )
        return [self._detect(on_cpu, video, length) for video, length in enumerate(lengths_N.tolist())]

    def _detect(self, outputs: BMNOutputs, video: int, length: int) -> Detections:
        starts, ends = outputs.starts[video, :length], outputs.ends[video, :length]
        is_start, is_end = _candidates(starts, 0), _candidates(ends, -1)
        in_time = torch.arange(length) + torch.arange(self.max_duration)[:, None] < length
        d, s = torch.nonzero(is_start & in_time).unbind(1)
        end = s + d + 1 if self.as_authors else s + d  # the step whose end score counts
        kept = end < length
        kept &= is_end[end.clamp(max=length - 1)]
        d, s, end = d[kept], s[kept], end[kept]
        scores = outputs.matches[video, d, s] ** self.powers[0] * outputs.overlaps[video, d, s] ** self.powers[1]
        if self.boundary_scores:
            scores = scores * starts[s] * (starts[s] if self.as_authors else ends[end])
        class_scores, labels = self._classes([logits[video] for logits in outputs.logits], s, d + 1)
        scores = (scores[:, None] * class_scores).flatten()
        spans = torch.stack([s, s + d + 1], 1).float().repeat_interleave(class_scores.shape[1], 0)
        order = scores.argsort(descending=True, stable=True)[:MOST_DETECTIONS]
        return Detections(spans[order], scores[order].float(), labels.flatten(0, 1)[order])

    def _classes(self, logits: Sequence[Tensor], s: Tensor, duration: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of the most probable classes, or pairs of them, of P proposals, (P, L), and labels, (P, L, H)."""
        tops = []
        for logits_KT, most in zip(logits, MOST_CLASSES if len(logits) > 1 else (self.most_labels,), strict=True):
            p_KT = logits_KT.double().sigmoid()
            if self.fusion == "snippet":
                sums = F.pad(p_KT.cumsum(1), (1, 0))
                p_KP = (sums[:, s + duration] - sums[:, s]) / duration
            else:
                p_KP = p_KT.expand(-1, len(s))
            tops.append(p_KP.t().topk(min(most, len(p_KP)), 1))
        scores, labels = tops[0].values, tops[0].indices[..., None]
        for top in tops[1:]:
            count = top.values.shape[1]
            scores, pairs = (
                (scores[..., None] * top.values[:, None]).flatten(1).sort(dim=1, descending=True, stable=True)
            )
            scores, pairs = scores[:, : self.most_labels], pairs[:, : self.most_labels]
            labels = torch.stack([labels[..., 0].gather(1, pairs // count), top.indices.gather(1, pairs % count)], 2)
        return scores, labels
