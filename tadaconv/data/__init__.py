"""Clips: made or decoded, on the device that trains."""

from typing import TYPE_CHECKING

from tadaconv.data.source import Head, Source
from tadaconv.text import text_to_path

if TYPE_CHECKING:
    import torch

    from tadaconv.spec import Data

__all__ = [
    "Head",
    "Source",
    "num_training_clips",
    "open_source",
    "require_usable_clips",
]

# A process that reads clips imports this package as well, and is to start at once: without torch and pydantic.


def open_source(data: "Data", device: "torch.device", sharing_with: Source | None = None) -> Source:
    """The clips a spec describes; raises :class:`tadaconv.errors.UserError` for what cannot be read.

    ``sharing_with`` is a source of the same clips that is used alternately with this one; the same processes read the
    clips of both, and end with either.

    Args:
        data: which clips.
        device: where batches are made.
        sharing_with: a source of the same clips; None for none.
    """
    from tadaconv.spec import Features, Synthetic, Untrimmed

    if isinstance(data, Synthetic):
        from tadaconv.data.synthetic import SyntheticClips

        return SyntheticClips(data, device)
    if isinstance(data, Untrimmed):
        from tadaconv.data.untrimmed import UntrimmedClips

        return UntrimmedClips(data, device)
    if isinstance(data, Features):
        from tadaconv.data.features import FeatureVideos

        return FeatureVideos(data, device)
    from tadaconv.data.folder import FolderClips  # decoding is wanted only where clips are real

    return FolderClips(data, device, sharing_with=sharing_with if isinstance(sharing_with, FolderClips) else None)


def require_usable_clips(data: "Data") -> None:
    """Raise :class:`tadaconv.errors.UserError` for what is on a disk and is known not to go with ``data``."""
    from tadaconv.errors import UserError
    from tadaconv.spec import Features, Folder

    if isinstance(data, Features) and data.root and not data.fingerprint:
        raise UserError(
            f"there are no features in {str(data.path / data.folder)!r}; put them there, a file a video, or choose "
            "rows on other features with --rows"
        )
    if isinstance(data, Folder) and data.root and data.fingerprint:
        from tadaconv.data import folder

        folder.require_usable_clips(data)


def num_training_clips(data: "Data") -> int | None:
    """How many clips an epoch has, without opening one; None for a folder that no ``--data`` has named yet.

    Raises :class:`tadaconv.errors.UserError` for a folder that is no longer there.
    """
    from tadaconv.spec import Features, Synthetic, Untrimmed

    if isinstance(data, Synthetic | Untrimmed):
        return data.num_train
    if not data.root:
        return None
    if isinstance(data, Features):
        from tadaconv.data.feature_check import survey, training_windows

        return sum(1 for _ in training_windows(survey(data)))
    if data.layout == "classes":
        from tadaconv.data.layouts.classes import read_class_folders

        return int((read_class_folders(data.path, data.val_share).sides == 0).sum())
    from tadaconv.data.index import open_index

    return len(open_index(text_to_path(data.index)).places("train"))
