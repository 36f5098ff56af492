"""Annotations of untrimmed videos: when what happens, in seconds; NumPy only.

Two formats are read:

- ActivityNet's JSON, which HACS (``HACS_segments_v1.1.1.json``), THUMOS and the sets of OpenTAD share:
  ``{"database": {video: {"subset", "duration", "annotations": [{"segment": [start, end], "label"}]}}}``
- the tables of EPIC-KITCHENS-100, ``EPIC_100_train.csv`` and ``EPIC_100_validation.csv``, whose classes are numbered.
  Durations are in ``EPIC_100_video_info.csv``, and names of classes in ``EPIC_100_verb_classes.csv`` and
  ``EPIC_100_noun_classes.csv``, which are read where they are next to them.

Official files have durations that are strings, segments that end a little after their video (frames are rounded to
seconds), and empty segments. The first are read as numbers, the others are kept as they are, as the official
protocols count them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadaconv.data.annotations import Gathering, Head
from tadaconv.data.layouts import epic100
from tadaconv.data.media import Tree
from tadaconv.errors import UserError, unknown
from tadaconv.spec import errors_of

TOLERANCE_SECONDS = 0.5
"""How far a segment may reach beyond its video, since durations are rounded and frames at the end are lost."""

_INFO = "EPIC_100_video_info.csv"
_LISTS = ("EPIC_100_train.csv", "EPIC_100_validation.csv")
_COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")


@dataclass(frozen=True, eq=False)
class TimedVideo:
    """The annotated segments of one video.

    Attributes:
        duration: of the video in seconds; None where the annotations do not say.
        spans: starts and ends in seconds, float64 (M, 2), in the order of the file; a start is not after its end.
        labels: the class of each by head, int64 (M, H).
    """

    duration: float | None
    spans: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.spans)


@dataclass(frozen=True, eq=False)
class TimedAnnotations:
    """What was read of a file of annotations.

    Attributes:
        heads: names of the labels, and of the classes of each in order: ``label``, or ``verb`` and ``noun``.
        subsets: videos by name, by subset.
    """

    heads: tuple[Head, ...]
    subsets: dict[str, dict[str, TimedVideo]]


def read_timed_annotations(path: Path, subsets: Sequence[str] = (), train: str = "") -> TimedAnnotations:
    """Read the annotations of untrimmed videos.

    The classes of a JSON file are those of the subsets that are read, sorted by name. Those of EPIC-KITCHENS-100 are
    all 97 verbs and 300 nouns in their official order, some of which its training videos lack.

    Raises :class:`UserError`, in one line that names file and video, for a file that cannot be read or is empty, a
    subset that does not exist, a column that is missing, a time that is no number, a segment that ends before it
    begins, begins before 0 or ends more than half a second after its video, and a class that ``train`` lacks.

    Args:
        path: a JSON file, a table of EPIC-KITCHENS-100, or the folder of its tables. A table is a subset, which is
            called by the last word of the file's name: ``train``, ``validation``.
        subsets: names of those to be read; empty for all.
        train: one of them, which a network is trained on: a class of a JSON file that occurs only in others is refused.
    """
    annotations = _read_epic(path, subsets) if _is_epic(path) else _read_json(path, subsets, train)
    if not any(len(video) for videos in annotations.subsets.values() for video in videos.values()):
        asked = f"subset {', '.join(map(repr, annotations.subsets))}" if subsets else "it"
        raise UserError(f"{path}: {asked} has no annotated segment; name another file or subset")
    return annotations


def subset_names(path: Path) -> list[str]:
    """The subsets of a file of annotations, sorted; raises :class:`UserError` where it cannot be read."""
    if _is_epic(path):
        return sorted(_epic_tables(path))
    return sorted({video["subset"] for video in _database(path).values()})


def _is_epic(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".csv"


def _gathering(path: Path) -> Gathering:
    """Reads the file at ``path`` and those next to it, or those in the folder ``path``."""
    root = path if path.is_dir() else path.parent
    names = tuple(sorted(file.name for file in root.glob("*.csv"))) if root.is_dir() else ()
    return Gathering("", "", Tree(root, {"video": (), "frames": ()}, names, ()))


def _refuse_problems(gathering: Gathering) -> None:
    """Raise :class:`UserError` for the first problem that was met."""
    for problem in gathering.finish(()).problems:
        raise UserError(f"{gathering.root / problem.path}: {problem.reason}")


def _chosen(path: Path, subsets: Sequence[str], there: Iterable[str]) -> list[str]:
    """``subsets``, or all that there are; raises :class:`UserError` for one that does not exist."""
    names = sorted(set(there))
    for name in subsets:
        if name not in names:
            raise UserError(f"{path}: {unknown('subset', name, names)}")
    return list(subsets) or names


def finite(value: Any, what: str) -> float:
    """A finite number, which may be spelled as a string; raises :class:`UserError` that ``what`` is none."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{what} is {f'{value!r:.60}'}, no finite number; correct or remove it")
    return number


