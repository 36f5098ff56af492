"""The index of a data set: its clips, and what inspecting each medium showed, in columns mapped from files.

A *journal* is written while media are inspected: records of one size, appended, so that an inspection that is stopped
resumes where it was, and a medium is known by path, size and time of change. It is of a folder, and the layouts and
splits of that folder share it. The *columns* of an index are written from it at the end; opening them reads
only names, and no medium is inspected again.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadaconv.command import command
from tadaconv.data.annotations import SIDES, Annotations, Head, Strings
from tadaconv.data.media import FrameFiles
from tadaconv.errors import UserError
from tadaconv.files import write_file

VERSION = 2

RECORD = np.dtype(
    [
        ("path", "<u8"),  # a hash
        ("bytes", "<i8"),
        ("changed", "<i8"),  # nanoseconds
        ("frames", "<i4"),  # 0 for a broken medium
        ("height", "<i4"),
        ("width", "<i4"),
        ("fps", "<f4"),  # NaN where it is not known
        ("whole", "?"),  # decoded to its end, not taken from headers
        ("digest", "S16"),  # of the content; copies have the same
    ]
)
"""What is known of one medium."""

CONTENT_RECORD = np.dtype([*RECORD.descr[:-1], ("digest", "S32")])
"""The same with the whole SHA-256, over which the fingerprint of class folders is."""

Records = NDArray[np.void]

_ANNOTATED = ("layout", "split", "heads", "form", "frames", "ids", "media", "sides", "labels", "spans")
_COLUMNS = ("sides", "labels", "spans", "measured", "left_out", "subsets")
_STRINGS = ("ids", "media")
_VALUES = ("layout", "root", "split", "heads", "form", "frames", "listed", "subset_names", "sources")
_ABOUT = "about.json"
"""The values of an index, and which folder has its columns: replaced in one step, and with it the index."""
_NUM_TRIES = 5


class Measured(NamedTuple):
    """What inspecting a medium showed: frames, pixels, and frames a second; or, without frames, why it is broken."""

    frames: int
    height: int
    width: int
    fps: float = math.nan
    whole: bool = True
    digest: bytes = b""
    reason: str = ""


def journal_folder(cache: Path, root: Path) -> Path:
    """Where in the folder ``cache`` the journal of the media under ``root`` is."""
    return cache / f"media-{_digest(os.path.abspath(root))}"  # noqa: PTH100 - links stay as they are given


def index_folder(cache: Path, root: Path, layout: str, split: str) -> Path:
    """Where in the folder ``cache`` the index of what is under ``root`` is, as ``layout`` and ``split`` read it.

    Args:
        cache: the folder of what is known of clips.
        root: the folder of the clips.
        layout: of the data set.
        split: of the layout.
    """
    return cache / f"index-{layout}-{_digest(os.path.abspath(root), split)}"  # noqa: PTH100


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode(errors="surrogateescape")).hexdigest()[:16]


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def _cannot_write(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot write the index in {str(folder)!r}: {error.strerror}; name another --out")


class Journal:
    """The records of an index, appended as media are inspected; whoever opens one closes it."""

    def __init__(self, folder: Path, record: np.dtype[np.void] = RECORD) -> None:
        """Opens or begins the journal in ``folder``; raises :class:`UserError` where it cannot be written.

        ``record`` is :data:`RECORD` or :data:`CONTENT_RECORD`, each in its own file.
        """
        self._record = record
        self._path = folder / ("journal.bin" if record == RECORD else "journal-contents.bin")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            size = self._path.stat().st_size if self._path.exists() else 0
            if size % record.itemsize:  # stopped in the middle of a record
                os.truncate(self._path, size - size % record.itemsize)
            self._file = self._path.open("ab", buffering=0)  # a record is known to others as soon as it is added
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def add(self, path: str, size: int, changed: int, measured: Measured) -> None:
        """Append what was seen of the medium ``path``, of ``size`` bytes and changed at so many nanoseconds.

        Raises :class:`UserError` where the disk is full.

        Args:
            path: of the medium, relative to the root.
            size: in bytes.
            changed: time of change, in nanoseconds.
            measured: what was seen.
        """
        record = np.zeros(1, self._record)
        record[0] = (_hash(path), size, changed, *measured[:-1])  # of the digest as much as it holds
        try:
            self._file.write(record.tobytes())
        except OSError as error:
            raise _cannot_write(self._path.parent, error) from error

    def known(self, paths: Sequence[str], sizes: NDArray[np.int64], changed: NDArray[np.int64]) -> Records:
        """The latest record of each path, of zeros where there is none of that size and time of change.

        Args:
            paths: of media, relative to the root.
            sizes: in bytes, (media,).
            changed: times of change in nanoseconds, (media,).
        """
        written = np.fromfile(self._path, dtype=self._record)
        records = np.zeros(len(paths), dtype=self._record)
        if not len(written) or not len(paths):
            return records
        order = np.argsort(written["path"], kind="stable")  # of equals the latest is last
        hashes = np.array([_hash(path) for path in paths], dtype=np.uint64)
        last = np.searchsorted(written["path"][order], hashes, side="right") - 1
        candidates = written[order[np.maximum(last, 0)]]
        same = (candidates["path"] == hashes) & (candidates["bytes"] == sizes) & (candidates["changed"] == changed)
        records[same] = candidates[same]
        return records


@dataclass(frozen=True, eq=False)
class Index:
    """The clips of a data set, columns as in :class:`Annotations`, and ``measured``, a record for each clip.

    Of a clip that is a span of its medium, the record has the frames of the span and the rate that they are counted at.
    ``left_out`` marks the clips that are accepted as missing or broken. ``subsets`` is (clips, subsets), in the order
    of ``subset_names``. ``sources`` are the files of annotations: path, bytes, and time of change in nanoseconds.
    """

    layout: str
    root: str
    split: str
    heads: tuple[Head, ...]
    form: str
    frames: FrameFiles | None
    listed: dict[str, int]
    subset_names: tuple[str, ...]
    sources: tuple[tuple[str, int, int], ...]
    ids: Strings
    media: Strings
    sides: NDArray[np.int8]
    labels: NDArray[np.int32]
    spans: NDArray[np.float64]
    measured: Records
    left_out: NDArray[np.bool_]
    subsets: NDArray[np.bool_]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, side: str) -> NDArray[np.int64]:
        """The places of a side's clips, those left out excepted."""
        return np.flatnonzero((self.sides == SIDES.index(side)) & ~self.left_out)

    def num_left_out(self, side: str) -> int:
        """How many clips of a side are left out."""
        return int(self.left_out[self.sides == SIDES.index(side)].sum())

    @property
    def check(self) -> str:
        """The command that checks its clips."""
        return command("data check", self.root, layout=self.layout, split=self.split or None)

    def unusable(self) -> list[str]:
        """The ids of training and validation clips that are missing or broken and were not accepted."""
        gone = (self.measured["frames"] == 0) & ~self.left_out & (self.sides != SIDES.index("test"))
        return [self.ids[int(place)] for place in np.flatnonzero(gone)]

    def changed_sources(self) -> list[str]:
        """The files of annotations that are no longer as they were when they were read."""
        return [path for path, *was in self.sources if list(_changed(Path(path))) != was]


