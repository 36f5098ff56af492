"""Videos to frames, by PyAV. Frames are counted as they are decoded, never taken from the container's metadata.

A frame's index is its place in display order, so it is exact for variable frame rates and for streams with B-frames.
Reading by index stops at the last frame asked for; it does not seek, because one frame from every segment of a video
spans nearly all of it, and a seek that lands elsewhere than the container promised would shift every index. Reading by
time, in long videos, seeks: a frame carries its time with it, wherever the seek lands.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadaconv.command import install
from tadaconv.errors import UserError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Frames = NDArray[np.uint8]
"""Decoded frames, (T, H, W, 3), RGB."""

Read = Callable[[int, Sequence[int] | None, int], Frames]
"""Gives the frames of a clip by its place, the indices of frames and the short side; see :class:`.clips.Clips`."""

_MIN_STRIDE = 1
"""Seconds that are decoded rather than sought over, as long as key frames are not known to be further apart."""

_STEPS_BACK = (0, 10)
"""Seconds before the wanted time that are sought, until one of these seeks lands at or before it."""


class BrokenVideoError(Exception):
    """A video cannot be used; the message is the reason, without the path."""


@dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole video gives: its frames, and their height and width in pixels as displayed.

    ``fps`` is the mean of frames a second that its container gives; 0 where it gives none.
    """

    num_frames: int
    height: int
    width: int
    fps: float


