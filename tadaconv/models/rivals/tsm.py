"""Temporal shift: some channels come from the frame before, some from the frame after (TSM, arXiv:1811.08383)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models.rivals.insertion import convolution, put_before
from tadaconv.models.rivals.operator import Operator


class TemporalShift(nn.Module):
    """Shift channels in time: (N, C, T, H, W) to the same shape, without a multiplication.

    With F channels a direction, frame t holds channels 0 to F - 1 of frame t + 1, channels F to 2 F - 1 of frame t - 1
    and its own others; zeros where there is no such frame.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.num_channels = num_channels

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Put every channel in its frame."""
        end = self.num_channels
        from_next = F.pad(x_NCTHW[:, :end, 1:], (0, 0, 0, 0, 0, 1))
        from_previous = F.pad(x_NCTHW[:, end : 2 * end, :-1], (0, 0, 0, 0, 1, 0))
        return torch.cat([from_next, from_previous, x_NCTHW[:, 2 * end :]], 1)

    def extra_repr(self) -> str:
        """Channels a direction."""
        return f"num_channels={self.num_channels}"


def add_shift(conv: nn.Module, share: float = 1 / 8) -> nn.Module:
    """:class:`TemporalShift` of ``share`` of the channels each way, before a block's first convolution.

    The paper's residual shift: the shortcut keeps its frames. Costs no multiply-add and no parameter. The network
    does not start as its host; the paper fine-tunes it as it is. Raises :class:`UserError` unless the share is above 0,
    at most 1/2, and makes at least one channel.

    Args:
        conv: the convolution of a block.
        share: fraction of the channels that is shifted each way.
    """
    host = convolution(conv)
    if not 0 < share <= 1 / 2:
        raise UserError(f"option share must be a fraction of the channels, above 0 and at most 0.5, not {share}")
    num_channels = int(share * host.in_channels)
    if num_channels == 0:
        raise UserError(f"option share={share} shifts none of {host.in_channels} channels; raise it")
    return put_before(host, TemporalShift(num_channels))


OPERATOR = Operator(add_shift, source="TSM, arXiv:1811.08383", place="entry")
