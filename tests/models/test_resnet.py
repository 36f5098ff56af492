"""Residual networks: the paper's parameters and costs, timm's names, the sizes with and without max-pool."""

from collections import defaultdict

import pytest
import torch
from torch import nn

from tadaconv.errors import UserError
from tadaconv.models import BACKBONES, build
from tadaconv.models.resnet import BasicBlock, Bottleneck, ResNet, TemporalKernels
from tadaconv.spec import Backbone, TAda

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def make(name: str, num_classes: int = 1000, temporal: TAda | None = None, device: str = "meta") -> ResNet:
    with torch.device(device):
        return build(Backbone(name=name), temporal, num_classes)


def timm_names(depths: tuple[int, ...], bottleneck: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state of timm's ResNet of these depths, by the rule it is built by."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        shapes.update({f"{name}.{key}": (width,) if key != "num_batches_tracked" else () for key in BATCH_NORM})

    shapes["conv1.weight"] = (64, 3, 7, 7)
    norm("bn1", 64)
    c_in = 64
    for stage, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), 1):
        c_out = 4 * width if bottleneck else width
        for block in range(depth):
            at = f"layer{stage}.{block}"
            channels = [c_in, width, width, c_out] if bottleneck else [c_in, width, width]
            kernels = (1, 3, 1) if bottleneck else (3, 3)
            for i, kernel in enumerate(kernels, 1):
                shapes[f"{at}.conv{i}.weight"] = (channels[i], channels[i - 1], kernel, kernel)
                norm(f"{at}.bn{i}", channels[i])
            if block == 0 and c_in != c_out:
                shapes[f"{at}.downsample.0.weight"] = (c_out, c_in, 1, 1)
                norm(f"{at}.downsample.1", c_out)
            c_in = c_out
    return shapes | {"fc.weight": (1000, c_in), "fc.bias": (1000,)}


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet50_max_pool"])
def test_parameters_have_timms_names_and_shapes(name: str) -> None:
    depths, bottleneck = DEPTHS[name.removesuffix("_max_pool")], name.startswith("resnet50")
    shapes = {key: tuple(value.shape) for key, value in make(name).state_dict().items()}
    expected = timm_names(depths, bottleneck)
    if not bottleneck and not name.endswith("_max_pool"):
        # Without the max-pool, res2 begins with stride 2 and so with a shortcut, which timm's basic blocks do not have.
        own = {key for key in shapes if key.startswith("layer1.0.downsample.")}
        assert len(own) == 1 + len(BATCH_NORM)
        shapes = {key: shape for key, shape in shapes.items() if key not in own}
    assert shapes == expected


def test_parameters_of_the_published_networks() -> None:
    """25.56 M is ResNet-50 for ImageNet; the paper's TAda2D-50 has 27.49 M for Kinetics-400."""
    assert sum(p.numel() for p in make("resnet50").parameters()) == 25_557_032
    assert sum(p.numel() for p in make("resnet50_max_pool").parameters()) == 25_557_032
    assert round(sum(p.numel() for p in make("resnet50", 400, TAda()).parameters()) / 1e6, 2) == 27.49
    assert sum(p.numel() for p in make("resnet34").parameters()) == 21_797_672 + 64 * 64 + 2 * 64  # the shortcut
    assert sum(p.numel() for p in make("resnet18").parameters()) == 11_689_512 + 64 * 64 + 2 * 64


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("tiny", (32, 16, 8, 4, 2)),
        ("resnet18", (32, 16, 8, 4, 2)),
        ("resnet34", (32, 16, 8, 4, 2)),
        ("resnet50", (32, 16, 8, 4, 2)),
        ("resnet50_max_pool", (32, 16, 8, 4, 2)),
    ],
)
def test_sizes_after_the_stem_and_every_stage(name: str, sizes: tuple[int, ...]) -> None:
    model = make(name)
    shapes: dict[str, tuple[int, ...]] = {}
    for module_name in ("conv1", "layer1.0.conv1", "layer1", "layer2", "layer3", "layer4"):
        module = model.get_submodule(module_name)
        module.register_forward_hook(
            lambda _, inputs, output, at=module_name: shapes.update({at: output.shape, f"{at} in": inputs[0].shape})
        )
    scores = model(torch.empty(2, 3, 5, 64, 64, device="meta"))
    assert scores.shape == (2, 1000)
    outputs = [shapes[at] for at in ("conv1", "layer1", "layer2", "layer3", "layer4")]
    assert [tuple(shape[2:]) for shape in outputs] == [(5, size, size) for size in sizes]
    # The max-pool halves before res2, where the first block has stride 1; without it that block halves.
    assert shapes["layer1.0.conv1 in"][-1] == (16 if name.endswith("max_pool") else 32)


