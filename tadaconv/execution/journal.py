"""The storage in a journal file: Optuna's, locked by the kernel, so that a writer killed at any moment harms nobody."""

import errno
import fcntl
import json
import os
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from tadaconv.command import command
from tadaconv.errors import NoResultsError, StorageError, UserError
from tadaconv.execution.backend import TrialRow

_ENTRY_HEAD = b'{"op_code":'


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the kernel's exclusive lock on ``path``, which the death of its holder releases at once."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            raise UserError(
                f"the file system of {path.parent} has no locks, so a journal there would be torn; name a folder on "
                "another one with --out, or a PostgreSQL server with --storage"
            ) from error
        yield


class _File(BaseJournalBackend):
    """A journal file in Optuna's format, in which one process writes at a time, and after whole entries only.

    An entry is a line. A writer killed in the middle of one leaves a torn last line, and a disk or an editor may leave
    another that holds no entry: an operation that never happened. It is read over, and cut before the next entry is
    written. Such a line before an entry is damage, which nobody reads over and nobody writes behind. Optuna's own file
    writes behind either, and then cannot read what follows; and its locks are files whose removal releases them: after
    a kill they stand in everybody's way.

    What ends a trial is on the disk before anybody is told; what tells of a worker, which a power cut ends as well, may
    follow later. The disk is waited for outside the lock, by all who write at once together.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".write")
        self._num_read, self._offset = 0, 0
        self.worker_id: str | None = None
        """Who wrote the entry that was read last."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any]]:
        """The entries from a number on, counted from 0. Raises :class:`StorageError` for a damaged line."""
        if log_number_from < self._num_read:
            self._num_read, self._offset = 0, 0
        try:
            with self._path.open("rb") as file:
                yield from self._handed_out(self._unread(file), log_number_from)
        except StorageError:
            # A dead writer's line that is cut while it is read looks like damage. What still does when nobody writes
            # is. The lock is not held while entries are handed out: whoever raises for one would keep it.
            with _locked(self._lock), self._path.open("rb") as file:
                entries = list(self._unread(file))
            yield from self._handed_out(entries, log_number_from)

    def _handed_out(
        self, entries: Iterable[tuple[dict[str, Any], int]], log_number_from: int
    ) -> Generator[dict[str, Any]]:
        for entry, end in entries:
            # Kept before the entry is handed out: whoever applies it may not come back for the next.
            self._num_read, self._offset, self.worker_id = self._num_read + 1, end, entry["worker_id"]
            if self._num_read > log_number_from:
                yield entry

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries. Raises :class:`StorageError`, before anything is changed, for a journal that is damaged."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self._path.open("rb+") as written, self._path.open("ab") as file:
            with _locked(self._lock):
                end = self._offset
                for _, after in self._unread(written):
                    end = after
                if end < os.fstat(written.fileno()).st_size:
                    written.truncate(end)
                file.write(lines)
                file.flush()
            if any(TrialState(log.get("state", TrialState.WAITING)).is_finished() for log in logs):
                os.fsync(file.fileno())

    def _unread(self, file: BinaryIO) -> Generator[tuple[dict[str, Any], int]]:
        """The entries that were not read yet, and the offset at which each ends, as far as the file reaches now."""
        size, end = os.fstat(file.fileno()).st_size, self._offset
        if size < end:
            raise _damaged(self._path, f"it ends before line {self._num_read}, which was read")
        file.seek(end)
        without: int | None = None
        for number, line in enumerate(file, self._num_read + 1):
            end += len(line)
            if end > size:  # somebody writes it at this moment
                return
            entry = _entry(line) if without is None else None
            if entry is not None:
                yield entry, end
            elif without is None:
                without = number
            elif line.strip():
                raise _damaged(self._path, f"line {without} is no entry, and other lines follow")


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry that a line holds; None for a line without a whole one."""
    try:
        tree = json.loads(line.decode()) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) and {"op_code", "worker_id"} <= tree.keys() else None


def _damaged(path: Path, why: str) -> StorageError:
    return StorageError(f"the journal {path} is damaged: {why}; restore it or name another with --storage")


class _Journal(JournalStorage):
    """Optuna's journal storage, which lets its trials be read without copying them all.

    The trials of a replayed journal are numbered from 0 in the order of their creation and replaced, never changed,
    when something happens to them; Optuna's public reads walk all of them for every question.

    Every method raises :class:`StorageError` for a journal that cannot be read or is damaged.
    """

    def __init__(self, file: _File, path: Path) -> None:
        self._file, self._path = file, path
        super().__init__(file)

    def _sync_with_backend(self) -> None:
        replayed = self._replay_result
        try:
            super()._sync_with_backend()
        except (OptunaError, StorageError):
            raise
        except OSError as error:
            raise StorageError(f"cannot read the storage {self._path}: {error.strerror}") from error
        except Exception as error:
            if self._file.worker_id == replayed.worker_id:  # Optuna's answer to what was just asked of it
                raise
            number, replayed.log_number_read = replayed.log_number_read, replayed.log_number_read - 1
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            raise _damaged(self._path, f"line {number} cannot be replayed ({what})") from error

    def trials(self) -> tuple[dict[int, FrozenTrial], dict[int, int], Collection[int]]:
        """The trials by id, the id of each one's study, and the ids of the studies there are."""
        with self._thread_lock:
            self._sync_with_backend()
            replayed = self._replay_result
            return replayed._trials, replayed._trial_id_to_study_id, replayed._studies.keys()

    def studies(self) -> dict[str, int]:
        with self._thread_lock:
            self._sync_with_backend()
            return {study.study_name: id for id, study in self._replay_result._studies.items()}

    def study_attrs(self, study_id: int) -> Mapping[str, Any]:
        with self._thread_lock:
            self._sync_with_backend()
            return self._replay_result.get_study(study_id).user_attrs


