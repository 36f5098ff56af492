"""Conditionally parameterised convolution, its experts routed by each frame (CondConv, arXiv:1904.04971)."""

import torch
from torch import Tensor, nn

from tadaconv.models.rivals.mixture import KernelMixture, per_frame
from tadaconv.models.rivals.operator import Operator


class CondConv(KernelMixture):
    """:class:`KernelMixture` with ``r = sigmoid(R v)``, R of (K, C) without a bias, initialised at random."""

    def __init__(self, conv: nn.Conv2d, num_experts: int) -> None:
        super().__init__(conv, num_experts)
        router = nn.Linear(conv.in_channels, num_experts, bias=False)
        self.router = router.to(conv.weight.device, conv.weight.dtype)

    def route(self, v_BC: Tensor) -> Tensor:
        """Each expert's own weight, between 0 and 1."""
        return torch.sigmoid(self.router(v_BC))


def add_condconv(conv: nn.Module, num_experts: int = 8) -> nn.Module:
    """:class:`CondConv` in place of a per-frame convolution, with the paper's 8 experts.

    The network does not start as its host: weights near one half for each of 8 equal experts make the output about 4
    times the host's, up to the norm that follows. Raises :class:`UserError` for a convolution that is not per frame.

    Args:
        conv: the convolution that is replaced.
        num_experts: K, the kernels that are mixed.
    """
    return CondConv(per_frame(conv), num_experts)


OPERATOR = Operator(add_condconv, source="CondConv, arXiv:1904.04971")
