"""Every layout in every form of it, with media that are empty files: layouts open none."""

import json
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from annotated import clips_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tadaconv.data.annotations import Strings
from tadaconv.data.decode import decode, decode_at
from tadaconv.data.layouts import LAYOUTS, guess, read
from tadaconv.data.layouts.epic100 import frame_rate, seconds
from tadaconv.data.layouts.kinetics400 import youtube_id
from tadaconv.data.pictures import count_pictures, read_pictures
from tadaconv.data.sample import FORMS, SECONDS, class_names, sample_clips, write_layout
from tadaconv.errors import UserError

CLIPS = sample_clips(num_train=3, num_val=1)


class EmptyMedia:
    """Empty files; ``shown`` says which clips a medium was to show, by its path relative to the root."""

    def __init__(self, root, first=1):
        self.root, self.first = root, first
        self.shown = {}

    def video(self, path, clips, rate):
        del rate
        touch(path)
        self.shown[path.relative_to(self.root).as_posix()] = clips

    def frames(self, folder, template, clips, rate):
        del rate
        for number in (0, 1):
            touch(folder / template.format(number=self.first + number))
        self.shown[folder.relative_to(self.root).as_posix()] = clips


def add_marks_and_returns(root):
    """A byte-order mark and CRLF in every annotation file, as editors on Windows leave them."""
    for path in root.rglob("*"):
        if path.suffix in (".csv", ".txt", ".json"):
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def put(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())


def lines(problems):
    return "\n".join(f"{problem.path}: {problem.reason}" for problem in problems)


def build(root, layout, form="", **options):
    media = EmptyMedia(root, **options)
    write_layout(layout, form or next(iter(FORMS[layout])), root, CLIPS, media)
    return media


def missing_ids(found, side):
    return [clip.id for clip in clips_of(found) if clip.medium is None and clip.side == side]


EVERY_FORM = [(layout, form) for layout, forms in FORMS.items() for form in forms]


@pytest.mark.parametrize(("layout", "form"), EVERY_FORM)
def test_the_same_clips_come_out_of_every_form(tmp_path, layout, form):
    media = build(tmp_path, layout, form)
    found = read(layout, tmp_path)
    assert not found.problems
    assert not found.gaps
    assert all(found.media)
    assert not found.unlisted
    assert found.listed == {"train": 18, "val": 6}
    assert found.form == ("frames" if "frames" in form or (layout == "jester" and form != "videos") else
                          "frames" if form == "tsm" else "video")  # fmt: skip
    names = found.heads[0][1]
    assert sorted(names) == sorted(class_names(layout))
    for clip, annotated in zip(media_order(media, found), clips_of(found), strict=True):
        assert annotated.side == clip.side
        assert names[annotated.labels[0]] == class_names(layout)[clip.motion]
    if layout == "epic100":
        digits = [clip.digit for clip in media_order(media, found)]
        assert [annotated.labels[1] for annotated in clips_of(found)] == digits
    usual = tmp_path / "usual"
    build(usual, layout)
    assert list(found.ids) == list(read(layout, usual).ids)


class GreyMedia(EmptyMedia):
    """Pictures that say of which clip they are (left), and when in it, roughly (top right) and closely (below)."""

    def __init__(self, root):
        super().__init__(root)
        self.rates = {}

    def video(self, path, clips, rate):
        super().video(path, clips, rate)
        exact = Fraction(60000, 1001) if rate == 59.94 else Fraction(rate)
        self.rates[path.relative_to(self.root).as_posix()] = exact
        webm = path.suffix == ".webm"
        form = {".avi": "avi", ".webm": "webm", ".mkv": "matroska"}.get(path.suffix, "mp4")
        av = pytest.importorskip("av", reason="videos are written by PyAV, the extra 'video'")
        with av.open(str(path), "w", format=form) as container:
            options = {"deadline": "realtime", "cpu-used": "8"} if webm else {"qmin": "1", "qmax": "2", "g": "12"}
            stream = container.add_stream("libvpx" if webm else "mpeg4", rate=exact, options=options)
            stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 32, 32, "yuv420p", 2_000_000
            for picture in self.pictures(clips, exact):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())

    def frames(self, folder, template, clips, rate):
        folder.mkdir(parents=True)
        self.shown[folder.relative_to(self.root).as_posix()] = clips
        self.rates[folder.relative_to(self.root).as_posix()] = Fraction(rate)
        for number, picture in enumerate(self.pictures(clips, rate), 1):
            Image.fromarray(picture).save(folder / template.format(number=number), quality=95)

    def pictures(self, clips, rate):
        for number in range(math.ceil(len(clips) * SECONDS * rate)):
            place, seconds = divmod(float(number / rate), SECONDS)
            greys = greys_at(clips[min(int(place), len(clips) - 1)], seconds)
            picture = np.empty((32, 32, 3), np.uint8)
            picture[:, :16], picture[:16, 16:], picture[16:, 16:] = greys
            yield picture


def greys_at(clip, seconds):
    """Of the clip; of the time in it; and of the time again, up and down twice a second."""
    return 20 + 5 * clip.number, round(20 + 100 * seconds), round(20 + 800 * min(seconds % 0.5, 0.5 - seconds % 0.5))


NUM_READ = 8


def read_frames(found, place):
    """Frames from the middles of equal parts of a clip, opened as its form has it: (NUM_READ, 32, 32, 3)."""
    annotated = clips_of(found)[place]
    medium = found.root / annotated.medium
    middles = (np.arange(NUM_READ) + 0.5) / NUM_READ
    if found.form == "frames":
        start, end = annotated.span or (0, count_pictures(medium, found.frames))
        return read_pictures(medium, found.frames, [int(start + (end - start) * middle) for middle in middles], 0)
    if annotated.span is not None:
        start, end = annotated.span
        return decode_at(medium, 0, [start + (end - start) * middle for middle in middles])
    whole = decode(medium, 0)
    return whole[[int(len(whole) * middle) for middle in middles]]


