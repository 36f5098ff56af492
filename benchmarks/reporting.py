"""What a report of many cells takes beyond starting up: wall and processor time, and memory.

    python benchmarks/reporting.py [--shapes 100x10 10x100] [--rounds 3]

A storage is filled with made-up results of realistic size, rows x seeds of them, and nothing is trained. Then ``tada
list``, which does next to nothing, and ``tada report`` run in turns, in processes of their own.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import TrialState

import tadaconv
from tadaconv.execution.store import PlannedRow, Store
from tadaconv.regimes import quick
from tadaconv.result import CurvePoint, Result, StageCalibration
from tadaconv.table import load_table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
NUM_EPOCHS, NUM_VAL = 20, 840
FAMILIES = {family: [f"{family} {i}" for i in range(4)] for family in ("frame", "set", "order")}
CLASSES = [name for names in FAMILIES.values() for name in names]
STAGES = ("res2", "res3", "res4", "res5")
TABLE = '''"""Which reduction is best?

A table made up to time its report.
"""

from tadaconv.table import Claim, Row, Table
from tadaconv.spec import Context, TAda

ROWS = [Row(f"reduction {{i}}", TAda(context=Context(reduction=i))) for i in range(1, {num_rows} + 1)]
TABLE = Table(
    base=ROWS[0],
    rows=ROWS[1:],
    claims=[Claim(f"claim {{i}}", f"reduction {{i + 2}}", "reduction 1", "made up") for i in range(4)],
)
'''
TADA = [sys.executable, "-c", "from tadaconv.cli import main; main()"]


def result(row: int, seed: int) -> Result:
    """A result as large as a cell's of the proxy regime, which depends on row and seed alone."""
    draw = np.random.default_rng([row, seed])
    level = 55 + 10 * np.sin(row) + draw.normal()
    hits = draw.binomial(NUM_VAL // 12, np.clip((level + draw.normal(0, 8, 12)) / 100, 0, 1))
    confusion = [(i, i, int(n)) for i, n in enumerate(hits) if n]
    for i, n in enumerate(hits):
        elsewhere = draw.multinomial(NUM_VAL // 12 - n, draw.dirichlet(np.full(11, 0.5)))
        confusion += [(i, (i + 1 + j) % 12, int(k)) for j, k in enumerate(elsewhere) if k]
    per_class = {name: 100 * int(n) / (NUM_VAL // 12) for name, n in zip(CLASSES, hits, strict=True)}
    top1 = statistics.fmean(per_class.values())
    return Result(
        score=top1,
        top5=min(100.0, top1 + 25),
        loss=float(2 - top1 / 60),
        per_class=per_class,
        per_family={family: statistics.fmean(per_class[n] for n in names) for family, names in FAMILIES.items()},
        classes=CLASSES,
        family_classes=FAMILIES,
        confusion=confusion,
        num_val=NUM_VAL,
        curve=[_point(epoch, top1, draw) for epoch in range(1, NUM_EPOCHS + 1)],
        params=171_000 + 10 * row,
        macs=10_300_000 + 1_000 * row,
        cost={"convolutions": 10_000_000, "linear": 300_000, "unit": "multiply-adds per clip", "input": [3, 8, 24, 24]},
        train_clips_per_second=float(200 + draw.normal()),
        eval_clips_per_second=float(800 + draw.normal()),
        peak_memory_bytes=400_000_000,
        seconds=float(60 + draw.normal()),
        environment={"device": "none", "machine": "Linux x86_64", "python": "3", "torch": "2", "tadaconv": "0"},
    )


def _point(epoch: int, top1: float, draw: np.random.Generator) -> CurvePoint:
    """An epoch of a curve that rises to ``top1``, with calibrations that move away from one."""
    return CurvePoint(
        epoch=epoch,
        step=75 * epoch,
        train_loss=float(2.5 * 0.9**epoch + 0.01 * draw.random()),
        score=float(8 + (top1 - 8) * (1 - 0.8**epoch) / (1 - 0.8**NUM_EPOCHS)),
        calibration={
            stage: StageCalibration(distance=0.01 * epoch + 0.001 * draw.random(), over_time=0.005, over_clips=0.002)
            for stage in STAGES
        },
    )


def fill(folder: Path, num_rows: int, num_seeds: int) -> None:
    """Put a table into ``folder`` and a finished result of each of its cells into ``runs/journal.log`` there."""
    table = folder / "ablations" / "big.py"
    table.parent.mkdir()
    table.write_text(TABLE.format(num_rows=num_rows))
    loaded = load_table(str(table))
    (folder / "runs").mkdir()
    store, study = Store.open(str(folder / "runs" / "journal.log")), "big-quick"
    cells = {row.name: [row.cell(quick.REGIME, seed) for seed in range(num_seeds)] for row in loaded.table.all_rows}
    plan = {
        name: PlannedRow(of_row[0].experiment.model_dump(mode="json"), {i: cell.key for i, cell in enumerate(of_row)})
        for name, of_row in cells.items()
    }
    store.write_plan(study, plan)
    lease = {"worker": "w0", "host": "nowhere"}
    for number, of_row in enumerate(cells.values()):
        for seed, cell in enumerate(of_row):
            made = result(number, seed)
            attrs = {"result": made.model_dump(mode="json"), "lease": lease}
            store.add(study, cell, TrialState.COMPLETE, value=made.top1, attrs=attrs)


def took(command: list[str], folder: Path) -> dict[str, float]:
    """What a command took: wall and processor seconds, with all its children's, and the peak of the largest process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        if process.returncode:
            said.seek(0)
            sys.exit(f"{command[3:]} ended with {process.returncode}:\n{said.read().decode(errors='replace')}")
    kibibytes = 1 if sys.platform == "darwin" else 1024
    return {
        "wall_seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_memory_bytes": used.ru_maxrss * kibibytes,
    }


def measure(num_rows: int, num_seeds: int, rounds: int) -> dict[str, Any]:
    """Start up and report in turns; the least of each, as other work on the machine only adds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, num_rows, num_seeds)
        times: dict[str, list[dict[str, float]]] = {"start_up": [], "csv": [], "all": [], "again": []}
        commands = {
            "start_up": ["list"],
            "csv": ["report", "big", "--out", "runs", "--format", "csv"],
            "all": ["report", "big", "--out", "runs"],
            "again": ["report", "big", "--out", "runs"],
        }
        for _ in range(rounds):
            for what, command in commands.items():
                if what != "again":
                    shutil.rmtree(folder / "runs" / "reports", ignore_errors=True)
                times[what].append(took([*TADA, *command], folder))
        sizes = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted((folder / "runs").rglob("*"))
            if path.is_file() and path.suffix not in (".png", ".svg", ".pdf")
        }
    least = {what: {key: min(one[key] for one in each) for key in each[0]} for what, each in times.items()}
    return {
        "num_rows": num_rows,
        "num_seeds": num_seeds,
        "beyond_start_up_wall_seconds": least["all"]["wall_seconds"] - least["start_up"]["wall_seconds"],
        "beyond_start_up_cpu_seconds": least["all"]["cpu_seconds"] - least["start_up"]["cpu_seconds"],
        "least": least,
        "rounds": times,
        "bytes": sizes,
    }


def about() -> dict[str, Any]:
    """When and on what it ran. What else the machine had to do, the load at the end hints at."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "load_at_the_end": os.getloadavg()[0],
        "python": platform.python_version(),
        "tadaconv": tadaconv.__version__,
    }


def main() -> None:
    """Measure and write ``benchmarks/results/reporting.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["100x10", "10x100"], metavar="ROWSxSEEDS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "reporting.json")
    arguments = parser.parse_args()
    results = []
    for shape in arguments.shapes:
        num_rows, num_seeds = map(int, shape.split("x"))
        found = measure(num_rows, num_seeds, arguments.rounds)
        results.append(found)
        for what, each in found["least"].items():
            print(
                f"{shape:>8} {what:<8} {each['wall_seconds']:6.1f} s, {each['cpu_seconds']:6.1f} s of processor, "
                f"{each['peak_memory_bytes'] / 2**20:5.0f} MiB",
                flush=True,
            )
    arguments.out.write_text(json.dumps({**about(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
