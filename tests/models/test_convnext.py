"""ConvNeXt: the paper's parameters and costs, timm's names, and a straight-line evaluation of the same formula."""

import pytest
import torch
import torch.nn.functional as F
from standins import off_their_start
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tadaconv.errors import UserError
from tadaconv.models import BACKBONES, Host, plug_in
from tadaconv.models.convnext import ConvNeXt
from tadaconv.nn.aggregation import AggregatedLayerNorm2d
from tadaconv.spec import TAda

SIZES = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}
NAMES = [f"convnext_{size}{stem}" for size in SIZES for stem in ("", "_clip")]


def on_meta(name: str, num_classes: int, temporal: TAda | None = None) -> Host:
    with torch.device("meta"):
        return plug_in(BACKBONES[name](num_classes, 0.0), temporal)


def flops_of(model: nn.Module, *shape: int) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, 3, *shape, device="meta"))
    return counter.get_total_flops()


def timm_names(size: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state of timm's ConvNeXt of a size, by the rule it is built by."""
    depths, widths = SIZES[size]
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *weight: int) -> None:
        shapes.update({f"{name}.weight": weight, f"{name}.bias": weight[:1]})

    layer("stem.0", widths[0], 3, 4, 4)
    layer("stem.1", widths[0])
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if i > 0:
            layer(f"stages.{i}.downsample.0", widths[i - 1])
            layer(f"stages.{i}.downsample.1", width, widths[i - 1], 2, 2)
        for b in range(depth):
            at = f"stages.{i}.blocks.{b}"
            shapes[f"{at}.gamma"] = (width,)
            layer(f"{at}.conv_dw", width, 1, 7, 7)
            layer(f"{at}.norm", width)
            layer(f"{at}.mlp.fc1", 4 * width, width)
            layer(f"{at}.mlp.fc2", width, 4 * width)
    layer("head.norm", widths[3])
    layer("head.fc", num_classes, widths[3])
    return shapes


@pytest.mark.parametrize("size", SIZES)
def test_parameters_have_timms_names_and_shapes(size: str) -> None:
    expected = timm_names(size, 1000)
    image, clip = (
        {name: tuple(value.shape) for name, value in on_meta(f"convnext_{size}{stem}", 1000).state_dict().items()}
        for stem in ("", "_clip")
    )
    assert image == expected
    assert clip == expected | {"stem.0.weight": (SIZES[size][1][0], 3, 3, 4, 4)}


@pytest.mark.parametrize(
    ("size", "params_m", "gmacs"), [("tiny", "28.59", "4.46"), ("small", "50.22", "8.68"), ("base", "88.59", "15.35")]
)
def test_parameters_and_costs_of_the_published_networks(size: str, params_m: str, gmacs: str) -> None:
    """On one image of 224 x 224; the paper prints 29, 50 and 89 M and 4.5, 8.7 and 15.4 G."""
    model = on_meta(f"convnext_{size}", 1000)
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}" == params_m
    assert f"{flops_of(model, 1, 224, 224) / 2e9:.2f}" == gmacs


