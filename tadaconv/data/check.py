"""Are the clips of a data set fit to train on? What ``tada data check`` prints, and the index that it writes.

Annotations are read, media are matched with them, each medium is inspected, and what was measured is written to an
index, which runs open. Clips that are missing or broken are never replaced: the index is refused by runs until their
ids have been accepted, and then leaves them out. Class folders have no annotations and need no index: runs inspect
what is new in them.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tadaconv.command import command
from tadaconv.data.annotations import SIDES, Annotations, some
from tadaconv.data.clips import Clips
from tadaconv.data.decode import BrokenVideoError
from tadaconv.data.examination import Examination, examine
from tadaconv.data.index import Index, index_folder, index_of, journal_folder, open_index, write_index
from tadaconv.data.layouts import guess, read, split_of
from tadaconv.data.media import Problem
from tadaconv.data.mirroring import mirror_pairs
from tadaconv.data.sampling import evaluation_frames
from tadaconv.errors import UserError
from tadaconv.files import write_file
from tadaconv.spec import Sampling
from tadaconv.text import encodable

CLIP_FRAMES = (8, 16, 32)
"""Frames of a clip for which short clips are counted."""

_NUM_TIMED = 32
"""Clips that the reading speed is measured on."""

_NUM_SHOWN = 10
"""Broken media that are named in the text."""

UNUSABLE = "unusable.txt"
"""The file in an index's folder that lists, an id a line, the clips that are missing or broken and not accepted."""


class SideCounts(BaseModel):
    """Clips of one side, as the annotations list them and as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int = Field(description="Entries of the annotations, those that are no clip included.")
    there: int = Field(description="Clips with a medium.")
    missing: int = Field(description="Clips without a medium.")
    broken: int = Field(description="Clips with an unusable medium; 0 of test, where media are not inspected.")
    left_out: int = Field(description="Missing and broken clips that were accepted as such.")
    published: int | None = Field(description="Clips of the whole data set, where a source gives it.")
    source: str = Field(description="The source of ``published``.")


class Spread(BaseModel):
    """Of the lengths of clips in frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: int
    median: float
    most: int


