"""What a network costs: parameters, multiply-adds by kind, activations and memory.

The paper counts convolutions and linear layers, one multiply-add each; normalisation, the calibration's own
multiplications, the aggregation and the mixing of kernels are counted apart, so that nothing is hidden and figures stay
comparable. Two counters that share no code must agree on convolutions and linear layers in every module.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from tadaconv.errors import RunError
from tadaconv.measure.counters import (
    FVCORE_ATTENTION,
    FVCORE_CONVOLUTION,
    FVCORE_LINEAR,
    Pass,
    count_by_fvcore,
    count_by_torch,
)
from tadaconv.measure.live import tensor_bytes
from tadaconv.models.rivals.mixture import KernelMixture
from tadaconv.nn import TAdaConv2d, TAdaConv3d, TemporalPool

KINDS: Final = ("convolution", "linear", "norm", "calibration", "aggregation", "kernels", "attention", "scale")
"""Every kind of multiply-adds; the first two are what the paper counts."""


class Cost(BaseModel):
    """The cost of one forward pass of one clip, without gradients."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: int
    macs: int = Field(description="Convolutions and linear layers: the paper's convention.")
    macs_by_kind: dict[str, int] = Field(
        description="convolution, linear, norm, calibration, aggregation, kernels (mixed for each frame), attention "
        "and scale (all other products by element, such as gates); as executed."
    )
    activations: int = Field(
        description="Elements written by convolutions and linear layers (Dollar et al., arXiv:2103.06877)."
    )
    peak_memory_bytes: int = Field(
        description="In float32: parameters, buffers and the most that all other tensors, the clip among them, hold at "
        "once. Kernels' workspaces and the allocator's cache are not in it."
    )
    input_shape: tuple[int, ...] = Field(description="(1, C, T, H, W)")
    unit: str = "multiply-adds"


def count(model: nn.Module, input_shape: tuple[int, int, int, int]) -> Cost:
    """The cost of ``model`` on one clip of shape (C, T, H, W).

    Counted by fvcore on a run of a clip of zeros, and by torch.utils.flop_counter on the meta device. A convolution
    calibrated by taps is computed as products of another shape; it counts as the convolution it is, O * I / groups *
    prod(kernel) multiply-adds an output position.

    Raises:
        RunError: the counters disagree on a module; the message names it and gives both counts.
    """
    shape = (1, *input_shape)
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        seen = count_by_torch(model, shape)
        traced = count_by_fvcore(model, torch.zeros(shape, device=next(model.parameters()).device))
    finally:
        for module, was_training in training.items():
            module.training = was_training
    kinds: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    activations = 0
    pooling: tuple[str, ...] = ()
    for name, module in model.named_modules():
        pooling += (name,) if isinstance(module, TemporalPool) else ()
        if name.startswith(pooling):
            kinds["aggregation"] += seen.products[name].total()
            continue
        own, written = _sort(name, module, traced[name], seen)
        kinds.update(own)
        activations += written
    return Cost(
        params=sum(p.numel() for p in model.parameters()),
        macs=kinds["convolution"] + kinds["linear"],
        macs_by_kind={kind: int(kinds[kind]) for kind in KINDS},
        activations=activations,
        peak_memory_bytes=tensor_bytes([*model.parameters(), *model.buffers()]) + seen.peak_bytes,
        input_shape=shape,
    )


def _sort(name: str, module: nn.Module, traced: Mapping[str, float], seen: Pass) -> tuple[dict[str, int], int]:
    """Multiply-adds by kind of what a module does itself, and the activations it writes."""
    by_torch = Counter(seen.products[name])
    norm, by_element = by_torch.pop("norm", 0), by_torch.pop("mul", 0) + by_torch.pop("addcmul", 0)
    convolved = sum(number for op, number in by_torch.items() if "convolution" in op)
    attended = int(sum(traced.get(op, 0) for op in FVCORE_ATTENTION))
    products = by_torch.total()
    by_fvcore = int(sum(traced.get(op, 0) for op in FVCORE_CONVOLUTION + FVCORE_LINEAR)) + attended
    if isinstance(module, nn.modules.conv._ConvNd) and not module.transposed:
        return _sort_convolution(name, module, by_fvcore, products, by_element, seen.outputs[name])
    if by_fvcore != products:
        raise _disagreement(name, module, by_fvcore, products)
    kinds = {"attention": attended, "norm": norm, "scale": by_element}
    if isinstance(module, KernelMixture):  # what is not the convolution's, by its formula, makes its kernels
        convolved = seen.outputs[name] * module.weight[0].numel()
        if convolved > products:
            raise _disagreement(name, module, by_fvcore, products, convolved)
        return {**kinds, "convolution": convolved, "kernels": products - convolved}, seen.outputs[name]
    written = sum(
        number
        for op, number in seen.written[name].items()
        if by_torch.get(op) and ("convolution" in op or not attended)
    )
    return {**kinds, "convolution": convolved, "linear": products - convolved - attended}, written


def _sort_convolution(
    name: str, module: nn.modules.conv._ConvNd, by_fvcore: int, by_torch: int, by_element: int, outputs: int
) -> tuple[dict[str, int], int]:
    """As :func:`_sort` for a convolution, calibrated or not: its multiply-adds are known from its result.

    What calibrates taps may be out of a counter's sight, summed element by element or inside an autograd function: then
    that counter has seen nothing, and the formula stands in for it.
    """
    expected = outputs * module.weight[0].numel()
    if any(number not in (0, expected) for number in (by_fvcore, by_torch)):
        raise _disagreement(name, module, by_fvcore, by_torch, expected)
    if not by_torch:
        by_element -= expected
    if by_element < 0:
        raise _disagreement(name, module, by_fvcore, by_torch, expected)
    calibrated = isinstance(module, TAdaConv2d | TAdaConv3d)
    return {"convolution": expected, "calibration" if calibrated else "scale": by_element}, outputs


def _disagreement(name: str, module: nn.Module, by_fvcore: int, by_torch: int, expected: int | None = None) -> RunError:
    formula = "" if expected is None else f", its formula {expected:,}"
    return RunError(
        f"the counters disagree on {name or 'the network'} ({type(module).__name__}): fvcore counts {by_fvcore:,} "
        f"multiply-adds, torch.utils.flop_counter {by_torch:,}{formula}"
    )
