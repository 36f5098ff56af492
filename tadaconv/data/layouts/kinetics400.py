"""Kinetics-400: the official CSV files, and videos under any of the names in use.

Classes are numbered in the alphabetical order of their names over all the labels, never of what is on the disk. A
file of ids as ``split`` restricts both clips and classes to those of its ids: Mini-Kinetics.
"""

import csv
import re
import sys
from pathlib import Path

from tadaconv.data.annotations import Annotations, Gathering, Listed, Reader, Side, side_of
from tadaconv.data.media import stem
from tadaconv.errors import UserError

_NUM_CLASSES = 400
_LATEST = 999_999
"""Seconds; names of videos have six digits for a time."""
_TIMES = re.compile(r"(?P<id>.{11})_(?P<start>\d+)_(?P<end>\d+)", re.DOTALL)


def youtube_id(name: str) -> str:
    """The id in the name of a video without its extension: what is before two times, or the whole name."""
    times = _TIMES.fullmatch(name)
    return times["id"] if times else name


def _tables(gathering: Gathering) -> list[str]:
    """The CSV files that name a column ``youtube_id``."""
    named = gathering.companions(lambda name: name.endswith(".csv"))
    return [path for path in named if "youtube_id" in _header(gathering, path)]


def _header(gathering: Gathering, path: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([gathering.first_line(path)]), [])]


def _evidence(gathering: Gathering) -> str:
    tables = _tables(gathering)
    return f"{tables[0]} with a column youtube_id" if tables else ""


def _wanted(gathering: Gathering) -> frozenset[str] | None:
    """The ids of the file that the split names; None for all of Kinetics-400."""
    if not gathering.split:
        return None
    places = [Path(gathering.split), gathering.root / gathering.split]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise UserError(
            f"no file {gathering.split!r}, here or in the data set; a split of kinetics400 is a file of one id per line"
        )
    text = gathering.text(str(place.absolute()))
    if text is None:
        raise UserError(
            f"split {gathering.split!r} of kinetics400 cannot be read as a file of ids; make it readable, in UTF-8"
        )
    names = (stem(line.strip().rpartition("/")[2]) for line in text.splitlines() if line.strip())
    wanted = frozenset(map(youtube_id, names))
    gathering.files.append(f"{gathering.split}: {len(wanted):,} ids, to which clips and classes are restricted")
    return wanted


def _read(gathering: Gathering) -> Annotations:
    wanted = _wanted(gathering)
    rows: list[tuple[str, str, Side, str, int, int]] = []
    tables = _tables(gathering)
    if not tables:
        gathering.problem(
            ".", "no CSV file with label,youtube_id,time_start,time_end,split; put train.csv and val.csv there"
        )
    for path in tables:
        before = len(rows)
        for number, row in gathering.rows(path, ("youtube_id", "time_start", "time_end")):
            side = side_of(row.get("split") or Path(path).stem)
            label = row.get("label", "").strip()
            if side is None:
                gathering.problem(path, "without a side: name it train.csv or val.csv, or add a column split")
                break
            if not label and side != "test":
                gathering.problem(path, "lines without a label: {}", f"line {number}")
                continue
            times = _times(row["time_start"], row["time_end"])
            if times is None:
                reason = "lines with invalid times, which must be seconds from 0 on, the start before the end: {}"
                gathering.problem(path, reason, f"line {number}")
                continue
            rows.append((path, row["youtube_id"].strip(), side, sys.intern(label), *times))
        gathering.files.append(f"{path}: {len(rows) - before:,} clips")
    known = None if wanted is None else {row[1] for row in rows} & wanted
    if wanted is not None and known is not None and len(known) < len(wanted):
        for one in sorted(wanted - known):
            gathering.problem(gathering.split, "ids that no CSV file lists: {}", one)
    used = [row for row in rows if known is None or row[1] in known]
    labels = _all_labels(gathering) if wanted is None else ()
    class_names = labels or tuple(sorted({row[3] for row in used if row[3]}))
    _check_classes(gathering, class_names, tables, wanted is not None)
    numbers = {name: number for number, name in enumerate(class_names)}
    for path, clip_id, side, label, start, end in rows:
        if known is not None and clip_id not in known:
            gathering.leave_out(clip_id)
            continue
        gathering.count(side)
        if label and label not in numbers:
            gathering.problem(path, f"{label!r} is not a class of the table of labels; clips: {{}}", clip_id)
            continue
        exact = f"{clip_id}_{start:06d}_{end:06d}"
        gathering.clip(path, clip_id, Listed(side, (numbers.get(label, -1),), exact=exact))
    return gathering.finish(
        (("label", class_names),),
        key_of=youtube_id,
        published={"train": (246535, "facebookresearch/SlowFast#255")} if wanted is None else {},
        media_places="<id>_<start>_<end> or <id>, as .mp4, .mkv, .webm or a folder of frames",
    )


def _times(start: str, end: str) -> tuple[int, int] | None:
    """Two times in whole seconds; None unless they are such that the names of videos have."""
    try:
        first, last = float(start), float(end)
    except ValueError:
        return None
    return (int(first), int(last)) if 0 <= first < last <= _LATEST else None


def _all_labels(gathering: Gathering) -> tuple[str, ...]:
    """The names of ``kinetics_400_labels.csv`` (``id,name``), where there is one."""
    for path in gathering.companions(lambda name: name.endswith("labels.csv")):
        if _header(gathering, path) == ["id", "name"]:
            names = [
                (int(row["id"]), row["name"])
                for _, row in gathering.rows(path, ("id", "name"))
                if row["id"].isdecimal()
            ]
            gathering.files.append(f"{path}: {len(names)} classes")
            return tuple(name for _, name in sorted(names))
    return ()


def _check_classes(gathering: Gathering, names: tuple[str, ...], tables: list[str], restricted: bool) -> None:
    counts = f"{len(names)} classes, where Kinetics-400 has {_NUM_CLASSES}"
    if len(names) > _NUM_CLASSES:
        gathering.problem(tables[0], f"{counts}: of another edition, such as Kinetics-600")
    elif names and len(names) < _NUM_CLASSES and not restricted:
        gathering.warning(tables[0], f"{counts}: class numbers are not those of others")


READER = Reader(_read, _evidence, has_splits=True)
