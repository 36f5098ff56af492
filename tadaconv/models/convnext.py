"""ConvNeXt on clips (Liu et al., arXiv:2201.03545), with timm's parameter names.

Every layer takes (N, C, T, H, W), channels last throughout: the layer norms and the two linear layers of a block work
on the (N, T, H, W, C) view, without a copy. The image stem convolves every frame by itself; the clip stem
sees three frames and halves their number, as in TAdaConvNeXt (arXiv:2110.06178). The head averages over frames and
space. There is no stochastic depth: rows of one seed would differ by the blocks that were dropped.
"""

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models.host import Host, Site
from tadaconv.nn import FrameConv2d
from tadaconv.nn.frames import FrameLayerNorm2d

Four = tuple[int, int, int, int]


class Block(nn.Module):
    """A 7x7 depthwise convolution, a layer norm, an MLP over channels, a scale a channel, and a shortcut."""

    def __init__(self, channels: int, layer_scale: float) -> None:
        super().__init__()
        self.conv_dw = FrameConv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = FrameLayerNorm2d(channels)
        wide, narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.mlp = nn.Sequential(OrderedDict(fc1=wide, act=nn.GELU(), fc2=narrow))
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) to the same shape."""
        y: Tensor = self.norm(self.conv_dw(x))
        y = self.mlp(y.permute(0, 2, 3, 4, 1)) * self.gamma
        return x + y.permute(0, 4, 1, 2, 3)


class Stage(nn.Module):
    """Blocks of one width, after a layer norm and a 2x2 convolution of stride 2 in all stages but the first.

    The first has no channels before those two layers: its ``c_in`` is None.

    Args:
        c_in: channels of the stage before; None for the first, which has no convolution of stride 2.
        channels: of the stage.
        depth: blocks.
        layer_scale: start of the scale of every block.
    """

    def __init__(self, c_in: int | None, channels: int, depth: int, layer_scale: float) -> None:
        super().__init__()
        self.downsample = nn.Sequential()
        if c_in is not None:
            self.downsample.extend([FrameLayerNorm2d(c_in), FrameConv2d(c_in, channels, 2, 2)])
        self.blocks = nn.Sequential(*(Block(channels, layer_scale) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) to (N, channels, T, H', W')."""
        y: Tensor = self.blocks(self.downsample(x))
        return y


