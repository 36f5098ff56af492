"""The fused kernels against the eager form in float64 and against a kernel for every frame.

The same tests run in two ways: on a GPU, and on the CPU in a process of their own under Triton's interpreter, which
must be asked for before Triton is imported.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadaconv.nn import fused_kernels, taps
from tadaconv.nn.functional import alpha_sizes, tada_conv2d
from tadaconv.nn.naive import naive_tada_conv2d
from tadaconv.nn.taps import HAS_TRITON
from tadaconv.nn.window import Window, conv_in_one_piece

if HAS_TRITON:
    from tadaconv.nn import fused
    from tadaconv.nn.fused import choose_tile

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
HALF = torch.float16 if INTERPRETED else torch.bfloat16  # the interpreter multiplies the bits of bfloat16

# Triton's older interpreters read a scalar out of an array in a way that newer numpys warn of.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="needs triton, which PyTorch's CUDA builds bring")


def runs_kernels(test):
    """Marks a test for a GPU and for the interpreter."""
    if INTERPRETED:
        return needs_triton(test)
    reason = "needs a CUDA device; without one, test_all_under_the_interpreter runs it"
    return pytest.mark.gpu(needs_triton(pytest.mark.skipif(not torch.cuda.is_available(), reason=reason)(test)))


@pytest.fixture(autouse=True, scope="module")
def _small_blocks():
    """The smallest there are, so that few channels and pixels fill several; a GPU keeps those that ship."""
    with pytest.MonkeyPatch.context() as patch:
        if INTERPRETED:
            patch.setattr(fused, "choose_tile", lambda *_: fused.Tile(16, 16, 16, num_warps=1, num_stages=1))
            patch.setattr(fused, "NUM_PROGRAMS", 8)  # so that one program sums over several frames
        yield


@pytest.fixture
def _as_on_a_gpu(monkeypatch):
    """The CPU is sent where a GPU would be."""
    if INTERPRETED:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
        monkeypatch.setattr(taps, "_can_be_fused", lambda *a: a[2] == 1 and taps._compiles_for(0))


def assert_equal_to_rounding(ours: Tensor, expected: Tensor, steps: float) -> None:
    """Within so many steps of ours' type at the largest expected value."""
    tolerance = steps * torch.finfo(ours.dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=tolerance)


def assert_equals_the_eager_form(arguments: tuple[Tensor, Tensor, Tensor], window: Window, steps: float) -> None:
    """Output and all gradients, against the eager form of the same values in float64."""
    ours = [a.detach().requires_grad_() for a in arguments]
    exact = [a.detach().double().requires_grad_() for a in arguments]
    y = fused.fused_conv_on_scaled_taps(*ours, window)
    expected = conv_in_one_piece(*exact, window)
    assert y.shape == expected.shape
    assert y.dtype == arguments[0].dtype
    assert_equal_to_rounding(y, expected, steps)

    upstream = torch.randn_like(expected).to(y.dtype)
    gradients = torch.autograd.grad(y, ours, upstream)
    exact_gradients = torch.autograd.grad(expected, exact, upstream.double())
    for argument, gradient, exact_gradient in zip(arguments, gradients, exact_gradients, strict=True):
        assert gradient.dtype == argument.dtype
        assert_equal_to_rounding(gradient, exact_gradient, steps if argument is not arguments[2] else 512)


def convolution(channels, out, size, kernel, shared=False, frames=2, dtype=torch.float32):
    """Frames, kernel and factors, on the device under test."""
    x = torch.randn(frames, channels, *size)
    weight = torch.randn(out, channels, *kernel) / (channels * kernel[0] * kernel[1]) ** 0.5
    factors = 1 + 0.3 * torch.randn(frames, 1 if shared else channels, kernel[0] * kernel[1])
    return x.to(DEVICE, dtype), weight.to(DEVICE, dtype), factors.to(DEVICE)


