"""Residual networks on clips (He et al., arXiv:1512.03385), with timm's parameter names.

Every layer takes (N, C, T, H, W) and treats frames alike; the head averages over frames and space. Without the
max-pool, as in TSN and TAda2D, the first block of res2 has stride 2 instead; with it, as in the SlowFast family,
res2 has stride 1.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tadaconv.models.host import Host, Site
from tadaconv.nn import FrameBatchNorm2d, FrameConv2d
from tadaconv.nn.frames import fold, unfold


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> FrameConv2d:
    return FrameConv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(_conv(c_in, c_out, 1, stride), FrameBatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; its spatial site is the second convolution."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(c_in, width, 3, stride), FrameBatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), FrameBatchNorm2d(width)
        self.downsample = _shortcut(c_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) to (N, width, T, H / stride, W / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions and a shortcut; its spatial site is the 3x3 convolution."""

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(c_in, width, 1), FrameBatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), FrameBatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, 4 * width, 1), FrameBatchNorm2d(4 * width)
        self.downsample = _shortcut(c_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) to (N, 4 * width, T, H / stride, W / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Host):
    """A residual network on clips, (N, 3, T, H, W) to logits (N, num_classes).

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks in res2 to res5.
        widths: channels of the stem and of the 3x3 convolutions in res2 to res5.
        num_classes: outputs of the classifier.
        max_pool: a 3x3 max-pool of stride 2 after the stem; without it the first block of res2 has stride 2.
        small_stem: a 3x3 stem, for frames of a few dozen pixels, in place of the 7x7; both of stride 2.
        dropout: before the classifier.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int,
        *,
        widths: tuple[int, int, int, int, int] = (64, 64, 128, 256, 512),
        max_pool: bool = False,
        small_stem: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, widths[0], 3 if small_stem else 7, 2)
        self.bn1 = FrameBatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if max_pool else None
        c_in = widths[0]
        for i, (depth, width) in enumerate(zip(depths, widths[1:], strict=True)):
            stride = 1 if i == 0 and max_pool else 2
            blocks = []
            for b in range(depth):
                blocks.append(block(c_in, width, stride if b == 0 else 1))
                c_in = width * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(c_in, num_classes)
        self._init_weights()

    def _init_weights(self) -> None:
        """He initialisation of the convolutions; norms keep weight 1.

        A last norm of weight zero in every block, as some trainings have it, would hold back the gradient of whatever
        is plugged in before it.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def sites(self) -> Iterator[Site]:
        """Every block's spatial convolution, in order."""
        for stage in (2, 3, 4, 5):
            blocks = self.get_submodule(f"layer{stage - 1}")
            assert isinstance(blocks, nn.Sequential)
            for b in range(len(blocks)):
                name = f"layer{stage - 1}.{b}"
                yield Site(stage, b, f"{name}.conv2", f"{name}.bn2", f"{name}.conv1")

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Class scores of each clip, (N, num_classes)."""
        x = x_NCTHW.contiguous(memory_format=torch.channels_last_3d)
        x = torch.relu(self.bn1(self.conv1(x)))
        if self.maxpool is not None:
            x = unfold(self.maxpool(fold(x)), x.shape[0])
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{stage}")(x)
        scores: Tensor = self.fc(self.dropout(x.mean((2, 3, 4))))
        return scores
