"""The least work of a network, by formula, against what is counted by doing it."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tadaconv.bench.op import SHAPES, Shape, plain
from tadaconv.bench.record import Work
from tadaconv.bench.roofline import least_work
from tadaconv.nn import FrameBatchNorm2d, FrameConv2d


def products(conv: nn.Conv2d, side: int) -> int:
    """The multiply-adds of one frame, one by one, those with the padding's zeros included."""
    out_side = (side + 2 * int(conv.padding[0]) - conv.kernel_size[0]) // conv.stride[0] + 1
    count = 0
    for out in range(conv.out_channels):
        group = out // (conv.out_channels // conv.groups)
        for channel in range(conv.in_channels):
            if channel // (conv.in_channels // conv.groups) == group:
                count += sum(1 for _ in range(out_side**2) for _ in range(conv.kernel_size[0] * conv.kernel_size[1]))
    return count


@pytest.mark.parametrize(("groups", "stride", "bias"), [(1, 1, False), (1, 2, True), (2, 1, False), (4, 1, True)])
def test_a_convolution_moves_every_tensor_once_and_multiplies_as_a_loop_does(
    groups: int, stride: int, bias: bool
) -> None:
    conv = FrameConv2d(4, 8, 3, stride, 1, groups=groups, bias=bias)
    clips = torch.randn(2, 4, 3, 5, 5, requires_grad=True)
    output = conv(clips)
    output.sum().backward()
    assert clips.grad is not None
    weights = list(conv.parameters())
    gradients = [w.grad for w in weights if w.grad is not None]

    work = least_work(conv, clips)

    moved = [clips, output, *weights]
    assert work["forward"] == Work(bytes=sum(t.nbytes for t in moved), multiply_adds=2 * 3 * products(conv, 5))
    back: list[Tensor] = [clips, output, *weights, clips.grad, *gradients]  # a gradient is as large as its tensor
    assert work["backward"] == Work(bytes=sum(t.nbytes for t in back), multiply_adds=4 * 3 * products(conv, 5))
    assert work["both"] == work["forward"] + work["backward"]


def test_a_network_is_the_sum_of_its_layers_as_torch_counts_them() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn = FrameConv2d(3, 8, 3, padding=1), FrameBatchNorm2d(8)
            self.conv2, self.fc = FrameConv2d(8, 16, 1), nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.fc(self.conv2(torch.relu(self.bn(self.conv1(x)))).mean((2, 3, 4)))
            return scores

    network, clips = Network(), torch.randn(2, 3, 4, 6, 6)
    work = least_work(network, clips)

    with FlopCounterMode(display=False) as forward:
        loss = network(clips).sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    assert work["forward"].multiply_adds == forward.get_total_flops() / 2
    assert work["backward"].multiply_adds == backward.get_total_flops() / 2  # the clips take no gradient
    assert not any(parameter.is_meta for parameter in network.parameters())


def test_bytes_follow_the_dtype() -> None:
    shape = Shape(8, 8)
    full, half = (
        least_work(plain(shape), torch.zeros(1, 8, 2, 4, 4, dtype=d)) for d in (torch.float32, torch.bfloat16)
    )

    assert full["both"].bytes == 2 * half["both"].bytes
    assert full["both"].multiply_adds == half["both"].multiply_adds


def test_the_shapes_are_those_of_the_networks_at_224_pixels() -> None:
    sizes = {name: (shape.channels, 224 // shape.stride) for name, shape in SHAPES.items()}

    assert [sizes[f"res{stage}"] for stage in (2, 3, 4, 5)] == [(64, 56), (128, 28), (256, 14), (512, 7)]
    assert [sizes[f"next{stage}"] for stage in (2, 3, 4, 5)] == [(96, 56), (192, 28), (384, 14), (768, 7)]