def require_av() -> None:
    """Raise :class:`UserError` unless PyAV can be imported."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(f"reading videos needs PyAV; install it with: {install('video')}") from error


def inspect(path: Path) -> VideoInfo:
    """Decode ``path`` whole, as strictly as its codec allows.

    Raises :class:`BrokenVideoError` for a file that is empty, unreadable, no video, without frames, damaged or cut
    off, and for frames shown at an odd angle or with height and width that change places. Damage is what the decoder
    notices: some codecs (VP8, VP9) decode flipped bits to wrong pixels in silence.
    """
    end = 0.0

    def timed(packets: "Iterable[Packet]") -> "Iterator[Packet]":
        nonlocal end
        for packet in packets:
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            yield packet

    with _opened(path) as (container, stream):
        num_frames, height, width = 0, 0, 0
        fps = float(stream.average_rate or 0)
        # Every stream counts for where the file ends: sound may well outlast the pictures.
        for frame, orientation in _frames(timed(container.demux()), stream):
            num_frames += 1
            height, width = orientation.shown_size(frame.height, frame.width)
        if num_frames == 0:
            raise BrokenVideoError("no frames")
        _require_end(container, end, num_frames)
    return VideoInfo(num_frames, height, width, fps)


def headers(path: Path) -> VideoInfo:
    """What the container of ``path`` gives of its video, of which at most the first frame is decoded.

    The number of frames is what the container counts, or else its duration times its rate, or else the number of
    packets. It differs from what decoding yields by a few, and by more where the container counts none (Matroska, WebM)
    and the rate varies. Raises :class:`BrokenVideoError` as :func:`inspect` does,
    where the headers or the first frame show it.
    """
    num_packets = 0

    def counted(packets: "Iterable[Packet]") -> "Iterator[Packet]":
        nonlocal num_packets
        for packet in packets:
            num_packets += packet.size > 0
            yield packet

    with _opened(path) as (container, stream), closing(_demux(container, stream)) as demuxed:
        fps = float(stream.average_rate or 0)
        packets = counted(demuxed)
        frame, orientation = next(_frames(packets, stream), (None, None))
        if frame is None or orientation is None:
            raise BrokenVideoError("no frames")
        seconds = 0.0
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            start = (stream.start_time or 0) * float(stream.time_base or 0)
            seconds = container.duration / 1_000_000 - start  # Matroska counts from 0 on, whenever the first frame is
        num_shown = round(seconds * fps)
        # A container counts the frames that an edit list leaves out; its duration is without them.
        num_frames = min(stream.frames, num_shown) if stream.frames and num_shown else stream.frames or num_shown
        if num_frames == 0:
            for _ in packets:
                pass
        return VideoInfo(num_frames or num_packets, *orientation.shown_size(frame.height, frame.width), fps)


def decode(path: Path, short_side: int, wanted: Sequence[int] | None = None) -> Frames:
    """Frames of ``path``, scaled so that the short side has ``short_side`` pixels: uint8 (T, H, W, 3), RGB.

    With ``short_side=0`` they keep the size of the first. ``wanted`` are frame indices in any order, repetitions
    allowed; None is all frames. A frame's pixels do not depend on which others are asked for. Raises
    :class:`BrokenVideoError`, also when the video ends before a wanted frame.

    Args:
        path: of the video.
        short_side: in pixels.
        wanted: indices of frames.
    """
    last = None if wanted is None else max(wanted)
    needed = None if wanted is None else set(wanted)
    kept: dict[int, Frames] = dict(_pictures(path, short_side, needed, last))
    missing = len(kept) == 0 if needed is None else needed - kept.keys()
    if missing:
        raise BrokenVideoError("no frames" if needed is None else f"ends before frame {last}")
    return np.stack([kept[index] for index in (sorted(kept) if wanted is None else wanted)])


def decode_each(path: Path, short_side: int) -> Iterator[Frames]:
    """Every frame of ``path``, one by one, (H, W, 3), as :func:`decode` gives them; few are in memory at a time.

    Raises :class:`BrokenVideoError` as :func:`decode` does, where it comes to what is broken.
    """
    return (picture for _, picture in _pictures(path, short_side, None, None))


def decode_at(path: Path, short_side: int, times: Sequence[float]) -> Frames:
    """The frames of ``path`` nearest to ``times``, scaled as :func:`decode` does: uint8 (T, H, W, 3), RGB.

    ``times`` are in seconds from the first frame that is shown, in any order, repetitions allowed. A frame's time is
    that at which it begins to be shown; of two equally near ones the earlier is taken. Where the container has no such
    times (AVI), frame i is shown at i over the frame rate. What is between wanted times that are far apart is skipped
    by seeking; the frames are those that decoding from the start on yields, to the bit.

    Raises :class:`BrokenVideoError`, also when the video ends more than one frame before a wanted time.

    Args:
        path: of the video.
        short_side: in pixels.
        times: in seconds.
    """
    try:
        return _decode_at(path, short_side, times, seeks=True)
    except (BrokenVideoError, _LateLandingError):  # after a seek, neither need be the video's fault
        return _decode_at(path, short_side, times, seeks=False)


def scaled_picture(reformatter: Any, frame: "VideoFrame", size: tuple[int, int]) -> Frames:
    """``frame`` as it is coded, at ``size``, height and width in pixels: uint8 (H, W, 3), RGB.

    Args:
        reformatter: PyAV's, one for all frames of a video.
        frame: as it was decoded.
        size: height and width, in pixels.
    """
    picture: Frames = reformatter.reformat(
        frame, size[1], size[0], format="rgb24", interpolation="BILINEAR"
    ).to_ndarray()
    return picture


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width in pixels after scaling the shorter to ``short_side``, the aspect ratio kept; as is at 0.

    Args:
        height: in pixels.
        width: in pixels.
        short_side: in pixels.
    """
    short = min(height, width)
    if short_side == 0:
        return height, width
    return round(height * short_side / short), round(width * short_side / short)


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    require_av()
    import av

    status = path.stat()
    if not S_ISREG(status.st_mode):  # to open a FIFO would wait for a writer
        raise BrokenVideoError("not a regular file but a FIFO, a socket or a device; remove it")
    if status.st_size == 0:
        raise BrokenVideoError("zero-length file")
    try:
        # Without "file:", cam:1/a.mp4 names a protocol "cam"; a title need not be UTF-8.
        container: Any = av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FFmpegError, OSError, IndexError) as error:  # IndexError: PyAV on a header with no body
        raise BrokenVideoError(f"unreadable as a video ({_strerror(error)})") from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:  # of a codec that FFmpeg does not know, or cut off
            raise BrokenVideoError("no video stream that can be decoded")
        # One thread: what counts as damage must not depend on timing. Several videos are decoded at once instead.
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        if stream.codec_context.name != "h264":
            # Errors are raised rather than concealed. The decoder of H.264 marks every frame in which it conceals
            # one, and asked to raise, it also refuses a sound frame: the first ones after a cut at an open group of
            # pictures may have it forget a picture from before the cut.
            stream.codec_context.options = {"err_detect": "explode"}
        try:
            yield container, stream
        except (av.error.FFmpegError, OSError) as error:
            raise BrokenVideoError(f"truncated or damaged ({_strerror(error)})") from error


