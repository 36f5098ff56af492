"""Lists that other code bases leave behind: a clip a line, its path and the number of its class.

- ``path label``: mmaction2 (videos), PySlowFast, VideoMAE (also with a comma), the authors of TAdaConv;
- ``path frames label``: mmaction2 (rawframes), TSM;
- ``path start frames label``: mmaction2, a stretch of a folder of frames.

Fields are taken from the right, so that paths may hold spaces, commas, ``#`` and ``;``. Ids are paths without what all
of them begin with and without extension, so that they do not depend on where the disk is mounted.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from tadaconv.data.annotations import Annotations, Gathering, Listed, Reader, Side, side_of
from tadaconv.data.media import VIDEO_EXTENSIONS, stem
from tadaconv.errors import UserError

_CLASS_FILES = ("classes.txt", "class_names.txt", "labels.txt", "category.txt", "categories.txt", "classind.txt")
_FIELDS = re.compile(r"(?P<path>.+?)(?P<numbers>(?:[\s,]+-?\d+){1,3})", re.DOTALL)
_NUMBER = re.compile(r"-?\d+")
_FRAME_TABLE = "original_vido_id"


class _Line(NamedTuple):
    file: str
    number: int
    side: Side
    path: str
    numbers: tuple[int, ...]


def _files(gathering: Gathering, split: str) -> list[str]:
    """The lists with ``split`` in their names, recognised by their names and first lines."""
    named = gathering.companions(lambda name: name.endswith((".txt", ".csv")) and split.lower() in name)
    return [path for path in named if side_of(PurePosixPath(path).name) and _looks_listed(gathering, path)]


def _looks_listed(gathering: Gathering, path: str) -> bool:
    first = gathering.first_line(path).strip()
    return _FRAME_TABLE in first or _FIELDS.fullmatch(first) is not None


def _evidence(gathering: Gathering) -> str:
    files = _files(gathering, gathering.split)
    return f"{files[0]} of lines 'path label'" if files else ""


def _read_lines(gathering: Gathering, file: str, side: Side) -> list[_Line]:
    """The lines of one list. A line without path and numbers is a problem, and so is one with several labels."""
    texts: list[tuple[int, str]] = []
    widths: Counter[int] = Counter()
    for number, line in gathering.lines(file):
        if _FRAME_TABLE in line:
            gathering.problem(file, "is PySlowFast's table of single frames; give the JSON files, with --layout ssv2")
            return []
        gathering.count(side)
        text = _unquoted(line)
        fields = _FIELDS.fullmatch(text)
        width = len(_NUMBER.findall(fields["numbers"])) if fields else 0
        if fields is None:
            gathering.problem(file, "lines that are not 'path label' or 'path frames label': {}", f"line {number}")
        elif width > 1 and fields["path"].lower().endswith(VIDEO_EXTENSIONS):
            gathering.problem(file, "videos with several labels: {}; one is needed", f"line {number}")
        else:
            texts.append((number, text))
            widths[width] += 1
    # A path may itself end in numbers, but few do.
    width = widths.most_common(1)[0][0] if widths else 1
    whole = re.compile(rf"(?P<path>.+?)(?P<numbers>(?:[\s,]+-?\d+){{{width}}})", re.DOTALL)
    lines = []
    for number, text in texts:
        fields = whole.fullmatch(text)
        if fields is None:
            gathering.problem(file, f"lines with fewer numbers than the {width} of the others: {{}}", f"line {number}")
        else:
            numbers = tuple(map(int, _NUMBER.findall(fields["numbers"])))
            lines.append(_Line(file, number, side, fields["path"].replace("\\", "/"), numbers))
    return lines


def _unquoted(line: str) -> str:
    """``line``, with the fields of a quoted CSV line parted by spaces."""
    return " ".join(next(csv.reader([line]))) if line.startswith('"') else line


def _class_names(gathering: Gathering) -> tuple[str, ...]:
    """The lines of a file of class names, where there is one; numbers before names are left out."""
    for path in gathering.companions(lambda name: name in _CLASS_FILES or name.startswith("label_map")):
        lines = [line for _, line in gathering.lines(path)]
        if lines and all(re.match(r"\d+\s", line) for line in lines):
            lines = [line.split(maxsplit=1)[1] for line in lines]
        gathering.files.append(f"{path}: {len(lines)} classes")
        return tuple(lines)
    return ()


def _names_of_folders(lines: Sequence[_Line], num_classes: int) -> tuple[str, ...]:
    """The names of the folders, where every class has its own; else the numbers."""
    folders: dict[int, set[str]] = {}
    for line in lines:
        folders.setdefault(line.numbers[-1], set()).add(line.path.rstrip("/").rpartition("/")[0].rpartition("/")[2])
    names = [folders.get(label, {f"{label}"}) for label in range(num_classes)]
    single = [next(iter(one)) for one in names if len(one) == 1]
    if len(single) == num_classes and len(set(single)) == num_classes and all(single):
        return tuple(single)
    return tuple(map(str, range(num_classes)))


def _read(gathering: Gathering) -> Annotations:
    files = _files(gathering, gathering.split)
    if not files and (others := _files(gathering, "")):
        raise UserError(f"split {gathering.split!r} is in the name of no list; there are {', '.join(others)}")
    if not files:
        gathering.problem(".", "no list: a .txt or .csv file named after train or val, of lines 'path label'")
    lines: list[_Line] = []
    taken: dict[Side, str] = {}
    for file in sorted(files, key=lambda file: side_of(PurePosixPath(file).name) == "test"):
        side = side_of(PurePosixPath(file).name)
        assert side is not None  # _files takes no other
        if side in taken:
            reason = (
                f"a second list of {side} next to {taken[side]}; name by the split what the wanted lists have in common"
            )
            gathering.problem(file, reason)
            continue
        taken[side] = file
        new = _read_lines(gathering, file, side)
        if side == "test" and _entries(new) <= _entries(line for line in lines if line.side == "val"):
            # Code that wants a third list is given a copy of the second.
            gathering.listed.pop("test", None)
            gathering.files.append(f"{file}: the clips of val once more, not read")
            continue
        gathering.files.append(f"{file}: {len(new):,} clips of {side}")
        lines += new
    if "train" in taken and not {"val", "test"} & taken.keys():
        gathering.problem(".", "no list of val")
    named_classes = _class_names(gathering)
    largest = max((line.numbers[-1] for line in lines), default=-1)
    names = named_classes or _names_of_folders(lines, largest + 1)
    if lines and min(line.numbers[-1] for line in lines) > 0:
        gathering.warning(".", "no clip of class 0; classes are numbered from 0")
    root, prefix = gathering.root.absolute().as_posix(), _common_folder(lines)
    for line in lines:
        label = line.numbers[-1]
        if not 0 <= label < len(names):
            reason = f"{label} is not a class; classes are 0 to {len(names) - 1}; lines: {{}}"
            gathering.problem(line.file, reason, f"line {line.number}")
            continue
        path = line.path.rstrip("/")
        folder, _, name = path.removeprefix(f"{root}/").rpartition("/")
        stretch = line.numbers[:-1] if len(line.numbers) == 3 else None
        positions = None if stretch is None else (float(stretch[0]), float(stretch[0] + stretch[1]))
        clip_id = stem(path[len(prefix) :]) + (f"@{stretch[0]}" if stretch else "")
        exact = name if folder.startswith("/") else stem(name)
        clip = Listed(line.side, (label,), key=stem(name), exact=exact, folder=folder, positions=positions)
        gathering.clip(line.file, clip_id, clip)
    in_stretches = any(len(line.numbers) == 3 for line in lines)  # which are counted in frames, so of no video
    return gathering.finish(
        (("label", names),),
        forms=(("frames", True),) if in_stretches else (("frames", True), ("video", True)),
        by_path=True,
        media_places="folders of frames at the listed paths"
        if in_stretches
        else "the listed paths, with any extension",
    )


def _entries(lines: Iterable[_Line]) -> set[tuple[str, tuple[int, ...]]]:
    return {(line.path, line.numbers) for line in lines}


def _common_folder(lines: Sequence[_Line]) -> str:
    """The folders that all paths begin with, and a slash; empty where there are none."""
    folders = {line.path.rstrip("/").rpartition("/")[0] for line in lines}
    shared = os.path.commonprefix([folder.split("/") for folder in folders])  # noqa: RUF071 - of the lists of their parts
    return "/".join([*shared, ""]) if folders != {""} else ""


READER = Reader(_read, _evidence, has_splits=True, has_mirror_classes=True)
