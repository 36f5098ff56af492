"""The temporally-adaptive convolutions as modules: over frames, over time, and over both."""

from math import prod
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.nn.context import ContextFunction
from tadaconv.nn.frames import fold, unfold
from tadaconv.nn.functional import alpha_sizes, convolve_frames, frame_factors, tada_conv3d
from tadaconv.nn.scaling import scale, scale_by_average
from tadaconv.spec import Context, calibration_factors

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Init = Literal["identity", "random", "without_one"]


def _require_clips(x_NCTHW: Tensor) -> None:
    if x_NCTHW.dim() != 5 or x_NCTHW.shape[0] == 0 or x_NCTHW.shape[2] == 0:
        raise ValueError(f"clips must be (N, C, T, H, W), at least one clip of one frame, got {tuple(x_NCTHW.shape)}")


class _Calibrated(nn.modules.conv._ConvNd):
    """The common part of the adaptive convolutions: a context function that computes the calibration of each frame."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | Literal["same", "valid"] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        calibration: str = "cin",
        context: Context | None = None,
        init: Init = "identity",
        share: float = 1.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        plain: Any = super().__init__  # that of nn.Conv2d or nn.Conv3d
        plain(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self._require_geometry()
        self.calibration = "+".join(calibration_factors(calibration))
        self.sizes = alpha_sizes(self.weight, self.groups, calibration)
        self.calibrated = self._calibrated_sizes(share)
        self.context = ContextFunction(self.in_channels, sum(self.calibrated.values()), context or Context(), init)
        self.context.to(device=self.weight.device, dtype=self.weight.dtype)

    def _require_geometry(self) -> None:
        """Raise :class:`UserError` for a kernel without an input frame at its centre."""

    def _calibrated_sizes(self, share: float) -> dict[str, int]:
        """How many numbers of each factor the context makes; the rest of the channels keep alpha = 1."""
        if not 0 < share <= 1:
            raise UserError(f"share must be a fraction of the channels, above 0 and at most 1, not {share}")
        if share == 1:
            return self.sizes
        if "k2" in self.sizes:
            raise UserError("the factor k2 has no channels to share out; use share=1 or the factor cin_k2")
        unit = {"cin": 1, "cout": 1, "cin_k2": prod(self.kernel_size)}
        return {name: max(1, round(share * size / unit[name])) * unit[name] for name, size in self.sizes.items()}

    def _calibration(self, x_NCTHW: Tensor, descriptor_NCT: Tensor | None = None) -> Tensor:
        """Alpha of every frame, (N, D, T), with ones for channels that are not calibrated."""
        alpha: Tensor = self.context(x_NCTHW, descriptor_NCT)
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

    @property
    def _padding_by_mode(self) -> str:
        return "constant" if self.padding_mode == "zeros" else self.padding_mode

    def extra_repr(self) -> str:
        """The convolution's arguments and its calibration."""
        shared: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{shared}, calibration={self.calibration}"


class TAdaConv2d(_Calibrated, nn.Conv2d):
    """A convolution whose kernel adapts to every frame: a drop-in for ``nn.Conv2d`` that takes clips.

    (N, C, T, H, W) to (N, O, T, H', W'). The layer contains its context function, so that ``y = conv(x)``; its
    ``weight`` and ``bias`` have the names and shapes of ``nn.Conv2d``, so pretrained weights load unchanged. With
    ``init="identity"`` it starts as exactly the plain convolution.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as for
            ``nn.Conv2d``.
        calibration: the calibrated dimension, one of :data:`tadaconv.spec.CALIBRATIONS`.
        context: how the calibration is made from the clip.
        init: ``identity``, ``random`` or ``without_one``; see :class:`tadaconv.nn.ContextFunction`.
        share: fraction of the channels that is calibrated, above 0 and at most 1; the others keep alpha = 1.
        device, dtype: of the parameters.

    Raises:
        UserError: an unknown calibration, or a share that leaves no channel or that the factor k2 cannot have.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve frame t of each clip with ``alpha_t * weight``."""
        _require_clips(input)
        num_clips, _, num_frames = input.shape[:3]

        def calibrate(v_BC: Tensor | None) -> dict[str, Tensor]:
            """The factors of every frame, from the frames' averages if they are given."""
            v_NCT = None if v_BC is None else v_BC.unflatten(0, (num_clips, -1)).transpose(1, 2)
            alpha = self._calibration(input, v_NCT)
            return frame_factors(alpha, self.weight, self.groups, self.calibration, num_clips, num_frames)

        x_BCHW = fold(input)
        padding: Any = self.padding
        pads_first = self.padding_mode != "zeros" or isinstance(padding, str)
        if "cin" in self.sizes and self.context.averages and not pads_first:
            x_BCHW, factors = scale_by_average(x_BCHW, self.context.dtype, calibrate)
        else:
            factors = calibrate(None)
            if pads_first:
                # As in nn.Conv2d, these paddings are applied to the input; they commute with a factor a channel.
                x_BCHW = F.pad(x_BCHW, self._reversed_padding_repeated_twice, mode=self._padding_by_mode)
                padding = (0, 0)
            if "cin" in factors:
                x_BCHW = scale(x_BCHW, factors["cin"])
        stride: Any = self.stride
        dilation: Any = self.dilation
        y_BOHW = convolve_frames(x_BCHW, self.weight, factors, self.bias, stride, padding, dilation, self.groups)
        return unfold(y_BOHW, num_clips)


