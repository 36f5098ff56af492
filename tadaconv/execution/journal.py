"""The storage in a journal file: Optuna's, locked by the kernel, so that a writer may be killed at any moment."""

import errno
import fcntl
import itertools
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState

from tadaconv.command import command
from tadaconv.errors import NoResultsError, StorageError, UserError
from tadaconv.execution.backend import Attempt, guarded

T = TypeVar("T")
_ENTRY_HEAD = b'{"op_code":'
_CREATE_STUDY, _DELETE_STUDY, _CREATE_TRIAL = 0, 1, 4
"""Operations, by their numbers in every journal of Optuna."""


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the kernel's exclusive lock on ``path``, which is released at once when its holder dies."""
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
    a last line without an entry: an operation that never happened. Readers skip it, and the next writer cuts it off.
    Such a line before an entry is damage: reading and writing raise. Optuna's own file backend appends to either, after
    which its journal cannot be read; and its locks are files that have to be removed: after a kill they block every
    process.

    The end of a trial is synced to the disk before the call returns; other writes, such as leases, may be lost in a
    power cut, as their workers are. Syncing happens outside the lock, so that concurrent writers share it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".write")
        self._num_read, self._offset = 0, 0
        self._writers: set[str] = set()
        self._in_replay: dict[str, Any] | None = None
        self._failure = ""
        self.replayed: deque[tuple[int, Any]] = deque()
        """Replayed operations that are not in the index yet, with the id of the trial, or the id of the study, or the
        name of a new study."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any]]:
        """The entries from a number on, counted from 0. Raises :class:`StorageError` for a damaged line."""
        self.require_replayed()
        if log_number_from < self._num_read:
            self._num_read, self._offset = 0, 0
        try:
            if self._path.stat().st_size == self._offset:
                return
            with self._path.open("rb") as file:
                yield from self._handed_out(self._unread(file), log_number_from)
        except StorageError:
            # A torn line that is cut off while it is read looks like damage; if it still does under the lock, it is.
            # The lock is not held while entries are yielded: an error in the caller would keep it.
            with _locked(self._lock), self._path.open("rb") as file:
                entries = list(self._unread(file))
            yield from self._handed_out(entries, log_number_from)
        except OSError as error:
            raise StorageError(f"cannot read the storage {self._path}: {error.strerror}") from error

    def _handed_out(
        self, entries: Iterable[tuple[dict[str, Any], int]], log_number_from: int
    ) -> Generator[dict[str, Any]]:
        for entry, end in entries:
            # Updated before the entry is yielded: its replay may raise, and never ask for the next one.
            self._num_read, self._offset = self._num_read + 1, end
            if self._num_read > log_number_from:
                self._in_replay = entry
                yield entry
                self._in_replay = None
                subject = entry.get("trial_id", entry.get("study_id", entry.get("study_name")))
                self.replayed.append((entry["op_code"], subject))

    def require_replayed(self, failure: Exception | None = None) -> None:
        """Raise :class:`StorageError` if an entry that another process has written could not be replayed.

        Args:
            failure: the error of the replay. For an entry of this process it is Optuna's answer to its caller.
        """
        if self._in_replay is None or self._in_replay["worker_id"] in self._writers:
            return
        if failure is not None:
            self._failure = f" ({type(failure).__name__}: {failure}".rstrip(": ") + ")"
        raise _damaged(self._path, f"line {self._num_read} cannot be replayed{self._failure}") from failure

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries. Raises :class:`StorageError`, before anything is changed, for a journal that is damaged."""
        self.require_replayed()
        self._writers.update(log["worker_id"] for log in logs)
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with open(self._path, "ab+", opener=_existing) as file:
            with _locked(self._lock):
                end = self._offset
                for _, after in self._unread(file):
                    end = after
                if end < os.fstat(file.fileno()).st_size:
                    file.truncate(end)
                file.write(lines)
                file.flush()
            if any(TrialState(log.get("state", TrialState.WAITING)).is_finished() for log in logs):
                os.fsync(file.fileno())

    def _unread(self, file: BinaryIO) -> Generator[tuple[dict[str, Any], int]]:
        """The entries that were not read yet, with the offsets of their ends, up to the present end of the file."""
        size, end = os.fstat(file.fileno()).st_size, self._offset
        if size < end:
            raise _damaged(self._path, f"it ends before line {self._num_read}, which was read")
        file.seek(end)
        without: int | None = None
        for number, line in enumerate(file, self._num_read + 1):
            end += len(line)
            if end > size:  # it is being written at this moment
                return
            entry = _entry(line) if without is None else None
            if entry is not None:
                yield entry, end
            elif without is None:
                without = number
            elif line.strip():
                raise _damaged(self._path, f"line {without} is no entry, and other lines follow")


