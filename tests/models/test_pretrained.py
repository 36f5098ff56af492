"""Pretrained weights: what goes where, what is refused, and that a repeated frame is seen as the image was."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from standins import ImageResNet, TimmConvNeXt, TorchvisionConvNeXt, off_their_start, real
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models import BACKBONES, Host, build, load_pretrained, plug_in, pretrained, third_party
from tadaconv.models.convnext import ConvNeXt
from tadaconv.models.resnet import BasicBlock, ResNet
from tadaconv.models.third_party import as_host
from tadaconv.spec import Backbone, Rival, TAda
from tadaconv.weights import resolve_weights

WIDTHS = (16, 16, 24, 32)


def convnext(clip_stem: bool = False, num_classes: int = 7) -> ConvNeXt:
    return ConvNeXt((1, 1, 2, 1), WIDTHS, num_classes, clip_stem=clip_stem)


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def image_state(name: str = "tiny", num_classes: int = 7) -> dict[str, Tensor]:
    """The state of an image network: one of ours frame by frame, which has the names and shapes of timm's."""
    torch.manual_seed(1)
    return copied_state(off_their_start(BACKBONES[name](num_classes, 0.0)))


@pytest.mark.parametrize(
    "theirs", [TimmConvNeXt, lambda: TimmConvNeXt(conv_mlp=True), TorchvisionConvNeXt], ids=["timm", "conv mlp", "tv"]
)
def test_a_convnext_of_either_package_gives_the_same_scores_in_ours(theirs: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, ours = off_their_start(theirs()), convnext().eval()
    loaded = load_pretrained(ours, model.state_dict())
    assert loaded.loaded == tuple(ours.state_dict())
    assert loaded.inflated == loaded.left == ()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images.unsqueeze(2)), model(images))


def test_a_resnet_gives_the_same_scores_in_ours() -> None:
    torch.manual_seed(0)
    model = off_their_start(ImageResNet())
    ours = ResNet(BasicBlock, (2, 2, 2, 2), 7, widths=(16, *WIDTHS), max_pool=True).eval()
    assert set(load_pretrained(ours, model.state_dict()).loaded) == set(model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images.unsqueeze(2)), model(images), rtol=1e-4, atol=1e-5)


INTO = ["tiny", "tiny_r3d", "tiny_r2plus1d", "tiny_slow_only_8x8", "tiny_slowfast_4x16"]


@pytest.mark.parametrize("name", INTO)
def test_every_name_is_in_the_result_and_has_the_value_for_it(name: str) -> None:
    torch.manual_seed(0)
    model, source = BACKBONES[name](5, 0.0), image_state()
    before = copied_state(model)
    result = load_pretrained(model, source)
    after = model.state_dict()
    assert sorted([*result.loaded, *result.inflated, *result.left]) == sorted(after)
    for at in result.left:
        assert torch.equal(after[at], before[at]), at
    for at in result.loaded:
        assert torch.equal(after[at].flatten(), source[at.removeprefix("slow.")].flatten()), at
    for at in result.inflated:
        frames = after[at].shape[2]
        assert frames > 1
        for t in range(frames):
            torch.testing.assert_close(after[at][:, :, t] * frames, source[at.removeprefix("slow.")])
    assert {"fc.weight", "fc.bias"} <= set(result.left)  # of 5 classes, not 7


def test_names_that_are_inflated_and_left() -> None:
    source = image_state(num_classes=5)

    def result(name: str) -> tuple[set[str], set[str]]:
        loaded = load_pretrained(BACKBONES[name](5, 0.0), source)
        return set(loaded.inflated), set(loaded.left)

    assert result("tiny") == (set(), set())
    stages = (1, 2, 3, 4)
    spatial = {f"layer{stage}.0.conv{i}.weight" for stage in stages for i in (1, 2)}
    assert result("tiny_r3d") == ({"conv1.weight", *spatial}, set())
    assert result("tiny_slow_only_8x8") == ({"layer3.0.conv1.weight", "layer4.0.conv1.weight"}, set())
    inflated, left = result("tiny_r2plus1d")
    assert inflated <= {"conv1.weight"}
    assert left == {at for at in BACKBONES["tiny_r2plus1d"](5, 0.0).state_dict() if ".temporal" in at}


def test_in_slowfast_the_slow_pathway_alone_takes_weights() -> None:
    model = BACKBONES["tiny_slowfast_4x16"](7, 0.0)
    result = load_pretrained(model, image_state())
    assert {at.partition(".")[0] for at in (*result.loaded, *result.inflated)} == {"slow"}
    # What the fast pathway adds to a stage's input widens its first layers, which keep their start.
    widened = {at for at in result.left if at.startswith("slow.")}
    assert widened == {f"slow.layer{i}.0.{at}.weight" for i in (1, 2, 3, 4) for at in ("conv1", "downsample.0")}


