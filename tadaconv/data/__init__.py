"""Clips: made or decoded, on the device that trains."""

import torch

from tadaconv.data.source import Source
from tadaconv.data.synthetic import SyntheticClips
from tadaconv.spec import Folder, Synthetic

__all__ = ["Source", "open_source"]


def open_source(data: Synthetic | Folder, device: torch.device) -> Source:
    """The clips a spec describes; raises :class:`tadaconv.errors.UserError` for what cannot be read."""
    if isinstance(data, Synthetic):
        return SyntheticClips(data, device)
    from tadaconv.data.folder import FolderClips  # decoding is wanted only where clips are real

    return FolderClips(data, device)
