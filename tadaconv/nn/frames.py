"""Clips as batches of frames. Under ``channels_last_3d`` folding and unfolding are views, without a copy."""

from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def fold(x_NCTHW: Tensor) -> Tensor:
    """The frames of all clips as one batch: (N, C, T, H, W) to (N * T, C, H, W)."""
    return x_NCTHW.transpose(1, 2).flatten(0, 1)


def unfold(x_BCHW: Tensor, num_clips: int) -> Tensor:
    """Undo :func:`fold`: (N * T, C, H, W) to (N, C, T, H, W)."""
    frames: Tensor = x_BCHW.unflatten(0, (num_clips, -1))
    return frames.transpose(1, 2)


def channels_last(network: Network) -> Network:
    """``network`` with its kernels in channels-last layouts; ``nn.Module.to`` cannot where some are over time."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return network


class FrameConv2d(nn.Conv2d):
    """``nn.Conv2d`` on every frame of a clip: (N, C, T, H, W) to (N, O, T, H', W'), same parameters."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve every frame with the same kernel."""
        return unfold(super().forward(fold(input)), input.shape[0])


class FrameBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over all frames of all clips, (N, C, T, H, W), same parameters."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel over clips, frames and space."""
        return unfold(super().forward(fold(input)), input.shape[0])


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` in a network on clips that calls it by :func:`normalise`, on frames, (N * T, C, H, W).

    Functions that convert or freeze the batch norms of a network replace it by one on frames, which then gets frames.
    """


class ClipNorm(nn.Module):
    """A norm that takes clips, (N, C, T, H, W), where :func:`normalise` passes frames to other norms."""


def normalise(norm: nn.Module, x_NCTHW: Tensor) -> Tensor:
    """``norm`` of clips, (N, C, T, H, W) to the same: of their frames, (N * T, C, H, W), or, a ClipNorm, of them."""
    if isinstance(norm, ClipNorm):
        of_clips: Tensor = norm(x_NCTHW)
        return of_clips
    return unfold(norm(fold(x_NCTHW)), x_NCTHW.shape[0])


class ThenNorm(nn.Sequential):
    """Modules on clips in a row, (N, C, T, H, W), of which the last is a norm, called by :func:`normalise`."""

    def forward(self, input: Tensor) -> Tensor:
        """The clips after every module."""
        *layers, norm = self
        for layer in layers:
            input = layer(input)
        return normalise(norm, input)


def in_place_of(module: nn.Module, child: str) -> None:
    """Let state dicts name the tensors of ``module.child`` as if they were those of ``module``."""
    module.register_state_dict_post_hook(partial(_without_child, child=child))
    module.register_load_state_dict_pre_hook(partial(_with_child, child=child))


def _without_child(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any, *, child: str) -> None:
    del module, metadata
    for name in [name for name in state if name.startswith(prefix)]:  # all of them, so that they keep their order
        state[prefix + name.removeprefix(prefix).removeprefix(f"{child}.")] = state.pop(name)


def _with_child(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any, child: str) -> None:
    for name in module.get_submodule(child).state_dict():
        if prefix + name in state:
            state[f"{prefix}{child}.{name}"] = state.pop(prefix + name)


class FrameLayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each position of a clip, (N, C, T, H, W).

    Works on the channels-last view, so that a channels-last clip is not copied and keeps its layout.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise every position's channels to mean 0 and variance 1, then scale and shift."""
        y_NTHWC: Tensor = super().forward(input.permute(0, 2, 3, 4, 1))
        return y_NTHWC.permute(0, 4, 1, 2, 3)


class TemporalConv(nn.Conv3d):
    """A (k, 1, 1) convolution over time, stride 1: (N, C, T, H, W) to (N, O, T, H, W), a 5-dimensional weight.

    Runs as a two-dimensional convolution over (T, H * W), a view of a channels-last clip: two-dimensional kernels are
    the faster ones.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: k, an odd number of frames; as many zeros are padded as keep T.
        groups: as for ``nn.Conv3d``.
        bias: whether one is added.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__(
            in_channels, out_channels, (kernel_size, 1, 1), padding=(kernel_size // 2, 0, 0), groups=groups, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:
        """Convolve each position over time."""
        padding = (self.kernel_size[0] // 2, 0)
        y = F.conv2d(input.flatten(3), self.weight[..., 0], self.bias, padding=padding, groups=self.groups)
        clips: Tensor = y.unflatten(3, input.shape[3:])
        return clips
