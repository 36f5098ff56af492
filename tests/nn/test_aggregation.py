"""Aggregation against PyTorch's own pooling and batch norms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tadaconv.nn import AggregatedBatchNorm2d, TemporalPool
from tadaconv.nn.frames import FrameBatchNorm2d
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


@pytest.mark.parametrize("training", [True, False])
def test_starts_as_exactly_the_batch_norm_it_replaces(training):
    x = torch.randn(2, 4, 3, 5, 5)
    plain, aggregated = FrameBatchNorm2d(4).train(training), AggregatedBatchNorm2d(4, Aggregation()).train(training)
    assert torch.equal(plain(x), aggregated(x))


@pytest.mark.parametrize("training", [True, False])
def test_is_the_sum_of_two_batch_norms(training):
    aggregated = AggregatedBatchNorm2d(4, Aggregation(kernel=3)).double().train(training)
    first, second = nn.BatchNorm3d(4).double().train(training), nn.BatchNorm3d(4).double().train(training)
    for mine, theirs in ((aggregated, first), (aggregated.bn_pool, second)):
        for name in ("weight", "bias"):
            value = torch.randn(4, dtype=torch.float64)
            getattr(mine, name).data.copy_(value)
            getattr(theirs, name).data.copy_(value)
    x = torch.randn(2, 4, 6, 5, 5, dtype=torch.float64)
    expected = first(x) + second(F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0)))
    torch.testing.assert_close(aggregated(x), expected)


def test_no_aggregation_is_no_layer():
    with pytest.raises(ValueError, match="keep the plain norm"):
        AggregatedBatchNorm2d(4, Aggregation(kind="none"))
