import math
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tadaconv.data.decode import BrokenVideoError, VideoInfo, decode, headers, inspect, scaled_size

FORMATS = {
    "mpeg4.mp4": ("mpeg4", {}),
    "mpeg4.avi": ("mpeg4", {}),
    "mpeg4.mkv": ("mpeg4", {}),
    "b-frames.mp4": ("libx264", {"bf": "2", "g": "12"}),
    "b-frames.mkv": ("libx264", {"bf": "3", "g": "30"}),
    "vp8.webm": ("libvpx", {}),
    "vp9.webm": ("libvpx-vp9", {"lag-in-frames": "0"}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_frames_carry_their_index(tmp_path, write_video, frame_indices, name):
    codec, options = FORMATS[name]
    path = write_video(tmp_path / name, num_frames=40, codec=codec, options=options)
    assert inspect(path) == VideoInfo(num_frames=40, height=48, width=64, fps=25.0)
    assert frame_indices(decode(path, 48)) == list(range(40))
    assert frame_indices(decode(path, 48, [31, 0, 7, 7, 39])) == [31, 0, 7, 7, 39]


def test_a_variable_frame_rate_does_not_shift_frames(tmp_path, write_video, frame_indices):
    times = np.cumsum([1, 30, 2, 2, 90, 1, 1, 45, 3, 7]).tolist()
    path = write_video(tmp_path / "uneven.mp4", num_frames=10, times=times)
    assert inspect(path).num_frames == 10
    assert frame_indices(decode(path, 48, [8, 2, 5])) == [8, 2, 5]


def test_a_frame_is_the_same_whichever_others_are_decoded(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", codec="libx264", size=(90, 120), marked=True)
    whole = decode(path, 32)
    assert whole.shape == (12, 32, 43, 3)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(decode(path, 32, [3, 11]), whole[[3, 11]])


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (48, 48), (50, 170)])
def test_the_short_side_is_scaled_and_the_shape_kept(size):
    height, width = scaled_size(*size, 24)
    assert min(height, width) == 24
    assert abs(height / width - size[0] / size[1]) < 0.02


@pytest.mark.parametrize(("rotation", "shape", "corner"), [(90, (64, 48), (-1, 0)), (180, (48, 64), (-1, -1))])
def test_a_turned_video_is_shown_upright(tmp_path, write_video, rotation, shape, corner):
    path = write_video(tmp_path / "phone.mp4", rotation=rotation, marked=True)
    assert inspect(path) == VideoInfo(12, *shape, 25.0)
    first = decode(path, 48, [0])[0]
    assert first.shape == (*shape, 3)
    bright = first[..., 0] > 128
    assert bright[corner]  # the white quarter, top left in the stream, turned counter-clockwise
    assert abs(bright.mean() - 0.25) < 0.05


def write_matrix(path: Path, video: Path, a: float, b: float, c: float, d: float) -> Path:
    """``video``, an MP4 file, with the display matrix ((a, b, 0), (c, d, 0), (0, 0, 1)), at ``path``."""
    content = bytearray(video.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(
        ">9i", *(round(value * 2**16) for value in (a, b, 0, c, d, 0, 0, 0)), 2**30
    )
    path.write_bytes(content)
    return path


def moved(picture: NDArray[np.uint8], a: int, b: int, c: int, d: int) -> NDArray[np.uint8]:
    """``picture`` (H, W, 3) pixel by pixel: (x, y) is shown at (x a + y c, x b + y d), from the least of them on."""
    places = {(x * a + y * c, x * b + y * d): picture[y, x] for y, x in np.ndindex(*picture.shape[:2])}
    columns, rows = (sorted({place[axis] for place in places}) for axis in (0, 1))
    return np.array([[places[x, y] for x in columns] for y in rows])


MIRRORS_AND_TURNS = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("matrix", MIRRORS_AND_TURNS)
def test_a_clip_is_turned_and_mirrored_as_its_display_matrix_says(tmp_path, write_video, matrix):
    coded = write_video(tmp_path / "coded.mp4", num_frames=2, marked=True)
    expected = [moved(picture, *matrix) for picture in decode(coded, 48)]
    for scales in ((1, 1), (0.3, 2.5)):  # the size at which to show it is the player's matter
        a, b, c, d = (value * scales[place % 2] for place, value in enumerate(matrix))
        path = write_matrix(tmp_path / "shown.mp4", coded, a, b, c, d)
        np.testing.assert_array_equal(decode(path, 48), expected)
        assert inspect(path) == VideoInfo(2, *expected[0].shape[:2], 25.0)


def test_a_matrix_that_shows_nothing_is_passed_over(tmp_path, write_video):
    coded = write_video(tmp_path / "coded.mp4", num_frames=2, marked=True)
    for matrix in ((0, 0, 0, 0), (-1, 0, -1, 0), (0, -1, 0, -1), (-1, 0, 0, 0)):
        path = write_matrix(tmp_path / "shown.mp4", coded, *matrix)
        np.testing.assert_array_equal(decode(path, 48), decode(coded, 48))


@pytest.mark.parametrize("mirror", [1, -1])
def test_an_angle_is_taken_to_the_nearest_degree_and_refused_between_quarter_turns(tmp_path, write_video, mirror):
    coded = write_video(tmp_path / "coded.mp4", num_frames=2, marked=True)
    for angle in (0.4, 1, 45, 89, 89.6, 91, 179, 180.4, 181, 269.6, 271, 359, 359.6):
        turn = math.radians(angle)
        a, b, c, d = math.cos(turn), math.sin(turn), -mirror * math.sin(turn), mirror * math.cos(turn)
        path = write_matrix(tmp_path / "shown.mp4", coded, a, b, c, d)
        if round(angle) % 90:
            assert reason(path) == f"displayed rotated by {angle} degrees clockwise; only multiples of 90 are read"
        else:
            upright = write_matrix(tmp_path / "upright.mp4", coded, *map(round, (a, b, c, d)))
            np.testing.assert_array_equal(decode(path, 48), decode(upright, 48))


def test_a_clip_that_is_turned_on_its_side_midway_is_broken(tmp_path, write_video):
    write_video(tmp_path / "skip.mp4", codec="libx264", num_frames=1)
    import av

    path = tmp_path / "turns.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        packets = [packet for _ in range(6) for packet in stream.encode(picture)] + stream.encode()
        for number, packet in enumerate(packets):
            message = b"\0\0\0\1\x06\x2f\x03\x08\0\x14\x80" if number == 4 else b""  # this frame by 90 degrees
            turned = av.Packet(message + bytes(packet))
            turned.pts, turned.dts, turned.time_base = packet.pts, packet.dts, packet.time_base
            turned.stream, turned.is_keyframe = stream, packet.is_keyframe
            container.mux(turned)
    assert reason(path) == "rotated from frame 4 on; all frames must have one size"
    with pytest.raises(BrokenVideoError, match="frame 4"):
        decode(path, 48)


X264 = "open-gop=1:keyint=12:bframes=3:scenecut=0:b-adapt=0:log-level=none:b-pyramid="
OPEN_GROUPS = {
    "h264.mp4": ("libx264", {"x264-params": X264 + "normal"}),
    "h264.mkv": ("libx264", {"x264-params": X264 + "strict"}),
    "intra-refresh.mkv": ("libx264", {"x264-params": "intra-refresh=1:keyint=12:log-level=none"}),
    "hevc.mkv": ("libx265", {"x265-params": "open-gop=1:keyint=12:bframes=3:scenecut=0:log-level=none"}),
    "mpeg2.mkv": ("mpeg2video", {"g": "12", "bf": "2", "sc_threshold": "1000000000"}),
}


@pytest.mark.parametrize("name", OPEN_GROUPS)
def test_a_clip_cut_out_without_encoding_is_read_as_it_was(tmp_path, write_video, name):
    """From any picture on, that of another group whose leading pictures refer to what was cut off among them."""
    codec, options = OPEN_GROUPS[name]
    video = {"num_frames": 47, "codec": codec, "options": options, "size": (96, 128), "marked": True}
    whole = write_video(tmp_path / name, **video)
    expected = decode(whole, 48)
    import av

    with av.open(str(whole)) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    second_key = [number for number, key in enumerate(keys) if key][1]
    grey = name == "hevc.mkv" and av.library_versions["libavcodec"] < (62,)  # FFmpeg 7 shows what refers to nothing
    for first in (second_key,) if grey else (second_key, second_key - 4):
        path = write_video(tmp_path / f"cut-{name}", skipped=first, **video)
        frames = decode(path, 48)
        assert 15 < len(frames) == inspect(path).num_frames
        np.testing.assert_array_equal(frames, expected[-len(frames) :])


@pytest.mark.parametrize("folder", ["cam:1", "file:", "http:", "-a", "%02d", "what?#", "caf\udce9"])
def test_a_path_is_a_path_whatever_it_is_called(tmp_path, write_video, monkeypatch, folder):
    write_video(tmp_path / "clips" / "a.mp4").parent.rename(tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    path = Path(folder) / "a.mp4"
    assert inspect(path).num_frames == 12
    assert len(decode(path, 48)) == 12


def test_a_title_that_is_not_utf8_breaks_no_clip(tmp_path, write_video):
    path = write_video(tmp_path / "a.avi", title="Rivi_re")
    path.write_bytes(path.read_bytes().replace(b"Rivi_re", "Rivi\xe8re".encode("latin-1")))
    assert inspect(path).num_frames == headers(path).num_frames == len(decode(path, 48)) == 12


def reason(path: Path) -> str:
    with pytest.raises(BrokenVideoError) as caught:
        inspect(path)
    return str(caught.value)


def test_a_file_that_is_no_video_is_named_for_what_it_is(tmp_path, write_video):
    write_video(tmp_path / "good.mp4")  # skips where PyAV is missing
    (tmp_path / "empty.mp4").touch()
    assert reason(tmp_path / "empty.mp4") == "zero-length file"
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    assert reason(tmp_path / "text.mp4").startswith("unreadable as a video")


def test_a_file_with_sound_alone_has_no_video_stream(tmp_path):
    av = pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    assert reason(path) == "no video stream that can be decoded"


def test_an_mp4_that_was_cut_off_anywhere_in_its_header_is_broken(tmp_path, write_video):
    path = write_video(tmp_path / "whole.mp4")
    whole = path.read_bytes()
    reasons = set()
    for size in range(8, len(whole), 13):
        path.write_bytes(whole[:size])
        try:
            inspect(path)
        except BrokenVideoError as error:
            reasons.add(str(error))
    assert "no video stream that can be decoded" in reasons


@pytest.mark.parametrize("name", ["cut.mkv", "cut.avi", "cut.webm"])
def test_a_file_that_was_cut_off_is_broken(tmp_path, write_video, name):
    path = write_video(tmp_path / name, num_frames=47, codec="libvpx" if name == "cut.webm" else "mpeg4")
    assert inspect(path).num_frames == 47
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    assert reason(path).startswith("truncated")


def test_an_mp4_that_was_cut_off_is_broken(tmp_path, write_video):
    path = write_video(tmp_path / "cut.mp4", num_frames=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])  # its index, at the end, is lost
    assert reason(path).startswith("unreadable as a video")
    write_video(path, num_frames=40, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10])  # its index, at the start, points past the end
    assert reason(path).startswith("truncated or damaged")


@pytest.mark.parametrize("name", ["mpeg4.mp4", "mpeg4.avi", "b-frames.mp4", "b-frames.mkv"])
def test_damage_in_the_middle_is_found(tmp_path, write_video, name):
    codec, options = FORMATS[name]
    path = write_video(tmp_path / name, num_frames=40, codec=codec, options=options, size=(96, 128), marked=True)
    content = bytearray(path.read_bytes())
    start = content.index({"mp4": b"mdat", "avi": b"movi", "mkv": b"\x1fC\xb6u"}[name[-3:]])  # where the frames begin
    for place in range(start + 900, start + 1200):
        content[place] ^= 0xFF
    path.write_bytes(content)
    assert "damaged" in reason(path)


def test_decoding_past_the_end_is_refused(tmp_path, write_video):
    path = write_video(tmp_path / "short.mp4", num_frames=5)
    with pytest.raises(BrokenVideoError, match="ends before frame 5"):
        decode(path, 48, [5])


def test_a_stream_with_longer_sound_is_whole(tmp_path, write_video):
    """What a container calls its duration is that of its longest stream."""
    write_video(tmp_path / "skip.mp4")
    import av

    path = tmp_path / "talk.mkv"
    with av.open(str(path), "w") as container:
        pictures, sound = (
            container.add_stream("mpeg4", rate=25),
            container.add_stream("pcm_s16le", rate=8000, layout="mono"),
        )
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        for _ in range(5):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(pictures.encode())
        for _ in range(30):
            block = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
            block.sample_rate = 8000
            container.mux(sound.encode(block))
        container.mux(sound.encode())
    assert inspect(path).num_frames == 5


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.mov"])
def test_the_frame_rate_is_that_of_the_container(tmp_path, write_video, name):
    assert inspect(write_video(tmp_path / name, num_frames=10)).fps == pytest.approx(25, rel=1e-3)


def test_a_variable_frame_rate_is_told_by_its_mean(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", num_frames=5, times=[0, 10, 50, 60, 100])
    assert inspect(path).fps == pytest.approx(5, rel=0.2)


def test_frames_keep_their_size_at_a_short_side_of_zero(tmp_path, write_video):
    path = write_video(tmp_path / "clip.mp4", num_frames=3, marked=True)
    assert decode(path, 0).shape == (3, 48, 64, 3)
    np.testing.assert_array_equal(decode(path, 0), decode(path, 48))
