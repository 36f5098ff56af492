"""Frames times one number a channel, with few passes over memory.

Compared with a convolution these products are little arithmetic, but each pass over a clip takes time. With plain
autograd, averaging and scaling frames takes twelve passes over the clip in a training step; the two functions here,
which share their backward pass, take seven.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from tadaconv.nn.tracing import is_traced

_CHUNK_BYTES = 2**20
"""On the CPU, products that are summed at once are made in pieces that stay in the cache."""


def _times(x_BCHW: Tensor, alpha_BC: Tensor) -> Tensor:
    """``x * alpha`` in the type of x; a finer alpha is not rounded to it first."""
    alpha = alpha_BC[:, :, None, None]
    if x_BCHW.dtype == alpha.dtype:
        return x_BCHW * alpha
    return torch.mul(x_BCHW, alpha, out=torch.empty_like(x_BCHW))


def _dot(g_BCHW: Tensor, x_BCHW: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum of ``g * x`` over each frame and channel, (B, C)."""
    if g_BCHW.device.type != "cpu" or torch.is_grad_enabled():  # with a graph of the gradient, as one expression
        return (g_BCHW * x_BCHW).sum((2, 3), dtype=dtype)
    frame_bytes = max(1, g_BCHW[0].numel() * g_BCHW.element_size())
    pieces = zip(*(t.split(max(1, _CHUNK_BYTES // frame_bytes)) for t in (g_BCHW, x_BCHW)), strict=True)
    return torch.cat([(g * x).sum((2, 3), dtype=dtype) for g, x in pieces])


class _Scale(Function):
    """``x * alpha``. With ``pending``, ``routed`` is ``x`` as :class:`_Describe` returned it.

    The gradient is then routed there, not yet multiplied, and alpha is put into ``pending``; ``x`` itself is saved for
    second derivatives, which take the direct route.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, alpha_BC: Tensor, routed: Tensor | None, pending: list[Tensor] | None
    ) -> Tensor:
        del routed
        ctx.save_for_backward(x_BCHW, alpha_BC)
        ctx.pending = pending
        return _times(x_BCHW, alpha_BC)

    @staticmethod
    def backward(ctx: Any, g_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha = ctx.saved_tensors
        g_alpha = _dot(g_BCHW, x, alpha.dtype) if ctx.needs_input_grad[1] else None
        if ctx.pending is not None:
            ctx.pending[:] = [alpha]
            return None, g_alpha, g_BCHW, None
        g_x = (g_BCHW * alpha[:, :, None, None]).to(x.dtype) if ctx.needs_input_grad[0] else None
        return g_x, g_alpha, None, None


class _Describe(Function):
    """The average of every channel of every frame; and the frames, whose gradient waits for alpha in ``pending``."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, dtype: torch.dtype, pending: list[Tensor]) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.pending, ctx.shape, ctx.dtype = pending, x_BCHW.shape, x_BCHW.dtype
        return x_BCHW.mean((2, 3), dtype=dtype), x_BCHW.view_as(x_BCHW)

    @staticmethod
    def backward(ctx: Any, g_BC: Tensor | None, routed_BCHW: Tensor | None) -> tuple[Tensor | None, None, None]:
        g_mean = None if g_BC is None else (g_BC / ctx.shape[2:].numel())[:, :, None, None].to(ctx.dtype)
        if routed_BCHW is None:
            return None if g_mean is None else g_mean.expand(ctx.shape), None, None
        # If it stayed there, it would keep the graph that leads to it alive, a cycle that no garbage collector sees.
        alpha = ctx.pending.pop()[:, :, None, None].to(ctx.dtype)
        if g_mean is None:
            return routed_BCHW * alpha, None, None
        return torch.addcmul(g_mean, routed_BCHW, alpha), None, None


def scale(x_BCHW: Tensor, alpha_BC: Tensor) -> Tensor:
    """Every channel of every frame times its factor, ``x * alpha``, (B, C, H, W) in the type of ``x``."""
    if is_traced() or not torch.is_grad_enabled():
        return (x_BCHW * alpha_BC[:, :, None, None]).to(x_BCHW.dtype)
    return cast(Tensor, _Scale.apply(x_BCHW, alpha_BC, None, None))  # type: ignore[no-untyped-call]


def scale_by_average(
    x_BCHW: Tensor, dtype: torch.dtype, calibrate: Callable[[Tensor], dict[str, Tensor]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """:func:`scale` by the factor ``cin`` that is made from the average of every channel of every frame.

    The two gradients of the frames, of average and product, are computed in one pass.

    Args:
        x_BCHW: frames, (B, C, H, W).
        dtype: the type of the averages.
        calibrate: from the averages, (B, C), to factors by name, ``cin`` among them, each (B, size).

    Returns:
        The scaled frames, (B, C, H, W) in the type of ``x``, and the factors.
    """
    if is_traced() or not (torch.is_grad_enabled() and x_BCHW.requires_grad):
        factors = calibrate(x_BCHW.mean((2, 3), dtype=dtype))
        return scale(x_BCHW, factors["cin"]), factors
    pending: list[Tensor] = []  # in the backward pass, the factor that the frames' gradient has still to be scaled by
    v_BC, routed = _Describe.apply(x_BCHW, dtype, pending)  # type: ignore[no-untyped-call]
    factors = calibrate(v_BC)
    return _Scale.apply(x_BCHW, factors["cin"], routed, pending), factors  # type: ignore[no-untyped-call]
