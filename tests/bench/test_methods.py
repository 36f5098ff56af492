"""Methods: what they compute, on what, and that a benchmark of them holds together."""

import multiprocessing
import os
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from tadaconv.bench import op, run, step, trial
from tadaconv.bench.device import Copy, MatrixProduct
from tadaconv.bench.options import Options, method_names
from tadaconv.bench.peak_memory import peaks
from tadaconv.bench.record import Benchmark
from tadaconv.bench.trial import Form, Trial, naive
from tadaconv.bench.workload import Workload
from tadaconv.errors import RunError, UserError
from tadaconv.models import BACKBONES, RIVALS, build
from tadaconv.nn import TAdaConv2d, taps
from tadaconv.nn.frames import channels_last
from tadaconv.spec import Aggregation, Backbone, TAda

TINY = Options(device="cpu", num_clips=1, num_frames=4, size=32, rounds=3)
SMALL = {"dense": op.Shape(16, 8), "depthwise": op.Shape(16, 8, 7, depthwise=True)}


def everyone(shape: op.Shape) -> dict[str, Trial]:
    workload = op.workload("res", shape, TINY, ("cin", "k2"))
    return {name: make(False) for name, make in workload.methods.items()}


@pytest.mark.parametrize("shape", SMALL.values(), ids=SMALL)
def test_everyone_gets_equal_channels_last_clips_and_gradients_and_the_same_kernel(shape: op.Shape) -> None:
    trials = everyone(shape)
    first = trials[op.PLAIN]

    assert set(trials) == {
        op.PLAIN, "TAda cin", "naive cin", "TAda k2", "naive k2", *(name for name in RIVALS if name != "none")
    }  # fmt: skip
    for each in trials.values():
        assert each.gradient is not None
        assert first.gradient is not None
        assert torch.equal(each.clips, first.clips)
        assert torch.equal(each.gradient, first.gradient)
        assert each.clips.requires_grad
        assert each.clips.is_contiguous(memory_format=torch.channels_last_3d)
        assert each.forward().shape == first.forward().shape
        assert each.network.training