class TAdaConv3d(_Calibrated, nn.Conv3d):
    """A convolution over frames and space whose kernel adapts to every output frame: a drop-in for ``nn.Conv3d``.

    (N, C, T, H, W) to (N, O, T', H', W'). Output frame t is made with ``alpha * weight``, alpha being the calibration
    of the input frame at the kernel's centre; ``weight`` and ``bias`` have the names and shapes of ``nn.Conv3d``. With
    ``init="identity"`` it starts as the plain convolution, to rounding.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as for
            ``nn.Conv3d``.
        calibration, context, init, share: as for :class:`TAdaConv2d`; ``k2`` counts all taps, over time as well.

    Raises:
        UserError: an unknown calibration, a share that cannot be had, or a kernel without a frame at its centre: an
            even number of frames, or more padding in time than half its reach.
    """

    def _require_geometry(self) -> None:
        frames = self.kernel_size[0]
        if frames % 2 == 0:
            raise UserError(f"a kernel of {frames} frames has no frame at its centre; use an odd number")
        half = self.dilation[0] * (frames - 1) // 2
        before = half if self.padding == "same" else 0 if self.padding == "valid" else cast(int, self.padding[0])
        if before > half:
            raise UserError(
                f"padding of {before} frames puts the centre of a kernel that reaches {half} to each side outside the "
                f"clip; use at most {half}"
            )
        self.first_centre = half - before

    def forward(self, input: Tensor) -> Tensor:
        """Make each output frame with the kernel calibrated by the frame at its centre."""
        _require_clips(input)
        alpha = self._calibration(input)
        x = input
        padding: Any = self.padding
        if self.padding_mode != "zeros" or isinstance(padding, str):
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self._padding_by_mode)
            padding = (0, 0, 0)
        stride: Any = self.stride
        dilation: Any = self.dilation
        last_centre = max(self.first_centre, input.shape[2] - self.first_centre)
        alpha = alpha[:, :, self.first_centre : last_centre : stride[0]]
        return tada_conv3d(x, self.weight, alpha, self.bias, stride, padding, dilation, self.groups, self.calibration)


class TAdaConv1d(TAdaConv3d):
    """A convolution over time, (k, 1, 1), whose kernel adapts to every output frame.

    (N, C, T, H, W) to (N, O, T', H, W), with the arguments of ``nn.Conv1d`` and the weight of a (k, 1, 1)
    ``nn.Conv3d``; the rest is as for :class:`TAdaConv3d`, and raises as it does.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: k, in frames.
        stride: in frames.
        padding: zeros before and after the clip, in frames; or ``same`` or ``valid``.
        dilation: distance of the taps, in frames.
        groups: as for ``nn.Conv1d``.
        bias: as for ``nn.Conv1d``.
        padding_mode: as for ``nn.Conv1d``.
        calibrated: calibration, context, init, share, device and dtype, as for :class:`TAdaConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | Literal["same", "valid"] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        **calibrated: Any,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            (kernel_size, 1, 1),
            (stride, 1, 1),
            padding if isinstance(padding, str) else (padding, 0, 0),
            (dilation, 1, 1),
            groups,
            bias,
            padding_mode,
            **calibrated,
        )
