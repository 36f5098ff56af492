"""The plug-in: picks what the placement says, keeps the host's weights and, at identity, its every output."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tadaconv.errors import UserError
from tadaconv.models import BACKBONES, Host, plug_in, promised_start
from tadaconv.models.host import Site
from tadaconv.models.plugin import chosen_sites
from tadaconv.nn import AggregatedBatchNorm2d, FrameConv2d, TAdaConv2d, TAdaConv3d
from tadaconv.spec import CALIBRATIONS, Aggregation, Context, Placement, Rival, TAda, Temporal

STAGES = [stages for size in (1, 2, 3, 4) for stages in combinations((2, 3, 4, 5), size)]


def make_host(name: str) -> Host:
    """A backbone whose norms and scales have left their start, where blocks may add nothing and hide what they hold."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BACKBONES[name](5, 0.0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                nn.init.uniform_(module.weight, 0.3, 0.7)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        for at, parameter in model.named_parameters():
            if at.endswith("gamma"):
                nn.init.uniform_(parameter, 0.3, 0.7)
    return model.eval()


@dataclass(frozen=True)
class Known:
    """A host, a clip of as few frames as make two everywhere in it, and what the host computes of it."""

    name: str
    model: Host
    clip: Tensor
    scores: Tensor


@pytest.fixture(scope="module", params=BACKBONES)
def host(request: pytest.FixtureRequest) -> Known:
    model = make_host(request.param)
    num_frames = 2 * max(site.temporal_stride for site in model.sites())
    clip = torch.randn(1, 3, num_frames, 32, 32, generator=torch.Generator().manual_seed(1))
    return Known(request.param, model, clip, scores(model, clip))


@pytest.fixture
def _cheap_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers shared with the host, and constants for what is drawn only to be overwritten or multiplied by zero.

    Copying and drawing would take most of the time, and here layers are only run or replaced.
    """

    def share_layers(model: nn.Module) -> nn.Module:
        return deepcopy(model, {id(layer): layer for layer in model.modules() if not list(layer.children())})

    monkeypatch.setattr("tadaconv.models.plugin.deepcopy", share_layers)
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda tensor, **_: nn.init.constant_(tensor, 0.01))


@pytest.fixture(scope="module")
def tiny() -> Host:
    return make_host("tiny")


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def scores(model: nn.Module, clips: Tensor) -> Tensor:
    result: Tensor = model(clips)
    return result


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_state(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Everything expected is there, under its name."""
    for name, value in expected.items():
        assert torch.equal(state[name], value), name


def starts_exactly(host: Host, temporal: TAda) -> bool:
    """Whether bit for bit: channels alone are calibrated, of convolutions that treat frames alike."""
    chosen = chosen_sites(list(host.sites()), temporal.placement)
    per_frame = all(isinstance(host.get_submodule(site.conv), nn.Conv2d) for site in chosen)
    return per_frame and promised_start(temporal) == "exact"


def assert_starts_as(host: Known, temporal: TAda) -> None:
    plugged = scores(plug_in(host.model, temporal), host.clip)
    if starts_exactly(host.model, temporal):
        assert torch.equal(plugged, host.scores)
    else:
        torch.testing.assert_close(plugged, host.scores, rtol=1e-4, atol=1e-4 * float(host.scores.abs().max()))


@pytest.mark.usefixtures("_cheap_copies")
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_every_backbone_starts_as_it_was_with_every_calibration(calibration: str, host: Known) -> None:
    """In all blocks; in networks at full width and but for one calibration, in the first block of every stage."""
    blocks = "all" if host.name.startswith("tiny") or calibration == "cin" else "first"
    assert_starts_as(host, TAda(calibration=calibration, placement=Placement(blocks=blocks)))


@pytest.mark.parametrize("convs", ["temporal", "both"])
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_convolutions_over_time_start_as_they_were(calibration: str, convs: str) -> None:
    model, clip = make_host("tiny_r2plus1d"), torch.randn(2, 3, 5, 16, 16)
    temporal = TAda().but(calibration=calibration, placement__convs=convs)
    assert_starts_as(Known("tiny_r2plus1d", model, clip, scores(model, clip)), temporal)
    adaptive = {at for at, each in plug_in(model, temporal).named_modules() if hasattr(each, "calibration")}
    names = {"temporal": ("temporal2.conv",), "both": ("conv2", "temporal2.conv")}[convs]
    assert adaptive == {f"layer{i}.0.{name}" for i in range(1, 5) for name in names}


