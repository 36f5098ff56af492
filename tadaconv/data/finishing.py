"""Clips made of the frames that were read ahead, by a thread, on the device that trains: the next batch is ready there.

To copy frames to a device and to cut them takes this process time as well, which would be time that a step waits.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from tadaconv.data.decode import Frames
from tadaconv.data.prefetch import Capacity, GivenUpError, Readers, Wanted, same_frames

T = TypeVar("T")

Make = Callable[[Frames], T]
"""Makes of the frames of a clip, which are gone afterwards, what is asked for."""


class Finisher(Generic[T]):
    """Makes what comes next in a lane of ``readers``, and keeps as much of it ready as the first batch has clips."""

    def __init__(self, readers: Readers, lane: int) -> None:
        self._readers, self._lane = readers, lane
        self._changed = threading.Condition()
        self._expected: deque[Wanted] = deque()
        self._to_make: deque[tuple[Wanted, Make[T]]] = deque()
        self._ready: deque[T] = deque()
        self._max_ready = 0
        self._owner: object = None
        self._error: Exception | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    def begin(
        self,
        owner: object,
        batches: Iterable[Sequence[tuple[Wanted, Make[T]]]],
        capacity: Capacity,
        batch_size: int = 0,
    ) -> None:
        """Make from now on what ``owner`` is to ask for next, a clip after the other, in place of what was asked.

        Raises as :meth:`Readers.expect` does, which ``capacity`` and ``batch_size`` are for.

        Args:
            owner: who is to ask.
            batches: what is read of each clip, and what makes of its frames what is asked for; a batch at a time.
            capacity: as for :meth:`Readers.expect`.
            batch_size: as for :meth:`Readers.expect`.
        """
        self.stop()
        self._error, self._stopping, self._max_ready = None, False, 0

        def wanted() -> Iterator[list[Wanted]]:
            for batch in batches:
                self._max_ready = self._max_ready or len(batch)
                self._to_make.extend(batch)
                with self._changed:
                    self._expected.extend(one for one, _ in batch)
                yield [one for one, _ in batch]

        self._readers.expect(self._lane, wanted(), capacity, batch_size)
        self._owner = owner
        self._thread = threading.Thread(target=self._work, name="clips", daemon=True)
        self._thread.start()

    def take(self, owner: object, wanted: Sequence[Wanted]) -> list[T] | None:
        """What was made for the clips ``wanted``; None if they are not those that ``owner`` was to ask for next.

        Raises what reading or making them raised.
        """
        with self._changed:
            expected = list(islice(self._expected, len(wanted)))
        if owner is not self._owner or not expected or len(expected) < len(wanted):
            return None
        if not all(map(same_frames, expected, wanted)):
            return None
        return [self._next() for _ in wanted]

    def stop(self) -> None:
        """Stop making clips; those that are ready are discarded."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._readers.give_up()
            self._thread.join()
        self._thread, self._owner = None, None
        self._expected.clear()
        self._to_make.clear()
        self._ready.clear()

    def _next(self) -> T:
        with self._changed:
            while not self._ready:
                if self._error is not None:
                    raise self._error
                self._changed.wait(1.0)
            self._expected.popleft()
            one = self._ready.popleft()
            self._changed.notify_all()
        return one

    def _work(self) -> None:
        try:
            while self._to_make and not self._stopping:
                wanted, make = self._to_make.popleft()
                frames = self._readers.take(self._lane, [wanted], lambda: self._stopping)
                assert frames is not None, "clips are made in the order in which they are read"
                for one in frames:
                    self._put(make(one))
        except GivenUpError:
            return
        except Exception as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _put(self, one: T) -> None:
        with self._changed:
            while len(self._ready) >= self._max_ready and not self._stopping:
                self._changed.wait(1.0)
            self._ready.append(one)
            self._changed.notify_all()
