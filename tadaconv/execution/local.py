"""Workers as processes of this machine, spread over its GPUs.

A server that has imported torch once forks them: a separate program per worker, as on Ray and Slurm, would take seconds
of CPU time and a few hundred megabytes more, again after every death. Events arrive through pipes, without delay.
"""

import logging
import math
import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from tadaconv.errors import RunError, UserError
from tadaconv.execution.location import Location
from tadaconv.execution.worker import Event, WorkerCall, run_worker

STOP_SECONDS = 30.0
"""How long workers have to requeue their cells; a step of training may have to end first."""

_MAX_DEAD_ON_ARRIVAL = 3

_FOR_CELLS = ("tadaconv.execution.worker", "tadaconv.experiment")
"""Modules that the server imports once before it forks workers; they start no threads."""

_FOR_POSTGRES = ("tadaconv.execution.postgres", "psycopg", "alembic.command")

Message = Event | str | BaseException
"""A message of a worker: an event, a line of its log, or the error it ends with."""


@dataclass
class _Child:
    call: WorkerCall
    process: BaseProcess
    connection: Connection
    has_sent: bool = False
    stopping: bool = False


class LocalLauncher:
    """One process per call. Processes that die are started again; their cells are requeued.

    Of the workers of one GPU the first starts alone. When the memory of its first cell is known, as many of the others
    start as fit, with a line if that is fewer than requested. One that still runs out of memory leaves.

    Args:
        calls: one a worker.
        on_event: called in the thread that polls, for every event of every worker.
    """

    def __init__(self, calls: Sequence[WorkerCall], on_event: Callable[[Event], None]) -> None:
        self._calls, self._on_event = calls, on_event
        # A server that has imported torch once forks workers quickly; it has no threads and no CUDA.
        self._context = multiprocessing.get_context("forkserver")
        on_server = any(Location.parse(call.storage).path is None for call in calls)
        self._context.set_forkserver_preload([*_FOR_CELLS, *(_FOR_POSTGRES if on_server else ())])
        self._children: list[_Child] = []
        self._waiting: dict[str, list[WorkerCall]] = {}
        """By GPU, until the memory of its first cell is known, the calls of the other workers."""
        self._lines: list[str] = []
        self._num_dead_on_arrival = 0
        self._error: BaseException | None = None

    @property
    def num_alive(self) -> int:
        """Processes that run now."""
        return sum(child.process.is_alive() for child in self._children)

    def start(self) -> None:
        """Start the processes."""
        num_on = Counter(call.device for call in self._calls)
        for call in self._calls:
            if call.device in self._waiting:
                self._waiting[call.device].append(call)
            elif call.device.startswith("cuda"):
                self._waiting[call.device] = []
                self._launch(call.but(shares_gpu=num_on[call.device] > 1))
            else:
                self._launch(call)

    def poll(self) -> list[str]:
        """Pass on the messages of the workers; start dead ones again.

        Raises the error that ended a worker, such as a missing device or storage, and :class:`RunError` for processes
        that die before they claim a cell.
        """
        for child in list(self._children):
            self._receive(child)
            if not child.process.is_alive():
                self._receive(child)
                self._end(child)
            if self._error is not None:
                raise self._error
        lines, self._lines = self._lines, []
        return lines

    def stop(self) -> None:
        """Ask the workers to leave, and end those that have not within :data:`STOP_SECONDS`."""
        for child in self._children:
            child.stopping = True
            with suppress(OSError):  # it has gone
                child.connection.send("stop")
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children:
            while child.process.is_alive() and time.monotonic() < deadline:
                self._receive(child)  # a worker blocks until its messages are read
                child.process.join(0.05)
            if child.process.is_alive():
                child.process.kill()
                child.process.join()
            self._receive(child)
            child.connection.close()
        self._children.clear()

    def _launch(self, call: WorkerCall) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_be_worker, args=(call, theirs), name=f"tada {call.name}", daemon=True)
        # The first start also starts the server that forks. Signals that are blocked now stay so in it and in every
        # worker: Ctrl-C reaches the whole group, and the parent decides when to stop. Meanwhile Ctrl-C is held back.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        self._children.append(_Child(call, process, ours))

    def _receive(self, child: _Child) -> None:
        while True:
            try:
                if not child.connection.poll():
                    return
                message: Message = child.connection.recv()
            except (EOFError, OSError):  # the end, perhaps in the middle of a message
                return
            except Exception as error:  # half a message of a killed process can be anything
                self._lines.append(f"worker {child.call.name} sent something unreadable ({type(error).__name__})")
                return
            self._take(child, message)  # errors of its listener are raised to the caller

    def _take(self, child: _Child, message: Message) -> None:
        child.has_sent = True
        self._num_dead_on_arrival = 0
        if isinstance(message, str):
            self._lines.append(message)
        elif isinstance(message, BaseException):
            self._error = message
        else:
            self._on_event(message)
            if message.kind == "memory" and message.memory is not None:
                self._fill(child.call.device, *message.memory)
            if message.kind == "out of memory":
                child.stopping = True
                self._lines.append(
                    f"{child.call.device} ran out of memory with {self._on(child.call.device)} workers; "
                    f"{self._on(child.call.device) - 1} continue"
                )

    def _on(self, device: str) -> int:
        return sum(child.call.device == device and child.process.is_alive() for child in self._children)

    def _fill(self, device: str, held: int, total: int) -> None:
        """Start the other workers of a GPU, as many as fit next to the first."""
        others = self._waiting.pop(device, [])
        asked = len(others) + 1
        fit = max(1, int(0.9 * total / max(1, held)))
        if fit < asked:
            self._lines.append(
                f"{fit} of the {asked} requested workers fit on {device}: "
                f"a cell takes {held / 2**30:.1f} GiB of {total / 2**30:.1f}"
            )
        for call in others[: fit - 1]:
            self._launch(call.but(shares_gpu=True))

    def _end(self, child: _Child) -> None:
        """Forget a process that has ended, and start it again unless it was done."""
        self._children.remove(child)
        child.connection.close()
        if child.stopping:
            if not self._on(child.call.device):  # the last one that left for lack of memory comes back, alone
                self._launch(child.call.but(shares_gpu=False))
            return
        if child.process.exitcode == 0:
            if child.call.wait_seconds == math.inf:  # it was to stay until the parent stops it
                self._lines.append(f"worker {child.call.name} was stopped by a signal; started again")
                self._launch(child.call)
            return
        self._num_dead_on_arrival += not child.has_sent
        if self._num_dead_on_arrival >= _MAX_DEAD_ON_ARRIVAL:
            raise RunError(f"workers exit before they claim a cell ({_ending(child.process)})")
        self._lines.append(f"worker {child.call.name} died ({_ending(child.process)}); started again")
        self._launch(child.call)


