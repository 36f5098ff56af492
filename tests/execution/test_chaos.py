"""Processes are killed at every stage of a cell's life; each cell ends with one result, the one it would have had."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import crash_points
import pytest
from crash_points import CELLS, PARENT_POINTS, REAPER_POINTS, WORKER_POINTS, WRITER_POINTS, make_due, supervise_table
from fake_cells import NUM_STEPS, result

from tadaconv.errors import UserError
from tadaconv.execution import launcher
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.result import Result
from tadaconv.spec import Experiment


def expected(experiment: Experiment) -> Result:
    """What a cell gives when nobody disturbs it: the sum of its steps, worked out here."""
    return result(sum((int(experiment.key, 16) * step) % 977 / 97.7 for step in range(1, NUM_STEPS + 1)))


def check(location: str) -> None:
    """As many results as cells, none twice, none missing, each as if nothing had happened; and nothing is left over."""
    attempts = Store.open(location).attempts()
    assert attempts.keys() == {cell.key for cell in CELLS}
    for cell in CELLS:
        finished = [attempt for attempt in attempts[cell.key] if attempt.status == "finished"]
        assert [Result.model_validate(attempt.attrs["result"]) for attempt in finished] == [expected(cell.experiment)]
        states = {attempt.status for attempt in attempts[cell.key]}
        assert states <= {"finished", "dropped"}


@pytest.mark.parametrize("points", [WORKER_POINTS, REAPER_POINTS, WRITER_POINTS], ids=["worker", "reaper", "writer"])
def test_workers_killed_anywhere_cost_no_cell(
    tmp_path: Path, location: str, points: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for point in points:
        make_due(tmp_path, point)
    if points is not WORKER_POINTS:
        make_due(tmp_path, "in a step", times=4)  # so that there is something to be requeued, by workers
        monkeypatch.setattr(launcher, "Reaper", lambda *_: SimpleNamespace(observe=list))
    told = supervise_table(location, tmp_path)
    assert not list((tmp_path / "due").iterdir()), "somebody died at every point"
    assert sum("killed by signal 9); started again" in line for line in told) >= len(points) - 1
    check(location)


def test_a_parent_killed_anywhere_is_followed_by_its_workers_and_by_the_next_call(
    tmp_path: Path, location: str
) -> None:
    for point in PARENT_POINTS:
        make_due(tmp_path, point)
    (tmp_path / "seconds").write_text("0.2")
    endings = [parent(location, tmp_path) for _ in range(len(PARENT_POINTS))]
    assert endings == [-signal.SIGKILL] * len(PARENT_POINTS)
    assert not list((tmp_path / "due").iterdir())
    left = [
        attempt.attrs["lease"]["pid"] for attempt in Store.open(location).backend.running() if "lease" in attempt.attrs
    ]
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in left):
        assert time.monotonic() < deadline, "workers whose parent is gone leave"
        time.sleep(0.05)
    assert parent(location, tmp_path) == 0
    check(location)


def parent(location: str, out: Path) -> int:
    """A process that plans the table and supervises its workers, as far as it comes; its exit status."""
    environment = {**os.environ, "STORAGE": location, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([sys.executable, crash_points.__file__, str(out)], env=environment, check=False).returncode


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_kills_at_random_moments_cost_no_cell(tmp_path: Path, location: str) -> None:
    (tmp_path / "seconds").write_text("0.15")
    done = threading.Event()
    killed: set[int] = set()

    def kill_now_and_then() -> None:
        draw = random.Random(0)
        store: Store | None = None
        while not done.wait(draw.uniform(0.1, 0.5)) and len(killed) < 8:
            if store is None:
                if has_table(location):
                    store = Store.open(location)
                continue
            pids = [a.attrs["lease"]["pid"] for a in store.backend.running() if "lease" in a.attrs]
            alive_ones = [pid for pid in pids if pid not in killed and alive(pid)]
            if alive_ones:
                killed.add(victim := draw.choice(alive_ones))
                os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        supervise_table(location, tmp_path, WorkerCall)
    finally:
        done.set()
        killer.join()
    assert len(killed) >= 4
    check(location)


def has_table(location: str) -> bool:
    try:
        return bool(Store.open(location, create=False).studies())
    except UserError:
        return False
