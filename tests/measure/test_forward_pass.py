"""What is counted on the meta device: fvcore counts as much, module by module, and nothing is left out."""

from math import prod

import pytest
import torch
import torch.nn.functional as F
from by_fvcore import activations, products_by_module
from torch import Tensor, nn

from tadaconv.errors import RunError
from tadaconv.measure import count
from tadaconv.measure.forward_pass import forward_pass
from tadaconv.models import BACKBONES, RIVALS, build, plug_in
from tadaconv.nn import FrameConv2d, TAdaConv1d, TAdaConv3d
from tadaconv.spec import CALIBRATIONS, Aggregation, Backbone, Context, Rival, TAda, Temporal

T, H, W = 4, 6, 5
DEEPER = ("resnet34", "slowfast_8x8", "small", "base", "small_clip", "base_clip")
"""More or wider blocks of networks that are there anyway."""
TINY = [name for name in BACKBONES if name.startswith("tiny")]


class Apply(nn.Module):
    """A parameter and a function of clips."""

    def __init__(self, function, *shape: int) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, self.weight)
        return y


def assert_equal_to_fvcore(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Every module's own products, apart from products by element, are those that fvcore sees in a run.

    The taps of a calibrated convolution may be summed element by element, or inside an autograd function: whoever has
    seen nothing there is held against the formula of a convolution.
    """
    record, by_fvcore = forward_pass(model, shape), products_by_module(model, shape)
    counted = {name: macs["convolution"] + macs["linear"] + macs["attention"] for name, macs in record.macs.items()}
    for name, module in model.named_modules():
        ours = counted.get(name, 0)
        if isinstance(module, nn.modules.conv._ConvNd):
            formula = record.outputs[name] * module.weight[0].numel()
            assert {ours, by_fvcore[name], formula} <= {0, formula}, name
        else:
            assert ours == by_fvcore[name], name
    assert sum(counted.values()) > 0


@pytest.mark.parametrize("name", [name for name in BACKBONES if not name.endswith(DEEPER)])
def test_every_backbone_counts_as_by_fvcore(name: str) -> None:
    frames = 32 if "slowfast" in name else 8
    model = build(Backbone(name=name), TAda(), 7, frames).eval()
    assert_equal_to_fvcore(model, (1, 3, frames, 32, 32))


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    "temporal",
    [None, *(TAda(calibration=calibration) for calibration in CALIBRATIONS if calibration != "cin"), Rival(name="tam")],
    ids=lambda temporal: getattr(temporal, "calibration", None) or getattr(temporal, "name", "none"),
)
def test_tiny_backbones_count_as_by_fvcore(name: str, temporal: Temporal) -> None:
    frames = 32 if "slowfast" in name else 8
    model = build(Backbone(name=name), temporal, 7, frames).eval()
    assert_equal_to_fvcore(model, (1, 3, frames, 32, 32))


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_counts_as_by_fvcore(name: str) -> None:
    assert_equal_to_fvcore(build(Backbone(name="tiny"), Rival(name=name), 7, 8).eval(), (1, 3, 8, 16, 16))


def test_operators_that_do_not_add_up_to_a_convolution_are_told() -> None:
    class Doubled(nn.Conv3d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + super().forward(input)

    macs = 8 * 3 * T * H * W
    message = (
        rf"^the operators of 0 \(Doubled\) take {2 * macs:,} multiply-adds, the formula of its layer gives {macs:,}$"
    )
    with pytest.raises(RunError, match=message):
        count(nn.Sequential(Doubled(3, 8, 1)), (3, T, H, W))


def test_products_of_no_kind_are_not_left_out() -> None:
    with pytest.raises(AssertionError, match=r"multiply-adds of an unknown kind: aten\.lerp"):
        count(Apply(lambda x, w: torch.lerp(x, x, w), 1), (3, T, H, W))


def test_operators_of_others_are_not_left_out() -> None:
    library = torch.library.Library("tadaconv_test", "DEF")
    library.define("secret(Tensor x) -> Tensor")
    library.impl("secret", lambda x: x.clone(), "CompositeExplicitAutograd")
    with pytest.raises(AssertionError, match=r"multiply-adds of an unknown kind: tadaconv_test\.secret"):
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
    assert count(model, (3, 8, 32, 32)).activations == activations(model, (1, 3, 8, 32, 32))


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_beside_linear_layers_in_one_module(need_weights: bool) -> None:
    """By one kernel or by its parts."""

    class Layer(nn.MultiheadAttention):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            attended, _ = super().forward(x, x, x, need_weights=need_weights)
            return attended

    record = forward_pass(Layer(8, 2, batch_first=True).eval(), (1, 5, 8))
    assert record.macs[""]["attention"] == 2 * (5 * 5 * 8)
    assert record.macs[""]["linear"] == 5 * 8 * (3 * 8 + 8)
    assert record.activations[""] == 5 * (3 * 8 + 8)


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
