"""Starts the processes that train a cell together, receives their messages, and ends all as soon as one has failed.

The caller of :func:`run_on_ranks` waits for messages alone: it takes part in no sum over ranks, which would hang where
another rank is gone, so it can end them at any moment.
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
from typing import Any, NamedTuple

import torch
from torch import distributed as dist

from tadaconv import child
from tadaconv.errors import RunError, UserError
from tadaconv.result import Progress
from tadaconv.text import one_line
from tadaconv.training.ranks import BrokenSumError, Ranks

_OTHERS_SECONDS = 2.0
"""How long messages of the others are read after one has failed: theirs may be the first failure."""

_SUM_MINUTES = 30
"""How long a rank waits for the others at a sum; reading a clip may take minutes."""

_log = logging.getLogger("tadaconv")


class _Done(NamedTuple):
    result: Any


@dataclass
class _Rank:
    number: int
    device: str
    process: "subprocess.Popen[bytes]"
    connection: Connection
    failure: UserError | RunError | None = None
    ended: float = math.inf
    """When its last message came, or its connection closed."""
    died: str = ""

    @property
    def has_ended(self) -> bool:
        return self.ended < math.inf


def run_on_ranks(
    program: str, arguments: Any, devices: Sequence[str], report: Callable[[Progress], None] | None = None
) -> Any:
    """Run a program in as many processes as there are devices, a rank each.

    Args:
        program: ``module:function`` of what every rank does: called with the arguments and, by keyword, its
            ``device``, its :class:`Ranks` as ``ranks``, and ``report``, which takes a :class:`Progress`.
        arguments: of every rank; pickled.
        devices: of the ranks: all ``cpu``, whose sums pass through gloo, or different GPUs, through NCCL.
        report: called here with what rank 0 reports. What it raises ends the ranks, and is raised.

    Returns the result of rank 0.

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
            with suppress(OSError):  # it died at once, and its connection is closed
                ours.send_bytes(about)
        return _result(ranks, report)
    finally:
        for rank in ranks:
            rank.process.kill()
        for rank in ranks:
            with suppress(subprocess.TimeoutExpired):  # it may wait for a driver or a disk
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


def _result(ranks: Sequence[_Rank], report: Callable[[Progress], None] | None) -> Any:
    """What rank 0 returns; raises the first failure, after a moment in which the others may report theirs."""
    by_connection = {rank.connection: rank for rank in ranks}
    deadline: float | None = None
    while waiting := [rank.connection for rank in ranks if not rank.has_ended]:
        ready = wait(waiting, None if deadline is None else max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for connection in ready:
            assert isinstance(connection, Connection)
            rank = by_connection[connection]
            message = _next(rank)
            if deadline is None and isinstance(message, _Done) and rank.number == 0:
                return message.result
            if deadline is None and isinstance(message, Progress) and report is not None:
                report(message)
        if deadline is None and any(rank.failure or rank.died for rank in ranks):
            deadline = time.monotonic() + _OTHERS_SECONDS
    raise _error(ranks)


def _next(rank: _Rank) -> Any:
    """The next message of a rank, noted if it is its last."""
    try:
        message = pickle.loads(rank.connection.recv_bytes())
    except (EOFError, OSError):
        rank.ended, rank.died = time.monotonic(), _ending(rank.process)
        return None
    if isinstance(message, UserError | RunError):
        rank.failure = message
    if isinstance(message, UserError | RunError | _Done):
        rank.ended = time.monotonic()
    elif isinstance(message, tuple):
        _log.log(*message)
    return message


def _error(ranks: Sequence[_Rank]) -> UserError | RunError:
    """The failure that caused the others: an exception of a rank itself, else the first death."""
    failures = [rank.failure for rank in ranks if rank.failure is not None]
    dead = sorted((rank for rank in ranks if rank.died), key=lambda rank: rank.ended)
    causes = [failure for failure in failures if not isinstance(failure, BrokenSumError)]
    if dead and not causes:
        return RunError(f"rank {dead[0].number} of {len(ranks)}, on {dead[0].device}, died ({dead[0].died})")
    return (causes or failures)[0]


def _ending(process: "subprocess.Popen[bytes]") -> str:
    try:
        code = process.wait(5.0)
    except subprocess.TimeoutExpired:
        return "it closed its connection"
    if code < 0:
        return f"killed by signal {-code}" + (", perhaps out of memory" if -code == signal.SIGKILL else "")
    return f"exit status {code}"


class _Sender(logging.Handler):
    """Sends the log messages and reports of a rank to its parent, from any thread."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection, self._sending = connection, threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        self.send((record.levelno, "%s", record.getMessage()))

    def send(self, message: Any) -> None:
        """Send a message; it is dropped if the parent is gone, as this process ends with it."""
        with suppress(OSError), self._sending:
            self._connection.send_bytes(pickle.dumps(message))


def main(connection_number: int, port: int, rank: int, size: int, device_name: str, parent: int) -> None:
    """Run one rank, from start to end.

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
    sender = _Sender(connection)
    _log.handlers, _log.propagate = [sender], False
    try:
        program, arguments = pickle.loads(connection.recv_bytes())
        module, _, function = program.partition(":")
        carry_out = getattr(import_module(module), function)
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
        result = carry_out(arguments, device=device, ranks=Ranks(rank, size), report=sender.send)
        sender.send(_Done(result if rank == 0 else None))
        dist.destroy_process_group()
    except Exception as error:
        message = one_line(error)
        if not isinstance(error, UserError | RunError):
            message = f"rank {rank} of {size}, on {device_name}: {type(error).__name__}: {message}"
        kind = next((kind for kind in (UserError, BrokenSumError) if isinstance(error, kind)), RunError)
        failure = kind(message)
        failure.add_note(traceback.format_exc())
        sender.send(failure)
