"""The process that reads clips ahead: it takes jobs from its parent and leaves frames in memory that both map.

It is started as a separate Python, so it shares no CUDA, no locks and no open videos with the parent. It imports no
torch. It ends when its parent does, however the parent ends.
"""

import mmap
import pickle
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from tadaconv.child import end_with_parent
from tadaconv.data.decode import BrokenVideoError, Frames, Read
from tadaconv.data.memory import keep_freed_memory
from tadaconv.errors import UserError


class Job(NamedTuple):
    """A clip to be read, and where its frames go: ``num_bytes`` at ``offset`` of a memory of ``capacity`` bytes."""

    number: int
    memory: int
    capacity: int
    offset: int
    num_bytes: int
    place: int
    frames: list[int]


class Answer(NamedTuple):
    """How a job ended: the height and width of its frames, or why there are none."""

    number: int
    size: tuple[int, int]
    broken: str = ""
    """Why the medium cannot be read."""
    refused: str = ""
    """Why no clip can be read: the index or the pack has been replaced."""
    failure: str = ""
    """Anything else that was raised, and from where."""


def main(connection_number: int, memory_numbers: Sequence[int], parent: int) -> None:
    """Read what the parent asks for until it is gone. All numbers are those of open files, but for the parent's own.

    Args:
        connection_number: of the pipe to the parent.
        memory_numbers: of the files that are memory, a lane each.
        parent: the parent's process id.
    """
    end_with_parent(parent)
    keep_freed_memory()
    connection = Connection(connection_number)
    memories = [_Memory(number) for number in memory_numbers]
    read: Read | None = None
    try:
        opening, short_side = pickle.loads(connection.recv_bytes())
        while True:
            job = Job(*connection.recv())
            try:
                read = read or opening()
                answer = _carry_out(job, read, short_side, memories[job.memory])
            except (BrokenVideoError, OSError) as error:
                answer = Answer(job.number, (0, 0), broken=str(error))
            except UserError as error:
                answer = Answer(job.number, (0, 0), refused=str(error))
            except Exception as error:
                message = f"{type(error).__name__}: {error}".splitlines()[0]
                answer = Answer(job.number, (0, 0), failure=f"{message}\n{traceback.format_exc()}")
            connection.send(tuple(answer))
    except (EOFError, OSError):
        return  # the parent has gone


def _carry_out(job: Job, read: Read, short_side: int, memory: "_Memory") -> Answer:
    frames = read(job.place, job.frames, short_side)
    height, width = frames.shape[1:3]
    if frames.nbytes != job.num_bytes:
        raise BrokenVideoError(f"its frames are {height} x {width} pixels now")
    memory.view(job.capacity, job.offset, job.num_bytes)[:] = frames.reshape(-1)
    return Answer(job.number, (height, width))


class _Memory:
    """An open file that is memory, mapped at the size that its owner gives."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._mapped: mmap.mmap | None = None

    def view(self, capacity: int, offset: int, num_bytes: int) -> Frames:
        if self._mapped is None or len(self._mapped) != capacity:
            self._mapped = mmap.mmap(self._number, capacity)
        return np.frombuffer(self._mapped, np.uint8, num_bytes, offset)
