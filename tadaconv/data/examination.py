"""Every medium that a data set's annotations name is inspected; what was measured is kept, and not measured again."""

import hashlib
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tadaconv.data.annotations import SIDES, Annotations
from tadaconv.data.decode import BrokenVideoError, headers, inspect, require_av
from tadaconv.data.index import CONTENT_RECORD, RECORD, Journal, Measured, Records
from tadaconv.data.media import FrameFiles
from tadaconv.data.pictures import inspect_pictures
from tadaconv.data.threads import over_cores

WHOLE_BYTES = 64 * 2**20
"""Files up to this size are hashed whole; of larger ones the size and as many bytes, half from each end."""

_NONE = -1


@dataclass(frozen=True)
class Examination:
    """What inspecting the media showed.

    ``clips`` are records, one for each annotated clip, of zeros where it has no medium and for test clips, whose media
    are not inspected. ``broken`` gives, by place, why a clip with a medium cannot be used. ``cut`` are the
    places of clips with a span that ends after their medium does and is cut there, and ``cut_by`` is the most that one
    loses, in seconds of a video or in frames.
    """

    clips: Records
    broken: dict[int, str]
    cut: tuple[int, ...]
    cut_by: float
    num_media: int


def examine(annotations: Annotations, folder: Path, *, whole: bool) -> Examination:
    """Inspect the media of the training and the validation clips that are not known yet as they are now.

    ``whole`` decodes them to their end; else headers are read, and folders of frames listed. Every result is written to
    the journal in ``folder`` at once. A broken medium is inspected again each time. Raises :class:`UserError` where
    PyAV is missing or ``folder`` cannot be written.

    Args:
        annotations: the clips.
        folder: of the journal.
        whole: whether media are decoded.
    """
    require_av()
    paths, medium_of = _media(annotations)
    sizes, changed = sizes_and_changes(annotations.root, paths)
    reasons: dict[str, str] = {}
    record = RECORD
    if annotations.layout == "classes":  # runs decode what is new to them, and another decoder may count other frames
        record, folder = CONTENT_RECORD, folder / _decoder()
    with closing(Journal(folder, record)) as journal:
        known = journal.known(paths, sizes, changed)
        unknown = np.flatnonzero((known["frames"] == 0) | (whole & ~known["whole"]))
        todo = [paths[int(number)] for number in unknown]
        root, files = annotations.root, annotations.frames
        inspected = over_cores(lambda path: _inspect(root / path, files, whole), todo, "checking clips")
        for number, path, measured in zip(unknown, todo, inspected, strict=True):
            journal.add(path, int(sizes[number]), int(changed[number]), measured)
            if measured.reason:
                reasons[path] = measured.reason
        records = journal.known(paths, sizes, changed)
    return _by_clip(annotations, paths, medium_of, records, reasons)


def _decoder() -> str:
    """8 hex digits over the versions of the libraries that decode."""
    import av

    return hashlib.sha256(repr(sorted(av.library_versions.items())).encode()).hexdigest()[:8]


def _media(annotations: Annotations) -> tuple[list[str], NDArray[np.int64]]:
    """The media of training and validation clips, each once, and the number of each clip's, -1 for none."""
    numbers: dict[str, int] = {}
    medium_of = np.full(len(annotations), _NONE, dtype=np.int64)
    wanted = annotations.sides != SIDES.index("test")
    for place, medium in enumerate(annotations.media):
        if medium and wanted[place]:
            medium_of[place] = numbers.setdefault(medium, len(numbers))
    return list(numbers), medium_of


def sizes_and_changes(root: Path, paths: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes and time of change in nanoseconds of each medium; -1 and 0 for what leads nowhere."""
    sizes = np.full(len(paths), -1, dtype=np.int64)
    changed = np.zeros(len(paths), dtype=np.int64)
    for number, path in enumerate(paths):
        try:
            status = (root / path).stat()
        except OSError:  # inspecting it reports that
            continue
        sizes[number], changed[number] = status.st_size, status.st_mtime_ns
    return sizes, changed


def _inspect(path: Path, files: FrameFiles | None, whole: bool) -> Measured:
    try:
        if path.is_dir():
            if files is None:
                raise BrokenVideoError("a folder, but the form of its frames' names is not known")
            info = inspect_pictures(path, files, whole)
            digest = _digest_of_pictures(path, files, info.num_frames) if whole else ""
        else:
            info = inspect(path) if whole else headers(path)
            digest = content_digest(path) if whole else ""
    except BrokenVideoError as error:
        return Measured(0, 0, 0, reason=str(error))
    except OSError as error:
        return Measured(0, 0, 0, reason=f"unreadable ({error.strerror})")
    return Measured(info.num_frames, info.height, info.width, info.fps or math.nan, whole, bytes.fromhex(digest))


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content, or of its size and both ends where it is larger than ``WHOLE_BYTES``."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            digest.update(file.read())
        else:
            digest.update(str(size).encode())
            digest.update(file.read(WHOLE_BYTES // 2))
            file.seek(size - WHOLE_BYTES // 2)
            digest.update(file.read())
    return digest.hexdigest()


def _digest_of_pictures(folder: Path, files: FrameFiles, count: int) -> str:
    """Over the first, the middle and the last picture, and how many there are."""
    digest = hashlib.sha256(str(count).encode())
    for position in sorted({0, count // 2, count - 1}):
        name = files.template.format(id=folder.name, number=files.first + position)
        digest.update(content_digest(folder / name).encode())
    return digest.hexdigest()


def _by_clip(
    annotations: Annotations,
    paths: list[str],
    medium_of: NDArray[np.int64],
    records: Records,
    reasons: dict[str, str],
) -> Examination:
    """The records of clips: those of their media, and of spans the frames of the span, at the rate they are counted."""
    clips = np.zeros(len(annotations), dtype=records.dtype)
    there = medium_of != _NONE
    clips[there] = records[medium_of[there]]
    intact = clips["frames"] > 0
    broken = {int(place): reasons[paths[medium_of[place]]] for place in np.flatnonzero(there & ~intact)}
    in_frames = annotations.form == "frames"
    spans = np.flatnonzero(intact & ~np.isnan(annotations.spans[:, 0]))
    if in_frames:
        clips["fps"] = annotations.rates
    else:
        given = spans[~np.isnan(annotations.rates[spans])]
        clips["fps"][given] = annotations.rates[given]
    # Of a video spans are in seconds, of a folder of frames in positions.
    starts, ends = annotations.spans[spans].T
    media = records[medium_of[spans]]
    limits = media["frames"].astype(float) / (1 if in_frames else media["fps"])
    per_unit = np.ones(len(spans)) if in_frames else clips["fps"][spans].astype(float)
    counts = np.rint((np.minimum(ends, limits) - starts) * per_unit)
    beyond = starts >= limits
    clips["frames"][spans] = np.where(beyond | np.isnan(limits), 0, np.maximum(np.nan_to_num(counts), 1))
    unit = "frames" if in_frames else "seconds"
    for place, start, end, limit in zip(spans[beyond], starts[beyond], ends[beyond], limits[beyond], strict=True):
        broken[int(place)] = (
            f"{unit} {start:g} to {end:g} of a medium that has {limit:g}; it is of another version than the "
            "annotations, or truncated"
        )
    for place in spans[np.isnan(limits)]:
        broken[int(place)] = "no frame rate in its container, so that a time in seconds has no frame"
    lost = np.where(beyond, 0, np.nan_to_num(ends - limits))
    cut = lost > 1 / per_unit
    return Examination(
        clips, broken, tuple(int(place) for place in spans[cut]), float(max(lost[cut], default=0.0)), len(paths)
    )
