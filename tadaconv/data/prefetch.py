"""Clips read ahead of the training that asks for them, by separate processes, into memory that is shared.

What will be asked for is known: it follows from the seed, the epoch and the clips' indices. A :class:`Readers` has two
lanes, one for training and one for evaluation, which goes first; each is given what comes next and asked for it in that
order, and whatever else is asked for is read where it is asked for. So how many processes read, and how
far ahead, shows in no clip.

The memory is a file without a name (``memfd``): the size of ``/dev/shm`` does not limit it, and nothing of it is left
when its processes are gone, by whatever they end. The processes are started as programs, not by ``multiprocessing``:
a worker may be a process that must not have children of that kind, and a script need not guard its main module.
"""

import mmap
import os
import pickle
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

import numpy as np

from tadaconv import child
from tadaconv.data import threads
from tadaconv.data.decode import Frames, Read
from tadaconv.data.memory import alone, cpu_quota, free_bytes
from tadaconv.data.reader import Answer, Job
from tadaconv.data.sampling import Indices
from tadaconv.errors import RunError, UserError

DEPTH = 3
"""Batches of a lane that are read or being read, the one in use among them; more clips where readers are many.

A batch is that of a step, however it is cut: training waits for a clip that takes long only once all before it are
used up.
"""

MEMORY_SHARE = 1 / 4
"""Of the free memory, which frames that are read ahead take at most, unless they are fewer than ``DEPTH`` times what is
asked for at once."""

_JOBS_EACH = 2
"""A reader has its next clip before it has done with one, so that it need not wait for this process."""

_ALIGNMENT = 64

Wanted = tuple[int, Indices]
"""A clip's place and the indices of its frames."""

Capacity = Callable[[int], tuple[int, int]]
"""How many bytes each of the two lanes is to have for so many clips ahead; 0 leaves one as it is."""

_num_readers: int | None = None


def set_num_readers(number: int | None) -> None:
    """Have this process read clips by ``number`` processes; 0 reads in threads, None by as many as it has cores."""
    global _num_readers
    _num_readers = number


def num_readers() -> int:
    """How many processes read clips that are not kept in memory; see :func:`set_num_readers`."""
    return num_cores() if _num_readers is None else _num_readers


def num_cores() -> int:
    """How many cores this process may use, by its affinity and by the quota of its container or job."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, cpu_quota())))


def clips_ahead(batch_size: int) -> int:
    """Clips of a lane that are read or being read: a few batches of such a size, and enough for all readers."""
    return max(DEPTH * batch_size, _JOBS_EACH * num_readers())


@dataclass
class _Ahead:
    """A clip that is wanted later: waiting, being read, or read."""

    wanted: Wanted
    offset: int
    num_bytes: int
    end: int
    """Where in the course of the lane's memory its part ends; the memory before is free when it is given back."""
    size: tuple[int, int] = (0, 0)
    is_read: bool = False


class _Lane:
    """The clips of one purpose, in the order in which they are asked for, and the ring of memory that they are in.

    What the thread that hears the readers may touch is guarded by the lock of :class:`Readers`.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.file = _nameless_file()
        self.capacity = 0
        self.num_in_work = 0
        self.waiting: deque[_Ahead] = deque()
        self.ahead: deque[_Ahead] = deque()
        self.coming: Iterator[Wanted] = iter(())
        self.next: Wanted | None = None
        self.max_ahead = 0
        self._head = self._tail = 0
        self._mapped: mmap.mmap | None = None

    def grow(self, capacity: int) -> None:
        """Give the lane so much memory, all of it there from now on. It must have nothing ahead or in work."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self.file, 0, capacity)  # else a full disk, or memory, is a signal
        else:
            os.ftruncate(self.file, capacity)
        self._mapped = mmap.mmap(self.file, capacity)
        self.capacity = capacity

    def place(self, wanted: Wanted, num_bytes: int) -> _Ahead | None:
        """A clip with a part of the memory; None where too little is free."""
        if not self.ahead:
            self._head = self._tail = 0
        offset = self._head % self.capacity
        skipped = self.capacity - offset if offset + num_bytes > self.capacity else 0
        end = self._head + skipped + -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
        if end - self._tail > self.capacity:
            return None
        self._head = end
        return _Ahead(wanted, 0 if skipped else offset, num_bytes, end)

    def frames(self, clip: _Ahead) -> Frames:
        """The frames of a clip that has been read, as they are in the memory."""
        assert self._mapped is not None
        flat = np.frombuffer(self._mapped, np.uint8, clip.num_bytes, clip.offset)
        return flat.reshape(-1, *clip.size, 3)

    def give_back(self, clip: _Ahead) -> None:
        """Free the memory of the clip that was ahead of all others."""
        self._tail = clip.end


