"""What the server that forks workers imports once: all that a cell needs, and nothing that starts a thread."""

import tadaconv.execution.worker
import tadaconv.experiment  # noqa: F401