def test_every_backbone_keeps_its_weights_and_feels_another_start(host: Known) -> None:
    before = copied_state(host.model)
    torch.manual_seed(0)
    plugged = plug_in(host.model, TAda().but(init="random", placement__blocks="first"))
    assert_same_state(plugged.state_dict(), before)
    assert list(host.model.state_dict()) == list(before)  # the host keeps what it had, and gains nothing
    assert_same_state(host.model.state_dict(), before)
    assert not any(isinstance(module, TAdaConv2d | TAdaConv3d) for module in host.model.modules())
    assert (scores(plugged, host.clip) - host.scores).abs().max() > 1e-4 * host.scores.abs().max()


@pytest.mark.parametrize("aggregation", ["none", "average", "max", "mix", "conv"])
@pytest.mark.parametrize("variation", ["dynamic", "time_invariant", "static"])
def test_every_context_and_aggregation_starts_as_the_host(
    aggregation: str, variation: str, tiny: Host, clips: Tensor
) -> None:
    temporal = TAda().but(aggregation__kind=aggregation, context__variation=variation)
    assert torch.equal(scores(plug_in(tiny, temporal), clips), scores(tiny, clips))


@pytest.mark.parametrize("init", ["random", "without_one"])
def test_other_starts_change_the_outputs(init: str, tiny: Host, clips: Tensor) -> None:
    assert not torch.allclose(scores(plug_in(tiny, TAda().but(init=init)), clips), scores(tiny, clips))


def test_an_operator_changes_the_outputs(tiny: Host, clips: Tensor) -> None:
    """Every parameter that is added changes the outputs, once the last layers and the second norms have left zero."""
    torch.manual_seed(0)
    plugged = plug_in(tiny, TAda())
    for name, parameter in plugged.named_parameters():
        if name.endswith(("context.last.weight", "bn_pool.weight")):
            nn.init.normal_(parameter, std=0.5)
    added = set(dict(plugged.named_parameters())) - set(dict(tiny.named_parameters()))
    assert added
    plugged(clips).square().sum().backward()
    for name, parameter in plugged.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name not in added, name


def test_no_temporal_is_a_copy(tiny: Host, clips: Tensor) -> None:
    copy = plug_in(tiny, None)
    assert copy is not tiny
    assert_same_state(copy.state_dict(), tiny.state_dict())
    assert list(copy.state_dict()) == list(tiny.state_dict())
    assert torch.equal(scores(copy, clips), scores(tiny, clips))
    with torch.no_grad():
        copy.fc.bias.add_(1)
    assert not torch.equal(copy.fc.bias, tiny.fc.bias)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_kept(training: bool, tiny: Host) -> None:
    plugged = plug_in(plug_in(tiny, None).train(training), TAda())
    assert all(module.training == training for module in plugged.modules())


def test_parameters_keep_their_device_and_type(tiny: Host) -> None:
    double = plug_in(plug_in(tiny, None).double(), TAda())
    assert {value.dtype for value in double.state_dict().values() if value.is_floating_point()} == {torch.float64}
    with torch.device("meta"):
        elsewhere = plug_in(plug_in(tiny, None).to("meta"), TAda())
    assert {value.device.type for value in elsewhere.state_dict().values()} == {"meta"}


def test_arguments_reach_the_layers(tiny: Host) -> None:
    context = Context(kernels=(1, 5), reduction=2, norm="layer", global_descriptor=False)
    temporal = TAda(
        calibration="cout",
        context=context,
        init="random",
        aggregation=Aggregation(kind="max", kernel=5),
        placement=Placement(stages=(3,), share=0.5),
    )
    plugged = plug_in(tiny, temporal)
    (conv,) = (module for module in plugged.modules() if isinstance(module, TAdaConv2d))
    (norm,) = (module for module in plugged.modules() if isinstance(module, AggregatedBatchNorm2d))
    assert (conv.calibration, conv.context.context) == ("cout", context)
    assert conv.context.num_factors == conv.out_channels // 2
    assert conv.context.last.weight.abs().sum() > 0
    assert (norm.pool.kind, norm.pool.kernel) == ("max", 5)


def replaced(model: Host) -> set[tuple[int, int]]:
    """Stage and block of every adaptive convolution, read off the built network."""
    blocks = set()
    for name, module in model.named_modules():
        if isinstance(module, TAdaConv2d):
            layer, block, conv = name.split(".")
            assert conv == "conv2"
            blocks.add((int(layer.removeprefix("layer")) + 1, int(block)))
    return blocks


