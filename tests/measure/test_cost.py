"""Costs against multiply-adds counted by hand."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tadaconv.measure import KINDS, Cost, count
from tadaconv.models import build
from tadaconv.nn import AggregatedBatchNorm2d, FrameBatchNorm2d, FrameConv2d, TAdaConv2d
from tadaconv.spec import CALIBRATIONS, Aggregation, Backbone, Context, TAda

T, H, W = 4, 6, 5


def macs(model: nn.Module, channels: int) -> dict[str, int]:
    """Multiply-adds by kind, without the kinds that do not occur."""
    return {kind: number for kind, number in count(model, (channels, T, H, W)).macs_by_kind.items() if number}


class Head(nn.Module):
    """An average and a linear layer."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.fc = nn.Linear(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(x.mean((2, 3, 4)))
        return scores


@settings(max_examples=20)
@given(
    groups=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
)
def test_convolution(groups: int, widths: tuple[int, int], kernel: tuple[int, int], stride: int, padding: int) -> None:
    c_in, c_out = groups * widths[0], groups * widths[1]
    conv = FrameConv2d(c_in, c_out, kernel, stride, padding, groups=groups)
    out = [(size + 2 * padding - k) // stride + 1 for size, k in zip((H, W), kernel, strict=True)]
    assert macs(conv, c_in) == {"convolution": c_out * (c_in // groups) * prod(kernel) * T * prod(out)}


def test_linear_and_norm() -> None:
    assert macs(Head(6, 7), 6) == {"linear": 6 * 7}
    assert macs(nn.Sequential(FrameBatchNorm2d(6), Head(6, 7)), 6) == {"norm": 6 * T * H * W, "linear": 42}


def by_hand(calibration: str, c_in: int, c_out: int, k: int, groups: int) -> dict[str, int]:
    """A TAdaConv with the default context, stride 1 and "same" padding, from the formulas of the operator."""
    hidden, group_in = c_in // 4, c_in // groups
    sizes = {"cin": c_in, "cout": c_out, "k2": k * k, "cin_k2": c_in * k * k}
    factors = calibration.split("+")
    plain = c_out * group_in * k * k * T * H * W
    context = 3 * hidden * c_in * T + 3 * sum(sizes[f] for f in factors) * hidden * T
    scaled = {"cin": c_in * T * H * W, "cout": c_out * T * H * W}
    calibrating = sum(scaled[f] for f in factors if f in scaled)
    if {"k2", "cin_k2"} <= set(factors):
        calibrating += c_in * k * k * T  # one factor times the other
    if {"k2", "cin_k2"} & set(factors):
        # Scales every unfolded input, or, where each output sees one input, the kernel instead.
        calibrating += c_out * k * k * T if group_in == 1 else c_in * k * k * T * H * W
    return {
        "convolution": plain + context,
        "linear": c_in * c_in,
        "norm": hidden * T,
        "calibration": calibrating,
    }


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_every_calibration(calibration: str) -> None:
    for c_in, c_out, groups in ((8, 12, 1), (8, 4, 2), (8, 8, 8)):
        conv = TAdaConv2d(c_in, c_out, 3, padding=1, groups=groups, calibration=calibration)
        assert macs(conv, c_in) == by_hand(calibration, c_in, c_out, 3, groups)


def test_the_papers_formula() -> None:
    """C_o*C_i*k^2*T*H*W for the convolution and C_i*(C_i/r)*2k_t*T for the context, as the paper counts; see paper.md.

    Its last term, C_o*C_i*k^2*T for making the kernels of every frame, is what we do not spend.
    """
    c, frames, size = 64, 8, 56
    conv = TAdaConv2d(c, c, 3, padding=1, context=Context(global_descriptor=False))
    cost = count(conv, (c, frames, size, size))
    plain = c * c * 9 * frames * size * size
    assert round(plain / 1e9, 3) == 0.925
    assert cost.macs == plain + c * (c // 4) * 2 * 3 * frames
    assert cost.macs_by_kind["calibration"] == c * frames * size * size


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (Context(kernels=(3,), global_descriptor=False), {"convolution": 3 * 8 * 8 * T}),
        (Context(kernels=(1,)), {"convolution": 8 * 8 * T, "linear": 64}),
        (Context(kernels=(1, 3), reduction=2), {"convolution": (1 + 3) * 8 * 4 * T, "linear": 64, "norm": 4 * T}),
        (Context(norm="layer"), {"convolution": 2 * 3 * 8 * 2 * T, "linear": 64, "norm": 2 * T}),
        (Context(norm="none", descriptor="max"), {"convolution": 2 * 3 * 8 * 2 * T, "linear": 64}),
        (Context(variation="time_invariant"), {"convolution": 2 * 3 * 8 * 2, "linear": 64, "norm": 2}),
        (Context(variation="static"), {"convolution": 0}),
    ],
)
def test_every_context(context: Context, expected: dict[str, int]) -> None:
    found = macs(TAdaConv2d(8, 4, 1, context=context), 8)
    assert found.pop("calibration") == 8 * T * H * W
    found["convolution"] -= 8 * 4 * T * H * W
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [("average", T * T), ("max", 0), ("mix", T * T), ("conv", 5 * T)],
)
def test_every_aggregation(kind: str, pooling: int) -> None:
    """The average is a product with a (T, T) matrix; a convolution takes as many as its kernel is long."""
    norm = AggregatedBatchNorm2d(6, Aggregation().but(kind=kind, kernel=5))
    found = macs(norm, 6)
    assert found.pop("norm") == 2 * 6 * T * H * W
    assert found.get("aggregation", 0) == pooling * 6 * H * W
    assert count(norm, (6, T, H, W)).macs == 0


@pytest.mark.parametrize("calibration", CALIBRATIONS[:5])
def test_a_network_costs_the_sum_of_its_layers(calibration: str) -> None:
    model = build(Backbone(name="tiny"), TAda(calibration=calibration), 7)
    cost = count(model, (3, T, 32, 32))
    assert tuple(cost.macs_by_kind) == KINDS
    assert cost.macs == cost.macs_by_kind["convolution"] + cost.macs_by_kind["linear"]
    by_torch = FlopCounterMode(display=False)
    with torch.no_grad(), by_torch:
        model.eval()(torch.zeros(1, 3, T, 32, 32))
    assert cost.macs + cost.macs_by_kind["aggregation"] == by_torch.get_total_flops() / 2
    assert cost.params == sum(p.numel() for p in model.parameters())
    assert (cost.unit, cost.input_shape) == ("multiply-adds", (1, 3, T, 32, 32))


@pytest.mark.parametrize("aggregation", ["none", "average", "max", "mix", "conv"])
def test_plugging_in_adds_only_what_is_plugged_in(aggregation: str) -> None:
    plain = count(build(Backbone(name="tiny"), None, 7), (3, T, 32, 32))
    adaptive = count(build(Backbone(name="tiny"), TAda().but(aggregation__kind=aggregation), 7), (3, T, 32, 32))
    assert (plain.macs_by_kind["calibration"], plain.macs_by_kind["aggregation"]) == (0, 0)
    static = TAda().but(aggregation__kind="none", context__variation="static")
    assert count(build(Backbone(name="tiny"), static, 7), (3, T, 32, 32)).macs == plain.macs
    assert adaptive.macs > plain.macs
    assert (adaptive.macs_by_kind["aggregation"] > 0) == (aggregation not in ("none", "max"))


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_network_as_it_was(training: bool) -> None:
    model = build(Backbone(name="tiny"), TAda(), 7).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count(model, (3, T, 32, 32))
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_json_round_trip() -> None:
    cost = count(Head(3, 2), (3, T, H, W))
    assert Cost.model_validate_json(cost.model_dump_json()) == cost
