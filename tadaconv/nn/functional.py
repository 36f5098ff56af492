"""The temporally-adaptive convolution as a pure function.

Frame t of a clip is convolved with its own kernel ``W_t = alpha_t * W`` (TAda, arXiv:2110.06178, eq. 2), yet no kernel
is ever built for a frame: a factor on the input channels scales the input, a factor on the output channels scales the
output, a factor on the taps scales the unfolded input, and one convolution with ``W`` serves all frames.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tadaconv.nn.frames import fold, unfold
from tadaconv.spec import calibration_factors

Pair = int | tuple[int, int]


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def alpha_sizes(weight_OIKK: Tensor, groups: int, calibration: str) -> dict[str, int]:
    """How many numbers a frame each factor of ``calibration`` takes, for a weight of shape (O, I / groups, kh, kw)."""
    out_channels, group_channels, kh, kw = weight_OIKK.shape
    in_channels = group_channels * groups
    sizes = {"cin": in_channels, "cout": out_channels, "k2": kh * kw, "cin_k2": in_channels * kh * kw}
    return {factor: sizes[factor] for factor in calibration_factors(calibration)}


def _conv_on_scaled_taps(
    x_BCHW: Tensor,
    weight_OIKK: Tensor,
    taps_BCK: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Convolve frame b with ``weight * taps_b``; ``taps_BCK`` is (B, C or 1, kh * kw). Returns (B, O, H', W')."""
    out_channels, group_channels, kh, kw = weight_OIKK.shape
    height, width = (
        (x_BCHW.shape[2 + i] + 2 * padding[i] - dilation[i] * (k - 1) - 1) // stride[i] + 1
        for i, k in enumerate((kh, kw))
    )
    if group_channels == 1:
        return _depthwise_on_scaled_taps(x_BCHW, weight_OIKK, taps_BCK, stride, padding, dilation, (height, width))
    columns = F.unfold(x_BCHW, (kh, kw), dilation, padding, stride)
    columns = columns.unflatten(1, (-1, kh * kw)) * taps_BCK.unsqueeze(-1)
    columns = columns.flatten(1, 2).unflatten(1, (groups, -1))
    kernels = weight_OIKK.flatten(1).unflatten(0, (groups, -1))
    return torch.matmul(kernels, columns).view(-1, out_channels, height, width)


def _depthwise_on_scaled_taps(
    x_BCHW: Tensor,
    weight_O1KK: Tensor,
    taps_BCK: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
) -> Tensor:
    """As :func:`_conv_on_scaled_taps` where every output channel sees one input channel.

    A sum over shifted inputs, each times one number a frame and channel: unfolding would multiply the memory by the
    number of taps, and here the scaled taps are no larger than the calibration itself.
    """
    out_channels, _, kh, kw = weight_O1KK.shape
    multiplier = out_channels // x_BCHW.shape[1]
    padded = F.pad(x_BCHW, (padding[1], padding[1], padding[0], padding[0]))
    padded = padded.repeat_interleave(multiplier, 1) if multiplier > 1 else padded
    taps_BCK = taps_BCK.repeat_interleave(multiplier, 1) if multiplier > 1 and taps_BCK.shape[1] > 1 else taps_BCK
    factors_BOK = taps_BCK * weight_O1KK.flatten(1)
    y = None
    for tap in range(kh * kw):
        top, left = dilation[0] * (tap // kw), dilation[1] * (tap % kw)
        shifted = padded[
            :,
            :,
            top : top + stride[0] * (size[0] - 1) + 1 : stride[0],
            left : left + stride[1] * (size[1] - 1) + 1 : stride[1],
        ]
        term = factors_BOK[:, :, tap, None, None]
        y = shifted * term if y is None else torch.addcmul(y, shifted, term)
    assert y is not None
    return y


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
        weight_OIKK: the shared kernel, (O, C / groups, kh, kw).
        alpha_NDT: the calibration, (N, D, T). D is C for ``cin``, O for ``cout``, kh * kw for ``k2`` and C * kh * kw
            for ``cin_k2`` (channels outermost); an outer product such as ``cin+cout`` stacks its factors along D, in
            the order cin, cout, k2, cin_k2.
        bias_O: added to every frame, (O,); not calibrated.
        stride: in pixels, as for ``conv2d``; frames are never skipped.
        padding: zeros on each side, in pixels.
        dilation: distance of the taps, in pixels.
        groups: as for ``conv2d``; C calibrated channels, whatever the groups.
        calibration: one of :data:`tadaconv.spec.CALIBRATIONS`.

    Returns:
        (N, O, T, H', W').

    Raises:
        ValueError: ``x`` is not five-dimensional, ``alpha`` is not (N, D, T), or ``calibration`` is unknown.
    """
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    if x_NCTHW.dim() != 5:
        raise ValueError(f"clips are (N, C, T, H, W), got {tuple(x_NCTHW.shape)}")
    num_clips, _, num_frames = x_NCTHW.shape[:3]
    sizes = alpha_sizes(weight_OIKK, groups, calibration)
    expected = (num_clips, sum(sizes.values()), num_frames)
    if alpha_NDT.shape != expected:
        raise ValueError(f"calibration {calibration} takes alpha of shape {expected}, got {tuple(alpha_NDT.shape)}")

    alpha_BD = alpha_NDT.transpose(1, 2).flatten(0, 1).to(x_NCTHW.dtype)
    factors = dict(zip(sizes, alpha_BD.split(list(sizes.values()), 1), strict=True))
    x = fold(x_NCTHW)
    if "cin" in factors:
        x = x * factors["cin"][:, :, None, None]
    if "k2" in factors or "cin_k2" in factors:
        num_taps = math.prod(weight_OIKK.shape[2:])
        taps = [factors[name].unflatten(1, (-1, num_taps)) for name in ("k2", "cin_k2") if name in factors]
        y = _conv_on_scaled_taps(
            x, weight_OIKK, taps[0] if len(taps) == 1 else taps[0] * taps[1], stride, padding, dilation, groups
        )
    else:
        inner_bias = None if "cout" in factors else bias_O
        y = F.conv2d(x, weight_OIKK, inner_bias, stride, padding, dilation, groups)
        if "cout" not in factors:
            return unfold(y, num_clips)
    if "cout" in factors:
        y = y * factors["cout"][:, :, None, None]
    if bias_O is not None:
        y = y + bias_O[:, None, None]
    return unfold(y, num_clips)
