"""All that is to be measured on a GPU, in one call that keeps to a budget and goes on where an earlier one stopped.

    python benchmarks/gpu.py [--budget 8] [--dry-run]

Parts run in the order of what they are worth. Each is written to ``benchmarks/results/gpu-<device>.json`` as soon as it
has ended, with the device, versions and the date; what was measured by the same code is not measured again.
``--dry-run`` runs every part on tiny shapes on the CPU and writes nothing that stays.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LEAST_SECONDS = 30
"""What must be left of the budget for a part to be begun."""

REGIME = """from tadaconv.regimes.{base} import REGIME as BASE

REGIME = BASE.but(summary="to be timed", {changes})
"""


@dataclass(frozen=True)
class Part:
    """Something to be measured: the call takes a folder and the seconds left, and returns its figures."""

    name: str
    call: Callable[[Path, float], dict[str, Any]]
    needs: tuple[str, ...] = ()
    """Packages beyond those of the project's dependencies; without them the part is skipped."""


class StoppedError(Exception):
    """The budget ended before the part did."""


def missing_dependencies() -> list[str]:
    """The requirements of the package itself that are not installed."""
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [each for each in requirements if not _is_installed(re.split(r"[<>=!~\[ ]", each, maxsplit=1)[0])]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def run(words: Sequence[str], seconds: float, folder: Path) -> str:
    """The standard output of a command run in ``folder``; raises :class:`StoppedError` when the time is over."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        words, cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # the workers of a table too
        process.communicate()
        raise StoppedError from None
    if process.returncode:
        raise RuntimeError(f"{' '.join(words[:6])} ... ended with {process.returncode}: {(err or out)[-2000:]}")
    return out


def tada(*words: object) -> list[str]:
    """A call of the command line."""
    return [sys.executable, "-m", "tadaconv", *map(str, words)]


def gpu_tests(folder: Path, seconds: float) -> dict[str, Any]:
    """The tests that need a GPU: how many passed, failed and were skipped."""
    report = folder / "tests.xml"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        f"--junitxml={report}",
        "-p",
        "no:cacheprovider",
        "tests",
    ]
    try:
        run(words, seconds, ROOT)
    except RuntimeError:
        if not report.is_file():
            raise
    counts = {name: int(number) for name, number in re.findall(r'(tests|failures|errors|skipped)="(\d+)"',
                                                               report.read_text())}  # fmt: skip
    failed = re.findall(r'<testcase classname="([^"]*)" name="([^"]*)"[^>]*>\s*<(?:failure|error)', report.read_text())
    return {**counts, "failed": [f"{module}::{name}" for module, name in failed]}


def bench(kind: str, dry: bool, mode: str, *words: object) -> Callable[[Path, float], dict[str, Any]]:
    """``tada bench`` in bf16; its own files are its result, and the medians of its ratios stand in the summary."""

    def call(folder: Path, seconds: float) -> dict[str, Any]:
        tiny = ("--device", "cpu", "--clips", 1, "--frames", 4, "--size", 64, "--rounds", 3)
        shape = tiny if dry else ("--device", "cuda", "--dtype", "bf16", "--clips", 16, "--size", 224)
        out = folder / "bench" if dry else RESULTS
        found = json.loads(
            run(tada("bench", kind, "--mode", mode, *words, *shape, "--out", out, "--json"), seconds, ROOT)
        )
        return {
            f"{case['name']}: {timing['name']}": {phase: spread["median"] for phase, spread in timing["ratio"].items()}
            for case in found["races"]
            for timing in case["entries"][1:]
        }

    return call


def cells(dry: bool, num_workers: int) -> Callable[[Path, float], dict[str, Any]]:
    """Cells of the proxy regime, cut short, by so many workers on the one device: cells an hour and clips a second."""

    def call(folder: Path, seconds: float) -> dict[str, Any]:
        base = "quick" if dry else "proxy"
        changes = "data__num_train=64, data__num_val=32, schedule__epochs=1, schedule__warmup_epochs=0" if dry else (
            "data__num_train=1600, data__num_val=400, schedule__epochs=2, schedule__warmup_epochs=0.5"
        )  # fmt: skip
        (folder / "timed.py").write_text(REGIME.format(base=base, changes=changes))
        rows = ["linear 1", "linear 3", "(1,1)", "(3,3)"]
        words = [word for row in rows for word in ("--rows", row)]
        begin = time.perf_counter()
        run(
            tada("ablate", "context", "--regime", "timed.py", *words, "--seeds", 1, "--workers", num_workers,
                 "--device", "cpu" if dry else "cuda", "--out", "out"),
            seconds, folder,
        )  # fmt: skip
        wall = time.perf_counter() - begin
        report = json.loads((folder / "out" / "reports" / "context-timed" / "report.json").read_text())
        rates = [cell["train_clips_per_second"] for cell in report["cells"] if cell["train_clips_per_second"]]
        peaks = [cell["peak_memory_bytes"] for cell in report["cells"] if cell["peak_memory_bytes"]]
        return {
            "cells": len(rates),
            "wall_seconds": wall,
            "cells_an_hour": 3600 * len(rates) / wall,
            "train_clips_per_second_of_a_cell": sum(rates) / len(rates),
            "peak_memory_mib_of_a_cell": max(peaks) / 2**20,
        }

    return call


READING = """
import json, sys, time, torch
from pathlib import Path
from tadaconv.data import folder
from tadaconv.data.check import check_layout
from tadaconv.data.sample import DigitMedia, sample_clips, write_layout
from tadaconv.data import sample
from tadaconv.environment import resolve_device
from tadaconv.experiment import build_model
from tadaconv.spec import Backbone, Experiment, Folder, Schedule, TAda
from tadaconv.training import Fit