@st.composite
def convolutions(draw):
    """Arguments in float32: of any geometry, of sizes that are no multiples of a block, however they lie in memory."""
    kernel = draw(st.sampled_from([(1, 1), (1, 2), (2, 2), (3, 1)]))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    size = [max(1, dilation[i] * (kernel[i] - 1) + 1 - padding[i]) + draw(st.integers(0, 2)) for i in (0, 1)]
    torch.manual_seed(draw(st.integers(0, 2**32)))
    x, weight, factors = convolution(
        draw(st.sampled_from([2, 3, 17])),
        draw(st.sampled_from([1, 5, 18])),
        size,
        kernel,
        draw(st.booleans()),
        draw(st.integers(1, 3)),
    )
    if draw(st.booleans()):
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    if draw(st.booleans()):
        factors = factors.transpose(0, 2).contiguous().transpose(0, 2)
    return (x, weight, factors), Window(kernel, stride, padding, dilation, 1)


@runs_kernels
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(convolutions())
def test_outputs_and_gradients_equal_the_eager_form(convolution):
    assert_equals_the_eager_form(*convolution, steps=16)


@runs_kernels
@pytest.mark.parametrize(
    "window",
    [
        Window((3, 2), (2, 3), (2, 1), (2, 2), 1),
        Window((2, 2), (4, 2), (1, 3), (2, 3), 1),
        Window((1, 1), (2, 2), (0, 0), (1, 1), 1),
    ],
    ids=["stride and dilation share a factor", "stride over dilation", "pixels no tap sees"],
)
def test_strides_that_leave_pixels_to_some_of_the_taps(window):
    assert_equals_the_eager_form(convolution(3, 2, (6, 7), window.kernel), window, steps=16)


@runs_kernels
def test_half_precision_is_rounded_once_an_operand_and_once_a_result():
    arguments = convolution(20, 18, (4, 3), (2, 1), dtype=HALF)
    assert_equals_the_eager_form(arguments, Window((2, 1), (1, 1), (1, 0), (1, 1), 1), steps=3)


@runs_kernels
def test_blocks_of_the_size_that_ships(monkeypatch):
    monkeypatch.setattr(fused, "choose_tile", choose_tile)
    monkeypatch.setattr(fused, "NUM_PROGRAMS", 512)
    assert_equals_the_eager_form(
        convolution(66, 67, (9, 9), (1, 1)), Window((1, 1), (1, 1), (0, 1), (1, 1), 1), steps=16
    )


@runs_kernels
@pytest.mark.parametrize("calibration", ["k2", "cout+cin_k2"])
@pytest.mark.usefixtures("_as_on_a_gpu")
def test_the_operator_equals_a_kernel_for_every_frame(calibration, monkeypatch):
    calls, fused_form = [], fused.fused_conv_on_scaled_taps
    monkeypatch.setattr(fused, "fused_conv_on_scaled_taps", lambda *a: calls.append(a) or fused_form(*a))
    x = torch.randn(1, 3, 2, 4, 5, device=DEVICE)
    weight, bias = torch.randn(5, 3, 2, 2, device=DEVICE), torch.randn(5, device=DEVICE)
    alpha = torch.randn(1, sum(alpha_sizes(weight, 1, calibration).values()), 2, device=DEVICE)
    leaves = [t.requires_grad_() for t in (x, weight, alpha, bias)]
    tada_conv2d(*leaves, stride=2, padding=1, calibration=calibration)
    assert not calls, "they are off by default"
    with fused_kernels():
        ours = tada_conv2d(*leaves, stride=2, padding=1, calibration=calibration)
    assert len(calls) == 1
    exact = [t.detach().double().requires_grad_() for t in leaves]
    naive = naive_tada_conv2d(*exact, stride=2, padding=1, calibration=calibration)
    assert_equal_to_rounding(ours, naive, 16)
    upstream = torch.randn_like(naive)
    for mine, theirs in zip(
        torch.autograd.grad(ours, leaves, upstream.float()), torch.autograd.grad(naive, exact, upstream), strict=True
    ):
        assert_equal_to_rounding(mine, theirs, 64)


