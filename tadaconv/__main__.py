"""The process ``tada``, which is also ``python -m tadaconv``: from its first moment Ctrl-C ends it with one line."""

import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn


def main() -> None:
    """Run ``tada`` on the arguments of the process, and exit with its status."""
    open_streams()
    # A shell's background job ignores Ctrl-C, which stays so.
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:  # an exception that is raised while modules are imported could end anywhere
        signal.signal(signal.SIGINT, _stop)
    from tadaconv.cli import main as run

    if listens:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:  # before or after the command, which prints its own line
        _stop()
    finally:
        if listens:  # while the interpreter shuts down
            signal.signal(signal.SIGINT, _stop)


def open_streams() -> None:
    """Open ``/dev/null`` as whichever of the standard streams is closed: a process that is started needs all three."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free, which is this one
            os.set_inheritable(descriptor, True)


def _stop(*_: Any) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    with suppress(OSError):
        os.write(2, b"tada: stopped\n")
    os._exit(130)


if __name__ == "__main__":
    main()