def test_where_res2_has_its_stride() -> None:
    strides: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name in ("resnet50", "resnet50_max_pool"):
        for at in ("conv1", "conv2", "conv3", "downsample.0"):
            conv = make(name).get_submodule(f"layer1.0.{at}")
            assert isinstance(conv, nn.Conv2d)
            strides[name][at] = conv.stride
    one, two = (1, 1), (2, 2)
    assert strides["resnet50"] == {"conv1": one, "conv2": two, "conv3": one, "downsample.0": two}
    assert set(strides["resnet50_max_pool"].values()) == {one}


def resnet50_on_images(model: ResNet, frames: torch.Tensor) -> torch.Tensor:
    """ResNet-50 on images, written out with plain functions: (B, 3, H, W) to logits."""
    state = model.state_dict()

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int, padding: int) -> torch.Tensor:
        x = nn.functional.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=padding)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return nn.functional.batch_norm(x, mean, var, state[f"{norm}.weight"], state[f"{norm}.bias"])

    x = torch.relu(layer(frames, "conv1", "bn1", 2, 3))
    x = nn.functional.max_pool2d(x, 3, 2, 1)
    for stage, depth in enumerate(DEPTHS["resnet50"], 1):
        for block in range(depth):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = torch.relu(layer(x, f"{at}.conv1", f"{at}.bn1", 1, 0))
            y = torch.relu(layer(y, f"{at}.conv2", f"{at}.bn2", stride, 1))
            y = layer(y, f"{at}.conv3", f"{at}.bn3", 1, 0)
            shortcut = layer(x, f"{at}.downsample.0", f"{at}.downsample.1", stride, 0) if block == 0 else x
            x = torch.relu(shortcut + y)
    return nn.functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def test_a_clip_of_one_frame_is_classified_as_the_image() -> None:
    torch.manual_seed(0)
    model = make("resnet50_max_pool", 7, device="cpu").eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.5)
    frames = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(frames.unsqueeze(2)), resnet50_on_images(model, frames), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["tiny", "resnet18"])
def test_frames_are_processed_equally_and_averaged(name: str) -> None:
    torch.manual_seed(0)
    model = make(name, 7, device="cpu").eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        scores = model(clip)
        torch.testing.assert_close(scores, model(clip[:, :, [2, 0, 3, 1]]))
        alone = torch.stack([model(clip[:, :, t : t + 1]) for t in range(4)])
    torch.testing.assert_close(scores, alone.mean(0))


@pytest.mark.parametrize("name", ["tiny", "resnet50"])
def test_the_first_gradient_reaches_every_calibration(name: str) -> None:
    torch.manual_seed(0)
    model = build(Backbone(name=name), TAda(), 5).train()
    model(torch.randn(2, 3, 4, 32, 32)).square().mean().backward()
    lasts = [p for at, p in model.named_parameters() if at.endswith("context.last.weight")]
    assert len(lasts) == {"tiny": 4, "resnet50": 16}[name]
    assert all(last.grad is not None and last.grad.abs().sum() > 0 for last in lasts)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    model = build(Backbone(name="tiny", dropout=0.5), None, 5)
    clips = torch.randn(2, 3, 4, 16, 16)
    model.eval()
    assert torch.equal(model(clips), model(clips))
    for norm in (m for m in model.train().modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()
    assert not torch.equal(model(clips), model(clips))


def test_an_unknown_backbone_lists_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"^unknown backbone 'resnt50'; one of: resnet50, ") as error:
        build(Backbone(name="resnt50"), None, 5)
    assert sorted(str(error.value).partition("one of: ")[2].split(", ")) == sorted(BACKBONES)


VIDEO = ("slow_only_8x8", "r2plus1d", "r3d")
TINY_VIDEO = tuple(f"tiny_{name}" for name in (*VIDEO, "slowfast_4x16", "slowfast_8x8"))


def frames_of(name: str, at: str) -> int:
    """Temporal kernel of a convolution, by the paper's rules."""
    if name == "r3d":
        return 3 if at == "conv1.weight" or at.endswith("conv2.weight") else 1
    return 3 if name == "slow_only_8x8" and at.startswith(("layer3", "layer4")) and at.endswith("conv1.weight") else 1