class LayoutReport(BaseModel):
    r"""What a data set holds and what is wrong with it.

    A byte of a name that is not UTF-8 appears as ``\udce9``, E9 being the byte.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    layout: str
    split: str
    whole: bool = Field(description="Whether media were decoded to their end; else headers were read.")
    files: tuple[str, ...] = Field(description="Which files were taken for what.")
    heads: dict[str, int] = Field(description="Classes by head.")
    sides: dict[str, SideCounts]
    num_unlisted: int = Field(description="Media that the annotations do not list.")
    num_media: int = Field(description="Media of training and validation clips; segments may share one.")
    frames: Spread | None = Field(description="Frames of usable clips; None where there are none.")
    shorter: dict[int, int] = Field(description="By frames of a clip, how many clips have fewer.")
    rates: dict[str, int] = Field(description="Usable clips by frames a second.")
    sizes: dict[str, int] = Field(description="Usable clips by width x height in pixels.")
    mirror_pairs: tuple[tuple[str, str], ...] = Field(
        description="Classes that are mirror images of one another by their names."
    )
    in_long_videos: bool = Field(description="Whether clips are spans of videos, which are sought by time.")
    clips_per_second: float | None = Field(
        description="Clips of eight frames read a second on one core; None where none could be."
    )
    problems: tuple[Problem, ...] = Field(description="Must be fixed before anything trains.")
    gaps: tuple[Problem, ...] = Field(description="Missing media, by side.")
    broken: tuple[Problem, ...] = Field(description="Clips, by id, with a medium that cannot be used.")
    warnings: tuple[Problem, ...] = Field(description="May be intended.")
    num_unusable: int = Field(description="Training and validation clips missing or broken, and not accepted.")
    unusable_file: str = Field(description="The list of their ids; empty where there are none.")
    index: str = Field(description="Folder of the index that runs open; empty where none was written.")

    @property
    def ok(self) -> bool:
        """Whether a run can train on the data set."""
        return not self.problems and not self.num_unusable


def check_layout(
    root: Path, layout: str, split: str, cache: Path, *, quick: bool = False, accept: Path | None = None
) -> LayoutReport:
    """Read the annotations under ``root``, inspect every medium of training and validation clips, write an index.

    Args:
        root: The folder of the data set.
        layout: A name in :data:`tadaconv.data.layouts.LAYOUTS`.
        split: As :func:`tadaconv.data.layouts.read` takes it.
        cache: The folder that the index and what is known of media are kept in.
        quick: Read headers alone, and write no index: what headers claim is not what runs are made on.
        accept: A file of ids, one per line, of clips that are left out if they are missing or broken. None keeps the
            ids accepted before.

    Raises:
        UserError: for a root, layout, split or file of ids that is not there, PyAV missing, an accepted id that is not
            listed, and a cache that cannot be written.
    """
    split = split_of(layout, split)
    annotations = read(layout, root.absolute(), split)
    folder = index_folder(cache, root, layout, split)
    accepted = _accepted_before(folder) if accept is None else _ids(accept)
    is_accepted = np.array([one in accepted for one in annotations.ids], dtype=bool)
    if accept is not None and is_accepted.sum() < len(accepted):
        strangers = sorted(accepted.difference(annotations.ids))
        raise UserError(
            f"accepted, but not listed by {layout}: {', '.join(strangers[:3])}; leave them out of {str(accept)!r}"
        )
    examination = examine(annotations, journal_folder(cache, root), whole=not quick)
    usable = examination.clips["frames"] > 0
    wanted = annotations.sides != SIDES.index("test")
    used = usable & wanted
    clips = examination.clips[used]
    left_out = wanted & ~usable & is_accepted
    unusable = [annotations.ids[int(place)] for place in np.flatnonzero(wanted & ~usable & ~left_out)]
    problems = annotations.problems or _empty_sides(annotations, left_out)
    warnings = [*annotations.warnings, *_warnings(annotations, examination, used)]
    if layout == "classes" and (advice := _advice(root)):
        problems, warnings = ((*problems, advice), warnings) if problems else (problems, [*warnings, advice])
    index = None if quick or problems else index_of(annotations, examination.clips, left_out)
    has_index = index is not None and layout != "classes"  # runs inspect class folders themselves
    if index is not None and has_index:
        index = write_index(folder, index)
    return LayoutReport(
        root=encodable(str(root)),
        layout=layout,
        split=split,
        whole=not quick,
        files=tuple(map(encodable, annotations.files)),
        heads={name: len(names) for name, names in annotations.heads},
        sides=_by_side(annotations, examination, left_out),
        num_unlisted=len(annotations.unlisted),
        num_media=examination.num_media,
        frames=_spread(clips["frames"]),
        shorter={count: int((clips["frames"] < count).sum()) for count in CLIP_FRAMES},
        rates=_by_count(_rate(fps) for fps in clips["fps"].tolist()),
        sizes=_by_count(f"{width} x {height}" for width, height in clips[["width", "height"]].tolist()),
        mirror_pairs=_encodable_pairs(annotations),
        in_long_videos=annotations.form == "video" and not bool(np.isnan(annotations.spans[:, 0]).all()),
        clips_per_second=None if index is None else _clips_per_second(index),
        problems=encodable_problems(problems),
        gaps=encodable_problems(annotations.gaps),
        broken=encodable_problems(
            Problem(annotations.ids[place], f"{annotations.media[place]}: {reason}")
            for place, reason in sorted(examination.broken.items())
        ),
        warnings=encodable_problems(warnings),
        num_unusable=len(unusable),
        unusable_file="" if layout == "classes" else encodable(_write_ids(folder, unusable, quick)),
        index=encodable(str(folder)) if has_index else "",
    )


def encodable_problems(findings: Iterable[Problem]) -> tuple[Problem, ...]:
    """``findings`` with paths and reasons that can be printed and written as JSON."""
    return tuple(Problem(encodable(finding.path), encodable(finding.reason)) for finding in findings)


def _advice(root: Path) -> Problem | None:
    """The line for a data set that was read as class folders."""
    seen = guess(root)
    return seen and Problem(".", f"looks like {seen[0]} ({seen[1]}); add --layout {seen[0]}")


def _empty_sides(annotations: Annotations, left_out: NDArray[np.bool_]) -> tuple[Problem, ...]:
    """Of training and validation, what has no clip, there or missing."""
    empty = []
    for number, side in enumerate(SIDES[:2]):
        members = annotations.sides == number
        if not members.any():
            empty.append(Problem(".", f"the annotations list no clip of {side}; put the list of {side} next to them"))
        elif left_out[members].all():
            empty.append(Problem(".", f"every clip of {side} is left out; get some, or accept fewer"))
    return tuple(empty)


def _accepted_before(folder: Path) -> frozenset[str]:
    """The ids that an index which is there leaves out; none where it cannot be read, and a run refuses them again."""
    try:
        index = open_index(folder)
    except UserError:
        return frozenset()
    return frozenset(index.ids[int(place)] for place in np.flatnonzero(index.left_out))


def _ids(file: Path) -> frozenset[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(
            f"cannot read the list of ids {str(file)!r}: {error.strerror}; give a file of one id a line"
        ) from error
    return frozenset(line for line in lines if line.strip())


def _write_ids(folder: Path, ids: Sequence[str], quick: bool) -> str:
    """Write the list of unusable clips, and return where it is; without any, remove what a whole check left."""
    file = folder / UNUSABLE
    try:
        if ids:
            write_file(file, "".join(f"{one}\n" for one in ids).encode(errors="surrogateescape"))
        elif not quick:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {str(file)!r}: {error.strerror}; name another --out") from error
    return str(file) if ids else ""


def _by_side(annotations: Annotations, examination: Examination, left_out: NDArray[np.bool_]) -> dict[str, SideCounts]:
    has_medium = np.array([bool(medium) for medium in annotations.media], dtype=bool)
    broken = np.isin(np.arange(len(annotations)), list(examination.broken))
    counts = {}
    for number, side in enumerate(SIDES):
        members = annotations.sides == number
        if not members.any() and not annotations.listed.get(side):
            continue
        published, source = annotations.published.get(side, (None, ""))
        counts[side] = SideCounts(
            listed=annotations.listed.get(side, int(members.sum())),
            there=int((members & has_medium).sum()),
            missing=int((members & ~has_medium).sum()),
            broken=int((members & broken).sum()),
            left_out=int((members & left_out).sum()),
            published=published,
            source=source,
        )
    return counts


def _spread(counts: NDArray[np.int32]) -> Spread | None:
    if not counts.size:
        return None
    return Spread(least=int(counts.min()), median=float(np.median(counts)), most=int(counts.max()))


def _by_count(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    return dict(Counter(values).most_common())


def _rate(fps: float) -> str:
    return "unknown" if math.isnan(fps) else f"{fps:.2f}".rstrip("0").rstrip(".")


def _encodable_pairs(annotations: Annotations) -> tuple[tuple[str, str], ...]:
    pairs = [pair for _, names in annotations.heads for pair in mirror_pairs(names)]
    return tuple((encodable(one), encodable(other)) for one, other in pairs)


def _warnings(annotations: Annotations, examination: Examination, used: NDArray[np.bool_]) -> list[Problem]:
    warnings = [*_copies(annotations, examination, used), *_empty_classes(annotations, used)]
    if examination.cut:
        unit = "frames" if annotations.form == "frames" else "seconds"
        names = some((annotations.ids[place] for place in examination.cut), len(examination.cut))
        warnings.append(Problem(
            ".", f"{len(examination.cut):,} clips end after their medium does, by at most {examination.cut_by:.2f} "
            f"{unit} ({names}); they are cut there"
        ))  # fmt: skip
    return warnings


def _copies(annotations: Annotations, examination: Examination, used: NDArray[np.bool_]) -> list[Problem]:
    """Validation clips with the content of a training clip; segments of one medium are no copies."""
    digests = examination.clips["digest"]
    hashed = used & (digests != b"") & np.isnan(annotations.spans[:, 0])
    train = {bytes(digests[place]): int(place) for place in np.flatnonzero(hashed & (annotations.sides == 0))}
    pairs = [
        (int(place), train[digest])
        for place in np.flatnonzero(hashed & (annotations.sides == 1))
        if (digest := bytes(digests[place])) in train
    ]
    if not pairs:
        return []
    named = some((f"{annotations.ids[one]} of {annotations.ids[other]}" for one, other in pairs), len(pairs))
    copies = (
        "validation clip is a copy of a training clip"
        if len(pairs) == 1
        else "validation clips are copies of training clips"
    )
    return [Problem(".", f"{len(pairs):,} {copies} ({named})")]


def _empty_classes(annotations: Annotations, used: NDArray[np.bool_]) -> list[Problem]:
    lines = []
    for number, side in enumerate(SIDES[:2]):
        members = used & (annotations.sides == number)
        if not members.any():
            continue
        for column, (head, names) in enumerate(annotations.heads):
            seen = set(annotations.labels[members, column].tolist())
            empty = [name for label, name in enumerate(names) if label not in seen]
            if empty:
                classes = f"{len(empty):,} class{'' if len(empty) == 1 else 'es'}"
                of_head = f" of {head}" if len(annotations.heads) > 1 else ""
                names_of_some = some(empty, len(empty))
                reason = f"{classes}{of_head} without a usable clip of {side} ({names_of_some})"
                lines.append(Problem(".", reason))
    return lines


def _clips_per_second(index: Index) -> float | None:
    """How many clips of eight frames one core reads a second, whole frames, from some that are evenly chosen."""
    clips = Clips(index)
    usable = clips.train[clips.num_frames[clips.train] > 0]
    places = usable[:: max(1, len(usable) // _NUM_TIMED)][:_NUM_TIMED]
    sampling = Sampling()
    begin = time.perf_counter()
    for place in places:
        wanted = evaluation_frames(sampling, int(clips.num_frames[place]), CLIP_FRAMES[0], 0, 0, 1)
        try:
            clips.read(int(place), wanted.tolist(), 0)
        except (BrokenVideoError, OSError):
            return None
    return len(places) / (time.perf_counter() - begin) if len(places) else None


def render(report: LayoutReport) -> str:
    """The report as text for a terminal: what was taken for what, counts by side, then problems and warnings."""
    heads = ", ".join(f"{count} class{'' if count == 1 else 'es'}" + (f" of {name}" if len(report.heads) > 1 else "")
                      for name, count in report.heads.items())  # fmt: skip
    lines = [f"{report.root}: {report.layout}, {heads}", *(f"  {sentence}" for sentence in report.files)]
    for side, counts in report.sides.items():
        parts = [f"{counts.listed:,} listed", f"{counts.there:,} there", f"{counts.missing:,} missing"]
        if side != "test":
            parts.append(f"{counts.broken:,} broken")
        if counts.left_out:
            parts.append(f"{counts.left_out:,} of them accepted and left out")
        if counts.published is not None:
            parts.append(f"published: {counts.published:,} ({counts.source})")
        lines.append(f"{side}: {', '.join(parts)}")
    lines += _about_clips(report)
    for title, findings in (
        (_count(len(report.problems), "problem"), report.problems),
        ("missing", report.gaps),
        (_count(len(report.broken), "broken clip"), _by_medium(report.broken)),
        (_count(len(report.warnings), "warning"), report.warnings),
    ):
        if findings:
            lines.append(f"{title}:")
            lines += [f"  {item.reason if item.path == '.' else f'{item.path}: {item.reason}'}" for item in findings]
    return "\n".join([*lines, _verdict(report)])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _by_medium(broken: Sequence[Problem]) -> list[Problem]:
    """A line for each reason, which names the medium, with the ids of its clips; the first few."""
    ids: dict[str, list[str]] = {}
    for finding in broken:
        ids.setdefault(finding.reason, []).append(finding.path)
    lines = [
        Problem("." if reason.startswith(f"{names[0]}: ") else some(names, len(names)), reason)
        for reason, names in ids.items()
    ]
    rest = len(lines) - _NUM_SHOWN
    return lines[:_NUM_SHOWN] + ([Problem(".", f"and {rest:,} more; --json has all of them")] if rest > 0 else [])


def _about_clips(report: LayoutReport) -> list[str]:
    lines = []
    if report.frames is not None:
        spread = report.frames
        lines.append(f"frames of a clip: {spread.least:,} to {spread.most:,}, median {spread.median:,g}")
        short = [f"{count:,} have fewer than {frames}" for frames, count in report.shorter.items() if count]
        if short:
            lines.append(
                f"  {', '.join(short)}: a regime of that many frames repeats frames of them (short_clips='repeat') or "
                "refuses them"
            )
    for unit, counts in (("frames a second", report.rates), ("pixels", report.sizes)):
        if counts:
            named = ", ".join(f"{value} ({count:,})" for value, count in list(counts.items())[:3])
            lines.append(f"{unit}: {named}" + (f", and {len(counts) - 3} others" if len(counts) > 3 else ""))
    if report.mirror_pairs:
        pairs = "; ".join(f"{one} / {other}" for one, other in report.mirror_pairs)
        lines.append(f"classes that are mirror images of one another, exchanged by mirror='swap': {pairs}")
    if report.clips_per_second is not None:
        lines.append(
            f"reading: {report.clips_per_second:,.0f} clips of {CLIP_FRAMES[0]} frames a second on one core; a GPU "
            f"that trains 300 clips a second needs {300 / report.clips_per_second:,.1f} cores to read them"
            + (
                "; cut clips, folders of frames and packs (tada data pack) are read faster than spans of videos"
                if report.in_long_videos
                else ""
            )
        )
    return lines


def _verdict(report: LayoutReport) -> str:
    how = {"layout": report.layout, "split": report.split or None}
    if report.problems:
        return "not usable for training: fix the problems and check again; known clips are not inspected again"
    if report.num_unusable and not report.unusable_file:
        return "not usable for training: repair or remove the broken clips and check again"
    if report.num_unusable:
        accept = command("data check", report.root, **how, accept=report.unusable_file)
        return (
            f"{report.num_unusable:,} clips are missing or broken, listed in {report.unusable_file}; runs refuse "
            f"the data set until they are there, or until you accept that they are left out: {accept}"
        )
    if not report.whole:
        again = command("data check", report.root, **how)
        return f"only headers were read; runs need every clip decoded: {again}"
    left_out = sum(counts.left_out for counts in report.sides.values())
    but = f" but the {left_out:,} left out" if left_out else ""
    return f"every clip{but} can be used" + (f"; the index is {report.index}" if report.index else "")
