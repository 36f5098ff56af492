"""Boundary matching against its definition, a dense mask and a convolution over all samples."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadaconv.nn.boundary_matching import BoundaryMatching, SparseMatrix, sampling_matrix
from tadaconv.nn.naive import naive_boundary_matching, naive_sampling_mask


def layer(steps: int, duration: int, channels: int = 3, out: int = 2, **sampling: Any) -> BoundaryMatching:
    return BoundaryMatching(channels, out, steps, duration, **sampling).double()


def dense(matrix: SparseMatrix, num_columns: int) -> Tensor:
    return matrix.times(torch.eye(num_columns, dtype=torch.float64)[None])[0]


@st.composite
def samplings(draw: st.DrawFn) -> tuple[int, int, int, int, float]:
    steps = draw(st.integers(1, 12))
    points = draw(st.integers(1, 4))
    samples = draw(st.integers(1 if points > 1 else 2, 6))
    return steps, draw(st.integers(1, steps)), samples, points, draw(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.7]))


@settings(max_examples=60)
@given(samplings())
def test_the_matrix_is_the_dense_mask(sampling):
    steps, duration, samples, *_ = sampling
    by_rows, by_columns = sampling_matrix(*sampling)
    matrix, transpose = dense(by_rows, steps * samples), dense(by_columns, duration * steps)
    expected = naive_sampling_mask(*sampling).permute(2, 3, 0, 1).reshape(duration * steps, steps * samples)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-14)
    assert torch.equal(transpose, matrix.t())


def test_points_beyond_the_edges():
    # one cell [0, 1] of 5 points from -1.5 to 1.5, a sample each: -1.5, -.75, 0, .75, 1.5; of two features
    mask = naive_sampling_mask(2, 1, 5, 1, 1.5)[:, :, 0, 0]
    assert mask.T.tolist() == [[0, 0], [1, 0], [1, 0], [0.25, 0.75], [0, 0.5]]


def test_a_point_at_minus_one_is_outside():
    mask = naive_sampling_mask(1, 1, 2, 1, 1.0)[:, :, 0, 0]  # points at -1 and 1
    assert mask.tolist() == [[0, 0]]
    assert len(sampling_matrix(1, 1, 2, 1, 1.0)[0].columns) == 0


@settings(max_examples=40)
@given(samplings(), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_outputs_and_gradients_are_those_of_the_definition(sampling, videos, channels, out, strided):
    steps, duration, samples, points, ratio = sampling
    ours = layer(steps, duration, channels, out, num_samples=samples, points_per_sample=points, ratio=ratio)
    x = torch.randn(videos, channels, steps, dtype=torch.float64)
    if strided:
        x = torch.randn(steps, 2 * videos, channels, dtype=torch.float64).permute(1, 2, 0)[::2]
    inputs = (x.requires_grad_(), ours.weight, ours.bias)
    upstream = torch.randn(videos, out, duration, steps, dtype=torch.float64)
    y, expected = ours(x), naive_boundary_matching(x, naive_sampling_mask(*sampling), ours.weight, ours.bias)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    for mine, theirs in zip(
        torch.autograd.grad(y, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


def test_first_and_second_derivatives():
    ours = layer(5, 3, num_samples=2)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)

    def squared(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(ours, {"weight": weight, "bias": bias}, (x,)).square()

    inputs = (x, ours.weight.detach().requires_grad_(), ours.bias.detach().requires_grad_())
    assert torch.autograd.gradcheck(squared, inputs)
    assert torch.autograd.gradgradcheck(squared, inputs)


def test_cells_that_end_after_the_last_step_are_the_bias():
    ours = layer(4, 4, num_samples=3)
    y = ours(torch.randn(2, 3, 4, dtype=torch.float64))
    void = torch.tensor([[s + d >= 4 for s in range(4)] for d in range(4)])
    assert torch.equal(y[:, :, void], ours.bias.detach()[None, :, None].expand(2, -1, 6))
    assert (y[:, :, ~void] != ours.bias[None, :, None]).all()


def test_batched_videos_are_those_alone():
    ours = layer(6, 4, num_samples=3)
    x = torch.randn(3, 3, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), torch.cat([ours(video[None]) for video in x]), rtol=0, atol=1e-14)


def test_gradients_are_the_same_bits_each_time():
    ours, x = BoundaryMatching(8, 8, 20, 20), torch.randn(2, 8, 20, requires_grad=True)
    first, again = (torch.autograd.grad(ours(x).square().sum(), (x, ours.weight)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_under_autocast_are_those_in_float32(dtype):
    ours = BoundaryMatching(4, 3, 16, 16)
    x = torch.randn(2, 4, 16, requires_grad=True)
    with torch.autocast("cpu", dtype):
        y = ours(x)
    projected = (x.to(dtype).transpose(1, 2) @ ours.weight.to(dtype).flatten(1)).float()
    mask = naive_sampling_mask(16, 16, 32).float()
    expected = torch.einsum("ntso,tsdu->nodu", projected.unflatten(2, (32, 3)), mask) + ours.bias[:, None, None]
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)
    (grad,) = torch.autograd.grad(y.float().sum(), x)
    assert grad.dtype == torch.float32
    assert grad.isfinite().all()


def test_the_index_is_no_part_of_the_state_and_shared():
    ours = BoundaryMatching(2, 2, 4, 4)
    assert set(ours.state_dict()) == {"weight", "bias"}
    assert ours.matrix_weights is BoundaryMatching(3, 3, 4, 4).matrix_weights
    copied = copy.deepcopy(ours)
    x = torch.randn(1, 2, 4)
    assert torch.equal(copied(x), ours(x))


def test_compiled():
    ours = layer(5, 3, num_samples=2)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), ours(x))
    for mine, theirs in zip(*(torch.autograd.grad(f(x).square().sum(), x) for f in (compiled, ours)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ValueError, match="from 1 to 4 steps, got 5"):
        BoundaryMatching(2, 2, 4, 5)
    with pytest.raises(ValueError, match="2 points at least, got 1 x 1"):
        BoundaryMatching(2, 2, 4, 4, num_samples=1, points_per_sample=1)
    with pytest.raises(ValueError, match=r"must be \(N, C, 4\), got \(1, 2, 5\)"):
        BoundaryMatching(2, 2, 4, 4)(torch.zeros(1, 2, 5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    ours = BoundaryMatching(8, 8, 20, 20)
    x = torch.randn(2, 8, 20, requires_grad=True)
    expected = torch.autograd.grad(ours(x).square().sum(), (x, ours.weight))
    there, x_there = copy.deepcopy(ours).cuda(), x.detach().cuda().requires_grad_()
    first, again = (torch.autograd.grad(there(x_there).square().sum(), (x_there, there.weight)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for mine, theirs in zip(first, expected, strict=True):
        torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-4, atol=1e-4)