@pytest.mark.parametrize("name", VIDEO)
def test_video_networks_have_timms_names_and_inflated_shapes(name: str) -> None:
    shapes = {key: tuple(value.shape) for key, value in make(name).state_dict().items()}
    expected = {}
    for at, shape in timm_names(DEPTHS["resnet50"], bottleneck=True).items():
        frames = frames_of(name, at)
        expected[at] = shape if frames == 1 else (*shape[:2], frames, *shape[2:])
    if name == "r2plus1d":
        for stage, (depth, width) in enumerate(zip(DEPTHS["resnet50"], (64, 128, 256, 512), strict=True), 1):
            for block in range(depth):
                at = f"layer{stage}.{block}.temporal2"
                expected[f"{at}.conv.weight"] = (width, width, 3, 1, 1)
                expected |= {f"{at}.bn.{key}": (width,) if key[0] != "n" else () for key in BATCH_NORM}
    assert shapes == expected


def look_at_their_own_frame_alone(video: nn.Module, image: nn.Module) -> None:
    """Give ``video`` the weights of ``image``, in the middle of its kernels, and let what is left pass frames on."""
    flat = image.state_dict()
    for at, value in video.state_dict().items():
        if at in flat:
            middle = value.shape[2] // 2 if value.dim() == 5 else None
            value.zero_() if middle is not None else None
            (value if middle is None else value[:, :, middle]).copy_(flat[at])
        elif at.endswith("conv.weight"):
            nn.init.dirac_(value)
        else:
            assert ".temporal" in at
    for module in video.modules():
        if isinstance(module, nn.Sequential) and hasattr(module, "conv"):
            assert isinstance(module.bn, nn.BatchNorm2d)
            nn.init.constant_(module.bn.weight, (1 + module.bn.eps) ** 0.5)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("slow_only_8x8", "resnet50_max_pool"),
        ("r2plus1d", "resnet50"),
        ("r3d", "resnet50"),
        ("tiny_r3d", "tiny"),
    ],
)
def test_kernels_that_see_one_frame_give_the_network_on_images(name: str, image: str) -> None:
    """The structure apart from time: strides, widths, norms and ReLUs lie where they do without it."""
    torch.manual_seed(0)
    alone, video = make(image, 5, device="cpu").double().eval(), make(name, 5, device="cpu").double().eval()
    for norm in (module for module in alone.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.3, 0.6)
        nn.init.normal_(norm.bias, std=0.1)
    with torch.no_grad():
        look_at_their_own_frame_alone(video, alone)
        clips = torch.randn(1, 3, 3, 24, 24, dtype=torch.float64)
        torch.testing.assert_close(video(clips), alone(clips))