@given(
    frames=st.sampled_from([1, 3, 5]),
    kernel=st.sampled_from([1, 3]),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0),
)
def test_an_inflated_kernel_sees_a_repeated_frame_as_the_image(
    frames: int, kernel: int, groups: int, seed: int
) -> None:
    torch.manual_seed(seed % 2**31)
    image = nn.Conv2d(4, 6, kernel, padding=kernel // 2, groups=groups).double()
    clip = nn.Conv3d(4, 6, (frames, kernel, kernel), padding=(0, kernel // 2, kernel // 2), groups=groups).double()
    load_pretrained(clip, image.state_dict())
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    seen = clip(x.unsqueeze(2).expand(-1, -1, frames, -1, -1))
    torch.testing.assert_close(seen.squeeze(2), image(x))


def test_the_clip_stem_of_a_convnext_is_inflated() -> None:
    result = load_pretrained(convnext(clip_stem=True), TorchvisionConvNeXt(5).state_dict())
    assert result.inflated == ("stem.0.weight",)
    assert result.left == ("head.fc.weight", "head.fc.bias")


@pytest.mark.parametrize(
    "temporal",
    [TAda(), TAda().but(placement__convs="both"), Rival(name="squeeze_excitation")],
    ids=["2d", "both", "se"],
)
def test_parameters_of_an_operator_keep_their_initial_values(temporal: Any) -> None:
    host = BACKBONES["tiny_r2plus1d"](7, 0.0)
    plain, plugged = load_pretrained(host, image_state()), plug_in(BACKBONES["tiny_r2plus1d"](7, 0.0), temporal)
    result = load_pretrained(plugged, image_state())
    assert (result.loaded, result.inflated) == (plain.loaded, plain.inflated)
    added = set(plugged.state_dict()) - set(host.state_dict())
    assert added
    assert set(result.left) == set(plain.left) | added


def test_a_live_model_in_a_host_takes_its_own_names() -> None:
    source = off_their_start(ImageResNet(7))
    host = as_host(ImageResNet(5))
    result = load_pretrained(host, source.state_dict())
    assert result.left == ("model.fc.weight", "model.fc.bias")
    assert torch.equal(host.state_dict()["model.conv1.weight"], source.state_dict()["conv1.weight"])


def refusal(model: nn.Module, state: dict[str, Any]) -> str:
    """The line that refuses ``state``, which leaves the model as it was."""
    before = copied_state(model)
    with pytest.raises(UserError) as error:
        load_pretrained(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_weights_of_another_architecture_are_refused() -> None:
    state, tiny = image_state(), BACKBONES["tiny"](7, 0.0)
    more = state | {f"layer5.0.bn{i}.weight": torch.ones(1) for i in range(5)}
    assert "unexpected: layer5.0.bn0.weight, layer5.0.bn1.weight, layer5.0.bn2.weight and 2 more;" in refusal(
        tiny, more
    )
    fewer = {name: value for name, value in state.items() if not name.startswith("layer2.0.bn1")}
    assert "missing: layer2.0.bn1.weight, layer2.0.bn1.bias, layer2.0.bn1.running_mean and 1 more;" in refusal(
        tiny, fewer
    )
    other = state | {"conv1.weight": torch.ones(8, 3, 3, 3)}
    assert "size mismatch: conv1.weight (8, 3, 3, 3) for (16, 3, 3, 3);" in refusal(tiny, other)
    assert "unexpected: features.0.0.weight," in refusal(tiny, TorchvisionConvNeXt().state_dict())
    assert "'epoch' in these weights is a int, not a tensor; pass a state dict" in refusal(tiny, state | {"epoch": 3})
    block = {"features.1.0.block.1.weight": torch.ones(1)}  # a block of torchvision has no parameters there
    assert "unexpected: features.1.0.block.1.weight;" in refusal(tiny, state | block)


UNUSABLE: dict[str, tuple[Any, str]] = {
    "number": ({0: torch.ones(1)}, "0 in these weights is a int, not a name"),
    "list": ([torch.ones(1)], "weights are a list"),
    "meta": ({"a": torch.ones(1, device="meta")}, "'a' in these weights is not a dense tensor of real numbers"),
    "sparse": (
        {"a": torch.eye(2).to_sparse()},
        "'a' in these weights is not a dense tensor of real numbers (torch.float32, torch.sparse_coo",
    ),
    "complex": (
        {"a": torch.ones(1, dtype=torch.complex64)},
        "'a' in these weights is not a dense tensor of real numbers (torch.complex64",
    ),
    "bool": (
        {"a": torch.ones(1, dtype=torch.bool)},
        "'a' in these weights is not a dense tensor of real numbers (torch.bool",
    ),
    "nan": ({"a": torch.ones(2), "b": torch.tensor([1, torch.nan]), "c": torch.tensor(torch.inf)}, "'b' in these"),
    "inf": ({"a": torch.tensor(-torch.inf, dtype=torch.bfloat16)}, "'a' in these weights is not finite"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_weights_are_named(case: str, tmp_path: Path) -> None:
    state, message = UNUSABLE[case]
    assert message in refusal(BACKBONES["tiny"](7, 0.0), state)
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    with pytest.raises(UserError) as error:
        pretrained.read_file(file)
    assert str(error.value).startswith(f"{str(file)!r}: {message}")
    assert "\n" not in str(error.value)


def test_the_prefix_of_a_parallel_wrapper_goes_if_every_name_has_it(tmp_path: Path) -> None:
    state, tiny = image_state(), BACKBONES["tiny"](7, 0.0)
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "weights.pth")
    assert list(pretrained.read_file(tmp_path / "weights.pth")) == list(state)
    assert load_pretrained(tiny, wrapped).loaded == tuple(state)
    assert all(torch.equal(value, state[name]) for name, value in tiny.state_dict().items())
    assert "unexpected: module.conv1.weight," in refusal(tiny, wrapped | {"fc.weight": state["fc.weight"]})


def test_weights_without_a_classifier_and_without_counters_are_enough() -> None:
    state = {
        name: value for name, value in image_state().items() if not name.startswith("fc.") and "batches" not in name
    }
    result = load_pretrained(BACKBONES["tiny"](7, 0.0), state)
    assert all(name.startswith("fc.") or name.endswith("num_batches_tracked") for name in result.left)


def backbone(file: Path, name: str = "tiny") -> Backbone:
    return resolve_weights(Backbone(name=name, weights=str(file)))


@pytest.mark.parametrize("wrapped", ["", "state_dict", "model"])
def test_a_backbone_is_built_with_its_weights_before_the_plug_in(wrapped: str, tmp_path: Path) -> None:
    state = image_state()
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, tmp_path / "weights.pth")
    plain = build(backbone(tmp_path / "weights.pth"), None, 7).eval()
    plugged = build(backbone(tmp_path / "weights.pth"), TAda(), 7).eval()
    assert all(torch.equal(plain.state_dict()[name], value) for name, value in state.items())
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain(clips), plugged(clips))


def test_a_file_that_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(image_state(), file)
    planned = backbone(file)
    torch.save(image_state("tiny_r3d"), file)
    with pytest.raises(UserError, match="have changed since this was planned") as error:
        build(planned, None, 7)
    assert "\n" not in str(error.value)


class Harmful:
    """Unpickling it would write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_unreadable_files_are_refused_in_one_line(tmp_path: Path) -> None:
    paths = {
        name: tmp_path / name for name in ("code.pth", "list.pth", "text.pth", "gone.pth", "half.pth", "empty.pth")
    }
    torch.save({"conv1.weight": Harmful(tmp_path / "harm")}, paths["code.pth"])
    torch.save([torch.ones(1)], paths["list.pth"])
    paths["text.pth"].write_text("not weights")
    paths["empty.pth"].touch()
    torch.save(image_state(), paths["half.pth"])
    paths["half.pth"].write_bytes(paths["half.pth"].read_bytes()[:1000])
    message = {}
    for name, path in paths.items():
        with pytest.raises(UserError) as error:
            pretrained.read_file(path)
        message[name] = str(error.value)
        assert "\n" not in message[name]
        assert str(path) in message[name]
    assert not (tmp_path / "harm").exists()
    assert "contains more than tensors" in message["code.pth"]
    assert "weights are a list" in message["list.pth"]
    for name in ("text.pth", "half.pth", "empty.pth"):
        assert "the file is empty, broken or of another format" in message[name]
    assert "No such file" in message["gone.pth"]


@pytest.mark.parametrize("old", [False, True], ids=["zip", "pickle"])
def test_flipped_bytes_are_read_or_refused_in_one_line(old: bool, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(3), "b": torch.arange(4)}, file, _use_new_zipfile_serialization=not old)
    whole, refusals = file.read_bytes(), []
    for i in range(0, len(whole), len(whole) // 150 + 1):
        file.write_bytes(whole[:i] + bytes([whole[i] ^ 0x24]) + whole[i + 1 :])
        try:
            pretrained.read_file(file)
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert not any("\n" in line for line in refusals)


def test_an_old_pickle_that_needs_more_is_refused_too(tmp_path: Path) -> None:
    with (tmp_path / "old.pth").open("wb") as file:
        pickle.dump(Harmful(tmp_path / "harm"), file, protocol=2)
    with pytest.raises(UserError, match="contains more than tensors"):
        pretrained.read_file(tmp_path / "old.pth")
    assert not (tmp_path / "harm").exists()


def test_safetensors_are_read_where_the_package_is_and_named_where_it_is_not(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    try:
        from safetensors.torch import save_file
    except ModuleNotFoundError:
        file.write_bytes(b"")
        with pytest.raises(UserError, match=r"needs safetensors: pip install safetensors$"):
            pretrained.read_file(file)
    else:
        save_file(image_state(), file)
        state = pretrained.read_file(file)
        assert all(torch.equal(state[name], value) for name, value in image_state().items())
        file.write_bytes(b"half")
        with pytest.raises(UserError, match="cannot read the weights"):
            pretrained.read_file(file)


class FakePackage:
    """A package whose weights are at hand: of timm as a model, of torchvision by their name."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def create_model(self, name: str, pretrained: bool) -> "FakePackage":
        assert pretrained
        return self.get_weight(name)

    def get_weight(self, name: str) -> "FakePackage":
        if name != "known":
            raise RuntimeError(f"no {name}\nand more")
        return self

    def state_dict(self) -> dict[str, Tensor]:
        return self.state

    def get_state_dict(self, progress: bool) -> dict[str, Tensor]:
        assert not progress
        return self.state


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_weights_are_had_from_the_package_that_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePackage(image_state())
    monkeypatch.setattr(pretrained, "import_package", lambda name: {package: fake}[name])
    monkeypatch.setattr(pretrained, "import_module", lambda name: {"torchvision.models": fake}[name])
    model = build(Backbone(name="tiny", weights=f"{package}:known"), None, 7)
    assert torch.equal(model.state_dict()["conv1.weight"], fake.state["conv1.weight"])
    with pytest.raises(
        UserError, match=rf"^cannot get the weights '{package}:unknown': no unknown; alternatively, give the file"
    ):
        build(Backbone(name="tiny", weights=f"{package}:unknown"), None, 7)


PYTORCH, HUB = "from https://download.pytorch.org/models", "model.safetensors from https://huggingface.co/timm"


@pytest.mark.parametrize(
    ("weights", "file"),
    [
        ("torchvision:ResNet50_Weights.IMAGENET1K_V1", f": resnet50-0676ba61.pth {PYTORCH}"),
        ("torchvision:ConvNeXt_Tiny_Weights.IMAGENET1K_V1", f": convnext_tiny-983f1562.pth {PYTORCH}"),
        ("torchvision:Of_Another_Network.V1", ""),
        ("timm:resnet50.a1_in1k", f": {HUB}/resnet50.a1_in1k"),
        ("timm:resnet50", ""),
    ],
)
def test_weights_that_cannot_be_had_say_which_file_to_give(
    weights: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = weights.partition(":")[0]

    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    give = "give the file, backbone__weights=PATH in your own regime"
    monkeypatch.setattr(third_party, "import_module", missing)
    with pytest.raises(UserError) as refused:
        pretrained.read_weights(Backbone(name="", weights=weights))
    reason = f"{package} cannot be imported (No module named {package!r}): pip install {package} torch=="
    line = f"cannot get the weights {weights!r}: {reason}{torch.__version__}; alternatively, {give}{file}"
    assert str(refused.value) == line

    class Offline(FakePackage):
        def get_weight(self, name: str) -> FakePackage:
            raise OSError(f"<no network for {name}>")

    monkeypatch.setattr(pretrained, "import_package", lambda _: Offline({}))
    monkeypatch.setattr(pretrained, "import_module", lambda _: Offline({}))
    with pytest.raises(UserError) as refused:
        pretrained.read_weights(Backbone(name="", weights=weights))
    name = weights.partition(":")[2]
    line = f"cannot get the weights {weights!r}: <no network for {name}>; alternatively, {give}{file}"
    assert str(refused.value) == line


OURS = {
    "resnet50": ("resnet50_max_pool", "resnet50"),
    "convnext_tiny": ("convnext_tiny",),
}


@pytest.mark.parametrize("package", ["timm", "torchvision"])
@pytest.mark.parametrize("name", OURS)
def test_the_real_packages_weights_load_with_equal_scores(package: str, name: str) -> None:
    library = real(package)
    theirs = library.create_model(name) if package == "timm" else library.models.get_model(name)
    off_their_start(theirs)
    images = torch.randn(1, 3, 64, 64)
    for i, ours in enumerate(OURS[name]):
        model: Host = BACKBONES[ours](1000, 0.0).eval()
        result = load_pretrained(model, theirs.state_dict())
        assert result == replace(result, loaded=tuple(model.state_dict()), inflated=(), left=())
        with torch.no_grad():
            if i == 0:  # the others differ by the max-pool
                torch.testing.assert_close(model(images.unsqueeze(2)), theirs(images), rtol=1e-4, atol=1e-4)
