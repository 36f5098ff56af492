"""Folders of pictures, written by Pillow and read by PyAV."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tadaconv.data.decode import BrokenVideoError, VideoInfo, decode, scaled_size
from tadaconv.data.media import FrameFiles, frame_files
from tadaconv.data.pictures import count_pictures, inspect_pictures, read_pictures

pytest.importorskip("av", reason="pictures are read by PyAV, the extra 'video'")

FILES = FrameFiles("img_{number:05d}.jpg", 1)
COLOURS = [(0, 0, 0), (255, 255, 255), (128, 128, 128), (16, 16, 16), (235, 235, 235), (200, 30, 60), (10, 240, 16)]
KINDS = {
    "jpg": ("JPEG", {"quality": 95}),
    "progressive.jpg": ("JPEG", {"quality": 95, "progressive": True}),
    "fine.jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 95}),
    "lossless.webp": ("WEBP", {"lossless": True}),
}


def coded(picture: NDArray[np.uint8], kind: str, mode: str = "RGB", **options: object) -> bytes:
    """``picture`` (H, W, 3) as a file of a kind."""
    form, usual = KINDS[kind]
    buffer = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(buffer, form, **{**usual, **options})
    return buffer.getvalue()


def flat(colour: tuple[int, ...], size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3)).copy()


def smooth(size: tuple[int, int] = (96, 128)) -> NDArray[np.uint8]:
    """Colours that change slowly from place to place."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    channels = [255 * x / width, 255 * y / height, 255 * (x + y) / (height + width)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine pictures, each a grey level."""
    for number in range(1, 10):
        (tmp_path / FILES.template.format(number=number)).write_bytes(coded(flat((20 * number,) * 3), "jpg"))
    return tmp_path


