"""What a method does in its trial, timed forward and backward, and the memory it takes to do it."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tadaconv.bench.device import Clock, tune_cudnn
from tadaconv.errors import RunError
from tadaconv.measure import peak_memory_bytes, reset_peak_memory
from tadaconv.nn import TAdaConv2d, fused_kernels
from tadaconv.nn.naive import naive_tada_conv2d

Form = Literal["eager", "naive", "fused"]
"""Of an adaptive convolution: ours, one with a kernel for every frame, or ours with the fused kernels for taps."""

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
    """Forward and backward of one network on clips of its own.

    Args:
        network: in training mode, on the device of ``clips``.
        clips: (N, C, T, H, W), channels-last.
        loss: from the network's output to the scalar whose gradient is taken, timed with the forward pass; None sends
            ``gradient`` back from the output itself.
        gradient: of the output.
        autocast: within which the forward pass runs.
        compiled: by ``torch.compile``, in the first trial.
        fused: with the fused kernels, where there are any.
    """

    def __init__(
        self,
        network: nn.Module,
        clips: Tensor,
        *,
        loss: Callable[[Tensor], Tensor] | None = None,
        gradient: Tensor | None = None,
        autocast: AbstractContextManager[Any] | None = None,
        compiled: bool = False,
        fused: bool = False,
    ) -> None:
        self.fused = fused
        self.network, self.clips = network, clips
        self.loss, self.gradient, self.autocast = loss, gradient, autocast or nullcontext()
        self.run = torch.compile(network, dynamic=False) if compiled else network

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


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes started within never see Ctrl-C: it is for the one that starts them, which ends them."""
    resource_tracker.ensure_running()  # starting it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send_peak(make: Callable[[], Trial], num_threads: int, sender: Connection) -> None:
    found: int | Exception
    try:
        found = _peak(make, num_threads)
    except Exception as error:
        found = error  # raised where the number is awaited
    with suppress(BrokenPipeError):  # after Ctrl-C nobody awaits it
        sender.send(found)


def _peak(make: Callable[[], Trial], num_threads: int) -> int:
    torch.set_num_threads(num_threads)
    trial = make()
    tune_cudnn(trial.clips.device)
    trial()
    reset_peak_memory(trial.clips.device)
    trial()
    return peak_memory_bytes(trial.clips.device)


def peaks(makes: list[Callable[[], Trial]]) -> Iterator[int]:
    """Bytes at the peak of a second trial, each in a process of its own; on the CPU all that the process holds counts.

    Every process is forked from one that has imported this module and done nothing else: one started afresh would
    inherit the peak of the process that starts it.

    Raises:
        RunError: a process was ended, most likely for the lack of memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for make in makes:
        yield _peak_apart(make, context)


def _peak_apart(make: Callable[[], Trial], context: ForkServerContext) -> int:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak, args=(make, torch.get_num_threads(), sender), daemon=True)
    with receiver:
        try:
            with sender, _uninterrupted():
                process.start()
            found: int | Exception = receiver.recv()
        except EOFError as error:
            raise RunError("a process that measured memory was ended, most likely for the lack of it") from error
        finally:
            if process.pid is not None:
                process.kill()
                process.join()
    if isinstance(found, Exception):
        raise found
    return found
