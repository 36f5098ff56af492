"""The temporally-adaptive convolution as it is written: a kernel for every frame.

Slow and large by design. Tests hold :mod:`tadaconv.nn.functional` against it, and benchmarks measure what avoiding
the kernels is worth; nothing else uses it.
"""

import torch.nn.functional as F
from torch import Tensor

from tadaconv.nn.functional import Pair, Triple, alpha_sizes


def _kernels(weight: Tensor, alpha_NDT: Tensor, groups: int, calibration: str) -> Tensor:
    """The kernels of all frames, (N * T * O, I, *kernel), for a weight of shape (O, I, *kernel)."""
    o, ci, *taps = weight.shape
    ones = [1] * len(taps)
    sizes = alpha_sizes(weight, groups, calibration)
    alpha = alpha_NDT.transpose(1, 2).flatten(0, 1)
    b = alpha.shape[0]
    kernels = weight.expand(b, o, ci, *taps)
    for factor, part in zip(sizes, alpha.split(list(sizes.values()), 1), strict=True):
        if factor == "cout":
            kernels = kernels * part.view(b, o, 1, *ones)
        elif factor == "k2":
            kernels = kernels * part.view(b, 1, 1, *taps)
        else:
            by_group = part.view(b, groups, 1, ci, *(taps if factor == "cin_k2" else ones))
            kernels = kernels * by_group.expand(-1, -1, o // groups, *by_group.shape[3:]).flatten(1, 2)
    return kernels.reshape(b * o, ci, *taps)


def naive_tada_conv2d(
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
    """Arguments and result as for :func:`tadaconv.nn.functional.tada_conv2d`: one grouped convolution, N * T * groups.

    Builds all kernels, (N * T * O, I, kh, kw).

    Args:
        x_NCTHW: clips, (N, C, T, H, W).
        weight_OIKK: the shared kernel, (O, I, kh, kw).
        alpha_NDT: the calibration, (N, D, T).
        bias_O: added to every frame, (O,).
        stride: in pixels.
        padding: zeros on each side, in pixels.
        dilation: distance of the taps, in pixels.
        groups: as for ``conv2d``.
        calibration: one of :data:`tadaconv.spec.CALIBRATIONS`.
    """
    n, c, t, h, w = x_NCTHW.shape
    frames = x_NCTHW.transpose(1, 2).reshape(1, n * t * c, h, w)
    kernels = _kernels(weight_OIKK, alpha_NDT, groups, calibration)
    y = F.conv2d(frames, kernels, None, stride, padding, dilation, n * t * groups)
    y = y.view(n, t, -1, *y.shape[2:]).transpose(1, 2)
    return y if bias_O is None else y + bias_O[:, None, None, None]


def naive_tada_conv3d(
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
    """Arguments and result as for :func:`tadaconv.nn.functional.tada_conv3d`: one grouped convolution, N * T' * groups.

    Copies the frames that each output frame sees, (N * T' * C, reach, H, W), and builds all kernels.

    Args:
        x_NCTHW: clips, (N, C, T, H, W).
        weight_OIKKK: the shared kernel, (O, I, kt, kh, kw).
        alpha_NDT: the calibration, (N, D, T').
        bias_O: added to every frame, (O,).
        stride: in frames and pixels.
        padding: zeros on each side, in frames and pixels.
        dilation: distance of the taps, in frames and pixels.
        groups: as for ``conv3d``.
        calibration: one of :data:`tadaconv.spec.CALIBRATIONS`.
    """
    stride, padding, dilation = ((v, v, v) if isinstance(v, int) else v for v in (stride, padding, dilation))
    n, c, _, h, w = x_NCTHW.shape
    reach = dilation[0] * (weight_OIKKK.shape[2] - 1) + 1
    padded = F.pad(x_NCTHW, (0, 0, 0, 0, padding[0], padding[0]))
    seen = padded.unfold(2, reach, stride[0]).permute(0, 2, 1, 5, 3, 4)  # (N, T', C, reach, H, W)
    t = seen.shape[1]
    kernels = _kernels(weight_OIKKK, alpha_NDT, groups, calibration)
    y = F.conv3d(
        seen.reshape(1, n * t * c, reach, h, w), kernels, None, (1, *stride[1:]), (0, *padding[1:]), dilation,
        n * t * groups,
    )  # fmt: skip
    y = y.view(n, t, -1, *y.shape[3:]).transpose(1, 2)
    return y if bias_O is None else y + bias_O[:, None, None, None]
