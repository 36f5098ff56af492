"""Residual networks on clips (He et al., arXiv:1512.03385), with timm's parameter names.

Every layer takes (N, C, T, H, W); the head averages over frames and space. How many frames a block's convolutions see
is set by :class:`TemporalKernels`: one in TSN; several in the entry convolutions of SlowOnly and SlowFast
(arXiv:1812.03982), in the 3x3 convolutions of R3D, and in separate convolutions of R(2+1)D (both arXiv:1711.11248).
Without the max-pool, as in TSN, TAda2D, R3D and R(2+1)D, the first block of res2 has stride 2 instead; with it, as in
the SlowFast family, res2 has stride 1.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tadaconv.models.host import Host, Site
from tadaconv.nn import FrameConv2d
from tadaconv.nn.frames import FoldedBatchNorm2d, TemporalConv, ThenNorm, fold, normalise, unfold


@dataclass(frozen=True)
class TemporalKernels:
    """How many frames a block's convolutions see.

    Attributes:
        entry: frames of the block's first convolution.
        spatial: frames of every 3x3 convolution, which is (spatial, 3, 3).
        factorised: a 3x3 convolution stays (1, 3, 3), and batch norm, ReLU, a (spatial, 1, 1) convolution of the same
            width and a second batch norm come after it.
    """

    entry: int = 1
    spatial: int = 1
    factorised: bool = False

    @property
    def joint(self) -> int:
        """Frames of the 3x3 convolution itself, without those of the convolution that is factored out of it."""
        return 1 if self.factorised else self.spatial


FRAME_BY_FRAME = TemporalKernels()
TSN = (FRAME_BY_FRAME,) * 4
SLOW_ONLY = (FRAME_BY_FRAME, FRAME_BY_FRAME, TemporalKernels(entry=3), TemporalKernels(entry=3))
R2PLUS1D = (TemporalKernels(spatial=3, factorised=True),) * 4
R3D = (TemporalKernels(spatial=3),) * 4

FIFTY = (3, 4, 6, 3)
WIDTHS = (64, 64, 128, 256, 512)
ONE_EACH = (1, 1, 1, 1)
TINY_WIDTHS = (16, 32, 48, 64, 64)


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, frames: int = 1) -> FrameConv2d | nn.Conv3d:
    """A (frames, kernel, kernel) convolution without bias, of ``stride`` in space and none in time."""
    if frames == 1:
        return FrameConv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    if kernel == 1:
        assert stride == 1
        return TemporalConv(c_in, c_out, frames, bias=False)
    sides = (frames // 2, kernel // 2, kernel // 2)
    return nn.Conv3d(c_in, c_out, (frames, kernel, kernel), (1, stride, stride), sides, bias=False)


def _factored_out(width: int, kernels: TemporalKernels) -> nn.Module:
    """The convolution over time after the batch norm of a 3x3 convolution, or an identity.

    The batch norm of the 3x3 convolution stays next to it, so that pretrained statistics match their convolution.
    """
    if not kernels.factorised:
        return nn.Identity()
    conv, bn = TemporalConv(width, width, kernels.spatial, bias=False), FoldedBatchNorm2d(width)
    return ThenNorm(OrderedDict(relu=nn.ReLU(), conv=conv, bn=bn))


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and c_in == c_out:
        return None
    return ThenNorm(_conv(c_in, c_out, 1, stride), FoldedBatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; its spatial site is the second convolution.

    The first convolution is both the entry and a 3x3: it sees the larger of the two numbers of frames, so that
    (3, 1, 1) entries become (3, 3, 3) here. Factorised, each of the two has a convolution over time after it.

    Args:
        c_in: C.
        width: channels of the 3x3 convolutions.
        stride: of the block, in pixels.
        kernels: how many frames its convolutions see.
    """

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int, kernels: TemporalKernels = FRAME_BY_FRAME) -> None:
        super().__init__()
        self.conv1 = _conv(c_in, width, 3, stride, max(kernels.entry, kernels.joint))
        self.bn1 = FoldedBatchNorm2d(width)
        self.temporal1 = _factored_out(width, kernels)
        self.conv2, self.bn2 = _conv(width, width, 3, 1, kernels.joint), FoldedBatchNorm2d(width)
        self.temporal2 = _factored_out(width, kernels)
        self.downsample = _shortcut(c_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) to (N, width, T, H / stride, W / stride)."""
        y = torch.relu(self.temporal1(normalise(self.bn1, self.conv1(x))))
        y = self.temporal2(normalise(self.bn2, self.conv2(y)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions and a shortcut; its spatial site is the 3x3 convolution.

    Args:
        c_in: C.
        width: channels of the 3x3 convolutions.
        stride: of the block, in pixels.
        kernels: how many frames its convolutions see.
    """

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int, kernels: TemporalKernels = FRAME_BY_FRAME) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(c_in, width, 1, 1, kernels.entry), FoldedBatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride, kernels.joint), FoldedBatchNorm2d(width)
        self.temporal2 = _factored_out(width, kernels)
        self.conv3, self.bn3 = _conv(width, 4 * width, 1), FoldedBatchNorm2d(4 * width)
        self.downsample = _shortcut(c_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) to (N, 4 * width, T, H / stride, W / stride)."""
        y = torch.relu(normalise(self.bn1, self.conv1(x)))
        y = torch.relu(self.temporal2(normalise(self.bn2, self.conv2(y))))
        y = normalise(self.bn3, self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Pathway(nn.Module):
    """Stem and stages of a residual network, without a head.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks in res2 to res5.
        widths: channels of the stem and of the 3x3 convolutions in res2 to res5.
        max_pool: a 3x3 max-pool of stride 2 after the stem; without it the first block of res2 has stride 2.
        small_stem: a 3x3 stem, for frames of a few dozen pixels, in place of the 7x7; both of stride 2.
        stem_frames: frames the stem's convolution sees.
        kernels: frames the convolutions of res2 to res5 see.
        joined: channels that another pathway adds to the inputs of res2 to res5.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        widths: Sequence[int] = WIDTHS,
        max_pool: bool = False,
        small_stem: bool = False,
        stem_frames: int = 1,
        kernels: Sequence[TemporalKernels] = TSN,
        joined: Sequence[int] = (0, 0, 0, 0),
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, widths[0], 3 if small_stem else 7, 2, stem_frames)
        self.bn1 = FoldedBatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if max_pool else None
        c_in, stages = widths[0], []
        for i, (depth, width) in enumerate(zip(depths, widths[1:], strict=True)):
            stride = 1 if i == 0 and max_pool else 2
            blocks = [block(c_in + joined[i], width, stride, kernels[i])]
            c_in = width * block.expansion
            blocks += [block(c_in, width, 1, kernels[i]) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.num_features = c_in

    @property
    def stages(self) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential, nn.Sequential]:
        """res2 to res5."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def stem(self, x_NCTHW: Tensor) -> Tensor:
        """(N, 3, T, H, W) to the input of res2, channels last; all that follows keeps that layout."""
        x = x_NCTHW.contiguous(memory_format=torch.channels_last_3d)
        x = torch.relu(normalise(self.bn1, self.conv1(x)))
        return x if self.maxpool is None else unfold(self.maxpool(fold(x)), x.shape[0])

    def sites(self, prefix: str = "", temporal_stride: int = 1) -> Iterator[Site]:
        """Every block's spatial convolution and, where there is one, the temporal convolution after it, in order.

        Args:
            prefix: of the modules' names, where the pathway is part of a network.
            temporal_stride: how many frames of the network's input make one frame of the pathway.
        """
        for stage, blocks in enumerate(self.stages, 2):
            for b, block in enumerate(blocks):
                at = f"{prefix}layer{stage - 1}.{b}"
                entry = f"{at}.conv1"
                yield Site(stage, b, f"{at}.conv2", f"{at}.bn2", entry, "spatial", temporal_stride)
                if isinstance(block.temporal2, nn.Sequential):
                    names = f"{at}.temporal2.conv", f"{at}.temporal2.bn"
                    yield Site(stage, b, *names, entry, "temporal", temporal_stride)


def init_convolutions(model: nn.Module) -> None:
    """He initialisation of the convolutions; norms keep weight 1.

    A last norm of weight zero in every block, as in some recipes, would block the gradient of an operator
    that is plugged in before it.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNet(Pathway, Host):
    """A residual network on clips, (N, 3, T, H, W) to logits (N, num_classes).

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks in res2 to res5.
        num_classes: outputs of the classifier.
        dropout: before the classifier.
        pathway: widths, max_pool, small_stem, stem_frames and kernels, as for :class:`Pathway`.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int,
        *,
        dropout: float = 0.0,
        **pathway: Any,
    ) -> None:
        super().__init__(block, depths, **pathway)
        self.dropout = nn.Dropout(dropout)
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes)
        init_convolutions(self)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Class scores of each clip, (N, num_classes)."""
        scores: Tensor = self.fc(self.dropout(self._last_stage(x_NCTHW).mean((2, 3, 4))))
        return scores

    def features(self, x_NCTHW: Tensor) -> Tensor:
        """Features by frame, (N, C, T): their mean over time goes through dropout and classifier in ``forward``."""
        return self._last_stage(x_NCTHW).mean((3, 4))

    def drop_classifier(self) -> int:
        """Remove the classifier; returns the channels of res5."""
        self.fc = nn.Identity()
        return self.num_features

    def _last_stage(self, x_NCTHW: Tensor) -> Tensor:
        """The output of res5, (N, C, T, H', W')."""
        x = self.stem(x_NCTHW)
        for stage in self.stages:
            x = stage(x)
        return x


