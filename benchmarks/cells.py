"""Cells for the benchmarks of the queue: many of them, and what runs them in next to no time."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from tadaconv.execution.cells import Cell
from tadaconv.regimes import quick
from tadaconv.result import CurvePoint, Progress, Result
from tadaconv.spec import Backbone, Context, Experiment, Schedule, Synthetic, TAda

CLASSES = [f"{kind} {n}" for kind in ("moving", "turning", "growing", "flashing") for n in range(12)]


def rows(num_rows: int) -> list[Cell]:
    """Rows that differ in their learning rate."""
    experiment = Experiment(
        backbone=Backbone(name="tiny"),
        temporal=TAda(context=Context(kernels=(3, 3))),
        data=Synthetic(num_train=64, num_val=64),
        schedule=Schedule(epochs=4, batch_size=32, lr=0.1),
    )
    return [Cell(f"row {i}", experiment.but(schedule__lr=0.1 / (1 + i))) for i in range(num_rows)]


def result(seed: str) -> Result:
    """A result as large as that of a table's cell, about 3 KB, which depends on ``seed`` alone."""
    digest = hashlib.sha256(seed.encode()).digest()
    top1 = 25 + 50 * int.from_bytes(digest[:4], "big") / 2**32
    return Result(
        score=top1,
        top5=98.7,
        loss=1 / (1 + digest[5]),
        per_class={name: 100 * digest[i % 32] / 255 for i, name in enumerate(CLASSES)},
        per_family=dict.fromkeys(("moving", "turning", "growing", "flashing"), top1),
        num_val=800,
        curve=[CurvePoint(epoch=e, step=75 * e, train_loss=1 / e, score=top1 * e / 4) for e in range(1, 5)],
        params=123_456,
        macs=45_678_901,
        cost={"convolutions": 45_000_000, "linear": 678_901, "unit": "multiply-adds per clip", "input": [3, 8, 24, 24]},
        train_clips_per_second=812.5,
        eval_clips_per_second=2034.5,
        peak_memory_bytes=412_345_678,
        seconds=4.25,
        environment={"device": "none", "machine": "Linux x86_64", "python": "3", "torch": "2", "tadaconv": "0"},
    )


def run_at_once(experiment: Experiment, *, checkpoint: Path, **_: object) -> Result:
    """A cell that takes no time; ``out/times/PID`` gets its start, its end, and the CPU time so far, in seconds."""
    began = time.monotonic()
    outcome = result(experiment.key)
    folder = checkpoint.parent.parent / "times"
    folder.mkdir(exist_ok=True)
    with (folder / str(os.getpid())).open("a") as file:
        file.write(f"{began} {time.monotonic()} {time.process_time()}\n")
    return outcome


def gaps(out: Path) -> list[float]:
    """Seconds between the end of one cell and the beginning of the next of the same worker, of all workers."""
    return [after[0] - before[1] for times in _times(out) for before, after in pairwise(times)]


def cpu_seconds(out: Path) -> float:
    """Processor seconds of all workers, from the end of each one's first cell to the end of its last."""
    return sum(times[-1][2] - times[0][2] for times in _times(out))


def _times(out: Path) -> list[list[list[float]]]:
    files = sorted((out / "times").iterdir())
    return [[[float(word) for word in line.split()] for line in file.read_text().splitlines()] for file in files]


def trained_rows() -> list[Cell]:
    """Eight rows of the ``quick`` regime, cut down to some seconds per cell: two epochs, each with a checkpoint."""
    data = quick.REGIME.data.but(num_train=160, num_val=80)
    plugged = {f"({a},{b})": TAda(context=Context(kernels=(a, b))) for a in (1, 3) for b in (1, 3)}
    linear = {f"linear {k}": TAda(context=Context(kernels=(k,))) for k in (1, 3, 5)}
    schedule = quick.REGIME.schedule.but(epochs=2)
    rows = {"no calibration": None, **linear, **plugged}
    return [
        Cell(
            label,
            Experiment(backbone=quick.REGIME.backbone, temporal=temporal, data=data, schedule=schedule),
        )
        for label, temporal in rows.items()
    ]


NUM_STEPS = 20


def run_in_steps(
    experiment: Experiment, *, report: Callable[[Progress], None], checkpoint: Path, **_: object
) -> Result:
    """Twenty steps of a fifth of a second with a checkpoint after each; the result depends on all of them."""
    state: Sequence[str] = json.loads(checkpoint.read_text()) if checkpoint.exists() else [experiment.key, "0"]
    digest, step = state[0], int(state[1])
    while step < NUM_STEPS:
        time.sleep(0.2)
        digest, step = hashlib.sha256(digest.encode()).hexdigest(), step + 1
        partial = checkpoint.with_name(f"{checkpoint.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps([digest, str(step)]))
        partial.replace(checkpoint)
        report(Progress(step=step, num_steps=NUM_STEPS, train_loss=1.0, curve=[]))
    return result(digest)
