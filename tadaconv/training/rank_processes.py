"""Starts the processes that train a cell together, hears of them, and ends them all as soon as one has failed.

Whoever calls :func:`run_on_ranks` waits for nothing but their words: it takes part in no sum over ranks, which would
hang where another rank is gone, so it can end them at any moment.
"""

import logging
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NamedTuple, Protocol

import torch
from torch import distributed as dist

from tadaconv import child
from tadaconv.errors import RunError, UserError
from tadaconv.result import Progress
from tadaconv.text import one_line
from tadaconv.training.ranks import BrokenSumError, Ranks

_OTHERS_SECONDS = 2.0
"""How long the others are heard after one has failed: whose failure was first, they cannot know."""

_SUM_MINUTES = 30
"""How long a rank waits for the others at a sum; a clip may be waited for for minutes."""

_log = logging.getLogger("tadaconv")


class Program(Protocol):
    """What every rank does; rank 0's result is the result."""

    def __call__(
        self, arguments: Any, *, device: torch.device, ranks: Ranks, report: Callable[[Progress], None]
    ) -> Any:
        """Carry out the part of one rank on its device; ``report`` is heard where the ranks were started."""
        ...


class _Failure(NamedTuple):
    """What a rank raised, and from where."""

    message: str
    is_users: bool
    is_broken_sum: bool
    """Another rank's failure is behind it."""
    trace: str


class _Done(NamedTuple):
    result: Any


class _TracebackError(Exception):
    """The traceback of another process, as the cause of an error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass
class _Rank:
    number: int
    device: str
    process: "subprocess.Popen[bytes]"
    connection: Connection
    failure: _Failure | None = None
    ended: float = math.inf
    """When it had said its last word, or was gone."""
    died: str = ""

    @property
    def has_ended(self) -> bool:
        return self.ended < math.inf


def run_on_ranks(
    program: str, arguments: Any, devices: Sequence[str], report: Callable[[Progress], None] | None = None
) -> Any:
    """Run a program in as many processes as there are devices, a rank each.

    Args:
        program: ``module:function`` of a :class:`Program`.
        arguments: what every rank is given; pickled.
        devices: of the ranks: all ``cpu``, whose sums pass through gloo, or different GPUs, through NCCL.
        report: called here with what rank 0 reports. What it raises ends the ranks, and is raised.

    Returns what rank 0 returns.

    Raises:
        UserError: raised by a rank.
        RunError: a rank failed, or died.
    """
    # The port is the system's choice, so that any number of cells find one, and no other machine reaches it.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, number = listening.getsockname()[1], listening.detach()
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=number
    )
    about = pickle.dumps((program, arguments))
    ranks: list[_Rank] = []
    try:
        for number, device in enumerate(devices):
            ours, theirs = Pipe()
            where = (theirs.fileno(), store.port, number, len(devices), device)
            process = child.start(f"{__name__}:main", where, [theirs.fileno()], _environment(device))
            theirs.close()
            ranks.append(_Rank(number, device, process, ours))
            with suppress(OSError):  # it died at once, which is heard as its end
                ours.send_bytes(about)
        return _hear(ranks, report)
    finally:
        for rank in ranks:
            rank.process.kill()
        for rank in ranks:
            with suppress(subprocess.TimeoutExpired):  # a driver or a disk is waited for on its behalf
                rank.process.wait(5.0)
            assert rank.process.stdin is not None
            rank.process.stdin.close()
            rank.connection.close()


def _environment(device: str) -> dict[str, str]:
    if device != "cpu":
        return {}
    # The ranks are on one machine, whose name need not lead to an address of it.
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    return {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", loopback)}


def _hear(ranks: Sequence[_Rank], report: Callable[[Progress], None] | None) -> Any:
    by_connection = {rank.connection: rank for rank in ranks}
    while True:
        for connection in wait([rank.connection for rank in ranks if not rank.has_ended]):
            assert isinstance(connection, Connection)
            rank = by_connection[connection]
            message = _next(rank)
            if isinstance(message, _Done) and rank.number == 0:
                return message.result
            if isinstance(message, Progress) and report is not None:
                report(message)
        if any(rank.failure or rank.died for rank in ranks):
            _hear_others(ranks)
            raise _error(ranks)


def _next(rank: _Rank) -> Any:
    """The next message of a rank, noted if it is its last."""
    try:
        message = pickle.loads(rank.connection.recv_bytes())
    except (EOFError, OSError):
        rank.ended, rank.died = time.monotonic(), _ending(rank.process)
        return None
    if isinstance(message, _Failure):
        rank.failure = message
    if isinstance(message, tuple) and not isinstance(message, _Failure | _Done):
        _log.log(*message)
    if isinstance(message, _Failure | _Done):
        rank.ended = time.monotonic()
    return message


def _hear_others(ranks: Sequence[_Rank]) -> None:
    deadline = time.monotonic() + _OTHERS_SECONDS
    while waiting := [rank.connection for rank in ranks if not rank.has_ended]:
        ready = wait(waiting, max(0.0, deadline - time.monotonic()))
        if not ready:
            return
        for rank in ranks:
            if rank.connection in ready:
                _next(rank)


def _error(ranks: Sequence[_Rank]) -> UserError | RunError:
    """The failure that the others followed from: what a rank raised by itself, else the first death."""
    failures = [rank.failure for rank in ranks if rank.failure is not None]
    dead = sorted((rank for rank in ranks if rank.died), key=lambda rank: rank.ended)
    first = next((failure for failure in failures if not failure.is_broken_sum), None)
    if first is None and dead:
        return RunError(f"rank {dead[0].number} of {len(ranks)}, on {dead[0].device}, died ({dead[0].died})")
    first = first or failures[0]
    error = UserError(first.message) if first.is_users else RunError(first.message)
    error.__cause__ = _TracebackError(first.trace)
    return error


def _ending(process: "subprocess.Popen[bytes]") -> str:
    try:
        code = process.wait(5.0)
    except subprocess.TimeoutExpired:
        return "it closed its connection"
    if code < 0:
        return f"killed by signal {-code}" + (", perhaps for lack of memory" if -code == signal.SIGKILL else "")
    return f"exit status {code}"


class _Voice(logging.Handler):
    """Sends what a rank logs and reports to whoever started it, from whichever thread."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection, self._sending = connection, threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        self.say((record.levelno, "%s", record.getMessage()))

    def say(self, message: Any) -> None:
        """Send; what nobody is left to hear is dropped, as this process ends with whoever started it."""
        with suppress(OSError), self._sending:
            self._connection.send_bytes(pickle.dumps(message))


