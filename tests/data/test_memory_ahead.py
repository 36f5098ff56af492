"""What is free, by the files in which the kernel tells it; and taken by one process at a time."""

import ctypes
import platform
import threading
import time
from pathlib import Path

import pytest

from tadaconv.data import memory
from tadaconv.data.prefetch import num_cores

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 20 GiB free, and a function that makes groups on it and says which this process is in."""
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 24 * GIB)
    memory.MACHINE.write_text(f"MemTotal: {24 * 2**20} kB\nMemAvailable: {20 * 2**20} kB\n")

    def groups(own, **limits):
        memory.OWN_GROUPS.write_text(own)
        old = ":memory:" in own
        names = ("limit_in_bytes", "usage_in_bytes") if old else ("max", "current")
        for path, (limit, used, of_files) in limits.items():
            group = memory.GROUPS / ("memory" if old else "") / path.replace("__", "/").removeprefix("root")
            group.mkdir(parents=True, exist_ok=True)
            for name, value in zip(names, (limit, used), strict=True):
                (group / f"memory.{name}").write_text(f"{value}\n")
            total = "total_" if old else ""
            stat = f"anon 5\n{total}inactive_file {of_files // 2}\n{total}active_file {of_files - of_files // 2}\n"
            (group / "memory.stat").write_text(stat)

    return groups


@pytest.mark.parametrize(
    ("own", "limits", "free", "total"),
    [
        ("", {}, 20, 24),
        ("0::/\n", {"root": (8 * GIB, 5 * GIB, 4 * GIB)}, 7, 8),  # a container
        ("0::/\n", {"root": ("max", 5 * GIB, 0)}, 20, 24),
        ("0::/job/step\n", {"job": (8 * GIB, 5 * GIB, 0), "job__step": (9 * GIB, 2 * GIB, 0)}, 3, 8),  # one of Slurm's
        ("0::/job/step\n", {"job": ("max", 5 * GIB, 0), "job__step": (4 * GIB, 3 * GIB, 0)}, 1, 4),
        ("0::/../other\n", {"root": (6 * GIB, 5 * GIB, 0), "job": (GIB, GIB, 0)}, 1, 6),
        ("0::/elsewhere/4d\n", {"root": (6 * GIB, 7 * GIB, 0)}, 0, 6),
        ("3:cpu:/a\n4:memory:/a/b\n0::/\n", {"root": (2**63 - 4096, GIB, 0), "a": (6 * GIB, 3 * GIB, 2 * GIB)}, 5, 6),
    ],
)  # fmt: skip
def test_what_is_free_is_what_the_machine_and_every_group_leave(own, limits, free, total, machine):
    machine(own, **limits)
    assert memory.free_bytes() == free * GIB
    assert memory.total_bytes() == total * GIB


@pytest.mark.usefixtures("machine")
def test_a_machine_that_tells_nothing_has_what_it_has(monkeypatch):
    for name in ("MACHINE", "OWN_GROUPS", "GROUPS"):
        monkeypatch.setattr(memory, name, Path("/nowhere"))
    assert memory.free_bytes() == memory.total_bytes() == 24 * GIB
    with memory.alone():
        pass


def test_here_as_the_kernel_tells_it():
    assert 0 < memory.free_bytes() <= memory.total_bytes()


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("", {}, 6),
        ("0::/\n", {"cpu.max": "max 100000"}, 6),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),  # a container with --cpus 2
        ("0::/\n", {"cpu.max": "250000 100000"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "900000 100000"}, 6),
        ("0::/job/step\n", {"job/cpu.max": "300000 100000", "job/step/cpu.max": "max 100000"}, 3),
        ("0::/job/step\n", {"job/cpu.max": "300000 100000", "job/step/cpu.max": "100000 100000"}, 1),
        ("3:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, 4),
        ("3:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 6),
    ],
)
def test_cores_are_those_of_the_affinity_and_of_the_quota(own, files, cores, machine, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    machine(own)
    for name, text in files.items():
        file = memory.GROUPS / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    assert num_cores() == cores


def test_alone_is_one_at_a_time():
    within, most = [], []

    def enter():
        with memory.alone():
            within.append(1)
            time.sleep(0.02)
            most.append(len(within))
            within.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")
def test_glibc_takes_what_it_is_told_of_freed_memory(monkeypatch):
    taken = []

    class Libc:
        def mallopt(self, parameter, value):
            taken.append((parameter, value, libc.mallopt(parameter, value)))

    libc = ctypes.CDLL(None)
    monkeypatch.setattr("ctypes.CDLL", lambda _: Libc())
    memory.keep_freed_memory()
    assert taken == [(-3, 2**25, 1), (-1, 2**25, 1)]
