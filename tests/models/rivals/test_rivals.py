"""One conformance test over the dict of rivals: what the interface promises, in every kind of host."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models import BACKBONES, RIVALS, Host, plug_in, promised_start
from tadaconv.models.resnet import Bottleneck, ResNet
from tadaconv.models.rivals import Operator
from tadaconv.nn import FrameConv2d
from tadaconv.spec import Aggregation, Backbone, Experiment, Placement, Rival, Schedule, Synthetic

FRAMES = 4
LOOSE = {"rtol": 1e-4, "atol": 1e-5}


def bottlenecks() -> Host:
    """A residual network of bottlenecks, as ResNet-50 is, with two blocks in res3."""
    return ResNet(Bottleneck, (1, 2, 1, 1), 5, widths=(16, 16, 16, 32, 32), small_stem=True)


HOSTS = {"tiny": lambda: BACKBONES["tiny"](5, 0.0), "bottlenecks": bottlenecks}


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    """A host whose norms are not at their start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = HOSTS[request.param]()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(2, 3, FRAMES, 24, 24, generator=torch.Generator().manual_seed(1))


def plugged(host: Host, name: str, **options: bool | int | float | str) -> Host:
    torch.manual_seed(3)
    return plug_in(host, Rival(name=name, options=options), FRAMES)


def places(host: Host, operator: Operator) -> set[str]:
    """The names of the modules that an operator takes over."""
    return {site.conv if operator.place == "conv" else site.entry for site in host.sites()}


@pytest.mark.parametrize("name", RIVALS)
def test_the_hosts_weights_are_kept_under_their_names(name: str, host: Host) -> None:
    before = {key: value.clone() for key, value in host.state_dict().items()}
    model = plugged(host, name)
    state = model.state_dict()
    assert list(host.state_dict()) == list(before)
    for key, value in before.items():
        assert torch.equal(state[key], value), key
        assert torch.equal(host.state_dict()[key], value), key
        assert state[key].data_ptr() != host.state_dict()[key].data_ptr(), key
    added = set(state) - set(before)
    assert all(any(key.startswith(f"{place}.") for place in places(host, RIVALS[name])) for key in added)
    loaded = model.load_state_dict({key: torch.zeros_like(value) for key, value in before.items()}, strict=False)
    assert not loaded.unexpected_keys
    counts = {key for key in added if key.endswith("num_batches_tracked")}  # which torch does not miss
    assert set(loaded.missing_keys) | counts == added


@pytest.mark.parametrize("name", RIVALS)
def test_it_starts_as_it_promises(name: str, host: Host, clips: Tensor) -> None:
    promised = promised_start(Rival(name=name))
    assert promised == RIVALS[name].identity
    with torch.no_grad():
        for batch in (clips, clips[:1]):  # one clip and several take different ways through torch
            scores, expected = plugged(host, name)(batch), host(batch)
            if promised == "exact":
                assert torch.equal(scores, expected)
            elif promised == "rounding":
                torch.testing.assert_close(scores, expected, **LOOSE)
            else:
                assert not torch.allclose(scores, expected, rtol=1e-2)


@pytest.mark.parametrize("name", RIVALS)
def test_every_parameter_learns_and_the_host_is_unchanged(name: str, host: Host, clips: Tensor) -> None:
    model = plugged(host, name).train()
    for key, parameter in model.named_parameters():
        if key.endswith("squeeze.bias"):
            nn.init.uniform_(parameter, 2, 3)  # no hidden unit is dead
    own = set(dict(model.named_parameters())) - set(dict(host.named_parameters()))
    # What routes between equal kernels has no gradient before they part.
    with torch.no_grad():
        for key in own:
            parameter = model.get_parameter(key)
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model(clips).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key
    assert all(parameter.grad is None for parameter in host.parameters())


@pytest.mark.parametrize(
    ("name", "blind"),
    [
        ("none", True),
        ("temporal_conv", False),
        ("tsm", False),
        ("tam", False),
        ("squeeze_excitation", True),
        ("condconv", True),
        ("dynamic_conv", True),
    ],
)
def test_who_sees_the_order_of_the_frames(name: str, blind: bool, host: Host, clips: Tensor) -> None:
    model = plugged(host, name).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("after.weight"):
                parameter.add_(torch.randn_like(parameter), alpha=0.1)  # a temporal convolution begins as the identity
        scores, shuffled = model(clips), model(clips[:, :, [2, 0, 3, 1]])
    assert torch.allclose(scores, shuffled, **LOOSE) == blind


