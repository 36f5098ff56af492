"""Two counters of multiply-adds, by module: fvcore's trace of a run, and PyTorch's own on tensors without values.

They share nothing: fvcore reads the operators of a TorchScript trace, torch.utils.flop_counter is told of every kernel
that is called. Both are given here as what each module does itself, its children apart.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tadaconv.measure.live import LiveBytes

with warnings.catch_warnings():  # fvcore compiles functions with torch.jit.script, which torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from fvcore.nn import FlopCountAnalysis

ByModule = dict[str, Counter[str]]
"""Multiply-adds by operator, of what each module does itself, by the module's name; ``""`` is the network."""


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(value.type().sizes())


def _matrix_product(inputs: list[Any], outputs: list[Any]) -> int:
    """As many multiply-adds an output element as the inner dimension is long, whichever factor is broadcast."""
    return prod(_sizes(outputs[0])) * _sizes(inputs[0])[-1]


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Query times key, (..., L, E) by (..., S, E), and the weights times the values, (..., S, V)."""
    query, key = _sizes(inputs[0]), _sizes(inputs[1])
    return prod(query[:-1]) * key[-2] * (query[-1] + _sizes(outputs[0])[-1])


_FVCORE_HANDLES = {"aten::matmul": _matrix_product, "aten::scaled_dot_product_attention": _attention}
"""What fvcore does not count, and the product it counts without the dimensions over which a factor is broadcast."""


def _cpu_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """As :func:`_attention`, two a multiply-add."""
    return 2 * int(prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


_TORCH_HANDLES = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}
"""What FlopCounterMode does not count: of the attention kernels, the one for the CPU. It is given shapes."""

FVCORE_CONVOLUTION = ("conv",)
FVCORE_LINEAR = ("linear", "matmul", "addmm", "bmm", "mm", "einsum")
FVCORE_ATTENTION = ("scaled_dot_product_attention",)


def count_by_fvcore(model: nn.Module, clip: Tensor) -> ByModule:
    """Multiply-adds of ``model`` on ``clip``, which it is run on."""
    analysis = FlopCountAnalysis(model, clip)
    analysis.set_op_handle(**_FVCORE_HANDLES)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        total = analysis.by_module_and_operator()
    names = [name for name, _ in model.named_modules()]
    own = {name: Counter(total[name]) for name in names}
    for name in names:
        if name:
            own[name.rpartition(".")[0]].subtract(total[name])
    return own


def _written(out: Any) -> int:
    """Elements of an operator's (first) result; none for a scalar, which is the arithmetic of shapes."""
    first = out[0] if isinstance(out, tuple | list) else out
    return first.numel() if isinstance(first, Tensor) and first.dim() else 0


aten = torch.ops.aten

_ELEMENTWISE: dict[Any, str] = {
    aten.mul: "mul",
    aten.mul_: "mul",
    aten.addcmul: "addcmul",
    aten.addcmul_: "addcmul",
    aten.native_batch_norm: "norm",
    aten._native_batch_norm_legit: "norm",
    aten._native_batch_norm_legit_no_training: "norm",
    aten.native_layer_norm: "norm",
    aten.native_group_norm: "norm",
}
"""One multiply-add an output element, under the name it is counted by."""

_UNCOUNTED = {
    aten.dot, aten.vdot, aten.mv, aten.addmv, aten.addr, aten.addbmm, aten.lerp, aten._cdist_forward, aten.renorm,
    aten._trilinear, aten.grid_sampler_2d, aten.grid_sampler_3d, aten.lstm, aten.gru, aten._native_multi_head_attention,
}  # fmt: skip
"""Multiply-adds that nobody here counts: an operator on this list stops the count instead of being left out of it."""


@dataclass
class Pass:
    """A run on tensors without values.

    Attributes:
        products: what FlopCounterMode counted, halved to multiply-adds, with one a written element of ``mul``,
            ``addcmul`` and ``norm``.
        written: elements written by each operator.
        outputs: elements of each module's result.
        peak_bytes: the most that tensors other than parameters and buffers held at once.
    """

    products: ByModule = field(default_factory=lambda: defaultdict(Counter))
    written: ByModule = field(default_factory=lambda: defaultdict(Counter))
    outputs: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0