def _pictures(path: Path, short_side: int, needed: set[int] | None, last: int | None) -> Iterator[tuple[int, Frames]]:
    """Index and pixels of the frames ``needed``, None for all, up to frame ``last``."""
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()  # one for all frames: each holds a scaling context that is slow to make
    # Whoever stops early closes what reads the packets, before the container: else PyAV keeps some of its memory.
    with _opened(path) as (container, stream), closing(_demux(container, stream)) as packets:
        size: tuple[int, int] | None = None
        for index, (frame, orientation) in enumerate(_frames(packets, stream)):
            size = size or scaled_size(frame.height, frame.width, short_side)
            if needed is None or index in needed:
                yield index, orientation.shown(scaled_picture(reformatter, frame, size))
            if index == last:
                break


def _decode_at(path: Path, short_side: int, times: Sequence[float], *, seeks: bool) -> Frames:
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    kept: dict[float, Frames] = {}
    with _opened(path) as (container, stream), closing(_Playback(container, stream, seeks=seeks)) as playback:
        size = scaled_size(playback.last.frame.height, playback.last.frame.width, short_side)
        for time in sorted(set(times)):
            shown = playback.nearest(time)
            kept[time] = shown.orientation.shown(scaled_picture(reformatter, shown.frame, size))
    return np.stack([kept[time] for time in times])


class _LateLandingError(Exception):
    """No seek landed at or before the time that was wanted."""


class _Shown(NamedTuple):
    """A frame and when it begins to be shown, in ticks of its stream's time base."""

    tick: Fraction
    frame: "VideoFrame"
    orientation: "_Orientation"


class _Playback:
    """A video played forward from its first frame, two successive frames at a time, skipping by seeks."""

    def __init__(self, container: "InputContainer", stream: "VideoStream", *, seeks: bool) -> None:
        self._container, self._stream = container, stream
        self._second = 1 / Fraction(stream.time_base or 1)  # in ticks, as are all lengths below
        self._frame_length = self._second / stream.average_rate if stream.average_rate else Fraction(0)
        self._stride = _MIN_STRIDE * self._second
        self._end = Fraction(0)
        self._counted = container.format.name == "avi"  # its packets come without times; PyAV puts their order there
        self._shown = self._from_start()
        first = next(self._shown, None)
        if first is None:
            raise BrokenVideoError("no frames")
        self._first, self.last = first, first
        self._next = next(self._shown, None)
        self._seeks = seeks and not self._counted

    def close(self) -> None:
        """Stop; before the container is closed."""
        self._shown.close()

    def nearest(self, time: float) -> _Shown:
        """The frame nearest to ``time``, in seconds from the first; times must not decrease from call to call."""
        wanted = self._first.tick + Fraction(time) * self._second
        if self._seeks and self._next is not None and wanted - self._next.tick > self._stride:
            self._seek(wanted)
        while self._next is not None and self._next.tick <= wanted:
            self.last, self._next = self._next, next(self._shown, None)
        if self._next is None:
            end = max(self._end, self.last.tick + self._frame_length)
            if wanted > end + self._frame_length:
                seconds = float((end - self._first.tick) / self._second)
                raise BrokenVideoError(f"ends at {seconds:.2f} s, before {time:.2f} s")
            return self.last
        return self.last if wanted - self.last.tick <= self._next.tick - wanted else self._next

    def _seek(self, wanted: Fraction) -> None:
        import av

        for step in _STEPS_BACK:
            try:
                self._container.seek(math.floor(wanted - step * self._second), stream=self._stream)
            except (av.error.FFmpegError, OSError):
                break
            self._shown = self._from_key_frame()
            landing = next(self._shown, None)
            if landing is not None and landing.tick <= wanted:
                self._stride = max(self._stride, wanted - landing.tick)  # key frames may be as far apart
                self.last, self._next = landing, next(self._shown, None)
                return
        raise _LateLandingError

    def _from_start(self) -> Generator[_Shown]:
        for number, (frame, orientation) in enumerate(_frames(self._packets(), self._stream)):
            self._counted = self._counted or (number == 0 and frame.pts is None)
            if self._counted and not self._frame_length:
                raise BrokenVideoError("gives neither the times of its frames nor their rate")
            if frame.pts is None and not self._counted:
                raise BrokenVideoError(f"gives no time for frame {number}")
            yield _Shown(number * self._frame_length if self._counted else Fraction(frame.pts), frame, orientation)

    def _from_key_frame(self) -> Generator[_Shown]:
        """From the next key frame on; what is shown before it may refer to what was skipped."""
        key: int | None = None

        def noted() -> "Iterator[Packet]":
            nonlocal key
            for packet in self._packets():
                if key is None and packet.is_keyframe:
                    key = packet.pts
                yield packet

        for frame, orientation in _frames(noted(), self._stream, self._first.orientation.transposed):
            if frame.pts is None:
                raise _LateLandingError
            if key is not None and frame.pts >= key:
                yield _Shown(Fraction(frame.pts), frame, orientation)

    def _packets(self) -> "Iterator[Packet]":
        with closing(_demux(self._container, self._stream)) as packets:
            for packet in packets:
                if packet.pts is not None and not packet.is_discard and not self._counted:
                    self._end = max(self._end, Fraction(packet.pts + (packet.duration or 0)))
                yield packet


