"""Leases: a worker shows by its lease that it is alive, and others detect by it that it is dead.

A lease is a counter in the storage that its worker increments every quarter of :data:`LEASE_SECONDS`. Clocks of
machines are never compared: an observer measures by its own monotonic clock for how long the counter has not changed,
so clocks may differ by any amount and be adjusted while cells run. A worker that died on the observer's machine is
detected at once, by its process.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from tadaconv.errors import StorageError
from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Attempt
from tadaconv.execution.store import Store
from tadaconv.result import Progress

LEASE_SECONDS = 60.0
"""How long a counter may be unchanged before its worker counts as dead."""

_log = logging.getLogger("tadaconv")


@dataclass(frozen=True)
class Lease:
    """A worker's description of itself, part of the attempt it runs. ``machine`` is one boot of a host or container."""

    worker: str
    host: str
    machine: str
    pid: int
    born: str
    device: str
    beat: int = 0
    step: int = 0
    num_steps: int = 0

    @classmethod
    def of_this_process(cls, worker: str, device: str) -> Self:
        """The lease of this process, not yet renewed."""
        return cls(worker, socket.gethostname(), this_machine(), os.getpid(), _born(os.getpid()), device)

    @classmethod
    def read(cls, attempt: Attempt) -> Self | None:
        """The lease in an attempt; None if it has none yet, or one of another version."""
        try:
            return cls(**attempt.attrs[attr.LEASE])
        except (KeyError, TypeError):
            return None

    @property
    def process_is_gone(self) -> bool:
        """Whether the worker ran on this machine and its process has ended; False where that cannot be known."""
        if not self.machine or self.machine != this_machine():
            return False
        born = _born(self.pid)
        return born != self.born and (bool(born) or not _is_hidden(self.pid))


@lru_cache(maxsize=1)
def this_machine() -> str:
    """One boot of a host and one namespace of process ids; empty where the system does not provide them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """The start of a process, in ticks since the boot; empty if it has ended (ids are used again)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _is_hidden(pid: int) -> bool:
    """Whether the process id belongs to another user's process that cannot be inspected (``hidepid``)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not Path(f"/proc/{pid}").exists()
    except OSError:
        return False
    return False


class LeaseKeeper:
    """Renews the lease of the attempt this worker runs, in a separate thread. A context manager.

    ``lost`` is set once the attempt is no longer this worker's: its lease expired, and the cell was requeued.
    """

    def __init__(self, store: Store, lease: Lease, seconds: float = LEASE_SECONDS) -> None:
        self._store, self._lease, self._every = store, lease, seconds / 4
        self.device = lease.device
        self._attempt: Attempt | None = None
        self._step = (0, 0)
        self._beat = 0
        self._lock = threading.Lock()
        self._left = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    @contextmanager
    def held(self, attempt: Attempt) -> Generator[None]:
        """Hold ``attempt``: its first lease is written before the body runs, and others follow while it does."""
        self.lost.clear()
        self._step = (0, 0)
        with self._lock:
            self._attempt = attempt
            self._renew()
        try:
            yield
        finally:
            with self._lock:
                self._attempt = None

    def progress(self, progress: Progress) -> None:
        """Record the progress of the attempt, which is written with the next renewal."""
        self._step = (progress.step, progress.num_steps)

    def _keep(self) -> None:
        while not self._left.wait(self._every):
            with self._lock:
                if self._attempt is not None and not self.lost.is_set():
                    try:
                        self._renew()
                    except StorageError as error:  # the run continues; writing its end raises if that fails too
                        _log.warning("the lease was not renewed: %s", error)

    def _renew(self) -> None:
        assert self._attempt is not None
        self._beat += 1
        step, num_steps = self._step
        lease = {**asdict(self._lease), "device": self.device, "beat": self._beat, "step": step, "num_steps": num_steps}
        if not self._store.renew(self._attempt, lease):
            self.lost.set()


class Reaper:
    """Requeues the cells of dead workers. Any number of reapers may observe one storage."""

    def __init__(
        self, store: Store, seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._seconds, self._clock = store, seconds, clock
        self._seen: dict[int, tuple[int | None, float]] = {}
        """By trial id, the counter of the lease and for how many seconds it has not changed."""
        self._last: float | None = None

    def observe(self) -> list[str]:
        """Read all leases once, and return a line about every cell that was requeued or given up.

        To be called every few seconds: the time between two calls counts as at most a quarter of the lease, so that
        after the suspension of a machine its own workers, suspended as well, do not count as dead.
        """
        now = self._clock()
        passed = 0.0 if self._last is None else min(now - self._last, self._seconds / 4)
        self._last = now
        running = self._store.backend.running()
        self._seen = {a.trial_id: self._seen[a.trial_id] for a in running if a.trial_id in self._seen}
        lines = []
        for attempt in running:
            why = self._why_dead(attempt, passed)
            if why is not None:
                line = self._store.reap(attempt, why)
                if line:
                    lines.append(line)
        return lines

    def _why_dead(self, attempt: Attempt, passed: float) -> str | None:
        lease = Lease.read(attempt)
        if lease is not None and lease.process_is_gone:
            return f"worker {lease.worker} (process {lease.pid} on {lease.host}) died"
        beat = None if lease is None else lease.beat
        last = self._seen.get(attempt.trial_id)
        still_seconds = last[1] + passed if last is not None and last[0] == beat else 0.0
        self._seen[attempt.trial_id] = beat, still_seconds
        if still_seconds < self._seconds:
            return None
        if lease is None:
            return f"a worker claimed the cell and did not renew its lease for {self._seconds:g} s"
        return f"worker {lease.worker} on {lease.host} did not renew its lease for {self._seconds:g} s"
