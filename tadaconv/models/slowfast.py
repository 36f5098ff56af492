"""SlowFast networks on clips (Feichtenhofer et al., arXiv:1812.03982), with timm's names in each pathway."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models.host import Host, Site
from tadaconv.models.resnet import (
    FIFTY,
    ONE_EACH,
    SLOW_ONLY,
    TINY_WIDTHS,
    WIDTHS,
    BasicBlock,
    Bottleneck,
    Pathway,
    TemporalKernels,
    init_convolutions,
)
from tadaconv.nn.frames import FoldedBatchNorm2d, normalise


class Lateral(nn.Module):
    """From the fast pathway to the slow one: twice its channels, every ``alpha``-th frame.

    (N, C, T, H, W) to (N, 2 * C, T / alpha, H, W).

    Args:
        channels: C, of the fast pathway.
        frames: temporal kernel.
        alpha: frames of the fast pathway to one of the slow.
    """

    def __init__(self, channels: int, frames: int, alpha: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            channels, 2 * channels, (frames, 1, 1), stride=(alpha, 1, 1), padding=(frames // 2, 0, 0), bias=False
        )
        self.bn = FoldedBatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolution over time, batch norm, ReLU; output frame t is centred on input frame alpha * t."""
        return torch.relu(normalise(self.bn, self.conv(x)))


class SlowFast(Host):
    """A wide pathway on every ``alpha``-th frame, a thin one on all: (N, 3, T, H, W) to logits (N, num_classes).

    The input is the fast pathway's clip, so T is a multiple of ``alpha``; the slow pathway takes frames 0, alpha,
    2 * alpha, ... of it, on which the lateral convolutions are centred. The slow one is a SlowOnly network: its entry
    convolutions are (3, 1, 1) in res4 and res5. The fast one's are everywhere, after a stem of 5 frames. Its features
    join the slow pathway before every stage; the classifier sees both pathways' averages.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks in res2 to res5 of either pathway.
        num_classes: outputs of the classifier.
        alpha: frames of the fast pathway to one of the slow.
        lateral_frames: temporal kernel of the lateral convolutions.
        widths: channels of the slow pathway: of the stem and of the 3x3 convolutions in res2 to res5.
        fast_widths: the same of the fast pathway; by default an eighth (beta) of the slow one's.
        small_stem: 3x3 stems, for frames of a few dozen pixels, in place of the 7x7.
        dropout: before the classifier.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int,
        *,
        alpha: int,
        lateral_frames: int,
        widths: Sequence[int] = WIDTHS,
        fast_widths: Sequence[int] = (8, 8, 16, 32, 64),
        small_stem: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        joined = (fast_widths[0], *(width * block.expansion for width in fast_widths[1:4]))
        pathway = partial(Pathway, block, depths, max_pool=True, small_stem=small_stem)
        self.slow = pathway(widths=widths, kernels=SLOW_ONLY, joined=[2 * channels for channels in joined])
        self.fast = pathway(widths=fast_widths, stem_frames=5, kernels=[TemporalKernels(entry=3)] * 4)
        self.laterals = nn.ModuleList(Lateral(channels, lateral_frames, alpha) for channels in joined)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.slow.num_features + self.fast.num_features, num_classes)
        init_convolutions(self)

    def sites(self) -> Iterator[Site]:
        """Every block's spatial convolution, the slow pathway's before the fast one's."""
        yield from self.slow.sites("slow.", self.alpha)
        yield from self.fast.sites("fast.")

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Class scores of each clip, (N, num_classes); raises :class:`UserError` unless T is a multiple of alpha."""
        num_frames = x_NCTHW.shape[2]
        if num_frames % self.alpha:
            raise UserError(
                f"the slow pathway takes every {self.alpha}th frame; give clips of a multiple of {self.alpha} frames, "
                f"not of {num_frames}"
            )
        slow, fast = self.slow.stem(x_NCTHW[:, :, :: self.alpha]), self.fast.stem(x_NCTHW)
        for lateral, slow_stage, fast_stage in zip(self.laterals, self.slow.stages, self.fast.stages, strict=True):
            slow, fast = slow_stage(torch.cat([slow, lateral(fast)], 1)), fast_stage(fast)
        features = torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1)
        scores: Tensor = self.fc(self.dropout(features))
        return scores


def slowfast_4x16(num_classes: int, dropout: float) -> SlowFast:
    """SlowFast 4x16 with ResNet-50: a clip of 32 frames, 4 of them in the slow pathway."""
    return SlowFast(Bottleneck, FIFTY, num_classes, alpha=8, lateral_frames=5, dropout=dropout)


def slowfast_8x8(num_classes: int, dropout: float) -> SlowFast:
    """SlowFast 8x8 with ResNet-50: a clip of 32 frames, 8 of them in the slow pathway."""
    return SlowFast(Bottleneck, FIFTY, num_classes, alpha=4, lateral_frames=7, dropout=dropout)


def _tiny_slowfast(num_classes: int, dropout: float, alpha: int, lateral_frames: int) -> SlowFast:
    """Two tiny pathways; the fast one is no thinner than 16 channels, below which processors are not used fully."""
    return SlowFast(
        BasicBlock,
        ONE_EACH,
        num_classes,
        alpha=alpha,
        lateral_frames=lateral_frames,
        widths=TINY_WIDTHS,
        fast_widths=(16, 16, 16, 16, 16),
        small_stem=True,
        dropout=dropout,
    )


def tiny_slowfast_4x16(num_classes: int, dropout: float) -> SlowFast:
    """SlowFast 4x16 from tiny pathways: entries are (3, 3, 3) where the full-size network's are (3, 1, 1)."""
    return _tiny_slowfast(num_classes, dropout, alpha=8, lateral_frames=5)


def tiny_slowfast_8x8(num_classes: int, dropout: float) -> SlowFast:
    """SlowFast 8x8 from tiny pathways: entries are (3, 3, 3) where the full-size network's are (3, 1, 1)."""
    return _tiny_slowfast(num_classes, dropout, alpha=4, lateral_frames=7)