def by_hand(size: str, num_classes: int, frames: int, pixels: int) -> tuple[int, int]:
    """Multiply-adds of the clip-stem network, and what a TAda adds: its context, and products of the pooling."""
    depths, widths = SIZES[size]
    side, kept = pixels // 4, frames // 2
    host = widths[0] * 3 * 3 * 4 * 4 * kept * side**2
    added = 0
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if i > 0:
            side //= 2
            host += widths[i - 1] * width * 4 * kept * side**2
        host += depth * (49 + 2 * 4 * width) * width * kept * side**2
        context = width * width + 2 * 3 * width * (width // 4) * kept
        added += depth * (context + kept**2 * width * side**2)
    return host + widths[3] * num_classes, added


@pytest.mark.parametrize(("frames", "gmacs"), [(16, 47), (32, 94)])
def test_tada_convnext_tiny_has_the_cost_in_the_paper(frames: int, gmacs: int) -> None:
    """Tables 8 and 10 of the paper: 47 and 94 G on 16 and 32 frames of 256 x 256."""
    host, added = by_hand("tiny", 400, frames, 256)
    assert flops_of(on_meta("convnext_tiny_clip", 400), frames, 256, 256) == 2 * host
    assert flops_of(on_meta("convnext_tiny_clip", 400, TAda()), frames, 256, 256) == 2 * (host + added)
    assert round(host / 1e9) == gmacs


def small(clip_stem: bool) -> ConvNeXt:
    torch.manual_seed(0)
    model = ConvNeXt((1, 2, 1, 1), (16, 20, 24, 32), 7, clip_stem=clip_stem)
    off_their_start(model)
    return model.double()


def straight_line(state: dict[str, Tensor], clip_CTHW: Tensor, depths: tuple[int, ...]) -> Tensor:
    """Scores of one clip by plain functions on single frames; the stem tells by its weight whether it sees three."""

    def norm(x_CHW: Tensor, at: str) -> Tensor:
        mean, var = x_CHW.mean(0), x_CHW.var(0, unbiased=False)
        scale, shift = state[f"{at}.weight"], state[f"{at}.bias"]
        return (x_CHW - mean) / (var + 1e-6).sqrt() * scale[:, None, None] + shift[:, None, None]

    def conv(x_CHW: Tensor, at: str, weight: Tensor | None = None, **options: int) -> Tensor:
        kernel = state[f"{at}.weight"] if weight is None else weight
        return F.conv2d(x_CHW[None], kernel, state[f"{at}.bias"], **options)[0]

    stem = state["stem.0.weight"]
    frames = list(clip_CTHW.unbind(1))
    if stem.ndim == 5:
        black = torch.zeros_like(frames[0])
        padded = [black, *frames, black]
        no_bias = state["stem.0.bias"][:, None, None]
        features = [
            sum(conv(padded[t + tap], "stem.0", stem[:, :, tap], stride=4) - no_bias for tap in range(3)) + no_bias
            for t in range(0, len(frames), 2)
        ]
    else:
        features = [conv(frame, "stem.0", stride=4) for frame in frames]
    total = torch.zeros((), dtype=clip_CTHW.dtype)
    for x in features:
        x = norm(x, "stem.1")
        for i, depth in enumerate(depths):
            if i > 0:
                x = conv(norm(x, f"stages.{i}.downsample.0"), f"stages.{i}.downsample.1", stride=2)
            for b in range(depth):
                at = f"stages.{i}.blocks.{b}"
                y = norm(conv(x, f"{at}.conv_dw", padding=3, groups=x.shape[0]), f"{at}.norm")
                y = torch.einsum("oc,chw->ohw", state[f"{at}.mlp.fc1.weight"], y)
                y = F.gelu(y + state[f"{at}.mlp.fc1.bias"][:, None, None])
                y = torch.einsum("oc,chw->ohw", state[f"{at}.mlp.fc2.weight"], y)
                y = y + state[f"{at}.mlp.fc2.bias"][:, None, None]
                x = x + state[f"{at}.gamma"][:, None, None] * y
        total = total + x.mean((1, 2)) / len(features)
    head = norm(total[:, None, None], "head.norm").flatten()
    return state["head.fc.weight"] @ head + state["head.fc.bias"]


@pytest.mark.parametrize("clip_stem", [False, True])
def test_scores_and_gradients_are_those_of_plain_functions(clip_stem: bool) -> None:
    model = small(clip_stem)
    clips = torch.randn(2, 3, 4, 64, 64, dtype=torch.float64)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in model.state_dict().items()}
    expected = torch.stack([straight_line(leaves, clip, (1, 2, 1, 1)) for clip in clips])
    scores = model(clips)
    torch.testing.assert_close(scores, expected)
    upstream = torch.randn_like(scores)
    scores.backward(upstream)
    expected.backward(upstream)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, msg=lambda text, at=name: f"{at}: {text}")


@pytest.mark.parametrize("clip_stem", [False, True])
@pytest.mark.parametrize("calibration", ["cin", "cout", "cin+cout"])
@pytest.mark.parametrize("aggregation", ["average", "max", "mix", "conv", "none"])
def test_plugged_in_its_scores_are_equal_bit_for_bit(clip_stem: bool, calibration: str, aggregation: str) -> None:
    model = small(clip_stem).float()
    clips = torch.randn(2, 3, 4, 64, 64)
    plugged = plug_in(model, TAda(calibration=calibration).but(aggregation__kind=aggregation))
    norms = [module for module in plugged.modules() if isinstance(module, AggregatedLayerNorm2d)]
    assert len(norms) == (0 if aggregation == "none" else 5)
    with torch.no_grad():
        assert torch.equal(plugged(clips), model(clips))


