"""The temporally-adaptive convolution and its parts; clips are (N, C, T, H, W) throughout."""

from tadaconv.nn import functional
from tadaconv.nn.aggregation import AggregatedBatchNorm2d, TemporalPool
from tadaconv.nn.context import ContextFunction
from tadaconv.nn.conv import TAdaConv1d, TAdaConv2d, TAdaConv3d
from tadaconv.nn.frames import FrameBatchNorm2d, FrameConv2d, TemporalConv
from tadaconv.nn.taps import fused_kernels

__all__ = [
    "AggregatedBatchNorm2d",
    "ContextFunction",
    "FrameBatchNorm2d",
    "FrameConv2d",
    "TAdaConv1d",
    "TAdaConv2d",
    "TAdaConv3d",
    "TemporalConv",
    "TemporalPool",
    "functional",
    "fused_kernels",
]
