"""What the server that forks workers imports once: all that a cell needs, and nothing that starts a thread."""

import signal

# Ctrl-C reaches the server as well, which may still be importing; what it forks is told when to stop.
signal.signal(signal.SIGINT, signal.SIG_IGN)

import tadaconv.execution.worker  # noqa: E402
import tadaconv.experiment  # noqa: E402, F401
