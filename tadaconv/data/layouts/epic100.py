"""EPIC-KITCHENS-100: segments of long videos with a verb and a noun.

Two numberings meet here. ``start_frame`` counts the frames of the folders ``rgb_frames``, which were made at 60 frames
a second for videos of two-digit numbers and at 50 for three-digit ones; the videos themselves run at 59.94, 50, 47.95,
29.97 or 90. So folders of frames are read by frame number, and videos by timestamp.

As by the official metrics, some validation segments are evaluated separately as well: those of participants without
training segments, and those with a verb or a noun of the tail (of actions, with either).
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from tadaconv.data.annotations import Annotations, Gathering, Listed, Reader, Side
from tadaconv.data.media import Problem

_SIDES: dict[Side, str] = {
    "train": "EPIC_100_train.csv",
    "val": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
}
CLASSES = {"verb": ("EPIC_100_verb_classes.csv", 97), "noun": ("EPIC_100_noun_classes.csv", 300)}
"""By head, the table of its classes, and how many there are."""
_TAILS = {"verb": "EPIC_100_tail_verbs.csv", "noun": "EPIC_100_tail_nouns.csv"}
_UNSEEN = "EPIC_100_unseen_participant_ids_validation.csv"
_NEEDED = ("narration_id", "video_id", "start_timestamp", "stop_timestamp", "start_frame", "stop_frame")
_ERRATA = ("P01_109", "P27_103")
"""Videos whose frames were extracted wrongly at first; the videos themselves are sound."""
_TIME = re.compile(r"(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(\.\d+)?)")


def frame_rate(video_id: str) -> float:
    """Frames a second of the folder of frames of a video: 60 for ``P01_11``, 50 for ``P01_101``."""
    return 50.0 if len(video_id.rpartition("_")[2]) == 3 else 60.0


def seconds(timestamp: str) -> float:
    """``00:01:30.5`` in seconds, 90.5; raises ValueError for anything else."""
    parts = _TIME.fullmatch(timestamp.strip())
    if parts is None:
        raise ValueError(f"{timestamp!r} is not a time such as 00:00:30.90")
    return int(parts["hours"]) * 3600 + int(parts["minutes"]) * 60 + float(parts["seconds"])


def _evidence(gathering: Gathering) -> str:
    return next((path for name in _SIDES.values() if (path := gathering.file(name))), "")


def class_names(gathering: Gathering, head: str) -> tuple[str, ...]:
    """The classes of a head in the order of their numbers; empty, and a problem, without their table."""
    name, usual = CLASSES[head]
    path = gathering.file(name)
    if path is None:
        gathering.problem(".", f"no {name}; put it next to EPIC_100_train.csv")
        return ()
    rows = [row for _, row in gathering.rows(path, ("id", "key"))]
    names = {int(row["id"]): row["key"].strip() for row in rows if row["id"].strip().isdecimal()}
    complete = names if len(names) == len(rows) else {}
    return gathering.numbered_classes(path, complete, usual, "EPIC-KITCHENS-100", head=head)


def _column(gathering: Gathering, name: str, column: str, members: str) -> frozenset[str]:
    """A column of the table of a subset that is evaluated separately; empty, and a warning, without the table."""
    path = gathering.file(name)
    if path is None:
        gathering.warning(".", f"no {name}: {members} have no separate evaluation; put it next to {_SIDES['val']}")
        return frozenset()
    values = frozenset(row[column].strip() for _, row in gathering.rows(path, (column,)))
    gathering.files.append(f"{path}: {len(values)} {members}")
    return values


def _read(gathering: Gathering) -> Annotations:
    heads = tuple((head, class_names(gathering, head)) for head in CLASSES)
    unseen = _column(gathering, _UNSEEN, "participant_id", "participants without training segments")
    tails = {head: _column(gathering, name, head, f"tail {head}s") for head, name in _TAILS.items()}
    if gathering.file("EPIC_train_action_labels.csv") and not _evidence(gathering):
        gathering.problem("EPIC_train_action_labels.csv", "of EPIC-KITCHENS-55; take the files EPIC_100_*.csv")
    widest = 0.0
    rates: set[float] = set()
    lists = {side: [name] for side, name in _SIDES.items()}
    for side, path in gathering.lists(lists, "take it from the annotations of EPIC-KITCHENS-100"):
        needed = _NEEDED if side == "test" else (*_NEEDED, "verb_class", "noun_class")
        for number, row in gathering.rows(path, needed):
            gathering.count(side)
            video = row["video_id"].strip()
            try:
                time = (seconds(row["start_timestamp"]), seconds(row["stop_timestamp"]))
                positions = (float(int(row["start_frame"])), float(int(row["stop_frame"])))
            except ValueError:
                gathering.problem(path, "lines with invalid times or frame numbers: {}", f"line {number}")
                continue
            if not 0 <= time[0] < time[1] or not 0 <= positions[0] < positions[1]:
                gathering.problem(
                    path, "segments that end before they begin, or begin before 0: {}", row["narration_id"]
                )
                continue
            labels = (-1, -1) if side == "test" else _labels(gathering, path, row, heads)
            if labels is None:
                continue
            in_tail = [head for head, tail in tails.items() if side == "val" and row[f"{head}_class"].strip() in tail]
            subsets = [f"tail {head}s" for head in in_tail] + (["tail actions"] if in_tail else [])
            if side == "val" and row["video_id"].strip().partition("_")[0] in unseen:
                subsets.append("unseen participants")
            rate = frame_rate(video)
            rates.add(rate)
            widest = max(widest, *(abs(p - t * rate) for p, t in zip(positions, time, strict=True)))
            clip = Listed(side, labels, video, video, "", time, positions, rate, tuple(subsets))
            gathering.clip(path, row["narration_id"].strip(), clip)
    if rates:
        spelled = " and ".join(f"time x {rate}" for rate in sorted(rates, reverse=True))
        gathering.files.append(
            f"frame numbers are {spelled} (60.0 for two-digit videos, 50.0 for three-digit), to {widest:.1f} frames"
        )
    if widest > 2:
        reason = f"frame numbers are up to {widest:.1f} frames off time x rate; folders of frames show other moments"
        gathering.warning(".", reason)
    annotations = gathering.finish(
        heads,
        forms=(("frames", True), ("video", False), ("video", True), ("frames", False)),
        published={"val": (9668, "the published annotation files"), "test": (13092, "the published annotation files")},
        media_places="<Pxx>/rgb_frames/<video_id>/, <narration_id>.MP4 and <Pxx>/videos/<video_id>.MP4",
    )
    return replace(annotations, warnings=annotations.warnings + _errata(annotations))


def _errata(annotations: Annotations) -> tuple[Problem, ...]:
    if annotations.form != "frames":
        return ()
    used = {medium.rpartition("/")[2]: medium for medium in annotations.media}
    return tuple(
        Problem(
            used[video],
            "frames that were downloaded before 26 September 2020 were extracted wrongly; if these were, get them "
            "again with epic_downloader.py --errata",
        )
        for video in _ERRATA
        if video in used
    )


def _labels(
    gathering: Gathering, path: str, row: Mapping[str, str], heads: tuple[tuple[str, tuple[str, ...]], ...]
) -> tuple[int, ...] | None:
    """The number of the verb and of the noun; None, and a problem, where one is no class."""
    labels: list[int] = []
    for head, names in heads:
        number = row[f"{head}_class"].strip()
        if not number.isdecimal() or int(number) >= len(names):
            if names:
                reason = f"{head}_class {number!r} is not a class of {CLASSES[head][0]}; segments: {{}}"
                gathering.problem(path, reason, row["narration_id"])
            return None
        labels.append(int(number))
    return tuple(labels)


READER = Reader(_read, _evidence)
