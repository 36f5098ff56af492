"""Precision, ``torch.compile`` and fused kernels: what they change, and what stays as it is."""

from pathlib import Path

import pytest
import torch
from tiny_clips import TinyClips, TinyNet
from torch import Tensor, nn
from torch._dynamo.utils import counters

from tadaconv.errors import UserError
from tadaconv.nn import taps
from tadaconv.result import Progress
from tadaconv.run_options import BFLOAT16, FLOAT32, RunOptions, precision_of
from tadaconv.spec import Schedule
from tadaconv.training import Fit, autocast, computing, computing_as, evaluate

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SCHEDULE = Schedule(epochs=2, batch_size=4, lr=0.1, warmup_epochs=0)
COMPILED, EAGER = RunOptions(compile=True), RunOptions()


@pytest.fixture
def _graphs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are captured and cut into forward and backward, but not made into code, which takes seconds."""
    monkeypatch.setattr(computing, "BACKEND", "aot_eager")


@pytest.fixture
def _usual_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(computing.shutil, "which", lambda name: f"/usr/bin/{name}")


def tiny_net() -> TinyNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyNet(dropout=0)


def fit_of(options: RunOptions, checkpoint: Path | None = None, schedule: Schedule = SCHEDULE) -> Fit:
    return Fit(tiny_net(), TinyClips(), schedule, 0, CPU, "cell", checkpoint, options)


def trained(loop: Fit) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and validations of the epochs, and the weights."""

    def validate() -> float:
        return evaluate(loop.network, loop.source, 4, CPU).loss

    with computing_as(loop.options, CPU):
        curve = loop.run(validate).curve
    assert loop.model.training
    return [number for point in curve for number in (point.train_loss, point.score)], loop.model.state_dict()


@pytest.mark.usefixtures("_graphs_alone")
def test_a_compiled_cell_gives_the_eager_numbers_with_a_graph_a_shape_and_plain_names(tmp_path: Path) -> None:
    expected, weights = trained(fit_of(EAGER))
    counters.clear()
    found, compiled_weights = trained(fit_of(COMPILED, tmp_path / "cell.pt"))
    # Ten clips are batches of 4, 3 and 3; seven are evaluated as 4 and 3.
    assert counters["stats"]["unique_graphs"] == 4
    assert not counters["graph_break"]
    assert found == pytest.approx(expected, rel=1e-4)
    assert list(compiled_weights) == list(weights)
    torch.testing.assert_close(compiled_weights, weights, rtol=1e-4, atol=1e-6)
    assert list(torch.load(tmp_path / "cell.pt", weights_only=False)["model"]) == list(weights)


@pytest.mark.usefixtures("_graphs_alone")
@pytest.mark.parametrize(("first", "then"), [(COMPILED, EAGER), (EAGER, COMPILED)], ids=["compiled", "eager"])
def test_a_cell_begun_in_one_way_goes_on_in_the_other(first: RunOptions, then: RunOptions, tmp_path: Path) -> None:
    checkpoint = tmp_path / "cell.pt"

    def stop(progress: Progress) -> None:
        if progress.step == 5:  # in the middle of the second epoch, of which nothing was saved
            raise InterruptedError

    expected, weights = trained(fit_of(EAGER))
    begun = fit_of(first, checkpoint)
    with computing_as(first, CPU), pytest.raises(InterruptedError):
        begun.run(lambda: 0.0, stop)
    gone_on = fit_of(then, checkpoint)
    found, found_weights = trained(gone_on)
    assert gone_on.state.step == gone_on.num_steps
    assert found[2:] == pytest.approx(expected[2:], rel=1e-4)
    torch.testing.assert_close(found_weights, weights, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what compilers import
def test_code_that_is_compiled_gives_the_eager_numbers() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(3, 2).eval(), torch.randn(4, 3)
    with computing_as(COMPILED, CPU), torch.no_grad():
        network = computing.compiled(model)
        torch.testing.assert_close(network(x), model(x))
        assert not network.training


@pytest.mark.usefixtures("_graphs_alone")
def test_more_shapes_than_are_kept_are_an_error_and_not_silently_eager() -> None:
    network = computing.compiled(nn.Linear(3, 2))
    with computing.many_compiled(most=2):
        for num_clips in (2, 3):
            network(torch.zeros(num_clips, 3))
        with pytest.raises(Exception, match="limit"):
            network(torch.zeros(4, 3))


@pytest.mark.usefixtures("_graphs_alone")
def test_the_cells_of_a_worker_do_not_use_up_each_others_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "MOST_SHAPES", 1)
    for _ in range(3):
        with computing_as(COMPILED, CPU):
            computing.compiled(nn.Linear(3, 2))(torch.zeros(2, 3))


