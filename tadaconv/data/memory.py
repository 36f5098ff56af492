"""How much memory there is and is free, of the machine and of this process's groups (cgroups); and keeping it.

And how much of the processors these groups have.
"""

import ctypes
import fcntl
import math
import os
import platform
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's malloc.h."""

_KEPT_BYTES = 2**25
"""As much as glibc allows for the one of the two that it limits."""

MACHINE = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")

_FILES = {
    "": ("memory.max", "memory.current", ("active_file", "inactive_file")),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
}
"""By the folder of groups of version 2 and 1: files of the limit and of the bytes in use, and the lines of those bytes
that hold files, which are given back on need."""


def total_bytes() -> int:
    """Memory of the machine, or of the container or job it is."""
    return min([_machine_bytes(), *(limit for limit, _ in _groups())])


def free_bytes() -> int:
    """Memory that is free on this machine, or in the container or job; where that is not known, all memory."""
    free = _machine_bytes()
    with suppress(OSError, StopIteration, ValueError):
        lines = MACHINE.read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return max(0, min([free, *(limit - used for limit, used in _groups())]))


@contextmanager
def alone() -> Generator[None]:
    """Within, no other process of this machine is within: what is free stays so while it is taken.

    The lock is on the file that gives the free memory. It ends with its process, however that ends; without such a file
    there is no lock.
    """
    try:
        file = os.open(MACHINE, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _groups() -> Iterator[tuple[int, int]]:
    """Limit and bytes in use of every group that limits the memory of this process."""
    for mount, kind, path in _own_groups(*_FILES):
        limit_name, used_name, of_files = _FILES[kind]
        for folder in (path, *path.parents):
            group = mount / folder
            with suppress(OSError, ValueError):  # no group here, as in a container, or no limit
                limit, used = (int((group / name).read_text()) for name in (limit_name, used_name))
                pairs = map(str.split, (group / "memory.stat").read_text().splitlines())
                yield limit, used - sum(int(value) for name, value in pairs if name in of_files)


def _own_groups(*of_kinds: str) -> Iterator[tuple[Path, str, PurePosixPath]]:
    """Where groups of these kinds are, of which version, and which of them this process is in."""
    lines: list[str] = []
    with suppress(OSError):
        lines = OWN_GROUPS.read_text().splitlines()
    for line in lines:
        _, kinds, path = line.split(":", 2)
        for kind in set(kinds.split(",")) & set(of_kinds):
            own = PurePosixPath(path.lstrip("/"))
            yield GROUPS / kind, kind, PurePosixPath() if ".." in own.parts else own  # outside of what is seen here


def cpu_quota() -> float:
    """How many processors this process's groups may keep busy; infinite without a limit."""
    quota = math.inf
    for mount, kind, path in _own_groups("", "cpu"):
        for folder in (path, *path.parents):
            group = mount / folder
            with suppress(OSError, ValueError):  # no group here, or no limit
                if kind:
                    used, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
                else:
                    used, period = map(int, (group / "cpu.max").read_text().split())
                if used > 0:
                    quota = min(quota, used / period)
    return quota


def keep_freed_memory() -> None:
    """Have glibc keep, from here on in this process, memory that is freed, for the next clip or step.

    Else it may give it back each time, as chance has laid out the heap, and the kernel clears it again: a fifth of the
    time of a small network's step on the CPU, and as long as reading a clip from a pack takes. The most memory that the
    process has at once stays the same. Other systems are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            libc.mallopt(parameter, _KEPT_BYTES)
