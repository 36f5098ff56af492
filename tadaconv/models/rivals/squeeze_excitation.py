"""Squeeze-and-excitation of every frame (arXiv:1709.01507)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.models.rivals.insertion import convolution, put_after
from tadaconv.models.rivals.operator import Operator, hidden_width


class FrameExcitation(nn.Module):
    """``x_t * sigmoid(W2 ReLU(W1 v_t))`` with the frame's descriptor ``v_t``, its spatial average.

    (N, C, T, H, W) to the same shape; each frame by itself. W1 is (C / r, C) and W2 (C, C / r), both with biases.
    """

    def __init__(self, num_channels: int, reduction: int) -> None:
        super().__init__()
        hidden = hidden_width(num_channels, reduction)
        self.squeeze = nn.Linear(num_channels, hidden)
        self.excite = nn.Linear(hidden, num_channels)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Scale the channels of each frame."""
        v_NTC = x_NCTHW.mean((3, 4)).transpose(1, 2)
        scale_NTC = torch.sigmoid(self.excite(F.relu(self.squeeze(v_NTC))))
        return x_NCTHW * scale_NTC.transpose(1, 2)[..., None, None]


def add_excitation(conv: nn.Module, reduction: int = 16) -> nn.Module:
    """:class:`FrameExcitation` right after a block's spatial convolution, before its norm.

    Of the places the paper compares, the one it calls SE_3x3: where TAdaConv is. The network does not start as its
    host: scales start near one half. Raises :class:`UserError` for a reduction below 1
    or above the channels.

    Args:
        conv: the convolution of a block.
        reduction: r, where the hidden layer has C / r channels.
    """
    host = convolution(conv)
    return put_after(host, FrameExcitation(host.out_channels, reduction))


OPERATOR = Operator(add_excitation, source="squeeze-and-excitation, arXiv:1709.01507")
