"""Aggregation against PyTorch's own pooling and the definitions of the norms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tadaconv.nn import AggregatedBatchNorm2d, TemporalPool
from tadaconv.nn.aggregation import AggregatedBatchNorm3d, AggregatedLayerNorm2d
from tadaconv.nn.frames import FrameBatchNorm2d, FrameLayerNorm2d
from tadaconv.spec import Aggregation


def pooled(kind: str, x: torch.Tensor, k: int) -> torch.Tensor:
    """The pooling as PyTorch spells it."""
    average, largest = (
        pool(F.pad(x, (0, 0, 0, 0, k // 2, k // 2), value=fill), (k, 1, 1), 1)
        for pool, fill in ((F.avg_pool3d, 0.0), (F.max_pool3d, float("-inf")))
    )
    return {"average": average, "max": largest, "mix": (average + largest) / 2, "conv": average}[kind]


@pytest.mark.parametrize("kind", ["average", "max", "mix", "conv"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("frames", [1, 2, 8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_pools_as_pytorch_does_with_its_gradient(kind, kernel, frames, layout):
    x = torch.randn(2, 3, frames, 4, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    ours = TemporalPool(3, Aggregation(kind=kind, kernel=kernel)).double()(x)
    theirs = pooled(kind, x, kernel)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, upstream)[0] for y in (ours, theirs)))


def test_learned_aggregation_is_a_channelwise_temporal_convolution():
    pool = TemporalPool(4, Aggregation(kind="conv", kernel=3))
    nn.init.normal_(pool.weight)
    x = torch.randn(2, 4, 6, 3, 3)
    expected = F.conv3d(x, pool.weight[:, None, :, None, None], padding=(1, 0, 0), groups=4)
    torch.testing.assert_close(pool(x), expected)


NORMS = {
    "batch norm of frames": (FrameBatchNorm2d, AggregatedBatchNorm2d, "bn_pool"),
    "batch norm of clips": (nn.BatchNorm3d, AggregatedBatchNorm3d, "bn_pool"),
    "layer norm": (FrameLayerNorm2d, AggregatedLayerNorm2d, "ln_pool"),
}
"""The norm of a host, the one that takes its place, and the name of the branch that is added."""


def independent(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The norm by its definition: over clips, frames and space for a channel, or over channels for a position."""
    axes = (1,) if isinstance(norm, nn.LayerNorm) else (0, 2, 3, 4)
    mean, var = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d) and not norm.training:
        mean, var = (statistic[:, None, None, None] for statistic in (norm.running_mean, norm.running_var))
    scale, shift = (value[:, None, None, None] for value in (norm.weight, norm.bias))
    return (x - mean) / (var + norm.eps).sqrt() * scale + shift


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("kind", ["average", "max", "mix", "conv"])
def test_starts_as_exactly_the_norm_it_replaces(name, kind, training):
    plain_type, aggregated_type, second = NORMS[name]
    x = torch.randn(2, 4, 3, 5, 5)
    plain, aggregated = plain_type(4).train(training), aggregated_type(4, Aggregation(kind=kind)).train(training)
    nn.init.normal_(plain.weight)
    missing = aggregated.load_state_dict(plain.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert {key.partition(".")[0] for key in missing.missing_keys} <= {second, "pool"}
    assert torch.equal(plain(x), aggregated(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_is_the_sum_of_two_norms_with_its_gradient(name, layout, training):
    _, aggregated_type, second_name = NORMS[name]
    aggregated = aggregated_type(4, Aggregation(kernel=3)).double().train(training)
    first, second = aggregated.norm, getattr(aggregated, second_name)
    for norm in (first, second):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        for statistic in (getattr(norm, "running_mean", None), getattr(norm, "running_var", None)):
            if statistic is not None:
                nn.init.uniform_(statistic, 0.5, 1.5)
    x = torch.randn(2, 4, 6, 5, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    expected = independent(first, x) + independent(second, F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0)))
    ours = aggregated(x)
    torch.testing.assert_close(ours, expected)
    inputs, upstream = [x, aggregated.weight, second.weight, second.bias], torch.randn_like(expected)
    for mine, theirs in zip(*(torch.autograd.grad(y, inputs, upstream) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)
    if layout == torch.channels_last_3d:
        assert ours.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("name", NORMS)
def test_no_aggregation_is_no_layer(name):
    with pytest.raises(ValueError, match="keep the plain norm"):
        NORMS[name][1](4, Aggregation(kind="none"))
