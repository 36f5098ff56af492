"""Dynamic convolution: attention over kernels, frame by frame (arXiv:1912.03458)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models.rivals.mixture import KernelMixture, per_frame
from tadaconv.models.rivals.operator import Operator, hidden_width


class DynamicConv(KernelMixture):
    """:class:`KernelMixture` with ``r = softmax(FC_{C/4->K}(ReLU(FC_{C->C/4}(v))) / temperature)``, random at first.

    Args:
        conv: the convolution that is replaced.
        num_kernels: K.
        reduction: r, where the hidden layer has C / r channels.
        temperature: of the softmax over kernels.
    """

    def __init__(self, conv: nn.Conv2d, num_kernels: int, reduction: int, temperature: float) -> None:
        super().__init__(conv, num_kernels)
        self.temperature = temperature
        hidden = hidden_width(conv.in_channels, reduction)
        self.squeeze = nn.Linear(conv.in_channels, hidden).to(conv.weight.device, conv.weight.dtype)
        self.attend = nn.Linear(hidden, num_kernels).to(conv.weight.device, conv.weight.dtype)

    def route(self, v_BC: Tensor) -> Tensor:
        """The kernels' weights, which sum to one."""
        return torch.softmax(self.attend(F.relu(self.squeeze(v_BC))) / self.temperature, 1)


def add_dynamic_conv(conv: nn.Module, num_kernels: int = 4, reduction: int = 4, temperature: float = 1.0) -> nn.Module:
    """:class:`DynamicConv` in place of a per-frame convolution, with the paper's 4 kernels and reduction.

    Equal kernels whose weights sum to one: the network starts as its host, to rounding.

    The paper cools the temperature from 30 to 1 over its first epochs, so that attention over random kernels
    is even at first and each of them learns. A layer knows no epochs, so here it is constant, at the final 1;
    attention at its random start is nearly even, and the kernels start equal.

    Raises :class:`UserError` for a convolution that is not per frame, a reduction below 1 or above the channels, or a
    temperature that is not positive and finite.

    Args:
        conv: the convolution that is replaced.
        num_kernels: K, the kernels that are mixed.
        reduction: r, where the hidden layer of the attention has C / r channels.
        temperature: of the softmax over kernels.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise UserError(f"option temperature must be finite and above 0, not {temperature}")
    return DynamicConv(per_frame(conv), num_kernels, reduction, temperature)


OPERATOR = Operator(add_dynamic_conv, source="dynamic convolution, arXiv:1912.03458", identity="rounding")