def _tiny(num_classes: int, dropout: float, **pathway: Any) -> ResNet:
    return ResNet(BasicBlock, ONE_EACH, num_classes, widths=TINY_WIDTHS, small_stem=True, dropout=dropout, **pathway)


def tiny(num_classes: int, dropout: float) -> ResNet:
    """One basic block a stage at an eighth to a quarter of ResNet-18's width, for frames of a few dozen pixels."""
    return _tiny(num_classes, dropout)


def resnet18(num_classes: int, dropout: float) -> ResNet:
    """ResNet-18, frame by frame, without the max-pool."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, dropout=dropout)


def resnet34(num_classes: int, dropout: float) -> ResNet:
    """ResNet-34, frame by frame, without the max-pool."""
    return ResNet(BasicBlock, FIFTY, num_classes, dropout=dropout)


def resnet50(num_classes: int, dropout: float) -> ResNet:
    """ResNet-50, frame by frame, without the max-pool: TSN, and with the plug-in TAda2D."""
    return ResNet(Bottleneck, FIFTY, num_classes, dropout=dropout)


def resnet50_max_pool(num_classes: int, dropout: float) -> ResNet:
    """ResNet-50, frame by frame, as it is on images."""
    return ResNet(Bottleneck, FIFTY, num_classes, max_pool=True, dropout=dropout)


def slow_only_8x8(num_classes: int, dropout: float) -> ResNet:
    """SlowOnly (arXiv:1812.03982): entry convolutions of 3 frames in res4 and res5; for 8 frames at interval 8."""
    return ResNet(Bottleneck, FIFTY, num_classes, max_pool=True, kernels=SLOW_ONLY, dropout=dropout)


def r2plus1d(num_classes: int, dropout: float) -> ResNet:
    """R(2+1)D-50 (arXiv:1711.11248) at ResNet-50's widths: every 3x3 convolution is followed by one over time."""
    return ResNet(Bottleneck, FIFTY, num_classes, kernels=R2PLUS1D, dropout=dropout)


def r3d(num_classes: int, dropout: float) -> ResNet:
    """R3D-50 (arXiv:1711.11248): every 3x3 convolution is (3, 3, 3), and the stem (3, 7, 7)."""
    return ResNet(Bottleneck, FIFTY, num_classes, stem_frames=3, kernels=R3D, dropout=dropout)


def tiny_slow_only_8x8(num_classes: int, dropout: float) -> ResNet:
    """``tiny`` as SlowOnly: the first convolutions of res4 and res5 are (3, 3, 3)."""
    return _tiny(num_classes, dropout, kernels=SLOW_ONLY, max_pool=True)


def tiny_r2plus1d(num_classes: int, dropout: float) -> ResNet:
    """``tiny`` as R(2+1)D: both convolutions of every block are followed by one over time."""
    return _tiny(num_classes, dropout, kernels=R2PLUS1D)


def tiny_r3d(num_classes: int, dropout: float) -> ResNet:
    """``tiny`` as R3D: every convolution but the shortcuts' is (3, 3, 3)."""
    return _tiny(num_classes, dropout, kernels=R3D, stem_frames=3)
