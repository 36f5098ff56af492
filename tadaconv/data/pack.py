"""A pack: the frames of a data set's clips as JPEGs in tar files, read by offset; and their index next to them.

In the folder of a pack are the *shards*, uncompressed tar files with a member ``<id>/000001.jpg`` for every frame;
``frames.npy``, with the place of every frame in its shard; ``clips.npy``, with the same of every clip;
and the columns of an index, so that neither annotations nor media are needed to train. The index is written last: with
it a pack is whole. :mod:`tadaconv.data.packing` writes packs.
"""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadaconv.data.decode import BrokenVideoError, Frames
from tadaconv.data.index import Index, is_index, open_index
from tadaconv.data.pictures import decode_pictures
from tadaconv.errors import UserError

VERSION = 1

FRAME = np.dtype([("offset", "<i8"), ("bytes", "<i4"), ("crc", "<u4")])
"""Where the JPEG of a frame begins in its shard, how long it is, and the CRC-32 of its bytes."""

CLIP = np.dtype(
    [
        ("place", "<i4"),  # in the index
        ("shard", "<i4"),
        ("first", "<i8"),  # its first frame, counted over all clips
        ("end", "<i8"),  # where in the shard its last member ends
        ("height", "<i4"),
        ("width", "<i4"),
    ]
)
"""Where a clip is, and its size in pixels."""

END_BYTES = 1024
"""Zeros at the end of a tar file."""

ABOUT, FRAMES, CLIPS = "pack.json", "frames.npy", "clips.npy"

Records = NDArray[np.void]


def shard_name(number: int) -> str:
    """The name of a shard's file."""
    return f"shard-{number:05d}.tar"


def is_pack(folder: Path) -> bool:
    """Whether ``folder`` is a pack, whole or not."""
    return (folder / ABOUT).is_file()


@dataclass(frozen=True)
class About:
    """What a pack is of: written before anything else."""

    of: str
    """The fingerprint of the index that it was made from."""
    layout: str
    split: str
    short_side: int
    quality: int
    version: int = VERSION

    @classmethod
    def read(cls, folder: Path) -> "About":
        """What the pack in ``folder`` is of; raises :class:`UserError` for another version, and what is no pack."""
        try:
            written = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            if written["version"] != VERSION:
                raise UserError(f"the pack {str(folder)!r} is of another version of tadaconv; pack the clips again")
            return cls(**written)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"no pack in {str(folder)!r}; make one with: tada data pack") from error


def open_pack(folder: Path) -> Index:
    """The index of the pack in ``folder``, mapped.

    Raises :class:`UserError` for a pack that is not whole, for a shard that is not as long as it was written, and for
    files of two packs.
    """
    About.read(folder)
    if not is_index(folder):
        raise UserError(f"the pack {str(folder)!r} is not finished; give tada data pack again, which resumes it")
    try:
        index = open_index(folder)
    except UserError as error:
        raise UserError(
            f"the index in the pack {str(folder)!r} is truncated, or of another version of tadaconv; copy the pack "
            "again, or delete it and pack the clips again"
        ) from error
    pack_of(index)
    return index


def pack_of(index: Index) -> "Pack":
    """The frames of the pack with this index; raises :class:`UserError` unless its files are whole and of one pack."""
    folder = Path(index.root)
    pack = Pack(folder)
    places = np.sort(np.concatenate([index.places("train"), index.places("val")]))
    measured = index.measured[places] if np.array_equal(places, pack.clips["place"]) else index.measured[:0]
    ends = np.append(pack.clips["first"][1:], pack.num_frames)
    if len(measured) != len(places) or any(
        not np.array_equal(of_index, of_clips)
        for of_index, of_clips in (
            (np.cumsum(measured["frames"], dtype=np.int64), ends),
            (measured["height"], pack.clips["height"]),
            (measured["width"], pack.clips["width"]),
        )
    ):
        raise UserError(
            f"the index in the pack {str(folder)!r} is of other clips than {CLIPS} and {FRAMES} next to it; copy the "
            "pack again, or delete it and pack the clips again"
        )
    return pack


