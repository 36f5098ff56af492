"""The operator alone, forward and backward, at the shapes of ResNet-50 and ConvNeXt-T."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tadaconv.bench.device import DTYPES
from tadaconv.bench.record import Benchmark
from tadaconv.bench.run import Heat, Make, Report, run, silently
from tadaconv.bench.settings import Settings, contestants, require_taps
from tadaconv.bench.turn import Form, Turn, naive
from tadaconv.bench.work import least_work
from tadaconv.environment import resolve_device
from tadaconv.errors import UserError, lookup
from tadaconv.models import Host, Site, plug_in
from tadaconv.nn import FrameConv2d
from tadaconv.nn.frames import channels_last
from tadaconv.spec import CALIBRATIONS, Aggregation, Rival, TAda, Temporal, calibration_factors


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
    """A convolution as a network of its own, so that everything is plugged into it as into any other."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def sites(self) -> Iterator[Site]:
        """The convolution, which is also where its block would be entered."""
        yield Site(2, 0, "conv", "conv", "conv")

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """What the convolution, or what is in its place, makes of the clips."""
        y_NCTHW: Tensor = self.conv(x_NCTHW)
        return y_NCTHW


def plain(shape: Shape) -> Lone:
    """The convolution that every contestant starts from, drawn from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        groups = shape.channels if shape.depthwise else 1
        return Lone(
            FrameConv2d(
                shape.channels,
                shape.channels,
                shape.kernel,
                padding=shape.kernel // 2,
                groups=groups,
                bias=shape.depthwise,
            )
        )


def clips_for(shape: Shape, settings: Settings) -> Tensor:
    """The clips that every contestant gets, (N, C, T, H, W), channels-last, and as it wants a gradient of them."""
    side = settings.size // shape.stride
    size = (settings.num_clips, shape.channels, settings.num_frames, side, side)
    clips = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    on_device = clips.to(resolve_device(settings.device), DTYPES[settings.dtype])
    return on_device.contiguous(memory_format=torch.channels_last_3d).requires_grad_()


def make(shape: Shape, settings: Settings, temporal: Temporal, form: Form, compiled: bool) -> Turn:
    """The turn of ``temporal`` in place of the plain convolution; None is the plain convolution itself.

    Weights are in the dtype of the clips. The gradient of the output is the same for all.
    """
    clips = clips_for(shape, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = plug_in(plain(shape), temporal, settings.num_frames)
    network = channels_last((naive(network) if form == "naive" else network).to(clips.device, clips.dtype).train())
    gradient = torch.randn(clips.shape, generator=torch.Generator().manual_seed(2)).to(clips)
    gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
    return Turn(network, clips, gradient=gradient, compiled=compiled, fused=form == "fused")


def heat(name: str, shape: Shape, settings: Settings, calibrations: Sequence[str]) -> Heat:
    """Everyone asked for, at one shape."""
    side = settings.size // shape.stride
    kernel = f"{'depthwise ' if shape.depthwise else ''}{shape.kernel}x{shape.kernel}"
    entrants: dict[str, tuple[Temporal, Form]] = {PLAIN: (None, "eager")}
    pairs: dict[str, str] = {}
    for calibration in calibrations:
        tada = TAda(calibration=calibration, aggregation=Aggregation(kind="none"))
        ours, theirs = f"TAda {tada.calibration}", f"naive {tada.calibration}"
        entrants |= {ours: (tada, "eager")} if settings.asked("tada") else {}
        entrants |= {theirs: (tada, "naive")} if settings.asked("naive") else {}
        is_fused = settings.asked_fused(calibration) and not shape.depthwise
        entrants |= {f"{ours}, fused": (tada, "fused")} if is_fused else {}
        pairs |= {ours: theirs} if ours in entrants and theirs in entrants else {}
    for rival in contestants()[3:]:
        entrants |= {rival: (Rival(name=rival), "eager")} if settings.asked(rival) else {}
    makes: dict[str, Make] = {
        who: partial(make, shape, settings, temporal, form) for who, (temporal, form) in entrants.items()
    }
    work = least_work(plain(shape), clips_for(shape, settings))
    return Heat(f"{name}: {kernel}, {shape.channels} x {side} x {side}", makes, work, pairs)


def bench(
    settings: Settings,
    calibrations: Sequence[str] = ("cin",),
    shapes: Sequence[str] = tuple(SHAPES),
    report: Report = silently,
) -> Benchmark:
    """Time the operator and its rivals against the plain convolution.

    Args:
        settings: device, dtype, clips, rounds and contestants.
        calibrations: of ours, and of the form with a kernel for every frame.
        shapes: names in ``SHAPES``.
        report: told how far it has come.

    Raises:
        UserError: a name that is not known, or a setting that cannot be run.
        RunError: memory is out.
    """
    settings.check()
    if settings.size % 32 or settings.size < 64:
        raise UserError(
            f"--size {settings.size} does not give each stage whole pixels, and several; use 64, 96, 128, ..."
        )
    if not calibrations:
        raise UserError(f"no calibration is named; use --calibration cin, or another of: {', '.join(CALIBRATIONS)}")
    for calibration in calibrations:
        calibration_factors(calibration)
    require_taps(settings, calibrations)
    heats = [heat(name, lookup("shape", name, SHAPES), settings, calibrations) for name in shapes]
    return run("op", heats, settings, {"calibrations": list(calibrations)}, report)