def span_of(segment: Any) -> tuple[float, float]:
    """Start and end in seconds of a ``segment`` of JSON; raises :class:`UserError` if it ends before it begins."""
    if not isinstance(segment, list) or len(segment) != 2:
        raise UserError(f"segment {segment!r:.60} is not [start, end] in seconds; correct or remove it")
    start, end = finite(segment[0], "the start of a segment"), finite(segment[1], "the end of a segment")
    return _in_order(start, end)


def _in_order(start: float, end: float) -> tuple[float, float]:
    if end < start:
        raise UserError(f"segment [{start:g}, {end:g}] ends before it begins; swap its ends, or remove it")
    return start, end


def _inside(span: tuple[float, float], duration: float | None) -> tuple[float, float]:
    """``span``; raises :class:`UserError` where it is not within its video."""
    start, end = span
    if start < 0:
        raise UserError(f"segment [{start:g}, {end:g}] begins before the video; correct or remove it")
    if duration is not None and end > duration + TOLERANCE_SECONDS:
        raise UserError(
            f"segment [{start:g}, {end:g}] ends more than {TOLERANCE_SECONDS:g} s after the video, whose duration is "
            f"{duration:g} s; correct either, or remove the segment"
        )
    return span


def _duration(value: Any) -> float:
    duration = finite(value, "the duration")
    if duration <= 0:
        raise UserError(f"the duration is {duration:g} s; correct it, or leave the video out")
    return duration


def _video(
    duration: float | None, spans: Sequence[tuple[float, float]], labels: Sequence[tuple[int, ...]], num_heads: int
) -> TimedVideo:
    return TimedVideo(
        duration,
        np.array(spans, dtype=np.float64).reshape(-1, 2),
        np.array(labels, dtype=np.int64).reshape(-1, num_heads),
    )


def read_json_object(path: Path, key: str, advice: str) -> dict[str, Any]:
    """The object under ``key`` of the object that a JSON file holds.

    Raises :class:`UserError` where the file cannot be read or is another.

    Args:
        path: the file.
        key: of the object.
        advice: which file is wanted, for the message.
    """
    if path.is_file() and not path.stat().st_size:
        raise UserError(f"{path} is empty; {advice}")
    gathering = _gathering(path)
    content = gathering.json(path.name)
    _refuse_problems(gathering)
    inner = content.get(key) if isinstance(content, dict) else None
    if not isinstance(inner, dict):
        raise UserError(f"{path}: no JSON object with the key {key!r}; {advice}")
    return inner


def _database(path: Path) -> dict[str, Any]:
    """The videos of a JSON file, each an object with a subset."""
    database = read_json_object(path, "database", "give annotations in the format of ActivityNet")
    for name, video in database.items():
        if not isinstance(video, dict) or not isinstance(video.get("subset"), str):
            raise UserError(f"{path}: video {name!r} has no subset; add it, or remove the video")
    return database


def _read_json(path: Path, subsets: Sequence[str], train: str) -> TimedAnnotations:
    database = _database(path)
    chosen = _chosen(path, subsets, (video["subset"] for video in database.values()))
    read: dict[str, dict[str, tuple[float | None, list[tuple[float, float]], list[str]]]] = {n: {} for n in chosen}
    for name, video in database.items():
        if video["subset"] in read:
            with errors_of(f"{path}: video {name!r}"):
                read[video["subset"]][name] = _of_json(video)
    occurring = {subset: {c for _, _, labels in of.values() for c in labels} for subset, of in read.items()}
    for subset, classes in occurring.items():
        if train and (lacking := sorted(classes - occurring[train])):
            raise UserError(
                f"{path}: class {lacking[0]!r} of subset {subset!r} does not occur in {train!r}; correct its spelling, "
                "or remove its segments"
            )
    names = tuple(sorted(set().union(*occurring.values())))
    numbers = {name: number for number, name in enumerate(names)}
    videos = {
        subset: {
            name: _video(duration, spans, [(numbers[label],) for label in labels], 1)
            for name, (duration, spans, labels) in of.items()
        }
        for subset, of in read.items()
    }
    return TimedAnnotations((("label", names),), videos)


