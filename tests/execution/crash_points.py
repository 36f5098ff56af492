"""Processes that kill themselves at a named point of a cell's life, once for every file ``out/due/<point>.<n>``.

A point is passed by whoever cannot remove its file, so a kill happens as often as asked for, in whichever process comes
first. The points are put round the product's own functions when a :class:`DoomedCall` arrives in a worker.

As a program: plans and supervises the table by itself, until it is done or dead.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fake_cells import NUM_STEPS, result, row
from optuna.trial import TrialState

from tadaconv.execution.backend import GuardedStorage
from tadaconv.execution.cells import Cell
from tadaconv.execution.follow import Follower
from tadaconv.execution.journal import JournalBackend, _File, _locked
from tadaconv.execution.launcher import supervise
from tadaconv.execution.local import LocalLauncher
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.result import Progress, Result
from tadaconv.spec import Experiment

try:
    from tadaconv.execution.postgres import PostgresBackend
except ImportError:  # psycopg is an extra
    BACKENDS = [JournalBackend]
else:
    BACKENDS = [JournalBackend, PostgresBackend]

ROWS, SEEDS = [row("TSN"), row("linear 1", 1)], range(5)
CELLS = [Cell(cell.label, cell.experiment.but(seed=seed)) for seed in SEEDS for cell in ROWS]
LEASE_SECONDS = 1.0
STUDY = "t-quick"

WORKER_POINTS = (
    "in a claim, before others are read",
    "between claim and first lease",
    "between first lease and first step",
    "in a step",
    "while a checkpoint is written",
    "after the last step",
    "between result and COMPLETE",
    "after COMPLETE, before it is reported",
)
REAPER_POINTS = ("between putting back and FAIL", "between FAIL and queueing again")
"""Passed by whoever returns a dead worker's cell to the queue."""
WRITER_POINTS = ("in the middle of a write", "inside the planning lock")
PARENT_POINTS = ("in the middle of a write", "inside the planning lock", "between two cells queued", "while it watches")


def make_due(out: Path, point: str, times: int = 1) -> None:
    """Let the next ``times`` processes that come to ``point`` die there."""
    folder = out / "due"
    folder.mkdir(exist_ok=True)
    for n in range(times):
        (folder / f"{point}.{n}").touch()


