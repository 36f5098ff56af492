"""The context function: from a clip to the calibration of each of its frames (TAda, section 3.2)."""

import math

import torch
from torch import Tensor, nn

from tadaconv.nn.precision import without_autocast
from tadaconv.spec import Context


class FrameLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each frame, (N, C, T)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise every frame's channels to mean 0 and variance 1, then scale and shift."""
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


def _norm(name: str, num_features: int) -> nn.Module:
    norms = {"batch": nn.BatchNorm1d, "layer": FrameLayerNorm}
    return nn.Identity() if name == "none" else norms[name](num_features)


class ContextFunction(nn.Module):
    """Makes the calibration ``alpha`` of every frame, (N, D, T), from the clip, (N, C, T, H, W).

    With the frame descriptor ``v`` (a spatial average, N, C, T) and the clip's descriptor ``g`` (its average over
    time), ``u = v + FC(g)`` or, without the global descriptor, ``u = v``:

    - linear, kernels (K1,): ``alpha = 1 + conv1d_K1(u)``;
    - non-linear, kernels (K1, K2): ``alpha = 1 + conv1d_K2(ReLU(norm(conv1d_K1(u))))`` with C / reduction hidden
      channels (TAda, arXiv:2110.06178, section 3.2);
    - time-invariant: the same functions of the clip's descriptor in place of the frames';
    - static: ``alpha = 1 + a`` with a learned ``a`` that does not depend on the clip.

    Args:
        in_channels: C, the channels of the clip.
        num_factors: D, the numbers a frame's calibration takes.
        context: which function.
        init: ``identity`` starts the last layer at zero, so that alpha is exactly 1; ``random`` leaves it random;
            ``without_one`` leaves it random and adds no one.
    """

    def __init__(self, in_channels: int, num_factors: int, context: Context, init: str = "identity") -> None:
        super().__init__()
        self.context = context
        self.num_factors = num_factors
        self.one = 0.0 if init == "without_one" else 1.0
        if context.variation == "static":
            bound = 0.0 if init == "identity" else 1 / math.sqrt(in_channels)
            self.static_alpha = nn.Parameter(torch.empty(num_factors).uniform_(-bound, bound))
            return
        self.fc = nn.Linear(in_channels, in_channels) if context.global_descriptor else None
        hidden = max(1, in_channels // context.reduction)
        first, last = context.kernels[0], context.kernels[-1]
        self.hidden: nn.Sequential | None = None
        if not context.linear:
            self.hidden = nn.Sequential(
                nn.Conv1d(in_channels, hidden, first, padding=first // 2),
                _norm(context.norm, hidden),
                nn.ReLU(inplace=True),
            )
        self.last = nn.Conv1d(
            in_channels if context.linear else hidden, num_factors, last, padding=last // 2, bias=False
        )
        if init == "identity":
            nn.init.zeros_(self.last.weight)

    @property
    def averages(self) -> bool:
        """Whether a frame is described by its spatial average."""
        return self.context.variation != "static" and self.context.descriptor == "average"

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters, in which alpha is computed even if the clip has a coarser one."""
        return (self.static_alpha if self.context.variation == "static" else self.last.weight).dtype

    def describe(self, x_NCTHW: Tensor) -> Tensor:
        """The descriptor of each frame, (N, C, T)."""
        if self.context.descriptor == "max":
            return x_NCTHW.amax((3, 4)).to(self.dtype)
        return x_NCTHW.mean((3, 4), dtype=self.dtype)

    def forward(self, x_NCTHW: Tensor, descriptor_NCT: Tensor | None = None) -> Tensor:
        """The calibration of each frame, (N, D, T); pass the frames' descriptors if they are already computed."""
        num_clips, _, num_frames = x_NCTHW.shape[:3]
        if self.context.variation == "static":
            return (self.one + self.static_alpha)[:, None].expand(num_clips, -1, num_frames)
        # Costs little and is added to one: half precision would round alpha to steps of 0.4 %.
        with without_autocast(x_NCTHW.device.type):
            u_NCT = self.describe(x_NCTHW) if descriptor_NCT is None else descriptor_NCT
            g_NC = u_NCT.mean(2)
            if self.context.variation == "time_invariant":
                u_NCT = g_NC.unsqueeze(2)
            if self.fc is not None:
                u_NCT = u_NCT + self.fc(g_NC).unsqueeze(2)
            if self.hidden is not None:
                u_NCT = self.hidden(u_NCT)
            alpha_NDT: Tensor = self.one + self.last(u_NCT)
        return alpha_NDT.expand(-1, -1, num_frames)
