"""The temporally-adaptive convolution as a pure function.

Frame t of a clip is convolved with its own kernel ``W_t = alpha_t * W`` (TAda, arXiv:2110.06178, eq. 2), yet no kernel
is ever built for a frame: a factor on the input channels scales the input, a factor on the output channels scales the
output, a factor on the taps scales the unfolded input, and one convolution with ``W`` serves all frames.
"""

import math
from collections.abc import Mapping
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from tadaconv.nn.frames import fold, unfold
from tadaconv.nn.scaling import scale
from tadaconv.nn.taps import conv_on_scaled_taps
from tadaconv.nn.window import Window
from tadaconv.spec import calibration_factors

Pair = int | tuple[int, int]
Triple = int | tuple[int, int, int]


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _triple(value: Triple) -> tuple[int, int, int]:
    return (value, value, value) if isinstance(value, int) else value


def alpha_sizes(weight: Tensor, groups: int, calibration: str) -> dict[str, int]:
    """How many numbers a frame each factor of ``calibration`` takes, for a weight of shape (O, I, *kernel).

    Args:
        weight: the shared kernel, (O, I, *kernel).
        groups: of the convolution.
        calibration: one of :data:`tadaconv.spec.CALIBRATIONS`.
    """
    taps = math.prod(weight.shape[2:])
    in_channels = weight.shape[1] * groups
    sizes = {"cin": in_channels, "cout": weight.shape[0], "k2": taps, "cin_k2": in_channels * taps}
    return {factor: sizes[factor] for factor in calibration_factors(calibration)}


def _factors(
    alpha_NDT: Tensor, weight: Tensor, groups: int, calibration: str, num_clips: int, num_frames: int
) -> dict[str, Tensor]:
    """Alpha cut into its factors, each (N, size, T); raises ValueError unless it is of the right shape."""
    sizes = alpha_sizes(weight, groups, calibration)
    expected = (num_clips, sum(sizes.values()), num_frames)
    if alpha_NDT.shape != expected:
        raise ValueError(f"calibration {calibration} takes alpha of shape {expected}, got {tuple(alpha_NDT.shape)}")
    return dict(zip(sizes, alpha_NDT.split(list(sizes.values()), 1), strict=True))


def frame_factors(
    alpha_NDT: Tensor, weight_OIKK: Tensor, groups: int, calibration: str, num_clips: int, num_frames: int
) -> dict[str, Tensor]:
    """The factors of every frame by name, each (N * T, size).

    Args:
        alpha_NDT: the calibration, as for :func:`tada_conv2d`.
        weight_OIKK: the shared kernel, (O, I, kh, kw).
        groups: as for ``conv2d``.
        calibration: one of :data:`tadaconv.spec.CALIBRATIONS`.
        num_clips: N.
        num_frames: T.

    Raises:
        ValueError: ``alpha`` is not (N, D, T), or ``calibration`` is unknown.
    """
    factors = _factors(alpha_NDT, weight_OIKK, groups, calibration, num_clips, num_frames)
    return {name: factor.transpose(1, 2).flatten(0, 1) for name, factor in factors.items()}


