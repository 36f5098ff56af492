from pathlib import Path

import numpy as np
import pytest

from tadaconv.data.decode import BrokenVideoError, VideoInfo, decode, inspect, scaled_size

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
    assert inspect(path) == VideoInfo(num_frames=40, height=48, width=64)
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
    assert inspect(path) == VideoInfo(12, *shape)
    first = decode(path, 48, [0])[0]
    assert first.shape == (*shape, 3)
    bright = first[..., 0] > 128
    assert bright[corner]  # the white quarter, top left in the stream, turned counter-clockwise
    assert abs(bright.mean() - 0.25) < 0.05


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
    assert reason(path) == "no video stream"


@pytest.mark.parametrize("name", ["cut.mkv", "cut.avi", "cut.webm"])
def test_a_file_that_was_cut_off_is_broken(tmp_path, write_video, name):
    path = write_video(tmp_path / name, num_frames=47, codec="libvpx" if name == "cut.webm" else "mpeg4")
    assert inspect(path).num_frames == 47
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    assert reason(path).startswith("cut off")


def test_an_mp4_that_was_cut_off_is_broken(tmp_path, write_video):
    path = write_video(tmp_path / "cut.mp4", num_frames=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])  # its index, at the end, is lost
    assert reason(path).startswith("unreadable as a video")
    write_video(path, num_frames=40, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10])  # its index, at the start, points past the end
    assert reason(path).startswith("cut off or damaged")


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
