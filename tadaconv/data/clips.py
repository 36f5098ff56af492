"""The clips of an index as training uses them, and how the frames of one are read."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Clips:
    """Training and validation clips; a clip's place counts all of them, and ``train`` and ``val`` are places.

    ``labels`` are (clips, heads). ``num_frames``, ``heights``, ``widths`` and ``fps`` are (clips,), fps 0 where nothing
    tells. ``read`` gives the frames of a clip at some indices, or all with None, at a short side in pixels: (T, H, W,
    3); it raises :class:`tadaconv.data.decode.BrokenVideoError` and OSError. ``path`` is that of a clip's medium, and
    ``name`` what the clip is called in the data set. ``can_be_kept`` says whether a clip is worth decoding whole: not
    one that is a part of a long video.
    """

    heads: tuple[Head, ...]
    labels: NDArray[np.int32]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    num_frames: NDArray[np.int32]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    fps: NDArray[np.float32]
    subsets: Mapping[str, NDArray[np.int64]]
    """Validation clips that are judged apart, by name: indices into ``val``."""
    read: Read
    path: Callable[[int], Path]
    name: Callable[[int], str]
    can_be_kept: bool
    form: str
    """What clips are read from: video, frames or pack."""


def read_of_folder(folder: Path, fingerprint: str) -> Read:
    """:attr:`Clips.read` of the index in ``folder``, opened again; raises :class:`UserError` if it is another now."""
    index = open_index(folder)
    if index.fingerprint != fingerprint:
        raise UserError(f"the index in {str(folder)!r} has changed since it was opened; give the same command again")
    return read_of_index(index)


def read_of_index(index: Index) -> Read:
    """:attr:`Clips.read` of the clips of an index."""
    return of_index(index).read


def of_index(index: Index) -> Clips:
    """The clips of an index, those left out excepted.

    Columns that are read clip by clip are copied, so that memory does not grow by mapped pages while clips are read.
    """
    root, in_frames = Path(index.root), index.form == "frames"
    measured, media, starts = index.measured, index.media.copy(), np.array(index.spans[:, 0])
    val = index.places("val")
    pack = pack_of(index) if index.form == "pack" else None

    def read(place: int, indices: Sequence[int] | None, short_side: int) -> Frames:
        if pack is not None:
            return pack.read(place, indices, short_side)
        medium, start = root / media[place], float(starts[place])
        if in_frames:
            assert index.frames is not None
            first = 0 if math.isnan(start) else round(start)
            wanted = range(int(measured["frames"][place])) if indices is None else indices
            return read_pictures(medium, index.frames, [first + number for number in wanted], short_side)
        if math.isnan(start):
            return decode(medium, short_side, indices)
        assert indices is not None  # see can_be_kept
        fps = float(measured["fps"][place])
        return decode_at(medium, short_side, [start + number / fps for number in indices])

    return Clips(
        heads=tuple(Head(name, tuple(map(encodable, names))) for name, names in index.heads),
        labels=np.array(index.labels),
        train=index.places("train"),
        val=val,
        num_frames=np.array(measured["frames"]),
        heights=np.array(measured["height"]),
        widths=np.array(measured["width"]),
        fps=np.nan_to_num(measured["fps"], nan=0.0),
        subsets={name: np.flatnonzero(index.subsets[val, column]) for column, name in enumerate(index.subset_names)},
        read=read,
        path=lambda place: root / media[place],
        name=lambda place: encodable(index.ids[place]),
        can_be_kept=in_frames or pack is not None or bool(np.isnan(starts).all()),
        form=index.form,
    )