def index_of(annotations: Annotations, measured: Records, left_out: NDArray[np.bool_] | None = None) -> Index:
    """The index of annotated clips, in memory.

    Args:
        annotations: the clips.
        measured: a record for each clip, (clips,).
        left_out: the clips that are accepted as missing or broken, (clips,); None for none.
    """
    assert len(measured) == len(annotations)
    subsets = list(annotations.subsets.values())
    index = Index(
        **{name: getattr(annotations, name) for name in _ANNOTATED},
        root=os.fspath(annotations.root),
        listed=dict(annotations.listed),
        subset_names=tuple(annotations.subsets),
        sources=tuple((os.fspath(path), *_changed(path)) for path in annotations.sources),
        measured=measured,
        left_out=np.zeros(len(annotations), dtype=bool) if left_out is None else left_out,
        subsets=np.stack(subsets, axis=1) if subsets else np.zeros((len(annotations), 0), dtype=bool),
        fingerprint="",
    )
    return replace(index, fingerprint=_fingerprint(index))


def write_index(folder: Path, index: Index) -> Index:
    """Write an index, whose fingerprint is made again, and open it; one that is there already is replaced whole.

    Raises :class:`UserError` where ``folder`` cannot be written.
    """
    values = {name: getattr(index, name) for name in _VALUES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix="columns-", dir=folder))
        new.chmod(0o755)  # for workers of other users
        for name in _COLUMNS:
            np.save(new / f"{name}.npy", getattr(index, name))
        for name in _STRINGS:
            buffer, ends = getattr(index, name).columns
            np.save(new / f"{name}.npy", buffer)
            np.save(new / f"{name}_ends.npy", ends)
        old = _columns_of(folder)
        about = {"version": VERSION, **values, "fingerprint": _fingerprint(index), "columns": new.name}
        write_file(folder / _ABOUT, json.dumps(about))
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)  # who has it mapped keeps it
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return open_index(folder)


