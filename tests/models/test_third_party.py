"""Live models of timm and torchvision: sites found by structure, clips in and out, identical at identity."""

import io
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from standins import (
    ImageResNet,
    ResidualBlock,
    TimmConvNeXt,
    TorchvisionConvNeXt,
    VideoResNet,
    off_their_start,
    real,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tadaconv.errors import UserError
from tadaconv.models import Host, Site, build, plug_in, third_party
from tadaconv.models.third_party import FrameHost, as_host
from tadaconv.nn import TAdaConv2d, TAdaConv3d
from tadaconv.spec import Backbone, Placement, Rival, TAda

IMAGE: dict[str, Callable[[], nn.Module]] = {
    "resnet": ImageResNet,
    "timm convnext": TimmConvNeXt,
    "timm convnext, conv mlp": lambda: TimmConvNeXt(conv_mlp=True),
    "torchvision convnext": TorchvisionConvNeXt,
}
VIDEO: dict[str, Callable[[], nn.Module]] = {
    kind: lambda kind=kind: VideoResNet(kind) for kind in ("r3d", "mc3", "r2plus1d")
}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return off_their_start((IMAGE | VIDEO)[name]())


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def scores(model: nn.Module, clips: Tensor) -> Tensor:
    result: Tensor = model(clips)
    return result


@pytest.mark.parametrize("name", IMAGE)
def test_an_image_models_scores_are_averaged_over_the_frames_of_a_clip(name: str, clips: Tensor) -> None:
    model = make(name)
    expected = torch.stack([torch.stack([scores(model, clip[:, t][None])[0] for t in range(4)]) for clip in clips])
    torch.testing.assert_close(scores(plug_in(model, None), clips), expected.mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", VIDEO)
def test_a_video_model_scores_clips_as_it_did(name: str, clips: Tensor) -> None:
    model = make(name)
    assert torch.equal(scores(plug_in(model, None), clips), scores(model, clips))


@pytest.mark.parametrize("aggregation", ["none", "average", "max", "conv"])
@pytest.mark.parametrize("calibration", ["cin", "cin+cout", "cin_k2"])
@pytest.mark.parametrize("name", IMAGE | VIDEO)
def test_at_identity_scores_are_unchanged(name: str, calibration: str, aggregation: str, clips: Tensor) -> None:
    model = make(name)
    before = {at: value.clone() for at, value in model.state_dict().items()}
    plugged = plug_in(model, TAda(calibration=calibration).but(aggregation__kind=aggregation))
    bare = plug_in(model, None)
    if name in VIDEO or calibration == "cin_k2":
        torch.testing.assert_close(scores(plugged, clips), scores(bare, clips), rtol=1e-4, atol=1e-4)
    else:
        assert torch.equal(scores(plugged, clips), scores(bare, clips))
    after = plugged.state_dict()
    assert all(torch.equal(after[f"model.{at}"], value) for at, value in before.items())
    assert list(model.state_dict()) == list(before)
    assert not any(isinstance(module, TAdaConv2d | TAdaConv3d) for module in model.modules())


SITES = {
    "resnet": [(s, b, f"layer{s - 1}.{b}.conv2", f"layer{s - 1}.{b}.bn2") for s in (2, 3, 4, 5) for b in (0, 1)],
    "timm convnext": [
        (s, b, f"stages.{s - 2}.blocks.{b}.conv_dw", f"stages.{s - 2}.blocks.{b}.norm")
        for s, b in ((2, 0), (3, 0), (4, 0), (4, 1), (5, 0))
    ],
    "torchvision convnext": [
        (s, b, f"features.{2 * s - 3}.{b}.block.0", f"features.{2 * s - 3}.{b}.block.2")
        for s, b in ((2, 0), (3, 0), (4, 0), (4, 1), (5, 0))
    ],
    "r3d": [(s, 0, f"layer{s - 1}.0.conv2.0", f"layer{s - 1}.0.conv2.1") for s in (2, 3, 4, 5)],
    "r2plus1d": [
        (s, 0, f"layer{s - 1}.0.conv2.{conv}", f"layer{s - 1}.0.conv2.{norm}")
        for s in (2, 3, 4, 5)
        for conv, norm in (("0.0", "0.1"), ("0.3", "1"))
    ],
}
SITES["timm convnext, conv mlp"] = SITES["timm convnext"]
SITES["mc3"] = SITES["r3d"]


@pytest.mark.parametrize("name", IMAGE | VIDEO)
def test_sites_by_structure(name: str) -> None:
    sites = list(plug_in(make(name), None).sites())
    names = [(s.stage, s.block, s.conv.removeprefix("model."), s.norm.removeprefix("model.")) for s in sites]
    assert names == SITES[name]
    kinds = [site.kind for site in sites]
    assert kinds == ["spatial", "temporal"] * 4 if name == "r2plus1d" else set(kinds) == {"spatial"}


def test_a_stage_after_res5_has_no_sites() -> None:
    model = make("timm convnext")
    model.stages.append(deepcopy(model.stages[3]))
    assert {site.stage for site in plug_in(model, None).sites()} == {2, 3, 4, 5}


@pytest.mark.parametrize("name", VIDEO)
def test_a_site_sees_as_many_frames_as_it_says(name: str) -> None:
    host = plug_in(make(name), None)
    frames: dict[str, int] = {}
    for site in host.sites():
        host.get_submodule(site.conv).register_forward_pre_hook(
            lambda _, inputs, at=site.conv: frames.update({at: inputs[0].shape[2]})
        )
    scores(host, torch.randn(1, 3, 16, 32, 32))
    assert frames == {site.conv: 16 // site.temporal_stride for site in host.sites()}
    assert min(frames.values()) == (16 if name == "mc3" else 2)


@pytest.mark.parametrize("name", IMAGE | VIDEO)
def test_an_operator_sees_the_frames_of_one_clip(name: str, clips: Tensor) -> None:
    """With random calibrations and aggregations, a clip scores the same alone and beside another one."""
    torch.manual_seed(2)
    clips = clips.double() * torch.linspace(0, 2, 4)[:, None, None]
    plugged = plug_in(make(name).double(), TAda(init="random"))
    for at, parameter in plugged.named_parameters():
        if at.endswith(("bn_pool.weight", "ln_pool.weight")):
            nn.init.normal_(parameter)
    plugged.eval()
    together, alone = scores(plugged, clips), torch.cat([scores(plugged, clip[None]) for clip in clips])
    torch.testing.assert_close(together, alone)
    assert (scores(plugged, clips.flip(2)) - together).abs().max() > 1e-6  # time matters now


@pytest.mark.parametrize("rival", ["none", "tsm", "temporal_conv", "squeeze_excitation"])
@pytest.mark.parametrize("name", IMAGE | VIDEO)
def test_rivals_take_the_same_places(rival: str, name: str, clips: Tensor) -> None:
    model = make(name)
    bare, plugged = scores(plug_in(model, None), clips), scores(plug_in(model, Rival(name=rival), 4), clips)
    if rival in ("none", "temporal_conv"):
        torch.testing.assert_close(plugged, bare, rtol=1e-4, atol=1e-5)
    else:
        assert not torch.allclose(plugged, bare, rtol=1e-4, atol=1e-5)


def test_an_operator_after_the_convolution_comes_before_the_frames_are_folded(clips: Tensor) -> None:
    """A second plug-in on a plugged model keeps every hook in its order."""
    once = plug_in(make("resnet"), Rival(name="tsm", placement=Placement(stages=(2,))))
    twice = plug_in(once, Rival(name="tsm", placement=Placement(stages=(3,))))
    at_once = plug_in(make("resnet"), Rival(name="tsm", placement=Placement(stages=(2, 3))))
    assert torch.equal(scores(twice, clips), scores(at_once, clips))


def test_folded_frames_are_clips_where_their_length_is_known(clips: Tensor) -> None:
    torch.manual_seed(3)
    plugged = plug_in(make("resnet"), TAda(init="random"), num_frames=4).eval()
    folded = clips.transpose(1, 2).flatten(0, 1)
    assert torch.equal(scores(plugged, folded), scores(plugged, clips))
    with pytest.raises(UserError, match=r"^7 frames are not divisible into clips of 4 frames; give the host clips"):
        plugged(folded[:7])
    with pytest.raises(
        UserError, match=r"not divisible into clips of unknown length; give the host clips \(N, 3, T, H, W\)"
    ):
        plug_in(make("resnet"), TAda())(folded)


def test_the_model_within_a_host_refuses_frames_that_are_no_clips(clips: Tensor) -> None:
    plugged = plug_in(make("resnet"), TAda())
    scores(plugged, clips)
    with pytest.raises(UserError, match="3 frames are not divisible into clips of unknown length; give the host clips"):
        plugged.model(clips[0, :, :3].transpose(0, 1))


class Checkpointed(nn.Module):
    """A block that keeps its input alone and runs again in the backward pass."""

    def __init__(self, block: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.block, self.reentrant = block, reentrant

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return result


BATCHES = ((2, 4), (1, 4), (1, 6), (3, 2))
"""Clips and frames of batches of which none can be taken for another."""


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    return [torch.randn(n, 3, t, 32, 32, generator=torch.Generator().manual_seed(n + t)) for n, t in BATCHES]


@pytest.mark.parametrize("name", ["resnet", "timm convnext"])
def test_threads_share_a_host(name: str, batches: list[Tensor]) -> None:
    """All of them are in their forward passes at once: each waits at every site until another one got there too."""
    host = plug_in(make(name), TAda(init="random")).eval()
    expected = [scores(host, batch) for batch in batches]
    meet = threading.Barrier(len(batches))
    for site in host.sites():
        host.get_submodule(site.conv).register_forward_pre_hook(lambda *_: (meet.wait(20), None)[1], prepend=True)
    with ThreadPoolExecutor(len(batches)) as pool:
        for mine, alone in zip(pool.map(lambda batch: scores(host, batch), batches), expected, strict=True):
            torch.testing.assert_close(mine, alone)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["resnet", "timm convnext"])
def test_checkpointed_blocks_see_the_clips_they_saw_before(name: str, reentrant: bool, batches: list[Tensor]) -> None:
    """The batches go forward one after the other, then all backward: each block runs again with every batch."""
    plain = plug_in(make(name), TAda(init="random")).eval()
    kept = deepcopy(plain)
    for site in list(kept.sites()):
        at = site.conv.rpartition(".")[0]
        kept.set_submodule(at, Checkpointed(kept.get_submodule(at), reentrant))
    gradients = []
    for host in (plain, kept):
        inputs = [batch.clone().requires_grad_() for batch in batches]
        sum(host(x).square().sum() for x in inputs).backward()
        gradients.append([*(p.grad for p in host.parameters()), *(x.grad for x in inputs)])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_hooks_collect_plain_tensors(batches: list[Tensor]) -> None:
    plugged = plug_in(make("resnet"), TAda())
    collected: list[Tensor] = []
    plugged.model.layer1.register_forward_hook(lambda _module, _inputs, output: collected.append(output))
    for batch in batches:
        assert type(scores(plugged, batch)) is Tensor
    together = torch.cat(collected)  # of clips of several lengths
    assert together.shape[0] == sum(n * t for n, t in BATCHES)
    file = io.BytesIO()
    torch.save(collected[0], file)
    file.seek(0)
    for copy in (torch.load(file, weights_only=True), deepcopy(collected[0])):
        assert type(copy) is Tensor
        assert np.array_equal(copy.numpy(), collected[0].numpy())


def test_a_compiled_stage_computes_the_same(batches: list[Tensor]) -> None:
    plugged = plug_in(make("resnet"), TAda(init="random")).eval()
    compiled = deepcopy(plugged)
    compiled.model.layer2 = torch.compile(compiled.model.layer2, backend="eager", fullgraph=True)
    for batch in batches[:2]:  # another length takes the compiler ten seconds
        torch.testing.assert_close(scores(compiled, batch), scores(plugged, batch))


@pytest.mark.parametrize("name", ["resnet", "timm convnext", "torchvision convnext"])
def test_a_copy_has_weights_of_its_own(name: str, clips: Tensor) -> None:
    first = plug_in(make(name), TAda())
    second = plug_in(first, None)
    assert isinstance(first, FrameHost)
    expected = scores(first, clips)
    for parameter in second.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(scores(first, clips), expected)


def test_a_compiled_host_computes_the_same_in_one_graph(clips: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(layer1=nn.Sequential(ResidualBlock(3, 16, 2)), pool=nn.AdaptiveAvgPool2d(1)))
    plugged = plug_in(off_their_start(model.append(nn.Flatten())), TAda(init="random")).eval()
    compiled = torch.compile(plugged, backend="eager", fullgraph=True)
    for batch in (clips, clips[:1]):
        torch.testing.assert_close(scores(compiled, batch), scores(plugged, batch))


class Scaled(nn.Conv2d):
    """A convolution that computes something else, as weight standardisation does."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return torch.relu(super().forward(input))


@pytest.mark.parametrize(
    ("at", "module"), [("layer2.0.conv2", Scaled(16, 24, 3)), ("layer3.0.bn2", ActivatedNorm(24))], ids=["conv", "norm"]
)
def test_a_layer_that_computes_something_else_is_refused(at: str, module: nn.Module) -> None:
    model = make("resnet")
    model.set_submodule(at, module)
    with pytest.raises(UserError, match=rf"^{at} is a {type(module).__name__}, which no operator can replace") as error:
        plug_in(model, TAda())
    assert "\n" not in str(error.value)


class Adapter(nn.Module):
    """A convolution with one of low rank beside it, as LoRA has them."""

    def __init__(self, base: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        kind = nn.Conv2d if isinstance(base, nn.Conv2d) else nn.Conv3d
        self.base_layer = base
        self.down = kind(base.in_channels, 2, base.kernel_size, base.stride, base.padding, bias=False)  # type: ignore[arg-type]
        self.up = kind(2, base.out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.up(self.down(x))


class Opaque(nn.Module):
    """A convolution whose parts are no modules, as a deformable one is."""

    def __init__(self, base: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.convolve = base.weight, (base,)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve[0](x)


@pytest.mark.parametrize("wrapper", [Adapter, Opaque])
@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("resnet", "layer2.1.conv2"),
        ("resnet", "layer3.0.conv1"),
        ("timm convnext", "stages.2.blocks.1.conv_dw"),
        ("torchvision convnext", "features.3.0.block.0"),
        ("r3d", "layer2.0.conv2.0"),
        ("mc3", "layer4.0.conv1.0"),
        ("r2plus1d", "layer1.0.conv2.0.0"),
    ],
)
def test_a_wrapped_convolution_is_named(name: str, at: str, wrapper: type[nn.Module], clips: Tensor) -> None:
    model = make(name)
    model.set_submodule(at, wrapper(model.get_submodule(at)))
    assert scores(model, clips if name in VIDEO else clips[:, :, 0]).shape == (2, 7)
    named = ".".join(at.split(".")[:3]) if name in VIDEO else f"{at} is a {wrapper.__name__}"
    with pytest.raises(UserError, match=rf"^{re.escape(named)}") as error:
        plug_in(model, TAda(placement=Placement(stages=(2, 3, 4, 5))))
    assert "\n" not in str(error.value)


class Wrapper(nn.Module):
    """Passes calls on, and attributes too, as PyTorch's wrapper for activation checkpointing does."""

    def __init__(self, wrapped: nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.wrapped, name)

    def forward(self, x: Tensor) -> Tensor:
        return self.wrapped(x)


@pytest.mark.parametrize(
    ("name", "at", "named"),
    [
        ("resnet", "layer1.0", "layer1.0.wrapped is a block"),
        ("resnet", "layer3", "layer3.wrapped.0 is a block"),
        ("resnet", "layer2.0.bn2", "layer2.0.bn2 is a Wrapper"),
        ("timm convnext", "stages.0.blocks.0", "stages.0.blocks.0.wrapped is a block"),
        ("timm convnext", "stages.1", "stages.1.wrapped.blocks.0 is a block"),
        ("torchvision convnext", "features.1.0.block.2", "features.1.0.block.2 is a Wrapper"),
        ("torchvision convnext", "features.1", "features.1.wrapped.0 is a block"),
        ("r3d", "layer1.0", "layer1.0.wrapped is a block"),
    ],
)
def test_a_wrapped_block_is_named(name: str, at: str, named: str, clips: Tensor) -> None:
    model = make(name)
    model.set_submodule(at, Wrapper(model.get_submodule(at)))
    assert scores(model, clips if name in VIDEO else clips[:, :, 0]).shape == (2, 7)
    with pytest.raises(UserError, match=rf"^{re.escape(named)}"):
        plug_in(model, TAda())


class FeatureListNet(ImageResNet):
    """Named and structured as timm's models with ``features_only``."""

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        x = self.layer1(self.maxpool(torch.relu(self.bn1(self.conv1(x)))))
        return [x, self.layer2(x)]


def test_a_model_that_gives_features_is_refused(clips: Tensor) -> None:
    traced = torch.fx.symbolic_trace(ImageResNet())
    relu = next(node for node in traced.graph.nodes if node.name == "relu")
    traced.graph.output_node().args = ({"features": relu},)
    traced.recompile()
    for model, kind in ((FeatureListNet(), "FeatureListNet gives a list"), (traced, "GraphModule gives a dict")):
        plugged = plug_in(model, TAda())
        with pytest.raises(UserError, match=rf"^{kind} instead of scores .*; plug into the whole model"):
            plugged(clips)


def test_a_traced_model_is_plugged_into(clips: Tensor) -> None:
    model = make("resnet")
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(scores(plug_in(traced, TAda()), clips), scores(plug_in(model, None), clips))


def test_refusals_use_the_names_of_the_model() -> None:
    model = make("resnet")
    nn.utils.parametrizations.weight_norm(model.layer2[0].conv2)
    with pytest.raises(UserError, match=r"^layer2\.0\.conv2 is a ParametrizedConv2d, which no operator can replace"):
        plug_in(model, TAda())
    model = make("resnet")
    model.layer2[0].conv2.register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match=r"^layer2\.0\.conv2 has hooks .*, which would be lost"):
        plug_in(model, TAda())


def test_a_model_of_another_structure_is_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match="no place for an operator is known in a Sequential; supported are") as error:
        plug_in(nn.Sequential(nn.Conv2d(3, 5, 3)), TAda())
    assert "any model with sites()" in str(error.value)
    assert "\n" not in str(error.value)


class OwnModel(nn.Module):
    """A model on clips that is no Host and says where its convolution lies."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(3, 16, (1, 3, 3)), nn.BatchNorm3d(16)

    def sites(self) -> Iterator[Site]:
        yield Site(2, 0, "conv", "norm", "conv")

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).mean((2, 3, 4))


def test_a_method_sites_makes_any_model_a_host(clips: Tensor) -> None:
    model = OwnModel().eval()
    plugged = plug_in(model, TAda())
    assert isinstance(plugged, OwnModel)
    assert isinstance(plugged.conv, TAdaConv3d)
    torch.testing.assert_close(scores(plugged, clips), scores(model, clips))


def test_a_missing_package_is_named_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def broken(name: str) -> None:
        raise RuntimeError(f"operator {name}::nms does not exist\nand more")

    for package in third_party.PACKAGES:
        monkeypatch.setattr(third_party, "import_module", missing)
        reason = f"No module named {package!r}"
        line = f"{package} cannot be imported ({reason}): pip install {package} torch=={torch.__version__}"
        with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
            build(Backbone(name=f"{package}:resnet50"), None, 5)
        with pytest.raises(
            UserError, match=f"^cannot get the weights '{package}:resnet50': {re.escape(line)}; alternatively, give"
        ):
            build(Backbone(name="tiny", weights=f"{package}:resnet50"), None, 5)
        monkeypatch.setattr(third_party, "import_module", broken)
        with pytest.raises(UserError, match=rf"{package} cannot be imported \(operator .*pip install") as error:
            build(Backbone(name=f"{package}:resnet50"), None, 5)
        assert "\n" not in str(error.value)


class FakeLibrary:
    """What is used of timm and of ``torchvision.models``."""

    def list_models(self) -> list[str]:
        return ["resnet50", "resnet50d", "vit_base"]

    def create_model(self, name: str, num_classes: int, drop_rate: float) -> nn.Module:
        assert (name, drop_rate) == ("resnet50.a1_in1k", 0.5)
        return ImageResNet(num_classes)

    def get_model(self, name: str, num_classes: int) -> nn.Module:
        assert name == "resnet50"
        return ImageResNet(num_classes)


def test_a_backbone_can_be_a_model_of_a_package(monkeypatch: pytest.MonkeyPatch, clips: Tensor) -> None:
    monkeypatch.setattr(third_party, "import_module", lambda name: FakeLibrary())  # noqa: ARG005
    for backbone in (Backbone(name="timm:resnet50.a1_in1k", dropout=0.5), Backbone(name="torchvision:resnet50")):
        host = build(backbone, TAda(), 5)
        assert isinstance(host, Host)
        assert scores(host, clips).shape == (2, 5)
    with pytest.raises(UserError, match=r"^unknown backbone 'timm:resnt50d'; the nearest of timm: resnet50d, resnet50"):
        build(Backbone(name="timm:resnt50d"), None, 5)
    with pytest.raises(UserError, match=r"take no dropout; give 'torchvision:resnet50' dropout 0, not 0.5"):
        build(Backbone(name="torchvision:resnet50", dropout=0.5), None, 5)


def test_the_real_packages_features_are_refused(clips: Tensor) -> None:
    timm, extraction = real("timm"), real("torchvision.models.feature_extraction")
    resnet = third_party.create("torchvision:resnet18", 5, 0.0)
    for model in (
        timm.create_model("resnet18", features_only=True),
        timm.create_model("convnext_atto", features_only=True),
        extraction.create_feature_extractor(resnet, {"layer2": "features"}),
    ):
        with pytest.raises(UserError, match=r"instead of scores|no place for an operator is known"):
            plug_in(model, TAda())(clips)


REAL = [
    *(("timm", name) for name in ("resnet18", "convnext_atto", "convnextv2_atto")),
    *(("torchvision", name) for name in ("resnet18", "convnext_tiny", "r3d_18", "mc3_18", "r2plus1d_18")),
]


@pytest.mark.parametrize(("package", "name"), REAL)
def test_the_real_packages_models_start_as_they_were(package: str, name: str, clips: Tensor) -> None:
    real(package)
    model = off_their_start(third_party.create(f"{package}:{name}", 5, 0.0))
    plugged = plug_in(model, TAda())
    torch.testing.assert_close(scores(plugged, clips), scores(as_host(model), clips), rtol=1e-4, atol=1e-4)
