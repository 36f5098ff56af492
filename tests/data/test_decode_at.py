"""Frames by time, against the frame nearest to it among all that decoding the whole video yields."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadaconv.data import decode as decoding
from tadaconv.data.decode import BrokenVideoError, VideoInfo, decode, decode_at, headers, inspect

NUM_FRAMES = 200


class Film(NamedTuple):
    """How a video of noise is written: frame i is like no other."""

    name: str
    codec: str = "libx264"
    options: Mapping[str, str] = MappingProxyType({})
    rate: Fraction = Fraction(25)
    times: Sequence[int] = ()
    """In ticks of 1 / rate, one a frame; 0, 1, 2, ... where there are none."""
    skipped: int = 0
    """Packets that are left out at the beginning."""
    container: Mapping[str, str] = MappingProxyType({})
    """Options of the container."""


def write_film(path: Path, film: Film) -> Path:
    av = pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")
    if film.codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {film.codec}")
    noise = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, 6, 8, 3), np.uint8)
    with av.open(str(path), "w", options=dict(film.container)) as container:
        stream = container.add_stream(film.codec, rate=film.rate, options=dict(film.options))
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 48, 64, "yuv420p", 500_000
        packets: list[Any] = []
        for number, picture in enumerate(noise):
            frame = av.VideoFrame.from_ndarray(picture.repeat(8, axis=0).repeat(8, axis=1), format="rgb24")
            frame.pts, frame.time_base = film.times[number] if film.times else number, 1 / film.rate
            packets += stream.encode(frame)
        container.mux([*packets, *stream.encode()][film.skipped :])
    return path


def times_of(path: Path) -> list[Fraction]:
    """When each frame begins to be shown, in seconds from the first."""
    import av

    with av.open(str(path)) as container:
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    return [time - shown[0] for time in shown]


def nearest(times: Sequence[Fraction], wanted: float) -> int:
    """The first of the frames whose time is nearest."""
    return min(range(len(times)), key=lambda number: abs(times[number] - Fraction(wanted)))


X264 = {"bf": "3", "g": "12"}
OPEN = "open-gop=1:keyint=12:bframes=3:scenecut=0:log-level=none"
UNEVEN = np.cumsum(1 + np.arange(NUM_FRAMES) ** 2 % 7).tolist()
FILMS = [
    Film("short-groups.mp4", options=X264),
    Film("short-groups.mkv", options=X264, rate=Fraction(30000, 1001)),
    Film("one-group.mp4", options={"bf": "3", "g": "250", "sc_threshold": "0"}, rate=Fraction(60000, 1001)),
    Film("vp9.webm", "libvpx-vp9", {"g": "25", "cpu-used": "8", "deadline": "realtime"}, Fraction(50)),
    Film("later.mkv", options=X264, times=range(75, 75 + NUM_FRAMES)),
    Film("later.mp4", options=X264, times=range(75, 75 + NUM_FRAMES)),
    Film("cut.mkv", options=X264, skipped=31),
    Film("uneven.mp4", options=X264, times=UNEVEN),
    Film("uneven.mkv", options=X264, times=UNEVEN),
    Film("open-groups.mp4", options={"x264-params": OPEN}),
    Film("intra-refresh.mkv", options={"x264-params": "intra-refresh=1:keyint=12:log-level=none"}),
    Film("hevc.mkv", "libx265", {"x265-params": OPEN}),
    Film("mpeg2.mkv", "mpeg2video", {"g": "12", "bf": "2", "sc_threshold": "1000000000"}),
    Film("fragments.mp4", options=X264, container={"movflags": "frag_keyframe+empty_moov"}),
    Film("live.mkv", options=X264, container={"live": "1"}),
    Film("b-frames.avi", options=X264),
    Film("b-frames-too.avi", "mpeg4", {"g": "12", "bf": "2"}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one item for every frame that is decoded."""
    items: list[None] = []
    every_frame = decoding._frames

    def counted(*arguments: Any) -> Iterator[Any]:
        for frame in every_frame(*arguments):
            items.append(None)
            yield frame

    monkeypatch.setattr(decoding, "_frames", counted)
    return items


def check(path: Path) -> None:
    """``decode_at`` against brute force: at random times, at those of all frames and halfway between."""
    frames = decode(path, 24)
    times = [number * Fraction(1, 25) for number in range(len(frames))] if path.suffix == ".avi" else times_of(path)
    assert len(frames) == len(times) > 100

    @given(st.lists(st.floats(-0.01, float(times[-1])), min_size=1, max_size=5))
    @settings(max_examples=30)
    def agree(wanted: list[float]) -> None:
        expected = [nearest(times, time) for time in wanted]
        np.testing.assert_array_equal(decode_at(path, 24, wanted), frames[expected])

    agree()
    wanted = [float(time) for time in times]
    wanted += [(one + other) / 2 for one, other in pairwise(wanted)]
    np.testing.assert_array_equal(
        decode_at(path, 24, wanted[::-1]), frames[[nearest(times, time) for time in wanted]][::-1]
    )


