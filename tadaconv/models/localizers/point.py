"""A single-stage localizer without anchors: at every point of a pyramid in time, classes and distances to both ends.

Two convolutions, then a pyramid by max-pooling alone, in the manner of TemporalMaxer (arXiv:2303.09055), which
replaces the windowed attention of ActionFormer (arXiv:2202.07925) and the convolutions of TriDet (arXiv:2303.07347).
Assignment of points to segments, losses and their normalisation are ActionFormer's; the focal loss is that of
arXiv:1708.02002, the distance-IoU loss that of arXiv:1911.08287 in one dimension. Defaults are those of the papers for
grids of thousands of steps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.data.segments import Detections, Segments
from tadaconv.models.localizers.localizer import Localizer

_SHORTEST_RANGE = 4.0
"""Up to this larger distance to an end, in steps, a segment is that of the first level; of each further, twice it."""
_RADIUS = 1.5
"""How far from the middle of a segment a point that is responsible for it may be, in strides of its level."""
_PRIOR = 0.01
"""What every class scores at the start."""
_MOMENTUM = 0.9
_LEAST_SCORE = 1e-3
_CLASSES_PER_POINT = 20


class PointOutputs(NamedTuple):
    """What :class:`Point` says at the P points of all levels.

    Attributes:
        logits: of the classes, those of one label after the other, (N, P, C).
        distances: from the point to the start and to the end, in steps; not negative, (N, P, 2).
        is_valid: whether the point is within the video, (N, P).
        points: where the points are, in steps, (P,).
        strides: the steps between two points of the level, (P,).
        ranges: between which values the larger of two distances is that of the level, in steps, (P, 2).
    """

    logits: Tensor
    distances: Tensor
    is_valid: Tensor
    points: Tensor
    strides: Tensor
    ranges: Tensor


class _Layer(nn.Module):
    """A convolution of 3 steps, layer norm over the channels, and ReLU; zero beyond the end of a video.

    Layer norm takes each step by itself. Batch and group norm share statistics between steps, so what is said of a
    video would depend on how many zeros follow it, and on the other videos of a small batch.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, 3, padding=1, bias=False)
        self.norm = nn.LayerNorm(c_out)

    def forward(self, x_NCT: Tensor, is_valid_NT: Tensor) -> Tensor:
        y = self.norm(self.conv(x_NCT).transpose(1, 2)).transpose(1, 2)
        return torch.relu(y).masked_fill(~is_valid_NT.unsqueeze(1), 0)


class _Head(nn.Module):
    """Two layers and a convolution, the same for all levels."""

    def __init__(self, width: int, num_outputs: int, bias: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(width, width), _Layer(width, width)])
        self.out = nn.Conv1d(width, num_outputs, 3, padding=1)
        nn.init.normal_(self.out.weight, std=0.01)
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias, bias)

    def forward(self, x_NCT: Tensor, is_valid_NT: Tensor) -> Tensor:
        for layer in self.layers:
            x_NCT = layer(x_NCT, is_valid_NT)
        y: Tensor = self.out(x_NCT)
        return y.transpose(1, 2)


