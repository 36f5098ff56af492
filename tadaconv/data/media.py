"""The media of a folder: videos and folders of frames, listed once and then found by name or by id.

Nothing is opened here. A directory is listed once, after its first entries have been inspected; where many folders of
frames are side by side, the first few show that they are, and the others are taken for the same unseen.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<extension>\.[A-Za-z]+)", re.DOTALL)
"""Names of pictures."""
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


class Medium(NamedTuple):
    """A video or a folder of frames: its folder, relative to the root and empty for the root itself, and its name."""

    folder: str
    name: str

    @property
    def path(self) -> str:
        """Relative to the root, with forward slashes."""
        return _join(self.folder, self.name)

    @property
    def is_under_root(self) -> bool:
        """Whether it was found under the root, not at an absolute path that a list names."""
        return not self.folder.startswith("/")

    def agreement(self, folder: str) -> int:
        """How many folders, counted from the last, its path shares with ``folder``."""
        return sum(1 for _ in _shared_end(self.folder, folder))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


@dataclass(frozen=True)
class Tree:
    """What is under a root: media by form, and the small files that may be annotations, relative to the root."""

    root: Path
    media: Mapping[Form, Sequence[Medium]]
    companions: tuple[str, ...]
    problems: tuple[Problem, ...]


def survey(root: Path) -> Tree:
    """List everything under ``root``, following links, hidden files left out; the order is that of the names.

    A folder that cannot be listed is a problem of the tree, not an error.
    """
    media: dict[Form, list[Medium]] = {"video": [], "frames": []}
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
        media["video"] += [Medium(folder, name) for name in names if name.lower().endswith(VIDEO_EXTENSIONS)]
        companions += [_join(folder, name) for name in names if name.lower().endswith(COMPANION_EXTENSIONS)]
        pictured, others = _frame_folders(root / folder, subfolders)
        media["frames"] += [Medium(folder, name) for name in pictured]
        waiting += [_join(folder, name) for name in reversed(others)]
    return Tree(root, media, tuple(sorted(companions)), tuple(problems))


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
        assumed = len(pictured) >= _NUM_PEEKED and not others and not _NOT_FRAMES.search(name)
        (pictured if assumed or _holds_pictures(folder / name) else others).append(name)
    return pictured, others


def _holds_pictures(folder: Path) -> bool:
    """Whether numbered pictures, and no videos, are among the first entries."""
    numbered = False
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(64), strict=False):
                if entry.name.lower().endswith(VIDEO_EXTENSIONS):
                    return False
                name = NUMBERED.fullmatch(entry.name)
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
        media: what is searched, in the order of paths.
        key_of: from a name without its extension to a key.
        class_folders: names of classes, as :func:`comparable` writes them; their folders hold no clip of another.
    """

    def __init__(
        self,
        media: Sequence[Medium],
        key_of: Callable[[str], str] = str,
        class_folders: frozenset[str] = frozenset(),
    ) -> None:
        self.media, self.class_folders = media, class_folders
        self._by_key: dict[str, list[Medium]] = {}
        for medium in media:
            self._by_key.setdefault(key_of(stem(medium.name)), []).append(medium)

    def candidates(self, key: str) -> list[Medium]:
        """Every medium of ``key``, in the order of their paths."""
        return self._by_key.get(key, [])

    def find(self, key: str, exact: str = "", folder: str = "") -> tuple[Medium | None, bool]:
        """The medium of ``key``, or None, and whether others would have done as well.

        Of several, one called ``exact`` comes first, then one whose folder agrees with the end of ``folder``.

        Args:
            key: of the medium.
            exact: its name without extension.
            folder: its folder.
        """
        fit = [medium for medium in self.candidates(key) if self._may_hold(medium, folder)]
        ranks = [(stem(medium.name) == exact, medium.agreement(folder)) for medium in fit]
        best = max(ranks, default=None)
        return (None, False) if best is None else (fit[ranks.index(best)], ranks.count(best) > 1)

    def _may_hold(self, medium: Medium, folder: str) -> bool:
        if not folder or not self.class_folders:
            return True
        parent = comparable(medium.folder.rpartition("/")[2])
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
            name = NUMBERED.fullmatch(entry.name)
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
