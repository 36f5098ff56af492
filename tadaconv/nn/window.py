"""The geometry of a convolution: where its taps are, and the part of the frames under each of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Where the taps of a convolution are; sizes in pixels, height before width."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def num_taps(self) -> int:
        """Factors per frame and channel."""
        return self.kernel[0] * self.kernel[1]

    def size_out(self, x_BCHW: Tensor) -> tuple[int, int]:
        """Height and width of the output, in pixels."""
        height, width = (
            (x_BCHW.shape[2 + i] + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i]
            + 1
            for i in (0, 1)
        )
        return height, width

    def pad(self, x_BCHW: Tensor) -> Tensor:
        """The frames with their padding, as (B, H, W, G, I)."""
        top, left = self.padding
        padded = F.pad(x_BCHW, (left, left, top, top)) if top or left else x_BCHW
        padded_BHWGC: Tensor = padded.permute(0, 2, 3, 1).unflatten(3, (self.groups, -1))
        return padded_BHWGC

    def shifted(self, padded_BHWGC: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """The part of the padded frames under each tap, (G, B, H', W', I): views."""
        for tap in range(self.num_taps):
            top, left = self.dilation[0] * (tap // self.kernel[1]), self.dilation[1] * (tap % self.kernel[1])
            rows = slice(top, top + self.stride[0] * (size[0] - 1) + 1, self.stride[0])
            columns = slice(left, left + self.stride[1] * (size[1] - 1) + 1, self.stride[1])
            yield padded_BHWGC[:, rows, columns].permute(3, 0, 1, 2, 4)

    def kernels(self, weight_OIKK: Tensor) -> Tensor:
        """The shared kernel as a matrix a group, (G, K * I, O / G)."""
        by_group: Tensor = weight_OIKK.flatten(2).unflatten(0, (self.groups, -1))  # (G, O / G, I, K)
        return by_group.permute(0, 3, 2, 1).flatten(1, 2)

    def by_tap(self, taps_BCK: Tensor) -> list[Tensor]:
        """The factors of each tap, (G or 1, B, 1, 1, I or 1)."""
        groups = 1 if taps_BCK.shape[1] == 1 else self.groups
        by_group = taps_BCK.unflatten(1, (groups, -1)).permute(3, 1, 0, 2)
        return [factor[:, :, None, None] for factor in by_group]


def conv_in_one_piece(x_BCHW: Tensor, weight_OIKK: Tensor, taps_BCK: Tensor, window: Window) -> Tensor:
    """Convolve frame b with ``weight * taps_b``, (B, O, H', W'), by operations that autograd and compilers support.

    The whole unfolded input is made at once.

    Args:
        x_BCHW: frames, (B, C, H, W).
        weight_OIKK: the shared kernel, (O, I, kh, kw).
        taps_BCK: the factors of each frame, (B, C or 1, kh * kw).
        window: where the taps are.
    """
    size = window.size_out(x_BCHW)
    seen = torch.stack(list(window.shifted(window.pad(x_BCHW), size)), 4)  # (G, B, H', W', K, I)
    factors = torch.stack(window.by_tap(taps_BCK), 4)
    columns = (seen * factors).to(x_BCHW.dtype)
    product: Tensor = torch.matmul(columns.flatten(4).flatten(1, 3), window.kernels(weight_OIKK))
    y_BHWGO: Tensor = product.unflatten(1, (-1, *size)).permute(1, 2, 3, 0, 4)
    return y_BHWGO.flatten(3).permute(0, 3, 1, 2)


def gradients_with_graph(
    x_BCHW: Tensor, weight_OIKK: Tensor, taps_BCK: Tensor, window: Window, needed: Sequence[bool], g_BOHW: Tensor
) -> list[Tensor | None]:
    """The gradients of :func:`conv_in_one_piece`, which can be differentiated again.

    Args:
        x_BCHW: frames, (B, C, H, W).
        weight_OIKK: the shared kernel, (O, I, kh, kw).
        taps_BCK: the factors of each frame, (B, C or 1, kh * kw).
        window: where the taps are.
        needed: whether the gradients of frames, kernel and factors are needed.
        g_BOHW: the gradient of the output, (B, O, H', W').

    Returns:
        The gradients of frames, kernel and factors; None where one is not needed.
    """
    inputs = [t for t, wanted in zip((x_BCHW, weight_OIKK, taps_BCK), needed, strict=True) if wanted]
    y = conv_in_one_piece(x_BCHW, weight_OIKK, taps_BCK, window)
    grads = iter(torch.autograd.grad(y, inputs, g_BOHW, create_graph=True))
    return [next(grads) if wanted else None for wanted in needed]