@runs_kernels
def test_gradients_of_gradients_equal_the_eager_form():
    window = Window((1, 2), (1, 2), (0, 1), (1, 1), 1)
    results = []
    for form, dtype in ((fused.fused_conv_on_scaled_taps, torch.float32), (conv_in_one_piece, torch.float64)):
        torch.manual_seed(0)
        leaves = [t.to(dtype).requires_grad_() for t in convolution(3, 2, (2, 3), (1, 2))]
        first = torch.autograd.grad(form(*leaves, window).square().sum(), leaves, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
    for ours, expected in zip(*results, strict=True):
        assert_equal_to_rounding(ours, expected, 64)


@runs_kernels
@pytest.mark.parametrize("wanted", [0, 1, 2], ids=["frames", "kernel", "factors"])
def test_one_gradient_alone(wanted):
    window = Window((2, 2), (1, 1), (0, 0), (1, 1), 1)
    arguments = convolution(3, 2, (3, 3), (2, 2))
    arguments[wanted].requires_grad_()
    (ours,) = torch.autograd.grad(fused.fused_conv_on_scaled_taps(*arguments, window).sum(), [arguments[wanted]])
    exact = [a.detach().double() for a in arguments]
    exact[wanted].requires_grad_()
    (expected,) = torch.autograd.grad(conv_in_one_piece(*exact, window).sum(), [exact[wanted]])
    assert_equal_to_rounding(ours, expected, 16)


@runs_kernels
@pytest.mark.usefixtures("_as_on_a_gpu")
def test_compiled_it_is_one_operation_without_a_graph_break():
    x = torch.randn(1, 3, 2, 3, 3, device=DEVICE)
    weight, alpha = torch.randn(2, 3, 2, 2, device=DEVICE), torch.randn(1, 12, 2, device=DEVICE)

    def loss(x: Tensor, weight: Tensor, alpha: Tensor) -> Tensor:
        return tada_conv2d(x, weight, alpha, padding=1, calibration="cin_k2").square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager" if INTERPRETED else "inductor")
    results = []
    for form in (compiled, loss):
        leaves = [t.clone().requires_grad_() for t in (x, weight, alpha)]
        with fused_kernels():
            value = form(*leaves)
        results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


@runs_kernels
def test_fake_operations_have_the_true_shapes_and_layouts():
    x, weight, factors = convolution(3, 2, (3, 2), (2, 1), frames=1)
    geometry = ([2, 1], [1, 0], [1, 1])
    g = torch.randn_like(fused._conv(x, weight, factors, *geometry))
    leaves = [t.requires_grad_() for t in (x, weight, factors)]
    told = ("test_schema", "test_autograd_registration", "test_faketensor")  # the rest is compiled above
    torch.library.opcheck(fused._conv, (*leaves, *geometry), test_utils=told)
    for backward in (fused._input_gradients, fused._weight_gradient):
        torch.library.opcheck(backward, (g, *(t.detach() for t in leaves), *geometry), test_utils=told)


@runs_kernels
def test_no_frames_make_no_output_and_no_gradient():
    arguments = [t.requires_grad_() for t in convolution(3, 2, (3, 3), (2, 2), frames=0)]
    y = fused.fused_conv_on_scaled_taps(*arguments, Window((2, 2), (1, 1), (0, 0), (1, 1), 1))
    assert y.shape == (0, 2, 2, 2)
    for argument, gradient in zip(arguments, torch.autograd.grad(y.sum(), arguments), strict=True):
        assert torch.equal(gradient, torch.zeros_like(argument))


@needs_triton
def test_a_kernel_of_other_channels_is_refused():
    x, factors = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4)
    window = Window((2, 2), (1, 1), (0, 0), (1, 1), 1)
    with pytest.raises(ValueError, match="the kernel takes 4 channels, the frames have 3"):
        fused.fused_conv_on_scaled_taps(x, torch.zeros(5, 4, 2, 2), factors, window)


