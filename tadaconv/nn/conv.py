"""The temporally-adaptive convolution as a module."""

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.nn.context import ContextFunction
from tadaconv.nn.frames import fold, unfold
from tadaconv.nn.functional import alpha_sizes, tada_conv2d
from tadaconv.spec import Context, calibration_factors


class TAdaConv2d(nn.Conv2d):
    """A convolution whose kernel adapts to every frame: a drop-in for ``nn.Conv2d`` that takes clips.

    (N, C, T, H, W) to (N, O, T, H', W'). The layer owns its context function and calibrates itself,
    ``y = conv(x)``; its ``weight`` and ``bias`` have the names and shapes of ``nn.Conv2d``, so pretrained weights load
    unchanged. With ``init="identity"`` it starts as exactly the plain convolution.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as for
            ``nn.Conv2d``.
        calibration: the calibrated dimension, one of :data:`tadaconv.spec.CALIBRATIONS`.
        context: how the calibration is made from the clip.
        init: ``identity``, ``random`` or ``without_one``; see :class:`tadaconv.nn.ContextFunction`.
        share: share of the channels that is calibrated, above 0 and at most 1; the others keep alpha = 1.

    Raises:
        UserError: an unknown calibration, or a share that leaves no channel or that the factor k2 cannot have.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | Literal["same", "valid"] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        calibration: str = "cin",
        context: Context | None = None,
        init: Literal["identity", "random", "without_one"] = "identity",
        share: float = 1.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self.calibration = "+".join(calibration_factors(calibration))
        self.sizes = alpha_sizes(self.weight, groups, calibration)
        self.calibrated = self._calibrated_sizes(share)
        self.context = ContextFunction(in_channels, sum(self.calibrated.values()), context or Context(), init)
        self.context.to(device=device, dtype=dtype)

    def _calibrated_sizes(self, share: float) -> dict[str, int]:
        """How many numbers of each factor the context makes; the rest of the channels keep alpha = 1."""
        if not 0 < share <= 1:
            raise UserError(f"share is the part of the channels that is calibrated, above 0 and at most 1, not {share}")
        if share == 1:
            return self.sizes
        if "k2" in self.sizes:
            raise UserError("the factor k2 has no channels to share out; use share=1 or the factor cin_k2")
        taps = self.kernel_size[0] * self.kernel_size[1]
        unit = {"cin": 1, "cout": 1, "cin_k2": taps}
        return {name: max(1, round(share * size / unit[name])) * unit[name] for name, size in self.sizes.items()}

    def _calibration(self, x_NCTHW: Tensor) -> Tensor:
        """Alpha of every frame, (N, D, T), with ones for channels that are not calibrated."""
        alpha: Tensor = self.context(x_NCTHW)
        if self.calibrated == self.sizes:
            return alpha
        parts = alpha.split(list(self.calibrated.values()), 1)
        return torch.cat(
            [
                F.pad(p, (0, 0, 0, size - p.shape[1]), value=1.0)
                for p, size in zip(parts, self.sizes.values(), strict=True)
            ],
            1,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Convolve frame t of each clip with ``alpha_t * weight``."""
        if input.dim() != 5:
            raise ValueError(f"clips are (N, C, T, H, W), got {tuple(input.shape)}")
        alpha = self._calibration(input)
        x, padding = input, self.padding
        if self.padding_mode != "zeros" or isinstance(padding, str):
            # As in nn.Conv2d, these paddings are applied to the input; they commute with a factor a channel.
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = unfold(F.pad(fold(x), self._reversed_padding_repeated_twice, mode=mode), x.shape[0])
            padding = (0, 0)
        stride, padding, dilation = (cast(tuple[int, int], value) for value in (self.stride, padding, self.dilation))
        return tada_conv2d(x, self.weight, alpha, self.bias, stride, padding, dilation, self.groups, self.calibration)

    def extra_repr(self) -> str:
        """The convolution's arguments and its calibration."""
        shared: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{shared}, calibration={self.calibration}"