class _Watch(TorchDispatchMode):
    """Books every operator under the module that called it."""

    def __init__(self, found: Pass, stack: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found, self.stack = found, stack

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        packet = func.overloadpacket
        known = func.namespace in ("aten", "prim", "prims") and packet not in _UNCOUNTED
        assert known, f"multiply-adds of no kind: {func} in {self.stack[-1] or 'the network'}"
        out = func(*args, **(kwargs or {}))
        owner = self.stack[-1]
        self.found.written[owner][packet._qualified_op_name] += _written(out)
        if packet in _ELEMENTWISE:
            self.found.products[owner][_ELEMENTWISE[packet]] += _written(out)
        return out


class _Layouts(TorchDispatchMode):
    """A convolution writes the layout it reads, whichever kernels this machine has: memory is counted alike on all."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket is not aten.convolution or args[0].dim() not in (4, 5):
            return out
        layout = torch.channels_last if args[0].dim() == 4 else torch.channels_last_3d
        if args[0].is_contiguous() or not args[0].is_contiguous(memory_format=layout):
            layout = torch.contiguous_format
        return torch.empty_like(out, memory_format=layout)


@contextmanager
def _owners(model: nn.Module, enter: Callable[[str], None], leave: Callable[[str, Any], None]) -> Iterator[None]:
    """Call ``enter`` and ``leave`` around every module, and around the hooks it has of its own."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():

            def before(_module: nn.Module, _inputs: Any, name: str = name) -> None:
                enter(name)

            def after(_module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
                leave(name, output)

            hooks.callback(module.register_forward_pre_hook(before, prepend=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        yield


@contextmanager
def _without_values(model: nn.Module) -> Iterator[list[Tensor]]:
    """Replace parameters and buffers by float32 tensors without values, in the same layouts, for the time being."""
    tables = [table for module in model.modules() for table in (module._parameters, module._buffers)]
    held = [(table, name, tensor) for table in tables for name, tensor in table.items() if tensor is not None]
    empty: dict[int, Tensor] = {}
    try:
        for table, name, t in held:
            dtype = torch.float32 if t.is_floating_point() else t.dtype
            table[name] = empty.setdefault(id(t), torch.empty_strided(t.shape, t.stride(), dtype=dtype))  # type: ignore[assignment]
        yield list(empty.values())
    finally:
        for table, name, t in held:
            table[name] = t  # type: ignore[assignment]


def count_by_torch(model: nn.Module, shape: tuple[int, ...]) -> Pass:
    """Multiply-adds and memory of ``model`` on one float32 clip of ``shape``; nothing is computed, so it is quick."""
    found, stack = Pass(), [""]
    flops = FlopCounterMode(display=False, custom_mapping=_TORCH_HANDLES)
    seen: Counter[str] = Counter()

    def book() -> None:
        now = Counter({op._qualified_op_name: n for op, n in flops.get_flop_counts().get("Global", {}).items()})
        for op, number in (now - seen).items():
            assert number % 2 == 0, f"FlopCounterMode counts two a multiply-add, not {number} for {op}"
            found.products[stack[-1]][op] += number // 2
        seen.update(now - seen)

    def enter(name: str) -> None:
        book()
        stack.append(name)

    def leave(name: str, output: Any) -> None:
        book()
        stack.pop()
        found.outputs[name] += _written(output)

    with (
        torch.no_grad(),
        FakeTensorMode(allow_non_fake_inputs=True),
        _without_values(model) as state,
        _owners(model, enter, leave),
        _Layouts(),  # type: ignore[no-untyped-call]  # modes that are entered later see an operator first, and its result last
        LiveBytes(state) as live,
        _Watch(found, stack),
        flops,
    ):
        model(torch.empty(shape))
        book()
    found.peak_bytes = live.peak
    return found
