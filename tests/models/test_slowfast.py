"""SlowFast: two pathways written out with plain functions, what the one tells the other, names and bad clips."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models import BACKBONES, build, plug_in
from tadaconv.models.resnet import BasicBlock, Bottleneck
from tadaconv.models.slowfast import Lateral, SlowFast
from tadaconv.nn import TAdaConv2d
from tadaconv.spec import Backbone, Placement, TAda


def make(block: type[BasicBlock] | type[Bottleneck], alpha: int, frames: int) -> SlowFast:
    """A thin network in float64 whose norms do something."""
    torch.manual_seed(0)
    model = SlowFast(
        block, (2, 1, 1, 1), 5, alpha=alpha, lateral_frames=frames, widths=(4, 4, 6, 8, 8), fast_widths=(2, 2, 3, 4, 4)
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.double().eval()


def written_out(model: SlowFast, clips: Tensor, alpha: int, bottleneck: bool) -> Tensor:
    """The network from its weights alone, with plain convolutions and pooling over (T, H, W)."""
    state = model.state_dict()

    def layer(x: Tensor, conv: str, norm: str, stride: tuple[int, int, int] = (1, 1, 1)) -> Tensor:
        weight = state[f"{conv}.weight"]
        weight = weight if weight.dim() == 5 else weight.unsqueeze(2)
        x = F.conv3d(x, weight, stride=stride, padding=tuple(k // 2 for k in weight.shape[2:]))
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{norm}.weight"], state[f"{norm}.bias"])

    def stem(x: Tensor, path: str) -> Tensor:
        x = torch.relu(layer(x, f"{path}.conv1", f"{path}.bn1", (1, 2, 2)))
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))

    def stage(x: Tensor, path: str, number: int) -> Tensor:
        for block in range(2 if number == 1 else 1):
            at, stride = f"{path}.layer{number}.{block}", (1, 2, 2) if number > 1 and block == 0 else (1, 1, 1)
            strides = ((1, 1, 1), stride, (1, 1, 1)) if bottleneck else (stride, (1, 1, 1))
            y = x
            for i, each in enumerate(strides, 1):
                y = layer(y, f"{at}.conv{i}", f"{at}.bn{i}", each)
                y = torch.relu(y) if i < len(strides) else y
            shortcut = f"{at}.downsample"
            x = layer(x, f"{shortcut}.0", f"{shortcut}.1", stride) if f"{shortcut}.0.weight" in state else x
            x = torch.relu(x + y)
        return x

    slow, fast = stem(clips[:, :, ::alpha], "slow"), stem(clips, "fast")
    for i in range(4):
        lateral = torch.relu(layer(fast, f"laterals.{i}.conv", f"laterals.{i}.bn", (alpha, 1, 1)))
        slow, fast = stage(torch.cat([slow, lateral], 1), "slow", i + 1), stage(fast, "fast", i + 1)
    features = torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1)
    return F.linear(features, state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("block", [Bottleneck, BasicBlock])
@pytest.mark.parametrize(("alpha", "frames"), [(4, 7), (8, 5), (2, 3)])
def test_both_pathways_written_out(block: type[BasicBlock] | type[Bottleneck], alpha: int, frames: int) -> None:
    model = make(block, alpha, frames)
    clips = torch.randn(2, 3, 2 * alpha, 33, 40, dtype=torch.float64)
    with torch.no_grad():
        expected = written_out(model, clips, alpha, block is Bottleneck)
        assert expected.std() > 1e-3
        torch.testing.assert_close(model(clips), expected)


@pytest.mark.parametrize(("alpha", "frames"), [(4, 7), (8, 5)])
def test_lateral_convolutions_are_centred_on_the_slow_frames(alpha: int, frames: int) -> None:
    """Slow frame t is fast frame alpha * t, and hears of the fast ones at most ``frames // 2`` away from it."""
    torch.manual_seed(0)
    lateral, num_frames = Lateral(3, frames, alpha).double().eval(), 4 * alpha
    nn.init.uniform_(lateral.conv.weight, 0.1, 1)
    clip = torch.rand(1, 3, num_frames, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        before = lateral(clip)
        assert before.shape == (1, 6, 4, 2, 2)
        for t in range(num_frames):
            changed = clip.clone()
            changed[:, :, t] += 1
            heard = (lateral(changed) != before).any(4).any(3).all(1)[0]
            assert heard.tolist() == [abs(alpha * slow - t) <= frames // 2 for slow in range(4)]


@pytest.mark.parametrize(("name", "alpha"), [("tiny_slowfast_4x16", 8), ("tiny_slowfast_8x8", 4)])
def test_the_slow_pathway_alone_sees_every_alphath_frame(name: str, alpha: int) -> None:
    """Deaf to the fast pathway, whose features the classifier ignores, the network depends on frames 0, alpha, ..."""
    torch.manual_seed(0)
    model = build(Backbone(name=name), None, 5).eval()
    assert isinstance(model, SlowFast)
    for lateral in model.laterals:
        assert isinstance(lateral, Lateral)
        nn.init.zeros_(lateral.conv.weight)
    with torch.no_grad():
        model.fc.weight[:, model.slow.num_features :] = 0
        clip = torch.randn(1, 3, 2 * alpha, 32, 32)
        before = model(clip)
        for t in range(2 * alpha):
            changed = clip.clone()
            changed[:, :, t] = torch.randn(32, 32)
            assert torch.equal(model(changed), before) == (t % alpha > 0)


@pytest.mark.parametrize(("name", "alpha"), [("slowfast_4x16", 8), ("slowfast_8x8", 4)])
@pytest.mark.parametrize("num_frames", [1, 12, 31])
def test_frames_that_alpha_does_not_divide_are_refused(name: str, alpha: int, num_frames: int) -> None:
    with torch.device("meta"):
        model, clip = BACKBONES[name](5, 0.0), torch.empty(1, 3, num_frames, 32, 32)
    if num_frames % alpha == 0:
        assert model(clip).shape == (1, 5)
    else:
        with pytest.raises(
            UserError, match=f"every {alpha}th frame; .* multiple of {alpha} frames, not of {num_frames}$"
        ):
            model(clip)


@pytest.mark.parametrize(("name", "alpha"), [("slowfast_4x16", 8), ("slowfast_8x8", 4), ("tiny_slowfast_4x16", 8)])
def test_both_pathways_have_sites(name: str, alpha: int) -> None:
    with torch.device("meta"):
        model = BACKBONES[name](5, 0.0)
        plugged = plug_in(model, TAda(placement=Placement(stages=(4,), blocks="last")))
    assert isinstance(model, SlowFast)
    sites = list(model.sites())
    blocks = {at for at, module in model.named_modules() if isinstance(module, Bottleneck | BasicBlock)}
    assert {site.conv.removesuffix(".conv2") for site in sites} == blocks
    assert len(sites) == len(blocks)
    for site in sites:
        path, layer, block, _ = site.conv.split(".")
        assert (site.stage, site.block, site.kind) == (int(layer[-1]) + 1, int(block), "spatial")
        assert site.temporal_stride == {"slow": alpha, "fast": 1}[path]
        conv, norm = model.get_submodule(site.conv), model.get_submodule(site.norm)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert conv.kernel_size == (3, 3)
        assert conv.out_channels == norm.num_features
        assert site.entry == site.conv.replace("conv2", "conv1")
    last = {"t": 0, "s": 5}[name[0]]
    adaptive = {at for at, module in plugged.named_modules() if isinstance(module, TAdaConv2d)}
    assert adaptive == {f"slow.layer3.{last}.conv2", f"fast.layer3.{last}.conv2"}


def test_the_slow_pathway_has_the_names_and_shapes_of_slow_only() -> None:
    """But where the fast pathway's features join: the first convolution and the shortcut of every stage."""
    with torch.device("meta"):
        slowfast, slow_only = BACKBONES["slowfast_8x8"](5, 0.0), BACKBONES["slow_only_8x8"](5, 0.0)
    assert isinstance(slowfast, SlowFast)
    slow, single = (
        {at: tuple(value.shape) for at, value in module.state_dict().items() if not at.startswith("fc.")}
        for module in (slowfast.slow, slow_only)
    )
    assert list(slow) == list(single)
    wider = {at for at in slow if slow[at] != single[at]}
    assert wider == {f"layer{i}.0.{at}.weight" for i in range(1, 5) for at in ("conv1", "downsample.0")}
    more = {16: 1, 64: 2, 128: 3, 256: 4}  # twice the fast pathway's channels, which are an eighth
    for at in wider:
        assert slow[at][0] == single[at][0]
        assert slow[at][2:] == single[at][2:]
        assert more[slow[at][1] - single[at][1]] == int(at[5])
    fast = {at: tuple(value.shape) for at, value in slowfast.fast.state_dict().items()}
    assert set(fast) == set(single)
    assert fast["conv1.weight"] == (8, 3, 5, 7, 7)
    assert all(fast[f"layer{i}.0.conv1.weight"][2:] == (3, 1, 1) for i in range(1, 5))
