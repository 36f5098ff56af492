"""Where workers come from: processes of this machine, Ray, Slurm. They only launch; the storage's queue decides."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tadaconv.command import command
from tadaconv.errors import RunError
from tadaconv.execution.lease import LEASE_SECONDS, Reaper
from tadaconv.execution.store import Store

POLL_SECONDS = 0.25


class Launcher(Protocol):
    """Brings workers up, keeps them up, and lets them go."""

    def start(self) -> None:
        """Bring up the workers. Raises :class:`tadaconv.errors.UserError` if that cannot be done as asked."""
        ...

    def poll(self) -> Sequence[str]:
        """Start again what died; return lines worth telling. Called a few times a second, so it must not block."""
        ...

    @property
    def num_alive(self) -> int:
        """Workers that run now."""
        ...

    def stop(self) -> None:
        """Ask the workers to put their cells back and leave, wait a while, then end those that have not."""
        ...


def supervise(
    launcher: Launcher,
    store: Store,
    is_pending: Callable[[], bool],
    tick: Callable[[], None],
    tell: Callable[[str], None],
    lease_seconds: float = LEASE_SECONDS,
) -> None:
    """Keep ``launcher``'s workers going while ``is_pending``; they are stopped however this ends.

    Args:
        launcher: not started yet.
        store: the storage the workers work on; dead workers' cells are returned to its queue.
        is_pending: asked about twice a second whether there is anything left to wait for.
        tick: called about twice a second.
        tell: takes lines worth telling.
        lease_seconds: how long a worker may give no sign before it counts as dead, as the workers were told.

    Raises :class:`RunError` if for that long no worker is left anywhere, and what ``launcher`` and ``store`` raise.
    """
    reaper = Reaper(store, lease_seconds)
    next_look = 0.0
    alone_since: float | None = None
    launcher.start()
    try:
        while True:
            for line in launcher.poll():
                tell(line)
            now = time.monotonic()
            if now >= next_look:
                next_look = now + 0.5
                for line in reaper.observe():
                    tell(line)
                tick()
                if not is_pending():
                    return
                if launcher.num_alive or store.running():
                    alone_since = None
                elif now - (alone_since := alone_since or now) > lease_seconds:
                    raise RunError(
                        "no worker is left, and cells wait; give the same command again, or help with: "
                        + command("worker")
                    )
            time.sleep(POLL_SECONDS / 5)
    finally:
        launcher.stop()
        for line in reaper.observe():  # what had to be killed is back in the queue before anybody reports
            tell(line)


class DeadOnArrivalError(RunError):
    """Workers die before they take a cell."""
