"""Kills the processes that run a table many times, and compares its results with those of an undisturbed run.

    python benchmarks/chaos.py [--storage journal|postgresql|URL ...] [--fake]

40 cells, 4 workers. Workers, and the process that plans and supervises them, are killed (SIGKILL) at random moments
and at every named point of a cell's life, at least 20 times. Exits with 1 unless every cell has one result, with
the numbers of the undisturbed run. ``--fake`` sleeps instead of training.
"""

import argparse
import importlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cells as benchmark_cells
from scheduling import RESULTS, ROOT, about, shown, storage

from tadaconv.execution.backend import Attempt
from tadaconv.execution.follow import Follower
from tadaconv.execution.launcher import supervise
from tadaconv.execution.local import LocalLauncher
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.result import Progress, Result
from tadaconv.spec import Experiment

sys.path.append(str(ROOT / "tests" / "execution"))
crash_points = importlib.import_module("crash_points")

STUDY, SEEDS, NUM_WORKERS, MIN_KILLS = "chaos", range(5), 4, 20
LEASE_SECONDS = 3.0
MEASURED = {"train_clips_per_second", "eval_clips_per_second", "peak_memory_bytes", "seconds", "environment"}
"""What of a result is measured and differs from run to run."""


def run(
    experiment: Experiment, *, device: str, report: Callable[[Progress], None], checkpoint: Path, **_: object
) -> Result:
    """Train a cell, or pretend to, and die where that is due."""
    out = checkpoint.parent.parent

    def die_if(point: str) -> None:
        if crash_points.is_due(out, point):
            crash_points.die()

    def report_or_die(progress: Progress) -> None:
        if progress.step >= 3:
            die_if("in a step")
        report(progress)

    die_if("between first lease and first step")
    if (out / "fake").exists():
        result = benchmark_cells.run_in_steps(experiment, report=report_or_die, checkpoint=checkpoint)
    else:
        from tadaconv import experiment as real

        result = real.run(experiment, device, report_or_die, checkpoint)
    die_if("after the last step")
    return result


def supervise_table(location: str, out: Path, call: type[WorkerCall]) -> None:
    """Plan the table and have it run by workers of this machine, as a call of ``tada ablate`` does."""
    store = Store.open(location)
    rows = benchmark_cells.rows(8) if (out / "fake").exists() else benchmark_cells.trained_rows()
    planned = plan(store, STUDY, rows, list(SEEDS))
    print(planned, flush=True)
    keys = frozenset(cell.key for cell in planned.to_run)
    follower = Follower(store, STUDY, planned.to_run, lambda _: None)
    one = call(location, "", "cpu", out, study=STUDY, keys=keys, run="chaos:run", lease_seconds=LEASE_SECONDS)

    def look() -> None:
        follower.update()
        if call is crash_points.DoomedCall and crash_points.is_due(out, "while it watches"):
            crash_points.die()

    launcher = LocalLauncher([one.but(name=f"w{i}") for i in range(NUM_WORKERS)], follower.take)
    supervise(launcher, store, lambda: follower.is_pending, look, lambda line: print(line, flush=True), LEASE_SECONDS)


@dataclass
class Killer:
    """Starts the parent, kills it and its workers, and starts it again, until the table is done."""

    location: str
    out: Path
    draw: random.Random
    mean_seconds: float
    signals: Counter[str] = field(default_factory=Counter)
    hit: list[str] = field(default_factory=list)
    endings: list[int] = field(default_factory=list)

    @property
    def num_kills(self) -> int:
        """How often somebody has died."""
        return self.signals.total() + len(self.hit)

    def work(self) -> None:
        """Return when a parent has ended by itself and well."""
        points = [*crash_points.WORKER_POINTS, *crash_points.REAPER_POINTS, *crash_points.WRITER_POINTS]
        plans = [*points, "while it watches", *["a worker"] * 8, *["a parent"] * 2]
        self.draw.shuffle(plans)
        todo = itertools.chain(plans, itertools.repeat("a worker", MIN_KILLS))
        due = ["between two cells queued.0", "inside the planning lock.0"]  # the first two parents die of these
        for name in due:
            (self.out / "due" / name).touch()
        with (self.out / "parents.log").open("ab") as log:
            parent = self._start(log)
            while parent.poll() != 0:
                if parent.returncode is not None:
                    self.endings.append(parent.returncode)
                    parent = self._start(log)
                time.sleep(self.draw.uniform(0.3, 1.7) * self.mean_seconds)
                left = [path.name for path in (self.out / "due").iterdir()]
                self.hit += [name.rpartition(".")[0] for name in due if name not in left]
                due = [name for name in due if name in left]
                victim = "" if self.num_kills >= len(plans) else next(todo, "")
                if victim in ("a worker", "a parent"):
                    self._kill(victim, parent.pid)
                elif victim:
                    name = f"{victim}.{sum(other.startswith(victim) for other in due)}"
                    (self.out / "due" / name).touch()
                    due.append(name)

    def _start(self, log: Any) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
        environment = {**os.environ, "CHAOS_STORAGE": self.location, "PYTHONPATH": paths}
        arguments = [sys.executable, __file__, "--parent", str(self.out)]
        return subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)

    def _kill(self, victim: str, parent: int) -> None:
        workers = [pid for server in _children(parent) for pid in _children(server)]
        pids = [parent] if victim == "a parent" else workers
        if pids:
            os.kill(self.draw.choice(pids), signal.SIGKILL)
            self.signals[victim] += 1


