"""Operators by their definition: the temporally-adaptive convolution, a kernel for every frame; boundary matching.

Slow and large by design. Tests compare :mod:`tadaconv.nn.functional` and :mod:`tadaconv.nn.boundary_matching` with
them, and benchmarks measure how much time and memory they take.
"""

import math

import torch
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


def naive_sampling_mask(
    num_steps: int, max_duration: int, num_samples: int, points_per_sample: int = 3, ratio: float = 0.5
) -> Tensor:
    """What :func:`tadaconv.nn.boundary_matching.sampling_matrix` describes, point by point, as a dense tensor.

    Args:
        num_steps: T.
        max_duration: D, the longest proposal in steps.
        num_samples: S, of each proposal.
        points_per_sample: how many points a sample is the mean of.
        ratio: by how much of its length a proposal is extended on each side.

    Returns:
        The weight of every feature in every sample of every cell, float64 (T, S, D, T): feature, sample, duration and
        start.
    """
    mask = torch.zeros(max_duration, num_steps, num_samples, num_steps, dtype=torch.float64)
    num_points = num_samples * points_per_sample
    for d in range(max_duration):
        for s in range(num_steps - d):
            first, last = s - (d + 1) * ratio, s + d + (d + 1) * ratio
            rows = [[0.0] * num_steps for _ in range(num_samples)]
            for point in range(num_points):
                fraction, whole = math.modf(first + (last - first) / (num_points - 1) * point)  # towards zero
                row, below, above = rows[point // points_per_sample], int(whole), math.ceil(whole + fraction)
                if 0 <= below < num_steps:
                    row[below] += (1 - fraction) / points_per_sample
                if 0 <= above < num_steps:
                    row[above] += fraction / points_per_sample
            mask[d, s] = torch.tensor(rows, dtype=mask.dtype)
    return mask.permute(3, 2, 0, 1).contiguous()


def naive_boundary_matching(x_NCT: Tensor, mask_TSDT: Tensor, weight_CSO: Tensor, bias_O: Tensor) -> Tensor:
    """Boundary matching with its convolution, (N, O, D, T), by way of all samples of all cells, (N, C, S, D, T).

    Args:
        x_NCT: the features of N videos.
        mask_TSDT: of :func:`naive_sampling_mask`, in the type of the features.
        weight_CSO: the kernel over channels and samples.
        bias_O: added to every cell.
    """
    samples = torch.matmul(x_NCT, mask_TSDT.flatten(1)).unflatten(2, mask_TSDT.shape[1:])
    return F.conv3d(samples, weight_CSO.permute(2, 0, 1)[..., None, None], bias_O).squeeze(2)
