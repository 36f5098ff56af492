"""The operator alone, forward and backward, at the shapes of ResNet-50 and ConvNeXt-T."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tadaconv.bench.device import DTYPES
from tadaconv.bench.options import Options, require_taps
from tadaconv.bench.record import Benchmark
from tadaconv.bench.roofline import least_work
from tadaconv.bench.run import OnProgress, no_progress, run
from tadaconv.bench.trial import Form, Trial
from tadaconv.bench.workload import Workload, choose_methods
from tadaconv.environment import resolve_device
from tadaconv.errors import UserError, lookup
from tadaconv.models import Host, Site, plug_in
from tadaconv.nn import FrameConv2d
from tadaconv.spec import CALIBRATIONS, Aggregation, TAda, Temporal, calibration_factors


@dataclass(frozen=True)
class Shape:
    """A convolution of stride 1 that keeps the size of its frames.

    Attributes:
        channels: in and out.
        stride: pixels of the network's input to one of its own.
        kernel: height and width, padded by half.
        depthwise: whether each channel is convolved alone, with a bias, as in ConvNeXt.
    """

    channels: int
    stride: int
    kernel: int = 3
    depthwise: bool = False


SHAPES = {
    "res2": Shape(64, 4),
    "res3": Shape(128, 8),
    "res4": Shape(256, 16),
    "res5": Shape(512, 32),
    "next2": Shape(96, 4, 7, depthwise=True),
    "next3": Shape(192, 8, 7, depthwise=True),
    "next4": Shape(384, 16, 7, depthwise=True),
    "next5": Shape(768, 32, 7, depthwise=True),
}
"""The spatial convolutions of ResNet-50 and of ConvNeXt-T (arXiv:2201.03545), stage by stage."""

PLAIN = "plain convolution"


class Lone(Host):
    """A network of one convolution, into which operators are plugged as into any other."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def sites(self) -> Iterator[Site]:
        """The convolution, which is also where its block would be entered."""
        yield Site(2, 0, "conv", "conv", "conv")

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) through the convolution, or what replaces it."""
        y_NCTHW: Tensor = self.conv(x_NCTHW)
        return y_NCTHW


def plain(shape: Shape) -> Lone:
    """The convolution that every method starts from, initialised from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        channels, padding = shape.channels, shape.kernel // 2
        groups = channels if shape.depthwise else 1
        conv = FrameConv2d(channels, channels, shape.kernel, padding=padding, groups=groups, bias=shape.depthwise)
        return Lone(conv)


def clips_for(shape: Shape, options: Options) -> Tensor:
    """The clips of every method, (N, C, T, H, W), channels-last, with a gradient."""
    side = options.size // shape.stride
    size = (options.num_clips, shape.channels, options.num_frames, side, side)
    clips = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    on_device = clips.to(resolve_device(options.device), DTYPES[options.dtype])
    return on_device.contiguous(memory_format=torch.channels_last_3d).requires_grad_()


def make(shape: Shape, options: Options, temporal: Temporal, form: Form, compiled: bool) -> Trial:
    """The trial of ``temporal`` in place of the plain convolution; None is the plain convolution itself.

    Weights are in the dtype of the clips. The gradient of the output is the same for all.

    Args:
        shape: of the plain convolution.
        options: device, dtype, and the clips' number, frames and size.
        temporal: what is plugged in.
        form: in which form an adaptive convolution is computed.
        compiled: whether ``torch.compile`` compiles it in the first trial.
    """
    clips = clips_for(shape, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = plug_in(plain(shape), temporal, options.num_frames)
    gradient = torch.randn(clips.shape, generator=torch.Generator().manual_seed(2)).to(clips)
    gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
    return Trial(network.to(clips.dtype), clips, form, compiled, gradient=gradient)


def workload(name: str, shape: Shape, options: Options, calibrations: Sequence[str]) -> Workload:
    """The methods of ``options``, at one shape.

    Args:
        name: of the shape.
        shape: of the plain convolution.
        options: the methods, and the clips they run on.
        calibrations: of ours, and of the form with a kernel for every frame.
    """
    side = options.size // shape.stride
    kernel = f"{'depthwise ' if shape.depthwise else ''}{shape.kernel}x{shape.kernel}"
    tadas = [TAda(calibration=calibration, aggregation=Aggregation(kind="none")) for calibration in calibrations]
    ours = [(f"TAda {tada.calibration}", f"naive {tada.calibration}", tada) for tada in tadas]
    methods, naive = choose_methods(
        options, partial(make, shape, options), PLAIN, ours, can_be_fused=not shape.depthwise
    )
    work = least_work(plain(shape), clips_for(shape, options))
    return Workload(f"{name}: {kernel}, {shape.channels} x {side} x {side}", methods, work, naive)


def bench(
    options: Options,
    calibrations: Sequence[str] = ("cin",),
    shapes: Sequence[str] = tuple(SHAPES),
    progress: OnProgress = no_progress,
) -> Benchmark:
    """Time the operator and its rivals against the plain convolution.

    Args:
        options: device, dtype, clips, rounds and methods.
        calibrations: of ours, and of the form with a kernel for every frame.
        shapes: names in ``SHAPES``.
        progress: called with the current step, and the fraction that is done.

    Raises:
        UserError: an unknown name, or a setting that cannot be run.
        RunError: out of memory.
    """
    options.check()
    if options.size % 32 or options.size < 64:
        raise UserError(f"--size {options.size} is not a multiple of 32 from 64 on; use 64, 96, 128, ...")
    if not calibrations:
        raise UserError(f"no calibration is named; use --calibration cin, or another of: {', '.join(CALIBRATIONS)}")
    for calibration in calibrations:
        calibration_factors(calibration)
    require_taps(options, calibrations)
    workloads = [workload(name, lookup("shape", name, SHAPES), options, calibrations) for name in shapes]
    return run("op", workloads, options, progress, calibrations=calibrations)