@pytest.mark.parametrize(("layout", "form"), EVERY_FORM)
def test_the_same_frames_come_out_of_every_form(tmp_path, layout, form):
    clips, media = sample_clips(num_train=1, num_val=1), GreyMedia(tmp_path)
    write_layout(layout, form, tmp_path, clips, media)
    found = read(layout, tmp_path)
    assert len(found) == len(clips)
    for place, clip in enumerate(media_order(media, found)):
        rate = float(media.rates[clips_of(found)[place].medium])
        # The rates of EPIC differ from form to form, and so its frames, by half of one.
        tolerance = 3 + np.array([0, 50, 400]) / rate if layout == "epic100" else np.full(3, 3)
        for number, picture in enumerate(read_frames(found, place)):
            seconds = (number + 0.5) / NUM_READ * SECONDS
            if layout != "epic100":
                seconds = math.floor(seconds * rate) / rate
            greys = [picture[:, 2:14].mean(), picture[2:14, 18:30].mean(), picture[18:30, 18:30].mean()]
            assert (np.abs(np.subtract(greys, greys_at(clip, seconds))) <= tolerance).all(), (clip, number)


def media_order(media, found):
    """For every annotated clip the one its medium shows, in EPIC by the place of the span in it."""
    shown = []
    for place, annotated in enumerate(clips_of(found)):
        clips = media.shown[annotated.medium]
        rate = float(found.rates[place]) if found.form == "frames" else 1.0
        start = 0.0 if annotated.span is None else annotated.span[0] / rate
        assert annotated.span is None or annotated.span[1] / rate - start == pytest.approx(SECONDS)
        assert annotated.span is not None or len(clips) == 1
        shown.append(clips[round(start / SECONDS)])
    return shown


@pytest.mark.parametrize("layout", LAYOUTS)
def test_marks_returns_and_a_relative_root_change_nothing(tmp_path, monkeypatch, layout):
    build(tmp_path / "a b", layout)
    expected = read(layout, tmp_path / "a b")
    assert len(expected) == len(CLIPS)
    add_marks_and_returns(tmp_path / "a b")
    monkeypatch.chdir(tmp_path)
    found = read(layout, Path("a b"))
    assert not found.problems
    assert clips_of(found) == clips_of(expected)
    assert found.heads == expected.heads
    assert found.frames == expected.frames


@pytest.mark.parametrize(("layout", "form"), EVERY_FORM)
def test_every_form_is_recognised(tmp_path, layout, form):
    build(tmp_path, layout, form)
    name, evidence = guess(tmp_path)
    assert name == layout
    assert evidence


def test_a_folder_of_another_layout_is_named(tmp_path):
    build(tmp_path, "ssv2")
    text = lines(read("kinetics400", tmp_path).problems)
    assert "looks like ssv2 (something-something-v2-labels.json with 6 templates); add --layout ssv2" in text
    assert guess(tmp_path / "20bn-something-something-v2") is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_folder_says_what_is_looked_for(tmp_path, layout):
    found = read(layout, tmp_path)
    assert len(found) == 0
    assert clips_of(found) == []
    assert found.labels.shape == (0, len(found.heads))
    assert "no " in lines(found.problems)


def test_wrong_calls_are_refused(tmp_path):
    with pytest.raises(UserError, match="unknown layout 'sv2'; one of: ssv2"):
        read("sv2", tmp_path)
    with pytest.raises(UserError, match="no folder at"):
        read("ssv2", tmp_path / "none")
    with pytest.raises(UserError, match="split '4' of ucf101; one of: 1, 2, 3"):
        read("ucf101", tmp_path, "4")
    with pytest.raises(
        UserError, match=r"no file 'none\.txt', .*; a split of kinetics400 is a file of one id per line"
    ):
        read("kinetics400", tmp_path, "none.txt")
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"split 'ids\.txt' of kinetics400 cannot be read as a file of ids"):
        read("kinetics400", tmp_path, "ids.txt")


@pytest.mark.parametrize("layout", ["ssv2", "epic100", "diving48", "jester"])
def test_a_split_of_what_has_none_is_refused(tmp_path, layout):
    build(tmp_path, layout)
    with pytest.raises(UserError, match=f"split '1' of {layout}, which has only one; leave the split out"):
        read(layout, tmp_path, "1")


# --- literal records

SSV2 = {
    "labels/labels.json": json.dumps(
        {"Holding something next to something": "1", "Approaching something with your camera": "0",
         "Putting something on a table that is already on the table": "2"}
    ),
    "labels/train.json": json.dumps([
        {"id": "10421", "label": "holding a mug next to a lamp", "placeholders": ["a mug", "a lamp"],
         "template": "Holding [something] next to [something]"},
        {"id": "7", "label": "x", "template": "Putting [something] on [a table that is already on the table]"},
    ]),
    "labels/validation.json": json.dumps([{"id": "3", "template": "Approaching [something] with your camera"}]),
    "labels/test.json": json.dumps([{"id": "88"}, {"id": "89"}]),
    "labels/test-answers.csv": "88;Holding something next to something\n",
}  # fmt: skip


