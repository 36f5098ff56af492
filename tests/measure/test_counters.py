"""The two counters: where they agree, what they say where they do not, and that nothing is left out."""

from math import prod

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import ActivationCountAnalysis
from torch import Tensor, nn

from tadaconv.errors import RunError
from tadaconv.measure import cost as cost_module
from tadaconv.measure import count
from tadaconv.measure.counters import count_by_fvcore
from tadaconv.models import BACKBONES, RIVALS, build, plug_in
from tadaconv.nn import FrameConv2d, TAdaConv1d, TAdaConv3d
from tadaconv.spec import CALIBRATIONS, Aggregation, Backbone, Context, Rival, TAda

T, H, W = 4, 6, 5
TINY = [name for name in BACKBONES if name.startswith("tiny")]


class Apply(nn.Module):
    """A parameter and a function of clips."""

    def __init__(self, function, *shape: int) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, self.weight)
        return y


class Unseen(torch.autograd.Function):
    """A linear layer that a trace does not see into."""

    @staticmethod
    def forward(_ctx, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)


def test_a_disagreement_names_the_module_and_both_counts() -> None:
    model = nn.Sequential(nn.Identity(), Apply(Unseen.apply, 7, W))
    macs = 7 * W * 3 * T * H
    with pytest.raises(RunError, match=rf"disagree on 1 \(Apply\): fvcore counts 0 .*flop_counter {macs:,}$"):
        count(model, (3, T, H, W))


def test_a_convolution_counted_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model, clip):
        found = count_by_fvcore(model, clip)
        found["0"]["conv"] += 1
        return found

    monkeypatch.setattr(cost_module, "count_by_fvcore", wrong)
    macs = 8 * 3 * T * H * W
    expected = rf"disagree on 0 \(Conv3d\): fvcore counts {macs + 1:,} .*flop_counter {macs:,}, its formula {macs:,}"
    with pytest.raises(RunError, match=expected):
        count(nn.Sequential(nn.Conv3d(3, 8, 1)), (3, T, H, W))


def test_products_of_no_kind_are_not_left_out() -> None:
    with pytest.raises(AssertionError, match=r"multiply-adds of no kind: aten\.lerp"):
        count(Apply(lambda x, w: torch.lerp(x, x, w), 1), (3, T, H, W))


def test_operators_of_others_are_not_left_out() -> None:
    library = torch.library.Library("tadaconv_test", "DEF")
    library.define("secret(Tensor x) -> Tensor")
    library.impl("secret", lambda x: x.clone(), "CompositeExplicitAutograd")
    with pytest.raises(AssertionError, match=r"multiply-adds of no kind: tadaconv_test\.secret"):
        count(Apply(lambda x, _: torch.ops.tadaconv_test.secret(x), 1), (3, T, H, W))


@pytest.mark.parametrize("merged", [0, 1])
def test_attention(merged: int) -> None:
    """L * S * E for the weights and L * S * V for what they weigh, a head; by a kernel of its own or by its parts."""
    attend = Apply(lambda x, _: F.scaled_dot_product_attention(*[x.flatten(0, merged)] * 3), 1)
    found = count(attend, (3, T, H, W))
    assert found.macs_by_kind["attention"] == 3 * T * (2 * H * H * W)
    assert (found.macs, found.activations) == (0, 0)


def test_a_layer_run_twice_costs_twice() -> None:
    layer = nn.Conv3d(3, 3, 1)
    once, twice = (count(nn.Sequential(*[layer] * n), (3, T, H, W)) for n in (1, 2))
    assert (twice.macs, twice.activations, twice.params) == (2 * once.macs, 2 * once.activations, once.params)


@pytest.mark.parametrize("name", TINY)
def test_activations_are_fvcores(name: str) -> None:
    model = BACKBONES[name](7, 0.0).eval()
    by_fvcore = ActivationCountAnalysis(model, torch.zeros(1, 3, 8, 32, 32))
    by_fvcore.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        assert count(model, (3, 8, 32, 32)).activations == by_fvcore.total()


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("operator", [TAdaConv1d, TAdaConv3d])
def test_operators_over_time_count_as_the_convolution_they_stand_for(operator, calibration: str) -> None:
    context = Context(variation="static")
    for groups in (1, 2):
        conv = operator(4, 6, 3, padding=1, groups=groups, calibration=calibration, context=context)
        kinds = count(conv, (4, T, H, W)).macs_by_kind
        assert kinds["convolution"] == 6 * (4 // groups) * prod(conv.kernel_size) * T * H * W
        assert kinds["calibration"] > 0
        assert kinds["linear"] == kinds["scale"] == kinds["kernels"] == 0


@pytest.mark.parametrize("calibration", ["cin", "cin_k2"])
@pytest.mark.parametrize("name", ["tiny_r2plus1d", "tiny_r3d", "tiny_convnext_clip"])
def test_calibration_adds_nothing_to_the_papers_count_but_its_context(name: str, calibration: str) -> None:
    host = BACKBONES[name](7, 0.0)
    tada = TAda(calibration=calibration, context=Context(variation="static"), aggregation=Aggregation(kind="none"))
    plain, adaptive = (count(plug_in(host, temporal), (3, 4, 16, 16)) for temporal in (None, tada))
    assert adaptive.macs == plain.macs
    assert adaptive.activations == plain.activations


@pytest.mark.parametrize("name", ["condconv", "dynamic_conv"])
@pytest.mark.parametrize("groups", [1, 2])
def test_mixing_kernels_is_counted_apart(name: str, groups: int) -> None:
    conv = FrameConv2d(8, 6, 3, padding=1, groups=groups)
    kinds = count(RIVALS[name].replace(conv, T, {}), (8, T, H, W)).macs_by_kind
    num_kernels = 8 if name == "condconv" else 4
    plain = 6 * (8 // groups) * 9
    assert kinds["convolution"] == plain * T * H * W
    assert kinds["kernels"] == num_kernels * (plain + 6) * T
    assert kinds["linear"] == (8 * 8 if name == "condconv" else 8 * 2 + 2 * 4) * T


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_can_be_counted(name: str) -> None:
    plain, rival = (
        count(build(Backbone(name="tiny"), temporal, 7, 8), (3, 8, 16, 16)) for temporal in (None, Rival(name=name))
    )
    assert (rival.macs > plain.macs) == (name not in ("none", "tsm"))
