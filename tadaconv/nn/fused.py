"""Convolutions on scaled taps as Triton kernels: inputs are scaled while they are loaded for the matrix product.

The eager form in :mod:`tadaconv.nn.taps` writes the unfolded, scaled input to memory before it multiplies. Here it
is never stored: a tile is loaded from the frames where a tap sees them, scaled in float32, rounded to the type of the
frames as the eager form does, and multiplied with the kernel; sums are kept in float32. Three kernels:

- the output: a tile is positions of one frame by output channels, summed over taps and input channels;
- the gradients of the frames and of the factors: a tile is positions of one frame by input channels. What one tap
  gathers over the output channels goes, times the factor, into the first; times the frame and summed, into the second;
- the gradient of the shared kernel: a tile is input by output channels of one tap, summed over positions and frames.

As the positions of a tile are of one frame, the factors of a tap are one vector of channels. There are no atomic
sums: partial sums of several programs are written separately and summed afterwards, so two runs are equal bit by bit.
For the same reason tiles depend only on shapes and types and are not tuned at run time.

In float32 the products are IEEE or TF32 according to PyTorch's setting for matrix products (IEEE by default), as in the
eager form. One group only; frames that are not channels-last are copied.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import triton
import triton.language as tl
from torch import Tensor

from tadaconv.nn.window import Window, gradients_with_graph

NUM_PROGRAMS = 512
"""How many programs share the gradient of the kernel where it has fewer tiles: some for each multiprocessor."""


@dataclass(frozen=True)
class Tile:
    """The work of a program: ``rows`` by ``columns`` of a result, in steps of ``depth`` terms of each sum."""

    rows: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int


def choose_tile(rows: int, columns: int, dtype: torch.dtype) -> Tile:
    """The tile for a matrix of ``rows`` by ``columns``.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        dtype: of the factors of the product.
    """
    if dtype == torch.float32:
        return Tile(64, 64, 32, num_warps=4, num_stages=3)
    wide = columns > 64
    if rows <= 64:
        return Tile(64, 128 if wide else 64, 64, num_warps=4, num_stages=3)
    return Tile(128, 128 if wide else 64, 64, num_warps=8, num_stages=3)


@triton.jit
def _seen(p, tap, height, width, height_out, width_out, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
          PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr):  # fmt: skip
    """The pixel that ``tap`` sees from output position ``p``, and whether there is one."""
    row = p // width_out * SH - PH + tap // KW * DH
    column = p % width_out * SW - PW + tap % KW * DW
    inside = (p < height_out * width_out) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return row * width + column, inside


@triton.jit
def _factors(taps_ptr, frame, c, tap, C_IN, taps_frame, taps_channel, taps_tap):
    """The factors of the channels ``c`` for one tap of one frame."""
    at = taps_ptr + frame * taps_frame + c * taps_channel + tap * taps_tap
    return tl.load(at, mask=c < C_IN, other=0.0).to(tl.float32)


@triton.jit
def _output_kernel(
    x_ptr, weight_ptr, taps_ptr, y_ptr,
    C_IN, C_OUT, height, width, height_out, width_out, taps_frame, taps_channel, taps_tap,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
    DH: tl.constexpr, DW: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """y_BPO from x_BXC, weight_OKC and taps_BCK."""
    o_blocks = tl.cdiv(C_OUT, BLOCK_O)
    p_blocks = tl.cdiv(height_out * width_out, BLOCK_P)
    c_blocks = tl.cdiv(C_IN, BLOCK_C)
    block = tl.program_id(0)
    o = block % o_blocks * BLOCK_O + tl.arange(0, BLOCK_O)
    p = block // o_blocks % p_blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    frame = (block // (o_blocks * p_blocks)).to(tl.int64)
    x_ptr += frame * height * width * C_IN
    y_ptr += frame * height_out * width_out * C_OUT
    y = tl.zeros((BLOCK_P, BLOCK_O), tl.float32)
    for step in range(KH * KW * c_blocks):  # one loop and not two: loads are issued ahead within a loop only
        tap = step // c_blocks
        c = step % c_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
        pixel, inside = _seen(p, tap, height, width, height_out, width_out, KW, SH, SW, PH, PW, DH, DW)
        x = tl.load(x_ptr + pixel[:, None] * C_IN + c[None, :], mask=inside[:, None] & (c < C_IN)[None, :], other=0.0)
        weight = tl.load(
            weight_ptr + o[None, :] * (KH * KW * C_IN) + tap * C_IN + c[:, None],
            mask=(o < C_OUT)[None, :] & (c < C_IN)[:, None],
            other=0.0,
        )
        factors = _factors(taps_ptr, frame, c, tap, C_IN, taps_frame, taps_channel, taps_tap)
        scaled = (x.to(tl.float32) * factors[None, :]).to(x.dtype)
        y = tl.dot(scaled, weight, y, input_precision=PRECISION)
    mask = (p < height_out * width_out)[:, None] & (o < C_OUT)[None, :]
    tl.store(y_ptr + p[:, None] * C_OUT + o[None, :], y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _taps_under(phase, KERNEL: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr,
                STEP: tl.constexpr):  # fmt: skip
    """Which taps ever see the pixels that are ``phase`` behind a multiple of the stride: every STEP-th from the first.

    Returns the first and how many there are.
    """
    first = KERNEL
    for back in tl.static_range(STEP):
        tap = STEP - 1 - back
        if tap < KERNEL:
            first = tl.where((phase + PADDING - tap * DILATION) % STRIDE == 0, tap, first)
    return first, (KERNEL - first + STEP - 1) // STEP


@triton.jit
def _input_gradients_kernel(
    g_ptr, x_ptr, weight_ptr, taps_ptr, g_x_ptr, g_taps_ptr,
    C_IN, C_OUT, height, width, height_out, width_out, taps_frame, taps_channel, taps_tap,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
    DH: tl.constexpr, DW: tl.constexpr, STEP_H: tl.constexpr, STEP_W: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """g_x_BXC, and for each block of pixels its part of the factors' gradient, from g_BPO, x, weight and taps.

    The pixels of a program have their place modulo the stride in common, their phase, so the same taps see them all.
    """
    c_blocks = tl.cdiv(C_IN, BLOCK_C)
    o_blocks = tl.cdiv(C_OUT, BLOCK_O)
    columns_in_phase = tl.cdiv(width, SW)
    q_blocks = tl.cdiv(tl.cdiv(height, SH) * columns_in_phase, BLOCK_Q)
    block = tl.program_id(0)
    c = block % c_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    part = block // c_blocks  # of all parts of all frames
    q = part % q_blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    phase = part // q_blocks % (SH * SW)
    frame = (part // (q_blocks * SH * SW)).to(tl.int64)
    row = phase // SW + q // columns_in_phase * SH
    column = phase % SW + q % columns_in_phase * SW
    pixel = frame * height * width + row * width + column
    mask = ((row < height) & (column < width))[:, None] & (c < C_IN)[None, :]
    g_ptr += frame * height_out * width_out * C_OUT
    g_taps_ptr += part.to(tl.int64) * (KH * KW * C_IN)

    first_h, count_h = _taps_under(phase // SW, KH, SH, PH, DH, STEP_H)
    first_w, count_w = _taps_under(phase % SW, KW, SW, PW, DW, STEP_W)
    x = tl.load(x_ptr + pixel[:, None] * C_IN + c[None, :], mask=mask, other=0.0)
    g_x = tl.zeros((BLOCK_Q, BLOCK_C), tl.float32)
    g_scaled = tl.zeros((BLOCK_Q, BLOCK_C), tl.float32)  # of what one tap sees, after scaling
    for step in range(count_h * count_w * o_blocks):
        i = first_h + step // o_blocks // count_w * STEP_H
        j = first_w + step // o_blocks % count_w * STEP_W
        tap = i * KW + j
        o = step % o_blocks * BLOCK_O + tl.arange(0, BLOCK_O)
        top, left = row + PH - i * DH, column + PW - j * DW  # multiples of the stride, in this phase
        inside = (top >= 0) & (top < height_out * SH) & (left >= 0) & (left < width_out * SW)
        p = top // SH * width_out + left // SW
        g = tl.load(g_ptr + p[:, None] * C_OUT + o[None, :], mask=inside[:, None] & (o < C_OUT)[None, :], other=0.0)
        weight = tl.load(
            weight_ptr + o[:, None] * (KH * KW * C_IN) + tap * C_IN + c[None, :],
            mask=(o < C_OUT)[:, None] & (c < C_IN)[None, :],
            other=0.0,
        )
        g_scaled = tl.dot(g, weight, g_scaled, input_precision=PRECISION)
        if step % o_blocks == o_blocks - 1:  # that was all of this tap
            factors = _factors(taps_ptr, frame, c, tap, C_IN, taps_frame, taps_channel, taps_tap)
            g_x += g_scaled * factors[None, :]
            tl.store(g_taps_ptr + tap * C_IN + c, tl.sum(g_scaled * x.to(tl.float32), 0), mask=c < C_IN)
            g_scaled = tl.zeros((BLOCK_Q, BLOCK_C), tl.float32)
    tl.store(g_x_ptr + pixel[:, None] * C_IN + c[None, :], g_x.to(g_x_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _weight_gradient_kernel(
    g_ptr, x_ptr, taps_ptr, g_weight_ptr, num_frames, frames_a_part,
    C_IN, C_OUT, height, width, height_out, width_out, taps_frame, taps_channel, taps_tap,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
    DH: tl.constexpr, DW: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """For each part of the frames its part of the kernel's gradient, (O, taps, C), from g_BPO, x and taps."""
    c_blocks = tl.cdiv(C_IN, BLOCK_C)
    o_blocks = tl.cdiv(C_OUT, BLOCK_O)
    p_blocks = tl.cdiv(height_out * width_out, BLOCK_P)
    block = tl.program_id(0)
    o = block % o_blocks * BLOCK_O + tl.arange(0, BLOCK_O)
    c = block // o_blocks % c_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    tap = block // (o_blocks * c_blocks) % (KH * KW)
    part = block // (o_blocks * c_blocks * KH * KW)
    first = part * frames_a_part
    g_weight = tl.zeros((BLOCK_C, BLOCK_O), tl.float32)
    for step in range(tl.minimum(frames_a_part, num_frames - first) * p_blocks):
        frame = (first + step // p_blocks).to(tl.int64)
        p = step % p_blocks * BLOCK_P + tl.arange(0, BLOCK_P)
        pixel, inside = _seen(p, tap, height, width, height_out, width_out, KW, SH, SW, PH, PW, DH, DW)
        x = tl.load(
            x_ptr + frame * height * width * C_IN + pixel[None, :] * C_IN + c[:, None],
            mask=inside[None, :] & (c < C_IN)[:, None],
            other=0.0,
        )
        g = tl.load(
            g_ptr + frame * height_out * width_out * C_OUT + p[:, None] * C_OUT + o[None, :],
            mask=(p < height_out * width_out)[:, None] & (o < C_OUT)[None, :],
            other=0.0,
        )
        factors = _factors(taps_ptr, frame, c, tap, C_IN, taps_frame, taps_channel, taps_tap)
        scaled = (x.to(tl.float32) * factors[:, None]).to(x.dtype)
        g_weight = tl.dot(scaled, g, g_weight, input_precision=PRECISION)
    at = (part.to(tl.int64) * C_OUT + o[None, :]) * (KH * KW * C_IN) + tap * C_IN + c[:, None]
    tl.store(g_weight_ptr + at, g_weight, mask=(o < C_OUT)[None, :] & (c < C_IN)[:, None])


def _channels_last(t_BCHW: Tensor) -> Tensor:
    """As (B, H, W, C) in memory; a copy only where they are otherwise."""
    return t_BCHW.permute(0, 2, 3, 1).contiguous()


def _precision() -> str:
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # since PyTorch 2.9, which may refuse to read the older name
        return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    return "tf32" if matmul.allow_tf32 else "ieee"


def _sizes(x_BCHW: Tensor, weight_OIKK: Tensor, taps_BCK: Tensor, window: Window) -> tuple[int, ...]:
    """The arguments of every kernel at run time, in the order of its parameters."""
    strides = taps_BCK.expand(-1, x_BCHW.shape[1], -1).stride()  # a factor all channels share is read for each of them
    return (x_BCHW.shape[1], weight_OIKK.shape[0], *x_BCHW.shape[2:], *window.size_out(x_BCHW), *strides)


def _constants(window: Window) -> dict[str, Any]:
    """The constants that every kernel is compiled for."""
    names = ("KH", "KW", "SH", "SW", "PH", "PW", "DH", "DW")
    values = (*window.kernel, *window.stride, *window.padding, *window.dilation)
    return {**dict(zip(names, values, strict=True)), "PRECISION": _precision()}


def _launch_options(tile: Tile) -> dict[str, int]:
    return {"num_warps": tile.num_warps, "num_stages": tile.num_stages}


_GEOMETRY = "SymInt[] stride, SymInt[] padding, SymInt[] dilation"
_CONV = f"(Tensor x, Tensor weight, Tensor taps, {_GEOMETRY}) -> Tensor"
_INPUT_GRADIENTS = f"(Tensor g, Tensor x, Tensor weight, Tensor taps, {_GEOMETRY}) -> (Tensor, Tensor)"
_WEIGHT_GRADIENT = f"(Tensor g, Tensor x, Tensor weight, Tensor taps, {_GEOMETRY}) -> Tensor"


@torch.library.custom_op("tadaconv::conv_on_scaled_taps", mutates_args=(), schema=_CONV)
def _conv(
    x: Tensor, weight: Tensor, taps: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    window = _window(weight, stride, padding, dilation)
    frames, channels_out = x.shape[0], weight.shape[0]
    height, width = window.size_out(x)
    y_BHWO = x.new_empty(frames, height, width, channels_out)
    tile = choose_tile(height * width, channels_out, x.dtype)
    grid = (frames * triton.cdiv(height * width, tile.rows) * triton.cdiv(channels_out, tile.columns),)
    with torch.cuda.device_of(x):
        _output_kernel[grid](
            _channels_last(x), _channels_last(weight), taps, y_BHWO, *_sizes(x, weight, taps, window),
            **_constants(window), BLOCK_P=tile.rows, BLOCK_O=tile.columns, BLOCK_C=tile.depth, **_launch_options(tile),
        )  # fmt: skip
    return y_BHWO.permute(0, 3, 1, 2)


@torch.library.custom_op("tadaconv::conv_on_scaled_taps_input_gradients", mutates_args=(), schema=_INPUT_GRADIENTS)
def _input_gradients(
    g: Tensor, x: Tensor, weight: Tensor, taps: Tensor,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    window = _window(weight, stride, padding, dilation)
    frames, channels, height, width = x.shape
    (sh, sw), (dh, dw) = window.stride, window.dilation
    pixels_in_phase = triton.cdiv(height, sh) * triton.cdiv(width, sw)
    tile = choose_tile(pixels_in_phase, 64, x.dtype)  # two sums at once: half the columns
    parts = sh * sw * triton.cdiv(pixels_in_phase, tile.rows)
    g_x_BHWC = x.new_empty(frames, height, width, channels)
    # Zeros, since a part stays unwritten where no pixel of its phase is under a tap.
    g_taps_BPKC = x.new_zeros(frames, parts, window.num_taps, channels, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _input_gradients_kernel[(frames * parts * triton.cdiv(channels, tile.columns),)](
            _channels_last(g), _channels_last(x), _channels_last(weight), taps, g_x_BHWC, g_taps_BPKC,
            *_sizes(x, weight, taps, window), **_constants(window),
            STEP_H=sh // math.gcd(sh, dh), STEP_W=sw // math.gcd(sw, dw),
            BLOCK_Q=tile.rows, BLOCK_C=tile.columns, BLOCK_O=tile.depth, **_launch_options(tile),
        )  # fmt: skip
    g_taps_BKC = g_taps_BPKC.sum((1, 3))[..., None] if taps.shape[1] == 1 else g_taps_BPKC.sum(1)
    return g_x_BHWC.permute(0, 3, 1, 2), g_taps_BKC.transpose(1, 2).to(taps.dtype).contiguous()


@torch.library.custom_op("tadaconv::conv_on_scaled_taps_weight_gradient", mutates_args=(), schema=_WEIGHT_GRADIENT)
def _weight_gradient(
    g: Tensor, x: Tensor, weight: Tensor, taps: Tensor,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
) -> Tensor:  # fmt: skip
    window = _window(weight, stride, padding, dilation)
    frames, (channels_out, channels) = x.shape[0], weight.shape[:2]
    tile = choose_tile(channels, channels_out, x.dtype)
    tiles = window.num_taps * triton.cdiv(channels, tile.rows) * triton.cdiv(channels_out, tile.columns)
    frames_a_part = max(1, triton.cdiv(frames * tiles, NUM_PROGRAMS))
    parts = max(1, triton.cdiv(frames, frames_a_part))
    g_weight_POHWC = x.new_empty(parts, channels_out, *window.kernel, channels, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _weight_gradient_kernel[(parts * tiles,)](
            _channels_last(g), _channels_last(x), taps, g_weight_POHWC, frames, frames_a_part,
            *_sizes(x, weight, taps, window), **_constants(window),
            BLOCK_C=tile.rows, BLOCK_O=tile.columns, BLOCK_P=tile.depth, **_launch_options(tile),
        )  # fmt: skip
    return g_weight_POHWC.sum(0).to(weight.dtype).permute(0, 3, 1, 2)


def _window(weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> Window:
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    return Window((weight.shape[2], weight.shape[3]), (sh, sw), (ph, pw), (dh, dw), groups=1)


def _like_channels_last(t: Tensor, *sizes: int) -> Tensor:
    """An empty result, (B, C, H, W), by which a compiler knows shape and layout."""
    return t.new_empty(sizes[0], *sizes[2:], sizes[1]).permute(0, 3, 1, 2)


def _fake_output(x: Tensor, weight: Tensor, _taps: Tensor, *geometry: Sequence[int]) -> Tensor:
    return _like_channels_last(x, x.shape[0], weight.shape[0], *_window(weight, *geometry).size_out(x))


def _fake_input_gradients(
    _g: Tensor, x: Tensor, _weight: Tensor, taps: Tensor, *_: Sequence[int]
) -> tuple[Tensor, Tensor]:
    return _like_channels_last(x, *x.shape), taps.new_empty(taps.shape)


def _fake_weight_gradient(_g: Tensor, _x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return _like_channels_last(weight, *weight.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:3])
    ctx.geometry = inputs[3:]


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, taps = ctx.saved_tensors
    needed = ctx.needs_input_grad[:3]
    if torch.is_grad_enabled():  # a second derivative is needed
        return (*gradients_with_graph(x, weight, taps, _window(weight, *ctx.geometry), needed, g), None, None, None)
    g_x, g_taps = _input_gradients(g, x, weight, taps, *ctx.geometry) if needed[0] or needed[2] else (None, None)
    g_weight = _weight_gradient(g, x, weight, taps, *ctx.geometry) if needed[1] else None
    return g_x, g_weight, g_taps, None, None, None


_conv.register_fake(_fake_output)
_input_gradients.register_fake(_fake_input_gradients)
_weight_gradient.register_fake(_fake_weight_gradient)
_conv.register_autograd(_backward, setup_context=_save)


def fused_conv_on_scaled_taps(x_BCHW: Tensor, weight_OIKK: Tensor, taps_BCK: Tensor, window: Window) -> Tensor:
    """Convolve frame b with ``weight * taps_b``; differentiable, and one operation to compilers.

    Second derivatives are computed as in the eager form, from the unfolded input.

    Args:
        x_BCHW: frames, (B, C, H, W), in float32, bfloat16 or float16.
        weight_OIKK: the shared kernel, (O, C, kh, kw), of the type of the frames.
        taps_BCK: the factors of each frame, (B, C or 1, kh * kw).
        window: where the taps are; of one group.

    Returns:
        (B, O, H', W'), channels-last in memory.

    Raises:
        ValueError: their shapes do not fit together.
    """
    assert window.groups == 1, "groups are convolved by the eager form"
    frames, channels = x_BCHW.shape[:2]
    if weight_OIKK.shape[1] != channels:
        raise ValueError(f"the kernel takes {weight_OIKK.shape[1]} channels, the frames have {channels}")
    if taps_BCK.shape not in ((frames, 1, window.num_taps), (frames, channels, window.num_taps)):
        expected = f"({frames}, {channels} or 1, {window.num_taps})"
        raise ValueError(f"the factors of these frames are {expected}, got {tuple(taps_BCK.shape)}")
    geometry = (list(window.stride), list(window.padding), list(window.dilation))
    return cast(Tensor, _conv(x_BCHW, weight_OIKK, taps_BCK, *geometry))