def tada_conv2d(
    x_NCTHW: Tensor,
    weight_OIKK: Tensor,
    alpha_NDT: Tensor,
    bias_O: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    calibration: str = "cin",
) -> Tensor:
    """Convolve frame t with its own kernel ``alpha_t * weight`` (TAda, arXiv:2110.06178, eq. 2).

    ``alpha == 1`` is exactly a per-frame ``conv2d`` where only channels are calibrated, and equal to rounding where
    taps are. Channel factors cost one multiplication an input or output element on top of the plain convolution's
    ``N * T * O * I / groups * kh * kw * H' * W'`` multiply-adds, tap factors one an unfolded element.

    Args:
        x_NCTHW: clips, (N, C, T, H, W).
        weight_OIKK: the shared kernel, (O, I, kh, kw).
        alpha_NDT: the calibration, (N, D, T). D is C for ``cin``, O for ``cout``, kh * kw for ``k2`` and C * kh * kw
            for ``cin_k2`` (channels outermost); an outer product such as ``cin+cout`` stacks its factors along D, in
            the order cin, cout, k2, cin_k2.
        bias_O: added to every frame, (O,); not calibrated.
        stride: in pixels, as for ``conv2d``; frames are never skipped.
        padding: zeros on each side, in pixels.
        dilation: distance of the taps, in pixels.
        groups: as for ``conv2d``; C calibrated channels for any number of groups.
        calibration: one of :data:`tadaconv.spec.CALIBRATIONS`.

    Returns:
        (N, O, T, H', W').

    Raises:
        ValueError: ``x`` is not five-dimensional, ``alpha`` is not (N, D, T), or ``calibration`` is unknown.
    """
    if x_NCTHW.dim() != 5:
        raise ValueError(f"clips must be (N, C, T, H, W), got {tuple(x_NCTHW.shape)}")
    num_clips, _, num_frames = x_NCTHW.shape[:3]
    factors = frame_factors(alpha_NDT, weight_OIKK, groups, calibration, num_clips, num_frames)
    x_BCHW = fold(x_NCTHW)
    if "cin" in factors:
        x_BCHW = scale(x_BCHW, factors["cin"])
    y_BOHW = convolve_frames(x_BCHW, weight_OIKK, factors, bias_O, stride, padding, dilation, groups)
    return unfold(y_BOHW, num_clips)


