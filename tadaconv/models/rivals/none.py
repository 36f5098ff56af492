"""No operator: the host's own convolution, as in TSN (Wang et al., arXiv:1608.00859)."""

from torch import nn

from tadaconv.models.rivals.operator import Operator


def keep(conv: nn.Module) -> nn.Module:
    """The convolution itself."""
    return conv


OPERATOR = Operator(keep, source="TSN, arXiv:1608.00859", identity="exact")
