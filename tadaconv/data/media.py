"""What media a folder holds: videos and folders of frames, listed once, and found again by name or by id.

Nothing is opened here. A directory is listed once, after its first entries have been inspected; where many folders of
frames are side by side, the first few show that they are, and the others are taken for the same unseen.
"""

import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

VIDEO_EXTENSIONS = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v")
"""Files that are clips, in upper or lower case."""

COMPANION_EXTENSIONS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".xml", ".md")
"""Files that may be next to clips and are left alone, as hidden files are."""

Form = Literal["video", "frames"]
"""A clip is a video file, or a folder of numbered images."""

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")

_NUM_PEEKED = 32
"""Folders of frames in a row, after which their neighbours are taken for folders of frames too."""

_NOT_FRAMES = re.compile("annotation|label|split|list|train|val|test|video", re.IGNORECASE)
"""Names of folders that are inspected even among folders of frames."""

_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<extension>\.[A-Za-z]+)", re.DOTALL)
_FLOW = ("flow", "x_", "y_", "u_", "v_")  # optical flow may be next to the pictures


def stem(name: str) -> str:
    """``name`` without the extensions of videos: ``a.mp4.webm`` and ``a.MP4`` are ``a``."""
    while True:
        shorter, extension = os.path.splitext(name)  # noqa: PTH122
        if not shorter or extension.lower() not in VIDEO_EXTENSIONS:
            return name
        name = shorter


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong, and with which file or folder, relative to the root (``.``)."""

    path: str
    reason: str


@dataclass
class Shelf:
    """Media of one form: each a name in a folder, in columns."""

    folders: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    folder_numbers: "array[int]" = field(default_factory=lambda: array("i"))

    def __len__(self) -> int:
        return len(self.names)

    def add(self, folder: str, names: list[str]) -> None:
        """Add what is in ``folder``, relative to the root."""
        if names:
            self.folder_numbers.extend([len(self.folders)] * len(names))
            self.folders.append(folder)
            self.names += names

    def folder(self, place: int) -> str:
        """The folder that medium number ``place`` is in, relative to the root; the root itself is empty."""
        return self.folders[self.folder_numbers[place]]

    def path(self, place: int) -> str:
        """The path of medium number ``place`` relative to the root, with forward slashes."""
        folder = self.folder(place)
        return f"{folder}/{self.names[place]}" if folder else self.names[place]


@dataclass(frozen=True)
class Tree:
    """What is under a root: media, and the small files that may be annotations, by path relative to the root."""

    root: Path
    videos: Shelf
    frames: Shelf
    companions: tuple[str, ...]
    problems: tuple[Problem, ...]

    def shelf(self, form: Form) -> Shelf:
        """The media of one form."""
        return self.videos if form == "video" else self.frames


def survey(root: Path) -> Tree:
    """List everything under ``root``, following links, hidden files left out; the order is that of the names.

    A folder that cannot be listed is a problem of the tree, not an error.
    """
    videos, frames = Shelf(), Shelf()
    companions: list[str] = []
    problems: list[Problem] = []
    top = root.stat()
    seen = {(top.st_dev, top.st_ino)}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            names, subfolders = _listing(root / folder, seen)
        except OSError as error:
            problems.append(
                Problem(folder or ".", f"cannot be listed: {error.strerror}; make it readable, or give another folder")
            )
            continue
        videos.add(folder, [name for name in names if name.lower().endswith(VIDEO_EXTENSIONS)])
        companions += [
            f"{folder}/{name}" if folder else name for name in names if name.lower().endswith(COMPANION_EXTENSIONS)
        ]
        pictured, others = _frame_folders(root / folder, subfolders)
        frames.add(folder, pictured)
        waiting += [f"{folder}/{name}" if folder else name for name in reversed(others)]
    return Tree(root, videos, frames, tuple(sorted(companions)), tuple(problems))


def _listing(folder: Path, seen: set[tuple[int, int]]) -> tuple[list[str], list[str]]:
    """Names of files and of folders, sorted; a link to a folder seen before is left out, for it may lead round."""
    names, subfolders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                names.append(entry.name)
                continue
            if entry.is_symlink():
                target = entry.stat()
                if (target.st_dev, target.st_ino) in seen:
                    continue
                seen.add((target.st_dev, target.st_ino))
            subfolders.append(entry.name)
    return sorted(names), sorted(subfolders)


def _frame_folders(folder: Path, subfolders: list[str]) -> tuple[list[str], list[str]]:
    """Which of ``subfolders`` hold pictures, and which do not."""
    pictured: list[str] = []
    others: list[str] = []
    for name in subfolders:
        alike = len(pictured) >= _NUM_PEEKED and not others and not _NOT_FRAMES.search(name)
        (pictured if alike or _holds_pictures(folder / name) else others).append(name)
    return pictured, others


def _holds_pictures(folder: Path) -> bool:
    """Whether numbered pictures, and no videos, are among the first entries."""
    numbered = False
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(64), strict=False):
                if entry.name.lower().endswith(VIDEO_EXTENSIONS):
                    return False
                name = _NUMBERED.fullmatch(entry.name)
                numbered = numbered or (name is not None and name["extension"].lower() in IMAGE_EXTENSIONS)
    except OSError:
        return False  # listed again, and reported, as a folder of folders
    return numbered


def comparable(folder: str) -> str:
    """A class's name as folders write it: letters and digits alone, of one case."""
    return re.sub(r"[\W_]+", "", folder).casefold()


