"""Temporal aggregation after the operator: ``norm1(y) + norm2(pool_t(y))`` (TAda, section 3.4)."""

from functools import reduce

import torch
from torch import Tensor, nn

from tadaconv.nn.frames import FrameBatchNorm2d, FrameLayerNorm2d
from tadaconv.spec import Aggregation


def temporal_average(x_NCTHW: Tensor, kernel: int) -> Tensor:
    """Average over ``kernel`` frames, stride 1, zero padding counted: ``avg_pool3d`` with kernel (kernel, 1, 1).

    A product with the banded (T, T) matrix, which reads the clip once in any layout; pooling kernels are many times
    slower on channels-last clips.
    """
    num_frames = x_NCTHW.shape[2]
    ones = torch.ones(num_frames, num_frames, dtype=x_NCTHW.dtype, device=x_NCTHW.device)
    band_TT = ones.triu(-(kernel // 2)).tril(kernel // 2) / kernel
    x_NTHWC = x_NCTHW.permute(0, 2, 3, 4, 1)
    return torch.matmul(band_TT, x_NTHWC.flatten(2)).view(x_NTHWC.shape).permute(0, 4, 1, 2, 3)


def _shifted(x_NCTHW: Tensor, kernel: int, fill: float) -> list[Tensor]:
    """The clip as seen by each tap of a temporal kernel: frame t holds frame t - kernel // 2 + tap, or ``fill``."""
    half, num_frames = kernel // 2, x_NCTHW.shape[2]
    padded = nn.functional.pad(x_NCTHW, (0, 0, 0, 0, half, half), value=fill)
    return [padded[:, :, tap : tap + num_frames] for tap in range(kernel)]


def temporal_max(x_NCTHW: Tensor, kernel: int) -> Tensor:
    """Maximum over ``kernel`` frames, stride 1: ``max_pool3d`` with kernel (kernel, 1, 1)."""
    return reduce(torch.maximum, _shifted(x_NCTHW, kernel, float("-inf")))


class TemporalPool(nn.Module):
    """``pool_t`` of an aggregation: (N, C, T, H, W) to the same shape."""

    def __init__(self, num_channels: int, aggregation: Aggregation) -> None:
        super().__init__()
        self.kind, self.kernel = aggregation.kind, aggregation.kernel
        if self.kind == "conv":
            self.weight = nn.Parameter(torch.full((num_channels, self.kernel), 1 / self.kernel))

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Pool each channel over neighbouring frames."""
        if self.kind == "average":
            return temporal_average(x_NCTHW, self.kernel)
        if self.kind == "max":
            return temporal_max(x_NCTHW, self.kernel)
        if self.kind == "mix":
            return (temporal_average(x_NCTHW, self.kernel) + temporal_max(x_NCTHW, self.kernel)) / 2
        taps = _shifted(x_NCTHW, self.kernel, 0.0)
        return sum(tap * self.weight[:, i, None, None, None] for i, tap in enumerate(taps))  # type: ignore[return-value]

    def extra_repr(self) -> str:
        """Kind and kernel."""
        return f"{self.kind}, kernel={self.kernel}"


class _Aggregating(nn.Module):
    """What every aggregating norm shares; stands before the norm that it extends among the base classes."""

    pool: TemporalPool

    def _aggregate(
        self, name: str, second: nn.BatchNorm2d | nn.BatchNorm3d | nn.LayerNorm, aggregation: Aggregation
    ) -> None:
        """Add the branch of the neighbours: a pool, and the norm ``second`` under ``name``, which starts at zero.

        Raises ValueError for an aggregation of kind ``none``, which is no aggregation.
        """
        if aggregation.kind == "none":
            raise ValueError("an aggregation of kind 'none' needs no layer; keep the plain norm")
        nn.init.zeros_(second.weight)
        nn.init.zeros_(second.bias)
        self.pool = TemporalPool(second.weight.shape[0], aggregation)
        self.add_module(name, second)
        self.second_name = name

    def forward(self, input: Tensor) -> Tensor:
        """Normalise every frame, and add what its neighbours pool to."""
        pooled: Tensor = getattr(self, self.second_name)(self.pool(input))
        first: Tensor = super().forward(input)
        return first + pooled


class AggregatedBatchNorm2d(_Aggregating, FrameBatchNorm2d):
    """``BN1(y) + BN2(pool_t(y))`` in place of the batch norm after a convolution, (N, C, T, H, W).

    BN1 keeps the names and values of the batch norm it replaces; BN2 starts with weight and bias zero, so that the
    sum starts as exactly BN1.

    Raises:
        ValueError: an aggregation of kind ``none``, which is no aggregation.
    """

    def __init__(
        self, num_features: int, aggregation: Aggregation, eps: float = 1e-5, momentum: float | None = 0.1
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self._aggregate("bn_pool", FrameBatchNorm2d(num_features, eps, momentum), aggregation)


class AggregatedBatchNorm3d(_Aggregating, nn.BatchNorm3d):
    """As :class:`AggregatedBatchNorm2d`, in place of an ``nn.BatchNorm3d``."""

    def __init__(
        self, num_features: int, aggregation: Aggregation, eps: float = 1e-5, momentum: float | None = 0.1
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self._aggregate("bn_pool", nn.BatchNorm3d(num_features, eps, momentum), aggregation)


class AggregatedLayerNorm2d(_Aggregating, FrameLayerNorm2d):
    """``LN1(y) + LN2(pool_t(y))`` in place of the layer norm after a convolution, (N, C, T, H, W).

    LN1 keeps the names and values of the layer norm it replaces; LN2 starts with weight and bias zero, so that the
    sum starts as exactly LN1.

    Raises:
        ValueError: an aggregation of kind ``none``, which is no aggregation.
    """

    def __init__(self, num_channels: int, aggregation: Aggregation, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps)
        self._aggregate("ln_pool", FrameLayerNorm2d(num_channels, eps), aggregation)