@pytest.mark.parametrize("name", [name for name, rival in RIVALS.items() if name != "none" and rival.identity != "no"])
def test_rivals_that_start_as_the_plain_convolution_do_so_here(name: str) -> None:
    trials = everyone(SMALL["dense"])

    torch.testing.assert_close(trials[name].forward(), trials[op.PLAIN].forward(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("calibration", ["cin", "cout", "k2", "cin_k2", "cin+cout"])
@pytest.mark.parametrize("shape", SMALL.values(), ids=SMALL)
def test_the_naive_form_computes_what_ours_does_gradients_included(shape: op.Shape, calibration: str) -> None:
    tada = TAda(calibration=calibration, init="random", aggregation=Aggregation(kind="none"))
    forms: tuple[Form, ...] = ("eager", "naive")
    pair = [op.make(shape, TINY, tada, form, False) for form in forms]
    results: list[tuple[Tensor, ...]] = []
    for each in pair:
        network, clips = each.network.double(), each.clips.detach().double().requires_grad_()
        output = network(clips)
        results.append((output, *torch.autograd.grad(output.square().sum(), [clips, *network.parameters()])))

    assert not torch.allclose(results[0][0], op.plain(shape).double()(pair[0].clips.double()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_network_made_naive_has_no_adaptive_convolution_of_ours_left_to_run() -> None:
    torch.manual_seed(0)
    ours = build(Backbone(name="tiny"), TAda(init="random"), 5).double().eval()
    clips = torch.randn(1, 3, 4, 32, 32, dtype=torch.float64)
    expected = ours(clips)

    theirs = naive(ours)

    kinds = [type(theirs.get_submodule(site.conv)) for site in ours.sites()]
    assert kinds == [trial.NaiveTAdaConv2d] * 4
    torch.testing.assert_close(theirs(clips), expected)


def test_a_trial_times_both_passes_and_leaves_the_gradients_of_one() -> None:
    each = op.make(SMALL["dense"], TINY, TAda(aggregation=Aggregation(kind="none")), "eager", False)
    once, thrice = each(), each(3)
    gradient = each.clips.grad

    assert set(once) == set(thrice) == {"forward", "backward"}
    assert min(*once.values(), *thrice.values()) > 0
    each(1)
    assert gradient is not None
    assert each.clips.grad is not None
    torch.testing.assert_close(each.clips.grad, gradient)  # of one pass, not of the sum of three


def test_kernels_of_four_and_five_dimensions_become_channels_last() -> None:
    network = channels_last(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv3d(4, 4, 3)))

    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index]
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last_3d)  # type: ignore[index]


def test_methods_of_a_step_share_backbone_weights_and_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(step.BACKBONES, "tiny", step.Names("TSN", "TAda2D"))
    workload = step.workload("tiny", Options(device="cpu", methods=("tada", "naive"), size=32, num_frames=4))

    assert list(workload.methods) == ["TSN", "TAda2D", "naive TAda2D"]
    assert workload.naive == {"TAda2D": "naive TAda2D"}
    plain, ours, theirs = (make(False) for make in workload.methods.values())
    assert torch.equal(plain.clips, ours.clips)
    kernels = plain.network.state_dict()
    assert all(torch.equal(tensor, ours.network.state_dict()[name]) for name, tensor in kernels.items())
    assert sum(isinstance(module, TAdaConv2d) for module in ours.network.modules()) == 4
    assert min(*plain().values(), *ours().values(), *theirs().values()) > 0
    torch.testing.assert_close(theirs.forward(), ours.forward(), rtol=1e-4, atol=1e-4)
    assert workload.work["forward"].multiply_adds > 0


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is made up and the device's limits are small: what is under test is how it all comes together."""
    monkeypatch.setattr(run, "peaks", lambda makes: (2**20 * (i + 1) for i in range(len(makes))))
    monkeypatch.setattr(run, "limits", lambda *place: (Copy(*place, mebibytes=1), MatrixProduct(*place, size=32)))
    monkeypatch.setattr(run, "TRIAL_SECONDS", 0.0)


@pytest.fixture
def parts() -> list[float]:
    """What part of the benchmark was over, whenever it said so."""
    return []


@pytest.fixture
def benchmark(one_process: None, monkeypatch: pytest.MonkeyPatch, parts: list[float]) -> Benchmark:
    del one_process
    monkeypatch.setattr(op, "SHAPES", SMALL)
    settings = Options(device="cpu", num_clips=1, num_frames=4, size=64, rounds=6)
    return op.bench(settings, ("cin", "k2"), tuple(SMALL), lambda _, part: parts.append(part))


def test_what_is_recorded_follows_from_the_raw_seconds(benchmark: Benchmark, parts: list[float]) -> None:
    assert [case.name.partition(":")[0] for case in benchmark.cases] == list(SMALL)
    for case in benchmark.cases:
        copies = [case.copy_limit.work.bytes / s for s in case.copy_limit.seconds]
        base = case.timings[0].seconds["both"]
        for number, timing in enumerate(case.timings):
            assert timing.peak_memory_bytes == 2**20 * (number + 1)
            both = timing.seconds["both"]
            assert both == [a + b for a, b in zip(timing.seconds["forward"], timing.seconds["backward"], strict=True)]
            ratios = sorted(own / other for own, other in zip(both, base, strict=True))
            assert timing.ratio["both"].median == pytest.approx((ratios[2] + ratios[3]) / 2)
            assert (timing.ratio["both"].interval_low, timing.ratio["both"].interval_high) == (ratios[0], ratios[5])
            shares = sorted(case.work["both"].bytes / s / c for s, c in zip(both, copies, strict=True))
            assert timing.copy_share["both"] == pytest.approx((shares[2] + shares[3]) / 2)
        assert set(case.naive_over_ours) == {"TAda cin", "TAda k2"}
    assert parts == sorted(parts)
    assert parts[-1] == 1


def test_a_benchmark_is_read_as_it_was_written_and_names_its_files(benchmark: Benchmark) -> None:
    assert Benchmark.model_validate_json(benchmark.model_dump_json(indent=1)) == benchmark
    assert benchmark.file_stem == "op-cin-k2-cpu-1-thread-fp32-eager-1x4x64"
    step_of = benchmark.but(bench="step", settings__backbone="resnet50", settings__calibrations=["cin"])
    assert step_of.file_stem == "step-resnet50-cpu-1-thread-fp32-eager-1x4x64"


def make_tiny(size: int, compiled: bool) -> Trial:
    return op.make(
        op.Shape(16, 1), Options(device="cpu", num_clips=1, num_frames=4, size=size), None, "eager", compiled
    )


def test_memory_is_of_a_separate_process_and_grows_with_the_clips() -> None:
    small, large = peaks([partial(make_tiny, size, False) for size in (32, 256)])

    assert large - small > 2 * 16 * 4 * 256**2 * 4  # at least clips and their gradient


def die(*_: object) -> Trial:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def refuse(*_: object) -> Trial:
    raise ValueError("no such kernel")


def test_a_process_that_measures_memory_and_fails_says_why() -> None:
    with pytest.raises(RunError, match="a process that measured memory was killed, most likely out of memory"):
        list(peaks([die]))
    with pytest.raises(ValueError, match="no such kernel"):
        list(peaks([refuse]))
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("one_process")
def test_memory_that_runs_out_is_a_failed_run_of_one_line() -> None:
    def greedy(_: bool) -> Trial:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match="out of memory on cpu; lower --clips"):
        run.run("op", [Workload("x", {"plain": greedy}, {}, {})], TINY)


