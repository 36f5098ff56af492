import hashlib

import numpy as np
import pytest

from tadaconv.cli import main
from tadaconv.data.layouts import LAYOUTS, read
from tadaconv.data.sample import (
    FORMS,
    HEIGHT,
    WIDTH,
    DigitMedia,
    class_names,
    frames_of,
    picture,
    sample_clips,
    write_sample,
)
from tadaconv.errors import UserError

av = pytest.importorskip("av", reason="videos are written by PyAV, the extra 'video'")


@pytest.fixture(autouse=True)
def _few_clips(monkeypatch):
    monkeypatch.setattr("tadaconv.data.sample._NUM_TRAIN", 1)
    monkeypatch.setattr("tadaconv.data.sample.sample_clips", lambda: sample_clips(1, 1))
    monkeypatch.setattr("tadaconv.data.sample.SECONDS", 0.5)


def test_every_layout_has_a_sample():
    assert FORMS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sample_is_of_its_layout_and_each_medium_decodes(tmp_path, layout):
    said = write_sample(layout, tmp_path / "new")
    assert said.endswith("6 training clips and 6 validation clips")
    found = read(layout, tmp_path / "new")
    assert (len(found), found.problems, found.gaps) == (12, (), ())
    medium = tmp_path / "new" / found[0].medium
    path = medium if found.frames is None else medium / found.frames.template.format(id=medium.name, number=1)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.height, frame.width) == (HEIGHT, WIDTH)


def test_the_same_bytes_come_out_each_time(tmp_path):
    for layout, form in (("ssv2", "videos"), ("jester", "frames"), ("hmdb51", "videos")):
        digests = []
        for turn in ("one", "two"):
            write_sample(layout, tmp_path / layout / turn, form)
            files = sorted(path for path in (tmp_path / layout / turn).rglob("*") if path.is_file())
            digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
        assert digests[0] == digests[1]


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".avi", ""])
def test_media_show_the_pictures_in_their_order(tmp_path, suffix):
    clip = sample_clips(1, 1)[0]
    if suffix:
        DigitMedia().video(tmp_path / f"v{suffix}", [clip], 12)
        with av.open(str(tmp_path / f"v{suffix}")) as container:
            shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    else:
        DigitMedia().frames(tmp_path / "f", "{number:03d}.jpg", [clip], 12)
        shown = []
        for path in sorted((tmp_path / "f").iterdir()):
            with av.open(str(path)) as container:
                shown += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = frames_of(clip, 12)
    assert len(shown) == len(expected)
    errors = np.abs(np.stack(shown).astype(float)[:, None] - expected[None]).mean(axis=(2, 3, 4))
    assert list(errors.argmin(axis=1)) == list(range(len(expected)))
    assert errors.diagonal().max() < 12


def test_classes_are_told_by_order_and_left_from_right():
    def centre(clip, phase):
        ink = picture(clip, phase).astype(float).sum(axis=2)
        ink -= ink[0, 0]
        return (
            np.average(np.arange(WIDTH), weights=ink.sum(axis=0)),
            np.average(np.arange(HEIGHT), weights=ink.sum(1)),
            ink.sum(),
        )

    for clip in sample_clips(1, 0):
        (x0, y0, ink0), (x1, y1, ink1) = centre(clip, 0), centre(clip, 1)
        moved = {0: x0 - x1, 1: x1 - x0, 2: y0 - y1, 3: y1 - y0, 4: ink1 / ink0 * 10, 5: ink0 / ink1 * 10}
        assert moved[clip.motion] > 15
    assert "left" in class_names("ucf101")[0].lower()


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="is there and not an empty folder"):
        write_sample("ssv2", tmp_path)
    with pytest.raises(UserError, match="is there and not an empty folder"):
        write_sample("ssv2", tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_unknown_names_are_answered_with_the_right_ones(tmp_path):
    with pytest.raises(UserError, match="unknown layout 'ssv3'; one of: ssv2"):
        write_sample("ssv3", tmp_path)
    with pytest.raises(UserError, match="unknown form of ucf101 'frame'; one of: frames, videos"):
        write_sample("ucf101", tmp_path, "frame")


def test_the_command_writes_and_says_so(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["data", "sample", "jester", str(tmp_path / "new"), "--form", "videos"])
    assert ended.value.code in (0, None)
    assert "jester as videos" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["data", "sample", "jester", str(tmp_path / "new")])
    assert ended.value.code == 2
