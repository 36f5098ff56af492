"""What a network costs: parameters and multiply-adds, by kind.

The paper counts convolutions and linear layers, one multiply-add each; normalisation, the calibration's own
multiplications and the aggregation are counted apart, so that nothing is hidden and figures stay comparable.
"""

import warnings
from collections import Counter
from math import prod
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from tadaconv.nn import TAdaConv2d, TemporalPool

with warnings.catch_warnings():  # fvcore compiles functions with torch.jit.script, which torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from fvcore.nn import FlopCountAnalysis


class Cost(BaseModel):
    """The cost of one forward pass of one clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: int
    macs: int = Field(description="Convolutions and linear layers: the paper's convention.")
    macs_by_kind: dict[str, int] = Field(
        description="convolution, linear, norm, calibration, aggregation; as executed."
    )
    input_shape: tuple[int, ...] = Field(description="(1, C, T, H, W)")
    unit: str = "multiply-adds"


def _elements_out(inputs: list[Any], outputs: list[Any]) -> int:
    """One multiply-add an output element; none for a scalar, which is the arithmetic of shapes."""
    del inputs
    sizes = outputs[0].type().sizes()
    return prod(sizes) if sizes else 0


def _matrix_product(inputs: list[Any], outputs: list[Any]) -> int:
    """As many multiply-adds an output element as the inner dimension is long, whichever factor is broadcast."""
    return int(prod(outputs[0].type().sizes()) * inputs[0].type().sizes()[-1])


_HANDLES = {
    "aten::mul": _elements_out,
    "aten::addcmul": _elements_out,
    "aten::batch_norm": _elements_out,
    "aten::layer_norm": _elements_out,
    "aten::matmul": _matrix_product,
}
"""What fvcore does not count, and the product it counts without the dimensions over which a factor is broadcast."""


def count(model: nn.Module, input_shape: tuple[int, int, int, int]) -> Cost:
    """The cost of ``model`` on one clip of shape (C, T, H, W); traced by fvcore on a clip of zeros.

    A tap-calibrated convolution is computed as a product of unfolded inputs; its product counts as convolution.
    """
    shape = (1, *input_shape)
    was_training = model.training
    device = next(model.parameters()).device
    analysis = FlopCountAnalysis(model.eval(), torch.zeros(shape, device=device))
    analysis.set_op_handle(**_HANDLES)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():  # the trace runs the network; no gradient is wanted of it
        by_module = analysis.by_module_and_operator()
    model.train(was_training)
    kinds = _kinds(model, by_module)
    return Cost(
        params=sum(p.numel() for p in model.parameters()),
        macs=kinds["convolution"] + kinds["linear"],
        macs_by_kind=kinds,
        input_shape=shape,
    )


def _kinds(model: nn.Module, by_module: dict[str, Counter[str]]) -> dict[str, int]:
    """Sort the operators fvcore saw into kinds, by the module they ran in."""
    total = Counter(by_module[""])
    kinds = Counter(dict.fromkeys(("convolution", "linear", "norm", "calibration", "aggregation"), 0))
    for name, module in model.named_modules():
        if isinstance(module, TAdaConv2d):
            own = Counter(by_module[name])
            own.subtract(by_module[f"{name}.context".lstrip(".")])
            first_tap = own["addcmul"] // max(1, prod(module.kernel_size) - 1)  # a sum over taps starts with a product
            kinds["convolution"] += own["matmul"] + own["addcmul"] + first_tap
            kinds["calibration"] += own["mul"] - first_tap
            total.subtract({op: own[op] for op in ("matmul", "addcmul", "mul")})
        if isinstance(module, TemporalPool):
            kinds["aggregation"] += sum(by_module[name].values())
            total.subtract(by_module[name])
    kinds["convolution"] += total.pop("conv", 0)
    kinds["linear"] += total.pop("linear", 0) + total.pop("matmul", 0)
    kinds["norm"] += sum(total.pop(op, 0) for op in ("batch_norm", "layer_norm"))
    left = {op: number for op, number in total.items() if number}
    assert not left, f"multiply-adds of no kind: {left}"
    return {kind: int(number) for kind, number in kinds.items()}
