"""One forward pass on the meta device: the multiply-adds, the elements written and the memory of every operator.

Tensors of the meta device have shapes and no values, so nothing is computed: a pass takes a fraction of a second,
whatever the size of the network and of the clip.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tadaconv.measure.live import LiveBytes

aten = torch.ops.aten

_PER_ELEMENT: dict[Any, str] = {
    aten.mul: "scale",
    aten.mul_: "scale",
    aten.addcmul: "scale",
    aten.addcmul_: "scale",
    aten.native_batch_norm: "norm",
    aten._native_batch_norm_legit: "norm",
    aten._native_batch_norm_legit_no_training: "norm",
    aten.native_layer_norm: "norm",
    aten.native_group_norm: "norm",
}
"""Operators of one multiply-add an output element, and their kind."""

_SPARSE_PRODUCTS = (aten._embedding_bag, aten._embedding_bag_forward_only)
"""With weights, products of a sparse matrix and a dense one: a multiply-add an entry and column of the dense one."""

_UNCOUNTED = {
    aten.dot, aten.vdot, aten.mv, aten.addmv, aten.addr, aten.addbmm, aten.lerp, aten._cdist_forward, aten.renorm,
    aten._trilinear, aten.grid_sampler_2d, aten.grid_sampler_3d, aten.lstm, aten.gru, aten._native_multi_head_attention,
}  # fmt: skip
"""Operators with multiply-adds that are not counted: one of them stops the count instead of being left out of it."""


@dataclass
class ForwardPass:
    """The work of each module without its children, by the module's name; ``""`` is the network.

    Attributes:
        macs: multiply-adds by kind: ``convolution``, ``attention``, ``linear`` (all other products of matrices),
            ``norm`` and ``scale`` (products by element); as the operators are called.
        activations: elements written by the operators of the kinds ``convolution`` and ``linear``.
        outputs: elements of each module's result.
        peak_bytes: the most that tensors other than parameters and buffers held at once.
    """

    macs: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    activations: Counter[str] = field(default_factory=Counter)
    outputs: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0


def _num_elements(out: Any) -> int:
    """Elements of an operator's (first) result; none for a scalar, which is the arithmetic of shapes."""
    first = out[0] if isinstance(out, tuple | list) else out
    return first.numel() if isinstance(first, Tensor) and first.dim() else 0


def _call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operator on the meta device, with the shapes and layouts it has on the CPU.

    A convolution writes the layout that it reads, whichever kernels this machine has, so that memory is the same on
    all. A batch norm in evaluation mode writes no statistics; PyTorch's own shapes are those of a GPU, and slow.
    """
    x: Any = args[0] if args else None
    if func.overloadpacket is aten.native_batch_norm and not args[5]:
        return torch.empty_like(x), x.new_empty(0), x.new_empty(0)
    out = func(*args, **kwargs)
    if func.overloadpacket is not aten.convolution or x.dim() not in (4, 5):
        return out
    layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    if x.is_contiguous() or not x.is_contiguous(memory_format=layout):
        layout = torch.contiguous_format
    return torch.empty_like(out, memory_format=layout)


class _Recorder(TorchDispatchMode):
    """Records every operator under the module that calls it.

    Attributes:
        record: what is recorded.
        callers: names of the modules that are running, the innermost last.
        attends: whether batched products are those of an attention.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = ForwardPass()
        self.callers = [""]
        self.attends = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        packet, caller, kwargs = func.overloadpacket, self.callers[-1], kwargs or {}
        known = func.namespace in ("aten", "prim", "prims") and packet not in _UNCOUNTED
        assert known, f"multiply-adds of an unknown kind: {func} in {caller or 'the network'}"
        out = _call(func, args, kwargs)
        macs = self.record.macs[caller]
        if packet in _PER_ELEMENT:
            macs[_PER_ELEMENT[packet]] += _num_elements(out)
        elif packet is aten._scaled_dot_product_flash_attention_for_cpu:
            query, key, value = args[:3]
            macs["attention"] += prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        elif packet in _SPARSE_PRODUCTS and args[6:7] not in ((), (None,)):
            macs["linear"] += args[1].numel() * args[0].shape[1]
            self.record.activations[caller] += _num_elements(out)
        elif packet in flop_registry:
            flops = flop_registry[packet](*args, **kwargs, out_val=out)
            assert flops % 2 == 0, f"torch.utils.flop_counter counts two a multiply-add, not {flops} for {func}"
            if self.attends and packet in (aten.bmm, aten.baddbmm):
                macs["attention"] += flops // 2
            else:
                macs["convolution" if "convolution" in packet._qualified_op_name else "linear"] += flops // 2
                self.record.activations[caller] += _num_elements(out)
        return out


class _Attention(TorchFunctionMode):
    """Marks the products of an attention for the recorder, which sees its parts alone."""

    def __init__(self, recorder: _Recorder) -> None:
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in (F.scaled_dot_product_attention, F.multi_head_attention_forward):
            return func(*args, **kwargs)
        self.recorder.attends = True
        try:
            return _attend(*args, **kwargs) if func is F.scaled_dot_product_attention else func(*args, **kwargs)
        finally:
            self.recorder.attends = False


def _attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``scaled_dot_product_attention`` by the kernel that the CPU has for heads, which never holds their weights."""
    if query.dim() != 4 or args or kwargs.keys() - {"dropout_p", "is_causal", "scale"}:
        return F.scaled_dot_product_attention(query, key, value, *args, **kwargs)
    attended: Tensor = aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, **kwargs)[0]
    return attended


@contextmanager
def _callers_known(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep ``recorder.callers``, around every module and the hooks that it has, and record the modules' outputs."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():

            def before(_module: nn.Module, _inputs: Any, name: str = name) -> None:
                recorder.callers.append(name)

            def after(_module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
                recorder.callers.pop()
                recorder.record.outputs[name] += _num_elements(output)

            hooks.callback(module.register_forward_pre_hook(before, prepend=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        yield


@contextmanager
def _on_meta(model: nn.Module) -> Iterator[list[Tensor]]:
    """Replace parameters and buffers by float32 tensors without values, in the same layouts, for the time being."""
    tables = [table for module in model.modules() for table in (module._parameters, module._buffers)]
    held = [(table, name, tensor) for table in tables for name, tensor in table.items() if tensor is not None]
    empty: dict[int, Tensor] = {}
    try:
        for table, name, t in held:
            dtype = torch.float32 if t.is_floating_point() else t.dtype
            meta = empty.setdefault(id(t), torch.empty_strided(t.shape, t.stride(), dtype=dtype, device="meta"))
            table[name] = meta  # type: ignore[assignment]
        yield list(empty.values())
    finally:
        for table, name, t in held:
            table[name] = t  # type: ignore[assignment]


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for all modules; afterwards each has its own mode again, as frozen ones are not in training."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def forward_pass(model: nn.Module, shape: tuple[int, ...]) -> ForwardPass:
    """The work of ``model`` in its current mode on one float32 input of ``shape``; parameters and buffers stay.

    Raises:
        AssertionError: the model calls an operator whose multiply-adds are of no kind that is counted.
    """
    recorder = _Recorder()
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.device("meta"),
        _on_meta(model) as state,
        _callers_known(model, recorder),
        _Attention(recorder),
        recorder,
        LiveBytes(state) as live,  # entered last, it sees an operator first and its result last, as the recorder has it
    ):
        model(torch.empty(shape))
    recorder.record.peak_bytes = live.peak
    return recorder.record