class Pack:
    """The frames of the clips of a pack. No file stays open, so that it may be used in any thread and process."""

    def __init__(self, folder: Path) -> None:
        """Opens the pack in ``folder``; raises :class:`UserError` unless all its files are as long as written."""
        self._folder = folder
        self.clips = _loaded(folder / CLIPS, CLIP, None)
        """Records of the clips, in the order of their places."""
        frames = _loaded(folder / FRAMES, FRAME, "r")
        self.num_frames = len(frames)
        self._frames_at: int = frames.offset
        numbers, last = np.unique(self.clips["shard"][::-1], return_index=True)
        for number, end in zip(numbers.tolist(), self.clips["end"][::-1][last].tolist(), strict=True):
            require_bytes(folder / shard_name(number), end + END_BYTES)

    def read(self, place: int, indices: Sequence[int] | None, short_side: int) -> Frames:
        """Frames of the clip at ``place`` of the index, as :func:`tadaconv.data.pictures.read_pictures` gives them.

        Reads no others from the disk. Raises :class:`BrokenVideoError` for a frame that is not what was packed, and
        OSError.

        Args:
            place: of the clip in the index.
            indices: of frames; None for all.
            short_side: in pixels; 0 keeps the size.
        """
        row = int(np.searchsorted(self.clips["place"], place))
        records = self._records(row)
        wanted = range(len(records)) if indices is None else indices
        with self._shard(row).open("rb", buffering=0) as shard:
            return decode_pictures(lambda position: self._jpeg(shard.fileno(), records, position), wanted, short_side)

    def altered(self, row: int) -> str:
        """Why the frames of the clip in a row of ``clips`` are not what was packed; empty where they are."""
        try:
            records = self._records(row)
            with self._shard(row).open("rb", buffering=0) as shard:
                for position in range(len(records)):
                    self._jpeg(shard.fileno(), records, position)
        except (OSError, BrokenVideoError) as error:
            return getattr(error, "strerror", None) or str(error)
        return ""

    def _shard(self, row: int) -> Path:
        return self._folder / shard_name(int(self.clips["shard"][row]))

    def _records(self, row: int) -> Records:
        """Of the frames of a clip; read and not mapped, since mapped pages stay in memory."""
        first = int(self.clips["first"][row])
        end = int(self.clips["first"][row + 1]) if row + 1 < len(self.clips) else self.num_frames
        with (self._folder / FRAMES).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), (end - first) * FRAME.itemsize, self._frames_at + first * FRAME.itemsize)
        if len(data) < (end - first) * FRAME.itemsize:
            raise BrokenVideoError(f"{FRAMES} is cut off")
        return np.frombuffer(data, FRAME)

    def _jpeg(self, shard: int, records: Records, position: int) -> tuple[str, bytes]:
        """What a frame is called, and its JPEG, from the open file ``shard``."""
        record = records[position]
        offset, name = int(record["offset"]), f"{position + 1:06d}.jpg"
        data = os.pread(shard, int(record["bytes"]), offset)
        if len(data) != record["bytes"] or zlib.crc32(data) != record["crc"]:
            raise BrokenVideoError(f"{name}, at byte {offset:,} of its shard, is not the JPEG that was packed")
        return name, data


def require_bytes(file: Path, size: int) -> None:
    """Raise :class:`UserError` unless ``file`` of a pack has ``size`` bytes."""
    try:
        there = file.stat().st_size
    except OSError as error:
        raise UserError(f"{file} of the pack cannot be read: {error.strerror}; copy it again") from error
    if there != size:
        raise UserError(
            f"{file} of the pack has {there:,} bytes instead of {size:,}: it was truncated or altered; copy it again, "
            "or delete the pack and pack the clips again"
        )


def _loaded(file: Path, kind: np.dtype[Any], mapped: Any) -> Any:
    try:
        column = np.load(file, mmap_mode=mapped)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} of the pack cannot be read or is truncated; copy it again") from error
    if column.dtype != kind:
        raise UserError(f"{file} is of no pack, or of one of another version; pack the clips again")
    return column
