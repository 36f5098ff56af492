"""A kernel for each frame, mixed from several: what conditional and dynamic convolution share."""

from abc import ABC, abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.nn.frames import FrameConv2d, fold, unfold


def per_frame(conv: nn.Module) -> nn.Conv2d:
    """``conv``, if it convolves frame by frame, zero-padded; raises :class:`UserError` if not."""
    plain = type(conv) in (nn.Conv2d, FrameConv2d) and not list(conv.children())
    if not plain or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        says = f"{type(conv).__name__}({conv.extra_repr()})"
        raise UserError(
            f"a kernel for each frame stands in for a zero-padded Conv2d, not for {says}; choose another rival or "
            "placement"
        )
    return cast(nn.Conv2d, conv)


class KernelMixture(nn.Module, ABC):
    """Convolve frame b with ``sum_k r_bk W_k``, the mixing weights ``r`` made from the frame itself.

    (N, C, T, H, W) to (N, O, T, H', W'). ``W_0`` is the host's kernel under the host's name, ``weight``; the others
    lie in ``kernels``, (K - 1, O, C / groups * kh * kw), and start as copies of it. Biases are mixed alike.

    Kernels are mixed before they are applied, as both papers do: the host's multiply-adds plus K a kernel element and
    frame, where mixing outputs would take K times the host's. All frames run as the groups of one convolution.
    """

    def __init__(self, conv: nn.Conv2d, num_kernels: int) -> None:
        super().__init__()
        if num_kernels < 1:
            raise UserError(f"a mixture has at least 1 kernel, not {num_kernels}")
        self.num_kernels, self.out_channels = num_kernels, conv.out_channels
        self.stride, self.padding, self.dilation = (
            cast(tuple[int, int], value) for value in (conv.stride, conv.padding, conv.dilation)
        )
        self.groups = conv.groups
        self.weight, self.bias = conv.weight, conv.bias
        others = (num_kernels - 1, conv.out_channels)
        self.kernels = nn.Parameter(conv.weight.detach().flatten(1).expand(*others, -1).clone())
        self.biases = None if conv.bias is None else nn.Parameter(conv.bias.detach().expand(others).clone())

    @abstractmethod
    def route(self, v_BC: Tensor) -> Tensor:
        """The mixing weights of each frame, (B, K), from its descriptor, its spatial average."""

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Convolve every frame with its own kernel."""
        x_BCHW = fold(x_NCTHW)
        num_frames = x_BCHW.shape[0]
        routing_BK = self.route(x_BCHW.mean((2, 3)))
        mixed = torch.matmul(routing_BK, torch.cat([self.weight.flatten(1)[None], self.kernels]).flatten(1))
        bias = None
        if self.bias is not None and self.biases is not None:
            bias = torch.matmul(routing_BK, torch.cat([self.bias[None], self.biases])).flatten()
        y = F.conv2d(
            x_BCHW.reshape(1, -1, *x_BCHW.shape[2:]),
            mixed.view(-1, *self.weight.shape[1:]),
            bias,
            self.stride,
            self.padding,
            self.dilation,
            num_frames * self.groups,
        )
        y_BOHW = y.view(num_frames, self.out_channels, *y.shape[2:])
        return unfold(y_BOHW.contiguous(memory_format=torch.channels_last), x_NCTHW.shape[0])

    def extra_repr(self) -> str:
        """The convolution's shape and the number of kernels."""
        shape = tuple(self.weight.shape)
        return f"{shape}, stride={self.stride}, groups={self.groups}, num_kernels={self.num_kernels}"
