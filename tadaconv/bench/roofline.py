"""The least that a plain network must do, by formula: bytes that move, and multiply-adds.

A layer reads input and weights and writes its output; going back it reads the output's gradient, the input and the
weights, and writes the gradients of input and weights. X, Y and P being the numbers in input, output and parameters,

    forward   X + Y + P numbers, M multiply-adds
    backward  2 X + Y + 2 P numbers, 2 M multiply-adds;  X + Y + P and M if the input takes no gradient

with M = Y * I / groups * kernel for a convolution, Y * in_features for a linear layer, and 0 for a norm. Layers
without parameters count nothing, as they can be merged into their neighbours.

Every method is compared with the plain network's work: more work is not counted, so that fractions are comparable.
"""

from copy import deepcopy
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from tadaconv.bench.record import Phase, Work


def _multiply_adds(layer: nn.Module, output: Tensor) -> int:
    if isinstance(layer, nn.Conv2d | nn.Conv3d):
        return output.numel() * layer.in_channels // layer.groups * prod(layer.kernel_size)
    return output.numel() * layer.in_features if isinstance(layer, nn.Linear) else 0


def least_work(network: nn.Module, clips: Tensor) -> dict[Phase, Work]:
    """The work of ``network`` on ``clips``, (N, C, T, H, W), both in the numbers' size of ``clips``.

    Traced without computing anything. Whether ``clips`` require a gradient counts.
    """
    forward, backward = Work(bytes=0, multiply_adds=0), Work(bytes=0, multiply_adds=0)

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal forward, backward
        x, y, p = inputs[0].numel(), output.numel(), sum(w.numel() for w in layer.parameters())
        macs, size = _multiply_adds(layer, output), clips.element_size()
        to_input = int(inputs[0].requires_grad)
        forward += Work(bytes=(x + y + p) * size, multiply_adds=macs)
        backward += Work(bytes=(x + y + p + to_input * (x + p)) * size, multiply_adds=(1 + to_input) * macs)

    traced = deepcopy(network).to("meta", clips.dtype)
    for layer in traced.modules():
        if not list(layer.children()) and list(layer.parameters()):
            layer.register_forward_hook(add)
    traced(torch.empty(clips.shape, dtype=clips.dtype, device="meta", requires_grad=clips.requires_grad))
    return {"forward": forward, "backward": backward, "both": forward + backward}