dry, place = sys.argv[1] == "dry", Path("clips")
sample.HEIGHT, sample.WIDTH = (64, 80) if dry else (240, 320)
write_layout("ssv2", "videos", place, sample_clips(8, 2), DigitMedia())
check_layout(place, "ssv2", "", Path("out/cache"))
size, clips = (32, 4) if dry else (224, 16)
data = Folder(layout="ssv2", num_frames=8, size=size, short_side=0, mirror="swap")
data = folder.resolve(data, place, Path("out/cache"))
device = resolve_device("cpu" if dry else "cuda")

def clips_per_second(source, num_batches):
    begin = time.perf_counter()
    for batch in range(num_batches):
        source.train_batch(torch.arange(clips) + batch % 2 * clips, batch, 0)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clips * num_batches / (time.perf_counter() - begin)

kept = folder.FolderClips(data, device)
clips_per_second(kept, 2)
cropping = clips_per_second(kept, 4 if dry else 40)
folder.MEMORY_SHARE = 0
read = folder.FolderClips(data, device)
reading = clips_per_second(read, 4 if dry else 20)
experiment = Experiment(backbone=Backbone(name="tiny" if dry else "resnet50"), temporal=TAda(), data=data,
                        schedule=Schedule(epochs=2, batch_size=clips, lr=0.01))
speeds = {}
for name, source in (("kept", kept), ("read", read)):
    model = build_model(experiment, 6).to(device)
    fit = Fit(model, source, experiment.schedule, 0, device, experiment.key, None)
    begin = time.perf_counter()
    fit.run(lambda: 0.0, None, None)
    speeds[name] = 2 * source.num_train / (time.perf_counter() - begin)
print(json.dumps({"clips_a_second": {"cropping, from memory": cropping, "reading and cropping": reading,
                  "training, from memory": speeds["kept"], "training, reading": speeds["read"]}}))
