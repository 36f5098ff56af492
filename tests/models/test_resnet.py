"""Residual networks: the paper's parameters and costs, timm's names, the sizes with and without max-pool."""

from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tadaconv.errors import UserError
from tadaconv.measure import count
from tadaconv.models import BACKBONES, build
from tadaconv.models.resnet import ResNet
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


def test_tada2d_50_costs_what_the_paper_says() -> None:
    model = make("resnet50", 400, TAda(), device="cpu")
    cost = count(model, (3, 8, 256, 256))
    assert round(cost.params / 1e6, 2) == 27.49
    assert round(cost.macs / 1e9, 1) == 43.1
    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # torch's own count, on no data
        model.to("meta").eval()(torch.empty(1, 3, 8, 256, 256, device="meta"))
    assert cost.macs + cost.macs_by_kind["aggregation"] == counter.get_total_flops() / 2


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
    found = [shapes[at] for at in ("conv1", "layer1", "layer2", "layer3", "layer4")]
    assert [tuple(shape[2:]) for shape in found] == [(5, size, size) for size in sizes]
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
def test_frames_are_treated_alike_and_averaged(name: str) -> None:
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