class Point(Localizer[PointOutputs]):
    """Class scores and distances at every step of a max-pooled pyramid.

    Step j of level l is the point j * 2^l + 1/2: the middle of the feature that its max-pooling windows, of 3 steps and
    stride 2, are centred on. Labels are independent sigmoids, so segments may overlap and need no other classifier.
    Beyond a video's length everything is zero, which max-pooling after a ReLU ignores.

    Args:
        in_channels: C.
        num_classes: classes by label: one number, or those of verbs and of nouns.
        width: channels of all layers.
        levels: of the pyramid, with strides 1, 2, 4, ...; segments of more than 8 steps, 16, ... take a further one.
        positives: what the running count of positive points, which the loss is divided by, starts at; about those of
            a batch.
        most_detections: of a video, those with the highest scores.
    """

    num_positives: Tensor

    def __init__(
        self,
        in_channels: int,
        num_classes: Sequence[int],
        *,
        width: int = 512,
        levels: int = 6,
        positives: float = 100.0,
        most_detections: int = 2000,
    ) -> None:
        super().__init__()
        self.num_classes, self.levels, self.most_detections = tuple(num_classes), levels, most_detections
        self.layers = nn.ModuleList([_Layer(in_channels, width), _Layer(width, width)])
        self.classes = _Head(width, sum(num_classes), -math.log(1 / _PRIOR - 1))
        self.distances = _Head(width, 2, 1.0)
        self.scales = nn.Parameter(torch.ones(levels))
        self.register_buffer("num_positives", torch.tensor(positives))

    def forward(self, features_NCT: Tensor, lengths_N: Tensor) -> PointOutputs:
        """The outputs at all points.

        Distances are a softplus of the network's times the level's stride; a ReLU there gets no gradient once a
        distance is 0.
        """
        steps = torch.arange(features_NCT.shape[2], device=features_NCT.device)
        is_valid = steps < lengths_N.unsqueeze(1)
        x = features_NCT.masked_fill(~is_valid.unsqueeze(1), 0)
        for layer in self.layers:
            x = layer(x, is_valid)
        by_level = []
        for level in range(self.levels):
            if level:
                steps, is_valid = steps[::2], is_valid[:, ::2]
                x = F.max_pool1d(x, 3, 2, 1).masked_fill(~is_valid.unsqueeze(1), 0)
            stride = 2.0**level
            distances = F.softplus(self.distances(x, is_valid).float() * self.scales[level]) * stride
            low, high = _SHORTEST_RANGE * stride / 2 * (level > 0), _SHORTEST_RANGE * stride
            last = level == self.levels - 1
            ranges = x.new_tensor([low, math.inf if last else high], dtype=torch.float32).expand(len(steps), 2)
            strides = torch.full_like(steps, stride, dtype=torch.float32)
            scores = self.classes(x, is_valid).float()
            by_level.append(PointOutputs(scores, distances, is_valid, steps + 0.5, strides, ranges))
        of_videos = [torch.cat(tensors, 1) for tensors in list(zip(*by_level, strict=True))[:3]]
        of_points = [torch.cat(tensors) for tensors in list(zip(*by_level, strict=True))[3:]]
        return PointOutputs(*of_videos, *of_points)

    def loss(self, outputs: PointOutputs, truth: Sequence[Segments]) -> Tensor:
        """Focal loss of all points plus distance-IoU loss of the positive ones, over the running count of positives.

        In training the count moves with every call, so two halves of a batch have other losses than the whole.
        """
        targets = [self._targets(outputs, segments) for segments in truth]
        classes_NPC, distances_NP2, is_positive_NP = (torch.stack(tensors) for tensors in zip(*targets, strict=True))
        is_positive_NP = is_positive_NP & outputs.is_valid
        if self.training:
            count = is_positive_NP.sum().clamp(min=1)
            self.num_positives.mul_(_MOMENTUM).add_((1 - _MOMENTUM) * count)
        focal = _focal_loss(outputs.logits[outputs.is_valid], classes_NPC[outputs.is_valid])
        iou = _distance_iou_loss(outputs.distances[is_positive_NP], distances_NP2[is_positive_NP])
        return (focal.sum() + iou.sum()) / self.num_positives.clone()

    def _targets(self, outputs: PointOutputs, truth: Segments) -> tuple[Tensor, Tensor, Tensor]:
        """Of one video: classes (P, C) from 0 to 1, distances (P, 2), and which points are positive (P,).

        A point is positive for a segment that contains it and whose middle is within 1.5 strides, if the larger
        distance to its ends is in the level's range; of several, for the shortest. One that is shorter than a step
        may contain no point.
        """
        points_P1 = outputs.points.unsqueeze(1)
        if not len(truth):
            num_points, num_classes = outputs.logits.shape[1:]
            zeros = points_P1.new_zeros
            return zeros(num_points, num_classes), zeros(num_points, 2), zeros(num_points, dtype=torch.bool)
        starts, ends = truth.spans.unbind(1)
        distances_PM2 = torch.stack([points_P1 - starts, ends - points_P1], 2)
        larger = distances_PM2.amax(2)
        is_near = (points_P1 - (starts + ends) / 2).abs() < _RADIUS * outputs.strides.unsqueeze(1)
        low, high = outputs.ranges.unsqueeze(1).unbind(2)
        is_positive = (distances_PM2.amin(2) > 0) & is_near & (low <= larger) & (larger < high)
        lengths_PM = torch.where(is_positive, ends - starts, math.inf)
        shortest, index = lengths_PM.min(1)
        is_chosen = is_positive & (lengths_PM == shortest.unsqueeze(1))  # with equal spans there are several
        columns = [F.one_hot(label, n) for label, n in zip(truth.labels.unbind(1), self.num_classes, strict=True)]
        classes_PC = (is_chosen.float() @ torch.cat(columns, 1).float()).clamp(max=1)
        distances_P2 = distances_PM2.gather(1, index.view(-1, 1, 1).expand(-1, 1, 2)).squeeze(1)
        return classes_PC, distances_P2, is_positive.any(1)

    @torch.no_grad()
    def detect(self, outputs: PointOutputs, lengths_N: Tensor) -> list[Detections]:
        """The candidates of each video: at most 20 a point, that score above 0.001 a label, and ``most_detections``.

        With several labels, the score of a combination of their classes is the product of theirs.
        """
        points = outputs.points.unsqueeze(1)
        ends_of = outputs.distances * outputs.distances.new_tensor([-1.0, 1.0]) + points
        detections = []
        for i, length in enumerate(lengths_N.tolist()):
            spans = ends_of[i].clamp(0, length)
            usable = outputs.is_valid[i] & (spans[:, 1] > spans[:, 0])
            scores_PK, labels_PKH = self._best(outputs.logits[i].sigmoid())
            scores = torch.where(usable.unsqueeze(1), scores_PK, 0).flatten()
            best = scores.topk(min(self.most_detections, len(scores)))
            kept = best.indices[best.values > _LEAST_SCORE ** len(self.num_classes)]
            at = kept // scores_PK.shape[1]
            detections.append(Detections(spans[at], scores[kept], labels_PKH.flatten(0, 1)[kept]))
        return detections

    def _best(self, scores_PC: Tensor) -> tuple[Tensor, Tensor]:
        """The best combinations of classes at every point, (P, K), and their classes by label, (P, K, H)."""
        products, labels = scores_PC.new_ones(len(scores_PC), 1), torch.empty(len(scores_PC), 1, 0, dtype=torch.int64)
        labels = labels.to(scores_PC.device)
        for scores in scores_PC.split(self.num_classes, 1):
            head = scores.topk(min(_CLASSES_PER_POINT, scores.shape[1]), 1)
            pairs = (products.unsqueeze(2) * head.values.unsqueeze(1)).flatten(1)
            best = pairs.topk(min(_CLASSES_PER_POINT, pairs.shape[1]), 1)
            before, own = best.indices // head.values.shape[1], best.indices % head.values.shape[1]
            earlier = labels.gather(1, before.unsqueeze(2).expand(-1, -1, labels.shape[2]))
            labels = torch.cat([earlier, head.indices.gather(1, own).unsqueeze(2)], 2)
            products = best.values
        return products, labels


def _focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The binary focal loss of each logit (arXiv:1708.02002, eq. 5)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = logits.sigmoid()
    wrong = p + targets - 2 * p * targets
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * wrong**gamma * cross_entropy


def _distance_iou_loss(predicted_M2: Tensor, true_M2: Tensor) -> Tensor:
    """1 - IoU + (distance of the middles / length of the hull)^2 of spans by distances from a common point, (M,).

    Neither denominator is 0, since a true span has a length.
    """
    overlap = torch.minimum(predicted_M2, true_M2).sum(1)
    union = predicted_M2.sum(1) + true_M2.sum(1) - overlap
    hull = torch.maximum(predicted_M2, true_M2).sum(1)
    middles = (predicted_M2 - true_M2).diff(dim=1).squeeze(1) / 2
    return 1 - overlap / union + (middles / hull) ** 2
