"""Clips read when they are asked for, by threads of the process that asks: those that nobody knew of before."""

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeVar

from tadaconv.data import prefetch

T = TypeVar("T")
A = TypeVar("A")

Jobs = SimpleQueue[tuple[Future[T], A] | None]
"""What threads are to read; None ends one."""


class ReadingThreads(Generic[A, T]):
    """Threads, one a core, that call ``read``. Nobody waits for one whose disk does not answer, nor does the process.

    They end when they are closed or let go, as soon as each has done with what it reads.
    """

    def __init__(self, read: Callable[[A], T], path: Callable[[A], Path]) -> None:
        """``path`` names the file that ``read`` reads."""
        self._path = path
        self._jobs: Jobs[T, A] = SimpleQueue()
        self._threads = [
            threading.Thread(target=_work, args=(self._jobs, read), daemon=True) for _ in range(os.cpu_count() or 1)
        ]
        for thread in self._threads:
            thread.start()
        self.close = weakref.finalize(self, _end, self._jobs, len(self._threads))

    def __call__(self, wanted: Sequence[A]) -> list[T]:
        """What ``read`` gives of each of ``wanted``, or what it raises.

        One that takes long is reported and given up as :class:`.prefetch.Readers` do.
        """
        futures: list[Future[T]] = [Future() for _ in wanted]
        for job in zip(futures, wanted, strict=True):
            self._jobs.put(job)
        try:
            return [self._result(future, self._path(one)) for future, one in zip(futures, wanted, strict=True)]
        finally:
            for future in futures:
                future.cancel()  # those that no thread has begun, where one before has failed

    def _result(self, future: Future[T], path: Path) -> T:
        """Of the first that is not there: all before are, so that a thread is at it."""
        begun = time.monotonic()
        if not wait([future], prefetch.SILENT_SECONDS).done:
            prefetch.warn_of_silence(path, time.monotonic() - begun)
            if not wait([future], prefetch.PATIENCE_SECONDS - prefetch.SILENT_SECONDS).done:
                raise prefetch.given_up(path, time.monotonic() - begun)
        return future.result()


def _work(jobs: Jobs[T, A], read: Callable[[A], T]) -> None:
    while (job := jobs.get()) is not None:
        future, one = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(read(one))
            except BaseException as error:
                future.set_exception(error)
        del job, future  # else the frames would stay until the next job


def _end(jobs: Jobs[T, A], num_threads: int) -> None:
    for _ in range(num_threads):
        jobs.put(None)
