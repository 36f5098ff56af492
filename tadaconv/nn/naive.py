"""The temporally-adaptive convolution as it is written: a kernel for every frame.

Slow and large by design. Tests hold :func:`tadaconv.nn.functional.tada_conv2d` against it, and benchmarks measure
what avoiding the kernels is worth; nothing else uses it.
"""

import torch.nn.functional as F
from torch import Tensor

from tadaconv.nn.functional import Pair, alpha_sizes


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

    Builds all kernels, (N * T * O, C / groups, kh, kw).
    """
    n, c, t, h, w = x_NCTHW.shape
    o, ci, kh, kw = weight_OIKK.shape
    sizes = alpha_sizes(weight_OIKK, groups, calibration)
    alpha = alpha_NDT.transpose(1, 2).reshape(n * t, -1)
    kernels = weight_OIKK.expand(n * t, o, ci, kh, kw)
    for factor, part in zip(sizes, alpha.split(list(sizes.values()), 1), strict=True):
        if factor == "cout":
            kernels = kernels * part.view(n * t, o, 1, 1, 1)
        elif factor == "k2":
            kernels = kernels * part.view(n * t, 1, 1, kh, kw)
        else:
            taps = (kh, kw) if factor == "cin_k2" else (1, 1)
            by_group = part.view(n * t, groups, 1, ci, *taps).expand(-1, -1, o // groups, -1, -1, -1)
            kernels = kernels * by_group.reshape(n * t, o, ci, *taps)
    frames = x_NCTHW.transpose(1, 2).reshape(1, n * t * c, h, w)
    y = F.conv2d(frames, kernels.reshape(n * t * o, ci, kh, kw), None, stride, padding, dilation, n * t * groups)
    y = y.view(n, t, o, *y.shape[2:]).transpose(1, 2)
    return y if bias_O is None else y + bias_O.view(1, o, 1, 1, 1)
