"""What it costs to hand out a cell, with cells that take no time: as a table grows, on a journal and on PostgreSQL.

    python benchmarks/scheduling.py [--storage journal|postgresql|URL ...] [--cells 100 1000 10000] [--workers 8]

``postgresql`` is a server of its own, which writes to the disk like any; the database of a URL gets a study a run.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna

import tadaconv
from tadaconv.execution.follow import Follower
from tadaconv.execution.launcher import supervise
from tadaconv.execution.local import LocalLauncher
from tadaconv.execution.location import Location
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import cells as benchmark_cells
import postgres_server  # sets PGPASSFILE, which workers start with

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@contextmanager
def storage(name: str, out: Path) -> Generator[str]:
    """The location of a journal in ``out``, of a database of a server of our own, or what ``name`` is."""
    if name == "journal":
        yield str(out / "journal.log")
    elif name == "postgresql":
        if reason := postgres_server.found():
            sys.exit(reason)
        with postgres_server.Server(fsync=True) as server:
            yield server.url(server.new_database())
    else:
        yield name


def shown(name: str) -> str:
    """A storage for readers."""
    return name if name in ("journal", "postgresql") else Location.parse(name).shown


def about() -> dict[str, Any]:
    """When and on what a benchmark ran. What else the machine had to do, the load at the end hints at."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "load_at_the_end": os.getloadavg()[0],
        "python": platform.python_version(),
        "optuna": optuna.__version__,
        "tadaconv": tadaconv.__version__,
    }


def measure(location: str, out: Path, num_cells: int, num_workers: int) -> dict[str, Any]:
    """Plan ``num_cells`` cells and have them run; durations are in seconds unless named otherwise."""
    store = Store.open(location)
    study = f"scheduling-{num_cells}"
    rows = benchmark_cells.rows(num_cells)
    began, began_cpu = time.monotonic(), time.process_time()
    planned = plan(store, study, rows, [0])
    planning, planning_cpu = time.monotonic() - began, time.process_time() - began_cpu
    keys = frozenset(cell.key for cell in planned.to_run)
    follower = Follower(store, study, planned.to_run, lambda _: None)
    call = WorkerCall(location, "", "cpu", out, study=study, keys=keys, run="cells:run_at_once")
    launcher = LocalLauncher([call.but(name=f"w{i}") for i in range(num_workers)], follower.take)
    began, began_cpu = time.monotonic(), time.process_time()
    lines: list[str] = []
    supervise(launcher, store, lambda: follower.is_pending, follower.update, lines.append)
    running, parent_cpu = time.monotonic() - began, time.process_time() - began_cpu
    gaps = benchmark_cells.gaps(out)
    attempts = store.attempts(keys)
    assert all([a.status for a in found].count("finished") == 1 for found in attempts.values())
    assert len(attempts) == num_cells
    cuts = statistics.quantiles(gaps, n=20)
    return {
        "num_cells": num_cells,
        "num_workers": num_workers,
        "gap_median_ms": 1e3 * statistics.median(gaps),
        "gap_95th_percentile_ms": 1e3 * cuts[-1],
        "gap_mean_ms": 1e3 * statistics.fmean(gaps),
        "num_gaps": len(gaps),
        "planning_ms_a_cell": 1e3 * planning / num_cells,
        "planning_cpu_ms_a_cell": 1e3 * planning_cpu / num_cells,
        "wall_ms_a_cell": 1e3 * running / num_cells,
        "parent_cpu_ms_a_cell": 1e3 * parent_cpu / num_cells,
        "worker_cpu_ms_a_cell": 1e3 * benchmark_cells.cpu_seconds(out) / num_cells,
        "num_attempts": sum(map(len, attempts.values())),
        "told": lines,
    }


def table(results: list[dict[str, Any]]) -> str:
    """The results as lines of text."""
    heads = {
        "num_cells": "cells",
        "gap_median_ms": "median ms",
        "gap_95th_percentile_ms": "95 % ms",
        "worker_cpu_ms_a_cell": "worker CPU ms",
        "parent_cpu_ms_a_cell": "parent CPU ms",
        "planning_ms_a_cell": "planning ms",
        "wall_ms_a_cell": "wall ms a cell",
    }
    lines = ["storage     " + "".join(f"{head:>15}" for head in heads.values())]
    for row in results:
        figures = "".join(f"{row[name]:>15.1f}" if name != "num_cells" else f"{row[name]:>15}" for name in heads)
        lines.append(f"{row['storage']:<12}{figures}")
    return "\n".join(lines)


def main() -> None:
    """Measure and write ``benchmarks/results/scheduling.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", nargs="+", default=["journal", "postgresql"])
    parser.add_argument("--cells", nargs="+", type=int, default=[100, 1000, 10000])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS / "scheduling.json")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name in arguments.storage:
        for num_cells in arguments.cells:
            with tempfile.TemporaryDirectory() as folder, storage(name, Path(folder)) as location:
                began = os.getloadavg()[0]
                row = measure(location, Path(folder), num_cells, arguments.workers)
            results.append({"storage": shown(name), "load_before": began, "load_after": os.getloadavg()[0], **row})
            print(table(results[-1:]), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**about(), "results": results}, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