@pytest.mark.parametrize("film", FILMS, ids=lambda film: film.name)
def test_the_frame_nearest_to_a_time_is_that_of_the_whole_video(folder, film):
    check(write_film(folder / film.name, film))


def test_times_begin_at_the_first_frame_that_an_edit_list_shows(folder):
    path = write_film(folder / "edited.mp4", Film("edited.mp4", options=X264))
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 12
    duration, start = struct.unpack_from(">2I", content, place)
    per_frame = duration // NUM_FRAMES, 512  # in ticks of the film, 1 / 1000 s, and of its track, 1 / 12800 s
    struct.pack_into(">2I", content, place, duration - 80 * per_frame[0], start + 40 * per_frame[1])
    path.write_bytes(content)
    assert len(decode(path, 24)) == NUM_FRAMES - 80
    assert headers(path).num_frames == pytest.approx(NUM_FRAMES - 80, abs=1)
    check(path)
    with pytest.raises(BrokenVideoError, match=r"ends at 4\.80 s, before 5\.00 s"):
        decode_at(path, 24, [5.0])


def test_a_turned_video_is_shown_upright_after_a_seek(folder):
    path = write_film(folder / "turned.mp4", Film("turned.mp4", options=X264))
    content = bytearray(path.read_bytes())
    turn = struct.pack(">9i", 0, 2**16, 0, -(2**16), 0, 0, 0, 0, 2**30)
    place = content.index(b"tkhd") + 44
    content[place : place + len(turn)] = turn
    path.write_bytes(content)
    assert decode_at(path, 24, [6.0]).shape == (1, 32, 24, 3)
    assert headers(path) == inspect(path) == VideoInfo(NUM_FRAMES, 64, 48, 25.0)
    check(path)


@pytest.mark.parametrize("name", ["short-groups.mp4", "short-groups.mkv", "vp9.webm", "later.mkv", "cut.mkv"])
def test_little_is_decoded_of_what_lies_between(folder, decoded, name):
    film = next(film for film in FILMS if film.name == name)
    path = write_film(folder / name, film)
    group = 25 if name == "vp9.webm" else 12
    decode_at(path, 24, [3.8])
    assert len(decoded) <= 2 + group + 2
    decoded.clear()
    decode_at(path, 24, [0.0, 2.0, 3.8, 3.81])
    assert len(decoded) <= 2 + 2 * (group + 2)
    decoded.clear()
    decode_at(path, 24, np.arange(0, 3.9, 0.01).tolist())
    assert len(decoded) <= NUM_FRAMES


def test_where_key_frames_lie_far_apart_times_in_between_are_played_through(folder, decoded):
    path = write_film(folder / "one-group.mp4", FILMS[2]._replace(rate=Fraction(25)))
    decode_at(path, 24, [1.5, 3.0, 4.5, 6.0, 7.5])
    assert len(decoded) < 2 * NUM_FRAMES


@pytest.mark.parametrize("steps", [(-3,), (-3, 2), (2,), ()])
def test_a_seek_that_lands_late_is_not_trusted(folder, monkeypatch, steps):
    monkeypatch.setattr(decoding, "_STEPS_BACK", steps)
    check(write_film(folder / "late.mp4", FILMS[0]))


def test_a_time_past_the_end_is_refused(folder):
    path = write_film(folder / "short.mp4", FILMS[0])  # of 8 seconds
    np.testing.assert_array_equal(decode_at(path, 24, [0.5, 8.0, 8.03])[1:], decode(path, 24, [199, 199]))
    for wanted in ([8.1], [0.5, 9.0], [0.5, 500.0]):
        with pytest.raises(BrokenVideoError, match=rf"ends at 8\.00 s, before {wanted[-1]:.2f} s"):
            decode_at(path, 24, wanted)


def test_damage_before_a_wanted_time_is_no_matter_and_damage_there_is(folder):
    path = write_film(folder / "damaged.mkv", Film("damaged.mkv", "mpeg4", {"g": "12"}))
    expected = decode(path, 24, [0, 190])
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 300):
        content[place] ^= 0xFF
    path.write_bytes(content)
    np.testing.assert_array_equal(decode_at(path, 24, [0.0, 190 / 25]), expected)
    with pytest.raises(BrokenVideoError, match="damaged"):
        decode_at(path, 24, [0.0, 4.0])


def test_headers_say_what_decoding_yields(folder):
    for film in FILMS:
        if film.codec == "libx265" or film.skipped or film.name == "uneven.mkv":
            continue  # what cannot be shown after a cut is claimed all the same; Matroska has one rate, however uneven
        path = write_film(folder / film.name, film)
        claimed, there = headers(path), inspect(path)
        assert claimed.num_frames == pytest.approx(there.num_frames, abs=1), film.name
        assert (claimed.height, claimed.width, claimed.fps) == (there.height, there.width, there.fps)


def test_headers_of_what_is_no_video(tmp_path):
    pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    for name, reason in {"empty.mp4": "zero-length file", "text.mp4": "unreadable as a video"}.items():
        with pytest.raises(BrokenVideoError, match=reason):
            headers(tmp_path / name)