"""


def reading(dry: bool) -> Callable[[Path, float], dict[str, Any]]:
    """Reading against training: clips a second of VP8 videos read, cropped on the device, and trained on."""

    def call(folder: Path, seconds: float) -> dict[str, Any]:
        words = [sys.executable, "-c", READING, "dry" if dry else "gpu"]
        found: dict[str, Any] = json.loads(run(words, seconds, folder).splitlines()[-1])
        return found

    return call


def parts(dry: bool) -> list[Part]:
    """What is measured, what is worth most first.

    The fused kernels for calibrated taps are off in runs. The GPU tests tell whether they give the eager form's
    numbers, and the parts of tap calibration whether they pay: the method "fused" against ours without them.
    """
    ours, fused = ("tada", ()) if dry else ("tada,fused", ("triton",))
    return [
        Part("GPU tests", gpu_tests, ("pytest", "hypothesis")),
        Part("step, ResNet-50, eager", bench("step", dry, "eager", "--methods", "tada" if dry else "tada,naive")),
        Part("operator, eager", bench("op", dry, "eager", "--methods", "tada,naive", "--shapes", "res2,res5")),
        Part("cells, 1 worker", cells(dry, 1)),
        Part("cells, 4 workers", cells(dry, 4)),
        Part("step, ResNet-50, compiled", bench("step", dry, "compiled", "--methods", "tada")),
        Part("reading against training", reading(dry), ("av",)),
        Part("operator, compiled", bench("op", dry, "compiled", "--methods", "tada", "--shapes", "res2,res5")),
        Part(
            "step, ConvNeXt-T, eager",
            bench("step", dry, "eager", "--backbone", "convnext_tiny_clip", "--methods", "tada"),
        ),
        Part(
            "operator, tap calibration",
            bench("op", dry, "eager", "--calibration", "k2,cin_k2", "--shapes", "res2,res5", "--methods", ours),
            fused,
        ),
        Part(
            "step, tap calibration",
            bench("step", dry, "eager", "--calibration", "cin_k2", "--methods", ours),
            fused,
        ),
    ]


def measure(todo: Sequence[Part], kept: dict[str, Any], budget_seconds: float, save: Callable[[], None]) -> None:
    """Run the parts that ``kept`` has no figures of while the budget lasts; each is put there and saved at once."""
    end = time.monotonic() + budget_seconds
    for part in todo:
        if kept.get(part.name, {}).get("status") == "measured":
            print(f"{part.name}: measured before", flush=True)
            continue
        left = end - time.monotonic()
        lacking = [package for package in part.needs if not _is_installed(package)]
        begin = time.monotonic()
        if lacking:
            outcome: dict[str, Any] = {"status": "skipped", "why": f"not installed: {', '.join(lacking)}"}
        elif left < LEAST_SECONDS:
            outcome = {"status": "not begun", "why": "the budget was used up; the same call goes on"}
        else:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    outcome = {"status": "measured", "figures": part.call(Path(folder), left)}
            except StoppedError:
                outcome = {"status": "stopped", "why": "the budget ended; the same call begins it again"}
            except (RuntimeError, ValueError, KeyError, OSError) as error:
                outcome = {"status": "failed", "why": str(error)}
        kept[part.name] = {
            **outcome,
            "seconds": time.monotonic() - begin,
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        }
        save()
        print(f"{part.name}: {outcome['status']}, {kept[part.name]['seconds']:.0f} s", flush=True)


def main() -> int:
    """Measure, write and sum up; the exit status is 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=8, metavar="MINUTES", help="how long it may take (default 8)")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU; nothing is kept")
    arguments = parser.parse_args()
    if lacking := missing_dependencies():
        print(
            f"missing: {', '.join(lacking)}; install with: pip install {' '.join(map(repr, lacking))}", file=sys.stderr
        )
        return 2
    sys.path.insert(0, str(ROOT))
    import torch

    from tadaconv.environment import environment, resolve_device, source_digest
    from tadaconv.files import write_file

    dry = arguments.dry_run
    if not dry and not torch.cuda.is_available():
        print("no usable CUDA device; --dry-run runs all parts on the CPU", file=sys.stderr)
        return 2
    about = {**environment(resolve_device("cpu" if dry else "cuda")), "platform": platform.platform()}
    name = re.sub(r"[^a-z0-9]+", "-", about["device"].lower()).strip("-")
    with tempfile.TemporaryDirectory() as scratch:
        place = (Path(scratch) if dry else RESULTS) / f"gpu-{name}.json"
        document: dict[str, Any] = json.loads(place.read_text()) if place.is_file() else {}
        if document.get("code") != source_digest():  # other code may be faster
            document = {"code": source_digest(), "parts": {}}
        document["environment"] = about

        def save() -> None:
            write_file(place, json.dumps(document, indent=1) + "\n")

        measure(parts(dry), document["parts"], 60 * arguments.budget, save)
    print(
        json.dumps({name: part.get("figures", part.get("why")) for name, part in document["parts"].items()}, indent=1)
    )
    failed = [name for name, part in document["parts"].items() if part["status"] == "failed"]
    failed += [name for name, part in document["parts"].items() if part.get("figures", {}).get("failed")]
    print(f"failed: {', '.join(failed)}" if failed else "nothing failed", "" if dry else f"written: {place}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