def test_every_backbone_of_a_step_is_one_of_the_models() -> None:
    assert set(step.BACKBONES) <= set(BACKBONES)


def test_everyone_can_be_named() -> None:
    assert method_names()[:3] == ("tada", "naive", "fused")
    for name in {*method_names()} - {"fused"}:
        assert (
            len(op.workload("res", SMALL["dense"], Options(device="cpu", size=32, methods=(name,)), ("cin",)).methods)
            == 2
        )


def test_fused_kernels_are_run_next_to_the_form_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device has them, and where taps of a dense convolution are calibrated; each has its switch."""
    monkeypatch.setattr("tadaconv.bench.options.has_fused_kernels", lambda _: True)
    asked = replace(TINY, methods=("tada", "fused"))
    dense, depthwise = (op.workload("res", shape, asked, ("cin", "k2")) for shape in SMALL.values())
    assert list(dense.methods) == [op.PLAIN, "TAda cin", "TAda k2", "TAda k2, fused"]
    assert list(depthwise.methods) == [op.PLAIN, "TAda cin", "TAda k2"]
    monkeypatch.setitem(step.BACKBONES, "tiny", step.Names("TSN", "TAda2D"))
    assert list(step.workload("tiny", asked, "cin_k2").methods) == ["TSN", "TAda2D cin_k2", "TAda2D cin_k2, fused"]
    assert list(step.workload("tiny", asked).methods) == ["TSN", "TAda2D"]

    switched: list[bool] = []
    monkeypatch.setattr(taps, "_can_be_fused", lambda *_: switched.append(taps._fused_is_on))
    monkeypatch.setattr(taps, "_fused_is_on", True)  # what is around a trial does not count in it
    for name, is_fused in (("TAda k2", False), ("TAda k2, fused", True)):
        switched.clear()
        dense.methods[name](False)()
        assert switched == ([True] if is_fused else [])


def test_fused_kernels_that_cannot_be_run_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(TINY, methods=("fused",))
    with pytest.raises(UserError, match="method 'fused' needs Triton and an NVIDIA GPU since Ampere"):
        asked.check()
    monkeypatch.setattr("tadaconv.bench.options.has_fused_kernels", lambda _: True)
    for bench in (op.bench, step.bench):
        with pytest.raises(UserError, match="method 'fused' needs a calibration of taps; use --calibration k2"):
            bench(replace(asked, size=64))