def _children(of: int) -> list[int]:
    children = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == of and state != "Z":
                children.append(int(folder.name))
    return children


Outcomes = dict[str, list[dict[str, Any]]]


def outcomes(location: str) -> Outcomes:
    """The results of every cell, without what is measured."""
    return {
        key: [
            Result.model_validate(a.attrs["result"]).model_dump(exclude=MEASURED)
            for a in found
            if a.status == "finished"
        ]
        for key, found in Store.open(location).attempts().items()
    }


def _figures(attempt: Attempt) -> dict[str, Any]:
    return Result.model_validate(attempt.attrs["result"]).model_dump(exclude=MEASURED)


def prepare(out: Path, *, fake: bool) -> Path:
    """A run folder."""
    (out / "due").mkdir(parents=True)
    if fake:
        (out / "fake").touch()
    return out


POINTS = dict.fromkeys(
    [
        *crash_points.WORKER_POINTS,
        *crash_points.REAPER_POINTS,
        *crash_points.WRITER_POINTS,
        *crash_points.PARENT_POINTS,
    ]
)


def judged(killer: Killer, undisturbed: Outcomes, disturbed: Outcomes) -> dict[str, Any]:
    """What was done to the table, and what came of it."""
    return {
        "cells": len(undisturbed),
        "workers": NUM_WORKERS,
        "kills": killer.num_kills,
        "kills_at_random_moments": dict(killer.signals),
        "kills_at_points": dict(Counter(killer.hit)),
        "points_not_hit": [point for point in POINTS if point not in killer.hit],
        "parents_started": len(killer.endings) + 1,
        "parents_ended_by": dict(Counter(map(str, killer.endings))),
        "results": sum(map(len, disturbed.values())),
        "twice": [key for key, found in disturbed.items() if len(found) > 1],
        "missing": [key for key in undisturbed if not disturbed.get(key)],
        "equal_to_undisturbed": disturbed == undisturbed,
    }


def main() -> None:
    """Run, compare, and write ``benchmarks/results/chaos-STORAGE.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", nargs="+", default=["journal", "postgresql"])
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean-seconds", type=float, default=3.0, help="between two kills")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--parent", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.parent:
        crash_points.arm(arguments.parent)
        supervise_table(os.environ["CHAOS_STORAGE"], arguments.parent, crash_points.DoomedCall)
        return
    with tempfile.TemporaryDirectory() as folder:
        peace = prepare(Path(folder, "peace"), fake=arguments.fake)
        began = time.monotonic()
        supervise_table(str(peace / "journal.log"), peace, WorkerCall)
        undisturbed_seconds = time.monotonic() - began
        undisturbed = outcomes(str(peace / "journal.log"))
        wrong = False
        for name in arguments.storage:
            out = prepare(Path(folder, f"chaos-{len(list(Path(folder).iterdir()))}"), fake=arguments.fake)
            with storage(name, out) as location:
                began = time.monotonic()
                killer = Killer(location, out, random.Random(arguments.seed), arguments.mean_seconds)
                killer.work()
                seconds = time.monotonic() - began
                disturbed = outcomes(location)
                num_attempts = sum(map(len, Store.open(location).attempts().values()))
            summary = {
                "storage": shown(name),
                "work": "sleep" if arguments.fake else "training",
                **judged(killer, undisturbed, disturbed),
                "attempts": num_attempts,
                "seconds": seconds,
                "seconds_undisturbed": undisturbed_seconds,
                **about(),
            }
            print(json.dumps(summary, indent=1), flush=True)
            print((out / "parents.log").read_text(), file=sys.stderr)
            arguments.out.mkdir(parents=True, exist_ok=True)
            kind = "-fake" if arguments.fake else ""
            file = arguments.out / f"chaos-{name if name == shown(name) and '/' not in name else 'url'}{kind}.json"
            file.write_text(json.dumps(summary, indent=1) + "\n")
            wrong |= killer.num_kills < MIN_KILLS or not summary["equal_to_undisturbed"] or len(undisturbed) != 40
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
