"""The temporally-adaptive convolution and its parts; clips are (N, C, T, H, W) throughout.

The name of a tensor ends with its axes, ``x_NCTHW``. A prime marks the output's size along an axis, as in H'.

| axis | is | where |
|---|---|---|
| N | the clips of a batch | clips, and all that is computed from them |
| C | channels, of a convolution those of its input | clips and frames |
| T | frames of a clip | clips, alpha |
| H, W | height and width, in pixels | clips and frames |
| B | the frames of all clips, N * T, clip by clip | frames, as a network on images takes them |
| O | output channels of a convolution | its output and its kernel |
| G | groups of a convolution | where groups are an axis of their own |
| I | input channels of a group, C / G | kernels, (O, I, kh, kw) |
| K | taps of a kernel, kh * kw; in ``weight_OIKK`` and ``weight_OIKKK`` one K an axis | kernels, and their factors |
| S | taps over space, kh * kw, where K is those over time | a kernel over both |
| D | numbers that the calibration of a frame takes, over all its factors | alpha |
| P | positions of the output in a frame, H' * W' | products of matrices |
| J | inputs of a position of the output, kh * kw * C | products of matrices |
"""

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
