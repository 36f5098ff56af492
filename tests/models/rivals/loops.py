"""What the tests of rivals share: hosts to take the place of, sums written out as loops, gradients beside outputs."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from tadaconv.models.rivals import RIVALS
from tadaconv.nn import FrameConv2d


def frame_conv(*arguments: int, **options: object) -> FrameConv2d:
    """A per-frame convolution in float64."""
    return FrameConv2d(*arguments, **options).double()


def make(name: str, conv: nn.Module, num_frames: int | None = None, **options: object) -> nn.Module:
    """The rival in place of ``conv``."""
    return RIVALS[name].replace(conv, num_frames, options)


def clips(*shape: int, seed: int = 0) -> Tensor:
    """Random clips in float64, laid out as networks have them, that take a gradient."""
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()


def conv_of_frame(x_CHW: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
    """One frame convolved with one kernel, as loops over output channels, input channels and taps."""
    rows, columns = conv.padding
    padded = nn.functional.pad(x_CHW, (columns, columns, rows, rows))
    (kh, kw), (sh, sw), (dh, dw) = conv.kernel_size, conv.stride, conv.dilation
    height = (padded.shape[1] - dh * (kh - 1) - 1) // sh + 1
    width = (padded.shape[2] - dw * (kw - 1) - 1) // sw + 1
    outputs = []
    for o in range(weight.shape[0]):
        total = x_CHW.new_zeros(height, width) if bias is None else bias[o].expand(height, width)
        first = o // (weight.shape[0] // conv.groups) * weight.shape[1]
        for i in range(weight.shape[1]):
            for a in range(kh):
                for b in range(kw):
                    seen = padded[first + i, a * dh :: sh, b * dw :: sw][:height, :width]
                    total = total + weight[o, i, a, b] * seen
        outputs.append(total)
    return torch.stack(outputs)


def by_frame(x: Tensor, function: Callable[[int, int], Tensor]) -> Tensor:
    """A clip of what ``function`` says of every clip and frame."""
    return torch.stack([torch.stack([function(n, t) for t in range(x.shape[2])], 1) for n in range(x.shape[0])])


def average(x_CHW: Tensor) -> Tensor:
    """The mean of every channel, summed pixel by pixel."""
    total = x_CHW.new_zeros(x_CHW.shape[0])
    for h in range(x_CHW.shape[1]):
        for w in range(x_CHW.shape[2]):
            total = total + x_CHW[:, h, w]
    return total / (x_CHW.shape[1] * x_CHW.shape[2])


def scatter(parameters: Iterator[nn.Parameter]) -> None:
    """Move parameters off their start, where some are zero or equal."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def assert_same(actual: Tensor, expected: Tensor, sources: Sequence[Tensor]) -> None:
    """Equal outputs, and equal gradients of ``sources``, each of which the outputs depend on."""
    torch.testing.assert_close(actual, expected)
    cotangent = torch.randn(expected.shape, dtype=expected.dtype, generator=torch.Generator().manual_seed(9))
    found = torch.autograd.grad(actual, sources, cotangent)
    for gradient, true in zip(found, torch.autograd.grad(expected, sources, cotangent), strict=True):
        torch.testing.assert_close(gradient, true)
        assert gradient.abs().sum() > 0