def test_bfloat16_is_for_gpus_that_are_not_asked_for_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(torch, "autocast", lambda *types: asked.append(types))
    for device, precision in ((CPU, "auto"), (CPU, "float32"), (CUDA, "float32")):
        with autocast(device, precision):  # type: ignore[arg-type]
            assert asked == []
    autocast(CUDA)
    autocast(CUDA, "auto")
    assert asked == 2 * [("cuda", torch.bfloat16)]


def test_float32_is_without_tf32_for_as_long_as_the_run() -> None:
    def allowed() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = allowed()
    assert before[0], "PyTorch's own default for convolutions"
    with computing_as(RunOptions(precision="float32"), CPU):
        assert allowed() == (False, False)
    assert allowed() == before
    with computing_as(EAGER, CPU):
        assert allowed() == before


@pytest.mark.parametrize(
    ("options", "on_cpu", "on_gpu"),
    [
        (EAGER, {}, {"precision": BFLOAT16}),
        (RunOptions(precision="float32"), {}, {"precision": FLOAT32}),
        (
            RunOptions(compile=True, fused_kernels=True),
            {"compiled": "yes", "fused_kernels": "yes"},
            {"precision": BFLOAT16, "compiled": "yes", "fused_kernels": "yes"},
        ),
    ],
)
def test_what_an_environment_says(options: RunOptions, on_cpu: dict[str, str], on_gpu: dict[str, str]) -> None:
    assert options.entries(on_gpu=False) == on_cpu
    assert options.entries(on_gpu=True) == on_gpu
    assert precision_of(on_cpu) == FLOAT32
    assert precision_of({"cuda": "12.8", **on_gpu}) == on_gpu["precision"]


def test_a_missing_compiler_is_one_line_that_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no 'no-such-compiler'; install one, name yours in CXX, or use --mode eager"):
        computing.require_compiler(CPU, "use --mode eager")
    with pytest.raises(UserError, match=r"name yours in CXX, or omit --compile$"), computing_as(COMPILED, CPU):
        pass

    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"there is no '(clang|g)\+\+'"):
        computing.require(COMPILED, CPU)
    with pytest.raises(UserError, match="there is no 'gcc or clang'"):
        computing.require(COMPILED, CUDA)
    computing.require(EAGER, CPU)


@pytest.mark.usefixtures("_usual_compiler")
def test_missing_triton_and_missing_headers_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    computing.require(COMPILED, CPU)
    monkeypatch.setattr(computing, "HAS_TRITON", False)
    computing.require(COMPILED, CPU)
    with pytest.raises(UserError, match="needs Triton, which is not installed; pip install triton, or omit --com"):
        computing.require(COMPILED, CUDA)
    monkeypatch.setattr(computing.sysconfig, "get_path", lambda _: "/nowhere")
    with pytest.raises(UserError, match=r"no Python.h in /nowhere; install them \(python3-dev\), or omit"):
        computing.require(COMPILED, CPU)


@pytest.mark.parametrize(
    ("device", "capability", "triton", "says"),
    [
        (CPU, (9, 0), True, "cpu is not one; omit the option"),
        (torch.device("cuda:1"), (7, 5), True, "cuda:1 is not one; omit the option"),
        (CUDA, (9, 0), False, "Triton is not installed; omit the option"),
        (CUDA, (8, 0), True, None),
    ],
)
def test_fused_kernels_where_there_are_none_are_refused(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, capability: tuple[int, int], triton: bool, says: str | None
) -> None:
    for module in (taps, computing):
        monkeypatch.setattr(module, "HAS_TRITON", triton)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    options = RunOptions(fused_kernels=True)
    if says is None:
        with computing_as(options, device):
            assert taps._fused_is_on
        assert not taps._fused_is_on
    else:
        with pytest.raises(UserError, match=says):
            computing.require(options, device)
    computing.require(EAGER, device)
