"""Checkpoints that are written at once or not at all."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tadaconv.errors import RunError, UserError
from tadaconv.files import write_file


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path`` at once or not at all: the old checkpoint stays until the new one is safe on disk.

    Raises:
        RunError: the disk is full or the folder cannot be written; the old checkpoint is untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with buffer.getbuffer() as content:
        write_whole(path, content)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file at once or not at all, as :func:`save` does; raises as it does."""
    try:
        write_file(path, content, durable=True)
    except OSError as error:
        raise RunError(f"checkpoint {path} cannot be written: {error.strerror}; an earlier one is kept") from error


def save_weights(path: Path, identity: str, model: nn.Module) -> None:
    """Write the weights of a trained ``model`` and the key of its cell to ``path``; raises as :func:`save` does.

    Args:
        path: of the file.
        identity: the key of the cell.
        model: the network.
    """
    save(path, {"identity": identity, "model": model.state_dict()})


def load_weights(path: Path, identity: str) -> dict[str, torch.Tensor]:
    """The state that :func:`save_weights` wrote, on the CPU.

    Raises :class:`UserError` for a file that is missing, damaged, or of another cell; callers add how to mend it.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        owner, state = saved["identity"], dict(saved["model"])
    except FileNotFoundError as error:
        raise UserError(f"there are no weights at {path}") from error
    except Exception as error:  # whatever a damaged file makes torch's reader raise
        raise UserError(f"the weights {path} cannot be read ({type(error).__name__})") from error
    if owner != identity:
        raise UserError(f"the weights {path} belong to another cell, {owner}, not to {identity}")
    return state


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; raises :class:`RunError` naming a file that is not one."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise TypeError("a checkpoint is a dictionary")
    except Exception as error:
        raise RunError(f"checkpoint {path} cannot be read ({type(error).__name__}); delete it to start over") from error
    return state
