"""A small data set of moving digits in the files of a real one, to try the whole path on before disks are mounted.

A handwritten digit goes left or right, up or down, grows or shrinks. Each of the six classes is another one played
backwards, so that only the order of the frames distinguishes them, and a mirror exchanges left and right. No file is
downloaded; everything follows from a clip's number.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tadaconv.data.decode import require_av
from tadaconv.data.feature_sample import FEATURE_SAMPLES, new_folder, write_feature_sample
from tadaconv.data.layouts import LAYOUTS
from tadaconv.data.packing import JpegEncoder
from tadaconv.errors import lookup, unknown

HEIGHT, WIDTH = 64, 80
SECONDS = 2.0
"""How long a clip lasts."""

_NUM_TRAIN, _NUM_VAL = 8, 4  # clips of each class
_MOTIONS = ("left", "right", "up", "down", "larger", "smaller")
_DIGITS = {"zero": 0, "three": 3, "seven": 7}

_CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "ssv2": (
        "Pulling [something] from right to left",
        "Pulling [something] from left to right",
        "Moving [something] up",
        "Moving [something] down",
        "Moving [something] closer to your camera",
        "Moving [something] away from your camera",
    ),
    "kinetics400": tuple(f"digit, moving {motion}" for motion in _MOTIONS),
    "epic100": tuple(f"move-{motion}" for motion in _MOTIONS),
    "ucf101": tuple(f"Move{motion.capitalize()}" for motion in _MOTIONS),
    "hmdb51": tuple(f"move_{motion}" for motion in _MOTIONS),
    "diving48": tuple(f"Digit {motion} 00No FREE" for motion in _MOTIONS),
    "jester": (
        "Swiping Left",
        "Swiping Right",
        "Swiping Up",
        "Swiping Down",
        "Zooming In With Full Hand",
        "Zooming Out With Full Hand",
    ),
    "list": tuple(f"moving {motion}" for motion in _MOTIONS),
}


@dataclass(frozen=True)
class SampleClip:
    """A clip by what it shows: ``motion`` counts the classes of ``class_names``, ``digit`` the nouns of EPIC."""

    number: int
    side: Literal["train", "val"]
    motion: int
    digit: int


class Media(Protocol):
    """What writes media; the clips given are shown one after another, each for ``SECONDS``."""

    def video(self, path: Path, clips: Sequence[SampleClip], rate: float) -> None:
        """Write a video of ``rate`` frames a second.

        Args:
            path: of the video.
            clips: which are shown.
            rate: frames a second.
        """

    def frames(self, folder: Path, template: str, clips: Sequence[SampleClip], rate: float) -> None:
        """Write a folder of pictures, ``template.format(number=1)`` the first.

        Args:
            folder: of the pictures.
            template: of their names.
            clips: which are shown.
            rate: frames a second.
        """


def class_names(layout: str) -> tuple[str, ...]:
    """The names of the six classes as the annotations of ``layout`` are read; of EPIC, the verbs."""
    return tuple(name.replace("[", "").replace("]", "") for name in _CLASS_NAMES[layout])


def sample_clips(num_train: int = _NUM_TRAIN, num_val: int = _NUM_VAL) -> tuple[SampleClip, ...]:
    """So many clips of each class on each side."""
    clips: list[SampleClip] = []
    sides: tuple[tuple[Literal["train", "val"], int], ...] = (("train", num_train), ("val", num_val))
    for side, count in sides:
        for number in range(count):
            for motion in range(len(_MOTIONS)):
                clips.append(SampleClip(len(clips) + 1, side, motion, (number + motion) % len(_DIGITS)))
    return tuple(clips)


def write_sample(layout: str, root: Path, form: str = "") -> str:
    """Write the sample of ``layout``, or of features, into ``root``, a new or an empty folder; returns a summary.

    ``form`` is one of ``FORMS[layout]``, by default its first. Raises :class:`UserError` for a layout or a form that
    is not known, for a folder that is not empty or cannot be written, and without PyAV.

    Args:
        layout: a name in :data:`FORMS` or :data:`tadaconv.data.feature_sample.FEATURE_SAMPLES`.
        root: the folder that is written.
        form: how the layout is written; empty for the usual one.
    """
    if layout in FEATURE_SAMPLES:
        return write_feature_sample(layout, root, form or "npy")
    lookup("layout", layout, {**LAYOUTS, **FEATURE_SAMPLES})
    form = form or next(iter(FORMS[layout]))
    if form not in FORMS[layout]:
        raise unknown(f"form of {layout}", form, FORMS[layout])
    require_av()
    clips = sample_clips()
    with new_folder(root):
        write_layout(layout, form, root, clips, DigitMedia())
    num_train = sum(clip.side == "train" for clip in clips)
    return f"{root}: {layout} as {form}, {num_train} training clips and {len(clips) - num_train} validation clips"


def write_layout(layout: str, form: str, root: Path, clips: Sequence[SampleClip], media: Media) -> None:
    """Write annotations of ``clips`` in one form of ``layout``, and have ``media`` write what they name.

    Args:
        layout: a name in :data:`FORMS`.
        form: one of its forms.
        root: the folder that is written.
        clips: which are written.
        media: what writes videos and folders of frames.
    """
    FORMS[layout][form](root, clips, media)


# --- what the clips show


@lru_cache(maxsize=1)
def _handwriting() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images / 16, digits.target


def picture(clip: SampleClip, phase: float) -> NDArray[np.uint8]:
    """The clip at a moment, 0 its beginning and 1 its end: (H, W, 3), RGB."""
    draws = np.random.default_rng(clip.number)
    images, digits = _handwriting()
    hand = images[draws.choice(np.flatnonzero(digits == list(_DIGITS.values())[clip.digit]))]
    across, along = draws.uniform(0.2, 0.8), draws.uniform(0.1, 0.25)
    ground, ink = draws.uniform(20, 60, 3), draws.uniform(170, 255, 3)
    motion = _MOTIONS[clip.motion]
    if motion in ("left", "up", "smaller"):
        phase = 1 - phase
    way = along + (1 - 2 * along) * phase
    side, x, y = 26.0, across, across
    if motion in ("left", "right"):
        x = way
    elif motion in ("up", "down"):
        y = way
    else:
        side = 14 + 40 * phase
    left, top = x * (WIDTH - side), y * (HEIGHT - side)
    rows = np.floor((np.arange(HEIGHT) + 0.5 - top) / side * 8).astype(int)
    columns = np.floor((np.arange(WIDTH) + 0.5 - left) / side * 8).astype(int)
    inside = np.outer((rows >= 0) & (rows < 8), (columns >= 0) & (columns < 8))
    cover = (hand[np.ix_(rows.clip(0, 7), columns.clip(0, 7))] * inside)[..., None]
    painted: NDArray[np.float64] = ground * (1 - cover) + ink * cover
    return painted.round().astype(np.uint8)


class DigitMedia:
    """Writes moving digits, by PyAV and in one thread, so that the same bytes come out of it each time."""

    def shown(self, clips: Sequence[SampleClip], rate: float) -> Iterator[NDArray[np.uint8]]:
        """The frames of ``clips``, one after another, at ``rate`` a second: (H, W, 3) each."""
        for number in range(round(len(clips) * SECONDS * rate)):
            seconds = number / rate
            place = min(int(seconds / SECONDS), len(clips) - 1)
            yield picture(clips[place], seconds / SECONDS - place)

    def video(self, path: Path, clips: Sequence[SampleClip], rate: float) -> None:
        """VP8 in ``.webm``, MPEG-4 elsewhere."""
        from fractions import Fraction

        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        webm = path.suffix.lower() == ".webm"
        # Negative: a fixed speed; with a positive one the encoder adapts to the time that it has.
        options = {"deadline": "realtime", "cpu-used": "-8"} if webm else {}
        formats = {".avi": "avi", ".webm": "webm"}
        kept = {"fflags": "+bitexact"}  # no time of writing
        with av.open(str(path), "w", format=formats.get(path.suffix.lower(), "mp4"), options=kept) as container:
            # 59.94 is 60000/1001
            exact = Fraction(60000, 1001) if rate == 59.94 else Fraction(rate).limit_denominator(1000)
            stream: Any = container.add_stream("libvpx" if webm else "mpeg4", rate=exact, options=options)
            stream.height, stream.width, stream.pix_fmt, stream.bit_rate = HEIGHT, WIDTH, "yuv420p", 1_000_000
            stream.codec_context.thread_count = 1
            for frame in self.shown(clips, float(exact)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    def frames(self, folder: Path, template: str, clips: Sequence[SampleClip], rate: float) -> None:
        """JPEG, numbered from 1."""
        folder.mkdir(parents=True, exist_ok=True)
        encoder = JpegEncoder(HEIGHT, WIDTH)
        for number, pixels in enumerate(self.shown(clips, rate), 1):
            (folder / template.format(number=number)).write_bytes(encoder.encode(pixels))


# --- the files of each data set


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    _write(path, text.getvalue())


def _side(clips: Sequence[SampleClip], side: str) -> list[SampleClip]:
    return [clip for clip in clips if clip.side == side]


Build = Callable[[Path, Sequence[SampleClip], Media], None]


def _write_clip(media: Media, path: Path, clip: SampleClip, rate: float, files: str) -> None:
    """Write a clip at ``path``: as a video, of which ``files`` is the extension, or as frames of that template."""
    if files.startswith("."):
        media.video(path.with_name(path.name + files), [clip], rate)
    else:
        media.frames(path, files, [clip], rate)


def _ssv2(root: Path, clips: Sequence[SampleClip], media: Media, names: str, folder: str, files: str) -> None:
    """Files called ``names`` followed by the part; ``files`` may have the ``{id}`` of a clip in it."""
    templates = _CLASS_NAMES["ssv2"]
    numbers = {name: str(number) for number, name in enumerate(class_names("ssv2"))}
    _write(root / f"{names}labels.json", json.dumps(numbers, indent=0))
    for side, part in (("train", "train"), ("val", "validation")):
        entries = [
            {
                "id": str(1000 + clip.number),
                "label": templates[clip.motion].replace("[something]", "a digit").lower(),
                "template": templates[clip.motion],
                "placeholders": ["a digit"],
            }
            for clip in _side(clips, side)
        ]
        _write(root / f"{names}{part}.json", json.dumps(entries, indent=0))
    for clip in clips:
        clip_id = str(1000 + clip.number)
        _write_clip(media, root / folder / clip_id, clip, 12, files.replace("{id}", clip_id))


def _kinetics(root: Path, clips: Sequence[SampleClip], media: Media, pattern: str, files: str) -> None:
    """Media called after ``pattern``, of ``side``, ``label`` (or ``under``, with underscores), ``id`` and ``times``."""
    for side, part in (("train", "train"), ("val", "validate")):
        rows: list[list[object]] = [["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]]
        for clip in _side(clips, side):
            label, clip_id = class_names("kinetics400")[clip.motion], _youtube_id(clip)
            rows.append([label, clip_id, clip.number, clip.number + 10, part, 0])
            times = f"{clip.number:06d}_{clip.number + 10:06d}"
            name = pattern.format(side=side, label=label, under=label.replace(" ", "_"), id=clip_id, times=times)
            _write_clip(media, root / name, clip, 12, files)
        _write_csv(root / f"{side}.csv", rows)


def _youtube_id(clip: SampleClip) -> str:
    return f"{'-_k'[clip.number % 3]}a_b-{clip.number:06d}"


_EPIC_COLUMNS = (
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp",
    "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns",
    "all_noun_classes",
)  # fmt: skip


def _epic(root: Path, clips: Sequence[SampleClip], media: Media, form: str) -> None:
    annotations = root / "epic-kitchens-100-annotations"
    verbs, nouns = class_names("epic100"), tuple(_DIGITS)
    for head, names in (("verb", verbs), ("noun", nouns)):
        rows = [("id", "key", "instances", "category"), *((n, name, [name], "x") for n, name in enumerate(names))]
        _write_csv(annotations / f"EPIC_100_{head}_classes.csv", rows)
        _write_csv(annotations / f"EPIC_100_tail_{head}s.csv", [(head,), (len(names) - 1,)])
    _write_csv(annotations / "EPIC_100_unseen_participant_ids_validation.csv", [("participant_id",), ("P02",)])
    for side, part in (("train", "train"), ("val", "validation")):
        segments: list[Sequence[object]] = [_EPIC_COLUMNS]
        for video_id, rate, segments_of_video in _kitchens(_side(clips, side), side):
            for place, clip in enumerate(segments_of_video):
                start, stop = place * SECONDS, (place + 1) * SECONDS
                verb, noun = verbs[clip.motion], nouns[clip.digit]
                narration_id = f"{video_id}_{place}"
                segments.append(
                    (narration_id, video_id[:3], video_id, _timestamp(start), _timestamp(start), _timestamp(stop),
                     round(start * rate), round(stop * rate), f"{verb} {noun}", verb, clip.motion, noun,
                     clip.digit, [noun], [clip.digit])
                )  # fmt: skip
                if form == "clips":
                    media.video(root / "clips" / f"{narration_id}.MP4", [clip], 59.94 if rate == 60 else 50)
            place_of_media = root / "EPIC-KITCHENS" / video_id[:3]
            if form == "frames":
                media.frames(
                    place_of_media / "rgb_frames" / video_id, "frame_{number:010d}.jpg", segments_of_video, rate
                )
            elif form == "videos":
                media.video(
                    place_of_media / "videos" / f"{video_id}.MP4", segments_of_video, 59.94 if rate == 60 else 50
                )
        _write_csv(annotations / f"EPIC_100_{part}.csv", segments)


def _kitchens(clips: Sequence[SampleClip], side: str) -> Iterator[tuple[str, float, list[SampleClip]]]:
    """Videos of twelve clips, alternately with two-digit and three-digit numbers: id, rate of frame numbers, clips.

    Every first video of validation is of a participant without training clips.
    """
    for number, start in enumerate(range(0, len(clips), 12)):
        short = number % 2 == 0
        person, first = ("P01", 0) if side == "train" else ("P02" if short else "P01", 50)
        yield (
            f"{person}_{number + first + 1:02d}" if short else f"{person}_{number + first + 101}",
            60.0 if short else 50.0,
            list(clips[start : start + 12]),
        )


def _timestamp(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"00:{int(minutes):02d}:{rest:06.3f}"


def _ucf(root: Path, clips: Sequence[SampleClip], media: Media, folder: str, files: str) -> None:
    lists, names = root / "ucfTrainTestlist", class_names("ucf101")
    _write(lists / "classInd.txt", "".join(f"{n} {name}\n" for n, name in enumerate(names, 1)))
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for clip in clips:
        name = names[clip.motion]
        video = f"{name}/v_{name}_g{clip.number:02d}_c01"
        lines[clip.side].append(f"{video}.avi {clip.motion + 1}" if clip.side == "train" else f"{video}.avi")
        _write_clip(media, root / folder / video, clip, 25, files)
    for split in (1, 2, 3):
        _write(lists / f"trainlist0{split}.txt", "\n".join(lines["train"]) + "\n")
        _write(lists / f"testlist0{split}.txt", "\n".join(lines["val"]) + "\n")


def _hmdb(root: Path, clips: Sequence[SampleClip], media: Media, folder: str, files: str) -> None:
    for motion, name in enumerate(class_names("hmdb51")):
        lines = []
        for clip in clips:
            if clip.motion == motion:
                video = f"#{clip.number};_it's_a_(digit)&!_{name}_np1"
                lines.append(f"{video}.avi {1 if clip.side == 'train' else 2}\n")
                _write_clip(media, root / folder / name / video, clip, 30, files)
        for split in (1, 2, 3):
            _write(root / "testTrainMulti_7030_splits" / f"{name}_test_split{split}.txt", "".join(lines))


def _diving(root: Path, clips: Sequence[SampleClip], media: Media, folder: str, files: str) -> None:
    _write(root / "Diving48_vocab.json", json.dumps([name.split() for name in class_names("diving48")]))
    for side, part in (("train", "train"), ("val", "test")):
        entries = []
        for clip in _side(clips, side):
            video = f"_Ab-C{clip.number % 7}_{clip.number:05d}"
            entries.append({"vid_name": video, "label": clip.motion, "start_frame": 0, "end_frame": 50})
            _write_clip(media, root / folder / video, clip, 25, files)
        _write(root / f"Diving48_V2_{part}.json", json.dumps(entries))


def _jester(root: Path, clips: Sequence[SampleClip], media: Media, names: str, files: str) -> None:
    """Files called ``names`` followed by the part."""
    classes = class_names("jester")
    _write(root / f"{names}labels.csv", "".join(f"{name}\n" for name in classes))
    for side, part in (("train", "train"), ("val", "validation")):
        lines = (f"{clip.number};{classes[clip.motion]}\n" for clip in _side(clips, side))
        _write(root / f"{names}{part}.csv", "".join(lines))
    for clip in clips:
        _write_clip(media, root / "20bn-jester-v1" / str(clip.number), clip, 12, files)


def _list(
    root: Path, clips: Sequence[SampleClip], media: Media, names: str, line: str, folder: str, files: str = ".mp4"
) -> None:
    """Lists called after ``names``, of ``side``; a ``line`` of ``rel``, ``root``, ``frames`` and ``label``."""
    classes = class_names("list")
    where = os.path.abspath(root / folder)  # noqa: PTH100  # as lists have it: links are not followed
    for side in ("train", "val"):
        lines = []
        for clip in _side(clips, side):
            video = f"{classes[clip.motion]}/clip, no. #{clip.number};a"
            rel = video + files if files.startswith(".") else video
            lines.append(line.format(rel=rel, root=where, frames=round(SECONDS * 12), label=clip.motion) + "\n")
            _write_clip(media, root / folder / video, clip, 12, files)
        _write(root / names.format(side=side), "".join(lines))


_IMG = "img_{number:05d}.jpg"
_SSV2 = "something-something-v2-"

FORMS: Mapping[str, Mapping[str, Build]] = {
    "ssv2": {
        "videos": partial(_ssv2, names=_SSV2, folder="20bn-something-something-v2", files=".webm"),
        "frames": partial(_ssv2, names=_SSV2, folder="20bn-something-something-v2-frames", files="{number:06d}.jpg"),
        "release2": partial(_ssv2, names="labels/", folder="20bn-something-something-v2", files=".webm"),
        "mp4": partial(_ssv2, names="labels/", folder="videos", files=".mp4"),
        "mmaction2-frames": partial(_ssv2, names=f"annotations/{_SSV2}", folder="rawframes", files=_IMG),
        "pyslowfast-frames": partial(_ssv2, names=_SSV2, folder="frames", files="{id}_{number:06d}.jpg"),
    },
    "kinetics400": {
        "videos": partial(_kinetics, pattern="{side}/{label}/{id}_{times}", files=".mp4"),
        "frames": partial(_kinetics, pattern="rawframes_{side}/{label}/{id}_{times}", files=_IMG),
        "underscores": partial(_kinetics, pattern="videos_{side}/{under}/{id}_{times}", files=".mkv"),
        "flat": partial(_kinetics, pattern="{side}/{id}_{times}", files=".mp4"),
        "ids": partial(_kinetics, pattern="{side}/{under}/{id}", files=".mp4"),
        "flat-ids": partial(_kinetics, pattern="videos/{id}", files=".webm"),
    },
    "epic100": {form: partial(_epic, form=form) for form in ("frames", "videos", "clips")},
    "ucf101": {
        "videos": partial(_ucf, folder="UCF-101", files=".avi"),
        "frames": partial(_ucf, folder="rawframes", files=_IMG),
    },
    "hmdb51": {
        "videos": partial(_hmdb, folder="videos", files=".avi"),
        "frames": partial(_hmdb, folder="rawframes", files=_IMG),
    },
    "diving48": {
        "videos": partial(_diving, folder="rgb", files=".mp4"),
        "frames": partial(_diving, folder="frames", files="{number:05d}.jpg"),
    },
    "jester": {
        "frames": partial(_jester, names="jester-v1-", files="{number:05d}.jpg"),
        "release2": partial(_jester, names="labels/", files="{number:05d}.jpg"),
        "videos": partial(_jester, names="jester-v1-", files=".mp4"),
    },
    "list": {
        "videos": partial(_list, names="kinetics400_{side}_list_videos.txt", line="{rel} {label}", folder="videos"),
        "frames": partial(
            _list,
            names="kinetics400_{side}_list_rawframes.txt",
            line="{rel} {frames} {label}",
            folder="rawframes",
            files=_IMG,
        ),
        "pyslowfast": partial(_list, names="{side}.csv", line="{root}/{rel} {label}", folder="clips"),
        "tsm": partial(
            _list, names="{side}_videofolder.txt", line="{rel} {frames} {label}", folder="images", files=_IMG
        ),
        "videomae": partial(_list, names="{side}.csv", line="{root}/{rel},{label}", folder="clips"),
        "authors": partial(_list, names="kinetics400_{side}_list.txt", line="{rel} {label}", folder="clips"),
    },
}
"""How each layout can be written; the first form is the usual one."""
