"""Features of whole videos: which frames a window sees, against a loop over them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tadaconv.data.decode import BrokenVideoError
from tadaconv.data.feature_files import FeatureManifest, read_features, read_manifest
from tadaconv.data.steps import grid_of
from tadaconv.data.transforms import MEAN, STD
from tadaconv.errors import UserError
from tadaconv.models import Host, Site
from tadaconv.models.extraction import (
    features_of_video,
    first_frame,
    videos_under,
    window_starts,
    write_features_of,
)
from tadaconv.spec import Features

CPU = torch.device("cpu")
DARKEST, STEP = 20, 5


class Brightness(Host):
    """Its only feature is how bright a frame is, as the number of the frame."""

    def sites(self) -> Iterator[Site]:
        yield from ()

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        return self.features(x_NCTHW).mean(2)

    def features(self, x_NCTHW: Tensor) -> Tensor:
        pixels = (x_NCTHW.mean((1, 3, 4)) * STD + MEAN) * 255
        return ((pixels - DARKEST) / STEP)[:, None]


def seen(window: int, stride: int, padded: bool, fps: float = 25.0) -> FeatureManifest:
    return FeatureManifest(
        model="brightness", cell="", weights_fingerprint="", backbone="", temporal=None, num_channels=1, fps=fps,
        window=window, stride=stride, offset=first_frame(window, stride, padded) + window / 2, padded=padded, size=16,
        tadaconv="0",
    )  # fmt: skip


def write_video(path: Path, num_frames: int) -> Path:
    """A video of 25 frames a second, whose frame i is flat and as bright as i says; at most 47 frames."""
    av = pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 32, 48, "yuv420p", 2_000_000
        for index in range(num_frames):
            picture = np.full((32, 48, 3), DARKEST + STEP * index, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 40))
def test_windows_lie_within_a_video_or_are_centred_on_its_strides(frames: int, window: int, stride: int) -> None:
    inside = [start for start in range(0, frames, stride) if start + window <= frames]
    assert list(window_starts(frames, window, stride, padded=False)) == inside
    padded = window_starts(frames, window, stride, padded=True)
    assert len(padded) == sum(1 for i in range(frames) if i * stride < frames)
    for number, start in enumerate(padded):
        assert abs(start + window / 2 - (number + 0.5) * stride) <= 0.5  # half a frame where that is between frames
    for starts, is_padded in ((inside, False), (padded, True)):
        offset = first_frame(window, stride, is_padded) + window / 2
        grid = grid_of(Features(num_steps=1, fps=10, stride=stride, offset=offset), None)
        for number, start in enumerate(starts):
            assert grid.seconds(number + 0.5) == pytest.approx((start + window / 2) / 10)


@pytest.mark.parametrize(("window", "stride", "padded"), [(4, 3, False), (8, 4, True), (3, 5, True), (1, 1, False)])
def test_a_feature_is_of_the_frames_of_its_window(
    window: int, stride: int, padded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tadaconv.models.extraction._FRAMES_AT_ONCE", 14)  # several chunks
    video = write_video(tmp_path / "v.mp4", 41)
    features = features_of_video(Brightness(), video, seen(window, stride, padded), CPU)
    expected = [
        np.mean([min(max(frame, 0), 40) for frame in range(start, start + window)])
        for start in window_starts(41, window, stride, padded)
    ]
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, 0], expected, atol=0.45)


def test_frames_are_counted_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 40)
    features = features_of_video(Brightness(), video, seen(1, 1, padded=False, fps=5), CPU)
    np.testing.assert_allclose(features[:, 0], np.arange(0, 40, 5), atol=0.45)


def test_a_video_shorter_than_a_window_needs_padding(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 6)
    with pytest.raises(BrokenVideoError, match="6 frames at 25 fps, fewer than a window of 8"):
        features_of_video(Brightness(), video, seen(8, 4, padded=False), CPU)
    assert len(features_of_video(Brightness(), video, seen(8, 4, padded=True), CPU)) == 2


@pytest.mark.parametrize("half", [False, True])
def test_what_is_there_is_kept_and_what_is_broken_is_said(half: bool, tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "a.mp4", 12)
    (tmp_path / "videos" / "b.mp4").write_bytes(b"")
    videos, out = videos_under(tmp_path / "videos"), tmp_path / "out"
    write = lambda origin: list(write_features_of(Brightness(), videos, out, origin, CPU, half=half))  # noqa: E731
    assert write(seen(4, 2, True)) == ["", "zero-length file"]
    assert read_manifest(out) == seen(4, 2, True)
    assert read_features(out / "a.npy").dtype == (np.float16 if half else np.float32)
    write_video(tmp_path / "videos" / "b.mp4", 9)
    (out / "a.npy").write_bytes(b"kept")
    assert write(seen(4, 2, True)) == ["", ""]
    assert (out / "a.npy").read_bytes() == b"kept"
    with pytest.raises(UserError, match="features of another origin"):
        write(seen(4, 3, True))
    (out / "features.json").unlink()
    with pytest.raises(UserError, match="without a manifest"):
        write(seen(4, 2, True))


def test_videos_of_one_name_and_no_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder at"):
        videos_under(tmp_path / "none")
    with pytest.raises(UserError, match="no video in"):
        videos_under(tmp_path)
    for name in ("a/v.mp4", "b/v.mkv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"a/v.mp4' and 'b/v.mkv' have one name"):
        videos_under(tmp_path)
