"""The operator against the naive form, which builds a kernel for every frame."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadaconv.nn.functional import alpha_sizes, tada_conv2d
from tadaconv.nn.naive import naive_tada_conv2d
from tadaconv.nn.taps import PIECE_BYTES
from tadaconv.spec import CALIBRATIONS

SCALING = [c for c in CALIBRATIONS if "k2" not in c]


@st.composite
def calls(draw, calibration: str):
    """Random arguments of a call, in float64."""
    group_width = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["dense", "two groups", "depthwise"]))
    groups = {"dense": 1, "two groups": 2, "depthwise": draw(st.integers(2, 4))}[kind]
    in_channels = groups * (1 if kind == "depthwise" else group_width)
    out_channels = groups * draw(st.integers(1, 3))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    size = [dilation[i] * (kernel[i] - 1) + 1 + draw(st.integers(0, 4)) for i in (0, 1)]
    n, t = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    x = randn(n, in_channels, t, *size)
    if draw(st.booleans()):
        x = x.detach().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    weight = randn(out_channels, in_channels // groups, *kernel)
    alpha = randn(n, sum(alpha_sizes(weight, groups, calibration).values()), t)
    bias = randn(out_channels) if draw(st.booleans()) else None
    return x, weight, alpha, bias, stride, padding, dilation, groups, calibration


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@settings(max_examples=30)
@given(data=st.data())
def test_outputs_and_gradients_equal_the_naive_form(calibration, data):
    arguments = data.draw(calls(calibration))
    ours, naive = tada_conv2d(*arguments), naive_tada_conv2d(*arguments)
    assert ours.shape == naive.shape
    torch.testing.assert_close(ours, naive, rtol=0, atol=1e-10)

    leaves = [a for a in arguments[:4] if a is not None]
    upstream = torch.randn_like(naive)
    for mine, theirs in zip(
        torch.autograd.grad(ours, leaves, upstream), torch.autograd.grad(naive, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@settings(max_examples=15)
@given(data=st.data())
def test_the_naive_form_equals_a_loop_over_frames_of_its_definition(calibration, data):
    x, weight, alpha, bias, stride, padding, dilation, groups, _ = data.draw(calls(calibration))
    o, ci, kh, kw = weight.shape
    expected = torch.empty_like(
        naive_tada_conv2d(x, weight, alpha, bias, stride, padding, dilation, groups, calibration)
    )
    for n in range(x.shape[0]):
        for t in range(x.shape[2]):
            kernel = weight.clone()
            parts = alpha[n, :, t].split(list(alpha_sizes(weight, groups, calibration).values()))
            for factor, part in zip(calibration.split("+"), parts, strict=True):
                for out in range(o):
                    first = (out // (o // groups)) * ci  # the first input channel this output's group sees
                    if factor == "cin":
                        kernel[out] = kernel[out] * part[first : first + ci, None, None]
                    elif factor == "cout":
                        kernel[out] = kernel[out] * part[out]
                    elif factor == "k2":
                        kernel[out] = kernel[out] * part.view(kh, kw)
                    else:
                        kernel[out] = kernel[out] * part.view(-1, kh, kw)[first : first + ci]
            expected[n, :, t] = F.conv2d(x[n, :, t][None], kernel, bias, stride, padding, dilation, groups)[0]
    ours = naive_tada_conv2d(x, weight, alpha, bias, stride, padding, dilation, groups, calibration)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("calibration", SCALING)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_unit_calibration_is_exactly_the_plain_convolution(calibration, groups, bias):
    x = torch.randn(2, 4, 3, 7, 6)
    weight, b = torch.randn(8, 4 // groups, 3, 3), torch.randn(8) if bias else None
    alpha = torch.ones(2, sum(alpha_sizes(weight, groups, calibration).values()), 3)
    ours = tada_conv2d(x, weight, alpha, b, 2, 1, 1, groups, calibration)
    frames = x.transpose(1, 2).flatten(0, 1)
    # With a factor on the output the bias is added after it, in a step of its own.
    plain = F.conv2d(frames, weight, None if "cout" in calibration else b, 2, 1, 1, groups)
    plain = plain + b[:, None, None] if bias and "cout" in calibration else plain
    assert torch.equal(ours, plain.unflatten(0, (2, 3)).transpose(1, 2))


@pytest.mark.parametrize("calibration", [c for c in CALIBRATIONS if "k2" in c])
def test_unit_tap_calibration_is_the_plain_convolution_to_rounding(calibration):
    x, weight = torch.randn(1, 4, 2, 6, 6, dtype=torch.float64), torch.randn(6, 4, 3, 3, dtype=torch.float64)
    alpha = torch.ones(1, sum(alpha_sizes(weight, 1, calibration).values()), 2, dtype=torch.float64)
    plain = F.conv3d(x, weight.unsqueeze(2), padding=(0, 1, 1))
    torch.testing.assert_close(tada_conv2d(x, weight, alpha, None, 1, 1, 1, 1, calibration), plain)


TAPPED = [c for c in CALIBRATIONS if "k2" in c]


@pytest.mark.parametrize("calibration", TAPPED)
@settings(max_examples=20)
@given(data=st.data(), piece=st.integers(1, 4000))
def test_taps_in_pieces_of_any_size_are_the_naive_form(calibration, data, piece):
    arguments = data.draw(calls(calibration))
    leaves = [a for a in arguments[:4] if a is not None]
    naive = naive_tada_conv2d(*arguments)
    upstream = torch.randn_like(naive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PIECE_BYTES, "cpu", piece)
        ours = tada_conv2d(*arguments)
        gradients = torch.autograd.grad(ours, leaves, upstream)
    torch.testing.assert_close(ours, naive, rtol=0, atol=1e-10)
    for mine, theirs in zip(gradients, torch.autograd.grad(naive, leaves, upstream), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_second_derivatives(calibration, groups):
    x, weight = torch.randn(1, 4, 2, 3, 2, dtype=torch.float64), torch.randn(4, 4 // groups, 2, 2, dtype=torch.float64)
    alpha = torch.randn(1, sum(alpha_sizes(weight, groups, calibration).values()), 2, dtype=torch.float64)
    inputs = tuple(t.requires_grad_() for t in (x, weight, alpha))

    def convolve(x, weight, alpha):
        return tada_conv2d(x, weight, alpha, padding=1, groups=groups, calibration=calibration)

    assert torch.autograd.gradgradcheck(convolve, inputs, fast_mode=True)


@pytest.mark.parametrize("calibration", ["k2", "cin_k2"])
def test_the_unfolded_input_is_not_kept_for_the_backward_pass(calibration):
    x, weight = torch.randn(1, 8, 4, 9, 9, requires_grad=True), torch.randn(8, 8, 3, 3, requires_grad=True)
    alpha = torch.randn(1, sum(alpha_sizes(weight, 1, calibration).values()), 4, requires_grad=True)
    kept: list[int] = []

    def pack(tensor):
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        tada_conv2d(x, weight, alpha, padding=1, calibration=calibration)
    assert sum(kept) <= 4 * (x.numel() + weight.numel() + 2 * alpha.numel())


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_autocast_is_that_of_the_plain_convolution(calibration):
    x, weight = torch.randn(1, 4, 2, 6, 6), torch.randn(4, 4, 3, 3)
    alpha = 1 + torch.rand(1, sum(alpha_sizes(weight, 1, calibration).values()), 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = tada_conv2d(x, weight, alpha, padding=1, calibration=calibration)
    assert y.dtype == torch.bfloat16
    exact = tada_conv2d(x, weight, alpha, padding=1, calibration=calibration)
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


def test_channels_last_clips_stay_channels_last_without_a_copy():
    from tadaconv.nn.frames import fold, unfold

    x = torch.randn(2, 4, 3, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    assert fold(x).data_ptr() == x.data_ptr()
    assert fold(x).is_contiguous(memory_format=torch.channels_last)
    assert unfold(fold(x), 2).data_ptr() == x.data_ptr()
    y = tada_conv2d(x, torch.randn(4, 4, 3, 3), torch.randn(2, 4, 3), padding=1)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ("x", "alpha", "calibration", "message"),
    [
        ((2, 4, 5, 5), (2, 4, 3), "cin", r"clips must be \(N, C, T, H, W\)"),
        ((2, 4, 3, 5, 5), (2, 3, 4), "cin", r"takes alpha of shape \(2, 4, 3\), got \(2, 3, 4\)"),
        ((2, 4, 3, 5, 5), (2, 4, 3), "cin+cout", r"takes alpha of shape \(2, 10, 3\)"),
        ((2, 4, 3, 5, 5), (2, 4, 3), "c_in", "unknown calibration 'c_in'; one of: cin,"),
    ],
)
def test_wrong_shapes_and_names_are_named(x, alpha, calibration, message):
    with pytest.raises(ValueError, match=message):
        tada_conv2d(torch.randn(*x), torch.randn(6, 4, 3, 3), torch.randn(*alpha), calibration=calibration)