@pytest.mark.parametrize("block", [Bottleneck, BasicBlock])
def test_a_factorised_convolution_is_two_with_a_norm_and_a_relu_between(
    block: type[Bottleneck] | type[BasicBlock],
) -> None:
    """Blocks of R(2+1)D, written out over (T, H, W)."""
    torch.manual_seed(0)
    module = block(4, 6, 2, TemporalKernels(spatial=3, factorised=True)).double()
    for norm in (each for each in module.modules() if isinstance(each, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.3, 0.6)
        nn.init.normal_(norm.bias, std=0.3)
    state = {at: value.clone() for at, value in module.state_dict().items()}
    clips = torch.randn(2, 4, 5, 7, 6, dtype=torch.float64)

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = state[f"{conv}.weight"]
        weight = weight if weight.dim() == 5 else weight.unsqueeze(2)
        x = nn.functional.conv3d(x, weight, None, (1, stride, stride), tuple(k // 2 for k in weight.shape[2:]))
        return nn.functional.batch_norm(x, None, None, state[f"{norm}.weight"], state[f"{norm}.bias"], training=True)

    def factorised(x: torch.Tensor, number: int, stride: int) -> torch.Tensor:
        x = torch.relu(layer(x, f"conv{number}", f"bn{number}", stride))
        return layer(x, f"temporal{number}.conv", f"temporal{number}.bn")

    if block is Bottleneck:
        y = torch.relu(layer(clips, "conv1", "bn1"))
        y = layer(torch.relu(factorised(y, 2, 2)), "conv3", "bn3")
    else:
        y = factorised(torch.relu(factorised(clips, 1, 2)), 2, 1)
    expected = torch.relu(y + layer(clips, "downsample.0", "downsample.1", 2))
    torch.testing.assert_close(module.train()(clips), expected)


def reach(module: nn.Module, channels: int) -> int:
    """How many frames to each side of its own a frame of the input changes, found by changing one."""
    module = module.double().eval()
    clip = torch.randn(1, channels, 11, 8, 8, dtype=torch.float64)
    changed = clip.clone()
    changed[:, :, 5] += torch.randn(channels, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        differs = (module(clip) != module(changed)).flatten(3).any(3).any(1)[0].nonzero().flatten()
    assert differs.tolist() == list(range(int(differs[0]), 11 - int(differs[0])))
    return 5 - int(differs[0])


REACH = {
    "slow_only_8x8": (0, 0, 0, 1, 1),
    "r2plus1d": (0, 1, 1, 1, 1),
    "r3d": (1, 1, 1, 1, 1),
    "slowfast_8x8 slow": (0, 0, 0, 1, 1),
    "slowfast_8x8 fast": (2, 1, 1, 1, 1),
}


@pytest.mark.parametrize("name", REACH)
def test_blocks_see_time_where_the_paper_has_it_and_tiny_relatives_where_their_sisters_do(name: str) -> None:
    """Of the stem and of the blocks in res2 to res5; where both 3x3 convolutions of a basic block see time, twice."""
    torch.manual_seed(0)
    backbone, _, path = name.partition(" ")
    for tiny in (False, True):
        model = make(f"tiny_{backbone}" if tiny else backbone, 5, device="cpu")
        reaches = [reach(model.get_submodule(f"{path}.conv1".lstrip(".")), 3)]
        for stage in range(1, 5):
            block = model.get_submodule(f"{path}.layer{stage}.0".lstrip("."))
            assert isinstance(block.conv1, nn.Conv2d | nn.Conv3d)
            reaches.append(reach(block, block.conv1.in_channels))
        twice = tiny and backbone in ("r2plus1d", "r3d")
        assert reaches == [REACH[name][0], *(frames * (1 + twice) for frames in REACH[name][1:])]


@pytest.mark.parametrize("name", TINY_VIDEO)
def test_tiny_networks_are_no_thinner_than_16_channels(name: str) -> None:
    convs = [module for module in make(name, 5).modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    assert min(conv.out_channels for conv in convs) == 16
    assert sorted({conv.in_channels for conv in convs})[:2] == [3, 16]


@pytest.mark.parametrize("name", TINY_VIDEO)
def test_frames_lie_as_they_are_folded(name: str) -> None:
    """Every clip inside is channels last, so that folding it is a view; no layer brings another layout in."""
    model = make(name, 5, device="cpu").eval()
    seen = []

    def look(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        del module, inputs
        if output.dim() == 5:
            seen.append(output.is_contiguous(memory_format=torch.channels_last_3d))

    for module in model.modules():
        module.register_forward_hook(look)
    with torch.no_grad():
        model(torch.randn(2, 3, 16, 64, 64))
    assert len(seen) > 20
    assert all(seen)


@pytest.mark.parametrize("name", ["tiny_r2plus1d", "tiny_slowfast_8x8"])
def test_networks_trace_without_a_break(name: str) -> None:
    torch.manual_seed(0)
    model, clips = make(name, 5, device="cpu").eval(), torch.randn(1, 3, 8, 24, 24)
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(clips), model(clips))


@pytest.mark.parametrize("name", VIDEO)
def test_sites_are_convolutions_with_their_norms(name: str) -> None:
    model = make(name, 5)
    sites = list(model.sites())
    kernels = {"slow_only_8x8": {(3, 3)}, "r2plus1d": {(3, 3), (3, 1, 1)}, "r3d": {(3, 3, 3)}}[name]
    assert len(sites) == 16 * len(kernels)
    assert len({site.conv for site in sites}) == len({site.norm for site in sites}) == len(sites)
    sizes = set()
    for site in sites:
        conv, norm = model.get_submodule(site.conv), model.get_submodule(site.norm)
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert conv.out_channels == norm.num_features
        assert (site.kind == "temporal") == (conv.kernel_size == (3, 1, 1))
        assert (site.temporal_stride, site.entry) == (1, f"layer{site.stage - 1}.{site.block}.conv1")
        sizes.add(conv.kernel_size)
    assert sizes == kernels