def test_ssv2_records(tmp_path):
    put(tmp_path, SSV2)
    touch(*(tmp_path / "v" / f"{clip_id}.webm" for clip_id in (10421, 7, 3, 88)))
    found = read("ssv2", tmp_path)
    assert not found.problems
    assert [(clip.id, clip.side, clip.labels[0], clip.medium) for clip in clips_of(found)] == [
        ("10421", "train", 1, "v/10421.webm"), ("7", "train", 2, "v/7.webm"), ("3", "val", 0, "v/3.webm"),
        ("88", "test", 1, "v/88.webm"), ("89", "test", None, None),
    ]  # fmt: skip
    assert missing_ids(found, "test") == ["89"]


def test_the_authors_lists_of_ssv2_need_no_table(tmp_path):
    def entry(clip_id, template, label):
        return {"id": clip_id, "template": template, "label": "x", "label_idx": label}

    put(tmp_path, {
        "something-something-v2-train-with-label.json": json.dumps(
            [entry("7", "Holding [something]", 1), entry("8", "Dropping [something]", 0)]),
        "something-something-v2-validation-with-label.json": json.dumps([entry("9", "Holding [something]", 1)]),
    })  # fmt: skip
    touch(*(tmp_path / f"{clip_id}.mp4" for clip_id in (7, 8, 9)))
    found = read("ssv2", tmp_path)
    assert not found.problems
    assert found.heads[0][1] == ("Dropping something", "Holding something")
    assert [(clip.id, clip.side, clip.labels[0]) for clip in clips_of(found)] == [
        ("7", "train", 1), ("8", "train", 0), ("9", "val", 1),
    ]  # fmt: skip
    assert guess(tmp_path) == ("ssv2", "something-something-v2-train-with-label.json")


KINETICS = (
    "label,youtube_id,time_start,time_end,split,is_cc\r\n"
    "air drumming,-aB3dE_9xQk,4,14,train,0\r\n"
    '"tying knot (not on a tie)",Zz0-_y12345,120,130,train,0\r\n'
    '"eating, slowly",__________a,0,10,val,0\r\n'
    "\r\n"
)


def test_kinetics_records_with_bom_crlf_and_a_blank_line(tmp_path):
    put(tmp_path, {"kinetics_train.csv": "\ufeff" + KINETICS})
    touch(tmp_path / "train" / "air drumming" / "-aB3dE_9xQk_000004_000014.mp4", tmp_path / "x" / "Zz0-_y12345.WEBM",
          tmp_path / "__________a_000000_000010.mp4.mkv")  # fmt: skip
    found = read("kinetics400", tmp_path)
    assert not found.problems
    assert found.heads == (("label", ("air drumming", "eating, slowly", "tying knot (not on a tie)")),)
    assert [(clip.id, clip.side, clip.labels[0], clip.medium) for clip in clips_of(found)] == [
        ("-aB3dE_9xQk", "train", 0, "train/air drumming/-aB3dE_9xQk_000004_000014.mp4"),
        ("Zz0-_y12345", "train", 2, "x/Zz0-_y12345.WEBM"),
        ("__________a", "val", 1, "__________a_000000_000010.mp4.mkv"),
    ]
    assert "3 classes, where Kinetics-400 has 400" in lines(found.warnings)


def test_a_test_table_without_labels_and_a_table_of_all_labels(tmp_path):
    put(tmp_path, {"train.csv": KINETICS, "test.csv": "youtube_id,time_start,time_end,split\nabcdefghijk,1,11,test\n",
                   "kinetics_400_labels.csv": 'id,name\n0,abseiling\n1,air drumming\n2,"eating, slowly"\n'
                   "3,tying knot (not on a tie)\n"})  # fmt: skip
    found = read("kinetics400", tmp_path)
    assert [(clip.side, clip.labels[0]) for clip in clips_of(found)] == [
        ("test", None),
        ("train", 1),
        ("train", 3),
        ("val", 2),
    ]


def test_mini_kinetics_is_kinetics_restricted_to_a_file_of_ids(tmp_path):
    put(tmp_path, {"train.csv": KINETICS, "mini.txt": "air drumming/-aB3dE_9xQk_000004_000014.mp4\n__________a\n"})
    touch(tmp_path / "-aB3dE_9xQk.mp4", tmp_path / "Zz0-_y12345.mp4", tmp_path / "__________a.mp4")
    found = read("kinetics400", tmp_path, "mini.txt")
    assert [(clip.id, clip.labels[0]) for clip in clips_of(found)] == [("-aB3dE_9xQk", 0), ("__________a", 1)]
    assert found.heads[0][1] == ("air drumming", "eating, slowly")
    assert not found.unlisted
    put(tmp_path, {"mini.txt": "nowhere1234\n__________a\n"})
    assert "ids that no CSV file lists: 1 (nowhere1234)" in lines(read("kinetics400", tmp_path, "mini.txt").problems)


def test_media_cut_at_other_times_are_said(tmp_path):
    put(tmp_path, {"train.csv": KINETICS})
    touch(tmp_path / "-aB3dE_9xQk_000010_000020.mp4", tmp_path / "Zz0-_y12345.mp4")
    found = read("kinetics400", tmp_path)
    assert clips_of(found)[0].medium == "-aB3dE_9xQk_000010_000020.mp4"
    assert "media whose names give other times than the annotations: 1 (-aB3dE_9xQk)" in lines(found.warnings)


@given(st.text("aZ09-_", min_size=11, max_size=11), st.integers(0, 10**6 - 11))
def test_kinetics_times_are_parsed_from_the_right(clip_id, start):
    assert youtube_id(f"{clip_id}_{start:06d}_{start + 10:06d}") == clip_id
    assert youtube_id(clip_id) == clip_id


EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)
EPIC = {
    "EPIC_100_train.csv": EPIC_HEADER
    + "P90_101_7,P90,P90_101,00:00:31.200,00:00:30.90,00:00:32.40,1545,1620,wash cup,wash,2,cup,13,['cup'],[13]\n",
    "EPIC_100_validation.csv": EPIC_HEADER
    + "P90_11_0,P90,P90_11,00:00:01.100,00:00:00.80,00:00:02.10,48,126,put container on top of counter,put-on,1,"
    "container,21,\"['container', 'top:counter']\",\"[21, 42]\"\n",
    "EPIC_100_test_timestamps.csv": ",".join(EPIC_HEADER.split(",")[:8])
    + "\nP91_101_0,P91,P91_101,00:00:01.000,00:00:01.00,00:00:01.10,50,55\n",
    "EPIC_100_verb_classes.csv": "id,key,instances,category\n"
    + "".join(f"{number},verb{number},\"['verb{number}']\",all\n" for number in range(3)),
    "EPIC_100_noun_classes.csv": "id,key,instances,category\n" + "".join(f"{n},noun{n},['n'],all\n" for n in range(43)),
}


def epic_media(root, form):
    for video, clips in (("P90_101", ["7"]), ("P90_11", ["0"]), ("P91_101", ["0"])):
        if form == "frames":
            touch(*(root / video[:3] / "rgb_frames" / video / f"frame_{n:010d}.jpg" for n in (1, 2)))
        elif form == "videos":
            touch(root / video[:3] / "videos" / f"{video}.MP4")
        else:
            touch(*(root / "clips_512" / f"{video}_{clip}.MP4" for clip in clips))


@pytest.mark.parametrize(("form", "spans"), [
    ("frames", [(1545, 1620), (48, 126), (50, 55)]),
    ("videos", [(30.9, 32.4), (0.8, 2.1), (1.0, 1.1)]),
    ("clips", [None, None, None]),
])  # fmt: skip
def test_epic_records(tmp_path, form, spans):
    put(tmp_path, EPIC)
    epic_media(tmp_path, form)
    found = read("epic100", tmp_path)
    assert not found.problems
    assert not found.gaps
    assert [(clip.id, clip.side, clip.labels) for clip in clips_of(found)] == [
        ("P90_101_7", "train", (2, 13)), ("P90_11_0", "val", (1, 21)), ("P91_101_0", "test", (None, None)),
    ]  # fmt: skip
    for clip, span in zip(clips_of(found), spans, strict=True):
        assert clip.span == (None if span is None else pytest.approx(span))
    assert [name for name, _ in found.heads] == ["verb", "noun"]
    assert list(found.rates) == [50, 60, 50]
    assert any("time x 60.0 and time x 50.0" in sentence for sentence in found.files)


@pytest.mark.parametrize("form", ["frames", "videos"])
def test_frames_that_were_extracted_wrongly_are_said(tmp_path, form):
    put(tmp_path, {name: text.replace("P90_101", "P27_103").replace("P90", "P27") for name, text in EPIC.items()})
    touch(tmp_path / "P27/rgb_frames/P27_103/frame_0000000001.jpg") if form == "frames" else None
    touch(tmp_path / "P27/videos/P27_103.MP4") if form == "videos" else None
    found = lines(read("epic100", tmp_path).warnings)
    line = "P27/rgb_frames/P27_103: frames that were downloaded before 26 September 2020 were extracted wrongly"
    assert (line in found) == ("extracted wrongly" in found) == (form == "frames")
    assert "P01_109" not in found


def test_frame_numbers_of_epic_are_not_those_of_its_videos(tmp_path):
    """Time is 60 times a two-digit frame number and 50 times a three-digit one, and no video's rate is a factor."""
    assert (frame_rate("P01_11"), frame_rate("P01_101")) == (60.0, 50.0)
    put(tmp_path, EPIC)
    epic_media(tmp_path, "frames")
    by_frames = read("epic100", tmp_path)
    other = tmp_path / "videos"
    put(other, EPIC)
    epic_media(other, "videos")
    by_time = read("epic100", other)
    np.testing.assert_array_less(np.abs(by_frames.spans / by_frames.rates[:, None] - by_time.spans), 0.5 / 60)
    # As though the numbers counted the frames of a video of 59.94 or 29.97: another moment, by more than a frame.
    last = by_frames.spans[0, 1]
    for rate in (59.94, 29.97):
        assert abs(last / rate - by_time.spans[0, 1]) > 1 / rate


def test_epic_numbers_of_another_rate_are_noticed(tmp_path):
    put(tmp_path, {**EPIC, "EPIC_100_train.csv": EPIC["EPIC_100_train.csv"].replace("1545,1620", "1854,1944")})
    epic_media(tmp_path, "frames")
    assert "frame numbers are up to 324.0 frames off time x rate" in lines(read("epic100", tmp_path).warnings)


@pytest.mark.parametrize(("text", "value"), [("00:00:30.90", 30.9), ("01:02:03", 3723), ("00:00:01.5", 1.5)])
def test_fractions_of_seconds_have_any_number_of_digits(text, value):
    assert seconds(text) == pytest.approx(value)


def test_ucf101_records(tmp_path):
    put(tmp_path, {
        "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n",
        "ucfTrainTestlist/trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n\r\n",
        "ucfTrainTestlist/testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n",
        "ucfTrainTestlist/trainlist02.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi 2\n",
        "ucfTrainTestlist/testlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\n",
    })  # fmt: skip
    touch(tmp_path / "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
          tmp_path / "UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi")  # fmt: skip
    one, two = read("ucf101", tmp_path), read("ucf101", tmp_path, "2")
    assert not one.problems
    assert [(clip.id, clip.side, clip.labels[0]) for clip in clips_of(one)] == [
        ("v_ApplyEyeMakeup_g08_c01", "train", 0), ("v_HandStandPushups_g01_c01", "val", 1),
    ]  # fmt: skip
    assert {clip.id: clip.side for clip in clips_of(two)} == {"v_ApplyEyeMakeup_g08_c01": "val",
                                                    "v_HandStandPushups_g01_c01": "train"}  # fmt: skip
    assert not one.unlisted