@needs_triton
@pytest.mark.parametrize("shape", [(2, 2, 4), (1, 3, 4), (2, 3, 9)])
def test_factors_of_other_frames_are_refused(shape):
    window = Window((2, 2), (1, 1), (0, 0), (1, 1), 1)
    with pytest.raises(ValueError, match=r"the factors of these frames are \(2, 3 or 1, 4\), got \("):
        fused.fused_conv_on_scaled_taps(torch.zeros(2, 3, 4, 4), torch.zeros(5, 3, 2, 2), torch.zeros(shape), window)


@pytest.mark.parametrize(
    ("where", "capability", "dtype", "weight_dtype", "groups", "is_fused"),
    [
        ("cuda", (9, 0), torch.float32, torch.float32, 1, True),
        ("cuda", (8, 0), torch.bfloat16, torch.bfloat16, 1, True),
        ("cuda", (8, 6), torch.float16, torch.float16, 1, True),
        ("cpu", (9, 0), torch.float32, torch.float32, 1, False),
        ("cuda", (7, 5), torch.float16, torch.float16, 1, False),
        ("cuda", (9, 0), torch.float64, torch.float64, 1, False),
        ("cuda", (9, 0), torch.float32, torch.float16, 1, False),
        ("cuda", (9, 0), torch.float32, torch.float32, 2, False),
    ],
)
def test_when_kernels_are_fused(monkeypatch, where, capability, dtype, weight_dtype, groups, is_fused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(taps, "HAS_TRITON", True)
    monkeypatch.setattr(torch.version, "hip", None)
    x = SimpleNamespace(is_cuda=where == "cuda", dtype=dtype, device=SimpleNamespace(index=0))
    assert taps._can_be_fused(x, SimpleNamespace(dtype=weight_dtype), groups) is is_fused


@pytest.mark.gpu
@pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a CUDA device")
@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [False, True], ids=["cin_k2", "k2"])
@pytest.mark.parametrize(
    ("channels", "out", "side", "stride"), [(64, 64, 56, 1), (128, 128, 56, 2), (256, 256, 14, 1), (512, 512, 7, 1)]
)
def test_at_the_size_of_a_network(channels, out, side, stride, shared, dtype):
    arguments = convolution(channels, out, (side, side), (3, 3), shared, frames=8, dtype=dtype)
    window = Window((3, 3), (stride, stride), (1, 1), (1, 1), 1)
    assert_equals_the_eager_form(arguments, window, steps=64 if dtype == torch.float32 else 3)

    leaves = [a.requires_grad_() for a in arguments]
    runs = []
    for _ in range(2):
        y = fused.fused_conv_on_scaled_taps(*leaves, window)
        runs.append((y, *torch.autograd.grad(y.float().square().sum(), leaves)))
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True)), "two runs give equal bits"


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@needs_triton
@pytest.mark.parametrize("kernel", ["_output_kernel", "_input_gradients_kernel", "_weight_gradient_kernel"])
def test_a_kernel_compiles_for_hopper_wherever_it_is_compiled(kernel, monkeypatch, tmp_path):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(fused, kernel)
    tile = choose_tile(784, 64, torch.bfloat16)
    constants = {name: 1 for name in function.arg_names if name.isupper() and not name.startswith("C_")}
    constants |= {"KH": 3, "KW": 3, "PRECISION": "ieee"}
    blocks = [name for name in function.arg_names if name.startswith("BLOCK")]
    constants |= dict(zip(blocks, (tile.rows, tile.columns, tile.depth), strict=True))
    types = {name: "*bf16" if name.endswith("_ptr") else "i32" for name in function.arg_names}
    types |= {name: "*fp32" for name in ("taps_ptr", "g_taps_ptr", "g_weight_ptr") if name in types}
    source = ASTSource(function, types | dict.fromkeys(constants, "constexpr"), constants)
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert "wgmma" in made.asm["ptx"], "half precision is multiplied by the tensor cores"
    assert made.metadata.shared <= 99 * 1024, "fits every GPU since Ampere"


@pytest.mark.skipif(INTERPRETED, reason="is what is being run")
@needs_triton
def test_all_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