def by_brute_force(depths: tuple[int, ...], stages: tuple[int, ...], blocks: str) -> set[tuple[int, int]]:
    """What a placement picks, block by block."""
    rules: dict[str, Callable[[int, int], bool]] = {
        "all": lambda block, depth: True,  # noqa: ARG005
        "first": lambda block, depth: block == 0,  # noqa: ARG005
        "last": lambda block, depth: block == depth - 1,
        "alternate": lambda block, depth: block in range(1, depth, 2),
    }
    return {
        (stage, block)
        for stage, depth in zip((2, 3, 4, 5), depths, strict=True)
        for block in range(depth)
        if stage in stages and rules[blocks](block, depth)
    }


@pytest.mark.parametrize("blocks", ["all", "first", "last", "alternate"])
def test_placement_in_a_deep_network(blocks: str) -> None:
    for stages in ((2,), (3, 5), (2, 3, 4, 5)):
        with torch.device("meta"):
            plugged = plug_in(
                BACKBONES["resnet50"](5, 0.0), TAda().but(placement__stages=stages, placement__blocks=blocks)
            )
        expected = by_brute_force((3, 4, 6, 3), stages, blocks)
        assert replaced(plugged) == expected
        norms = [name for name, module in plugged.named_modules() if isinstance(module, AggregatedBatchNorm2d)]
        assert sorted(norms) == sorted(f"layer{stage - 1}.{block}.bn2" for stage, block in expected)


def sites(depths: tuple[int, ...]) -> Iterator[Site]:
    blocks = ([(stage, b) for b in range(depth)] for stage, depth in zip((2, 3, 4, 5), depths, strict=True))
    return (Site(stage, block, "conv", "norm", "entry") for stage, block in chain.from_iterable(blocks))


@given(
    depths=st.tuples(*[st.integers(1, 6)] * 4),
    stages=st.sampled_from(STAGES),
    blocks=st.sampled_from(["all", "first", "last", "alternate"]),
)
def test_placement_by_brute_force(depths: tuple[int, ...], stages: tuple[int, ...], blocks: str) -> None:
    expected = by_brute_force(depths, stages, blocks)
    placement = Placement().but(stages=stages, blocks=blocks)
    if expected:
        for order in (1, -1):  # a model may list its sites in any
            chosen = chosen_sites(list(sites(depths))[::order], placement)
            assert {(site.stage, site.block) for site in chosen} == expected
    else:
        with pytest.raises(UserError, match="selects no convolution of this backbone"):
            chosen_sites(list(sites(depths)), placement)


def test_an_empty_placement_is_refused(tiny: Host) -> None:
    with pytest.raises(
        UserError, match=r"stages \(2, 3, 4, 5\), blocks 'alternate', convs 'spatial'\) selects no convolution"
    ):
        plug_in(tiny, TAda().but(placement__blocks="alternate"))


class Live(nn.Module):
    """A caller's model on clips that says itself where its convolutions lie."""

    def __init__(self, conv: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 16, 1)
        self.conv = conv or nn.Conv3d(16, 16, (1, 3, 3))
        self.norm = norm or nn.BatchNorm3d(16)
        self.names = [("conv", "norm")]

    def sites(self) -> Iterator[Site]:
        for i, (conv, norm) in enumerate(self.names):
            yield Site(2, i, conv, norm, conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.stem(x))).mean((2, 3, 4))


class Standardised(nn.Conv3d):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight - self.weight.mean(), self.bias)


class StandardisedWithin(nn.Conv3d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight - weight.mean(), bias)


