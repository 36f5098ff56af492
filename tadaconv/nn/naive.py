"""The temporally-adaptive convolution by its definition: a kernel for every frame.

Slow and large by design. Tests compare :mod:`tadaconv.nn.functional` with it, and benchmarks measure how much time and
memory it takes to build the kernels.
"""

import torch.nn.functional as F
from torch import Tensor

from tadaconv.nn.functional import Pair, alpha_sizes


def _kernels(weight_OIKK: Tensor, alpha_NDT: Tensor, groups: int, calibration: str) -> Tensor:
    """The kernels of all frames, (N * T * O, I, kh, kw)."""
    o, i, kh, kw = weight_OIKK.shape
    sizes = alpha_sizes(weight_OIKK, groups, calibration)
    alpha = alpha_NDT.transpose(1, 2).flatten(0, 1)
    b = alpha.shape[0]
    kernels = weight_OIKK.expand(b, o, i, kh, kw)
    for factor, part in zip(sizes, alpha.split(list(sizes.values()), 1), strict=True):
        if factor == "cout":
            kernels = kernels * part.view(b, o, 1, 1, 1)
        elif factor == "k2":
            kernels = kernels * part.view(b, 1, 1, kh, kw)
        else:
            by_group = part.view(b, groups, 1, i, *((kh, kw) if factor == "cin_k2" else (1, 1)))
            kernels = kernels * by_group.expand(-1, -1, o // groups, -1, -1, -1).flatten(1, 2)
    return kernels.reshape(b * o, i, kh, kw)


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
