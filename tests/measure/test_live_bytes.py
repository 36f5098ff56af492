"""Bytes that tensors hold, against sums by hand and against what lives in a real run."""

import gc

import pytest
import torch
from torch import Tensor, nn

from tadaconv.measure import count
from tadaconv.measure.live import LiveBytes
from tadaconv.models import build
from tadaconv.nn import FrameConv2d
from tadaconv.spec import Backbone, TAda

FLOAT = 4
T, H, W = 4, 6, 5


class Twice(nn.Module):
    """A shortcut: its input lives until the sum is made."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def activations(model: nn.Module, channels: int) -> int:
    """Peak elements beside parameters and buffers."""
    state = [*model.parameters(), *model.buffers()]
    own = sum(t.numel() * (FLOAT if t.is_floating_point() else 8) for t in state)
    return (count(model, (channels, T, H, W)).peak_memory_bytes - own) // FLOAT


def conv(c_in: int, c_out: int) -> nn.Conv3d:
    return nn.Conv3d(c_in, c_out, 1)


def test_a_chain_holds_the_clip_and_two_neighbours() -> None:
    """The caller holds the clip all along; a layer's result replaces its input."""
    frame = T * H * W
    assert activations(nn.Sequential(conv(3, 8)), 3) == (3 + 8) * frame
    assert activations(nn.Sequential(conv(3, 8), conv(8, 2), conv(2, 5)), 3) == (3 + 8 + 2) * frame
    assert activations(nn.Sequential(conv(3, 2), conv(2, 8), conv(8, 6)), 3) == (3 + 8 + 6) * frame


def test_in_place_and_views_hold_nothing_more() -> None:
    frame = T * H * W
    assert activations(nn.Sequential(conv(3, 8), nn.ReLU(inplace=True)), 3) == (3 + 8) * frame
    assert activations(nn.Sequential(conv(3, 8), nn.ReLU()), 3) == (3 + 8 + 8) * frame
    assert activations(nn.Sequential(conv(3, 8), nn.Flatten(3), nn.Unflatten(3, (H, W))), 3) == (3 + 8) * frame


def test_a_shortcut_keeps_its_input() -> None:
    frame = T * H * W
    body = nn.Sequential(conv(4, 7), conv(7, 4))
    assert activations(nn.Sequential(conv(3, 4), Twice(body)), 3) == (3 + 4 + 7 + 4) * frame
    # The sum is made while both of its terms live, which is more than the 2 channels of a thinner body.
    thin = nn.Sequential(conv(4, 2), conv(2, 4))
    assert activations(nn.Sequential(conv(3, 4), Twice(thin)), 3) == (3 + 4 + 4 + 4) * frame


def test_parameters_and_buffers_are_in_it_once() -> None:
    layer = conv(3, 3)
    shared = nn.Sequential(layer, nn.BatchNorm3d(3), layer)
    own = FLOAT * (3 * 3 + 3 + 4 * 3) + 8
    assert count(shared, (3, T, H, W)).peak_memory_bytes == own + FLOAT * 3 * 3 * T * H * W


def test_layouts_are_followed() -> None:
    """The frames of one clip are a view of it; laid out anew, they are a copy."""
    frame = T * H * W

    class Relaid(FrameConv2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.contiguous(memory_format=torch.channels_last_3d))

    assert activations(nn.Sequential(FrameConv2d(3, 8, 1)), 3) == (3 + 8) * frame
    assert activations(nn.Sequential(Relaid(3, 8, 1)), 3) == (3 + 3 + 8) * frame
    assert activations(nn.Sequential(Relaid(3, 8, 1), Relaid(8, 2, 1)), 3) == (3 + 3 + 8) * frame


@pytest.mark.parametrize("temporal", [None, TAda(), TAda(calibration="k2")])
def test_a_real_run_of_the_same_layouts_holds_as_much(temporal: TAda | None) -> None:
    model = build(Backbone(name="tiny"), temporal, 7).eval().to(memory_format=torch.channels_last)
    shape = (1, 3, T, 32, 32)
    with torch.no_grad(), LiveBytes([*model.parameters(), *model.buffers()]) as live:
        model(torch.zeros(shape))
    own = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    assert count(model, shape[1:]).peak_memory_bytes == pytest.approx(own + live.peak, rel=0.02)


def test_what_is_gone_is_given_back() -> None:
    with LiveBytes() as live:
        x = torch.zeros(10)
        y = x + 1
        view = y.view(2, 5)
        assert live.held == 80
        del x, y
        gc.collect()
        assert live.held == 40
        del view
        assert (live.held, live.peak) == (0, 80)
