"""Threads that read clips. Neither closing them nor the end of the process waits for a disk that does not answer."""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeVar

from tadaconv.errors import RunError

SILENT_SECONDS = 10.0
"""After which a warning names a clip that takes long."""

PATIENCE_SECONDS = 300.0
"""After which a clip that is still not read ends the attempt."""

CLOSING_SECONDS = 2.0
"""How long closing waits for what is being read, which few clips take longer than, unless their disk is away."""

SHOWN_SECONDS = 2.0
"""After which work on many items shows a progress bar."""

T = TypeVar("T")
A = TypeVar("A")

Jobs = SimpleQueue[tuple[Future[T], A] | None]
"""What threads are to work on; None ends one."""

_log = logging.getLogger("tadaconv")


class Threads(Generic[A, T]):
    """Threads, one a core, that do ``work`` on what they are given, in its order.

    They end when they are closed or let go, as soon as each has done with what it is at.
    """

    def __init__(self, work: Callable[[A], T]) -> None:
        self._jobs: Jobs[T, A] = SimpleQueue()
        self._threads = [
            threading.Thread(target=_work, args=(self._jobs, work), daemon=True) for _ in range(os.cpu_count() or 1)
        ]
        for thread in self._threads:
            thread.start()
        self._end = weakref.finalize(self, _end, self._jobs, len(self._threads))

    def submit(self, one: A) -> Future[T]:
        """Have ``one`` worked on; it may be cancelled until a thread is at it."""
        future: Future[T] = Future()
        self._jobs.put((future, one))
        return future

    def close(self) -> None:
        """End the threads; waits a moment for what they are at."""
        self._end()
        deadline = time.monotonic() + CLOSING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def over_cores(work: Callable[[A], T], items: Collection[A], label: str) -> Iterator[T]:
    """``work`` on every item, in threads (decoding releases Python's lock), with a progress bar if it takes long.

    Outcomes come in the order of ``items`` while the work continues; few are held at a time.

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
    in_work: deque[Future[T]] = deque()
    try:
        for item in items:
            in_work.append(threads.submit(item))
            if len(in_work) < 4 * cores:
                continue
            yield in_work.popleft().result()
            progress.advance(task)
            if time.monotonic() - begin > SHOWN_SECONDS:
                progress.start()
        while in_work:
            yield in_work.popleft().result()
            progress.advance(task)
    finally:
        for future in in_work:
            future.cancel()
        threads.close()
        progress.stop()


def warn_of_silence(path: Path, seconds: float) -> None:
    """Warn that a clip has not been read for so long."""
    _log.warning("%s has not been read after %.0f s; waiting for up to %.0f s", path, seconds, PATIENCE_SECONDS)


def given_up(path: Path, seconds: float) -> RunError:
    """What is raised when a clip is still not read."""
    return RunError(f"{path} has not been read after {seconds:.0f} s; is its disk mounted?")


def read_all(threads: Threads[A, T], wanted: Sequence[A], path: Callable[[A], Path]) -> list[T]:
    """What ``threads`` read of each of ``wanted``, or what that raises; ``path`` names the file it is read from.

    One that takes long is reported and given up as :class:`.prefetch.Readers` do.

    Args:
        threads: what reads.
        wanted: what is read.
        path: from what is wanted to the file it is read from.
    """
    futures = [threads.submit(one) for one in wanted]
    try:
        return [_result(future, path(one)) for future, one in zip(futures, wanted, strict=True)]
    finally:
        for future in futures:
            future.cancel()  # those that no thread has begun, where one before has failed


def _result(future: Future[T], path: Path) -> T:
    """Of the first that is not there: all before are, so that a thread is at it."""
    begun = time.monotonic()
    if not wait([future], SILENT_SECONDS).done:
        warn_of_silence(path, time.monotonic() - begun)
        if not wait([future], PATIENCE_SECONDS - SILENT_SECONDS).done:
            raise given_up(path, time.monotonic() - begun)
    return future.result()


def _work(jobs: Jobs[T, A], work: Callable[[A], T]) -> None:
    while (job := jobs.get()) is not None:
        future, one = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work(one))
            except BaseException as error:
                future.set_exception(error)
        del job, future  # else the frames would stay until the next job


def _end(jobs: Jobs[T, A], num_threads: int) -> None:
    for _ in range(num_threads):
        jobs.put(None)
