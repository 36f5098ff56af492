"""Writing a pack: every training and validation clip decoded once, its frames coded as JPEGs and appended to tar files.

Clips are written in the order of the index: first appended to the shard, then entered into ``frames.npy``, then into
``clips.npy``, both of which have their full length, in zeros, from the beginning. So a pack whose writing was stopped,
at any moment, is cut back to its last whole clip and resumed from there, to the bytes it would have had.
"""

import fcntl
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from tadaconv.data.annotations import Strings
from tadaconv.data.clips import Clips
from tadaconv.data.decode import BrokenVideoError, Frames, decode_each, require_av
from tadaconv.data.index import Index, is_index, remove_index, write_index
from tadaconv.data.pack import (
    ABOUT,
    CLIP,
    CLIPS,
    END_BYTES,
    FRAME,
    FRAMES,
    About,
    Records,
    is_pack,
    require_bytes,
    shard_name,
)
from tadaconv.data.threads import over_cores
from tadaconv.errors import UserError
from tadaconv.files import write_file

SHORT_SIDE = 256
"""Pixels of the short side of a frame; smaller frames keep their size."""

QUALITY = 2
"""FFmpeg's ``qscale``, of which 2 is the best. Of 255 levels, pixels differ by 1.7 on average from what was packed, and
1.2 of these are a darkening: where frames keep their size, FFmpeg's way from 4:2:0 to RGB, which videos go as well,
rounds down."""

SHARD_BYTES = 10**9
"""A shard ends before the clip that would make it longer."""

_CHUNK = 64
"""Frames of a part of a long video that are decoded at a time."""

_NAME_BYTES = 100
"""The longest folder's name within a tar file; longer ones are cut, and a hash is added."""


class Packed(NamedTuple):
    """A clip's members of a tar file, and its frames, with offsets from the first member on."""

    members: bytes
    frames: Records
    height: int
    width: int


def pack_clips(index: Index, folder: Path) -> int:
    """Write the usable training and validation clips of ``index`` as a pack into ``folder``, or what it lacks of them.

    Returns how many clips were there already. Raises :class:`UserError` where ``folder`` holds something else, a pack
    of other clips, or a shard that was cut off among others; where the disk is full; and for a clip that is no longer
    as the index has it.
    """
    require_av()
    places = np.sort(np.concatenate([index.places("train"), index.places("val")]))
    about = About(index.fingerprint, index.layout, index.split, SHORT_SIDE, QUALITY)
    clips = Clips(index)
    try:
        with closing(_Writer(folder, about, places, index.measured["frames"][places])) as writer:
            num_kept = writer.num_clips
            if num_kept == len(places) and is_index(folder):
                return num_kept
            todo = places[num_kept:].tolist()
            for packed in over_cores(lambda place: _packed(index, clips, place), todo, "packing clips"):
                writer.add(packed)
            writer.finish()
            write_index(folder, _index_of_pack(index, np.load(folder / CLIPS)))
    except OSError as error:
        raise UserError(
            f"cannot write the pack {str(folder)!r}: {error.strerror}; make room or name another --out, and give the "
            "same command again: what has been packed is kept"
        ) from error
    return num_kept


def member_folder(clip_id: str) -> str:
    """The folder of a clip's frames within a tar file: its id, all but plain letters, digits and -._~ as ``%2F``."""
    name = quote(clip_id.encode(errors="surrogateescape"), safe="")
    if not name.strip("."):
        name = name.replace(".", "%2E")  # "." and ".." are no folders
    if len(name) <= _NAME_BYTES:
        return name
    return f"{name[: _NAME_BYTES - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class JpegEncoder:
    """Codes pictures of one size as JPEGs, the same bytes for the same picture."""

    def __init__(self, height: int, width: int) -> None:
        """``height`` and ``width`` in pixels."""
        from av import CodecContext
        from av.video.reformatter import VideoReformatter

        context: Any = CodecContext.create("mjpeg", "w")
        context.height, context.width = height, width
        # Half of the colour's pixels: 4:4:4 takes twice as long to decode.
        context.pix_fmt = "yuvj420p"
        context.time_base = Fraction(1)
        context.thread_count = 1
        limits = {"qmin": str(QUALITY), "qmax": str(QUALITY)}
        # Of bitexact no version is written; 118 is FFmpeg's unit of quality.
        context.options = {"flags": "+qscale+bitexact", "global_quality": str(118 * QUALITY), **limits}
        self._context = context
        self._reformatter = VideoReformatter()
        self._num_coded = 0

    def encode(self, picture: Frames) -> bytes:
        """The JPEG of ``picture``, uint8 (H, W, 3), RGB."""
        from av import VideoFrame

        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = self._reformatter.reformat(frame, format="yuvj420p")
        frame.pts = self._num_coded
        self._num_coded += 1
        (packet,) = self._context.encode(frame)
        return bytes(packet)


