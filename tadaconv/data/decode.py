"""Videos to frames, by PyAV. Frames are counted as they are decoded, never taken from the container's metadata.

A frame's index is its place in display order, so it is exact for variable frame rates and for streams with B-frames.
Reading stops at the last frame asked for; it does not seek, because one frame from every segment of a video spans
nearly all of it, and a seek that lands elsewhere than the container promised would shift every index.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tadaconv.command import install
from tadaconv.errors import UserError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Frames = NDArray[np.uint8]
"""Decoded frames, (T, H, W, 3), RGB."""


class BrokenVideoError(Exception):
    """A video cannot be used; the message is the reason, without the path."""


@dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole video tells: its frames, and their height and width in pixels as displayed."""

    num_frames: int
    height: int
    width: int


def require_av() -> None:
    """Raise :class:`UserError` unless PyAV can be imported."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(f"reading videos needs PyAV; install it with: {install('video')}") from error


def inspect(path: Path) -> VideoInfo:
    """Decode ``path`` whole, as strictly as its codec allows.

    Raises :class:`BrokenVideoError` for a file that is empty, unreadable, no video, without frames, damaged or cut
    off. Damage is what the decoder notices: some codecs (VP8, VP9) decode flipped bits to wrong pixels in silence.
    """
    with _opened(path) as (container, stream):
        num_frames, height, width, end = 0, 0, 0, 0.0
        # Every stream counts for where the file ends: sound may well outlast the pictures.
        for packet in container.demux():
            if packet.is_corrupt:
                raise BrokenVideoError(f"cut off or damaged after {num_frames} frames")
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == stream.index:
                for frame in _decoded(packet, num_frames):
                    num_frames += 1
                    height, width = _displayed_size(frame)
        if num_frames == 0:
            raise BrokenVideoError("no frames")
        _require_end(container, end, num_frames)
    return VideoInfo(num_frames, height, width)


def decode(path: Path, short_side: int, wanted: Sequence[int] | None = None) -> Frames:
    """Frames of ``path``, scaled so that the short side has ``short_side`` pixels: uint8 (T, H, W, 3), RGB.

    ``wanted`` are frame indices in any order, repetitions allowed; None is all frames. A frame's pixels do not depend
    on which others are asked for. Raises :class:`BrokenVideoError`, also when the video ends before a wanted frame.
    """
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()  # one for all frames: each holds a scaling context that is slow to make
    last = None if wanted is None else max(wanted)
    needed = None if wanted is None else set(wanted)
    kept: dict[int, Frames] = {}
    with _opened(path) as (container, stream):
        size: tuple[int, int] | None = None
        for index, frame in enumerate(_frames(container, stream)):
            size = size or scaled_size(frame.height, frame.width, short_side)
            if needed is None or index in needed:
                scaled = reformatter.reformat(frame, size[1], size[0], format="rgb24", interpolation="BILINEAR")
                kept[index] = np.rot90(scaled.to_ndarray(), k=frame.rotation // 90)
            if index == last:
                break
    missing = len(kept) == 0 if needed is None else needed - kept.keys()
    if missing:
        raise BrokenVideoError("no frames" if needed is None else f"ends before frame {last}")
    return np.stack([kept[index] for index in (sorted(kept) if wanted is None else wanted)])


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width in pixels after scaling the shorter of them to ``short_side``, the aspect ratio kept."""
    short = min(height, width)
    return round(height * short_side / short), round(width * short_side / short)


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    require_av()
    import av

    if path.stat().st_size == 0:
        raise BrokenVideoError("zero-length file")
    try:
        container: Any = av.open(str(path))
    except (av.error.FFmpegError, OSError, IndexError) as error:  # IndexError: PyAV on a header with no body
        raise BrokenVideoError(f"unreadable as a video ({_strerror(error)})") from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise BrokenVideoError("no video stream")
        # One thread, and errors raised rather than painted over: what counts as damage must not depend on timing.
        # Several videos are decoded at once instead.
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}
        try:
            yield container, stream
        except (av.error.FFmpegError, OSError) as error:
            raise BrokenVideoError(f"cut off or damaged ({_strerror(error)})") from error


def _frames(container: "InputContainer", stream: "VideoStream") -> "Iterator[VideoFrame]":
    num_frames = 0
    for packet in container.demux(stream):
        for frame in _decoded(packet, num_frames):
            num_frames += 1
            yield frame


def _decoded(packet: Any, num_before: int) -> "Iterator[VideoFrame]":
    import av

    try:
        frames = packet.decode()
    except av.error.FFmpegError as error:
        raise BrokenVideoError(f"damaged after {num_before} frames ({_strerror(error)})") from error
    for place, frame in enumerate(frames):
        if frame.is_corrupt:
            raise BrokenVideoError(f"damaged at frame {num_before + place}")
        yield frame


def _displayed_size(frame: "VideoFrame") -> tuple[int, int]:
    turned = frame.rotation // 90 % 2
    return (frame.width, frame.height) if turned else (frame.height, frame.width)


def _require_end(container: "InputContainer", end: float, num_frames: int) -> None:
    """Raise :class:`BrokenVideoError` if the packets end, at ``end`` seconds, well before the duration in the header.

    Matroska and AVI files that were cut off read without an error; only the duration tells. Containers round it and
    may not know how long the last frame stays, so a few frames are let pass.
    """
    if container.duration is None:
        return
    promised = container.duration / 1_000_000
    if promised - end > max(0.25, 3 * end / num_frames):
        raise BrokenVideoError(f"cut off: {end:.1f} of {promised:.1f} seconds are there, {num_frames} frames")


def _strerror(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
