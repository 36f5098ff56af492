import hashlib

import numpy as np
import pytest
from annotated import clips_of

from tadaconv.cli import main
from tadaconv.data.layouts import LAYOUTS, read
from tadaconv.data.sample import (
    FORMS,
    HEIGHT,
    WIDTH,
    DigitMedia,
    SampleClip,
    class_names,
    picture,
    sample_clips,
    write_layout,
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
    medium = tmp_path / "new" / clips_of(found)[0].medium
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
    expected = np.stack(list(DigitMedia().shown([clip], 12)))
    assert len(shown) == len(expected)
    errors = np.abs(np.stack(shown).astype(float)[:, None] - expected[None]).mean(axis=(2, 3, 4))
    assert list(errors.argmin(axis=1)) == list(range(len(expected)))
    assert errors.diagonal().max() < 12


class Sawteeth(DigitMedia):
    def shown(self, clips, rate):
        for number in range(round(len(clips) * 2.0 * rate)):
            grey = 20 + 5 * ((number / rate * 60) % 40)
            yield np.full((HEIGHT, WIDTH, 3), round(grey), dtype=np.uint8)


def test_frames_by_number_and_video_by_time_show_the_same_of_epic(tmp_path, monkeypatch):
    monkeypatch.setattr("tadaconv.data.sample.SECONDS", 2.0)
    clips = [SampleClip(number, "train", 0, 0) for number in range(1, 15)] + [SampleClip(15, "val", 0, 0)]
    for form in ("frames", "videos"):
        write_layout("epic100", form, tmp_path / form, clips, Sawteeth())
    by_number, by_time = (read("epic100", tmp_path / form) for form in ("frames", "videos"))

    def grey(path, wanted):
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if wanted(frame):
                    return frame.to_ndarray(format="rgb24").mean()
        raise AssertionError

    def apart(one, other):
        """Between two greys, in sixtieths of a second."""
        steps = abs(one - other) / 5
        return min(steps, 40 - steps)

    for place in (10, 13):  # the eleventh segment of a two-digit video, the second of a three-digit one
        number, time = clips_of(by_number)[place], clips_of(by_time)[place]
        rate = float(by_number.rates[place])
        folder = tmp_path / "frames" / number.medium
        still = grey(folder / by_number.frames.template.format(number=by_number.frames.first + int(number.span[0])),
                     lambda _: True)  # fmt: skip
        video = tmp_path / "videos" / time.medium
        seconds = time.span[0]
        moving = grey(video, lambda frame, t=seconds, r=rate: frame.time > t - 0.5 / r)
        assert apart(still, moving) <= 0.5 * 60 / rate + 0.2  # half a frame, and what rounding of greys may add
    # By its number the frame of the two-digit video is another one.
    wrong = int(clips_of(by_number)[10].span[0])
    counted = iter(range(10**6))
    still = grey(tmp_path / "frames" / clips_of(by_number)[10].medium / f"frame_{wrong + 1:010d}.jpg", lambda _: True)
    by_count = grey(tmp_path / "videos" / clips_of(by_time)[10].medium, lambda _: next(counted) == wrong)
    assert apart(still, by_count) > 1


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
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        write_sample("ssv2", tmp_path)
    with pytest.raises(UserError, match="exists and is not an empty folder"):
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
