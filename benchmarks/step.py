"""One training step of TAda2D-50 against TSN-50 and against the same network with a kernel built for every frame.

    python benchmarks/step.py                     # 2 clips of 8 frames at 112 px on the CPU
    python benchmarks/step.py --device cuda --batch 16 --size 224

Contestants take turns within each round, so that a machine that speeds up or slows down does so for all of them; what
is reported is the median over rounds of each round's ratio to TSN, with its quartiles. Memory is the peak of a step in
a process of its own. Writes JSON and a chart to benchmarks/results/, named by the device.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

import tadaconv
from tadaconv.measure import peak_memory_bytes, reset_peak_memory
from tadaconv.models import build
from tadaconv.nn.naive import naive_tada_conv2d
from tadaconv.spec import Backbone, TAda
from tadaconv.training.fit import autocast

RESULTS = Path(__file__).parent / "results"
CONTESTANTS = {
    "TSN-50": "plain convolutions",
    "TAda2D-50": "temporally adaptive, no kernel per frame",
    "naive TAda2D-50": "temporally adaptive, a grouped convolution over per-frame kernels",
}


@contextmanager
def contestant(name: str) -> Iterator[None]:
    """Within it, a TAda2D-50 runs on the named contestant's operator."""
    if name.startswith("naive"):
        with patch("tadaconv.nn.conv.tada_conv2d", naive_tada_conv2d):
            yield
    else:
        yield


class Step:
    """A training step, forward and backward, of one contestant on one fixed batch."""

    def __init__(self, name: str, batch: int, frames: int, size: int, device: torch.device) -> None:
        self.name, self.device = name, device
        torch.manual_seed(0)
        temporal = None if name == "TSN-50" else TAda()
        self.model = build(Backbone(name="resnet50"), temporal, 400).train()
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        clips = torch.randn(batch, 3, frames, size, size, device=device)
        self.clips = clips.contiguous(memory_format=torch.channels_last_3d)
        self.labels = torch.randint(400, (batch,), device=device)

    def __call__(self) -> float:
        """Seconds of one step."""
        with contestant(self.name):
            self.model.zero_grad(set_to_none=True)
            self._wait()
            started = time.perf_counter()
            with autocast(self.device):
                loss = F.cross_entropy(self.model(self.clips), self.labels)
            loss.backward()
            self._wait()
            return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def peak_memory(arguments: tuple[str, int, int, int, str]) -> int:
    """Bytes at the peak of two steps; meant to run in a fresh process, as the CPU's peak is the process's."""
    name, batch, frames, size, device = arguments
    step = Step(name, batch, frames, size, torch.device(device))
    reset_peak_memory(step.device)
    step()
    step()
    return peak_memory_bytes(step.device)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time and memory of every contestant."""
    device = torch.device(options.device)
    shape = (options.batch, options.frames, options.size)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.map(peak_memory, [(name, *shape, options.device) for name in CONTESTANTS], chunksize=1)
        memory = dict(zip(CONTESTANTS, peaks, strict=True))
    steps = {name: Step(name, *shape, device) for name in CONTESTANTS}
    for step in steps.values():
        step()
    rounds = []
    for number in range(options.rounds):
        rounds.append({name: step() for name, step in steps.items()})
        print(f"round {number + 1} of {options.rounds}", {n: round(s, 3) for n, s in rounds[-1].items()}, flush=True)
    return {
        "benchmark": "training step, forward and backward",
        "clips": {"batch": shape[0], "frames": shape[1], "size_px": shape[2]},
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "precision": "bfloat16 autocast" if device.type == "cuda" else "float32",
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "torch": torch.__version__,
        "tadaconv": tadaconv.__version__,
        "date": date.today().isoformat(),
        "rounds": options.rounds,
        "contestants": {name: _summary(name, rounds, memory[name]) for name in CONTESTANTS},
        "naive over ours": _quartiles([r["naive TAda2D-50"] / r["TAda2D-50"] for r in rounds]),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "quartile_low": low, "quartile_high": high}


def _summary(name: str, rounds: list[dict[str, float]], memory: int) -> dict[str, Any]:
    return {
        "what": CONTESTANTS[name],
        "seconds": _quartiles([r[name] for r in rounds]),
        "over TSN-50": _quartiles([r[name] / r["TSN-50"] for r in rounds]),
        "peak_memory_mib": round(memory / 2**20),
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Bars of time over TSN with quartiles, and of peak memory."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(result["contestants"])[::-1]
    rows = [result["contestants"][name] for name in names]
    ratios = [row["over TSN-50"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.4), sharey=True, layout="constrained")
    errors = [
        [r["median"] - r["quartile_low"] for r in ratios],
        [r["quartile_high"] - r["median"] for r in ratios],
    ]
    bars = left.barh(names, [r["median"] for r in ratios], xerr=errors, color="#4c78a8", capsize=3)
    left.bar_label(bars, [f"{r['median']:.2f} x" for r in ratios], padding=6)
    left.set(
        xlabel="time of a training step over TSN-50's\n(median and quartiles)",
        xlim=(0, 1.2 * max(r["median"] for r in ratios)),
    )
    bars = right.barh(names, [row["peak_memory_mib"] for row in rows], color="#b0b0b0")
    right.bar_label(bars, padding=4)
    right.set(xlabel="peak memory of the process (MiB)", xlim=(0, 1.25 * max(row["peak_memory_mib"] for row in rows)))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    clips = result["clips"]
    figure.suptitle(
        f"{clips['batch']} clips of {clips['frames']} frames at {clips['size_px']} px, {result['device']}", fontsize=10
    )
    figure.savefig(path, dpi=160)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=2, help="clips a step")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112, help="pixels")
    parser.add_argument("--rounds", type=int, default=9)
    result = measure(parser.parse_args())
    name = "step-" + ("".join(c if c.isalnum() else "-" for c in result["device"].lower()).replace("--", "-"))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(result, RESULTS / f"{name}.png")
    print(
        json.dumps(
            {n: c["over TSN-50"] | {"MiB": c["peak_memory_mib"]} for n, c in result["contestants"].items()}, indent=2
        )
    )
    print("naive over ours", result["naive over ours"])


if __name__ == "__main__":
    main()