def _ending(process: BaseProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        return f"killed by signal {-code}"
    return f"exit status {code}"


class _Sender(logging.Handler):
    """Sends messages to the parent, from any thread; without a parent they are dropped."""

    def __init__(self, connection: Connection, gone: threading.Event) -> None:
        super().__init__()
        self._connection, self._gone = connection, gone
        self._sending = threading.Lock()
        self._last_progress = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        self.send(record.getMessage())

    def send(self, message: Message) -> None:
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            self._gone.set()

    def event(self, event: Event) -> None:
        """Send an event; progress at most five times a second."""
        now = time.monotonic()
        if event.kind == "progress":
            if now - self._last_progress < 0.2:
                return
            self._last_progress = now
        self.send(event)


def _be_worker(call: WorkerCall, connection: Connection) -> None:
    """The main function of a worker process: runs until no cell is left, or the parent stops it or has died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when to stop
    stop = threading.Event()
    # Not in the handler itself: it may interrupt the main thread while that holds the event's lock.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop.set).start())

    def listen() -> None:
        with suppress(EOFError, OSError):
            connection.recv()
        stop.set()

    threading.Thread(target=listen, name="parent", daemon=True).start()
    sender = _Sender(connection, gone=stop)
    log = logging.getLogger("tadaconv")
    log.handlers = [sender]
    log.propagate = False
    try:
        run_worker(call, stop, sender.event)
    except (UserError, RunError) as error:
        sender.send(error)
