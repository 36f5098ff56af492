"""Videos made on the spot; frame i of each is flat and as bright as i says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

WriteVideo = Callable[..., Path]

DARKEST, STEP = 20, 5


def indices_of(frames: NDArray[np.uint8]) -> list[int]:
    """Which frames (T, H, W, 3) of a video made here these are."""
    brightness = frames.reshape(len(frames), -1).mean(axis=1)
    return [round((value - DARKEST) / STEP) for value in brightness]


@pytest.fixture
def frame_indices() -> Callable[[NDArray[np.uint8]], list[int]]:
    return indices_of


@pytest.fixture
def write_video() -> WriteVideo:
    """A function that writes a video of ``num_frames`` frames (at most 47) at ``path`` and returns the path.

    ``marked`` paints the top left quarter white, or with ``"right"`` the other; ``times`` are the frames' times in
    hundredths of a second; the first ``skipped`` packets are left out, as where a clip is cut out without encoding it
    anew.
    """
    av = pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")

    def write(
        path: Path,
        num_frames: int = 12,
        codec: str = "mpeg4",
        size: tuple[int, int] = (48, 64),
        options: dict[str, str] | None = None,
        times: Sequence[int] | None = None,
        rotation: int | None = None,
        marked: bool | str = False,
        container_options: dict[str, str] | None = None,
        skipped: int = 0,
        title: str = "",
    ) -> Path:
        if codec not in av.codecs_available:
            pytest.skip(f"this PyAV has no {codec}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options=container_options or {}) as container:
            if title:
                container.metadata["title"] = title
            stream = container.add_stream(codec, rate=100 if times else 25, options=options or {})
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = 2_000_000
            if rotation is not None:
                if not hasattr(stream, "set_display_rotation"):
                    pytest.skip("this PyAV cannot write a rotation")
                stream.set_display_rotation(rotation)
            packets: list[Any] = []
            for index in range(num_frames):
                picture = np.full((*size, 3), DARKEST + STEP * index, dtype=np.uint8)
                if marked:
                    half = slice(size[1] // 2, None) if marked == "right" else slice(size[1] // 2)
                    picture[: size[0] // 2, half] = 255
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                if times:
                    frame.pts = times[index]
                packets += stream.encode(frame)
            container.mux([*packets, *stream.encode()][skipped:])
        return path

    return write


@pytest.fixture
def clips(tmp_path: Path, write_video: WriteVideo) -> Path:
    """Two classes of four clips, all different, in a folder without a split."""
    root = tmp_path / "clips"
    for number in range(4):
        write_video(root / "rise" / f"r{number}.mp4", num_frames=9 + number)
        write_video(root / "wait" / f"w{number}.mkv", num_frames=9 + number, size=(64, 48))
    return root
