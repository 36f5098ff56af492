"""The clips of an index as training uses them, and how the frames of one are read."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tadaconv.data.decode import Frames, Read, decode, decode_at
from tadaconv.data.index import Index, open_index
from tadaconv.data.pack import pack_of
from tadaconv.data.pictures import read_pictures
from tadaconv.data.source import Head
from tadaconv.errors import UserError
from tadaconv.text import encodable


class Clips:
    """Training and validation clips, those left out excepted; a clip's place counts all clips of the index.

    ``train`` and ``val`` are places, ``labels`` (clips, heads). ``num_frames``, ``heights``, ``widths`` and ``fps`` are
    (clips,), fps 0 where it is not known. ``subsets`` are validation clips that are evaluated separately, by name:
    indices into ``val``. ``can_be_kept`` says whether a clip is worth decoding whole: not one that is a part of a long
    video. Columns that are read clip by clip are copied, so that memory does not grow by mapped pages while clips are
    read.
    """

    def __init__(self, index: Index) -> None:
        self._index, self._root = index, Path(index.root)
        self._media, self._starts = index.media.copy(), np.array(index.spans[:, 0])
        self._pack = pack_of(index) if index.form == "pack" else None
        self.heads = tuple(Head(name, tuple(map(encodable, names))) for name, names in index.heads)
        self.labels = np.array(index.labels)
        self.train, self.val = index.places("train"), index.places("val")
        self.num_frames = np.array(index.measured["frames"])
        self.heights, self.widths = np.array(index.measured["height"]), np.array(index.measured["width"])
        self.fps = np.nan_to_num(index.measured["fps"], nan=0.0)
        self.subsets = {
            name: np.flatnonzero(index.subsets[self.val, column]) for column, name in enumerate(index.subset_names)
        }
        self.can_be_kept = index.form in ("frames", "pack") or bool(np.isnan(self._starts).all())

    def frame_bytes(self, short_side: int) -> NDArray[np.int64]:
        """Bytes of a frame of each clip, (clips,), at a short side in pixels; 0 keeps the size."""
        short = np.maximum(np.minimum(self.heights, self.widths), 1)  # 0 of clips that are left out
        sides = [np.rint(side * short_side / short) if short_side else side for side in (self.heights, self.widths)]
        bytes_of: NDArray[np.int64] = 3 * sides[0].astype(np.int64) * sides[1].astype(np.int64)
        return bytes_of

    def path(self, place: int) -> Path:
        """The medium of a clip."""
        return self._root / self._media[place]

    def name(self, place: int) -> str:
        """The id of a clip in the data set."""
        return encodable(self._index.ids[place])

    def read(self, place: int, indices: Sequence[int] | None, short_side: int) -> Frames:
        """The frames of a clip, (T, H, W, 3).

        Raises :class:`tadaconv.data.decode.BrokenVideoError` and OSError.

        Args:
            place: of the clip.
            indices: of the frames; None for all.
            short_side: in pixels; 0 keeps the size.
        """
        if self._pack is not None:
            return self._pack.read(place, indices, short_side)
        medium, start = self.path(place), float(self._starts[place])
        if self._index.form == "frames":
            assert self._index.frames is not None
            first = 0 if math.isnan(start) else round(start)
            wanted = range(int(self.num_frames[place])) if indices is None else indices
            return read_pictures(medium, self._index.frames, [first + number for number in wanted], short_side)
        if math.isnan(start):
            return decode(medium, short_side, indices)
        assert indices is not None  # see can_be_kept
        fps = float(self.fps[place])
        return decode_at(medium, short_side, [start + number / fps for number in indices])


def read_of_index(index: Index) -> Read:
    """:meth:`Clips.read` of the clips of an index."""
    return Clips(index).read


def read_of_folder(folder: Path, fingerprint: str) -> Read:
    """:meth:`Clips.read` of the index in ``folder``, opened again; raises :class:`UserError` if it was replaced."""
    index = open_index(folder)
    if index.fingerprint != fingerprint:
        raise UserError(f"the index in {str(folder)!r} has changed since it was opened; give the same command again")
    return read_of_index(index)