def test_hmdb51_records(tmp_path):
    put(tmp_path, {"s/cartwheel_test_split1.txt": "a#1; b&!(c).avi 1 \nsame.avi 2\nspare.avi 0\n",
                   "s/brush_hair_test_split1.txt": "same.avi 1\n",
                   "s/brush_hair_test_split2.txt": "same.avi 2\n"})  # fmt: skip
    touch(*(tmp_path / "v" / name for name in ("cartwheel/a#1; b&!(c).avi", "cartwheel/same.avi", "brush_hair/same.avi",
                                               "cartwheel/spare.avi")))  # fmt: skip
    found = read("hmdb51", tmp_path)
    assert not found.problems
    assert [(clip.side, clip.labels[0], clip.medium) for clip in clips_of(found)] == [
        ("train", 0, "v/brush_hair/same.avi"), ("train", 1, "v/cartwheel/a#1; b&!(c).avi"),
        ("val", 1, "v/cartwheel/same.avi"),
    ]  # fmt: skip
    assert not found.unlisted
    assert found.heads[0][1] == ("brush_hair", "cartwheel")
    assert [clip.side for clip in clips_of(read("hmdb51", tmp_path, "2"))] == ["val"]


def test_a_clip_of_the_same_name_in_another_class_is_not_taken(tmp_path):
    put(tmp_path, {"a_test_split1.txt": "same.avi 1\n", "b_test_split1.txt": "same.avi 2\n"})
    touch(tmp_path / "a" / "same.avi")
    assert [clip.medium for clip in clips_of(read("hmdb51", tmp_path))] == ["a/same.avi", None]


def test_diving48_records(tmp_path):
    put(tmp_path, {
        "Diving48_vocab.json": json.dumps([["Back", "15som", "05Twis", "FREE"], ["Back", "15som", "NoTwis", "TUCK"]]),
        "Diving48_V2_train.json": '[{"vid_name": "AbC_-9_00003", "label": 1, "start_frame": 0, "end_frame": 87}]',
        "Diving48_V2_test.json": '[{"vid_name": "_bC_-9_00004", "label": 0, "start_frame": 0, "end_frame": 87}]',
    })  # fmt: skip
    touch(tmp_path / "rgb/AbC_-9_00003.mp4", tmp_path / "rgb/_bC_-9_00004.mp4")
    found = read("diving48", tmp_path)
    assert not found.problems
    assert found.heads[0][1] == ("Back 15som 05Twis FREE", "Back 15som NoTwis TUCK")
    assert [tuple(clip) for clip in clips_of(found)] == [
        ("AbC_-9_00003", "train", (1,), "rgb/AbC_-9_00003.mp4", None),
        ("_bC_-9_00004", "val", (0,), "rgb/_bC_-9_00004.mp4", None),
    ]


def test_jester_records(tmp_path):
    put(tmp_path, {"labels/labels.csv": "Swiping Left\nDrumming Fingers\n", "labels/test.csv": "9\n",
                   "labels/train.csv": "34870;Drumming Fingers\n",
                   "labels/validation.csv": "5;Swiping Left\n"})  # fmt: skip
    touch(*(tmp_path / "20bn-jester-v1" / clip / "00001.jpg" for clip in ("34870", "5", "9")))
    found = read("jester", tmp_path)
    assert not found.problems
    assert [(clip.id, clip.side, clip.labels[0]) for clip in clips_of(found)] == [
        ("34870", "train", 1), ("5", "val", 0), ("9", "test", None),
    ]  # fmt: skip


@pytest.mark.parametrize("line", [
    "{rel}.mp4 {label}", "{rel}.mp4,{label}", "{rel}.mp4\t{label}", "{root}/{rel}.mp4 {label}", '"{rel}.mp4",{label}',
    "{rel} 30 {label}", "./{rel}.mp4 {label}",
])  # fmt: skip
@pytest.mark.parametrize("name", ["a/x y, z #1;w", "a/-x", "b c/_x 7 3"])
def test_lists_of_any_kind_give_the_same(tmp_path, line, name):
    others = {"a/first": 0, "b c/second": 1, "a/third": 0}
    label = {"a": 0, "b c": 1}[name.split("/")[0]]
    texts = [line.format(rel=rel, root=tmp_path / "data", label=number) for rel, number in others.items()]
    put(tmp_path, {"train.txt": "\ufeff" + "\r\n".join(texts) + "\r\n\r\n",
                   "val.txt": line.format(rel=name, root=tmp_path / "data", label=label)})  # fmt: skip
    for rel in (*others, name):
        if "30" in line:
            touch(tmp_path / "data" / rel / "img_00001.jpg")
        else:
            touch(tmp_path / "data" / f"{rel}.mp4")
    if "30" in line and name.endswith("7 3"):
        put(tmp_path, {"val.txt": line.format(rel=name, root="", label=label) + f"\na/first2 30 {0}\na/more 30 0\n"})
        touch(tmp_path / "data" / "a/first2" / "img_00001.jpg", tmp_path / "data" / "a/more" / "img_00001.jpg")
    found = read("list", tmp_path)
    assert not found.problems
    assert all(found.media)
    assert found.heads[0][1] == ("a", "b c")
    clips = {clip.id.removeprefix("./"): (clip.side, clip.labels[0]) for clip in clips_of(found)}
    assert {"a/first": ("train", 0), "b c/second": ("train", 1), name: ("val", label)}.items() <= clips.items()


