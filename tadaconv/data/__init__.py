"""Clips: made or decoded, on the device that trains."""

import torch

from tadaconv.data.source import HasForm, Head, Source, heads_of
from tadaconv.data.synthetic import SyntheticClips
from tadaconv.spec import Folder, Synthetic
from tadaconv.text import text_to_path

__all__ = ["HasForm", "Head", "Source", "heads_of", "num_training_clips", "open_source", "require_usable_clips"]


def open_source(data: Synthetic | Folder, device: torch.device) -> Source:
    """The clips a spec describes; raises :class:`tadaconv.errors.UserError` for what cannot be read."""
    if isinstance(data, Synthetic):
        return SyntheticClips(data, device)
    from tadaconv.data.folder import FolderClips  # decoding is wanted only where clips are real

    return FolderClips(data, device)


def require_usable_clips(data: Synthetic | Folder) -> None:
    """Raise :class:`tadaconv.errors.UserError` for clips of a folder that are known not to go with ``data``."""
    if isinstance(data, Folder) and data.root and data.fingerprint:
        from tadaconv.data import folder

        folder.require_usable_clips(data)


def num_training_clips(data: Synthetic | Folder) -> int | None:
    """How many clips an epoch has, without opening one; None for a folder that no ``--data`` has named yet.

    Raises :class:`tadaconv.errors.UserError` for a folder that is no longer there.
    """
    if isinstance(data, Synthetic):
        return data.num_train
    if not data.root:
        return None
    if data.layout == "classes":
        from tadaconv.data.layout import scan

        return len(scan(data.path, data.val_share).train)
    from tadaconv.data.index import open_index

    return len(open_index(text_to_path(data.index)).places("train"))
