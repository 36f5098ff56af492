"""Small networks with the module names and the structure of timm's and torchvision's models, written for the tests.

Also :func:`real`, which gives the real packages to the tests that need them, or skips.
"""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

WIDTHS = (16, 16, 24, 32)


def real(package: str) -> Any:
    """timm or torchvision, or a skip with the reason: built for another torch, they fail in ways of their own."""
    try:
        return import_module(package)
    except Exception as error:
        pytest.skip(f"{package} cannot be imported: {error!r:.200}")


class ResidualBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride > 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ImageResNet(nn.Module):
    """As both packages have it: ``conv1``, ``bn1``, ``maxpool``, ``layer1`` to ``layer4``, ``fc``."""

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c_in = 16
        for i, width in enumerate(WIDTHS):
            blocks = [ResidualBlock(c_in, width, 1 if i == 0 else 2), ResidualBlock(width, width, 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            c_in = width
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for i in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    def __init__(self, width: int, conv: bool) -> None:
        super().__init__()
        layer = (lambda c_in, c_out: nn.Conv2d(c_in, c_out, 1)) if conv else nn.Linear
        self.fc1, self.fc2 = layer(width, 4 * width), layer(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class TimmConvNeXtBlock(nn.Module):
    def __init__(self, width: int, conv_mlp: bool) -> None:
        super().__init__()
        self.conv_mlp = conv_mlp
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = (LayerNorm2d if conv_mlp else nn.LayerNorm)(width, 1e-6)
        self.mlp = Mlp(width, conv_mlp)
        self.gamma = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_dw(x)
        if self.conv_mlp:
            return x + self.mlp(self.norm(y)) * self.gamma[:, None, None]
        y = self.mlp(self.norm(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return x + y * self.gamma[:, None, None]


class TimmConvNeXt(nn.Module):
    def __init__(self, num_classes: int = 7, conv_mlp: bool = False, depths: tuple[int, ...] = (1, 1, 2, 1)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 4, 4), LayerNorm2d(WIDTHS[0], 1e-6))
        self.stages = nn.Sequential()
        for i, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            stage = nn.Module()
            stage.downsample = nn.Identity()
            if i > 0:
                down = nn.Conv2d(WIDTHS[i - 1], width, 2, 2)
                stage.downsample = nn.Sequential(LayerNorm2d(WIDTHS[i - 1], 1e-6), down)
            stage.blocks = nn.Sequential(*(TimmConvNeXtBlock(width, conv_mlp) for _ in range(depth)))
            self.stages.append(stage)
        self.head = nn.Module()
        self.head.norm, self.head.fc = nn.LayerNorm(WIDTHS[3], 1e-6), nn.Linear(WIDTHS[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage.blocks(stage.downsample(x))
        return self.head.fc(self.head.norm(x.mean((2, 3))))


class Permute(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class TorchvisionConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.randn(width, 1, 1))
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(width, 1e-6),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            Permute(0, 3, 1, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale * self.block(x)


class TorchvisionConvNeXt(nn.Module):
    """Stages and what lies between them take turns in ``features``."""

    def __init__(self, num_classes: int = 7, depths: tuple[int, ...] = (1, 1, 2, 1)) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Sequential(nn.Conv2d(3, WIDTHS[0], 4, 4), LayerNorm2d(WIDTHS[0], 1e-6)))
        for i, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            if i > 0:
                down = nn.Conv2d(WIDTHS[i - 1], width, 2, 2)
                self.features.append(nn.Sequential(LayerNorm2d(WIDTHS[i - 1], 1e-6), down))
            self.features.append(nn.Sequential(*(TorchvisionConvNeXtBlock(width) for _ in range(depth))))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(LayerNorm2d(WIDTHS[3], 1e-6), nn.Flatten(1), nn.Linear(WIDTHS[3], num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


def _video_conv(kind: str, c_in: int, c_out: int, stride: int) -> nn.Module:
    if kind == "r2plus1d":
        return nn.Sequential(
            nn.Conv3d(c_in, 20, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(20),
            nn.ReLU(),
            nn.Conv3d(20, c_out, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )
    if kind == "r3d":
        return nn.Conv3d(c_in, c_out, 3, stride, 1, bias=False)
    return nn.Conv3d(c_in, c_out, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)


class VideoBlock(nn.Module):
    def __init__(self, kind: str, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(_video_conv(kind, c_in, c_out, stride), nn.BatchNorm3d(c_out), nn.ReLU())
        self.conv2 = nn.Sequential(_video_conv(kind, c_out, c_out, 1), nn.BatchNorm3d(c_out))
        strides = (1 if kind == "mc3" else stride, stride, stride)
        self.downsample = None
        if stride > 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv3d(c_in, c_out, 1, strides, bias=False), nn.BatchNorm3d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class VideoResNet(nn.Module):
    """Of torchvision's kinds ``r3d``, ``mc3`` (3-d in layer1, frame by frame after it) and ``r2plus1d``."""

    def __init__(self, kind: str, num_classes: int = 7) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 16, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(16), nn.ReLU()
        )
        c_in = 16
        for i, width in enumerate(WIDTHS):
            here = "r3d" if kind == "mc3" and i == 0 else kind
            self.add_module(f"layer{i + 1}", nn.Sequential(VideoBlock(here, c_in, width, 1 if i == 0 else 2)))
            c_in = width
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{i}")(x)
        return self.fc(x.mean((2, 3, 4)))


def off_their_start(model: nn.Module) -> nn.Module:
    """``model`` in evaluation, norms and scales drawn at random: at their start they would hide what is in a block."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.3, 0.7)
            nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in model.named_parameters():
        if name.endswith(("gamma", "layer_scale")):
            nn.init.normal_(parameter)
    return model.eval()
