"""Checkpoints of BMN of the authors: the judge is their network written out, with the dense mask, in float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tadaconv.errors import UserError
from tadaconv.models.localizers import import_official_bmn, load_official_bmn
from tadaconv.nn.naive import naive_sampling_mask

State = dict[str, Tensor]
STEPS, DURATION, SAMPLES, CHANNELS = 9, 6, 4, 12


def official_state(*, groups: int = 4, ratio: float = 0.5, points: int = 3) -> State:
    """Random float64 tensors under the authors' names; and the mask, in float32 as they make it."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.conv_layer.0": (8, CHANNELS // groups, 3),
        "backbone.conv_layer.2": (8, 8 // groups, 3),
        "head.x_1d_s.0": (8, 8 // groups, 3),
        "head.x_1d_s.2": (1, 8, 1),
        "head.x_1d_e.0": (8, 8 // groups, 3),
        "head.x_1d_e.2": (1, 8, 1),
        "head.x_1d_p.0": (8, 8, 3),
        "head.x_3d_p.0": (10, 8, SAMPLES, 1, 1),
        "head.x_2d_p.0": (6, 10, 1, 1),
        "head.x_2d_p.2": (6, 6, 3, 3),
        "head.x_2d_p.4": (6, 6, 3, 3),
        "head.x_2d_p.6": (2, 6, 1, 1),
    }
    state: State = {}
    for name, shape in shapes.items():
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        state[f"{name}.weight"] = weight * (2 / weight[0].numel()) ** 0.5
        state[f"{name}.bias"] = 0.3 * torch.randn(shape[0], generator=generator, dtype=torch.float64)
    state["head.sample_mask"] = naive_sampling_mask(STEPS, DURATION, SAMPLES, points, ratio).flatten(1).float()
    return state


def authors_outputs(state: State, x: Tensor, groups: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Their starts, ends, and the map of regressed IoU and matches."""

    def layer(conv: Callable[..., Tensor], x: Tensor, name: str, **settings: Any) -> Tensor:
        return conv(x, state[f"{name}.weight"], state[f"{name}.bias"], **settings)

    grouped = {"padding": 1, "groups": groups}
    base = F.relu(layer(F.conv1d, x, "backbone.conv_layer.0", **grouped))
    base = F.relu(layer(F.conv1d, base, "backbone.conv_layer.2", **grouped))
    start, end = (
        layer(F.conv1d, F.relu(layer(F.conv1d, base, f"{name}.0", **grouped)), f"{name}.2").sigmoid()[:, 0]
        for name in ("head.x_1d_s", "head.x_1d_e")
    )
    y = F.relu(layer(F.conv1d, base, "head.x_1d_p.0", padding=1))
    mask = naive_sampling_mask(STEPS, DURATION, SAMPLES).flatten(1)
    y = (y @ mask).reshape(len(x), -1, SAMPLES, DURATION, STEPS)
    y = F.relu(layer(F.conv3d, y, "head.x_3d_p.0", stride=(SAMPLES, 1, 1))).squeeze(2)
    y = F.relu(layer(F.conv2d, y, "head.x_2d_p.0"))
    y = F.relu(layer(F.conv2d, y, "head.x_2d_p.2", padding=1))
    y = F.relu(layer(F.conv2d, y, "head.x_2d_p.4", padding=1))
    return start, end, layer(F.conv2d, y, "head.x_2d_p.6").sigmoid()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_outputs_and_gradients_are_those_of_the_authors_network(groups):
    state = official_state(groups=groups)
    network = import_official_bmn(state, [3])
    assert not network.training
    assert network.as_authors
    x = torch.randn(2, CHANNELS, STEPS, dtype=torch.float64, requires_grad=True)
    outputs = network(x, torch.full((2,), STEPS))
    ours = (outputs.starts, outputs.ends, torch.stack([outputs.overlaps, outputs.matches], 1))
    for mine, theirs in zip(ours, authors_outputs(state, x, groups), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)
        upstream = torch.randn_like(mine)
        (g_mine,), (g_theirs,) = (torch.autograd.grad(y, x, upstream, retain_graph=True) for y in (mine, theirs))
        torch.testing.assert_close(g_mine, g_theirs, rtol=0, atol=1e-10)


def test_every_tensor_is_taken_over_and_none_is_shared():
    state = official_state()
    network = import_official_bmn({f"module.{name}": value for name, value in state.items()}, [2, 3])
    values = {name: p for name, p in network.named_parameters() if not name.startswith("classifiers.")}
    assert len(values) == len(state) - 1
    taken = sorted(float(value.detach().sum()) for value in values.values())
    assert taken == pytest.approx(sorted(float(v.sum()) for n, v in state.items() if n != "head.sample_mask"))
    before = network.base[0].weight.clone()
    state["backbone.conv_layer.0.weight"].zero_()
    assert torch.equal(network.base[0].weight, before)


def test_a_whole_checkpoint_with_optional_branches_from_a_file(tmp_path: Path):
    state = {name: value.float() for name, value in official_state().items()}
    more = {f"head.x_2d_{name}.0.weight": torch.zeros(6, 10, 1, 1) for name in ("r", "verb", "noun")}
    torch.save({"epoch": 9, "model_state": {**state, **more}}, tmp_path / "bmn.pyth")
    network = load_official_bmn(tmp_path / "bmn.pyth", [3])
    x = torch.randn(1, CHANNELS, STEPS)
    _, _, expected = authors_outputs({name: value.double() for name, value in state.items()}, x.double())
    outputs = network(x, torch.tensor([STEPS]))
    assert outputs.matches.dtype == torch.float32
    torch.testing.assert_close(outputs.matches, expected[:, 1].float(), rtol=1e-4, atol=1e-5)
    assert len(network.detect(outputs, torch.tensor([STEPS]))[0])


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    assert "supported is BMN" in line
    return line


def without(name: str) -> State:
    state = official_state()
    del state[name]
    return state


def test_what_is_no_bmn_of_theirs_is_refused(tmp_path: Path):
    assert "misses head.sample_mask" in refusal(lambda: import_official_bmn(without("head.sample_mask"), [3]))
    line = refusal(lambda: import_official_bmn({"head.out.weight": torch.zeros(2, 2)}, [3]))
    assert "misses backbone.conv_layer.0.weight (its names: head.out.weight)" in line
    assert "missing: head.x_1d_e.2.bias" in refusal(lambda: import_official_bmn(without("head.x_1d_e.2.bias"), [3]))
    surplus = {**official_state(), "head.x_4d.weight": torch.zeros(1)}
    assert "unexpected: head.x_4d.weight" in refusal(lambda: import_official_bmn(surplus, [3]))
    wrong = {**official_state(), "head.x_2d_p.2.bias": torch.zeros(7)}
    line = refusal(lambda: import_official_bmn(wrong, [3]))
    assert "size mismatch: head.x_2d_p.2.bias (7,) for (6,)" in line
    flat = {**official_state(), "head.x_3d_p.0.weight": torch.zeros(10, 8)}
    assert "has head.x_3d_p.0.weight of (10, 8)" in refusal(lambda: import_official_bmn(flat, [3]))
    narrow = {**official_state(), "head.sample_mask": torch.zeros(STEPS, 7)}
    assert "head.sample_mask has shape (9, 7)" in refusal(lambda: import_official_bmn(narrow, [3]))
    torch.save(without("head.sample_mask"), tmp_path / "bmn.pyth")
    assert refusal(lambda: load_official_bmn(tmp_path / "bmn.pyth", [3])).startswith(f"{tmp_path / 'bmn.pyth'}: ")


def test_other_positions_are_refused():
    surplus = official_state()
    surplus["head.sample_mask"][0, -1] = 1  # in a cell that ends after the last step
    for state in (official_state(ratio=0.25), official_state(points=2), surplus):
        line = refusal(lambda state=state: import_official_bmn(state, [3]))
        assert "samples other positions than proposals extended by 0.5 with 3 points a sample" in line
