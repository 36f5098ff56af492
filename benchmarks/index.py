"""What a data set of a quarter of a million clips costs a process: to check, to open, to plan on and to read from.

    python benchmarks/index.py [--clips 250000] [--batches 2000]

Something-Something-V2 is made up: as many entries in its annotation files as asked for, and as many videos, which are
links to few. Every part runs in a process of its own, and memory is what it holds beyond the same modules imported.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NUM_VIDEOS = 64
VAL_SHARE = 0.1


def make(root: Path, num_clips: int) -> None:
    """Annotations of ``num_clips`` clips and a link to one of few short videos for each."""
    from tadaconv.data.sample import DigitMedia, class_names, sample_clips

    media = root / "20bn-something-something-v2"
    media.mkdir(parents=True)
    clips = sample_clips(11, 0)[:NUM_VIDEOS]
    originals = [root / f"original-{number}.webm" for number in range(NUM_VIDEOS)]
    for path, clip in zip(originals, clips, strict=True):
        DigitMedia().video(path, [clip], 12)
    names = class_names("ssv2")
    plain = {name.replace("[", "").replace("]", ""): str(label) for label, name in enumerate(names)}
    (root / "something-something-v2-labels.json").write_text(json.dumps(plain))
    num_val = int(num_clips * VAL_SHARE)
    for side, ids in (("validation", range(num_val)), ("train", range(num_val, num_clips))):
        entries = [
            {"id": str(one), "label": "filled in", "template": names[clips[one % NUM_VIDEOS].motion]} for one in ids
        ]
        (root / f"something-something-v2-{side}.json").write_text(json.dumps(entries))
    for one in range(num_clips):
        os.link(originals[one % NUM_VIDEOS], media / f"{one}.webm")
    for path in originals:
        path.unlink()


def peak_mib() -> float:
    """The most memory this process has held so far."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def now_mib(page: int = 1) -> float:
    """Memory that this process holds; with page 2 that of files alone, which is shared."""
    pages = int(Path("/proc/self/statm").read_text().split()[page])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def check(root: Path, out: Path, quick: bool) -> dict[str, float]:
    """``tada data check``, its seconds and memory."""
    from tadaconv.data.check import check_layout

    bare, begin = peak_mib(), time.perf_counter()
    report = check_layout(root, "ssv2", "", out / "cache", quick=quick)
    assert report.ok, report.problems
    return {"seconds": time.perf_counter() - begin, "mib": peak_mib() - bare}


def opening(root: Path, out: Path) -> dict[str, float]:
    """The source of a cell, opened from the index; then the order of an epoch."""
    import torch

    from tadaconv.data import folder
    from tadaconv.data.folder import FolderClips, resolve
    from tadaconv.training.fit import epoch_order

    folder.MEMORY_SHARE = 0  # as of videos that do not fit into memory
    data = resolve(_data(), root, out / "cache")
    bare = _in_a_process_of_its_own("bare", root, out)["mib"]
    begin = time.perf_counter()
    source = FolderClips(data, torch.device("cpu"))
    opened, mib = time.perf_counter() - begin, now_mib() - bare
    begin = time.perf_counter()
    epoch_order(source.num_train, 0, 0)
    return {"seconds": opened, "mib": mib, "order_seconds": time.perf_counter() - begin}


def bare(root: Path, out: Path) -> dict[str, float]:
    """A process that has imported what opens an index."""
    del root, out
    import tadaconv.data.folder
    import tadaconv.training.fit  # noqa: F401

    return {"mib": now_mib()}


def planning(root: Path, out: Path) -> dict[str, float]:
    """60 cells of the table context: clips resolved, a dry run of every row, the queue filled."""
    from tadaconv.execution.planner import plan
    from tadaconv.execution.store import Store
    from tadaconv.locations import resolve_data
    from tadaconv.regimes import quick
    from tadaconv.table import load_table
    from tadaconv.table_run import dry_run_cells

    begin = time.perf_counter()
    regime = resolve_data(quick.REGIME.but(data=_data()), root, out / "cache")
    table = load_table("context").table
    num_rows = len(table.rows) + 1
    seeds = range(-(-60 // num_rows))
    cells = table.cells(regime, seeds)[:60]
    dry_run_cells(cells)
    store = Store.open(str(out / "journal.log"))
    planned = plan(store, "context-made_up", table.cells(regime, [0]), seeds, None)
    return {"seconds": time.perf_counter() - begin, "cells": len(planned.to_run)}


def reading(root: Path, out: Path, num_batches: int) -> dict[str, float]:
    """Training batches of four clips, decoded as they are asked for."""
    import torch

    from tadaconv.data import folder

    folder.MEMORY_SHARE = 0
    source = folder.FolderClips(folder.resolve(_data(), root, out / "cache"), torch.device("cpu"))
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    held = {}
    begin = time.perf_counter()
    for batch in range(1, num_batches + 1):
        source.train_batch(torch.randint(source.num_train, (4,), generator=draw), 0, 0)
        if batch in (num_batches // 10, num_batches):
            held[batch] = now_mib(), now_mib(2)
    first, last = held[num_batches // 10], held[num_batches]
    return {
        "grown_mib": last[0] - first[0],
        "of_files_mib": last[1] - first[1],
        "clips_per_second": 4 * num_batches / (time.perf_counter() - begin),
    }


def _data() -> Any:
    from tadaconv.spec import Folder

    return Folder(layout="ssv2", num_frames=8, size=32, short_side=0, mirror="swap")


def _in_a_process_of_its_own(part: str, root: Path, out: Path, *more: str) -> dict[str, float]:
    words = [sys.executable, __file__, "--part", part, str(root), str(out), *more]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    """Measure all parts, print them and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=250_000, help="clips of the data set")
    parser.add_argument("--batches", type=int, default=2_000, help="batches read; memory is told at a tenth and at all")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part, root, out, *more = arguments.part
        parts = {
            "quick": lambda: check(Path(root), Path(out), True),
            "whole": lambda: check(Path(root), Path(out), False),
            "bare": lambda: bare(Path(root), Path(out)),
            "opening": lambda: opening(Path(root), Path(out)),
            "planning": lambda: planning(Path(root), Path(out)),
            "reading": lambda: reading(Path(root), Path(out), int(more[0])),
        }
        print(json.dumps(parts[part]()))
        return
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder, "ssv2"), Path(folder, "runs")
        make(root, arguments.clips)
        measured: dict[str, Any] = {
            "clips": arguments.clips,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        for part in ("quick", "whole", "opening", "planning"):
            measured[part] = _in_a_process_of_its_own(part, root, out)
            print(part, json.dumps(measured[part]), flush=True)
        measured["reading"] = _in_a_process_of_its_own("reading", root, out, str(arguments.batches))
        print("reading", json.dumps(measured["reading"]))
    place = ROOT / "benchmarks" / "results" / "index.json"
    place.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