def main(connection_number: int, port: int, rank: int, size: int, device_name: str, parent: int) -> None:
    """The life of a rank.

    Args:
        connection_number: of the pipe to the parent.
        port: of the store by which ranks meet.
        rank: of this process.
        size: how many ranks there are.
        device_name: of this rank.
        parent: the parent's process id.
    """
    child.end_with_parent(parent)
    connection = Connection(connection_number)
    voice = _Voice(connection)
    _log.handlers, _log.propagate = [voice], False
    try:
        program, arguments = pickle.loads(connection.recv_bytes())
        module, _, function = program.partition(":")
        carry_out: Program = getattr(import_module(module), function)
        device = torch.device(device_name)
        store = dist.TCPStore("127.0.0.1", port, is_master=False)  # type: ignore[attr-defined]
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(minutes=_SUM_MINUTES),
            device_id=device if on_gpu else None,
        )
        result = carry_out(arguments, device=device, ranks=Ranks(rank, size), report=voice.say)
        voice.say(_Done(result if rank == 0 else None))
        dist.destroy_process_group()
    except Exception as error:
        message = one_line(error)
        if not isinstance(error, UserError | RunError):
            message = f"rank {rank} of {size}, on {device_name}: {type(error).__name__}: {message}"
        is_broken_sum = isinstance(error, BrokenSumError)
        voice.say(_Failure(message, isinstance(error, UserError), is_broken_sum, traceback.format_exc()))
