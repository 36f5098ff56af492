"""A pack: the frames of a data set's clips as JPEGs in tar files, read by where they lie; and their index beside them.

In the folder of a pack are the *shards*, uncompressed tar files with a member ``<id>/000001.jpg`` for every frame;
``frames.npy``, which says of every frame where in its shard it lies; ``clips.npy``, which says the same of every clip;
and the columns of an index, so that neither annotations nor media are needed to train. The index is written last: with
it a pack is whole. :mod:`tadaconv.data.packing` writes packs.
"""

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tadaconv.data.annotations import SIDES
from tadaconv.data.decode import BrokenVideoError, Frames
from tadaconv.data.index import Index, is_index, open_index
from tadaconv.data.inspection import over_cores
from tadaconv.data.pictures import decode_pictures
from tadaconv.errors import UserError
from tadaconv.text import encodable

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
"""Where a clip lies, and its size in pixels."""

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
                raise UserError(f"the pack {str(folder)!r} is of another version of tadaconv; pack the clips anew")
            return cls(**written)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"no pack in {str(folder)!r}; make one with: tada data pack") from error


def open_pack(folder: Path) -> Index:
    """The index of the pack in ``folder``, mapped.

    Raises :class:`UserError` for a pack that is not whole, and for a shard that is not as long as it was written.
    """
    About.read(folder)
    if not is_index(folder):
        raise UserError(f"the pack {str(folder)!r} is not finished; give tada data pack again, which goes on with it")
    index = open_index(folder)
    Pack(folder)
    return index


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
        """
        row = int(np.searchsorted(self.clips["place"], place))
        records = self._records(row)
        shard = os.open(self._shard(row), os.O_RDONLY)
        try:
            wanted = range(len(records)) if indices is None else indices
            return decode_pictures(lambda position: self._jpeg(shard, records, position), wanted, short_side)
        finally:
            os.close(shard)

    def altered(self, row: int) -> str:
        """Why the frames of the clip in a row of ``clips`` are not what was packed; empty where they are."""
        try:
            records = self._records(row)
            shard = os.open(self._shard(row), os.O_RDONLY)
        except (OSError, BrokenVideoError) as error:
            return getattr(error, "strerror", None) or str(error)
        try:
            for position in range(len(records)):
                self._jpeg(shard, records, position)
        except (OSError, BrokenVideoError) as error:
            return getattr(error, "strerror", None) or str(error)
        finally:
            os.close(shard)
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
        raise UserError(f"{file} of the pack cannot be read: {error.strerror}; copy it anew") from error
    if there != size:
        raise UserError(
            f"{file} of the pack has {there:,} bytes instead of {size:,}: it was cut off or altered; copy it anew, or "
            "delete the pack and pack the clips again"
        )


def _loaded(file: Path, kind: np.dtype[Any], mapped: Any) -> Any:
    try:
        column = np.load(file, mmap_mode=mapped)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} of the pack cannot be read or is cut off; copy it anew") from error
    if column.dtype != kind:
        raise UserError(f"{file} is of no pack, or of one of another version; pack the clips anew")
    return column


class PackReport(BaseModel):
    """What a pack holds, and the clips of it that are no longer what was packed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    layout: str
    split: str
    clips: dict[str, int] = Field(description="Clips by side.")
    num_frames: int
    num_bytes: int = Field(description="Of all shards.")
    fingerprint: str
    altered: tuple[tuple[str, str], ...] = Field(description="Id and reason of clips that are not what was packed.")

    @property
    def ok(self) -> bool:
        """Whether a run can be made on it."""
        return not self.altered


def summary(folder: Path) -> str:
    """What is in a pack, in a line; raises as :func:`open_pack` does."""
    return _summary(_report(folder, open_pack(folder), Pack(folder), ()))


def check_pack(folder: Path) -> PackReport:
    """Read every JPEG of a pack and hold it against what was packed; raises as :func:`open_pack` does."""
    index, pack = open_pack(folder), Pack(folder)
    reasons: Iterable[str] = over_cores(pack.altered, range(len(pack.clips)), "checking the pack")
    places = pack.clips["place"].tolist()
    altered = [(index.ids[place], reason) for place, reason in zip(places, reasons, strict=True) if reason]
    return _report(folder, index, pack, altered)


def _report(folder: Path, index: Index, pack: Pack, altered: Sequence[tuple[str, str]]) -> PackReport:
    shards = np.unique(pack.clips["shard"]).tolist()
    return PackReport(
        root=encodable(str(folder)),
        layout=index.layout,
        split=index.split,
        clips={side: len(index.places(side)) for side in SIDES[:2]},
        num_frames=pack.num_frames,
        num_bytes=sum((folder / shard_name(number)).stat().st_size for number in shards),
        fingerprint=index.fingerprint,
        altered=tuple((encodable(one), encodable(reason)) for one, reason in altered),
    )


def _summary(report: PackReport) -> str:
    split = f", split {report.split}" if report.split else ""
    frame = report.num_bytes / max(1, report.num_frames) / 1000
    return (
        f"{report.root}: a pack of {report.layout}{split}, {report.clips['train']:,} training clips and "
        f"{report.clips['val']:,} validation clips, {report.num_frames:,} frames of {frame:.1f} KB, "
        f"{report.num_bytes / 1e9:,.2f} GB"
    )


def render(report: PackReport) -> str:
    """The report as text for a terminal."""
    lines = [_summary(report), *(f"  {one}: {reason}" for one, reason in report.altered[:10])]
    if len(report.altered) > 10:
        lines.append(f"  and {len(report.altered) - 10:,} more; --json has all of them")
    if report.altered:
        lines.append(f"{len(report.altered):,} clips are not what was packed; copy the pack anew, or pack them again")
    else:
        lines.append("every frame is what was packed")
    return "\n".join(lines)