class Adapted(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(16, 16, 3)
        self.scale = nn.Parameter(torch.ones(()))


def hooked(module: nn.Module, kind: str) -> nn.Module:
    getattr(module, f"register_{kind}_hook")(lambda *_: None)
    return module


PLAIN, LOST = TAda().but(aggregation__kind="none"), "hooks .*, which would be lost; plug in first"
REFUSED: dict[str, tuple[Callable[[], Live], str]] = {
    "weight norm": (
        lambda: Live(weight_norm(nn.Conv3d(16, 16, 1))),
        "^conv is a ParametrizedConv3d, whose forward pass",
    ),
    "own forward": (lambda: Live(Standardised(16, 16, 1)), "^conv is a Standardised, whose forward pass cannot be"),
    "own convolution": (
        lambda: Live(StandardisedWithin(16, 16, 1)),
        "^conv is a StandardisedWithin, whose forward pass",
    ),
    "own parameter": (lambda: Live(Adapted()), "^conv has scale, which would be lost; plug in first"),
    "no convolution": (
        lambda: Live(nn.Linear(16, 16)),
        "^conv is a Linear, .*; plug into a plain nn.Conv2d or nn.Conv3d",
    ),
    **{
        f"{kind} hook": (lambda kind=kind: Live(hooked(nn.Conv3d(16, 16, 1), kind)), f"^conv has {LOST}")
        for kind in ("forward", "forward_pre", "full_backward", "full_backward_pre")
    },
    **{
        f"{name} beside": (lambda name=name: plug_in(Live(), Rival(name=name), 8), f"^conv has {LOST}")
        for name in ("tsm", "temporal_conv")
    },
    "adaptive already": (
        lambda: plug_in(Live(), PLAIN),
        "^conv is a TAdaConv3d, .*, and only once",
    ),
    "hook on the norm": (lambda: Live(norm=hooked(nn.BatchNorm3d(16), "forward")), f"^norm has {LOST}"),
    "no statistics": (
        lambda: Live(norm=nn.BatchNorm3d(16, track_running_stats=False)),
        "^norm lacks weights or running statistics .*track_running_stats=False.* take a norm with both",
    ),
    "no weights": (lambda: Live(norm=nn.BatchNorm3d(16, affine=False)), "^norm lacks weights .*affine=False"),
    "other norm": (lambda: Live(norm=nn.InstanceNorm3d(16)), "^norm is a InstanceNorm3d, which no aggregation can"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_a_layer_that_would_lose_something_is_refused(make: Callable[[], Live], message: str) -> None:
    model = make()
    with pytest.raises(UserError, match=message) as error:
        plug_in(model, TAda())
    assert "\n" not in str(error.value)
    plug_in(model, None)


def test_a_mixture_of_kernels_refuses_hooks_too_and_an_inserted_rival_keeps_them() -> None:
    model, seen = Live(FrameConv2d(16, 16, 3)), []
    model.conv.register_forward_hook(lambda *_: seen.append(1))
    with pytest.raises(UserError, match=f"^conv has {LOST}"):
        plug_in(model, Rival(name="condconv"))
    scores(plug_in(model, Rival(name="tsm")), torch.randn(1, 3, 4, 8, 8))
    assert seen == [1]


def test_frozen_and_tied_weights_stay_so() -> None:
    model = Live()
    model.other = nn.Conv3d(16, 16, (1, 3, 3))
    model.other.weight = model.conv.weight
    model.conv.weight.requires_grad_(False)
    model.norm.bias.requires_grad_(False)
    plugged = plug_in(model, TAda())
    kept = {name: value.requires_grad for name, value in model.named_parameters()}
    state = plugged.state_dict(keep_vars=True)
    assert {name: state[name].requires_grad for name in kept} == kept
    frozen = [value for value in plugged.parameters() if not value.requires_grad]
    assert len(frozen) == sum(not requires_grad for requires_grad in kept.values())
    assert plugged.other.weight is plugged.conv.weight
    assert plugged.conv.weight is not model.conv.weight
    assert not model.norm.bias.requires_grad


@pytest.mark.parametrize("temporal", [TAda(), Rival(name="tsm")], ids=["tada", "tsm"])
def test_one_module_at_two_sites_is_refused(temporal: Temporal) -> None:
    model = Live()
    model.again, model.names = model.conv, [("conv", "norm"), ("again", "norm")]
    with pytest.raises(
        UserError, match=r"^conv and again are one module; use a separate module in each place"
    ) as error:
        plug_in(model, temporal)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("names", [("gone.conv", "norm"), ("conv", "gone.conv")], ids=["conv", "norm"])
def test_a_site_that_is_not_there_is_named(names: tuple[str, str]) -> None:
    model = Live()
    model.names = [names]
    with pytest.raises(UserError, match=r"^sites\(\) names 'gone.conv', but this Live has no such module; correct"):
        plug_in(model, TAda())


@pytest.mark.parametrize("num_frames", [-1, 0, 2.5, "8", True])
@pytest.mark.parametrize("temporal", [None, TAda(), Rival(name="tam")], ids=["none", "tada", "tam"])
def test_a_number_of_frames_is_positive_and_whole(temporal: Temporal, num_frames: object) -> None:
    with pytest.raises(UserError, match=f"^num_frames must be a positive integer, .* not {num_frames!r}$"):
        plug_in(Live(), temporal, num_frames)  # type: ignore[arg-type]


@pytest.mark.parametrize("temporal", ["tada", TAda, 3, nn.Sequential(nn.ReLU())], ids=str)
def test_anything_but_a_description_is_refused(temporal: object) -> None:
    with pytest.raises(UserError, match=r"^temporal must be TAda\(...\), Rival\(...\) or None, not ") as error:
        plug_in(Live(), temporal)  # type: ignore[call-overload]
    assert "\n" not in str(error.value)