def is_due(out: Path, point: str) -> bool:
    """Whether this process is the one to die; at most one per file."""
    for n in range(9):
        try:
            (out / "due" / f"{point}.{n}").unlink()
        except FileNotFoundError:
            continue
        return True
    return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DoomedCall(WorkerCall):
    """Arms the process it is sent to."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        arm(self.out)


def arm(out: Path) -> None:
    """Put every point round the functions of this process."""

    def die_if(point: str) -> None:
        if is_due(out, point):
            die()

    def around(owner: Any, name: str, before: Callable[..., None] | None = None, after: Any = None) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                before(*args, **kwargs)
            value = original(*args, **kwargs)
            if after is not None:
                after(value, *args, **kwargs)
            return value

        setattr(owner, name, wrapped)

    def before_state(_: Any, __: int, state: TrialState, *___: Any) -> None:
        if state == TrialState.COMPLETE:
            die_if("between result and COMPLETE")
        if state == TrialState.FAIL:
            die_if("between putting back and FAIL")

    def after_state(_: Any, __: Any, ___: int, state: TrialState, *____: Any) -> None:
        if state == TrialState.RUNNING:
            die_if("in a claim, before others are read")
        if state == TrialState.COMPLETE:
            die_if("after COMPLETE, before it is reported")

    around(GuardedStorage, "set_trial_state_values", before_state, after_state)
    for backend in BACKENDS:
        _die_inside(backend, die_if)
        around(backend, "__init__", after=lambda _, backend, *__: _die_in_commits(backend, die_if))
    around(Store, "claim", after=lambda got, *_: die_if("between claim and first lease") if got else None)
    around(Store, "add", after=lambda *_, **__: die_if("between two cells queued"))
    around(Store, "_requeue", before=lambda *_: die_if("between FAIL and queueing again"))
    _die_in_lines(out)
    around(Path, "replace", before=lambda path, _: _die_before_replacing(path, out))


def _die_before_replacing(path: Path, out: Path) -> None:
    if path.name.endswith(".partial") and is_due(out, "while a checkpoint is written"):
        path.write_bytes(path.read_bytes()[:10])
        die()


def _die_in_commits(backend: Any, die_if: Callable[[str], None]) -> None:
    if isinstance(backend, JournalBackend):
        return
    dialect = backend.engine.dialect
    commit = dialect.do_commit

    def wrapped(connection: Any) -> None:
        die_if("in the middle of a write")
        commit(connection)

    dialect.do_commit = wrapped


def _die_inside(backend: Any, die_if: Callable[[str], None]) -> None:
    alone = backend.alone

    @contextmanager
    def wrapped(self: Any) -> Generator[None]:
        with alone(self):
            die_if("inside the planning lock")
            yield

    backend.alone = wrapped


def _die_in_lines(out: Path) -> None:
    append = _File.append_logs

    def wrapped(self: _File, logs: list[dict[str, Any]]) -> None:
        if is_due(out, "in the middle of a write"):
            with _locked(self._path.with_name(self._path.name + ".write")), self._path.open("ab") as file:
                file.write(b'{"op_code":8,"worker_id":"torn')
                file.flush()
                die()
        append(self, logs)

    _File.append_logs = wrapped  # type: ignore[method-assign]


def run(experiment: Experiment, *, report: Callable[[Progress], None], checkpoint: Path, **_: Any) -> Result:
    """Four steps with a checkpoint after each; the outcome depends on all of them.

    A step takes as many seconds as the file ``out/seconds`` says.
    """
    out = checkpoint.parent.parent
    seconds = float((out / "seconds").read_text()) if (out / "seconds").exists() else 0.0

    def die_if(point: str) -> None:
        if is_due(out, point):
            die()

    die_if("between first lease and first step")
    values = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
    for step in range(len(values) + 1, NUM_STEPS + 1):
        time.sleep(seconds)
        if step == 3:
            die_if("in a step")
        values.append((int(experiment.key, 16) * step) % 977 / 97.7)
        partial = checkpoint.with_name(f"{checkpoint.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(values))
        partial.replace(checkpoint)
        report(Progress(step=step, num_steps=NUM_STEPS, train_loss=1.0, curve=[]))
    die_if("after the last step")
    return result(sum(values))


def supervise_table(location: str, out: Path, call: type[WorkerCall] = DoomedCall, num_workers: int = 3) -> list[str]:
    """Plan the table and have it run by workers of this machine, as ``tada ablate`` does; returns its lines."""
    store = Store.open(location)
    planned = plan(store, STUDY, ROWS, list(SEEDS))
    keys = frozenset(cell.key for cell in planned.to_run)
    follower = Follower(store, STUDY, planned.to_run, lambda _: None)
    calls = [
        call(location, f"w{i}", "cpu", out, study=STUDY, keys=keys, run="crash_points:run", lease_seconds=LEASE_SECONDS)
        for i in range(num_workers)
    ]
    lines: list[str] = []

    def look() -> None:
        follower.update()
        if len(follower.ended) >= 2 and is_due(out, "while it watches"):
            die()

    launcher = LocalLauncher(calls, follower.take)
    # These cells need no torch, and a database needs more than one would think.
    launcher._context.set_forkserver_preload(["tadaconv.execution.postgres", "psycopg", "alembic.command"])
    supervise(launcher, store, lambda: follower.is_pending, look, lines.append, LEASE_SECONDS)
    return lines


if __name__ == "__main__":  # python crash_points.py OUT, with the storage in STORAGE
    arm(Path(sys.argv[1]))
    supervise_table(os.environ["STORAGE"], Path(sys.argv[1]))