def test_a_stretch_of_a_folder_of_frames(tmp_path):
    put(tmp_path, {"train_rawframes.txt": "a/long 0 16 0\na/long 16 20 1\n", "val_rawframes.txt": "a/long 40 10 1\n"})
    touch(tmp_path / "a/long/img_00001.jpg")
    found = read("list", tmp_path)
    assert [clip.span for clip in clips_of(found)] == [(0, 16), (16, 36), (40, 50)]
    assert not found.problems


def test_a_stretch_is_of_no_video(tmp_path):
    put(tmp_path, {"train.txt": "a/long 0 16 0\na/long 16 20 1\n", "val.txt": "a/long 40 10 1\n"})
    touch(tmp_path / "a" / "long.mp4")
    found = read("list", tmp_path)
    assert [clip.medium for clip in clips_of(found)] == [None] * 3
    assert "expected are folders of frames at the listed paths" in lines(found.problems)


def test_names_without_a_folder_are_their_own_ids(tmp_path):
    put(tmp_path, {"train.txt": "a1.mp4 0\nb1.mp4 1\n", "val.txt": "c1.mp4 1\n"})
    touch(*(tmp_path / f"{name}1.mp4" for name in "abc"))
    found = read("list", tmp_path)
    assert [clip.id for clip in clips_of(found)] == ["a1", "b1", "c1"]
    assert found.problems == ()


def test_lists_of_two_kinds_are_told_apart_by_the_split(tmp_path):
    for kind, line in (("videos", "a/x.mp4 0"), ("rawframes", "a/x 3 0")):
        put(tmp_path, {f"train_{kind}.txt": line, f"val_{kind}.txt": line.replace("x", "y")})
    touch(tmp_path / "a/x.mp4", tmp_path / "a/y.mp4")
    assert "a second list of train next to train_rawframes.txt" in lines(read("list", tmp_path).problems)
    found = read("list", tmp_path, "videos")
    assert not found.problems
    assert [clip.medium for clip in clips_of(found)] == ["a/x.mp4", "a/y.mp4"]
    with pytest.raises(UserError) as caught:
        read("list", tmp_path, "flow")
    assert str(caught.value) == (
        "split 'flow' is in the name of no list; there are "
        "train_rawframes.txt, train_videos.txt, val_rawframes.txt, val_videos.txt"
    )
    assert "no list: a .txt or .csv file" in lines(read("list", tmp_path / "a", "flow").problems)


@pytest.mark.parametrize(("test", "num_test"), [("a/y.mp4 0\n", 0), ("a/z.mp4 0\n", 1)])
def test_a_third_list_that_copies_the_second_is_not_read(tmp_path, test, num_test):
    put(tmp_path, {"train.csv": "a/x.mp4 0\n", "val.csv": "a/y.mp4 0\n", "test.csv": test})
    touch(*(tmp_path / "a" / f"{name}.mp4" for name in "xyz"))
    found = read("list", tmp_path)
    assert not found.problems
    assert sum(clip.side == "test" for clip in clips_of(found)) == num_test
    assert found.listed.get("test", 0) == num_test


def test_media_of_a_list_may_lie_outside_the_folder(tmp_path):
    touch(tmp_path / "far" / "a" / "x.mp4")
    put(tmp_path / "lists", {"train.csv": f"{tmp_path}/far/a/x.mp4 0", "val.csv": f"{tmp_path}/far/a/gone.mp4 0"})
    assert [clip.medium for clip in clips_of(read("list", tmp_path / "lists"))] == [f"{tmp_path}/far/a/x.mp4", None]


def test_a_path_of_a_list_is_not_met_by_the_same_name_elsewhere(tmp_path):
    put(tmp_path, {"train.txt": "train/01.mp4 0\n", "val.txt": "val/01.mp4 0\n"})
    touch(tmp_path / "train" / "01.mp4")
    assert [clip.medium for clip in clips_of(read("list", tmp_path))] == ["train/01.mp4", None]


# --- what is wrong