def _of_json(video: Mapping[str, Any]) -> tuple[float | None, list[tuple[float, float]], list[str]]:
    """Duration, spans and names of classes of one video of a JSON file."""
    duration = None if video.get("duration") is None else _duration(video["duration"])
    annotations = video.get("annotations", [])
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise UserError("its annotations are no list of objects; correct them")
    spans = [_inside(span_of(annotation.get("segment")), duration) for annotation in annotations]
    labels = [annotation.get("label") for annotation in annotations]
    for (start, end), label in zip(spans, labels, strict=True):
        if not isinstance(label, str):
            raise UserError(f"segment [{start:g}, {end:g}] has no label; add the name of its class")
    return duration, spans, labels


def _epic_tables(path: Path) -> dict[str, str]:
    """Names of the tables of segments by subset."""
    names = [name for name in _LISTS if (path / name).is_file()] if path.is_dir() else [path.name]
    if not names:
        raise UserError(f"{path}: no {' and no '.join(_LISTS)}; give annotations, or the folder of them")
    return {Path(name).stem.rpartition("_")[2]: name for name in names}


def _read_epic(path: Path, subsets: Sequence[str]) -> TimedAnnotations:
    gathering = _gathering(path)
    files = _epic_tables(path)
    chosen = _chosen(path, subsets, files)
    durations = _epic_durations(gathering)
    heads = tuple((head, _epic_classes(gathering, head)) for head in epic100.CLASSES)
    _refuse_problems(gathering)
    videos = {}
    for subset in chosen:
        rows: dict[str, list[tuple[tuple[float, float], tuple[int, ...]]]] = {}
        for number, row in gathering.rows(files[subset], _COLUMNS):
            video = row["video_id"].strip()
            with errors_of(f"{gathering.root / files[subset]}: line {number}, video {video!r}"):
                start, end = (_epic_time(row[column]) for column in ("start_timestamp", "stop_timestamp"))
                span = _inside(_in_order(start, end), durations.get(video))
                rows.setdefault(video, []).append((span, _epic_labels(row, heads)))
        _refuse_problems(gathering)
        videos[subset] = {
            video: _video(durations.get(video), [span for span, _ in of], [labels for _, labels in of], len(heads))
            for video, of in rows.items()
        }
    return TimedAnnotations(heads, videos)


def _epic_durations(gathering: Gathering) -> dict[str, float]:
    """Seconds by video, from the table of videos; empty without it."""
    durations = {}
    path = gathering.file(_INFO)
    for number, row in gathering.rows(path, ("video_id", "duration")) if path else ():
        with errors_of(f"{gathering.root / str(path)}: line {number}, video {row['video_id']!r}"):
            durations[row["video_id"].strip()] = _duration(row["duration"])
    return durations


def _epic_classes(gathering: Gathering, head: str) -> tuple[str, ...]:
    """The classes of a head by name, or by number where their table is not there."""
    table, count = epic100.CLASSES[head]
    return epic100.class_names(gathering, head) if gathering.file(table) else tuple(map(str, range(count)))


def _epic_time(timestamp: str) -> float:
    try:
        return epic100.seconds(timestamp)
    except ValueError as error:
        raise UserError(f"{error}; correct it, or remove the line") from error


def _epic_labels(row: Mapping[str, str], heads: Sequence[Head]) -> tuple[int, ...]:
    labels = []
    for head, names in heads:
        number = row[f"{head}_class"].strip()
        if not number.isdecimal() or int(number) >= len(names):
            raise UserError(f"{head}_class {number!r} is not one of 0 to {len(names) - 1}; correct it")
        labels.append(int(number))
    return tuple(labels)
