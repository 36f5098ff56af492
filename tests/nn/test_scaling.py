"""Describing and scaling frames against the plain expressions and autograd."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadaconv.nn import TAdaConv2d
from tadaconv.nn.scaling import scale, scale_by_average
from tadaconv.spec import Context


def plain(x: Tensor, weight: Tensor) -> Tensor:
    """A miniature of the operator: a factor made from the average, times the frames, and the average itself."""
    v = x.mean((2, 3))
    return x * torch.tanh(v @ weight)[:, :, None, None]


def ours(x: Tensor, weight: Tensor) -> Tensor:
    y, _ = scale_by_average(x, x.dtype, lambda v: {"cin": torch.tanh(v @ weight)})
    return y


def leaves(b: int, c: int, h: int, w: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(b, c, h, w, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    return x.requires_grad_(), torch.randn(c, c, dtype=torch.float64, requires_grad=True)


@settings(max_examples=40)
@given(b=st.integers(1, 5), c=st.integers(1, 4), h=st.integers(1, 5), w=st.integers(1, 5), chunk=st.integers(1, 2000))
def test_values_and_gradients_are_those_of_the_plain_expression(b, c, h, w, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tadaconv.nn.scaling._CHUNK_BYTES", chunk)
        x, weight = leaves(b, c, h, w)
        upstream = torch.randn(b, c, h, w, dtype=torch.float64)
        expected = torch.autograd.grad(plain(x, weight), (x, weight), upstream)
        assert torch.equal(ours(x, weight), plain(x, weight))
        for mine, theirs in zip(torch.autograd.grad(ours(x, weight), (x, weight), upstream), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_second_derivatives():
    x, weight = leaves(2, 3, 2, 2)
    assert torch.autograd.gradcheck(ours, (x, weight))
    assert torch.autograd.gradgradcheck(ours, (x, weight))


def test_a_graph_can_be_walked_twice():
    x, weight = leaves(2, 3, 2, 2)
    y = ours(x, weight).square().sum()
    first = torch.autograd.grad(y, (x, weight), retain_graph=True)
    for again, once in zip(torch.autograd.grad(y, (x, weight)), first, strict=True):
        assert torch.equal(again, once)


def test_one_clip_in_two_layers_has_separate_gradients():
    x, weight = leaves(2, 3, 4, 4)
    other = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    inputs = (x, weight, other)
    mine = torch.autograd.grad((ours(x, weight) * ours(x, other) + x).sum(), inputs)
    theirs = torch.autograd.grad((plain(x, weight) * plain(x, other) + x).sum(), inputs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
def test_only_inputs_that_need_a_gradient_get_one(needs):
    x, weight = (leaf.detach().requires_grad_(need) for leaf, need in zip(leaves(2, 3, 2, 2), needs, strict=True))
    y, expected = ours(x, weight), plain(x, weight)
    assert y.requires_grad == any(needs)
    if any(needs):
        (leaf,) = [leaf for leaf, need in zip((x, weight), needs, strict=True) if need]
        (mine,), (theirs,) = (torch.autograd.grad(z.square().sum(), leaf) for z in (y, expected))
        torch.testing.assert_close(mine, theirs)


def test_a_factor_cut_off_from_the_clip_leaves_the_clip_its_own_gradient():
    x, _ = leaves(2, 3, 2, 2)
    alpha = torch.randn(2, 3, dtype=torch.float64)
    y, _ = scale_by_average(x, x.dtype, lambda _: {"cin": alpha})
    (mine,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(mine, alpha[:, :, None, None].expand_as(x))


@pytest.mark.parametrize("grad", [False, True])
def test_a_finer_factor_is_not_rounded_before_the_product(grad):
    x = (1 + torch.rand(1, 1, 64, 1)).bfloat16().requires_grad_(grad)
    alpha = torch.tensor([[1.003]])  # bfloat16 would make it 1
    y = scale(x, alpha)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, (x.float() * alpha[..., None, None]).bfloat16())
    assert not torch.equal(y, x)


def test_calibration_stays_fine_under_autocast():
    conv = TAdaConv2d(16, 16, 3, padding=1, init="random", context=Context(reduction=1)).eval()
    x = torch.randn(1, 16, 4, 6, 6)
    alphas = []
    conv.context.register_forward_hook(lambda _module, _inputs, alpha: alphas.append(alpha))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    assert alphas[0].dtype == torch.float32
    torch.testing.assert_close(alphas[0], conv.context(x))
    torch.testing.assert_close(y.float(), conv(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("calibration", ["cin", "cout", "cin+cout", "cin_k2"])
def test_gradients_of_the_compiled_layer_are_the_eager_ones(calibration):
    conv = TAdaConv2d(4, 4, 3, padding=1, calibration=calibration, init="random").double()
    x = torch.randn(2, 4, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(conv, backend="aot_eager", fullgraph=True)
    inputs = [x, *conv.parameters()]
    expected = torch.autograd.grad(conv(x).square().sum(), inputs)
    for mine, theirs in zip(torch.autograd.grad(compiled(x).square().sum(), inputs), expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_step_frees_its_memory() -> None:
    """A factor kept for the backward pass would hold the graph that leads to it, which no garbage collector sees."""
    conv = TAdaConv2d(16, 16, 3, padding=1)
    clips = torch.randn(2, 16, 4, 6, 6)
    for _ in range(3):
        hidden = conv(clips.requires_grad_())  # the clip's gradient is what the factor is kept for
        conv(hidden).sum().backward()
    del hidden
    gc.collect()
    assert not any(type(kept).__name__ == "_DescribeBackward" for kept in gc.get_objects())
