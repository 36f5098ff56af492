"""Factorised temporal convolution: a (k, 1, 1) convolution after the spatial one (R(2+1)D, arXiv:1711.11248)."""

import torch
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models.rivals.insertion import convolution, put_after
from tadaconv.models.rivals.operator import Operator
from tadaconv.nn.frames import TemporalConv


class IdentityTemporalConv(TemporalConv):
    """A temporal convolution that starts as the identity, (N, O, T, H, W) to the same shape, channels-last."""

    def __init__(self, num_channels: int, kernel: int) -> None:
        super().__init__(num_channels, num_channels, kernel, bias=False)
        nn.init.zeros_(self.weight)
        with torch.no_grad():
            self.weight[:, :, kernel // 2, 0, 0].fill_diagonal_(1)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve over time; a single clip on one thread would come back in another layout."""
        return super().forward(input).contiguous(memory_format=torch.channels_last_3d)


def add_temporal_conv(conv: nn.Module, kernel: int = 3) -> nn.Module:
    """``z_t = sum_k V_k y_{t+k}``, k from -(kernel // 2) to kernel // 2, after the spatial convolution's ``y``.

    y and z are (N, O, T, H', W'), each V_k is (O, O) and mixes channels, frames outside the clip are zero. As in
    R(2+1)D space comes first; unlike there, the width stays and no norm or ReLU is between the two, so that V can
    start as the identity: V_0 the unit matrix, the other taps zero. Sums of products with one and zero are exact: the
    host's output bit for bit, unless the device rounds the factors of a product (TF32 on CUDA).

    Costs ``kernel * O * O`` multiply-adds an output position. Raises :class:`UserError` unless ``kernel`` is a positive
    odd number of frames.

    Args:
        conv: the convolution of a block.
        kernel: k, frames.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise UserError(f"option kernel must be a positive odd number of frames, not {kernel}")
    host = convolution(conv)
    return put_after(host, IdentityTemporalConv(host.out_channels, kernel))


OPERATOR = Operator(add_temporal_conv, source="R(2+1)D, arXiv:1711.11248", identity="exact")