def reason(function: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(BrokenVideoError) as caught:
        function(*arguments)
    return str(caught.value)


def read_one(folder: Path, data: bytes, short_side: int = 0) -> NDArray[np.uint8]:
    (folder / "00001.jpg").write_bytes(data)
    return read_pictures(folder, FrameFiles("{number:05d}.jpg", 1), [0], short_side)[0]


@pytest.mark.parametrize("size", [(48, 64), (33, 45), (1, 1), (240, 427)])
@pytest.mark.parametrize("kind", KINDS)
def test_colours_are_those_that_were_written(tmp_path, kind, size):
    for colour in COLOURS:
        picture = read_one(tmp_path, coded(flat(colour, size), kind))
        assert picture.shape == (*size, 3)
        assert picture.dtype == np.uint8
        assert np.abs(picture.astype(int) - colour).max() <= (3 if kind == "webp" else 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_as_another_decoder_reads_it(tmp_path, kind):
    data = coded(smooth(), kind)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    difference = np.abs(read_one(tmp_path, data).astype(int) - expected)
    assert difference.mean() < 1.5
    assert difference.max() <= 6  # where two ways of spreading chroma over pixels meet


@pytest.mark.parametrize(
    ("kind", "mode"), [("jpg", "L"), ("png", "L"), ("png", "P"), ("png", "RGBA"), ("webp", "RGBA")]
)
def test_grey_and_indexed_colours_and_transparency(tmp_path, kind, mode):
    for grey in (0, 16, 100, 235, 255):
        data = coded(flat((grey,) * 3), kind, mode)
        expected = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(read_one(tmp_path, data) - expected).max() <= 2


def test_positions_count_from_the_first_number_in_any_order(folder):
    frames = read_pictures(folder, FILES, [8, 0, 3, 3, 1], 0)
    assert frames.shape == (5, 48, 64, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - [180, 20, 80, 80, 40]).max() <= 2


@pytest.mark.parametrize("short_side", [0, 20, 48, 100])
def test_pictures_are_scaled_as_videos_are(tmp_path, write_video, short_side):
    """PNG keeps what the video shows, so that the same bytes come out at its size and nearly so at others."""
    video = write_video(tmp_path / "a.mp4", size=(96, 136), marked=True)
    whole = decode(video, 0)
    for number, picture in enumerate(whole):
        (tmp_path / f"{number:04d}.png").write_bytes(coded(picture, "png"))
    frames = read_pictures(tmp_path, FrameFiles("{number:04d}.png", 0), range(len(whole)), short_side)
    expected = decode(video, short_side)
    assert frames.shape == expected.shape == (12, *scaled_size(96, 136, short_side), 3)
    if short_side == 0:
        np.testing.assert_array_equal(frames, expected)
    assert np.abs(frames.astype(int) - expected).mean() < 2


def test_a_frame_is_the_same_whichever_others_are_read(tmp_path):
    for number in range(1, 5):
        shifted = np.roll(smooth(), 9 * number, axis=1)
        (tmp_path / FILES.template.format(number=number)).write_bytes(coded(shifted, "jpg"))
    whole = read_pictures(tmp_path, FILES, range(4), 32)
    np.testing.assert_array_equal(read_pictures(tmp_path, FILES, [3, 1], 32), whole[[3, 1]])


def test_folders_are_counted_and_inspected(folder):
    (folder / "flow_x_00001.jpg").touch()
    (folder / "Thumbs.db").touch()
    (folder / "img_010.jpg").touch()
    assert frame_files(folder) == FILES
    assert count_pictures(folder, FILES) == 9
    assert inspect_pictures(folder, FILES, whole=True) == VideoInfo(9, 48, 64, 0.0)
    assert inspect_pictures(folder, FILES, whole=False) == VideoInfo(9, 48, 64, 0.0)


@pytest.mark.parametrize("prefix", ["{id}_", "a.b(", "100_"])
def test_names_of_any_sign_are_counted(tmp_path, prefix):
    files = FrameFiles(prefix + "{number:03d}.png", 7)
    folder = tmp_path / "a.b(c"
    folder.mkdir()
    for number in range(7, 1003):
        (folder / files.template.format(id=folder.name, number=number)).touch()
    assert count_pictures(folder, files) == 996


def test_a_folder_that_is_not_as_expected_says_how(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert reason(count_pictures, tmp_path / "empty", FILES) == "no frames"
    other = FrameFiles("{number:06d}.jpg", 1)
    assert reason(count_pictures, folder, other) == (
        "frames named img_{number:05d}.jpg where {number:06d}.jpg was expected"
    )
    assert reason(count_pictures, folder, FrameFiles(FILES.template, 0)) == (
        "frames numbered from 1 where 0 was expected"
    )
    (folder / "img_00000.jpg").touch()
    assert reason(count_pictures, folder, FILES) == "frames numbered from 0 where 1 was expected"
    (folder / "img_00000.jpg").unlink()
    (folder / "img_00004.jpg").unlink()
    for function in (count_pictures, lambda *folder_and_files: inspect_pictures(*folder_and_files, whole=False)):
        assert reason(function, folder, FILES) == "img_00004.jpg is missing, though img_00009.jpg is there"
    assert reason(read_pictures, folder, FILES, [0, 3], 0) == "img_00004.jpg cannot be read (No such file or directory)"


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_cut_off_anywhere_is_named(folder, kind):
    data = coded(smooth((48, 64)), kind)
    for end in {1, 5, 20, *range(100, len(data), len(data) // 40), *range(len(data) - 9, len(data))}:
        (folder / "img_00005.jpg").write_bytes(data[:end])
        assert reason(read_pictures, folder, FILES, [2, 4], 0).startswith("img_00005.jpg: "), end
    (folder / "img_00005.jpg").write_bytes(data)
    read_pictures(folder, FILES, [2, 4], 0)


def test_damage_to_a_png_is_always_noticed(folder):
    data = coded(smooth((48, 64)), "png")
    for place in range(8, len(data) - 12, 23):
        (folder / "img_00005.jpg").write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        assert reason(read_pictures, folder, FILES, [4], 0).startswith("img_00005.jpg: "), place


def test_broken_pictures_are_named(folder):
    cases = {
        b"": "img_00005.jpg: zero-length file",
        b"text": "img_00005.jpg: none of JPEG, PNG and WebP",
        coded(flat((9, 9, 9), (48, 65)), "jpg"): (
            "img_00005.jpg has 48 x 65 pixels, an earlier frame 48 x 64; all frames must have one size"
        ),
        coded(flat((9, 9, 9)), "jpg", exif=turned(6)): (
            "img_00005.jpg: marked as rotated by 90 degrees; write it upright"
        ),
    }
    for data, line in cases.items():
        (folder / "img_00005.jpg").write_bytes(data)
        assert reason(read_pictures, folder, FILES, [0, 4], 0) == line
        assert reason(lambda: inspect_pictures(folder, FILES, whole=True)) == line
        assert inspect_pictures(folder, FILES, whole=False).num_frames == 9
    (folder / "img_00001.jpg").write_bytes(b"")
    assert reason(lambda: inspect_pictures(folder, FILES, whole=False)) == "img_00001.jpg: zero-length file"


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


def test_a_picture_with_a_preview_of_itself_is_read(tmp_path):
    """Cameras put a small JPEG, with an end of its own, before the large one; upright is orientation 1."""
    data = coded(flat((60, 60, 60)), "jpg", exif=turned(1))
    preview = coded(flat((9, 9, 9), (8, 8)), "jpg")
    segment = b"\xff\xe2" + (len(preview) + 2).to_bytes(2) + preview
    with_preview = data[:2] + segment + data[2:]
    assert np.abs(read_one(tmp_path, with_preview).astype(int) - 60).max() <= 2
    for end in (len(with_preview) - 1, len(with_preview) - 60):
        with pytest.raises(BrokenVideoError, match="00001"):
            read_one(tmp_path, with_preview[:end])