def remove_index(folder: Path) -> None:
    """Remove the index in ``folder``, or what there is of one; raises OSError where that cannot be."""
    (folder / _ABOUT).unlink(missing_ok=True)
    for columns in folder.glob("columns-*"):
        shutil.rmtree(columns)


def is_index(folder: Path) -> bool:
    """Whether an index is in ``folder``."""
    return (folder / _ABOUT).is_file()


def open_index(folder: Path) -> Index:
    """The index in ``folder``, mapped; raises :class:`UserError` where there is none, or one of another version."""
    for _ in range(_NUM_TRIES):
        columns = _columns_of(folder)
        try:
            return _opened(folder)
        except (OSError, ValueError, KeyError) as error:
            if columns == _columns_of(folder):  # else another has taken its place meanwhile
                raise UserError(f"no index in {str(folder)!r}; make one with: tada data check") from error
    raise UserError(f"the index in {str(folder)!r} is being replaced repeatedly; wait for tada data check to end")


def _columns_of(folder: Path) -> Path | None:
    """The folder of the columns that the index in ``folder`` has now; None where there is no index."""
    try:
        return folder / str(json.loads((folder / _ABOUT).read_text(encoding="utf-8"))["columns"])
    except (OSError, ValueError, KeyError):
        return None


def _opened(folder: Path) -> Index:
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    if about["version"] != VERSION:
        raise UserError(f"the index in {str(folder)!r} is of another version; make it again with: tada data check")
    place = folder / about["columns"]
    columns: dict[str, Any] = {name: _mapped(place / f"{name}.npy") for name in _COLUMNS}
    for name in _STRINGS:
        columns[name] = Strings.of(_mapped(place / f"{name}.npy"), _mapped(place / f"{name}_ends.npy"))
    values = {name: about[name] for name in _VALUES}
    values["heads"] = tuple((name, tuple(names)) for name, names in about["heads"])
    values["frames"] = about["frames"] and FrameFiles(*about["frames"])
    values["subset_names"] = tuple(about["subset_names"])
    values["sources"] = tuple(map(tuple, about["sources"]))
    if about["form"] == "pack":  # which may be moved
        values["root"] = os.fspath(folder)
    return Index(**values, **columns, fingerprint=about["fingerprint"])


def _mapped(path: Path) -> NDArray[Any]:
    mapped: NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > 4096 else None)
    return mapped


def _fingerprint(index: Index) -> str:
    """16 hex digits over all that can change a result: of every clip used id, side, labels, span, frames, their rate,
    height and width; and over the subsets, and how many clips are left out.

    Paths, sizes and codecs of media do not count, so that a copy encoded again with equal frames is the same data; nor
    do test clips, which no run reads. A pack, which is made of other media, is never the same data as they are.
    Class folders are known by their contents instead.
    """
    if index.layout == "classes":
        return _fingerprint_of_contents(index)
    digest = hashlib.sha256()
    used = ~index.left_out & (index.sides != SIDES.index("test"))
    if index.form == "pack":
        digest.update(b"pack")

    def take(parts: Iterable[bytes]) -> None:
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)

    take(json.dumps(part).encode() for part in (index.heads, index.subset_names, int(index.left_out.sum())))
    take(index.ids[int(place)].encode(errors="surrogateescape") for place in np.flatnonzero(used))
    measured = index.measured
    rates = np.nan_to_num(measured["fps"].astype("f8") * 100, nan=-1).round().astype("<i8")  # 29.97 is 30000/1001
    take(np.ascontiguousarray(column[used]).tobytes() for column in (
        index.sides, index.labels.astype("<i4"), index.spans.astype("<f8"), index.subsets,
        measured["frames"], measured["height"], measured["width"], rates,
    ))  # fmt: skip
    return digest.hexdigest()[:16]


def _fingerprint_of_contents(index: Index) -> str:
    """16 hex digits over the paths of the clips relative to the root, their contents and the split."""
    digests = [bytes(digest).ljust(32, b"\0").hex() for digest in index.measured["digest"]]  # NumPy drops last zeros
    sides = [[[index.ids[int(place)], digests[place]] for place in index.places(side)] for side in SIDES[:2]]
    return hashlib.sha256(json.dumps(sides).encode()).hexdigest()[:16]


def _changed(path: Path) -> tuple[int, int]:
    """Bytes and time of change of a file; zeros for one that is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