class ConvNeXt(Host):
    """ConvNeXt on clips, (N, 3, T, H, W) to logits (N, num_classes).

    Args:
        depths: blocks in the four stages, the paper's res2 to res5.
        widths: their channels.
        num_classes: outputs of the classifier.
        clip_stem: a stem of 3 frames and temporal stride 2, in place of the frame-by-frame one.
        patch: height, width and stride of the stem, in pixels.
        layer_scale: start of the scale of every block, ``gamma``.
        dropout: before the classifier.
    """

    def __init__(
        self,
        depths: Four,
        widths: Four,
        num_classes: int,
        *,
        clip_stem: bool = False,
        patch: int = 4,
        layer_scale: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.temporal_stride = 2 if clip_stem else 1
        stem = (
            nn.Conv3d(3, widths[0], (3, patch, patch), (2, patch, patch), (1, 0, 0))
            if clip_stem
            else FrameConv2d(3, widths[0], patch, patch)
        )
        self.stem = nn.Sequential(stem, FrameLayerNorm2d(widths[0]))
        befores = (None, *widths[:3])
        self.stages = nn.Sequential(
            *(Stage(*sizes, layer_scale) for sizes in zip(befores, widths, depths, strict=True))
        )
        self.num_features = widths[3]
        self.head: nn.Module = nn.Sequential(
            OrderedDict(
                norm=nn.LayerNorm(widths[3], 1e-6), drop=nn.Dropout(dropout), fc=nn.Linear(widths[3], num_classes)
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def sites(self) -> Iterator[Site]:
        """Every block's depthwise convolution, in order."""
        for i, stage in enumerate(self.stages):
            assert isinstance(stage, Stage)
            for b in range(len(stage.blocks)):
                name = f"stages.{i}.blocks.{b}"
                conv = f"{name}.conv_dw"
                yield Site(i + 2, b, conv, f"{name}.norm", conv, temporal_stride=self.temporal_stride)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Class scores of each clip, (N, num_classes); raises :class:`UserError` where frames cannot be paired."""
        scores: Tensor = self.head(self._last_stage(x_NCTHW).mean((2, 3, 4)))
        return scores

    def features(self, x_NCTHW: Tensor) -> Tensor:
        """Features by frame, (N, C, T), or by pair of frames, T / 2, with the clip stem: before the head and its norm.

        Their mean over time is what the head takes in ``forward``. Raises as ``forward``.
        """
        return self._last_stage(x_NCTHW).mean((3, 4))

    def drop_classifier(self) -> int:
        """Remove the head with its norm; returns the channels of the last stage."""
        self.head = nn.Identity()
        return self.num_features

    def _last_stage(self, x_NCTHW: Tensor) -> Tensor:
        """The output of the last stage, (N, C, T', H', W'); raises as :meth:`forward`."""
        num_frames = x_NCTHW.shape[2]
        if num_frames % self.temporal_stride:
            raise UserError(
                f"the clip stem has temporal stride {self.temporal_stride}, by which {num_frames} frames are not "
                "divisible; give an even number of frames, or take the backbone without _clip"
            )
        x = x_NCTHW.contiguous(memory_format=torch.channels_last_3d)
        y: Tensor = self.stages(self.stem(x))
        return y


_TINY, _SMALL, _BASE = (3, 3, 9, 3), (3, 3, 27, 3), (3, 3, 27, 3)
_TINY_WIDTHS, _BASE_WIDTHS = (96, 192, 384, 768), (128, 256, 512, 1024)


def convnext_tiny(num_classes: int, dropout: float) -> ConvNeXt:
    """ConvNeXt-T, frame by frame."""
    return ConvNeXt(_TINY, _TINY_WIDTHS, num_classes, dropout=dropout)


def convnext_small(num_classes: int, dropout: float) -> ConvNeXt:
    """ConvNeXt-S, frame by frame."""
    return ConvNeXt(_SMALL, _TINY_WIDTHS, num_classes, dropout=dropout)


def convnext_base(num_classes: int, dropout: float) -> ConvNeXt:
    """ConvNeXt-B, frame by frame."""
    return ConvNeXt(_BASE, _BASE_WIDTHS, num_classes, dropout=dropout)


def convnext_tiny_clip(num_classes: int, dropout: float) -> ConvNeXt:
    """ConvNeXt-T with the clip stem: TAdaConvNeXt-T, once a TAda is plugged in."""
    return ConvNeXt(_TINY, _TINY_WIDTHS, num_classes, clip_stem=True, dropout=dropout)


def convnext_small_clip(num_classes: int, dropout: float) -> ConvNeXt:
    """ConvNeXt-S with the clip stem."""
    return ConvNeXt(_SMALL, _TINY_WIDTHS, num_classes, clip_stem=True, dropout=dropout)


def convnext_base_clip(num_classes: int, dropout: float) -> ConvNeXt:
    """ConvNeXt-B with the clip stem."""
    return ConvNeXt(_BASE, _BASE_WIDTHS, num_classes, clip_stem=True, dropout=dropout)


def tiny_convnext_clip(num_classes: int, dropout: float) -> ConvNeXt:
    """A small relative for frames of a few dozen pixels, with the clip stem.

    Its blocks start at full scale: at 1e-6 the gradient of an operator that is plugged in is below what AdamW
    resolves; hundreds of epochs make up for that, a few do not.
    """
    return ConvNeXt(
        (1, 1, 2, 1), (16, 32, 48, 64), num_classes, clip_stem=True, patch=2, layer_scale=1.0, dropout=dropout
    )