@pytest.mark.parametrize("name", RIVALS)
def test_mode_type_and_device_are_kept(name: str, host: Host, clips: Tensor) -> None:
    for training in (True, False):
        model = plugged(plug_in(host, None).train(training), name)
        assert all(module.training == training for module in model.modules())
    double = plugged(plug_in(host, None).double(), name)
    assert {value.dtype for value in double.state_dict().values() if value.is_floating_point()} == {torch.float64}
    assert double(clips.double()).dtype == torch.float64
    with torch.device("meta"):
        elsewhere = plugged(plug_in(host, None).to("meta"), name)
    assert {value.device.type for value in elsewhere.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("groups", [1, 16])
def test_compiles_as_one_graph(groups: int, name: str) -> None:
    # Within a network: the hooks of a module that is itself compiled lie outside its graph.
    conv = nn.Sequential(RIVALS[name].replace(FrameConv2d(16, 16, 3, padding=1, groups=groups), FRAMES, {}))
    x = torch.randn(2, 16, FRAMES, 6, 6).contiguous(memory_format=torch.channels_last_3d)
    torch._dynamo.reset()
    compiled = torch.compile(conv, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), conv(x))


@pytest.mark.parametrize("name", RIVALS)
def test_trains_in_lower_precision(name: str, host: Host, clips: Tensor) -> None:
    model = plugged(host, name).train()
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(clips)
    scores.float().square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["temporal_conv", "tsm", "tam", "squeeze_excitation", "condconv", "dynamic_conv"])
@pytest.mark.parametrize("backbone", ["tiny_convnext_clip", "tiny_slow_only_8x8"])
def test_other_hosts_take_them(name: str, backbone: str) -> None:
    """Depthwise 7x7 convolutions with biases, frames merged by the stem, entry convolutions over time."""
    torch.manual_seed(0)
    model = BACKBONES[backbone](5, 0.0).eval()
    clips = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(clips)
        scores = plug_in(model, Rival(name=name), 8)(clips)
    assert scores.isfinite().all()
    if RIVALS[name].identity != "no":
        torch.testing.assert_close(scores, expected, **LOOSE)


@pytest.mark.parametrize("name", ["condconv", "dynamic_conv"])
def test_kernels_a_frame_cannot_take_three_dimensional_ones(name: str) -> None:
    with pytest.raises(UserError, match=r"zero-padded Conv2d, not Conv3d\(") as error:
        plug_in(BACKBONES["tiny_r3d"](5, 0.0), Rival(name=name), 8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", RIVALS)
def test_an_unknown_option_lists_the_right_ones(name: str, host: Host) -> None:
    with pytest.raises(UserError) as error:
        plug_in(host, Rival(name=name, options={"ratio": 3}), FRAMES)
    message = str(error.value)
    assert message.startswith("unknown option of this rival 'ratio'; one of: ")
    listed = message.partition("one of: ")[2]
    assert sorted(listed.split(", ")) == sorted(RIVALS[name].options() or ["(none)"])
    assert "\n" not in message


def wrong_types() -> Iterator[tuple[str, str, object]]:
    for name, operator in RIVALS.items():
        for option, default in operator.options().items():
            wrong: list[object] = ["3", True, *([2.0] if isinstance(default, int) else [])]
            yield from ((name, option, value) for value in wrong)


@pytest.mark.parametrize(("name", "option", "value"), [*wrong_types()])
def test_a_value_of_another_type_is_refused(name: str, option: str, value: object, host: Host) -> None:
    with pytest.raises(UserError, match=rf"^option {option} must be (int|float) \(such as .*\), not {value!r}$"):
        plug_in(host, Rival.model_validate({"name": name, "options": {option: value}}), FRAMES)


def test_a_whole_number_is_a_number(host: Host) -> None:
    plugged(host, "dynamic_conv", temperature=30)


def test_an_unknown_rival_lists_the_right_ones(host: Host) -> None:
    with pytest.raises(UserError, match=r"^unknown rival 'tms'; one of: tsm, "):
        plug_in(host, Rival(name="tms"))


@pytest.mark.parametrize("name", RIVALS)
def test_its_description_survives_json(name: str) -> None:
    temporal = Rival(
        name=name,
        options=RIVALS[name].options(),
        aggregation=Aggregation(kind="max"),
        placement=Placement(stages=(3, 5), blocks="first"),
    )
    assert Rival.model_validate_json(temporal.model_dump_json()) == temporal
    experiment = Experiment(
        backbone=Backbone(name="tiny"),
        temporal=temporal,
        data=Synthetic(num_train=8, num_val=8),
        schedule=Schedule(epochs=1, batch_size=8, lr=0.1),
    )
    again = Experiment.model_validate_json(experiment.model_dump_json())
    assert again == experiment
    assert again.key == experiment.key
    assert isinstance(again.temporal, Rival)
    assert {k: type(v) for k, v in again.temporal.options.items()} == {k: type(v) for k, v in temporal.options.items()}


def test_placement_and_aggregation_reach_the_network(host: Host, clips: Tensor) -> None:
    temporal = Rival(name="temporal_conv", aggregation=Aggregation(), placement=Placement(stages=(3,), blocks="first"))
    model = plug_in(host, temporal, FRAMES)
    added = set(model.state_dict()) - set(host.state_dict())
    assert {key.rpartition(".")[0] for key in added} == {"layer2.0.conv2.after", "layer2.0.bn2.bn_pool"}
    with torch.no_grad():
        assert torch.equal(model(clips), host(clips))


def test_every_rival_names_its_paper() -> None:
    assert all("arXiv:" in operator.source for operator in RIVALS.values())
