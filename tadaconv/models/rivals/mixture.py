"""A kernel for each frame, mixed from several: the common part of conditional and dynamic convolution."""

from abc import ABC, abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.nn.frames import FrameConv2d, fold, unfold
from tadaconv.nn.window import Window


def per_frame(conv: nn.Module) -> nn.Conv2d:
    """``conv``, if it convolves frame by frame, zero-padded; raises :class:`UserError` if not."""
    plain = type(conv) in (nn.Conv2d, FrameConv2d) and not list(conv.children())
    if not plain or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        given = f"{type(conv).__name__}({conv.extra_repr()})"
        raise UserError(
            f"a kernel for each frame replaces a zero-padded Conv2d, not {given}; choose another rival or placement"
        )
    return cast(nn.Conv2d, conv)


class KernelMixture(nn.Module, ABC):
    """Convolve frame b with ``sum_k r_bk W_k``, the mixing weights ``r`` made from the frame itself.

    (N, C, T, H, W) to (N, O, T, H', W'). ``W_0`` is the host's kernel under the host's name, ``weight``; the others
    are in ``kernels``, (K - 1, kh * kw * I, O), and start as copies of it; K counts the kernels here. Biases are mixed
    in the same way.

    Kernels are mixed before they are applied, as both papers do: the host's multiply-adds plus K for each element of
    a frame's kernel, where mixing outputs would take K times the host's.
    """

    def __init__(self, conv: nn.Conv2d, num_kernels: int) -> None:
        super().__init__()
        if num_kernels < 1:
            raise UserError(f"a mixture needs at least 1 kernel, not {num_kernels}")
        self.num_kernels, self.out_channels, self.groups = num_kernels, conv.out_channels, conv.groups
        self.kernel_size, self.stride, self.padding, self.dilation = (
            cast(tuple[int, int], value) for value in (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        )
        self.weight, self.bias = conv.weight, conv.bias
        others = num_kernels - 1
        self.kernels = nn.Parameter(self._as_matrix(conv.weight.detach()).expand(others, -1, -1).clone())
        self.biases = None if conv.bias is None else nn.Parameter(conv.bias.detach().expand(others, -1).clone())

    @staticmethod
    def _as_matrix(weight_OIKK: Tensor) -> Tensor:
        """A kernel as the matrix that columns are multiplied with, (kh * kw * I, O)."""
        return weight_OIKK.permute(2, 3, 1, 0).flatten(0, 2)

    @abstractmethod
    def route(self, v_BC: Tensor) -> Tensor:
        """The mixing weights of each frame, (B, K), from its descriptor, its spatial average."""

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Convolve every frame with its own kernel."""
        x_BCHW = fold(x_NCTHW)
        routing_BK = self.route(x_BCHW.mean((2, 3)))
        kernels = torch.cat([self._as_matrix(self.weight)[None], self.kernels])
        mixed_BJO = torch.mm(routing_BK, kernels.flatten(1)).view(-1, *kernels.shape[1:])
        y_BOHW = self._convolve(x_BCHW, mixed_BJO) if self.groups == 1 else self._convolve_in_groups(x_BCHW, mixed_BJO)
        if self.bias is not None and self.biases is not None:
            biases_BO = torch.mm(routing_BK, torch.cat([self.bias[None], self.biases]))
            y_BOHW = y_BOHW + biases_BO[:, :, None, None]
        return unfold(y_BOHW, x_NCTHW.shape[0])

    def _convolve(self, x_BCHW: Tensor, mixed_BJO: Tensor) -> Tensor:
        """One matrix product a frame, channels-last from end to end.

        As fast as a grouped convolution with a group a frame at ResNet-50's sizes, and faster on small frames.
        """
        window = Window(self.kernel_size, self.stride, self.padding, self.dilation, groups=1)
        size = window.size_out(x_BCHW)
        by_tap = window.shifted(window.pad(x_BCHW), size)
        columns = torch.cat([frames_GBHWC[0] for frames_GBHWC in by_tap], 3)  # (B, H', W', kh * kw * C)
        y_BPO = torch.bmm(columns.flatten(1, 2), mixed_BJO)
        return y_BPO.view(*columns.shape[:3], -1).permute(0, 3, 1, 2)

    def _convolve_in_groups(self, x_BCHW: Tensor, mixed_BJO: Tensor) -> Tensor:
        """One grouped convolution, the groups of all frames side by side."""
        num_frames = x_BCHW.shape[0]
        mixed = mixed_BJO.unflatten(1, (*self.kernel_size, -1)).permute(0, 4, 3, 1, 2).flatten(0, 1)
        y = F.conv2d(
            x_BCHW.reshape(1, -1, *x_BCHW.shape[2:]),
            mixed,
            None,
            self.stride,
            self.padding,
            self.dilation,
            num_frames * self.groups,
        )
        y_BOHW = y.view(num_frames, self.out_channels, *y.shape[2:])
        return y_BOHW.contiguous(memory_format=torch.channels_last)

    def extra_repr(self) -> str:
        """The convolution's shape and the number of kernels."""
        shape = tuple(self.weight.shape)
        return f"{shape}, stride={self.stride}, groups={self.groups}, num_kernels={self.num_kernels}"
