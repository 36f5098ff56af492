"""The clips of a data set as its annotation files list them, matched with media; the same for every layout."""

import csv
import io
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadaconv.data.media import Finder, Form, FrameFiles, Medium, Problem, Tree, comparable, frame_files, stem

SIDES = ("train", "val", "test")
Side = Literal["train", "val", "test"]

Head = tuple[str, tuple[str, ...]]
"""The name of a label, such as ``verb``, and of its classes in the official order."""

_NO_LABEL = -1
_NUM_INSPECTED = 9
"""Folders of frames that are inspected for how frames are called."""


class Strings:
    """Many strings in one buffer, so that a column of 250,000 costs its bytes and not an object each."""

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = bytearray()
        ends = array("q")
        for one in strings:
            encoded += one.encode(errors="surrogateescape")
            ends.append(len(encoded))
        self._bytes: NDArray[np.uint8] = np.array(encoded, dtype=np.uint8)
        self._ends: NDArray[np.int64] = np.array(ends, dtype=np.int64)

    @classmethod
    def of(cls, buffer: NDArray[np.uint8], ends: NDArray[np.int64]) -> "Strings":
        """The strings of a buffer in UTF-8, perhaps mapped from a file, which end at ``ends``."""
        strings = cls(())
        strings._bytes, strings._ends = buffer, ends
        return strings

    def copy(self) -> "Strings":
        """The same in memory, where this is mapped from a file."""
        return Strings.of(self._bytes.copy(), self._ends.copy())

    @property
    def columns(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The buffer and the ends, as :meth:`of` takes them."""
        return self._bytes, self._ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> str:
        start = int(self._ends[place - 1]) if place else 0
        return bytes(self._bytes[start : int(self._ends[place])]).decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))


@dataclass(frozen=True, eq=False)
class Annotations:
    """The clips of a data set as its own files list them, a column a property; no video was opened.

    ``labels`` are (clips, heads), -1 where the annotations give none. ``media`` are paths relative to ``root``, or
    absolute where a list names what is elsewhere; empty where there is none. ``spans`` are (clips, 2), start and end
    (left out), NaN for the whole medium: seconds in a video, and in a folder of frames positions counted from 0, so
    that position p is the file of number ``frames.first + p``. ``rates`` are the frames a second of folders of
    frames, NaN where it is not known.
    """

    layout: str
    root: Path
    split: str
    heads: tuple[Head, ...]
    ids: Strings
    sides: NDArray[np.int8]
    labels: NDArray[np.int32]
    media: Strings
    spans: NDArray[np.float64]
    rates: NDArray[np.float32]
    form: Form
    problems: tuple[Problem, ...]
    """Must be fixed before anything trains."""
    warnings: tuple[Problem, ...]
    frames: FrameFiles | None = None
    listed: Mapping[str, int] = field(default_factory=dict)
    """Entries of the annotations, by side; empty where there are no annotations."""
    published: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Clips of the whole data set by side, each with its source."""
    subsets: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Clips that are evaluated separately as well, by name, such as those of the tail: (clips,)."""
    files: tuple[str, ...] = ()
    """Sentences: which files were taken for what."""
    sources: tuple[Path, ...] = ()
    """The files that were read."""
    unlisted: Sequence[str] = ()
    gaps: tuple[Problem, ...] = ()
    """A line for every side that lacks media; runs leave these clips out once that is accepted."""

    def __len__(self) -> int:
        return len(self.ids)


_SIDE_WORDS: dict[str, Side] = {
    "train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test",
}  # fmt: skip


def side_of(name: str) -> Side | None:
    """The side that a word of ``name`` means, such as that of a file; None where none does."""
    words = re.split(r"[\W_]+", name.lower())
    return next((_SIDE_WORDS[word] for word in words if word in _SIDE_WORDS), None)


def some(names: Iterable[str], count: int) -> str:
    """The first three of ``count`` names, for a line."""
    first = [name for name, _ in zip(names, range(3), strict=False)]
    return ", ".join(first) + (", ..." if count > len(first) else "")


class Notes:
    """Findings, those of one kind counted in one line with its first three examples."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], tuple[list[str], list[int]]] = {}

    def add(self, path: str, reason: str, example: str = "") -> None:
        """Note ``reason``, in which ``{}`` becomes the count and the first examples.

        Args:
            path: the file or folder, relative to the root.
            reason: what is wrong, and how to fix it.
            example: of an id or a line, for a reason that holds of several.
        """
        examples, count = self._kinds.setdefault((path, reason), ([], [0]))
        count[0] += 1
        if example and len(examples) < 3:
            examples.append(example)

    def lines(self) -> list[Problem]:
        """A problem for each kind."""
        return [
            Problem(path, reason.replace("{}", f"{count[0]:,} ({some(examples, count[0])})"))
            for (path, reason), (examples, count) in self._kinds.items()
        ]


class Listed(NamedTuple):
    """A clip as a file lists it, and what its medium is found by."""

    side: Side
    labels: tuple[int, ...]
    """The number of the class of each head, -1 for none."""
    key: str = ""
    """What the medium is found by; empty for the id."""
    exact: str = ""
    """The medium's name, which chooses among several of the key."""
    folder: str = ""
    """The medium's folder, which chooses among several as well."""
    seconds: tuple[float, float] | None = None
    """Start and end in a video; None for the whole medium."""
    positions: tuple[float, float] | None = None
    """Start and end in a folder of frames, counted from 0; None for the whole medium."""
    rate: float = math.nan
    """Frames a second of a folder of frames; NaN where it is not known."""
    subsets: tuple[str, ...] = ()
    """Subsets that the clip is evaluated with as well."""


class Gathering:
    """Gathers the clips and the findings of one reading, and matches media at its end.

    Args:
        layout: which is read.
        split: which of the layout; empty for the usual.
        tree: what is under the root.
    """

    def __init__(self, layout: str, split: str, tree: Tree) -> None:
        self.layout, self.split, self.tree = layout, split, tree
        self.root = tree.root
        self.files: list[str] = []
        """Sentences: which files were taken for what."""
        self.listed: dict[str, int] = {}
        self._sources: dict[Path, None] = {}
        self._problems, self._warnings = Notes(), Notes()
        self.problem, self.warning = self._problems.add, self._warnings.add
        self._clips: dict[str, Listed] = {}
        self._left_out: list[tuple[str, str]] = []

    def companions(self, accept: Callable[[str], bool]) -> list[str]:
        """The small files whose names, in lower case, ``accept`` takes, those nearest to the root first."""
        named = [path for path in self.tree.companions if accept(path.rpartition("/")[2].lower())]
        return sorted(named, key=lambda path: (path.count("/"), path))

    def file(self, *names: str) -> str | None:
        """The small file that has one of ``names``, in whatever case; an earlier name, then the nearest to the root."""
        in_lower_case = [name.lower() for name in names]
        there = self.companions(lambda name: name in in_lower_case)
        return min(there, key=lambda path: in_lower_case.index(path.rpartition("/")[2].lower()), default=None)

    def first_line(self, path: str) -> str:
        """The first line of a file, of 4,096 characters at most; empty where it cannot be read."""
        try:
            with (self.root / path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
                return file.readline(4096)
        except OSError:
            return ""

    def text(self, path: str) -> str | None:
        """The text of a file, without a byte-order mark; None, and a problem, where it cannot be read."""
        self._sources.setdefault(self.root / path)
        try:
            content = (self.root / path).read_bytes()
        except OSError as error:
            self.problem(path, f"cannot be read: {error.strerror}")
            return None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self.problem(path, f"line {line} is not UTF-8; save the file as UTF-8")
            return None

    def json(self, path: str, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
        """What a JSON file holds; None, and a problem, where it is none."""
        text = self.text(path)
        if text is None:
            return None
        try:
            content = json.loads(text, object_hook=object_hook)
        except json.JSONDecodeError as error:
            self.problem(path, f"no JSON from line {error.lineno} on, perhaps truncated; unpack or download it again")
            return None
        except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
            self.problem(path, "JSON of no annotations, nested too deeply or with too long a number; download it again")
            return None
        if content is None:
            self.problem(path, "holds null and no annotations; download it again")
        return content

    def lines(self, path: str) -> list[tuple[int, str]]:
        """Number and text of every line that is not blank."""
        text = io.StringIO(self.text(path) or "", newline=None)  # splitlines() would break names at rarer signs too
        return [(number, line.strip()) for number, line in enumerate(text, 1) if line.strip()]

    def rows(self, path: str, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number and fields of every row of a CSV file with a header, quoted or not.

        A header without the columns ``needed``, or a row of another length, is a problem.
        """
        reader = csv.DictReader(io.StringIO(self.text(path) or "", newline=""))
        try:
            header = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            if lacking := [name for name in needed if name not in header]:
                self.problem(path, f"has no column {', '.join(lacking)}; its header is {','.join(header)!r}")
                return
            for row in reader:
                if None in row or None in row.values():
                    reason = f"lines with another number of fields than the header's {len(header)}: {{}}"
                    self.problem(path, reason, f"line {reader.line_num}")
                else:
                    yield reader.line_num, row
        except csv.Error as error:
            self.problem(
                path, f"no CSV from line {reader.reader.line_num} on, perhaps a quote that is not closed: {error}"
            )

    def lists(self, names: Mapping[Side, Sequence[str]], advice: str) -> Iterator[tuple[Side, str]]:
        """The side and the path of every list of clips; a missing list, but for one of test, is a problem.

        Args:
            names: by side, what its list may be called.
            advice: how to get a missing one, for messages.
        """
        for side, candidates in names.items():
            path = self.file(*candidates)
            if path is not None:
                yield side, path
                self.files.append(f"{path}: {self.listed.get(side, 0):,} clips of {side}")
            elif side != "test":
                self.problem(".", f"no {' or '.join(candidates[:2])}; {advice}")

    def clip(self, path: str, clip_id: str, clip: Listed) -> None:
        """Add a clip that a file lists. An id that is there already is a problem, and the first stays.

        Args:
            path: the file that lists the clip.
            clip_id: unique in the data set.
            clip: what is listed.
        """
        first = self._clips.setdefault(clip_id, clip)
        if first is not clip:
            where = "twice" if first.side == clip.side else f"on both sides, {first.side} and {clip.side}"
            self.problem(path, f"ids listed {where}: {{}}; keep one entry of each", clip_id)

    def clip_of_class(
        self, path: str, clip_id: str, side: Side, label: str, numbers: Mapping[str, int], table: str, rate: float
    ) -> None:
        """Add a clip by the name of its class; a test clip need not have one.

        Args:
            path: the file that lists the clip.
            clip_id: its id, by which its medium is found.
            side: its side.
            label: the name of its class; another than the known ones is a problem, where any are known.
            numbers: the classes by name.
            table: what names the classes, for messages.
            rate: frames a second of a folder of frames.
        """
        if label in numbers:
            self.clip(path, clip_id, Listed(side, (numbers[label],), rate=rate))
        elif side == "test" and not label:
            self.clip(path, clip_id, Listed(side, (_NO_LABEL,), rate=rate))
        elif numbers:
            self.problem(path, f"{label!r} is not a class of {table}; clips: {{}}", clip_id)

    def took_classes(self, path: str, names: Sequence[str], usual: int, data_set: str, head: str = "") -> None:
        """Say that the classes were taken from ``path``, and warn where they are more or fewer than usual.

        Args:
            path: the file that names the classes.
            names: the classes.
            usual: how many there are in the whole data set.
            data_set: its name, for messages.
            head: what the classes are of, where there are several heads.
        """
        classes = f"{len(names)} classes{f' of {head}' if head else ''}"
        self.files.append(f"{path}: {classes}")
        if len(names) != usual:
            self.warning(path, f"{classes}, where {data_set} has {usual}")

    def numbered_classes(
        self, path: str, names: Mapping[int, str], usual: int, data_set: str, *, first: int = 0, head: str = ""
    ) -> tuple[str, ...]:
        """The classes in the order of their numbers; empty, and a problem, where a number is missing.

        Args:
            path: the file that numbers the classes.
            names: by number.
            usual: how many there are in the whole data set.
            data_set: its name, for messages.
            first: the first number.
            head: what the classes are of, where there are several heads.
        """
        if not names or set(names) != set(range(first, first + len(names))):
            self.problem(path, f"must number every class once, from {first} on")
            return ()
        in_order = tuple(names[number] for number in sorted(names))
        self.took_classes(path, in_order, usual, data_set, head)
        return in_order

    def count(self, side: Side, entries: int = 1) -> None:
        """Count entries of the annotations, good or not."""
        self.listed[side] = self.listed.get(side, 0) + entries

    def leave_out(self, key: str, folder: str = "") -> None:
        """A medium that the annotations name and this split does not use: listed, but no clip."""
        self._left_out.append((key, folder))

    def finish(
        self,
        heads: tuple[Head, ...],
        *,
        key_of: Callable[[str], str] = str,
        class_folders: bool = False,
        forms: Sequence[tuple[Form, bool]] = (("frames", True), ("video", True)),
        by_path: bool = False,
        published: Mapping[str, tuple[int, str]] | None = None,
        hint: str = "",
        media_places: str = "",
    ) -> Annotations:
        """Match the media and close the reading; of the forms the one with most media is taken.

        Args:
            heads: names of the labels, and their classes in order.
            key_of: from the name of a medium without extension to its key.
            class_folders: whether media are in folders named by class.
            forms: forms of media, in the order in which they are tried, and whether a medium is a whole stretch that
                clips are spans of (its key then is the clip's key) or is one clip (its key is the id).
            by_path: whether keys are found by the folders of a list as well.
            published: clips of the whole data set by side, each with its source.
            hint: ends the line of missing media.
            media_places: where media are expected, for messages.
        """
        names = frozenset(comparable(name) for name in heads[0][1]) if class_folders and heads else frozenset()
        ids, clips = list(self._clips), list(self._clips.values())
        keys = {True: [clip.key or clip_id for clip_id, clip in self._clips.items()], False: ids}
        finders = {form: Finder(media, key_of, names) for form, media in self.tree.media.items()}
        trials = [(form, spanning, *self._match(finders[form], keys[spanning], by_path)) for form, spanning in forms]
        form, spanning, media, doubtful = max(trials, key=lambda trial: sum(medium is not None for medium in trial[2]))
        finder = finders[form]
        for other, _, matched, _ in trials:
            if other != form and any(medium and medium.is_under_root for medium in matched):
                taken = "folders of frames" if form == "frames" else "videos"
                self.warning(".", f"there are both videos and folders of frames; the {taken} are taken")
        for place in doubtful:
            self.warning(".", "ids with several media: {}; the first in the order of paths is taken", ids[place])
        for clip_id, clip, medium in zip(ids, clips, media, strict=True):
            # Neither the exact name nor the bare id: the medium is of another stretch.
            fitting = (clip.exact, clip.key or clip_id, clip_id)
            if medium and medium.is_under_root and clip.exact and stem(medium.name) not in fitting:
                self.warning(".", "media whose names give other times than the annotations: {}", clip_id)
        unlisted = self._unlisted(finder, media, [keys[spanning][place] for place in doubtful])
        if unlisted:
            reason = f"{len(unlisted):,} media that the annotations do not list ({some(unlisted, len(unlisted))})"
            self.warning(".", reason)
        there = [medium for medium in media if medium and medium.is_under_root]
        frames = self._frame_files(there) if form == "frames" else None
        self._say_media(form, there, frames)
        missing = np.array([medium is None for medium in media], dtype=bool)
        sides = np.array([SIDES.index(clip.side) for clip in clips], dtype=np.int8)
        wanted = sides != SIDES.index("test")
        if wanted.any() and missing[wanted].all():
            where = media_places or "media below the root"
            self.problem(".", f"no video and no folder of frames of any listed clip; expected are {where}")
        given = [(clip.positions if form == "frames" else clip.seconds) if spanning else None for clip in clips]
        subsets = {name: None for clip in clips for name in clip.subsets}
        return Annotations(
            layout=self.layout,
            root=self.root,
            split=self.split,
            heads=heads,
            ids=Strings(ids),
            sides=sides,
            labels=np.array([clip.labels for clip in clips], dtype=np.int32).reshape(len(clips), len(heads)),
            media=Strings(medium.path if medium else "" for medium in media),
            spans=np.array([span or (math.nan, math.nan) for span in given], dtype=np.float64).reshape(-1, 2),
            rates=np.array([clip.rate for clip in clips], dtype=np.float32),
            form=form,
            frames=frames,
            listed=dict(self.listed),
            published=published or {},
            subsets={name: np.array([name in clip.subsets for clip in clips]) for name in subsets},
            files=tuple(self.files),
            sources=tuple(self._sources),
            unlisted=unlisted,
            problems=(*self.tree.problems, *self._problems.lines()),
            gaps=self._gaps(ids, sides, missing, hint),
            warnings=tuple(self._warnings.lines()),
        )

    def _match(self, finder: Finder, keys: Sequence[str], by_path: bool) -> tuple[list[Medium | None], list[int]]:
        """The medium of every clip; and the places of those for which others would have done as well."""
        media: list[Medium | None] = []
        doubtful = []
        for place, (key, clip) in enumerate(zip(keys, self._clips.values(), strict=True)):
            medium, several = finder.find(key, clip.exact, clip.folder)
            if by_path and clip.folder and medium and not medium.agreement(clip.folder):
                medium, several = None, False
            if medium is None and clip.folder.startswith("/") and Path(clip.folder, clip.exact).exists():
                medium = Medium(clip.folder, clip.exact)
            media.append(medium)
            if several:
                doubtful.append(place)
        return media, doubtful

    def _unlisted(self, finder: Finder, media: Iterable[Medium | None], doubtful: Iterable[str]) -> list[str]:
        left_out = (finder.find(key, folder=folder)[0] for key, folder in self._left_out)
        known = {*media, *left_out, *(medium for key in doubtful for medium in finder.candidates(key))}
        return [medium.path for medium in finder.media if medium not in known]

    def _frame_files(self, there: Sequence[Medium]) -> FrameFiles | None:
        """How frames are called, from a few folders, evenly chosen; most are right."""
        if not there:
            return None
        kinds: dict[FrameFiles, list[str]] = {}
        numbers = {number * (len(there) - 1) // (_NUM_INSPECTED - 1) for number in range(_NUM_INSPECTED)}
        for path in (there[number].path for number in sorted(numbers)):
            try:
                files = frame_files(self.root / path)
            except OSError as error:
                self.problem(path, f"cannot be listed: {error.strerror}")
                continue
            if files is None:
                self.problem(path, "contains no numbered images, such as img_00001.jpg")
            else:
                kinds.setdefault(files, []).append(path)
        ways = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
        if len(ways) > 1:
            spelled = "; ".join(f"{files.template} from {files.first} in {paths[0]}" for files, paths in ways)
            self.problem(".", f"frames have names of several forms ({spelled}); give all the same names")
        first = ways[0][0] if ways else None
        if first is not None and first.first != 1:
            name = first.template.format(id="ID", number=first.first)
            self.warning(
                ".", f"frames are numbered from {first.first} ({name}), where 1 was expected; read as they are"
            )
        return first

    def _say_media(self, form: Form, there: Iterable[Medium], frames: FrameFiles | None) -> None:
        folders = sorted({medium.folder or "." for medium in there})
        if folders:
            template = f" ({frames.template})" if frames else ""
            media = "videos" if form == "video" else f"folders of frames{template}"
            self.files.append(f"{media} in {some(folders, len(folders))}")

    def _gaps(
        self, ids: Sequence[str], sides: NDArray[np.int8], missing: NDArray[np.bool_], hint: str
    ) -> tuple[Problem, ...]:
        lines = []
        for number, side in enumerate(SIDES):
            gone = np.flatnonzero(missing & (sides == number))
            if not gone.size:
                continue
            count, total = gone.size, int((sides == number).sum())
            names = some((ids[int(place)] for place in gone), count)
            ending = f"; {hint}" if hint and count >= total / 5 else ""
            lines.append(Problem(".", f"{count:,} of {total:,} clips of {side} have no medium ({names}){ending}"))
        return tuple(lines)


@dataclass(frozen=True)
class Reader:
    """How one layout is read and recognised."""

    read: Callable[[Gathering], Annotations]
    evidence: Callable[[Gathering], str]
    """The evidence for this layout, such as ``labels.json with 174 templates``; empty without any."""
    has_splits: bool = False
    default_split: str = ""
    """The split that is meant where none is named."""
    has_mirror_classes: bool = False
    """Whether only left and right, or the sense of a turn, distinguish some classes: a plain mirror is refused."""