class Finder:
    """Finds media of one form by key, which is what ``key_of`` makes of a name without its extension.

    Args:
        shelf: the media.
        key_of: from a name without its extension to a key.
        class_folders: names of classes, as :func:`comparable` writes them, whose folders hold their own clips alone.
    """

    def __init__(self, shelf: Shelf, key_of: Callable[[str], str] = str, class_folders: frozenset[str] = frozenset()):
        """``class_folders``, as :func:`comparable` writes them, hold clips of their own class alone."""
        self.shelf, self.class_folders = shelf, class_folders
        self._first: dict[str, int] = {}
        self._more: dict[str, list[int]] = {}
        for place, name in enumerate(shelf.names):
            key = key_of(stem(name))
            if self._first.setdefault(key, place) != place:
                self._more.setdefault(key, [self._first[key]]).append(place)

    def candidates(self, key: str) -> list[int]:
        """Every medium of ``key``, in the order of their paths."""
        if key in self._more:
            return self._more[key]
        return [self._first[key]] if key in self._first else []

    def find(self, key: str, exact: str = "", folder: str = "") -> tuple[int, bool]:
        """The medium of ``key``, or -1, and whether others would have done as well.

        Of several, one called ``exact`` comes first, then one whose folder agrees with the end of ``folder``.

        Args:
            key: of the medium.
            exact: its name without extension.
            folder: its folder.
        """
        fit = [place for place in self.candidates(key) if self._may_hold(place, folder)]
        if len(fit) < 2:
            return (fit[0], False) if fit else (-1, False)
        ranks = [(stem(self.shelf.names[place]) == exact, self.agreement(place, folder)) for place in fit]
        best = max(ranks)
        return fit[ranks.index(best)], ranks.count(best) > 1

    def agreement(self, place: int, folder: str) -> int:
        """How many folders, counted from the last, a medium's path shares with ``folder``."""
        return sum(1 for _ in _shared_end(self.shelf.folder(place), folder))

    def _may_hold(self, place: int, folder: str) -> bool:
        if not folder or not self.class_folders:
            return True
        parent = comparable(self.shelf.folder(place).rpartition("/")[2])
        return parent == comparable(folder.rpartition("/")[2]) or parent not in self.class_folders


def _shared_end(one: str, other: str) -> Iterator[str]:
    for left, right in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False):
        if not left or comparable(left) != comparable(right):
            return
        yield left


class FrameFiles(NamedTuple):
    """How the frames of a folder are called: ``template.format(id=folder's name, number=first + position)``."""

    template: str
    first: int


def frame_files(folder: Path) -> FrameFiles | None:
    """How the frames in ``folder`` are called and where their numbers begin; None where it holds none.

    Pictures of optical flow are passed over. Raises :class:`OSError` if the folder cannot be listed.
    """
    groups: Counter[tuple[str, str]] = Counter()
    lowest: dict[tuple[str, str], tuple[int, int]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = _NUMBERED.fullmatch(entry.name)
            if name is None or name["extension"].lower() not in IMAGE_EXTENSIONS:
                continue
            group = (name["prefix"], name["extension"])
            if group[0].lower().startswith(_FLOW) and group[0] != f"{folder.name}_":
                continue
            groups[group] += 1
            number = (int(name["number"]), len(name["number"]))
            lowest[group] = min(lowest.get(group, number), number)
    if not groups:
        return None
    group = max(groups, key=lambda one: (groups[one], one))
    first, width = lowest[group]
    prefix = group[0]
    start = "{id}" if prefix.startswith(f"{folder.name}_") else ""
    rest = prefix[len(folder.name) :] if start else prefix
    escaped = rest.replace("{", "{{").replace("}", "}}")
    return FrameFiles(f"{start}{escaped}{{number:0{width}d}}{group[1]}", first)