def _packed(index: Index, clips: Clips, place: int) -> Packed:
    """The clip at ``place``, decoded and coded; raises :class:`UserError` where it is not as the index has it."""
    folder = member_folder(index.ids[place])
    members: list[bytes] = []
    frames = np.zeros(int(clips.num_frames[place]), FRAME)
    encoder, size, end, count = None, (0, 0), 0, 0
    try:
        for picture in _frames(index, clips, place):
            if encoder is None:
                size = picture.shape[:2]
                encoder = JpegEncoder(*size)
            if picture.shape[:2] != size:
                raise BrokenVideoError("its frames are of several sizes")
            if count < len(frames):
                jpeg = encoder.encode(picture)
                header = tarfile.TarInfo(f"{folder}/{count + 1:06d}.jpg")
                header.size = len(jpeg)
                members += [header.tobuf(tarfile.USTAR_FORMAT), jpeg, bytes(-len(jpeg) % tarfile.BLOCKSIZE)]
                frames[count] = (end + tarfile.BLOCKSIZE, len(jpeg), zlib.crc32(jpeg))
                end += sum(map(len, members[-3:]))
            count += 1
        if count != len(frames):
            raise BrokenVideoError(f"it has {count} frames instead of {len(frames)}")
    except (BrokenVideoError, OSError) as error:
        raise UserError(
            f"{clips.path(place)} was intact when checked and no longer is: {error}; repair it, or check the clips "
            f"again ({index.check}) and pack them into another folder"
        ) from error
    return Packed(b"".join(members), frames, *size)


def _frames(index: Index, clips: Clips, place: int) -> Iterator[Frames]:
    """The frames of a clip one by one, (H, W, 3), at the size that is packed."""
    short_side = SHORT_SIDE if min(clips.heights[place], clips.widths[place]) > SHORT_SIDE else 0
    if index.form == "video" and np.isnan(index.spans[place, 0]):
        yield from decode_each(clips.path(place), short_side)
        return
    count = int(clips.num_frames[place])
    for first in range(0, count, _CHUNK):
        yield from clips.read(place, range(first, min(first + _CHUNK, count)), short_side)


