"""The paper's networks at the paper's cost: torch's count, arithmetic on the structures, and the published table agree.

Convolutions and linear layers only, one multiply-add each, 400 classes, 256 x 256 (TAda, arXiv:2110.06178, table 3).
"""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from tadaconv.models import BACKBONES, plug_in
from tadaconv.spec import TAda

# Backbone, what is calibrated, frames, then parameters in millions and GFLOPs as printed.
TABLE_3 = [
    ("slow_only_8x8", None, 8, "32.5", "54.52"),
    ("slow_only_8x8", "spatial", 8, "35.6", "54.53"),
    ("slowfast_4x16", None, 32, "34.5", "36.10"),
    ("slowfast_4x16", "spatial", 32, "37.7", "36.11"),
    ("slowfast_8x8", None, 32, "34.5", "65.71"),
    ("slowfast_8x8", "spatial", 32, "37.7", "65.73"),
    ("r2plus1d", None, 8, "28.1", "49.55"),
    ("r2plus1d", "spatial", 8, "31.2", "49.57"),
    ("r2plus1d", "both", 8, "34.4", "49.58"),
    ("r3d", None, 8, "47.0", "84.23"),
    ("r3d", "spatial", 8, "50.1", "84.24"),
]


@dataclass
class Tally:
    """Parameters and multiply-adds of layers, added up by hand."""

    calibrated: str | None = None
    params: int = 0
    macs: int = 0

    def conv(self, c_in: int, c_out: int, taps: int, positions: int, bias: bool = False) -> None:
        self.params += c_in * c_out * taps + c_out * bias
        self.macs += c_in * c_out * taps * positions

    def norm(self, channels: int) -> None:
        self.params += 2 * channels

    def context(self, width: int, frames: int) -> None:
        """FC of the global descriptor, then two convolutions of 3 frames with a hidden layer of a quarter."""
        self.conv(width, width, 1, 1, bias=True)
        self.conv(width, width // 4, 3, frames, bias=True)
        self.norm(width // 4)
        self.conv(width // 4, width, 3, frames)


@dataclass(frozen=True)
class Rules:
    """What tells one family of networks from another."""

    max_pool: bool = False
    stem_frames: int = 1
    entry_frames: tuple[int, int, int, int] = (1, 1, 1, 1)
    spatial: str = "1x3x3"


RULES = {
    "resnet50": Rules(),
    "slow_only_8x8": Rules(max_pool=True, entry_frames=(1, 1, 3, 3)),
    "r2plus1d": Rules(spatial="1x3x3, 3x1x1"),
    "r3d": Rules(stem_frames=3, spatial="3x3x3"),
}
FAST = Rules(max_pool=True, stem_frames=5, entry_frames=(3, 3, 3, 3))


def tally_pathway(
    tally: Tally, rules: Rules, frames: int, base: int = 64, joined: tuple[int, ...] = (0, 0, 0, 0)
) -> int:
    """Add a ResNet-50 of ``base`` channels, to whose stages more channels are ``joined``; returns its features."""
    tally.conv(3, base, rules.stem_frames * 49, frames * 128 * 128)
    tally.norm(base)
    c_in, size = base, 64 if rules.max_pool else 128
    for stage, depth in enumerate((3, 4, 6, 3)):
        width, c_in = base * 2**stage, c_in + joined[stage]
        for block in range(depth):
            before, size = size, 64 >> stage
            # The 1x1 convolution works at the size the block is given, the rest after its stride.
            tally.conv(c_in, width, rules.entry_frames[stage], frames * before**2)
            tally.norm(width)
            if rules.spatial == "3x3x3":
                tally.conv(width, width, 27, frames * size**2)
            else:
                tally.conv(width, width, 9, frames * size**2)
            tally.norm(width)
            if tally.calibrated:
                tally.context(width, frames)
            if rules.spatial == "1x3x3, 3x1x1":
                tally.conv(width, width, 3, frames * size**2)
                tally.norm(width)
                if tally.calibrated == "both":
                    tally.context(width, frames)
            tally.conv(width, 4 * width, 1, frames * size**2)
            tally.norm(4 * width)
            if block == 0:
                tally.conv(c_in, 4 * width, 1, frames * size**2)
                tally.norm(4 * width)
            c_in = 4 * width
    return c_in


def tally_slowfast(tally: Tally, alpha: int, kernel: int, frames: int) -> int:
    """Add both pathways and, after the stem and after res2 to res4, convolutions that tell the slow one of the fast."""
    features = tally_pathway(tally, RULES["slow_only_8x8"], frames // alpha, joined=(16, 64, 128, 256))
    features += tally_pathway(tally, FAST, frames, base=8)
    for channels, size in ((8, 64), (32, 64), (64, 32), (128, 16)):
        tally.conv(channels, 2 * channels, kernel, frames // alpha * size**2)
        tally.norm(2 * channels)
    return features


def tallied(name: str, calibrated: str | None, frames: int) -> Tally:
    tally = Tally(calibrated)
    if name.startswith("slowfast"):
        features = tally_slowfast(tally, *{"slowfast_4x16": (8, 5), "slowfast_8x8": (4, 7)}[name], frames)
    else:
        features = tally_pathway(tally, RULES[name], frames)
    tally.conv(features, 400, 1, 1, bias=True)
    return tally


def counted(name: str, calibrated: str | None, frames: int) -> Tally:
    """Parameters of the network, and torch's count of what it executes, on no data."""
    with torch.device("meta"):
        model: nn.Module = BACKBONES[name](400, 0.0).eval()
        if calibrated:
            model = plug_in(model, TAda().but(aggregation__kind="none", placement__convs=calibrated))
    shapes = [(at, value.shape, value.dtype) for at, value in model.state_dict().items()]
    with FakeTensorMode(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        state = {at: torch.empty(shape, dtype=dtype) for at, shape, dtype in shapes}
        functional_call(model, state, (torch.empty(1, 3, frames, 256, 256),))
    operators = {str(operator) for operator in counter.get_flop_counts()["Global"]}
    assert operators == {"aten.convolution", "aten.addmm"}
    return Tally(calibrated, sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


def as_printed(value: float, printed: str) -> set[str]:
    """``value`` with the decimals of ``printed``, rounded and cut: the published table has both.

    Of its parameters, 34.480 is printed 34.5 and 31.258 is printed 31.2.
    """
    decimals = len(printed.partition(".")[2])
    cut = math.floor(value * 10**decimals) / 10**decimals
    return {f"{value:.{decimals}f}", f"{cut:.{decimals}f}"}


@pytest.mark.parametrize(("name", "calibrated", "frames", "params", "gflops"), TABLE_3)
def test_networks_have_the_cost_in_the_paper(
    name: str, calibrated: str | None, frames: int, params: str, gflops: str
) -> None:
    ours = counted(name, calibrated, frames)
    assert ours == tallied(name, calibrated, frames)
    assert params in as_printed(ours.params / 1e6, params)
    assert gflops in as_printed(ours.macs / 1e9, gflops)


def test_slowfast_8x8_has_the_parameters_to_another_digit() -> None:
    assert round(tallied("slowfast_8x8", None, 32).params / 1e6, 2) == 34.57
    assert round(tallied("slowfast_8x8", "spatial", 32).params / 1e6, 2) == 37.77


@pytest.mark.parametrize(("frames", "gflops"), [(8, 43), (16, 86)])
def test_tada2d_has_the_cost_in_the_paper(frames: int, gflops: int) -> None:
    """Tables 8 and 10, printed without decimals; the aggregation is not part of their count."""
    ours = counted("resnet50", "spatial", frames)
    assert ours == tallied("resnet50", "spatial", frames)
    assert round(ours.macs / 1e9) == gflops
