"""The context function against its formulas, written out with loops and matrix products."""

import pytest
import torch

from tadaconv.nn import ContextFunction
from tadaconv.spec import Context


def conv1d_by_definition(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    n, _, t = u.shape
    o, _, k = weight.shape
    y = torch.zeros(n, o, t, dtype=u.dtype)
    for frame in range(t):
        for tap in range(k):
            seen = frame + tap - k // 2
            if 0 <= seen < t:
                y[:, :, frame] += u[:, :, seen] @ weight[:, :, tap].T
    return y if bias is None else y + bias[:, None]


def normalise(h: torch.Tensor, norm: str) -> torch.Tensor:
    if norm == "batch":  # running statistics at their start, weight 1 and bias 0
        return h / torch.sqrt(torch.tensor(1 + 1e-5))
    if norm == "layer":
        return (h - h.mean(1, keepdim=True)) / torch.sqrt(h.var(1, unbiased=False, keepdim=True) + 1e-5)
    return h


@pytest.mark.parametrize("kernels", [(1,), (3,), (5,), (1, 1), (3, 1), (1, 3), (3, 3), (5, 3)])
@pytest.mark.parametrize("global_descriptor", [False, True])
@pytest.mark.parametrize("descriptor", ["average", "max"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("init", ["random", "without_one"])
def test_equals_its_formula(kernels, global_descriptor, descriptor, norm, init):
    context = Context(kernels=kernels, global_descriptor=global_descriptor, descriptor=descriptor, norm=norm)
    function = ContextFunction(8, 5, context, init).double().eval()
    x = torch.randn(2, 8, 4, 3, 3, dtype=torch.float64)
    v = x.flatten(3).max(3).values if descriptor == "max" else x.flatten(3).sum(3) / 9
    u = v
    if global_descriptor:
        u = v + (v.mean(2) @ function.fc.weight.T + function.fc.bias)[:, :, None]
    if len(kernels) == 2:
        first = function.hidden[0]
        u = normalise(conv1d_by_definition(u, first.weight, first.bias), norm).clamp(min=0)
    expected = conv1d_by_definition(u, function.last.weight, None) + (init == "random")
    torch.testing.assert_close(function(x), expected)


@pytest.mark.parametrize("variation", ["dynamic", "time_invariant", "static"])
@pytest.mark.parametrize("kernels", [(3,), (3, 3)])
def test_identity_init_is_exactly_one(variation, kernels):
    function = ContextFunction(6, 9, Context(kernels=kernels, variation=variation))
    assert torch.equal(function(torch.randn(2, 6, 4, 3, 3)), torch.ones(2, 9, 4))


@pytest.mark.parametrize(("variation", "over_time", "over_clips"), [
    ("dynamic", True, True), ("time_invariant", False, True), ("static", False, False),
])  # fmt: skip
def test_variation_is_over_frames_or_clips(variation, over_time, over_clips):
    function = ContextFunction(6, 9, Context(variation=variation), "random").eval()
    alpha = function(torch.randn(2, 6, 4, 3, 3))
    assert alpha.shape == (2, 9, 4)
    assert (alpha.std(2) > 0).any().item() is over_time
    assert (alpha.std(0) > 0).any().item() is over_clips


@pytest.mark.parametrize(("kernels", "global_descriptor", "reach"), [
    ((1,), False, 0), ((3,), False, 1), ((1, 1), False, 0), ((3, 1), False, 1), ((1, 3), False, 1), ((3, 3), False, 2),
    ((1,), True, 9), ((1, 1), True, 9), ((3, 3), True, 9),
])  # fmt: skip
def test_a_frame_is_calibrated_by_the_frames_within_reach_and_no_others(kernels, global_descriptor, reach):
    context = Context(kernels=kernels, global_descriptor=global_descriptor, norm="none", reduction=1)
    function = ContextFunction(16, 4, context, "random").double()
    x = torch.randn(1, 16, 9, 2, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x)[0, :, 4].sum(), x)
    seen = gradient.abs().sum((0, 1, 3, 4)) > 0
    assert seen.tolist() == [abs(t - 4) <= reach for t in range(9)]


def test_biases_are_where_the_paper_has_them():
    function = ContextFunction(8, 8, Context())
    assert function.fc.bias is not None
    assert function.hidden[0].bias is not None
    assert function.last.bias is None


def test_hidden_layer_has_one_channel_at_least():
    assert ContextFunction(3, 3, Context(reduction=16)).last.weight.shape == (3, 1, 3)