@dataclass
class _Reader:
    process: "subprocess.Popen[bytes]"
    connection: Connection
    jobs: "dict[int, tuple[_Lane, _Ahead]]" = field(default_factory=dict)
    """By number, the first being the one that is read."""
    since: float = 0.0
    """When the first of its jobs was begun."""
    is_reported: bool = False


class GivenUpError(Exception):
    """Frames that are waited for are no longer wanted."""


class Readers:
    """Processes that read clips ahead; none is started before there is something to read.

    Args:
        opening: makes in a reader what reads clips there; it is pickled.
        short_side: of the frames, in pixels.
        num_bytes: bytes of the frames of a clip, by what is wanted of it.
        path: of the medium of a clip, by its place.

    Whoever makes one closes it.
    """

    def __init__(
        self,
        opening: Callable[[], Read],
        short_side: int,
        num_bytes: Callable[[Wanted], int],
        path: Callable[[int], Path],
    ) -> None:
        self._opening, self._short_side, self._num_bytes, self._path = opening, short_side, num_bytes, path
        self._lanes: tuple[_Lane, ...] = ()
        self._readers: list[_Reader] = []
        self._changed = threading.Condition()
        self._error: RunError | UserError | None = None
        self._number = 0
        self._closing = False
        self._thread: threading.Thread | None = None

    def expect(
        self, lane_number: int, batches: Iterable[Sequence[Wanted]], capacity: Capacity, batch_size: int = 0
    ) -> None:
        """Read ahead for lane 0 or 1 from now on what ``batches`` want, in their order, and no clips asked for earlier.

        Args:
            lane_number: which lane.
            batches: what is asked for at once.
            capacity: gives how many bytes each lane is to have for so many clips of this one ahead.
            batch_size: clips of a batch that ``batches`` are parts of; 0 where they are whole.

        Raises :class:`UserError` where the memory is not free, for both lanes, and :class:`RunError` where it cannot be
        had all the same, or the readers have failed.
        """
        upcoming = iter(batches)
        first = next(upcoming, None)
        if not first:
            return
        if not self._readers:
            self._start(num_readers())
        lane = self._lanes[lane_number]
        with self._changed:
            lane.coming, lane.next = iter(()), None
            lane.waiting.clear()
            self._wait_until(lambda: not lane.num_in_work)
            lane.ahead.clear()
        lane.max_ahead = self._take_memory(capacity, clips_ahead(len(first)), clips_ahead(max(batch_size, len(first))))
        lane.coming = chain(first, chain.from_iterable(upcoming))
        self._fill(lane)

    def _take_memory(self, capacity: Capacity, least: int, most: int) -> int:
        """Give the lanes the memory for as many clips ahead as there is room for; returns how many these are."""
        idle = [number for number, lane in enumerate(self._lanes) if not lane.ahead]

        def growth(num_clips: int) -> dict[int, int]:
            """Bytes that lanes lack, by their number."""
            wanted = capacity(num_clips)
            lacking = {number: _whole_pages(wanted[number]) - self._lanes[number].capacity for number in idle}
            return {number: num_bytes for number, num_bytes in lacking.items() if num_bytes > 0}

        with alone():  # else several workers would each find the same memory free
            free, num_clips = free_bytes(), most
            while num_clips > least and sum(growth(num_clips).values()) > MEMORY_SHARE * free:
                num_clips = max(least, num_clips - max(1, num_clips // 16))
            lacking = growth(num_clips)
            require_memory(sum(lacking.values()), free)
            for number, num_bytes in lacking.items():
                lane = self._lanes[number]
                try:
                    lane.grow(lane.capacity + num_bytes)
                except (OSError, ValueError) as error:
                    raise RunError(
                        f"no memory for the {_gib(lane.capacity + num_bytes)} of frames that are read ahead ({error}); "
                        "give --readers 0, smaller batches or frames"
                    ) from error
        return num_clips

    def take(
        self, lane_number: int, wanted: Sequence[Wanted], is_given_up: Callable[[], bool] = lambda: False
    ) -> Generator[Frames] | None:
        """The frames of clips, (T, H, W, 3) each, as they come; None if they are not those that lane has next.

        The frames of a clip are gone as soon as the next is asked for. Raises :class:`GivenUpError` where
        ``is_given_up`` comes to be true while they are waited for.

        Args:
            lane_number: which lane.
            wanted: the clips and frames that are asked for.
            is_given_up: whether the frames are no longer wanted.
        """
        lane = self._lanes[lane_number] if self._lanes else None
        if lane is None or not lane.ahead or not all(map(same_frames, (clip.wanted for clip in lane.ahead), wanted)):
            return None
        return self._frames(lane, wanted, is_given_up)

    def give_up(self) -> None:
        """Have whoever waits for frames check whether they are still wanted."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the processes, whatever they are doing, and give the memory back."""
        with self._changed:
            self._closing = True
        for reader in self._readers:
            reader.process.kill()
        for reader in self._readers:
            with suppress(subprocess.TimeoutExpired):  # the kernel waits for a disk on its behalf
                reader.process.wait(1.0)
            assert reader.process.stdin is not None
            reader.process.stdin.close()
        if self._thread is not None:
            self._wake()
            self._thread.join()
            self._ours.close()
            self._theirs.close()
        for reader in self._readers:
            reader.connection.close()
        for lane in self._lanes:
            os.close(lane.file)
        self._readers, self._lanes, self._thread = [], (), None

    @property
    def process_ids(self) -> list[int]:
        """Of the readers."""
        return [reader.process.pid for reader in self._readers]

    def _start(self, number: int) -> None:
        self._error, self._closing = None, False
        self._lanes = tuple(_Lane(lane) for lane in range(2))
        about = pickle.dumps((self._opening, self._short_side))
        for _ in range(number):
            ours, theirs = Pipe()
            memories = tuple(lane.file for lane in self._lanes)
            process = child.start(
                "tadaconv.data.reader:main",
                (theirs.fileno(), memories),
                (theirs.fileno(), *memories),
                {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            theirs.close()
            self._readers.append(_Reader(process, ours))
            with suppress(OSError):  # it died at once, which is heard as its end
                ours.send_bytes(about)
        self._ours, self._theirs = Pipe(duplex=False)
        self._thread = threading.Thread(target=self._serve, name="readers", daemon=True)
        self._thread.start()

    def _frames(self, lane: _Lane, wanted: Sequence[Wanted], is_given_up: Callable[[], bool]) -> Generator[Frames]:
        for one in wanted:
            clip = lane.ahead[0]
            assert same_frames(clip.wanted, one), "clips are asked for in the order that was given"
            with self._changed:
                self._wait_until(lambda: lane.ahead[0].is_read or is_given_up())
            if not clip.is_read:
                raise GivenUpError
            yield lane.frames(clip)
            lane.ahead.popleft()
            lane.give_back(clip)
            self._fill(lane)

    def _fill(self, lane: _Lane) -> None:
        """Have read what comes next, as much as may be ahead and there is memory for."""
        begun = False
        while len(lane.ahead) < lane.max_ahead:
            lane.next = next(lane.coming, None) if lane.next is None else lane.next
            clip = None if lane.next is None else lane.place(lane.next, self._num_bytes(lane.next))
            if clip is None:
                break
            lane.next = None
            lane.ahead.append(clip)
            with self._changed:
                lane.waiting.append(clip)
            begun = True
        if begun:
            self._wake()

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            if self._error is not None:
                raise self._error
            self._changed.wait(1.0)

    def _wake(self) -> None:
        self._theirs.send_bytes(b".")

    def _serve(self) -> None:
        """Hand out jobs and hear of them, in a thread, until closed or something failed."""
        by_connection = {reader.connection: reader for reader in self._readers}
        while True:
            for ready in wait([*by_connection, self._ours], min(1.0, threads.SILENT_SECONDS)):
                if ready is self._ours:
                    self._ours.recv_bytes()
                    continue
                assert isinstance(ready, Connection)
                self._hear(by_connection[ready])
            with self._changed:
                if self._closing or self._error is not None:
                    self._changed.notify_all()
                    return
                self._check_silent()
                self._hand_out()
                self._changed.notify_all()

    def _hear(self, reader: _Reader) -> None:
        try:
            answer = Answer(*reader.connection.recv())
        except (EOFError, OSError):
            at_work = f" while it read {self._clips_of(reader)}" if reader.jobs else ""
            self._fail(RunError(f"a process that reads clips {_ending(reader.process)}{at_work}"))
            return
        with self._changed:
            lane, clip = reader.jobs.pop(answer.number)
            reader.since, reader.is_reported = time.monotonic(), False
            lane.num_in_work -= 1
            clip.size, clip.is_read = answer.size, not (answer.broken or answer.refused or answer.failure)
        path = self._path(clip.wanted[0])
        if answer.refused:
            self._fail(UserError(answer.refused))
        elif answer.broken:
            self._fail(no_longer_intact(path, answer.broken))
        elif answer.failure:
            first, _, trace = answer.failure.partition("\n")
            error = RunError(f"{path} cannot be read: {first}")
            error.add_note(trace)
            self._fail(error)

    def _fail(self, error: RunError | UserError) -> None:
        with self._changed:
            if self._error is None and not self._closing:
                self._error = error

    def _hand_out(self) -> None:
        for free in range(_JOBS_EACH):
            for reader in self._readers:
                lane = next((lane for lane in reversed(self._lanes) if lane.waiting), None)
                if lane is None:
                    return
                if len(reader.jobs) > free:
                    continue
                clip = lane.waiting.popleft()
                place, frames = clip.wanted
                self._number += 1
                if not reader.jobs:
                    reader.since, reader.is_reported = time.monotonic(), False
                reader.jobs[self._number] = (lane, clip)
                lane.num_in_work += 1
                job = Job(
                    self._number, lane.number, lane.capacity, clip.offset, clip.num_bytes, place, frames.tolist()
                )  # fmt: skip
                with suppress(OSError):  # it has died, which is heard next
                    reader.connection.send(tuple(job))

    def _check_silent(self) -> None:
        for reader in self._readers:
            seconds = time.monotonic() - reader.since
            if not reader.jobs:
                continue
            if seconds >= threads.PATIENCE_SECONDS:
                self._fail(threads.given_up(self._first_of(reader), seconds))
            elif seconds >= threads.SILENT_SECONDS and not reader.is_reported:
                reader.is_reported = True
                threads.warn_of_silence(self._first_of(reader), seconds)

    def _first_of(self, reader: _Reader) -> Path:
        _, clip = next(iter(reader.jobs.values()))
        return self._path(clip.wanted[0])

    def _clips_of(self, reader: _Reader) -> str:
        return " and ".join(str(self._path(clip.wanted[0])) for _, clip in reader.jobs.values())


def no_longer_intact(path: Path, reason: object) -> RunError:
    """What is raised when the medium of a clip cannot be read, though it could when it was checked."""
    return RunError(
        f"{path} was intact when checked and no longer is: {reason}; put an intact copy in its place, and see whether "
        "more is broken with: tada data check"
    )


def require_memory(num_bytes: int, free: int) -> None:
    """Raise :class:`UserError` unless ``num_bytes`` of memory are ``free`` for clips that are read ahead."""
    if num_bytes > free:
        raise UserError(
            f"clips read ahead take {_gib(num_bytes)} of memory, and {_gib(free)} are free; give --readers 0 or fewer "
            "--workers, set smaller batches or a short_side in the regime, or give the container or job more memory"
        )


def _whole_pages(num_bytes: int) -> int:
    return -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"


def same_frames(one: Wanted, other: Wanted) -> bool:
    """Whether two are the same clip and the same frames."""
    return one[0] == other[0] and np.array_equal(one[1], other[1])


def _ending(process: "subprocess.Popen[bytes]") -> str:
    with suppress(subprocess.TimeoutExpired):
        code = process.wait(1.0)
        return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return "fell silent"


def _nameless_file() -> int:
    """An open file that is memory, where the system has such, and has no name anywhere."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tadaconv-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
