"""A second counter of multiply-adds, which shares nothing with ours: fvcore reads a TorchScript trace of a run."""

import warnings
from collections import Counter
from math import prod
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():  # fvcore compiles functions with torch.jit.script, which torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

PRODUCTS = ("conv", "linear", "matmul", "addmm", "bmm", "mm", "einsum", "scaled_dot_product_attention")
"""The operators whose multiply-adds fvcore and we count; all of ``macs_by_kind`` but norm and products by element."""


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(value.type().sizes())


def _matrix_product(inputs: list[Any], outputs: list[Any]) -> int:
    """As many multiply-adds an output element as the inner dimension is long, whichever factor is broadcast."""
    return prod(_sizes(outputs[0])) * _sizes(inputs[0])[-1]


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Query times key, (..., L, E) by (..., S, E), and the weights times the values, (..., S, V)."""
    query, key = _sizes(inputs[0]), _sizes(inputs[1])
    return prod(query[:-1]) * key[-2] * (query[-1] + _sizes(outputs[0])[-1])


HANDLES = {"aten::matmul": _matrix_product, "aten::scaled_dot_product_attention": _attention}
"""What fvcore does not count, and the product it counts without the dimensions over which a factor is broadcast."""


def products_by_module(model: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Multiply-adds of what each module does itself on an input of ``shape``, without norms and products by element."""
    analysis = FlopCountAnalysis(model, torch.zeros(shape, device=next(model.parameters()).device))
    analysis.set_op_handle(**HANDLES)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        total = analysis.by_module_and_operator()
    names = [name for name, _ in model.named_modules()]
    own = {name: Counter(total[name]) for name in names}
    for name in names:
        if name:
            own[name.rpartition(".")[0]].subtract(total[name])
    return {name: int(sum(counted[op] for op in PRODUCTS)) for name, counted in own.items()}


def activations(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Elements written by convolutions and linear layers on an input of ``shape``."""
    analysis = ActivationCountAnalysis(model, torch.zeros(shape, device=next(model.parameters()).device))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        return int(analysis.total())
