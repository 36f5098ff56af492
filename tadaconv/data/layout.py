"""A folder of labelled clips: which files are clips, of which class, for training or for validation."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tadaconv.errors import UserError

VIDEO_EXTENSIONS = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v")
"""Files that are clips, in upper or lower case."""

COMPANION_EXTENSIONS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".xml", ".md")
"""Files that may be next to clips and are left alone, as hidden files are; any other is reported."""


@dataclass(frozen=True)
class Clip:
    """One video: its path relative to the folder, with forward slashes, and its class."""

    path: str
    class_name: str


@dataclass(frozen=True)
class Problem:
    """What is wrong, and with which file or folder, relative to the whole folder (``.``)."""

    path: str
    reason: str


@dataclass(frozen=True)
class Layout:
    """What a folder holds, every part in the order of its paths.

    ``loose`` are videos outside every class. A folder with ``problems`` cannot be trained on; ``warnings`` are for the
    reader's eye.
    """

    root: Path
    train: tuple[Clip, ...]
    val: tuple[Clip, ...]
    loose: tuple[str, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class with a clip, in alphabetical order."""
        return tuple(sorted({clip.class_name for clip in self.train + self.val}))

    @property
    def paths(self) -> tuple[str, ...]:
        """Every video, in a class or loose."""
        return tuple(sorted([clip.path for clip in self.train + self.val] + list(self.loose)))


@dataclass
class _Notes:
    """What is noted while a folder is listed."""

    root: Path
    loose: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def problem(self, path: Path, reason: str) -> None:
        self.problems.append(Problem(self.name(path), reason))

    def warning(self, path: Path, reason: str) -> None:
        self.warnings.append(Problem(self.name(path), reason))


def scan(root: Path, val_share: float) -> Layout:
    """List the clips under ``root`` and split them; opens no video, and does not depend on the file system's order.

    ``train/<class>/*`` and ``val/<class>/*`` are taken as they are; otherwise each ``<class>/*`` is split by
    :func:`held_out`. Raises :class:`UserError` if ``root`` is not a folder.
    """
    if not root.is_dir():
        raise UserError(
            f"no folder at {str(root)!r}; give one that holds <class>/*, or train/<class>/* and val/<class>/*"
        )
    notes = _Notes(root)
    sides = [root / "train", root / "val"]
    if all(side.is_dir() for side in sides):
        train, val = (_clips(side, notes) for side in sides)
        notes.loose += [notes.name(path) for path in _visible(root) if _is_video(path)]
        for folder in _visible(root):
            if folder.is_dir() and folder not in sides:
                notes.warning(folder, "not read: next to train/ and val/ no other folder is")
        _compare_sides(train, val, notes)
    else:
        clips = _clips(root, notes)
        chosen = held_out(clips, val_share)
        train, val = [c for c in clips if c not in chosen], [c for c in clips if c in chosen]
        _note_lone_side(sides, notes)
    _judge(train, val, notes)
    return Layout(root, tuple(train), tuple(val), tuple(notes.loose), tuple(notes.problems), tuple(notes.warnings))


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
        # One to training first: a class of a single clip validates nothing.
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


def _clips(side: Path, notes: _Notes) -> list[Clip]:
    """The clips of every class folder in ``side``; notes what else is there."""
    clips: list[Clip] = []
    for folder in _visible(side):
        if _is_video(folder):
            notes.loose.append(notes.name(folder))
        if not folder.is_dir():
            continue
        before = len(clips)
        for path in _visible(folder):
            if path.is_dir():
                notes.warning(path, "not read: a folder inside a class; move its clips up")
            elif _is_video(path):
                clips.append(Clip(notes.name(path), folder.name))
            elif path.suffix.lower() not in COMPANION_EXTENSIONS:
                extensions = ", ".join(e[1:] for e in VIDEO_EXTENSIONS)
                notes.problem(path, f"wrong extension {path.suffix!r}; clips are {extensions}")
        if len(clips) == before:
            notes.warning(folder, "a class without clips is left out")
    return clips


def _note_lone_side(sides: Sequence[Path], notes: _Notes) -> None:
    """A folder of classes named train/ or val/ is half of a given split, not a class."""
    for side, other in (sides, sides[::-1]):
        if side.is_dir() and any(path.is_dir() for path in _visible(side)):
            notes.problem(side, f"holds folders as if it were half of a split, but {other.name}/ is not next to it")


def _compare_sides(train: Sequence[Clip], val: Sequence[Clip], notes: _Notes) -> None:
    trained, validated = ({clip.class_name for clip in side} for side in (train, val))
    for name in sorted(validated - trained):
        notes.problem(notes.root / "val" / name, "a class in val/ that train/ lacks")
    for name in sorted(trained - validated):
        notes.warning(notes.root / "train" / name, "a class that val/ lacks: nothing tells how well it is learned")


def _judge(train: Sequence[Clip], val: Sequence[Clip], notes: _Notes) -> None:
    """Note what is wrong with the folder as a whole."""
    counts = Counter(clip.class_name for clip in (*train, *val))
    for name, count in sorted(counts.items()):
        if count == 1:
            notes.warning(notes.root, f"class {name!r} has a single clip; one cannot both train and validate")
    if notes.loose:
        some = ", ".join(notes.loose[:3]) + (", ..." if len(notes.loose) > 3 else "")
        reason = (
            f"{len(notes.loose)} video(s) outside class folders ({some}); put each into a folder named after its class"
        )
        notes.problem(notes.root, reason)
    if not counts:
        notes.problem(
            notes.root, "no clips in class folders; lay them out as <class>/*, or train/<class>/* and val/<class>/*"
        )
    elif len(counts) == 1:
        notes.problem(notes.root, f"only one class, {next(iter(counts))!r}; at least two are needed")
    elif not train or not val:
        notes.problem(notes.root, f"no clips to {'train' if not train else 'validate'} on")
