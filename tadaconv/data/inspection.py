"""Every clip of a folder decoded once and hashed, on all cores, and remembered by name, size and time of change."""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from tadaconv.data.decode import BrokenVideoError, VideoInfo, inspect, require_av
from tadaconv.data.threads import Threads
from tadaconv.errors import UserError
from tadaconv.files import write_file

WHOLE_BYTES = 64 * 2**20
"""Files up to this size are hashed whole; of larger ones the size and as many bytes, half from each end."""

PATIENCE_SECONDS = 2.0
"""How long work goes on before a progress bar appears."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Inspection:
    """What is known of a clip: the hash of its content and what decoding it showed, or why it failed."""

    digest: str
    info: VideoInfo | None
    reason: str = ""


Key = tuple[str, int, int]
"""What a clip is known by: absolute path, size in bytes, time of change in nanoseconds."""

_known: dict[Key, Inspection] = {}  # for the life of the process


def inspect_clips(root: Path, paths: Sequence[str], cache: Path | None) -> dict[str, Inspection]:
    """Inspect the videos at ``paths``, relative to ``root``; only those not yet known as they are now.

    What is found is kept for the life of the process and, of intact clips, in a file in the folder ``cache``: a mended
    clip is inspected again each time. Raises :class:`UserError` if PyAV is missing or ``cache`` cannot be written.

    Args:
        root: the folder of the clips.
        paths: of the videos, relative to it.
        cache: the folder of what is known of clips; None keeps it in this process alone.
    """
    require_av()
    keys = {path: _key(root / path) for path in paths}
    if cache is not None:
        _known.update(_read(_cache_file(cache, root)))
    new = [path for path in paths if keys[path] not in _known]
    if new:
        inspections = over_cores(_inspect, [root / path for path in new], "checking clips")
        _known.update(zip((keys[path] for path in new), inspections, strict=True))
        if cache is not None:
            _write(_cache_file(cache, root), {keys[path]: _known[keys[path]] for path in paths})
    return {path: _known[keys[path]] for path in paths}


def known_clips(root: Path, paths: Sequence[str]) -> dict[str, Inspection] | None:
    """What :func:`inspect_clips` would return, where this process knows all of it already; None where it does not."""
    keys = {path: _key(root / path) for path in paths}
    return {path: _known[key] for path, key in keys.items()} if all(key in _known for key in keys.values()) else None


def over_cores(work: Callable[[Item], Outcome], items: Collection[Item], label: str) -> Iterator[Outcome]:
    """``work`` on every item, in threads (decoding releases Python's lock), with a progress bar if it takes long.

    Outcomes come in the order of ``items`` while the work goes on; few are held at a time.

    Args:
        work: what is done with an item; in a thread.
        items: what there is to do.
        label: of the progress bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(label, total=len(items))
    begin = time.monotonic()
    cores = os.cpu_count() or 1
    threads = Threads(work)
    in_work: deque[Future[Outcome]] = deque()
    try:
        for item in items:
            in_work.append(threads.submit(item))
            if len(in_work) < 4 * cores:
                continue
            yield in_work.popleft().result()
            progress.advance(task)
            if time.monotonic() - begin > PATIENCE_SECONDS:
                progress.start()
        while in_work:
            yield in_work.popleft().result()
            progress.advance(task)
    finally:
        for future in in_work:
            future.cancel()
        threads.close()
        progress.stop()


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


def _key(path: Path) -> Key:
    try:
        stat = path.stat()
    except OSError:  # a link that leads nowhere; inspecting it says so
        return str(path.absolute()), -1, 0
    return str(path.absolute()), stat.st_size, stat.st_mtime_ns


def _inspect(path: Path) -> Inspection:
    try:
        info = inspect(path)  # first: it opens nothing but regular files
        return Inspection(content_digest(path), info)
    except BrokenVideoError as error:
        return Inspection("", None, str(error))
    except OSError as error:
        return Inspection("", None, f"unreadable ({error.strerror})")


def _cache_file(cache: Path, root: Path) -> Path:
    # Not the folder's name, which may be as long as a name can be.
    place = str(root.absolute()).encode(errors="surrogateescape")
    return cache / f"clips-{hashlib.sha256(place).hexdigest()[:16]}.json"


def _header() -> dict[str, object]:
    import av

    # Another decoder may count other frames.
    return {"format": 3, "libraries": {name: list(version) for name, version in av.library_versions.items()}}


def _read(file: Path) -> dict[Key, Inspection]:
    try:
        document = json.loads(file.read_text())
        if document["header"] != _header():
            return {}
        return {
            (path, size, changed): Inspection(digest, VideoInfo(**info))
            for path, size, changed, digest, info in document["clips"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # nothing known yet, or spoilt: every clip is decoded again, and writing complains


def _write(file: Path, inspections: dict[Key, Inspection]) -> None:
    clips = [[*key, seen.digest, asdict(seen.info)] for key, seen in inspections.items() if seen.info is not None]
    try:
        write_file(file, json.dumps({"header": _header(), "clips": clips}))
    except OSError as error:
        raise UserError(f"cannot write {str(file)!r}: {error.strerror}; choose another --out") from error
