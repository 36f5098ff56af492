"""Temporal aggregation after the operator: ``norm1(y) + norm2(pool_t(y))`` (TAda, section 3.4)."""

from collections.abc import Callable
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tadaconv.nn.frames import ClipNorm, FoldedBatchNorm2d, FrameLayerNorm2d, in_place_of, normalise
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


class _Aggregated(ClipNorm):
    """The common part of the aggregating norms: two norms and a pool.

    The first norm is the child ``norm``; state dicts and attributes name its tensors as if this module were the
    norm. The second, of the neighbours, starts at zero. Since both are children, functions that convert or freeze the
    norms of a network reach them, such as ``SyncBatchNorm.convert_sync_batchnorm``.
    """

    kind: ClassVar[Callable[..., nn.Module]]
    second_name: ClassVar[str]

    def __init__(self, num_features: int, aggregation: Aggregation, *options: Any, **named_options: Any) -> None:
        super().__init__()
        if aggregation.kind == "none":
            raise ValueError("an aggregation of kind 'none' needs no layer; keep the plain norm")
        self.norm, second = (self.kind(num_features, *options, **named_options) for _ in range(2))
        for parameter in second.parameters():
            nn.init.zeros_(parameter)
        self.pool = TemporalPool(num_features, aggregation)
        self.add_module(self.second_name, second)
        in_place_of(self, "norm")

    def _tensors_of_norm(self, name: str) -> dict[str, Any] | None:
        """The parameters or the buffers of the first norm, whichever hold ``name``."""
        norm = self.__dict__.get("_modules", {}).get("norm")
        tables = () if norm is None else (norm._parameters, norm._buffers)
        return next((table for table in tables if name in table), None)

    def __getattr__(self, name: str) -> Any:
        """``weight``, ``running_mean`` and so on of the first norm."""
        tensors = self._tensors_of_norm(name)
        return super().__getattr__(name) if tensors is None else tensors[name]

    def __setattr__(self, name: str, value: Any) -> None:
        """A new value of the first norm's tensor ``name``, which ``torch.func.functional_call`` sets temporarily."""
        tensors = self._tensors_of_norm(name)
        if tensors is None:
            super().__setattr__(name, value)
        else:
            tensors[name] = value

    def forward(self, input: Tensor) -> Tensor:
        """Normalise every frame, and add its normalised temporal pool."""
        pooled = self._normalise(self.get_submodule(self.second_name), self.pool(input))
        return self._normalise(self.norm, input) + pooled

    def _normalise(self, norm: nn.Module, x_NCTHW: Tensor) -> Tensor:
        clips: Tensor = norm(x_NCTHW)
        return clips


class AggregatedBatchNorm2d(_Aggregated):
    """``BN1(y) + BN2(pool_t(y))`` in place of the batch norm after a convolution, (N, C, T, H, W).

    BN1 keeps the names and values of the batch norm it replaces; BN2 starts with weight and bias zero, so that the
    sum starts as exactly BN1. Both see frames, (N * T, C, H, W).

    Args:
        num_features: C.
        aggregation: how neighbouring frames are pooled.
        options: as for ``nn.BatchNorm2d``: epsilon, momentum.
        named_options: the same, by name.

    Raises:
        ValueError: an aggregation of kind ``none``.
    """

    kind, second_name = FoldedBatchNorm2d, "bn_pool"

    def _normalise(self, norm: nn.Module, x_NCTHW: Tensor) -> Tensor:
        return normalise(norm, x_NCTHW)


class AggregatedBatchNorm3d(_Aggregated):
    """As :class:`AggregatedBatchNorm2d`, in place of an ``nn.BatchNorm3d``; both see clips."""

    kind, second_name = nn.BatchNorm3d, "bn_pool"


class AggregatedLayerNorm2d(_Aggregated):
    """``LN1(y) + LN2(pool_t(y))`` in place of the layer norm after a convolution, as :class:`AggregatedBatchNorm2d`."""

    kind, second_name = FrameLayerNorm2d, "ln_pool"