def test_an_operator_changes_the_scores() -> None:
    model = plug_in(small(clip_stem=True), TAda())
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith(("context.last.weight", "ln_pool.weight")):
            nn.init.normal_(parameter, std=0.5)
    model(torch.randn(2, 3, 6, 64, 64, dtype=torch.float64)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("temporal", [None, TAda()])
@pytest.mark.parametrize("clip_stem", [False, True])
def test_clips_stay_channels_last(clip_stem: bool, temporal: TAda | None) -> None:
    """Whatever enters or leaves a layer is channels-last memory: none is copied to another layout and back."""
    model, seen = plug_in(small(clip_stem), temporal), []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del module
        seen.extend((inputs[0], output))

    for name, module in model.named_modules():
        if name.endswith(("conv_dw", "norm", "downsample.1", "ln_pool")) or name.startswith("stages.0.blocks"):
            module.register_forward_hook(watch)
    with torch.no_grad():
        model(torch.randn(2, 3, 4, 64, 64, dtype=torch.float64))
    clips = [x for x in seen if x.ndim == 5 and x.shape[1] in (16, 20, 24, 32) and x.shape[-1] not in (16, 64)]
    assert len(clips) > 20
    assert all(x.permute(0, 2, 3, 4, 1).is_contiguous() for x in clips)


@pytest.mark.parametrize("name", [*NAMES, "tiny_convnext_clip"])
def test_sites_name_the_depthwise_convolutions_in_order(name: str) -> None:
    model = on_meta(name, 5)
    convs = [at for at, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    sites = list(model.sites())
    assert [site.conv for site in sites] == convs
    for site in sites:
        stage, block = site.conv.split(".")[1:4:2]
        assert (site.stage, site.block) == (int(stage) + 2, int(block))
        assert site.norm == site.conv.replace("conv_dw", "norm")
        assert site.temporal_stride == (2 if name.endswith("_clip") else 1)
        model.get_submodule(site.norm)


def test_the_clip_stem_halves_the_frames() -> None:
    shapes: list[torch.Size] = []
    model = on_meta("convnext_tiny_clip", 5)
    model.get_submodule("stem").register_forward_hook(lambda *seen: shapes.append(seen[2].shape))
    model(torch.empty(2, 3, 6, 64, 64, device="meta"))
    assert shapes == [(2, 96, 3, 16, 16)]


@pytest.mark.parametrize("frames", [1, 7])
def test_an_odd_number_of_frames_is_refused(frames: int) -> None:
    clips = torch.empty(1, 3, frames, 64, 64, device="meta")
    with pytest.raises(UserError, match=rf"by which {frames} frames are not divisible; give an even number"):
        on_meta("convnext_tiny_clip", 5)(clips)
    assert on_meta("convnext_tiny", 5)(clips).shape == (1, 5)


def test_with_the_image_stem_all_frames_are_processed_equally() -> None:
    model = small(clip_stem=False)
    clip = torch.randn(1, 3, 4, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(clip), model(clip[:, :, [2, 0, 3, 1]]))
        torch.testing.assert_close(model(clip[:, :, :1].expand(-1, -1, 4, -1, -1)), model(clip[:, :, :1]))


def test_the_small_relative_takes_tiny_clips_and_its_first_gradient_reaches_every_calibration() -> None:
    """At AdamW's resolution: a gradient of 1e-10, as a layer scale of 1e-6 leaves, would not move a weight."""
    torch.manual_seed(0)
    model = plug_in(BACKBONES["tiny_convnext_clip"](5, 0.0), TAda())
    model(torch.rand(4, 3, 8, 24, 24)).square().mean().backward()
    lasts = [p for at, p in model.named_parameters() if at.endswith("context.last.weight")]
    assert len(lasts) == 5
    assert all(last.grad is not None and last.grad.abs().mean() > 1e-8 for last in lasts)
    assert min(m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)) >= 16


def test_starts_as_the_paper_has_it() -> None:
    torch.manual_seed(0)
    model = ConvNeXt((1, 1, 1, 1), (16, 32, 48, 64), 5)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            assert torch.equal(parameter, torch.full_like(parameter, 1e-6))
        elif name.endswith("bias"):
            assert not parameter.any()
        elif parameter.ndim > 1 and parameter.numel() > 2000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    model = BACKBONES["tiny_convnext_clip"](5, 0.5)
    clips = torch.randn(2, 3, 4, 24, 24)
    assert not torch.equal(model.train()(clips), model(clips))
    assert torch.equal(model.eval()(clips), model(clips))