def _demux(container: "InputContainer", stream: "VideoStream") -> "Generator[Packet]":
    packets: Any = container.demux(stream)  # which can be closed, contrary to PyAV's types
    generator: Generator[Packet] = packets
    return generator


def _frames(
    packets: "Iterable[Packet]", stream: "VideoStream", transposed: bool | None = None
) -> "Iterator[tuple[VideoFrame, _Orientation]]":
    """The frames of ``stream`` in display order; raises :class:`BrokenVideoError` for what is damaged.

    ``transposed`` is whether earlier frames are turned on their side, None without any.
    """
    import av

    num_frames, key_reached = 0, False
    rotation, orientation = 0, _Orientation(False, False, False)
    for packet in packets:
        if packet.is_corrupt:
            raise BrokenVideoError(f"truncated or damaged after {num_frames} frames")
        if packet.stream.index != stream.index:
            continue
        key_reached = key_reached or packet.is_keyframe
        try:
            frames: Any = packet.decode()
        except av.error.FFmpegError as error:
            if num_frames == 0 and not key_reached:
                continue  # cut within a group of pictures: what precedes the first key frame cannot be shown
            raise BrokenVideoError(f"damaged after {num_frames} frames ({_strerror(error)})") from error
        for frame in frames:
            if frame.is_corrupt:
                raise BrokenVideoError(f"damaged at frame {num_frames}")
            # PyAV keeps memory for every frame with side data that are read, so they are read only if the turn changes.
            if num_frames == 0 or frame.rotation != rotation:
                rotation, orientation = frame.rotation, _orientation(frame)
            if transposed not in (None, orientation.transposed):
                raise BrokenVideoError(f"rotated from frame {num_frames} on; all frames must have one size")
            transposed = orientation.transposed
            num_frames += 1
            yield frame, orientation


@dataclass(frozen=True)
class _Orientation:
    """From the coded picture to the shown one: swap rows and columns, then mirror left-right, then top-bottom."""

    transposed: bool
    mirrored: bool
    upside_down: bool

    def shown_size(self, height: int, width: int) -> tuple[int, int]:
        return (width, height) if self.transposed else (height, width)

    def shown(self, picture: Frames) -> Frames:
        """``picture`` (H, W, 3) as shown: a view of it, of (W, H, 3) where rows and columns are swapped."""
        picture = picture.swapaxes(0, 1) if self.transposed else picture
        return picture[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


def _orientation(frame: "VideoFrame") -> _Orientation:
    """How FFmpeg's players show ``frame``, from its display matrix; PyAV's ``frame.rotation`` knows no mirror.

    Raises :class:`BrokenVideoError` for an angle that is, to the nearest degree, no multiple of 90: FFmpeg shows such a
    frame with its corners cut off.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return _Orientation(False, False, False)
    # Rows of three; (x, y) is shown at (x a + y c, x b + y d), x to the right and y down.
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    if (a, c) == (0, 0) or (b, d) == (0, 0):  # no angle: FFmpeg shows the frame as it is coded
        return _Orientation(False, False, False)
    angle = round(math.degrees(math.atan2(b / math.hypot(b, d), a / math.hypot(a, c)))) % 360
    if angle % 90:
        raise BrokenVideoError(f"displayed rotated by {angle} degrees clockwise; only multiples of 90 are read")
    transposed = angle % 180 == 90
    across, down = (c, b) if transposed else (a, d)
    return _Orientation(transposed, across < 0, down < 0)


def _require_end(container: "InputContainer", end: float, num_frames: int) -> None:
    """Raise :class:`BrokenVideoError` if the packets end, at ``end`` seconds, well before the duration in the header.

    Matroska and AVI files that were cut off read without an error; only the duration shows it. Containers round it and
    may not know how long the last frame stays, so a few frames are let pass.
    """
    if container.duration is None:
        return
    promised = container.duration / 1_000_000
    if promised - end > max(0.25, 3 * end / num_frames):
        raise BrokenVideoError(f"truncated: {end:.1f} of {promised:.1f} seconds are there, {num_frames} frames")


def _strerror(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