def convolve_frames(
    x_BCHW: Tensor,
    weight_OIKK: Tensor,
    factors: Mapping[str, Tensor],
    bias_O: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """:func:`tada_conv2d` on frames whose channels have been scaled where they are calibrated.

    Args:
        x_BCHW: frames, (B, C, H, W); times the factor ``cin``.
        weight_OIKK: the shared kernel, (O, I, kh, kw).
        factors: the factors of every frame by name, each (B, size); ``cin`` is not used.
        bias_O: added to every frame, (O,); None for no bias.
        stride: in pixels, height before width.
        padding: zeros on each side, in pixels.
        dilation: distance of the taps, in pixels.
        groups: as for ``conv2d``.

    Returns:
        (B, O, H', W').
    """
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    if "k2" in factors or "cin_k2" in factors:
        num_taps = math.prod(weight_OIKK.shape[2:])
        taps = [factors[name].unflatten(1, (-1, num_taps)) for name in ("k2", "cin_k2") if name in factors]
        window = Window((weight_OIKK.shape[2], weight_OIKK.shape[3]), stride, padding, dilation, groups)
        y = conv_on_scaled_taps(x_BCHW, weight_OIKK, reduce(torch.mul, taps), window)
    else:
        inner_bias = None if "cout" in factors else bias_O
        y = F.conv2d(x_BCHW, weight_OIKK, inner_bias, stride, padding, dilation, groups)
        if "cout" not in factors:
            return y
    if "cout" in factors:
        y = scale(y, factors["cout"])
    return y if bias_O is None else y + bias_O[:, None, None].to(y.dtype)


def _unfold_time(
    x_NCTHW: Tensor, kernel: int, stride: int, padding: int, dilation: int, channels_outermost: bool
) -> Tensor:
    """The frames under each temporal tap as channels, (N, C * kernel, T', H, W): of channels or of taps outermost."""
    padded = F.pad(x_NCTHW, (0, 0, 0, 0, padding, padding)) if padding else x_NCTHW
    if kernel == 1:
        return padded[:, :, ::stride]
    last = padded.shape[2] - dilation * (kernel - 1)
    taps = [padded[:, :, dilation * k : dilation * k + last : stride] for k in range(kernel)]
    return torch.stack(taps, 2).flatten(1, 2) if channels_outermost else torch.cat(taps, 1)


def tada_conv3d(
    x_NCTHW: Tensor,
    weight_OIKKK: Tensor,
    alpha_NDT: Tensor,
    bias_O: Tensor | None = None,
    stride: Triple = 1,
    padding: Triple = 0,
    dilation: Triple = 1,
    groups: int = 1,
    calibration: str = "cin",
) -> Tensor:
    """Make output frame t with its own kernel ``alpha_t * weight`` that reaches over frames (TAda, arXiv:2110.06178).

    The frames under a kernel's temporal taps are concatenated as channels; the rest is :func:`tada_conv2d` with kt
    times the channels, at the multiply-adds of the plain convolution. If only output channels are calibrated, this
    step is not needed. ``alpha == 1`` equals ``conv3d`` to rounding.

    Args:
        x_NCTHW: clips, (N, C, T, H, W).
        weight_OIKKK: the shared kernel, (O, I, kt, kh, kw).
        alpha_NDT: the calibration of each output frame, (N, D, T'), with D as for :func:`tada_conv2d` and
            ``kt * kh * kw`` taps, time outermost.
        bias_O: added to every frame, (O,); not calibrated.
        stride: in frames and pixels, as for ``conv3d``.
        padding: zeros on each side, in frames and pixels.
        dilation: distance of the taps, in frames and pixels.
        groups: as for ``conv3d``.
        calibration: one of :data:`tadaconv.spec.CALIBRATIONS`.

    Returns:
        (N, O, T', H', W').

    Raises:
        ValueError: ``x`` is not five-dimensional, ``alpha`` is not (N, D, T'), or ``calibration`` is unknown.
    """
    stride, padding, dilation = _triple(stride), _triple(padding), _triple(dilation)
    if x_NCTHW.dim() != 5:
        raise ValueError(f"clips must be (N, C, T, H, W), got {tuple(x_NCTHW.shape)}")
    num_clips, in_channels, num_frames = x_NCTHW.shape[:3]
    kt, kh, kw = weight_OIKKK.shape[2:]
    reach = dilation[0] * (kt - 1) + 1
    if num_frames + 2 * padding[0] < reach:
        raise ValueError(f"a kernel over {reach} frames does not fit clips of {num_frames} padded by {padding[0]}")
    num_out = (num_frames + 2 * padding[0] - reach) // stride[0] + 1
    factors = _factors(alpha_NDT, weight_OIKKK, groups, calibration, num_clips, num_out)
    cout = factors.pop("cout", None)
    if not factors:
        assert cout is not None
        y = F.conv3d(x_NCTHW, weight_OIKKK, None, stride, padding, dilation, groups)
        y = unfold(scale(fold(y), cout.transpose(1, 2).flatten(0, 1)), num_clips)
        return y if bias_O is None else y + bias_O[:, None, None, None].to(y.dtype)

    # All factors of the input as one per input channel and tap, (N, C, kt, kh * kw, T').
    by_tap = {"cin": (in_channels, 1, 1), "k2": (1, kt, kh * kw), "cin_k2": (in_channels, kt, kh * kw)}
    tap_NCKST = reduce(torch.mul, (part.unflatten(1, by_tap[name]) for name, part in factors.items()))
    inner = "cin" if tap_NCKST.shape[3] == 1 else "cin_k2"
    tap_NCKST = tap_NCKST.expand(-1, in_channels, kt, -1, -1)
    grouped = groups > 1  # then a group's channels must stay together; else whole frames are copied
    inner_alpha = (tap_NCKST if grouped else tap_NCKST.transpose(1, 2)).flatten(1, 3)
    inner_weight = (weight_OIKKK if grouped else weight_OIKKK.transpose(1, 2)).flatten(1, 2)
    if cout is not None:  # factors are in the order of FACTORS
        inner_alpha = torch.cat([inner_alpha, cout] if inner == "cin" else [cout, inner_alpha], 1)
        inner = f"{inner}+cout"
    return tada_conv2d(
        _unfold_time(x_NCTHW, kt, stride[0], padding[0], dilation[0], grouped),
        inner_weight,
        inner_alpha,
        bias_O,
        stride[1:],
        padding[1:],
        dilation[1:],
        groups,
        inner,
    )
