"""Puts a module before or after a convolution without renaming the convolution's weights.

The convolution gets a child, ``before`` or ``after``, that a forward hook runs. A module around the convolution would
add its own name to those of all weights.
"""

from typing import Any

from torch import Tensor, nn

from tadaconv.errors import UserError

Convolution = nn.Conv2d | nn.Conv3d


def convolution(module: nn.Module) -> Convolution:
    """``module``, if it is a convolution over frames or clips; raises :class:`UserError` if not."""
    if not isinstance(module, Convolution):
        raise UserError(f"this rival needs a Conv2d or a Conv3d, not {type(module).__name__}; choose another placement")
    return module


def _run_before(conv: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    clips: Tensor = conv.get_submodule("before")(inputs[0])
    return clips


def _run_after(conv: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    del inputs
    clips: Tensor = conv.get_submodule("after")(output)
    return clips


def _add(conv: Convolution, name: str, module: nn.Module) -> None:
    if hasattr(conv, name):
        raise UserError(f"this {type(conv).__name__} already has a rival {name} it; place one per convolution")
    conv.add_module(name, module.to(conv.weight.device, conv.weight.dtype))


def put_before(conv: Convolution, module: nn.Module) -> nn.Module:
    """``conv`` with its input passed through ``module``, which is moved to the convolution's device and type."""
    _add(conv, "before", module)
    conv.register_forward_pre_hook(_run_before)
    return conv


def put_after(conv: Convolution, module: nn.Module) -> nn.Module:
    """``conv`` with its output passed through ``module``, which is moved to the convolution's device and type."""
    _add(conv, "after", module)
    conv.register_forward_hook(_run_after)
    return conv
