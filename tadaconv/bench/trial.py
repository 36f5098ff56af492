"""A trial of a method: passes forward and backward, timed separately."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tadaconv.bench.device import Clock
from tadaconv.nn import TAdaConv2d, fused_kernels
from tadaconv.nn.frames import channels_last
from tadaconv.nn.naive import naive_tada_conv2d

Form = Literal["eager", "naive", "fused"]
"""How an adaptive convolution is computed: as it is, with a kernel for every frame, or with fused kernels for taps."""

Timed = dict[str, float]
"""Seconds of one pass, ``forward`` and ``backward``."""


class NaiveTAdaConv2d(nn.Module):
    """An adaptive convolution, context and weights included, that builds a kernel for every frame."""

    def __init__(self, conv: TAdaConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) to (N, O, T, H', W')."""
        conv: Any = self.conv
        alpha, geometry = conv.context(x_NCTHW), (conv.stride, conv.padding, conv.dilation, conv.groups)
        return naive_tada_conv2d(x_NCTHW, conv.weight, alpha, conv.bias, *geometry, conv.calibration)


def naive(network: nn.Module) -> nn.Module:
    """``network`` with a kernel for every frame in each of its adaptive convolutions, which are shared with it."""
    for name, module in list(network.named_modules()):
        if isinstance(module, TAdaConv2d):
            network.set_submodule(name, NaiveTAdaConv2d(module))
    return network


class Trial:
    """Forward and backward of one network on its clips.

    Args:
        network: which is moved to the device of ``clips``, channels-last and in training mode.
        clips: (N, C, T, H, W), channels-last.
        form: how adaptive convolutions are computed.
        compiled: whether ``torch.compile`` compiles it, in the first trial.
        loss: from the network's output to the scalar whose gradient is computed, timed with the forward pass; None
            backpropagates ``gradient`` from the output itself.
        gradient: of the output.
        autocast: the context of the forward pass.
    """

    def __init__(
        self,
        network: nn.Module,
        clips: Tensor,
        form: Form,
        compiled: bool,
        *,
        loss: Callable[[Tensor], Tensor] | None = None,
        gradient: Tensor | None = None,
        autocast: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.fused, self.clips = form == "fused", clips
        self.network = channels_last((naive(network) if form == "naive" else network).to(clips.device).train())
        self.loss, self.gradient, self.autocast = loss, gradient, autocast or nullcontext()
        self.run = torch.compile(self.network, dynamic=False) if compiled else self.network

    def forward(self) -> Tensor:
        """The network's output, or its loss."""
        with self.autocast, fused_kernels(self.fused):
            output: Tensor = self.run(self.clips)
            return output if self.loss is None else self.loss(output)

    def __call__(self, repeats: int = 1) -> Timed:
        """Mean seconds of a pass over ``repeats`` passes."""
        clock = Clock(self.clips.device)
        marks = []
        clock.wait()
        for _ in range(repeats):
            self.network.zero_grad(set_to_none=True)
            self.clips.grad = None
            start = clock.mark()
            output = self.forward()
            middle = clock.mark()
            output.backward(self.gradient)
            marks.append((start, middle, clock.mark()))
        clock.wait()
        return {
            "forward": sum(clock.seconds(start, middle) for start, middle, _ in marks) / repeats,
            "backward": sum(clock.seconds(middle, end) for _, middle, end in marks) / repeats,
        }
