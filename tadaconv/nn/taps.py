"""Convolutions whose taps are scaled frame by frame, without keeping the unfolded input.

A factor that differs from tap to tap belongs to neither the input nor the output, so the input is unfolded and scaled,
and one matrix product with the shared kernel does the rest. Unfolded, a clip is as many times larger as the kernel has
taps: it is computed for a few frames at a time, once for the output and once more for the gradients, and not stored.
"""

import importlib.util
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from tadaconv.nn.precision import autocast_dtype, without_autocast
from tadaconv.nn.tracing import is_traced
from tadaconv.nn.window import Window, conv_in_one_piece, gradients_with_graph

PIECE_BYTES = {"cpu": 2**23, "cuda": 2**29, "meta": 2**23}
"""The size of a piece of the unfolded input: on the CPU it should fit the cache, on a GPU keep it busy.

The meta device, on which costs are counted, is counted as the CPU."""

FUSED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The types that the kernels of :mod:`tadaconv.nn.fused` compute in."""

HAS_TRITON = importlib.util.find_spec("triton") is not None

_fused_is_on = False


def _columns(window: Window, padded_BHWGC: Tensor, taps_BCK: Tensor, size: tuple[int, int]) -> Tensor:
    """The unfolded, scaled input, (G, B, H', W', K, I)."""
    batch, *_, groups, channels = padded_BHWGC.shape
    columns = padded_BHWGC.new_empty(groups, batch, *size, window.num_taps, channels)
    for tap, (seen, factor) in enumerate(zip(window.shifted(padded_BHWGC, size), window.by_tap(taps_BCK), strict=True)):
        torch.mul(seen, factor, out=columns[..., tap, :])
    return columns


def _pieces(window: Window, x_BCHW: Tensor, size: tuple[int, int]) -> Iterator[slice]:
    """Frames that are unfolded together."""
    frame_bytes = x_BCHW.shape[1] * window.num_taps * size[0] * size[1] * x_BCHW.element_size()
    step = max(1, PIECE_BYTES[x_BCHW.device.type] // max(1, frame_bytes))
    for start in range(0, x_BCHW.shape[0], step):
        yield slice(start, start + step)


class _ScaledTaps(Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight_OIKK: Tensor, taps_BCK: Tensor, window: Window) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight_OIKK, taps_BCK)
        ctx.window = window
        size, kernels = window.size_out(x_BCHW), window.kernels(weight_OIKK)
        y_BHWGO = x_BCHW.new_empty(x_BCHW.shape[0], *size, window.groups, kernels.shape[2])
        for frames in _pieces(window, x_BCHW, size):
            columns = _columns(window, window.pad(x_BCHW[frames]), taps_BCK[frames], size)
            product = torch.bmm(columns.flatten(4).flatten(1, 3), kernels)  # (G, B * P, O / G)
            y_BHWGO[frames] = product.unflatten(1, (-1, *size)).permute(1, 2, 3, 0, 4)
        return y_BHWGO.flatten(3).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, g_BOHW: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, taps = ctx.saved_tensors
        window: Window = ctx.window
        if torch.is_grad_enabled():  # a second derivative is needed
            return (*gradients_with_graph(x, weight, taps, window, ctx.needs_input_grad[:3], g_BOHW), None)
        size, kernels = window.size_out(x), window.kernels(weight)
        g_kernels, g_taps, g_x = torch.zeros_like(kernels), torch.empty_like(taps), torch.empty_like(x)
        for frames in _pieces(window, x, size):
            padded, factors = window.pad(x[frames]), taps[frames]
            g_GPO = g_BOHW[frames].permute(0, 2, 3, 1).unflatten(3, (window.groups, -1)).permute(3, 0, 1, 2, 4)
            g_GPO = g_GPO.flatten(1, 3)
            columns = _columns(window, padded, factors, size).flatten(4).flatten(1, 3)
            g_kernels += torch.bmm(columns.transpose(1, 2), g_GPO)
            torch.bmm(g_GPO, kernels.transpose(1, 2), out=columns)
            g_columns = columns.unflatten(1, (-1, *size)).unflatten(4, (window.num_taps, -1))
            g_padded = torch.zeros_like(padded)
            parts = zip(
                window.shifted(padded, size), window.shifted(g_padded, size), window.by_tap(factors), strict=True
            )
            by_tap = []
            for tap, (seen, g_seen, factor) in enumerate(parts):
                g_tap = g_columns[..., tap, :]
                by_tap.append((g_tap * seen).sum((2, 3), dtype=taps.dtype))  # (G, B, I)
                g_seen.addcmul_(g_tap, factor.to(g_tap.dtype))
            by_channel = torch.stack(by_tap, 3).transpose(0, 1).flatten(1, 2)
            g_taps[frames] = by_channel.sum(1, keepdim=True) if taps.shape[1] == 1 else by_channel
            (top, left), (height, width) = window.padding, x.shape[2:]
            inner = g_padded[:, top : top + height, left : left + width]
            g_x[frames] = inner.flatten(3).permute(0, 3, 1, 2)
        channels = weight.shape[1]
        g_weight = g_kernels.unflatten(1, (-1, channels)).permute(0, 3, 2, 1).reshape(weight.shape)
        return g_x, g_weight, g_taps, None


def _depthwise(x_BCHW: Tensor, weight_O1KK: Tensor, taps_BCK: Tensor, window: Window) -> Tensor:
    """One grouped convolution over the frames' own kernels, which here are no larger than the calibration is."""
    batch, channels = x_BCHW.shape[:2]
    taps_BOK = taps_BCK.repeat_interleave(weight_O1KK.shape[0] // taps_BCK.shape[1], 1)
    kernels = (taps_BOK.unflatten(2, window.kernel) * weight_O1KK[:, 0]).to(x_BCHW.dtype).flatten(0, 1)
    frames = x_BCHW.contiguous().view(1, batch * channels, *x_BCHW.shape[2:])
    y = F.conv2d(frames, kernels[:, None], None, window.stride, window.padding, window.dilation, batch * channels)
    return y.view(batch, -1, *y.shape[2:]).contiguous(memory_format=torch.channels_last)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _compiles_for(device_index: int) -> bool:
    """Whether Triton's compiler makes kernels of our size for this GPU: an NVIDIA one since Ampere."""
    return HAS_TRITON and torch.version.hip is None and torch.cuda.get_device_capability(device_index) >= (8, 0)


def has_fused_kernels(device: torch.device) -> bool:
    """Whether there are kernels of :mod:`tadaconv.nn.fused` for ``device``."""
    return device.type == "cuda" and _compiles_for(
        torch.cuda.current_device() if device.index is None else device.index
    )


@contextmanager
def fused_kernels(on: bool = True) -> Generator[None]:
    """Within it, the kernels of :mod:`tadaconv.nn.fused` are on, or off, for convolutions with tap factors.

    They are off by default. It applies to all threads of the process; a backward pass uses the same form as its forward
    pass.
    """
    global _fused_is_on
    before, _fused_is_on = _fused_is_on, on
    try:
        yield
    finally:
        _fused_is_on = before


def _can_be_fused(x_BCHW: Tensor, weight_OIKK: Tensor, groups: int) -> bool:
    """Whether :mod:`tadaconv.nn.fused` can take this convolution."""
    fits = groups == 1 and x_BCHW.dtype in FUSED_DTYPES and weight_OIKK.dtype == x_BCHW.dtype
    return fits and x_BCHW.is_cuda and _compiles_for(x_BCHW.device.index)


def conv_on_scaled_taps(x_BCHW: Tensor, weight_OIKK: Tensor, taps_BCK: Tensor, window: Window) -> Tensor:
    """Convolve frame b with ``weight * taps_b``.

    Args:
        x_BCHW: frames, (B, C, H, W).
        weight_OIKK: the shared kernel, (O, I, kh, kw).
        taps_BCK: the factors of each frame, (B, C or 1, kh * kw).
        window: where the taps are.

    Returns:
        (B, O, H', W').
    """
    device = x_BCHW.device.type
    if (dtype := autocast_dtype(device)) is not None:  # as conv2d would
        x_BCHW, weight_OIKK = x_BCHW.to(dtype), weight_OIKK.to(dtype)
    if weight_OIKK.shape[1] == 1:
        return _depthwise(x_BCHW, weight_OIKK, taps_BCK, window)
    with without_autocast(device):
        # A compiler sees the fused form as one operation; a tracer cannot see it.
        fused = _fused_is_on and _can_be_fused(x_BCHW, weight_OIKK, window.groups)
        if fused and (torch.compiler.is_compiling() or not is_traced()):
            from tadaconv.nn.fused import fused_conv_on_scaled_taps

            return fused_conv_on_scaled_taps(x_BCHW, weight_OIKK, taps_BCK, window)
        if is_traced() or device not in PIECE_BYTES:
            return conv_in_one_piece(x_BCHW, weight_OIKK, taps_BCK, window)
        return cast(Tensor, _ScaledTaps.apply(x_BCHW, weight_OIKK, taps_BCK, window))  # type: ignore[no-untyped-call]
