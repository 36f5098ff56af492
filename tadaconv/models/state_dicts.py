"""State dicts from files and from callers: read without running code, checked, and compared with a network."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tadaconv.errors import UserError

State = Mapping[str, Tensor]

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGER = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class where it has none."""
    return str(error).partition("\n")[0] or type(error).__name__


def some(names: Iterable[str]) -> str:
    """The first three names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def read_content(file: Path) -> Any:
    """The content of a .safetensors file, or of one that ``torch.save`` wrote; no code in it is run.

    Raises :class:`UserError` for a file that is missing or broken, and for one that holds more than tensors and plain
    values.
    """
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"cannot read the weights {str(file)!r}: {error.strerror}") from error
    try:
        if file.suffix == ".safetensors":
            return import_module("safetensors.torch").load_file(file)
        with warnings.catch_warnings():  # of sparse tensors, which checked() refuses by name
            warnings.filterwarnings("ignore", "Validating sparse tensor invariants", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise UserError(f"reading {str(file)!r} needs safetensors: pip install safetensors") from error
    except Exception as error:  # broken bytes raise any kind of error
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{str(file)!r} contains more than tensors ({refused[1]}) and is not loaded; save its state dict alone"
            ) from error
        raise UserError(
            f"cannot read the weights {str(file)!r}: the file is empty, broken or of another format "
            f"({type(error).__name__}); download it again, or save a state dict with torch.save"
        ) from error


def checked(state_dict: object) -> State:
    """``state_dict`` as a state dict of usable weights, without the ``module.`` of a parallel wrapper.

    Raises :class:`UserError` for anything but a mapping from names to dense, real, finite tensors with memory.
    """
    if not isinstance(state_dict, Mapping):
        raise UserError(f"weights are a {type(state_dict).__name__}; pass a state dict, which maps names to tensors")
    for name, value in state_dict.items():
        if not isinstance(name, str):
            raise UserError(f"{name!r} in these weights is a {type(name).__name__}, not a name; pass a state dict")
        if fault := _fault(value):
            raise UserError(f"{name!r} in these weights {fault}; pass a state dict of usable tensors")
    if state_dict and all(name.startswith("module.") for name in state_dict):
        return {name.removeprefix("module."): value for name, value in state_dict.items()}
    return state_dict


def _fault(value: object) -> str:
    """Why ``value`` cannot be a weight; empty if it can."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, not a tensor"
    dense = value.layout is torch.strided and not (value.is_meta or value.is_nested)
    if not dense or value.dtype not in _FLOATING + _INTEGER:
        return f"is not a dense tensor of real numbers ({value.dtype}, {value.layout}, on {value.device})"
    return "" if value.dtype in _INTEGER or bool(value.isfinite().all()) else "is not finite"


def fit(value: Tensor, shape: torch.Size) -> Tensor | None:
    """``value`` in ``shape``: as it is, with axes of one added or removed, or inflated; None where it does not fit."""
    if [size for size in value.shape if size != 1] == [size for size in shape if size != 1]:
        return value.reshape(shape)
    if len(shape) == 5 and value.shape == shape[:2] + shape[3:]:
        return value.unsqueeze(2).expand(shape) / shape[2]
    return None


def refuse_mismatch(
    error: str, mend: str, *, missing: Sequence[str], unexpected: Sequence[str], mismatched: Sequence[str]
) -> None:
    """Raise :class:`UserError` of one line unless the names and shapes of weights are those of the network.

    Args:
        error: the beginning of the line, such as the kind of the weights.
        mend: its end, what to do about it.
        missing: names that only the network has.
        unexpected: names that only the weights have.
        mismatched: names of tensors of other shapes, with both shapes.
    """
    faults = {"missing": missing, "unexpected": unexpected, "size mismatch": mismatched}
    lines = [f"{fault}: {some(names)}" for fault, names in faults.items() if names]
    if lines:
        raise UserError("; ".join([error, *lines, mend]))
