"""Class folders: ``<class>/*``, or ``train/<class>/*`` and ``val/<class>/*``; a label is the name of its folder.

There are no annotations. Of folders that are not split already, clips to validate on are chosen by name.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tadaconv.data.annotations import Annotations, Notes, Strings
from tadaconv.data.media import COMPANION_EXTENSIONS, VIDEO_EXTENSIONS
from tadaconv.errors import UserError


class Clip(NamedTuple):
    """One video: its path relative to the root, with forward slashes, and its class."""

    path: str
    class_name: str


class _Folder:
    """The root, and what is noted while it is listed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems, self.warnings = Notes(), Notes()

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def problem(self, path: Path, reason: str) -> None:
        self.problems.add(self.name(path), reason)

    def warning(self, path: Path, reason: str) -> None:
        self.warnings.add(self.name(path), reason)

    def loose(self, video: Path) -> None:
        reason = "videos outside class folders: {}; put each into a folder named after its class"
        self.problems.add(".", reason, self.name(video))


def read_class_folders(root: Path, val_share: float) -> Annotations:
    """List the clips under ``root`` and split them; opens no video, and does not depend on the file system's order.

    ``train/<class>/*`` and ``val/<class>/*`` are taken as they are; otherwise each ``<class>/*`` is split by
    :func:`held_out`. A clip's id is its path. Raises :class:`UserError` if ``root`` is not a folder.
    """
    if not root.is_dir():
        raise UserError(
            f"no folder at {str(root)!r}; give one that holds <class>/*, or train/<class>/* and val/<class>/*"
        )
    folder = _Folder(root)
    train, val = _sides(folder, val_share)
    _check_whole(folder, train, val)
    clips = [*train, *val]
    names = sorted({clip.class_name for clip in clips})
    numbers = {name: number for number, name in enumerate(names)}
    paths = Strings(clip.path for clip in clips)
    return Annotations(
        layout="classes",
        root=root,
        split="",
        heads=(("class", tuple(names)),),
        ids=paths,
        sides=np.repeat(np.array([0, 1], dtype=np.int8), [len(train), len(val)]),
        labels=np.array([[numbers[clip.class_name]] for clip in clips], dtype=np.int32).reshape(-1, 1),
        media=paths,
        spans=np.full((len(clips), 2), math.nan),
        rates=np.full(len(clips), math.nan, dtype=np.float32),
        form="video",
        problems=tuple(sorted(folder.problems.lines())),
        warnings=tuple(sorted(folder.warnings.lines())),
    )


def _sides(folder: _Folder, val_share: float) -> tuple[list[Clip], list[Clip]]:
    """The training and the validation clips."""
    sides = [folder.root / "train", folder.root / "val"]
    if not all(side.is_dir() for side in sides):
        _note_lone_side(folder, sides)
        clips = _clips(folder, folder.root)
        chosen = held_out(clips, val_share)
        return [clip for clip in clips if clip not in chosen], [clip for clip in clips if clip in chosen]
    train, val = (_clips(folder, side) for side in sides)
    for path in _visible(folder.root):
        if _is_video(path):
            folder.loose(path)
        elif path.is_dir() and path not in sides:
            folder.warning(path, "not read: next to train/ and val/ no other folder is")
    trained, validated = ({clip.class_name for clip in clips} for clips in (train, val))
    for name in sorted(validated - trained):
        folder.problem(sides[1] / name, "a class of val/ without clips in train/")
    for name in sorted(trained - validated):
        folder.warning(sides[0] / name, "a class without clips in val/, so its accuracy is not measured")
    return train, val


def held_out(clips: Iterable[Clip], val_share: float) -> set[Clip]:
    """The clips to validate on: those whose file name, without extension, hashes below ``val_share`` of the range.

    So a clip's side depends on its own name alone, and adding, removing or re-encoding others moves it nowhere; clips
    of one name, which tend to stem from one recording, share a side in all classes. One exception keeps both sides
    filled: in a class of two or more clips where all fall on one side, the nearest to the border changes over. A
    single clip is trained on.
    """
    by_class: dict[str, list[Clip]] = {}
    for clip in clips:
        by_class.setdefault(clip.class_name, []).append(clip)
    chosen: set[Clip] = set()
    for group in by_class.values():
        ranked = sorted(group, key=lambda clip: (_position(clip), clip.path))
        num_val = sum(_position(clip) < val_share for clip in group)
        # One to training first: a class of a single clip has none to validate on.
        chosen |= set(ranked[: min(max(num_val, 1), len(ranked) - 1)])
    return chosen


def _position(clip: Clip) -> float:
    digest = hashlib.sha256(Path(clip.path).stem.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot list the folder {str(folder)!r}: {error.strerror}") from error


def _is_video(path: Path) -> bool:
    # Not is_file(): a link that leads nowhere is a broken clip, not a file of another kind.
    return path.suffix.lower() in VIDEO_EXTENSIONS and not path.is_dir()


def _clips(folder: _Folder, side: Path) -> list[Clip]:
    """The clips of every class folder in ``side``; notes what else is there."""
    clips: list[Clip] = []
    for class_folder in _visible(side):
        if _is_video(class_folder):
            folder.loose(class_folder)
        if not class_folder.is_dir():
            continue
        before = len(clips)
        for path in _visible(class_folder):
            if path.is_dir():
                folder.warning(path, "not read: a folder inside a class; move its clips up")
            elif _is_video(path):
                clips.append(Clip(folder.name(path), class_folder.name))
            elif path.suffix.lower() not in COMPANION_EXTENSIONS:
                extensions = ", ".join(extension[1:] for extension in VIDEO_EXTENSIONS)
                folder.problem(path, f"wrong extension {path.suffix!r}; clips are {extensions}")
        if len(clips) == before:
            folder.warning(class_folder, "a class without clips is left out")
    return clips


def _note_lone_side(folder: _Folder, sides: Sequence[Path]) -> None:
    """A folder of classes named train/ or val/ is half of a given split, not a class."""
    for side, other in (sides, sides[::-1]):
        if side.is_dir() and any(path.is_dir() for path in _visible(side)):
            folder.problem(side, f"holds folders as if it were half of a split, but {other.name}/ is not next to it")


def _check_whole(folder: _Folder, train: Sequence[Clip], val: Sequence[Clip]) -> None:
    """Note what is wrong with the folder as a whole."""
    counts = Counter(clip.class_name for clip in (*train, *val))
    for name, count in sorted(counts.items()):
        if count == 1:
            folder.warning(folder.root, f"class {name!r} has a single clip; training and validation need one each")
    if not counts:
        reason = "no clips in class folders; lay them out as <class>/*, or train/<class>/* and val/<class>/*"
        folder.problem(folder.root, reason)
    elif len(counts) == 1:
        folder.problem(folder.root, f"only one class, {next(iter(counts))!r}; at least two are needed")
    elif not train or not val:
        folder.problem(folder.root, f"no clips to {'train' if not train else 'validate'} on")