class _Writer:
    """Appends clips to the pack in a folder; whoever makes one closes it."""

    def __init__(self, folder: Path, about: About, places: NDArray[np.int64], counts: NDArray[np.int32]) -> None:
        """Begins a pack of clips at ``places`` with ``counts`` frames, or cuts one back to its last whole clip."""
        self._folder, self._places = folder, places
        self._firsts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        folder.mkdir(parents=True, exist_ok=True)
        begun = {FRAMES, CLIPS, *(file.name for file in folder.glob(f"{ABOUT}.*"))}  # of a process that was killed
        others = sorted(set(os.listdir(folder)) - begun)  # noqa: PTH208
        if others and not is_pack(folder):
            raise UserError(f"{str(folder)!r} holds {others[0]!r} and no pack; name a new folder with --out")
        if is_pack(folder) and About.read(folder) != about:
            raise UserError(
                f"{str(folder)!r} is a pack of other clips, or of the same ones before something changed; name another "
                "--out, or delete it"
            )
        self._lock_file = (folder / CLIPS).open("ab")
        self._shard_file: Any = None
        self._shard, self._end = 0, 0  # the last one, and how many bytes of it are members
        try:
            self._lock()
            self._clips = _column(folder / CLIPS, CLIP, len(places))
            self._frames = _column(folder / FRAMES, FRAME, int(self._firsts[-1]))
            if not is_pack(folder):
                write_file(folder / ABOUT, json.dumps(asdict(about)))
            self.num_clips = self._cut_back()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close and unlock it."""
        for file in (self._shard_file, self._lock_file):
            if file is not None:
                file.close()

    def add(self, packed: Packed) -> None:
        """Append the next clip."""
        if self._end and self._end + len(packed.members) + END_BYTES > SHARD_BYTES:
            self._end_shard()
            self._shard, self._end = self._shard + 1, 0
        if self._shard_file is None:
            self._shard_file = (self._folder / shard_name(self._shard)).open("ab", buffering=0)
        _write(self._shard_file, packed.members)
        first, end = self._firsts[self.num_clips : self.num_clips + 2]
        self._frames[first:end] = packed.frames
        self._frames["offset"][first:end] += self._end
        self._end += len(packed.members)
        place = self._places[self.num_clips]
        self._clips[self.num_clips] = (place, self._shard, first, self._end, packed.height, packed.width)
        self.num_clips += 1

    def finish(self) -> None:
        """End the last shard."""
        self._end_shard()

    def _end_shard(self) -> None:
        if self._shard_file is None:  # all clips were there
            self._shard_file = (self._folder / shard_name(self._shard)).open("ab", buffering=0)
        _write(self._shard_file, bytes(END_BYTES))
        os.fsync(self._shard_file.fileno())  # shards that are not the last are not inspected again
        self._frames.flush()
        self._clips.flush()
        self._shard_file.close()
        self._shard_file = None

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lock_file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is writing the pack {str(self._folder)!r}; wait for it") from error
        except OSError:  # a disk that has no locks
            return

    def _cut_back(self) -> int:
        """Cut off what is no whole clip, and return how many whole ones there are."""
        clips: Records = np.array(self._clips)
        own = (clips["place"] == self._places) & (clips["first"] == self._firsts[:-1]) & (clips["end"] > 0)
        clips = clips[: len(clips) if own.all() else int(np.argmin(own))]
        while len(clips):
            self._shard = int(clips["shard"][-1])
            (rows,) = np.nonzero(clips["shard"] == self._shard)
            num_intact = self._num_intact(clips[rows], int(rows[0]))
            clips = clips[: rows[0] + num_intact]
            if num_intact:
                break
        self._shard, self._end = (int(clips["shard"][-1]), int(clips["end"][-1])) if len(clips) else (0, 0)
        for number in range(self._shard):
            ends = clips["end"][clips["shard"] == number]
            require_bytes(self._folder / shard_name(number), int(ends[-1]) + END_BYTES)
        last = self._folder / shard_name(self._shard)
        whole = len(clips) == len(self._places) and is_index(self._folder)
        if whole and last.stat().st_size == self._end + END_BYTES:
            return len(clips)
        remove_index(self._folder)
        self._clips[len(clips) :] = 0
        self._frames[self._firsts[len(clips)] :] = 0
        for path in self._folder.glob("shard-*.tar"):
            if path.name > last.name:
                path.unlink()
        if last.exists():
            os.truncate(last, self._end)
        return len(clips)

    def _num_intact(self, clips: Records, first_row: int) -> int:
        """How many of the clips of one shard, the last, are in it whole, counted from the first."""
        try:
            with (self._folder / shard_name(int(clips["shard"][0]))).open("rb") as file:
                for number in range(len(clips)):
                    row = first_row + number
                    for offset, size, crc in self._frames[self._firsts[row] : self._firsts[row + 1]].tolist():
                        file.seek(offset)
                        if size == 0 or zlib.crc32(file.read(size)) != crc:
                            return number
                        end = offset + size + -size % tarfile.BLOCKSIZE
                    if end != clips["end"][number]:
                        return number
        except FileNotFoundError:
            return 0
        return len(clips)


def _column(file: Path, kind: np.dtype[Any], count: int) -> Any:
    """The column of ``count`` records in ``file``, mapped for writing; of zeros where nothing is written yet."""
    try:
        column = np.lib.format.open_memmap(file, "r+")
    except (OSError, ValueError):  # none yet, or spoilt
        column = None
    if column is None or (column.dtype, column.shape) != (kind, (count,)):
        column = np.lib.format.open_memmap(file, "w+", kind, (count,))
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as allocated:  # where a disk cannot allocate, the C library does not append either
            os.posix_fallocate(allocated.fileno(), 0, file.stat().st_size)  # else a full disk is a signal
    return column


def _write(file: Any, data: bytes) -> None:
    """All of ``data``; a file without a buffer may take a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _index_of_pack(index: Index, clips: Records) -> Index:
    """The index of a pack: as that of the media, but for where its clips are and their size in pixels."""
    media = [""] * len(index)
    for clip in clips:
        place = int(clip["place"])
        media[place] = f"{shard_name(int(clip['shard']))}/{member_folder(index.ids[place])}"
    measured = np.array(index.measured)
    for name in ("path", "bytes", "changed", "digest"):  # of the media
        measured[name] = np.zeros((), measured.dtype[name])
    for name in ("height", "width"):
        measured[name][clips["place"]] = clips[name]
    return replace(index, root=".", media=Strings(media), measured=measured, form="pack", frames=None, sources=())
