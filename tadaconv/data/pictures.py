"""Folders of numbered pictures to frames, by PyAV: JPEG, PNG and WebP, known by their contents and not by their names.

Every picture is decoded on its own, so that its pixels depend on no other, and in the colour range that it is coded in:
that of JPEG is the full one. Damage is what the decoder notices: PNG has checksums; flipped bits in JPEG and WebP may
decode to wrong pixels in silence.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tadaconv.data.decode import BrokenVideoError, Frames, VideoInfo, require_av, scaled_picture, scaled_size
from tadaconv.data.media import NUMBERED, FrameFiles, frame_files

if TYPE_CHECKING:
    from av import VideoFrame


_CODECS = {"mjpeg": rb"\xff\xd8", "png": rb"\x89PNG", "webp": rb"RIFF....WEBP"}
"""Decoders, by what a file of theirs begins with."""


def count_pictures(folder: Path, files: FrameFiles) -> int:
    """How many frames ``folder`` holds, numbered from ``files.first`` on; none is opened.

    Raises :class:`BrokenVideoError` for a folder without frames, with frames of other names or of another first
    number, and with a gap, and :class:`OSError` if it cannot be listed.
    """
    numbered = map(NUMBERED.fullmatch, os.listdir(folder))  # noqa: PTH208
    named = [(int(name["number"]), name[0]) for name in numbered if name]
    numbers = {number for number, name in named if name == _name(folder, files, number)}
    if not numbers:
        others = frame_files(folder)
        raise BrokenVideoError(
            f"frames named {others.template} where {files.template} was expected" if others else "no frames"
        )
    first, last = min(numbers), max(numbers)
    if first != files.first:
        raise BrokenVideoError(f"frames numbered from {first} where {files.first} was expected")
    if len(numbers) <= last - first:
        missing = next(number for number in range(first, last) if number not in numbers)
        names = _name(folder, files, missing), _name(folder, files, last)
        raise BrokenVideoError(f"{names[0]} is missing, though {names[1]} is there")
    return len(numbers)


def inspect_pictures(folder: Path, files: FrameFiles, whole: bool) -> VideoInfo:
    """Count the frames of ``folder`` and decode the first, or with ``whole`` all of them; ``fps`` is 0.

    Raises :class:`BrokenVideoError` as :func:`count_pictures` and :func:`read_pictures` do.

    Args:
        folder: of the pictures.
        files: how they are called.
        whole: whether all are decoded.
    """
    num_frames = count_pictures(folder, files)
    size: tuple[int, int] | None = None
    for position in range(num_frames if whole else 1):
        name, data = _file(folder, files, position)
        size = _of_one_size(_picture(name, data), size, name)
    assert size is not None
    return VideoInfo(num_frames, *size, 0.0)


def read_pictures(folder: Path, files: FrameFiles, positions: Sequence[int], short_side: int) -> Frames:
    """Frames of ``folder``, scaled so that the short side has ``short_side`` pixels: uint8 (T, H, W, 3), RGB.

    With ``short_side=0`` they keep their size. ``positions`` count from 0, in any order, repetitions allowed. A frame's
    pixels do not depend on which others are asked for. Raises :class:`BrokenVideoError`, which names the file, for a
    picture that is missing, empty, damaged, cut off, none of JPEG, PNG and WebP, marked to be shown turned, or of
    another size than the others.

    Args:
        folder: of the pictures.
        files: how they are called.
        positions: of frames, from 0.
        short_side: in pixels; 0 keeps the size.
    """
    return decode_pictures(lambda position: _file(folder, files, position), positions, short_side)


def decode_pictures(load: Callable[[int], tuple[str, bytes]], positions: Sequence[int], short_side: int) -> Frames:
    """As :func:`read_pictures`, of pictures of which ``load`` gives name and contents by position.

    Args:
        load: from the position of a picture to its name and its contents.
        positions: of frames, from 0.
        short_side: in pixels; 0 keeps the size.
    """
    require_av()
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    size: tuple[int, int] | None = None
    kept: dict[int, Frames] = {}
    for position in sorted(set(positions)):
        name, data = load(position)
        frame = _picture(name, data)
        size = _of_one_size(frame, size, name)
        kept[position] = scaled_picture(reformatter, frame, scaled_size(*size, short_side))
    return np.stack([kept[position] for position in positions])


def _name(folder: Path, files: FrameFiles, number: int) -> str:
    return files.template.format(id=folder.name, number=number)


def _of_one_size(frame: "VideoFrame", size: tuple[int, int] | None, name: str) -> tuple[int, int]:
    """Height and width of ``frame``; raises :class:`BrokenVideoError` unless they are ``size``."""
    if size is not None and size != (frame.height, frame.width):
        sizes = f"{frame.height} x {frame.width} pixels, an earlier frame {size[0]} x {size[1]}"
        raise BrokenVideoError(f"{name} has {sizes}; all frames must have one size")
    return frame.height, frame.width


def _file(folder: Path, files: FrameFiles, position: int) -> tuple[str, bytes]:
    """Name and contents of a picture."""
    name = _name(folder, files, files.first + position)
    try:
        return name, (folder / name).read_bytes()
    except OSError as error:
        raise BrokenVideoError(f"{name} cannot be read ({error.strerror})") from error


def _picture(name: str, data: bytes) -> "VideoFrame":
    """The decoded picture; raises :class:`BrokenVideoError`, which names the file."""
    require_av()
    import av

    if not data:
        raise BrokenVideoError(f"{name}: zero-length file")
    codec = next((codec for codec, begins in _CODECS.items() if re.match(begins, data, re.DOTALL)), None)
    if codec is None:
        raise BrokenVideoError(f"{name}: none of JPEG, PNG and WebP")
    if codec == "mjpeg" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise BrokenVideoError(
            f"{name}: cut off"
        )  # the decoder is content where a scan begins and the image never ends
    context: Any = av.CodecContext.create(codec, "r")
    context.thread_count = 1
    context.options = {"err_detect": "crccheck+explode"}  # errors are raised rather than concealed
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except av.error.FFmpegError as error:
        raise BrokenVideoError(f"{name}: truncated or damaged ({error.strerror or error})") from error
    if len(frames) != 1 or frames[0].is_corrupt:
        raise BrokenVideoError(f"{name}: truncated or damaged")
    frame: VideoFrame = frames[0]
    if frame.rotation:
        raise BrokenVideoError(f"{name}: marked as rotated by {abs(frame.rotation)} degrees; write it upright")
    return frame
