"""Optuna's journal file, opened so that a worker killed while it writes loses nothing."""

import json
import os
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from tadaconv.errors import UserError

GRACE_SECONDS = 5
"""How long the lock file of a killed writer stands in the way; a live writer holds it for milliseconds."""

_ENTRY_HEAD = b'{"op_code":'


class _MendingLock(JournalFileOpenLock):
    """Whoever holds the lock finds whole lines only.

    A writer killed in the middle of a line leaves a torn one. Optuna's reader skips it, as an operation that never
    happened, but the next line would be appended to it, and both would be lost with everything after them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=GRACE_SECONDS)
        self._journal = path

    def acquire(self) -> bool:
        held = super().acquire()
        try:
            _cut_torn_line(self._journal)
        except BaseException:
            self.release()
            raise
        return held


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep, block = end, b""
        while keep > 0:
            start = max(0, keep - 65536)
            file.seek(start)
            block = file.read(keep - start)
            newline = block.rfind(b"\n")
            keep = start + newline + 1
            if newline >= 0:
                break
        if keep < end:
            file.truncate(keep)


def _require_journal(path: Path) -> None:
    """Raise :class:`UserError` if the file starts with anything but a journal entry, whole or torn."""
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
        ours = entry is None or (isinstance(entry, dict) and {"op_code", "worker_id"} <= entry.keys())
    except ValueError:
        ours = False
    if not ours or line[: len(_ENTRY_HEAD)] != _ENTRY_HEAD[: len(line)]:
        raise UserError(f"{path} is not an Optuna journal; name another file with --storage")


def open_journal(location: str, *, create: bool) -> JournalStorage:
    """The journal at the path ``location``; with ``create``, an empty one where there is none.

    Raises :class:`UserError` for a URL, a file of another program (left untouched), a damaged journal, a folder that
    cannot be written to, and, without ``create``, for a file that does not exist.
    """
    if "://" in location:
        raise UserError(
            f"storage {location!r} is not supported; give the path of a journal file, e.g. runs/journal.log"
        )
    path = Path(location)
    if path.is_dir():
        raise UserError(
            f"storage {location!r} is a folder; give the path of a journal file, e.g. {path / 'journal.log'}"
        )
    if not create and not path.is_file():
        raise UserError(f"no results at {location}; run 'tada ablate' first, or name their file with --storage")
    # Optuna tells of every study it creates; warnings, such as a lock that is waited for, still come through.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        _require_journal(path)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_MendingLock(path)))
    except OSError as error:
        raise UserError(f"cannot open the storage {location}: {error.strerror}; name another with --storage") from error
    except (json.JSONDecodeError, KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"the journal {location} is damaged: {error}; restore it or name another with --storage"
        ) from error