BAD = {
    "a label that is no class": (
        "ssv2", SSV2 | {"labels/train.json": json.dumps([{"id": "7", "template": "Folding [something]"}])},
        "labels/train.json: 'Folding something' is not a class of labels/labels.json; clips: 1 (7)",
    ),
    "an id twice": (
        "ssv2", SSV2 | {"labels/train.json": json.dumps([{"id": "7", "template": "Holding [something] next to "
                                                          "[something]"}] * 2)},
        "labels/train.json: ids listed twice: 1 (7); keep one entry of each",
    ),
    "an id on both sides": (
        "ssv2", SSV2 | {"labels/validation.json": SSV2["labels/train.json"]},
        "labels/validation.json: ids listed on both sides, train and val: 2 (10421, 7)",
    ),
    "JSON cut off": ("ssv2", SSV2 | {"labels/train.json": SSV2["labels/train.json"][:40]},
                     "labels/train.json: no JSON from line 1 on, perhaps truncated"),
    "null for a list": ("ssv2", SSV2 | {"labels/train.json": "null"},
                        "labels/train.json: holds null and no annotations; download it again"),
    "null for a table": ("ssv2", SSV2 | {"labels/labels.json": "null"},
                         "labels/labels.json: holds null and no annotations; download it again"),
    "nested without end": ("ssv2", SSV2 | {"labels/train.json": "[" * 100_000},
                           "labels/train.json: JSON of no annotations, nested too deeply"),
    "a number without end": ("diving48", {"Diving48_vocab.json": "9" * 5_000},
                             "Diving48_vocab.json: JSON of no annotations"),
    "entries that are no objects": (
        "ssv2", SSV2 | {"labels/validation.json": '["7", {"id": "3", "template": "Holding [something] next to '
                                                   '[something]"}, 8, null, [{}]]'},
        'labels/validation.json: entries that are not {"id": ..., "template": ...}: 4 (entry 1, entry 3, entry 4, ...)',
    ),
    "an object for a list": ("ssv2", SSV2 | {"labels/train.json": '{"id": "7"}'},
                             "labels/train.json: must be a list of"),
    "numbers with a hole": ("ssv2", SSV2 | {"labels/labels.json": '{"a": "0", "b": "2"}'},
                            "labels/labels.json: must number every class once, from 0 on"),
    "labels absent": ("ssv2", {"train.json": "[]"}, ".: no labels.json or something-something-v2-labels.json"),
    "validation absent": ("ssv2", {k: v for k, v in SSV2.items() if "validation" not in k},
                          ".: no something-something-v2-validation.json or validation.json"),
    "a line of another length": (
        "kinetics400", {"train.csv": KINETICS + "eating, fast,__________b,0,10,val,0\n"},
        "train.csv: lines with another number of fields than the header's 6: 1 (line 6)",
    ),
    "no label": ("kinetics400", {"train.csv": KINETICS + ",__________b,0,10,train,0\n"},
                 "train.csv: lines without a label: 1 (line 6)"),
    **{f"the times {times}": (
        "kinetics400", {"train.csv": KINETICS + f"crying,__________b,{times},train,0\n"},
        "train.csv: lines with invalid times, which must be seconds from 0 on, the start before the end: 1 (line 6)",
    ) for times in ("-1,9", "9,3", "4,4", "nan,14", "4,nan", "4,inf", "-inf,4", "0,1e300", "0,1000000", ",", "a,b")},
    "a file of no side": ("kinetics400", {"my.csv": "label,youtube_id,time_start,time_end\na,b,0,1\n"},
                          "my.csv: without a side: name it train.csv or val.csv"),
    "no column": ("kinetics400", {"train.csv": "label,youtube_id,split\na,b,train\n"},
                  "train.csv: has no column time_start, time_end; its header is 'label,youtube_id,split'"),
    "a quote that is not closed": (
        "kinetics400", {"train.csv": KINETICS + '"eating' + "x" * 140_000},
        "train.csv: no CSV from line 6 on, perhaps a quote that is not closed",
    ),
    "another edition": (
        "kinetics400",
        {"train.csv": "label,youtube_id,time_start,time_end,split\n"
                      + "".join(f"{n},{n},0,1,train\n" for n in range(401))},
        "train.csv: 401 classes, where Kinetics-400 has 400: of another edition",
    ),
    "a verb that is no class": (
        "epic100", EPIC | {"EPIC_100_verb_classes.csv": "id,key\n0,a\n1,b\n"},
        "EPIC_100_train.csv: verb_class '2' is not a class of EPIC_100_verb_classes.csv; segments: 1 (P90_101_7)",
    ),
    "a number that is none to Python": (
        "epic100", EPIC | {"EPIC_100_verb_classes.csv": "id,key\n0,a\n\u00b2,b\n"},
        "EPIC_100_verb_classes.csv: must number every class once, from 0 on",
    ),
    "a time that is none": (
        "epic100", EPIC | {"EPIC_100_train.csv": EPIC["EPIC_100_train.csv"].replace("00:00:30.90", "30.9")},
        "EPIC_100_train.csv: lines with invalid times or frame numbers: 1 (line 2)",
    ),
    "an end before the beginning": (
        "epic100", EPIC | {"EPIC_100_train.csv": EPIC["EPIC_100_train.csv"].replace("1620", "1500")},
        "EPIC_100_train.csv: segments that end before they begin, or begin before 0: 1 (P90_101_7)",
    ),
    "EPIC-55": ("epic100", {"EPIC_train_action_labels.csv": "x\n"},
                "EPIC_train_action_labels.csv: of EPIC-KITCHENS-55; take"),
    "a folder that is no class": (
        "ucf101", {"classInd.txt": "1 A\n", "trainlist01.txt": "B/v.avi 1\n", "testlist01.txt": "A/w.avi\n"},
        "trainlist01.txt: 'B' is not a class of classInd.txt; lines: 1 (line 1)",
    ),
    "a number of another class": (
        "ucf101", {"classInd.txt": "1 A\n2 B\n", "trainlist01.txt": "B/v.avi 1\n", "testlist01.txt": "A/w.avi\n"},
        "trainlist01.txt: labels that are not the number of their folder's class: 1 (line 1)",
    ),
    "classes with a hole": ("ucf101", {"classInd.txt": "1 A\n3 B\n"}, "classInd.txt: must number every class once"),
    "a use that is none": ("hmdb51", {"a_test_split1.txt": "x.avi 3\n"},
                           "a_test_split1.txt: lines that are not 'name.avi' and 0, 1 or 2: 1 (line 1)"),
    "Diving48 version 1": ("diving48", {"Diving48_vocab.json": '[["a"]]', "Diving48_train.json": "[]"},
                           ".: no Diving48_V2_train.json; Diving48_train.json is of version 1"),
    "a class number too large": (
        "diving48", {"Diving48_vocab.json": '[["a"]]', "Diving48_V2_train.json": '[{"vid_name": "x", "label": 1}]'},
        "Diving48_V2_train.json: 1 is not a class of Diving48_vocab.json; clips: 1 (x)",
    ),
    "a gesture that is no class": (
        "jester", {"labels.csv": "A\n", "train.csv": "1;B\n", "validation.csv": "2;A\n"},
        "train.csv: 'B' is not a class of labels.csv; clips: 1 (1)",
    ),
    "no label in a line": ("jester", {"labels.csv": "A\n", "train.csv": "1\n", "validation.csv": "2;A\n"},
                           "train.csv: lines that are not id;label: 1 (line 1)"),
    "a list's line without a label": ("list", {"train.txt": "a/x.mp4 0\na/y.mp4\n", "val.txt": "a/z.mp4 0\n"},
                                      "train.txt: lines that are not 'path label' or 'path frames label': 1 (line 2)"),
    "several labels": ("list", {"train.txt": "a/x.mp4 0\na/y.mp4 0 1\n", "val.txt": "a/z.mp4 0\n"},
                       "train.txt: videos with several labels: 1 (line 2); one is needed"),
    "fewer numbers": ("list", {"train.txt": "a/x 3 0\na/y 3 0\na/z 0\n", "val.txt": "a/w 3 0\n"},
                      "train.txt: lines with fewer numbers than the 2 of the others: 1 (line 3)"),
    "a number that is no class": (
        "list", {"train.txt": "a/x.mp4 2\n", "val.txt": "a/z.mp4 0\n", "classes.txt": "a\nb\n"},
        "train.txt: 2 is not a class; classes are 0 to 1; lines: 1 (line 1)",
    ),
    "a table of frames": ("list", {"train.csv": 'original_vido_id video_id frame_id path labels\n1 0 0 1/1_1.jpg ""\n'},
                          "train.csv: is PySlowFast's table of single frames"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_annotations_are_named_in_a_line(tmp_path, case):
    layout, files, line = BAD[case]
    put(tmp_path, files)
    found = lines(read(layout, tmp_path).problems)
    assert line in found


def test_all_problems_are_listed_at_once(tmp_path):
    put(tmp_path, SSV2 | {"labels/train.json": json.dumps([{"id": "7", "template": "Folding [something]"}]),
                          "labels/validation.json": "[{"})  # fmt: skip
    touch(tmp_path / "88.mp4")
    found = read("ssv2", tmp_path)
    assert len(found.problems) == 2
    assert len(found) == 2  # the test clips are there all the same


def test_what_is_not_utf8_is_named_by_its_line(tmp_path):
    (tmp_path / "train.csv").write_bytes(KINETICS.encode() + "crème,__________b,0,10,train,0\n".encode("latin-1"))
    assert "train.csv: line 6 is not UTF-8; save the file as UTF-8" in lines(read("kinetics400", tmp_path).problems)


def test_ids_without_media_and_media_without_ids(tmp_path):
    build(tmp_path, "ssv2")
    videos = tmp_path / "20bn-something-something-v2"
    (videos / "1003.webm").unlink()
    (videos / "1024.webm").unlink()
    touch(videos / "77.webm")
    found = read("ssv2", tmp_path)
    assert not found.problems
    assert lines(found.gaps) == (
        ".: 1 of 18 clips of train have no medium (1003)\n.: 1 of 6 clips of val have no medium (1024)"
    )
    assert (missing_ids(found, "train"), missing_ids(found, "val")) == (["1003"], ["1024"])
    assert list(found.unlisted) == ["20bn-something-something-v2/77.webm"]
    assert "1 media that the annotations do not list (20bn-something-something-v2/77.webm)" in lines(found.warnings)


def test_a_half_unpacked_archive_is_explained(tmp_path):
    build(tmp_path, "ssv2")
    for path in sorted((tmp_path / "20bn-something-something-v2").iterdir())[:9]:
        path.unlink()
    assert "9 of 18 clips of train have no medium (1001, 1002, 1003, ...); the archives" in lines(
        read("ssv2", tmp_path).gaps
    )


def test_no_media_at_all_is_a_problem_that_says_what_is_looked_for(tmp_path):
    put(tmp_path, SSV2)
    assert "no video and no folder of frames of any listed clip; expected are <id>.webm" in lines(
        read("ssv2", tmp_path).problems
    )


def test_frames_numbered_from_zero_are_said(tmp_path):
    build(tmp_path, "jester", first=0)
    found = read("jester", tmp_path)
    assert found.frames.first == 0
    assert "frames are numbered from 0 (00000.jpg), where 1 was expected" in lines(found.warnings)


def test_videos_beside_frames_are_said(tmp_path):
    build(tmp_path, "ssv2", "frames")
    build(tmp_path, "ssv2", "videos")
    found = read("ssv2", tmp_path)
    assert found.form == "frames"
    assert "there are both videos and folders of frames; the folders of frames are taken" in lines(found.warnings)


def test_an_unreadable_folder_is_one_line(tmp_path, monkeypatch):
    build(tmp_path, "ssv2")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "20bn-something-something-v2":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "20bn-something-something-v2: cannot be listed: Permission denied" in lines(read("ssv2", tmp_path).problems)


def test_columns_are_small_and_whole_media_have_no_span(tmp_path):
    build(tmp_path, "ucf101")
    found = read("ucf101", tmp_path)
    assert found.labels.dtype == np.int32
    assert found.sides.dtype == np.int8
    assert all(math.isnan(limit) for limit in found.spans.ravel())
    assert set(found.rates) == {25.0}


@given(st.lists(st.text() | st.binary().map(os.fsdecode)))
def test_a_column_of_strings_is_the_list_of_them(strings):
    column = Strings(strings)
    assert list(column) == strings
    assert [column[place] for place in range(len(column))] == strings
    assert len(column) == len(strings)