def _existing(path: str, flags: int) -> int:
    """Open an existing file: a journal that was removed is not created again by a writer."""
    return os.open(path, flags & ~os.O_CREAT)


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry that a line holds; None for a line without a whole one."""
    try:
        tree = json.loads(line.decode()) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) and {"op_code", "worker_id"} <= tree.keys() else None


def _damaged(path: Path, why: str) -> StorageError:
    return StorageError(f"the journal {path} is damaged: {why}; restore it or name another with --storage")


class JournalBackend:
    """A journal file; see :class:`tadaconv.execution.backend.Backend`.

    Optuna replays the journal, and its public reads of many trials go through all of them. So an index of the replayed
    trials is kept, and a read costs time only for what has changed since the last one. An attempt in the index is
    replaced when it changes, never modified.

    Every method raises :class:`StorageError` for a journal that cannot be read or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown = str(path)
        self._file = _File(path)
        self._optuna: JournalStorage = self._guard(lambda: JournalStorage(self._file))
        self.storage = guarded(self._optuna, self._guard)
        self._lock = threading.Lock()
        self._studies: dict[str, int] = {}
        self._num_trials: dict[int, int] = {}
        self._changed: dict[int, int] = {}
        self._attempts: dict[int, Attempt] = {}
        self._by_key: dict[str, list[int]] = {}
        self._waiting: dict[int, dict[int, str]] = {}
        self._running: set[int] = set()

    def _guard(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (OptunaError, StorageError):
            raise
        except OSError as error:
            raise StorageError(f"cannot write to the storage {self.shown}: {error.strerror}") from error
        except Exception as error:
            self._file.require_replayed(error)
            raise

    @contextmanager
    def alone(self) -> Generator[None]:
        """Hold the lock on the file ``<journal>.plan``."""
        lock = _locked(self.path.with_name(self.path.name + ".plan"))
        with ExitStack() as held:
            self._guard(lambda: held.enter_context(lock))
            yield

    def studies(self) -> dict[str, int]:
        """The id of every study by its name, oldest first."""
        with self._up_to_date():
            return dict(sorted(self._studies.items(), key=itemgetter(1)))

    def study_attrs(self, study_id: int) -> Mapping[str, Any]:
        """The user attributes of a study. Raises KeyError for one that is not there."""
        return self.storage.get_study_user_attrs(study_id)

    def waiting(
        self, study_ids: Sequence[int], wanted: Collection[str] | None, limit: int
    ) -> list[tuple[int, int, str]]:
        """Waiting attempts, oldest first."""
        with self._up_to_date() as there:
            first: list[tuple[int, int, str]] = []
            for study_id in there.intersection(study_ids):
                queue = self._waiting.get(study_id, {}).items()
                chosen = ((id, study_id, key) for id, key in queue if wanted is None or key in wanted)
                first += itertools.islice(chosen, limit)
            return sorted(first)[:limit]

    def running(self) -> list[Attempt]:
        """Every running attempt."""
        with self._up_to_date() as there:
            rows = [self._attempts[id] for id in sorted(self._running)]
            return [row for row in rows if row.study_id in there]

    def attempts(self, keys: Collection[str] | None = None, study_ids: Sequence[int] | None = None) -> list[Attempt]:
        """Every attempt, oldest first."""
        with self._up_to_date() as there:
            studies = there if study_ids is None else there.intersection(study_ids)
            wanted = self._by_key if keys is None else set(keys)
            ids = sorted(id for key in wanted for id in self._by_key.get(key, []))
            return [row for id in ids if (row := self._attempts[id]).study_id in studies]

    def states(self, keys: Collection[str]) -> dict[str, list[TrialState]]:
        """The states of all attempts at ``keys``, oldest first."""
        with self._up_to_date() as there:
            states: dict[str, list[TrialState]] = {}
            for key in set(keys):
                rows = [self._attempts[id] for id in self._by_key.get(key, [])]
                if of_key := [row.state for row in rows if row.study_id in there]:
                    states[key] = of_key
            return states

    def attempt(self, trial_id: int) -> Attempt:
        """One attempt. Raises KeyError for one that is not there."""
        with self._up_to_date():
            return self._attempts[trial_id]

    @contextmanager
    def _up_to_date(self) -> Generator[set[int]]:
        """Hold the index, updated to the present journal; yields the ids of the existing studies."""
        with self._lock:
            self._guard(self._take_in)
            yield set(self._studies.values())

    def _take_in(self) -> None:
        """Replay new entries, and update the index."""
        try:
            self._optuna.get_trial(-1)
        except KeyError as error:  # expected, unless an entry cannot be replayed
            self._file.require_replayed(error)
        while self._file.replayed or self._changed:
            self._note_changes()
            for trial_id, study_id in [*self._changed.items()]:
                self._renew(trial_id, study_id)
                del self._changed[trial_id]

    def _note_changes(self) -> None:
        while self._file.replayed:
            operation, subject = self._file.replayed[0]  # stays until it is processed: reading may fail
            if operation == _CREATE_STUDY:
                with suppress(KeyError):  # it was deleted
                    self._studies[subject] = self._optuna.get_study_id_from_name(subject)
            elif operation == _DELETE_STUDY:
                self._studies = {name: id for name, id in self._studies.items() if id != subject}
            elif operation == _CREATE_TRIAL:
                with suppress(KeyError):  # its study had been deleted
                    self._changed[self._next_trial(subject)] = subject
            elif subject in self._attempts:
                self._changed[subject] = self._attempts[subject].study_id
            self._file.replayed.popleft()

    def _next_trial(self, study_id: int) -> int:
        number = self._num_trials.get(study_id, 0)
        trial_id = self._optuna.get_trial_id_from_study_id_trial_number(study_id, number)
        self._num_trials[study_id] = number + 1
        return trial_id

    def _renew(self, trial_id: int, study_id: int) -> None:
        trial = self._optuna.get_trial(trial_id)
        if "cell" not in trial.user_attrs:  # an attempt has its cell from the start; this is another program's trial
            return
        row = Attempt(
            trial_id=trial_id,
            study_id=study_id,
            number=trial.number,
            state=trial.state,
            attrs=trial.user_attrs,
            value=trial.values[0] if trial.values else None,
            params=trial.params,
            started=trial.datetime_start,
            ended=trial.datetime_complete,
        )
        if trial_id not in self._attempts:
            self._by_key.setdefault(row.key, []).append(trial_id)
        self._attempts[trial_id] = row
        queue = self._waiting.setdefault(study_id, {})
        queue.pop(trial_id, None)
        self._running.discard(trial_id)
        if row.state == TrialState.WAITING:
            queue[trial_id] = row.key
        elif row.state == TrialState.RUNNING:
            self._running.add(trial_id)


def _require_journal(path: Path) -> None:
    """Raise :class:`UserError` unless the file starts with a journal entry, whole or torn."""
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    ours = not line.endswith(b"\n") or _entry(line) is not None
    if not ours or line[: len(_ENTRY_HEAD)] != _ENTRY_HEAD[: len(line)]:
        raise UserError(f"{path} is not an Optuna journal; name another file with --storage")


def open_journal(path: Path, *, create: bool) -> JournalBackend:
    """The journal at ``path``; with ``create``, an empty one if it does not exist.

    Raises :class:`UserError` for a file of another program (left untouched), a damaged journal, a folder that cannot be
    written to, and, without ``create``, for a file that does not exist.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise UserError(f"storage {str(path)!r} is {kind}; give the path of a journal file, e.g. runs/journal.log")
    if not create and not path.is_file():
        raise NoResultsError(str(path), command("ablate", "TABLE", storage=path))
    # Optuna logs every study it creates; its warnings are still shown.
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