class JournalBackend:
    """A journal file; see :class:`tadaconv.execution.backend.Backend`.

    Keeps an index of what it has replayed, so that a worker's question costs what has changed since its last one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown = str(path)
        self._journal = _Journal(_File(path), path)
        self.storage: optuna.storages.BaseStorage = self._journal
        self._num_indexed = 0
        self._by_key: dict[str, list[int]] = {}
        self._waiting: dict[int, list[int]] = {}
        self._open: list[int] = []

    @contextmanager
    def alone(self) -> Generator[None]:
        """Hold the lock on the file ``<journal>.plan``."""
        with _locked(self.path.with_name(self.path.name + ".plan")):
            yield

    def studies(self) -> dict[str, int]:
        """The id of every study by its name, oldest first."""
        return self._journal.studies()

    def study_attrs(self, study_id: int) -> Mapping[str, Any]:
        """The user attributes of a study."""
        return self._journal.study_attrs(study_id)

    def waiting(
        self, study_ids: Sequence[int], wanted: Collection[str] | None, limit: int
    ) -> list[tuple[int, int, str]]:
        """Waiting attempts, oldest first."""
        trials, _, studies = self._fresh()
        found: list[tuple[int, int, str]] = []
        for study_id in study_ids:
            queue = self._waiting.get(study_id, [])
            if study_id not in studies or not queue:
                continue
            gone = 0
            for index, trial_id in enumerate(queue):
                trial = trials[trial_id]
                if trial.state != TrialState.WAITING:
                    gone += index == gone  # the head of the queue, which is where workers take from
                    continue
                key = trial.user_attrs["cell"]
                if wanted is None or key in wanted:
                    found.append((trial_id, study_id, key))
                    if len(found) >= limit:
                        break
            del queue[:gone]
        return sorted(found)[:limit]

    def running(self) -> list[TrialRow]:
        """Every running attempt."""
        trials, owners, studies = self._fresh()
        self._open = [id for id in self._open if not trials[id].state.is_finished()]
        return [
            _row(trials[id], owners[id])
            for id in self._open
            if trials[id].state == TrialState.RUNNING and owners[id] in studies
        ]

    def rows(self, keys: Collection[str] | None = None, study_ids: Sequence[int] | None = None) -> list[TrialRow]:
        """Every attempt, oldest first."""
        trials, owners, studies = self._fresh()
        wanted = self._by_key if keys is None else set(keys)
        ids = sorted(id for key in wanted for id in self._by_key.get(key, []))
        return [
            _row(trials[id], owners[id])
            for id in ids
            if owners[id] in studies and (study_ids is None or owners[id] in study_ids)
        ]

    def states(self, keys: Collection[str]) -> dict[str, list[TrialState]]:
        """The states of all attempts at ``keys``, oldest first."""
        trials, owners, studies = self._fresh()
        found = {
            key: [trials[id].state for id in self._by_key.get(key, []) if owners[id] in studies] for key in set(keys)
        }
        return {key: states for key, states in found.items() if states}

    def row(self, trial_id: int) -> TrialRow:
        """One attempt."""
        trials, owners, _ = self._fresh()
        return _row(trials[trial_id], owners[trial_id])

    def _fresh(self) -> tuple[dict[int, FrozenTrial], dict[int, int], Collection[int]]:
        trials, owners, studies = self._journal.trials()
        for trial_id in range(self._num_indexed, len(trials)):
            trial = trials[trial_id]
            # An attempt has its cell from the moment it is made; other trials are somebody else's.
            if "cell" in trial.user_attrs:
                self._by_key.setdefault(trial.user_attrs["cell"], []).append(trial_id)
                if not trial.state.is_finished():
                    self._open.append(trial_id)
                if trial.state == TrialState.WAITING:
                    self._waiting.setdefault(owners[trial_id], []).append(trial_id)
            self._num_indexed = trial_id + 1
        return trials, owners, studies


def _row(trial: FrozenTrial, study_id: int) -> TrialRow:
    return TrialRow(
        trial._trial_id,
        study_id,
        trial.number,
        trial.state,
        trial.user_attrs,
        trial.values[0] if trial.values else None,
        trial.params,
        trial.datetime_start,
        trial.datetime_complete,
    )


def _require_journal(path: Path) -> None:
    """Raise :class:`UserError` if the file starts with anything but a journal entry, whole or torn."""
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    ours = not line.endswith(b"\n") or _entry(line) is not None
    if not ours or line[: len(_ENTRY_HEAD)] != _ENTRY_HEAD[: len(line)]:
        raise UserError(f"{path} is not an Optuna journal; name another file with --storage")


def open_journal(path: Path, *, create: bool) -> JournalBackend:
    """The journal at ``path``; with ``create``, an empty one where there is none.

    Raises :class:`UserError` for a file of another program (left untouched), a damaged journal, a folder that cannot be
    written to, and, without ``create``, for a file that does not exist.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"storage {str(path)!r} is no file that could be kept; give the path of a journal file")
    if path.is_dir():
        raise UserError(
            f"storage {str(path)!r} is a folder; give the path of a journal file, e.g. {path / 'journal.log'}"
        )
    if not create and not path.is_file():
        raise NoResultsError(str(path), command("ablate", "TABLE", storage=path))
    # Optuna tells of every study it creates; warnings, such as a lock that is waited for, still come through.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        _require_journal(path)
        return JournalBackend(path)
    except OSError as error:
        raise UserError(f"cannot open the storage {path}: {error.strerror}; name another with --storage") from error
    except StorageError as error:
        raise UserError(str(error)) from error
