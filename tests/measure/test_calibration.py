from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tadaconv.experiment import build_model
from tadaconv.measure import LayerCalibration, by_stage, calibrations
from tadaconv.measure.calibration import summarise
from tadaconv.models import Host, Site
from tadaconv.nn import TAdaConv2d, TAdaConv3d
from tadaconv.spec import Aggregation, Backbone, Context, Experiment, Placement, Rival, Schedule, Synthetic, TAda

CLIPS = torch.randn(3, 3, 4, 24, 24, generator=torch.Generator().manual_seed(0))
RANDOM = TAda(init="random", aggregation=Aggregation(kind="none"))


def network(temporal: TAda | Rival | None, backbone: str = "tiny") -> Host:
    data = Synthetic(num_train=8, num_val=8, num_frames=4, size=24)
    schedule = Schedule(epochs=1, batch_size=4, lr=0.1)
    return build_model(
        Experiment(backbone=Backbone(name=backbone), temporal=temporal, data=data, schedule=schedule), [5]
    )


def layer(stage: int, alpha: Tensor) -> LayerCalibration:
    return LayerCalibration(Site(stage, 0, "conv", "norm", "conv"), {"cin": alpha.shape[1]}, (3, 3), alpha)


@pytest.mark.parametrize(
    "temporal",
    [
        RANDOM,
        RANDOM.but(calibration="cin+cout"),
        RANDOM.but(calibration="k2"),
        RANDOM.but(placement__share=0.5),
        RANDOM.but(placement__stages=(3, 5)),
        RANDOM.but(context__variation="static"),
        RANDOM.but(context__kernels=(3,), context__global_descriptor=False),
    ],
)
def test_calibrations_are_what_each_context_makes_of_what_reaches_its_layer(temporal: TAda) -> None:
    model = network(temporal).eval()
    reaches: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, TAdaConv2d | TAdaConv3d):
            module.register_forward_pre_hook(lambda _, inputs, name=name: reaches.update({name: inputs[0].clone()}))
    found = calibrations(model, CLIPS)
    assert [each.site.conv for each in found] == list(reaches)
    for each in found:
        conv = model.get_submodule(each.site.conv)
        expected = conv.context(reaches[each.site.conv]).detach()
        torch.testing.assert_close(each.alpha, expected, rtol=1e-5, atol=1e-5)  # descriptors are summed elsewhere
        assert each.alpha.dtype == torch.float32
        assert each.sizes == conv.calibrated
        assert each.kernel == conv.kernel_size
        assert torch.equal(torch.cat(list(each.factors().values()), 1), each.alpha)
        assert {name: part.shape[1] for name, part in each.factors().items()} == conv.calibrated


def test_layers_of_a_network_with_two_frame_rates_keep_their_own() -> None:
    found = calibrations(network(RANDOM, "tiny_slowfast_4x16"), torch.randn(2, 3, 16, 24, 24))
    assert len({each.alpha.shape[2] for each in found}) == 2
    assert all(each.alpha.shape[2] == 16 // each.site.temporal_stride for each in found)


def test_a_network_and_the_random_state_are_left_as_they_were() -> None:
    model = network(RANDOM).train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d))
    frozen.eval()
    modes = [module.training for module in model.modules()]
    state, drawn = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    calibrations(model, CLIPS)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_that_fails_is_left_as_it_was() -> None:
    model = network(RANDOM).train()
    with pytest.raises((RuntimeError, ValueError)):
        calibrations(model, CLIPS[:, :2])
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("temporal", [None, Rival(name="tsm")])
def test_what_calibrates_nothing_gives_nothing_and_does_not_run(temporal: Rival | None) -> None:
    model = network(temporal)
    model.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    assert calibrations(model, CLIPS) == []
    assert by_stage([]) == {}


def test_the_start_is_exactly_one() -> None:
    stages = by_stage(calibrations(network(TAda()), CLIPS))
    assert list(stages) == ["res2", "res3", "res4", "res5"]
    assert all((s.distance, s.over_time, s.over_clips) == (0, 0, 0) for s in stages.values())


@pytest.mark.parametrize(
    ("variation", "moves"), [("dynamic", (True, True)), ("time_invariant", (True, False)), ("static", (False, False))]
)
def test_what_a_context_cannot_vary_does_not(variation: str, moves: tuple[bool, bool]) -> None:
    temporal = RANDOM.but(context=Context(variation=variation), placement=Placement(stages=(2, 4)))
    for stage in by_stage(calibrations(network(temporal), CLIPS)).values():
        assert (stage.over_clips > 1e-4, stage.over_time > 1e-4) == moves
        assert max(stage.over_clips * (not moves[0]), stage.over_time * (not moves[1])) < 1e-7
        assert stage.distance > 1e-3


def test_the_parts_of_an_alpha_made_by_hand() -> None:
    # Two factors, two clips, four frames: 1 + (.3, -.3) + clip (+-.2) + time (+-.1), which are orthogonal.
    factor = torch.tensor([0.3, -0.3])[None, :, None]
    clip = torch.tensor([0.2, -0.2])[:, None, None]
    time = torch.tensor([0.1, -0.1, 0.1, -0.1])[None, None]
    found = by_stage([layer(4, 1 + factor + clip + time)])["res4"]
    assert found.over_clips == pytest.approx(0.2, abs=1e-6)
    assert found.over_time == pytest.approx(0.1, abs=1e-6)
    assert found.distance == pytest.approx(sqrt(0.3**2 + 0.2**2 + 0.1**2), abs=1e-6)


@given(
    seed=st.integers(0, 2**16),
    shapes=st.lists(st.tuples(st.integers(2, 5), st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=4),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
@settings(deadline=None, max_examples=50)
def test_numbers_of_a_stage_are_loops_over_factors_and_add_up(seed: int, shapes: list, scale: float) -> None:
    draw = np.random.default_rng(seed)
    num_clips = shapes[0][0]
    arrays = [1 + scale * draw.normal(draw.normal(), 1, (num_clips, d, t)) for _, d, t in shapes]
    squares: dict[str, list[float]] = {"distance": [], "constant": [], "over_clips": [], "over_time": []}
    for array in arrays:
        for d in range(array.shape[1]):
            one = array[:, d]
            means = [float(np.mean(clip)) for clip in one]
            squares["distance"].append(float(np.mean([(value - 1) ** 2 for value in one.ravel()])))
            squares["constant"].append((float(np.mean(means)) - 1) ** 2)
            squares["over_clips"].append(float(np.mean([(m - np.mean(means)) ** 2 for m in means])))
            squares["over_time"].append(float(np.mean([np.var(clip) for clip in one])))
    expected = {name: sqrt(np.mean(values)) for name, values in squares.items()}
    found = summarise([torch.from_numpy(array) for array in arrays])
    for name in ("distance", "over_clips", "over_time"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-9, abs=1e-12)
    parts = expected["constant"] ** 2 + found.over_clips**2 + found.over_time**2
    assert found.distance**2 == pytest.approx(parts, rel=1e-9)
    layers = [layer(2 + i % 2, torch.from_numpy(array)) for i, array in enumerate(arrays)]
    assert by_stage(layers)["res2"] == summarise([each.alpha for each in layers[::2]])
    assert by_stage(layers[::-1]).keys() == by_stage(layers).keys()
