"""Temporal adaptive module of TANet: a temporal kernel for each clip and channel (arXiv:2005.06803)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models.rivals.insertion import convolution, put_before
from tadaconv.models.rivals.operator import Operator, hidden_width


class TemporalAdaptiveModule(nn.Module):
    """Weigh each frame, then convolve each channel over time with a kernel made from the clip.

    With the frames' descriptors ``v`` (spatial averages, N, C, T):

    - local branch, ``l = sigmoid(conv1d_{C/r->C, 1}(ReLU(BN(conv1d_{C->C/r, K}(v)))))``, (N, C, T);
    - global branch, ``g = softmax(FC_{aT->K}(ReLU(BN(FC_{T->aT}(v)))))``, (N, C, K): each channel's row of T numbers
      through the same two layers;
    - ``y_t = sum_k g_k * (l * x)_{t+k}``, k from -(K // 2) to K // 2, frames outside the clip zero.

    (N, C, T, H, W) to the same shape; K multiply-adds an element. No layer of the branches has a bias.

    Args:
        num_channels: C.
        num_frames: T, over which the global branch learns.
        kernel: K, frames; 3 in the paper.
        reduction: r, the paper's beta, 4.
        expansion: a, the paper's alpha, 2.
    """

    def __init__(self, num_channels: int, num_frames: int, kernel: int, reduction: int, expansion: int) -> None:
        super().__init__()
        self.num_frames, self.kernel = num_frames, kernel
        hidden = hidden_width(num_channels, reduction)
        self.local_branch = nn.Sequential(
            nn.Conv1d(num_channels, hidden, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv1d(hidden, num_channels, 1, bias=False),
            nn.Sigmoid(),
        )
        self.global_branch = nn.Sequential(
            nn.Linear(num_frames, expansion * num_frames, bias=False),
            nn.BatchNorm1d(expansion * num_frames),
            nn.ReLU(inplace=True),
            nn.Linear(expansion * num_frames, kernel, bias=False),
            nn.Softmax(1),
        )

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Weigh frames and mix them, channel by channel."""
        num_clips, num_channels, num_frames = x_NCTHW.shape[:3]
        if num_frames != self.num_frames:
            raise UserError(
                f"this TAM learns over {self.num_frames} frames, not {num_frames}; plug it in for that many"
            )
        v_NCT = x_NCTHW.mean((3, 4))
        weighed = x_NCTHW * self.local_branch(v_NCT)[..., None, None]
        kernels: Tensor = self.global_branch(v_NCT.flatten(0, 1))
        y = F.conv2d(
            weighed.reshape(1, num_clips * num_channels, num_frames, -1),
            kernels[:, None, :, None],
            padding=(self.kernel // 2, 0),
            groups=num_clips * num_channels,
        )
        return y.view(x_NCTHW.shape).contiguous(memory_format=torch.channels_last_3d)

    def extra_repr(self) -> str:
        """Frames and kernel."""
        return f"num_frames={self.num_frames}, kernel={self.kernel}"


def add_tam(
    conv: nn.Module, num_frames: int | None, kernel: int = 3, reduction: int = 4, expansion: int = 2
) -> nn.Module:
    """:class:`TemporalAdaptiveModule` before a block's spatial convolution, as in TANet.

    The network does not start as its host: both branches are initialised at random. Raises :class:`UserError` where the
    number of frames is not known, for a kernel that is even or of more frames, and for a reduction or an expansion
    below 1 or a reduction above the channels.

    Args:
        conv: the convolution of a block.
        num_frames: T, over which the global branch learns.
        kernel: K, frames.
        reduction: r, where the hidden layer of the local branch has C / r channels.
        expansion: a, where that of the global branch has a * T.
    """
    host = convolution(conv)
    if num_frames is None:
        raise UserError("tam learns over a fixed number of frames; give it with plug_in(..., num_frames=8)")
    if kernel < 1 or kernel % 2 == 0:
        raise UserError(f"option kernel must be a positive odd number of frames, not {kernel}")
    if kernel > num_frames:
        raise UserError(f"option kernel={kernel} is over more than the {num_frames} frames here; lower it or give more")
    if expansion < 1:
        raise UserError(f"option expansion must be at least 1, not {expansion}")
    return put_before(host, TemporalAdaptiveModule(host.in_channels, num_frames, kernel, reduction, expansion))


OPERATOR = Operator(add_tam, source="TANet, arXiv:2005.06803")
