"""Checkpoints of the authors: the judge is their network written out as one line of tensors after another."""

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.errors import UserError
from tadaconv.models import import_official, load_official
from tadaconv.models.resnet import ResNet
from tadaconv.nn import AggregatedBatchNorm2d, TAdaConv2d

State = dict[str, Tensor]
WIDTHS, DEPTHS, CLASSES = (16, 16, 24, 16, 32), (1, 2, 1, 1), 7


def official_shapes(
    widths: tuple[int, ...] = WIDTHS,
    depths: tuple[int, ...] = DEPTHS,
    num_classes: int = CLASSES,
    kernels: tuple[int, int] = (3, 3),
    reduction: int = 4,
    aggregated: bool = True,
    adaptive: Callable[[int, int], bool] = lambda stage, block: True,  # noqa: ARG005
) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a checkpoint of the authors; blocks are numbered from 1."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{tensor}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["backbone.conv1.a.weight"] = (widths[0], 3, 1, 7, 7)
    norm("backbone.conv1.a_bn", widths[0])
    c_in = widths[0]
    for stage, (depth, c) in enumerate(zip(depths, widths[1:], strict=True), start=2):
        for block in range(1, depth + 1):
            name = f"backbone.conv{stage}.res_{block}"
            if block == 1:
                shapes[f"{name}.short_cut.weight"] = (4 * c, c_in, 1, 1, 1)
                norm(f"{name}.short_cut_bn", 4 * c)
            branch = f"{name}.conv_branch"
            shapes[f"{branch}.a.weight"] = (c, c_in, 1, 1, 1)
            norm(f"{branch}.a_bn", c)
            if adaptive(stage, block):
                shapes[f"{branch}.b.weight"] = (1, 1, c, c, 3, 3)
                shapes[f"{branch}.b_rf.g.weight"] = (c, c, 1, 1, 1)
                shapes[f"{branch}.b_rf.g.bias"] = (c,)
                shapes[f"{branch}.b_rf.a.weight"] = (c // reduction, c, kernels[0], 1, 1)
                shapes[f"{branch}.b_rf.a.bias"] = (c // reduction,)
                norm(f"{branch}.b_rf.bn", c // reduction)
                shapes[f"{branch}.b_rf.b.weight"] = (c, c // reduction, kernels[1], 1, 1)
                if aggregated:
                    norm(f"{branch}.b_avgpool_bn", c)
            else:
                shapes[f"{branch}.b.weight"] = (c, c, 1, 3, 3)
            norm(f"{branch}.b_bn", c)
            shapes[f"{branch}.c.weight"] = (4 * c, c, 1, 1, 1)
            norm(f"{branch}.c_bn", 4 * c)
            c_in = 4 * c
    shapes["head.out.weight"] = (num_classes, c_in)
    shapes["head.out.bias"] = (num_classes,)
    return shapes


def official_state(seed: int = 0, **structure: Any) -> State:
    """Random float64 tensors under the authors' names, of sizes that keep every layer's output near one."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for i, (name, shape) in enumerate(official_shapes(**structure).items()):
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(i)
        elif name.endswith("running_var"):
            state[name] = 0.5 + uniform
        elif name.endswith("weight") and len(shape) == 1:
            state[name] = 0.3 + 0.6 * uniform
        elif name.endswith("weight"):
            fan_in = normal[0].numel() if len(shape) < 6 else normal[0, 0, 0].numel()
            state[name] = normal * (2 / fan_in) ** 0.5
        else:
            state[name] = 0.2 * normal
    return state


def authors_logits(state: State, clips: Tensor, eps: float = 1e-5) -> Tensor:
    """What the authors' network computes before its softmax: 3d layers, and a kernel built for every frame."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{t}"].view(-1, 1, 1, 1) for t in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + eps).sqrt() * weight + bias

    def adaptive_conv(x: Tensor, branch: str, stride: int) -> Tensor:
        rf = f"{branch}.b_rf"
        a, b = state[f"{rf}.a.weight"], state[f"{rf}.b.weight"]
        frame, clip = F.adaptive_avg_pool3d(x, (x.shape[2], 1, 1)), F.adaptive_avg_pool3d(x, 1)
        v = frame + F.conv3d(clip, state[f"{rf}.g.weight"], state[f"{rf}.g.bias"])
        v = F.conv3d(v, a, state[f"{rf}.a.bias"], padding=(a.shape[2] // 2, 0, 0))
        alpha = F.conv3d(F.relu(norm(v, f"{rf}.bn")), b, padding=(b.shape[2] // 2, 0, 0)) + 1
        kernel = state[f"{branch}.b.weight"][0, 0]
        outputs = [
            torch.stack(
                [
                    F.conv2d(x[n : n + 1, :, t], kernel * alpha[n, :, t].reshape(1, -1, 1, 1), None, stride, 1)[0]
                    for t in range(x.shape[2])
                ],
                1,
            )
            for n in range(x.shape[0])
        ]
        return torch.stack(outputs)

    x = F.conv3d(clips, state["backbone.conv1.a.weight"], stride=(1, 2, 2), padding=(0, 3, 3))
    x = F.relu(norm(x, "backbone.conv1.a_bn"))
    for stage in (2, 3, 4, 5):
        block = 1
        while (name := f"backbone.conv{stage}.res_{block}") + ".conv_branch.a.weight" in state:
            stride, branch, short = (2 if block == 1 else 1), f"{name}.conv_branch", x
            if block == 1:
                short = norm(F.conv3d(x, state[f"{name}.short_cut.weight"], stride=(1, 2, 2)), f"{name}.short_cut_bn")
            y = F.relu(norm(F.conv3d(x, state[f"{branch}.a.weight"]), f"{branch}.a_bn"))
            if f"{branch}.b_rf.a.weight" in state:
                y = adaptive_conv(y, branch, stride)
            else:
                y = F.conv3d(y, state[f"{branch}.b.weight"], stride=(1, stride, stride), padding=(0, 1, 1))
            z = norm(y, f"{branch}.b_bn")
            if f"{branch}.b_avgpool_bn.weight" in state:
                z = z + norm(F.avg_pool3d(y, (3, 1, 1), 1, (1, 0, 0)), f"{branch}.b_avgpool_bn")
            y = norm(F.conv3d(F.relu(z), state[f"{branch}.c.weight"]), f"{branch}.c_bn")
            x = F.relu(short + y)
            block += 1
    return F.linear(F.adaptive_avg_pool3d(x, 1).flatten(1), state["head.out.weight"], state["head.out.bias"])


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def logits(network: nn.Module, clips: Tensor) -> Tensor:
    result: Tensor = network(clips)
    return result


def refusal(call: Callable[[], object]) -> str:
    """The line with which ``call`` is refused."""
    with pytest.raises(UserError) as caught:
        call()
    line = str(caught.value)
    assert line
    assert "\n" not in line
    return line


STRUCTURES: dict[str, dict[str, Any]] = {
    "as released": {},
    "deeper": {"depths": (2, 1, 3, 2)},
    "other kernels": {"kernels": (1, 5)},
    "other reduction": {"reduction": 8},
    "no aggregation": {"aggregated": False},
    "late stages": {"depths": (1, 2, 1, 2), "adaptive": lambda stage, block: stage > 3},  # noqa: ARG005
    "first blocks": {"depths": (2, 2, 1, 2), "adaptive": lambda stage, block: block == 1},  # noqa: ARG005
    "last blocks": {"depths": (2, 2, 2, 3), "adaptive": lambda stage, block: block == (3 if stage == 5 else 2)},
    "every second block": {"depths": (1, 2, 1, 4), "adaptive": lambda stage, block: block % 2 == 0},  # noqa: ARG005
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_logits_are_the_authors(name: str, clips: Tensor) -> None:
    state = official_state(**STRUCTURES[name])
    expected = authors_logits(state, clips)
    assert 0.1 < expected.std() < 30

    double = import_official(state)
    torch.testing.assert_close(logits(double, clips), expected, rtol=0, atol=1e-9)
    single = import_official({key: value.float() if value.dim() else value for key, value in state.items()})
    torch.testing.assert_close(logits(single, clips.float()).double(), expected, rtol=0, atol=1e-4)


def test_every_tensor_has_a_say_with_the_authors(clips: Tensor) -> None:
    """So none can be lost or swapped, in any block, and the logits be equal."""
    state = official_state()
    tensors = {name: value.requires_grad_() for name, value in state.items() if value.is_floating_point()}
    authors_logits(state, clips).square().sum().backward()
    for name, value in tensors.items():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 1e-4, name


def test_every_tensor_has_the_same_say_with_us(clips: Tensor) -> None:
    """Each kind of tensor in turn is changed, in all blocks: the logits move, and move as the authors' do."""
    clips, state = clips[:1, :, :3], official_state()
    before = logits(import_official(state), clips)
    kinds = {re.sub(r"conv\d\.res_\d", "", name) for name, value in state.items() if value.is_floating_point()}
    for kind in sorted(kinds):
        generator, changed = torch.Generator().manual_seed(2), dict(state)
        for name, value in state.items():
            if re.sub(r"conv\d\.res_\d", "", name) == kind:
                changed[name] = value * (1 + 0.5 * torch.rand(value.shape, generator=generator, dtype=value.dtype))
        after = logits(import_official(changed), clips)
        assert (after - before).abs().max() > 1e-6, kind
        torch.testing.assert_close(after, authors_logits(changed, clips), rtol=0, atol=1e-9, msg=kind)


def test_every_norm_has_the_epsilon_of_the_release(clips: Tensor) -> None:
    """Variances as small as epsilon itself: any other epsilon in any norm is another network."""
    state = official_state()
    for name in state:
        if name.endswith("running_var"):
            norm = name.removesuffix(".running_var")
            state[name], state[f"{norm}.weight"] = state[name] * 2e-5, state[f"{norm}.weight"] * 5e-3
    expected = authors_logits(state, clips)
    assert (authors_logits(state, clips, eps=1.1e-5) - expected).abs().max() > 1e-3
    torch.testing.assert_close(logits(import_official(state), clips), expected, rtol=0, atol=1e-9)


def test_counters_are_kept() -> None:
    state = official_state()
    counters = {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")}
    network = import_official(state)
    assert counters == {
        int(value) for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")
    }


def test_the_released_network_has_the_published_number_of_parameters() -> None:
    shapes = official_shapes((64, 64, 128, 256, 512), (3, 4, 6, 3), 400)
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    network = import_official(state)
    adaptive = [module for module in network.modules() if isinstance(module, TAdaConv2d)]
    assert len(adaptive) == 16
    assert sum(isinstance(module, AggregatedBatchNorm2d) for module in network.modules()) == 16
    counted = {name for name in shapes if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert sum(p.numel() for p in network.parameters()) == sum(state[name].numel() for name in counted)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 27.49


def test_the_network_is_ready_to_use_and_shares_no_memory(clips: Tensor) -> None:
    state = official_state()
    network = import_official(state)
    assert isinstance(network, ResNet)
    assert not any(module.training for module in network.modules())
    assert network.dropout.p == 0.5
    before = logits(network, clips)
    for value in state.values():
        value.zero_()
    assert torch.equal(logits(network, clips), before)
    half = import_official({name: value.half() if value.dim() else value for name, value in official_state().items()})
    assert {p.dtype for p in half.parameters()} == {torch.float32}


def configuration(**changes: Any) -> str:
    """The settings, as a checkpoint of the release has them, with some changed."""
    backbone = {
        "DEPTH": 50,
        "DOWNSAMPLING": [True] * 5,
        "DOWNSAMPLING_TEMPORAL": [False] * 5,
        "STEM": {"NAME": changes.pop("stem", "Base2DStem")},
        "BRANCH": {"POOL_K": changes.pop("pool", [3, 1, 1])},
    }
    backbone.update(changes.pop("backbone", {}))
    return json.dumps({"BN": {"EPS": changes.pop("eps", "1e-5")}, "VIDEO": {"BACKBONE": backbone}}, indent=2)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_loads_from_its_file(prefix: str, zipped: bool, tmp_path: Path, clips: Tensor) -> None:
    state = official_state()
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    parameter.sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 99,
        "model_state": {prefix + name: value for name, value in state.items()},
        "optimizer_state": optimizer.state_dict(),
        "cfg": configuration(),
    }
    path = tmp_path / "checkpoint_epoch_00100.pyth"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    torch.testing.assert_close(logits(load_official(path), clips), authors_logits(state, clips), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": "1e-3"}, "BN.EPS = '1e-3'; supported is 1e-05"),
        ({"eps": 0.001}, "BN.EPS = 0.001"),
        ({"pool": [5, 1, 1]}, r"POOL_K = [5, 1, 1]; supported is [3, 1, 1]"),
        ({"stem": "DownSampleStem"}, "STEM.NAME = 'DownSampleStem'; supported is 'Base2DStem'"),
        ({"backbone": {"DOWNSAMPLING": [True, False, True, True, True]}}, "VIDEO.BACKBONE.DOWNSAMPLING = [True, False"),
        ({"backbone": {"DOWNSAMPLING_TEMPORAL": [False, False, False, True, True]}}, "DOWNSAMPLING_TEMPORAL = "),
    ],
)
def test_settings_without_a_shape_must_be_those_of_the_release(changes: dict[str, Any], message: str) -> None:
    checkpoint = {"model_state": official_state(), "cfg": configuration(**changes)}
    assert message in refusal(lambda: import_official(checkpoint))


def test_another_architecture_is_named_before_its_settings() -> None:
    checkpoint = {"model_state": OTHERS["SlowFast"][0](), "cfg": configuration(stem="DownSampleStem")}
    assert "looks like SlowFast" in refusal(lambda: import_official(checkpoint))


def test_a_configuration_that_is_not_json_is_refused() -> None:
    for cfg in ("VIDEO: {}", {"VIDEO": {}}):
        line = refusal(lambda cfg=cfg: import_official({"model_state": official_state(), "cfg": cfg}))
        assert "import only its 'model_state'" in line


def without(state: State, *lost: str) -> State:
    return {name: value for name, value in state.items() if name not in lost}


def test_missing_names_are_named() -> None:
    state = official_state()
    for name in list(state)[::4]:
        line = refusal(lambda name=name: import_official(without(state, name)))
        assert name in line, name
    biases = [name for name in state if name.endswith("_bn.bias")]
    line = refusal(lambda: import_official(without(state, *biases)))
    assert f"missing: {biases[0]}" in line
    assert f"and {len(biases) - 3} more" in line
    assert biases[3] not in line


def test_unexpected_names_are_named() -> None:
    extra = {f"backbone.conv6.extra{i}": torch.zeros(1) for i in range(5)}
    line = refusal(lambda: import_official({**official_state(), **extra}))
    assert "unexpected: backbone.conv6.extra0, backbone.conv6.extra1, backbone.conv6.extra2 and 2 more" in line
    assert "missing" not in line


def test_wrong_names_are_missing_and_unexpected() -> None:
    state = official_state()
    state["backbone.conv4.res_1.conv_branch.c_norm.weight"] = state.pop("backbone.conv4.res_1.conv_branch.c_bn.weight")
    line = refusal(lambda: import_official(state))
    assert "missing: backbone.conv4.res_1.conv_branch.c_bn.weight" in line
    assert "unexpected: backbone.conv4.res_1.conv_branch.c_norm.weight" in line


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("head.out.bias", (5,), "head.out.bias (5,) for (7,)"),
        ("backbone.conv1.a.weight", (16, 3, 5, 7, 7), "(16, 3, 5, 7, 7) for (16, 3, 7, 7)"),
        ("backbone.conv3.res_2.conv_branch.b.weight", (1, 1, 24, 24, 5, 5), "for (24, 24, 3, 3)"),
        ("backbone.conv3.res_1.conv_branch.c.weight", (48, 24, 1, 1, 1), "for (96, 24, 1, 1)"),
        ("backbone.conv3.res_2.conv_branch.b_rf.b.weight", (24, 6, 1, 1, 1), "(24, 6, 1, 1, 1) for (24, 6, 3)"),
        ("backbone.conv3.res_2.conv_branch.b_rf.a.weight", (5, 24, 3, 1, 1), "no single reduction results in"),
        ("backbone.conv2.res_1.conv_branch.b_rf.a.weight", (4, 16, 2, 1, 1), "a positive odd number of frames, not 2"),
        ("backbone.conv2.res_1.conv_branch.b_rf.a.weight", (4, 16, 3), "(4, 16, 3), where TAda2D has 5 dimensions"),
        ("head.out.weight", (7,), "head.out.weight has shape (7,), where TAda2D has 2 dimensions"),
    ],
)
def test_wrong_shapes_are_named_with_the_expected_ones(name: str, shape: tuple[int, ...], message: str) -> None:
    assert message in refusal(lambda: import_official({**official_state(), name: torch.zeros(shape)}))


def test_blocks_that_are_not_whole_stages_are_refused() -> None:
    state = official_state(depths=(1, 3, 1, 1))
    gap = {name: value for name, value in state.items() if "conv3.res_2." not in name}
    assert "unexpected: backbone.conv3.res_3" in refusal(lambda: import_official(gap))
    short = {name: value for name, value in state.items() if "backbone.conv5" not in name}
    assert "misses backbone.conv5.res_1" in refusal(lambda: import_official(short))
    scattered = official_state(depths=(2, 2, 2, 2), adaptive=lambda stage, block: (stage, block) != (4, 2))
    assert "which is not a supported placement" in refusal(lambda: import_official(scattered))
    unaggregated = without(state, *(n for n in state if n.startswith("backbone.conv5") and "avgpool" in n))
    assert "missing: backbone.conv5.res_1.conv_branch.b_avgpool_bn.weight" in refusal(
        lambda: import_official(unaggregated)
    )


def renamed(old: str, new: str, **structure: Any) -> State:
    return {name.replace(old, new): value for name, value in official_state(**structure).items()}


def r3d() -> State:
    state = official_state()
    for name in state:
        if name.endswith("conv_branch.b.weight"):
            state[name] = state[name].unsqueeze(4).expand(-1, -1, -1, -1, 3, -1, -1)
    return state


OTHERS: dict[str, tuple[Callable[[], State], str]] = {
    "torchvision": (
        lambda: {n: torch.zeros(1) for n in ("conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "fc.weight")},
        "an image ResNet with torchvision's or timm's names (it has layer1.0.conv1.weight)",
    ),
    "TSN": (lambda: official_state(adaptive=lambda stage, block: False), "without TAdaConv"),  # noqa: ARG005
    "R(2+1)D": (lambda: renamed("conv_branch.b", "conv_branch.b1"), "R(2+1)D"),
    "SlowFast": (lambda: renamed("backbone.conv", "backbone.slow_conv"), "SlowFast"),
    "R3D": (r3d, "R3D with TAdaConv"),
    "two heads": (lambda: renamed("head.out", "head.linear1"), "two heads"),
    "ConvNeXt": (
        lambda: {f"backbone.stages.0.0.{n}": torch.zeros(1) for n in ("gamma", "dwconv.weight", "dwconv_rf.a.weight")},
        "a ConvNeXt, such as TAdaConvNeXt",
    ),
    "transformer": (lambda: {"backbone.cls_token": torch.zeros(1), "backbone.pos_embd": torch.zeros(1)}, "transformer"),
    "unknown": (
        lambda: {"weight": torch.zeros(1)},
        "the architecture of the checkpoint is unknown (its names: weight)",
    ),
    "empty": (dict, "the architecture of the checkpoint is unknown (its names: none)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_architecture_is_recognised_in_the_message(name: str) -> None:
    make, message = OTHERS[name]
    line = refusal(lambda: import_official(make()))
    assert message in line
    assert "supported is TAda2D" in line


@pytest.mark.parametrize(
    "wrong", [3, [torch.zeros(1)], {"weight": 3}, {0: torch.zeros(1)}, {"model": official_state()}]
)
def test_anything_but_a_state_dict_is_refused(wrong: Any) -> None:
    assert "pass a state dict" in refusal(lambda: import_official(wrong))


class Meter:
    """An object as a training script may leave in its checkpoints."""

    def __init__(self) -> None:
        self.best = 76.7


class Bomb:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_needs_more_than_weights_is_not_run(zipped: bool, tmp_path: Path) -> None:
    path, sign = tmp_path / "checkpoint.pyth", tmp_path / "it was run"
    for thing, name in ((Meter(), "Meter"), (Bomb(sign), "mkdir")):
        torch.save({"model_state": official_state(), "more": thing}, path, _use_new_zipfile_serialization=zipped)
        line = refusal(lambda: load_official(path))
        assert str(path) in line
        assert name in line
        assert "contains more than tensors" in line
    assert not sign.exists()
    path.write_bytes(pickle.dumps(Bomb(sign)))
    assert str(path) in refusal(lambda: load_official(path))
    assert not sign.exists()


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(lambda: load_official(tmp_path / "none.pyth"))
    assert "cannot read the weights" in refusal(lambda: load_official(tmp_path))
    whole = tmp_path / "whole.pyth"
    torch.save(official_state(), whole)
    for number, content in enumerate((b"", b"<html>quota exceeded</html>", whole.read_bytes()[:5000])):
        path = tmp_path / f"{number}.pyth"
        path.write_bytes(content)
        line = refusal(lambda path=path: load_official(path))
        assert f"{str(path)!r}: the file is empty, broken or of another format" in line


def test_a_file_with_another_network_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tsn.pyth"
    torch.save(official_state(adaptive=lambda stage, block: False), path)  # noqa: ARG005
    line = refusal(lambda: load_official(str(path)))
    assert line.startswith(f"{path}: the checkpoint looks like a ResNet of the release without TAdaConv")


def test_the_first_lines_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: Tensor) -> None:
    page = Path(__file__).parents[2] / "docs" / "checkpoints.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    state = official_state()
    torch.save({"epoch": 99, "model_state": state}, "checkpoint.pyth")
    names: dict[str, Any] = {"clips": clips}
    exec(code[1], names)
    torch.testing.assert_close(names["probabilities"], authors_logits(state, clips).softmax(1), rtol=0, atol=1e-9)
