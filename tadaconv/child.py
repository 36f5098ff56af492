"""Processes that are started as programs of this package and end with the process that started them.

They are programs, not children of ``multiprocessing``: a worker may be a process that must not have any of those, a
script need not guard its main module, and no CUDA, lock or open video of the parent is in them.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

_LOOK_SECONDS = 1.0


def start(
    program: str, arguments: Sequence[Any], files: Sequence[int], environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a Python that calls ``program``, and ends when this process does, however this one ends.

    Args:
        program: ``module:function``; the function calls :func:`end_with_parent`.
        arguments: of the function, whose ``repr`` gives them; this process's number comes after them.
        files: numbers of the open files that it has as well.
        environment: added to that of this process.

    Ctrl-C in a terminal does not reach it. Its standard input is a pipe that is to be closed when it has ended.
    """
    module, _, function = program.partition(":")
    code = (
        f"import sys; sys.path[:] = {sys.path!a}; from {module} import {function}; "
        f"{function}(*{tuple(arguments)!a}, {os.getpid()})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        pass_fds=files,
        process_group=0,  # Ctrl-C is for the parent
        env={**os.environ, **environment},
    )


def end_with_parent(parent: int) -> None:
    """End this process, from now on, as soon as the parent has ended; see :func:`start`.

    Signals that stop a whole job are ignored here: the parent handles them, and ends this process in good order.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _let_pass)  # ignored signals would also be ignored by the processes it starts
        signal.siginterrupt(number, False)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _let_pass(*_: object) -> None:
    pass


def _end_with(parent: int) -> None:
    # The parent holds the other end of the standard input, and never writes.
    while os.getppid() == parent and not select.select([0], [], [], _LOOK_SECONDS)[0]:
        pass
    os._exit(0)
