"""Made features of untrimmed videos with annotations, in the files of real data sets, to try localization on.

A feature is noise, plus a direction of the class of every segment that its centre lies in; everything follows from a
video's number. There are two sets, in folders called as rows of tables call them, of which one has more noise.
"""

import csv
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tadaconv.data.feature_files import SUFFIXES, Array, FeatureManifest, write_features, write_manifest
from tadaconv.errors import UserError, unknown

CHANNELS = 16
NOISE = {"tsn": 1.0, "tada2d": 0.5}
"""Its standard deviation, by folder."""
NUM_TRAIN, NUM_VAL = 24, 8  # videos
_VERBS, _NOUNS = ("take", "wash", "cut"), ("knife", "cup", "onion")
_LABELS = ("Archery", "Ballet", "Cricket")


class FeatureSample(NamedTuple):
    """What features see, in frames: without padding, the first is centred half a window in."""

    fps: float
    window: int
    stride: int
    num_heads: int


FEATURE_SAMPLES = {"hacs_features": FeatureSample(15, 32, 8, 1), "epic_features": FeatureSample(30, 32, 16, 2)}
"""By name of the sample: HACS and EPIC-KITCHENS-100, by SlowFast."""


class _Video(NamedTuple):
    name: str
    is_train: bool
    seconds: float
    spans: Array
    labels: Array


@contextmanager
def new_folder(root: Path) -> Generator[None]:
    """Write a sample into ``root`` within it; raises :class:`UserError` unless that is new or empty, and writable."""
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise UserError(f"{str(root)!r} exists and is not an empty folder; name a new one")
        yield
    except OSError as error:
        raise UserError(f"cannot write into {str(root)!r}: {error.strerror}; name another folder") from error


def write_feature_sample(name: str, root: Path, form: str = "npy") -> str:
    """Write a sample into ``root``, a new or an empty folder: annotations, and two folders of features; see NOISE.

    Returns a summary. Raises :class:`UserError` for a form that is not known, and for a folder that is not empty or
    cannot be written.

    Args:
        name: one of :data:`FEATURE_SAMPLES`.
        root: the folder that is written.
        form: the format of features: npy, npz, csv or pt.
    """
    sample = FEATURE_SAMPLES[name]
    if f".{form}" not in SUFFIXES:
        raise unknown("format of features", form, [suffix[1:] for suffix in SUFFIXES])
    videos = [_video(number, sample) for number in range(NUM_TRAIN + NUM_VAL)]
    with new_folder(root):
        for folder, noise in NOISE.items():
            for number, video in enumerate(videos):
                write_features(root / folder / f"{video.name}.{form}", _features(number, video, sample, noise))
            write_manifest(root / folder, _manifest(sample))
        (_write_hacs if sample.num_heads == 1 else _write_epic)(root, videos)
    folders = " and ".join(NOISE)
    return f"{root}: {name} as {form}, {NUM_TRAIN} training videos and {NUM_VAL} validation videos, in {folders}"


def _manifest(sample: FeatureSample) -> FeatureManifest:
    return FeatureManifest(
        model="made up", cell="", weights_fingerprint="", backbone="", temporal=None, num_channels=CHANNELS,
        fps=sample.fps, window=sample.window, stride=sample.stride, offset=sample.window / 2, padded=False, size=1,
        tadaconv="made",
    )  # fmt: skip


def _video(number: int, sample: FeatureSample) -> _Video:
    draws = np.random.default_rng(number)
    seconds = round(draws.uniform(25, 60), 2)
    name = f"P{1 + number % 3:02d}_{number:02d}" if sample.num_heads == 2 else f"_Ab-c{number:06d}"
    spans, begin = [], draws.uniform(1, 4)
    while (end := begin + draws.uniform(3, 9)) < seconds - 2:
        spans.append((round(begin, 2), round(end, 2)))
        begin = end + draws.uniform(1, 5)
    labels = draws.integers(3, size=(len(spans), sample.num_heads))
    return _Video(name, number < NUM_TRAIN, seconds, np.array(spans), labels)


def _features(number: int, video: _Video, sample: FeatureSample, noise: float) -> Array:
    count = int(video.seconds * sample.fps - sample.window) // sample.stride + 1
    centres = (sample.window / 2 + sample.stride * np.arange(count)) / sample.fps
    directions = np.random.default_rng(0).normal(size=(sample.num_heads, 3, CHANNELS))
    features = noise * np.random.default_rng((number, 1)).normal(size=(count, CHANNELS))
    for (begin, end), labels in zip(video.spans, video.labels, strict=True):
        inside = (begin <= centres) & (centres <= end)
        features[inside] += directions[np.arange(sample.num_heads), labels].sum(0)
    return features.astype(np.float32)


def _write_hacs(root: Path, videos: list[_Video]) -> None:
    database = {
        video.name: {
            "subset": "training" if video.is_train else "validation",
            "duration": f"{video.seconds}",  # a string, as in the original
            "annotations": [
                {"segment": span, "label": _LABELS[label]}
                for span, (label,) in zip(video.spans.tolist(), video.labels.tolist(), strict=True)
            ],
        }
        for video in videos
    }
    (root / "HACS_segments.json").write_text(json.dumps({"database": database}, indent=1))


def _write_epic(root: Path, videos: list[_Video]) -> None:
    header = ("narration_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
    for part, is_train in (("train", True), ("validation", False)):
        rows: list[tuple[object, ...]] = [header]
        for video in videos:
            for place, (span, labels) in enumerate(zip(video.spans.tolist(), video.labels.tolist(), strict=True)):
                if video.is_train == is_train:
                    rows.append((f"{video.name}_{place}", video.name, *map(_timestamp, span), *labels))
        _write_csv(root / f"EPIC_100_{part}.csv", rows)
    durations = [(video.name, video.seconds, 30) for video in videos]
    _write_csv(root / "EPIC_100_video_info.csv", [("video_id", "duration", "fps"), *durations])
    for head, names in (("verb", _VERBS), ("noun", _NOUNS)):
        classes = [(number, name, [name], "x") for number, name in enumerate(names)]
        _write_csv(root / f"EPIC_100_{head}_classes.csv", [("id", "key", "instances", "category"), *classes])


def _write_csv(path: Path, rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _timestamp(seconds: float) -> str:
    return f"00:{int(seconds // 60):02d}:{seconds % 60:05.2f}"
