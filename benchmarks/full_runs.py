"""What Something-Something-V2 and Kinetics-400 take in full: disk, cores, GPU-hours. Prints the table of the docs.

    python benchmarks/full_runs.py

Clips a second a core are those of ``results/reading.json``, epochs and views the regimes', multiply-adds of a frame
those that ``tada cost`` counts. All else is arithmetic from what stands below.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tadaconv.measure import count
from tadaconv.models import build
from tadaconv.regime import load_regime
from tadaconv.spec import Backbone, Folder, TAda

ROOT = Path(__file__).resolve().parent.parent
MACS_A_SECOND = 30e12
"""Assumed, not measured: what a data-centre GPU sustains in bfloat16, in training and in evaluation."""
TRAINING_PASSES = 3
"""Of a clip that is trained on: forward, and twice as much backward."""
NUM_CELLS, NUM_GPUS = 30, 8
MEASURED_FRAMES = 8
"""Of the clips in ``results/reading.json``."""
PACKED_FRAME_KB = (8, 20)
"""Of a frame of 340 x 256 in a pack, by what it shows."""


@dataclass(frozen=True)
class DataSet:
    """Clips as commonly stored: training, validation, GB of the videos, frames per clip, and which rates apply."""

    num_train: int
    num_val: int
    video_gb: float
    num_frames: int
    medium: str


# 19.4 GB, with the videos of the test side: dmlc/gluon-cv, docs/tutorials/datasets/somethingsomethingv2.py.
# 132 GB, at a height of 256 pixels: facebookresearch/video-nonlocal-net, DATASET.md.
SSV2 = DataSet(168_913, 24_777, 19.4, 45, "ssv2 webm")
K400 = DataSet(234_643, 19_761, 132, 300, "k400 mp4")
RUNS = {"ssv2_8f": SSV2, "ssv2_16f": SSV2, "k400_8x8": K400, "k400_16x5": K400}


@dataclass(frozen=True)
class Need:
    """What one cell of a regime takes. PMACs are 1e15 multiply-adds."""

    data_set: DataSet
    train_macs: float
    """Of one clip, forward."""
    view_macs: float
    """Of one view in evaluation."""
    num_epochs: int
    num_evaluations: int
    """While training, each of one view per clip."""
    num_views: int
    """Of a clip in the evaluation at the end."""
    video_rate: float
    """Clips a second a core, from videos."""
    pack_rate: float

    @property
    def num_trained(self) -> int:
        """Clips over all epochs."""
        return self.num_epochs * self.data_set.num_train

    @property
    def num_read(self) -> int:
        """Clips that are read, in training and in evaluations: the views of a clip are read at once."""
        return self.num_trained + (self.num_evaluations + 1) * self.data_set.num_val

    @property
    def train_pmacs(self) -> float:
        """Of training."""
        return TRAINING_PASSES * self.train_macs * self.num_trained / 1e15

    def eval_pmacs(self, num_evaluations: int, num_views: int) -> float:
        """Of evaluations of so many views of every clip."""
        return self.view_macs * num_evaluations * num_views * self.data_set.num_val / 1e15

    @property
    def gpu_hours(self) -> float:
        """Of a cell, by arithmetic."""
        pmacs = self.train_pmacs + self.eval_pmacs(self.num_evaluations, 1) + self.eval_pmacs(1, self.num_views)
        return pmacs * 1e15 / MACS_A_SECOND / 3600

    @property
    def trained_a_second(self) -> float:
        """Clips that a GPU trains on in a second, by arithmetic."""
        return MACS_A_SECOND / (TRAINING_PASSES * self.train_macs)


@cache
def macs_of_a_frame(backbone: str, size: int) -> int:
    """Multiply-adds of a TAda network for a frame of ``size`` x ``size``; those of a clip are as many times more."""
    return count(build(Backbone(name=backbone), TAda(), 400), (3, 1, size, size)).macs


def need(regime_name: str, data_set: DataSet, reading: dict[str, Any]) -> Need:
    """What a cell of a regime takes, with the rates of ``reading``."""
    regime = load_regime(regime_name)
    data, schedule = regime.data, regime.schedule
    assert isinstance(data, Folder)
    assert schedule.curve_views == "one"
    rates = reading[data_set.medium]
    return Need(
        data_set=data_set,
        train_macs=data.num_frames * macs_of_a_frame(regime.backbone.name, data.size),
        view_macs=data.num_frames * macs_of_a_frame(regime.backbone.name, data.eval_side),
        num_epochs=schedule.epochs,
        num_evaluations=sum(map(schedule.evaluates_after, range(1, schedule.epochs + 1))),
        num_views=data.num_temporal_views * data.num_spatial_crops,
        # Of a video nearly all is decoded, however many of its frames are wanted; of a pack, these alone.
        video_rate=rates["tadaconv"]["clips_per_core_second"],
        pack_rate=rates["pack"]["clips_per_core_second"] * MEASURED_FRAMES / data.num_frames,
    )


def table(reading: dict[str, Any]) -> str:
    """In Markdown: a column a regime, and in the last where the figures are from."""
    needs = [need(name, data_set, reading) for name, data_set in RUNS.items()]
    lines = [
        " | ".join(("| |", *(f"`{name}`" for name in RUNS), "from |")).replace("| | |", "| |"),
        "|---" * (len(RUNS) + 2) + "|",
    ]

    def row(title: str, source: str, value: Callable[[Need], str]) -> None:
        lines.append("| " + " | ".join((title, *map(value, needs), source)) + " |")

    def pack_gb(each: Need) -> str:
        frames = (each.data_set.num_train + each.data_set.num_val) * each.data_set.num_frames
        return " to ".join(f"{round(frames * kilobytes / 1e6, -1):,.0f}" for kilobytes in PACKED_FRAME_KB)

    def percent(pmacs: Callable[[Need], float]) -> Callable[[Need], str]:
        return lambda each: f"{100 * pmacs(each) / each.train_pmacs:.1f} %"

    arithmetic, of_training, measured = "arithmetic", "arithmetic, of training", "`reading.json`, of 8 frames"
    least, most = PACKED_FRAME_KB
    row("GB of videos", "published", lambda each: f"{each.data_set.video_gb:.0f}")
    row("GB of a pack", f"arithmetic: {least} to {most} KB a frame", pack_gb)
    row("clips per second and core, videos", measured, lambda each: f"{each.video_rate:.0f}")
    row("... a pack", f"{measured}; of 16 half as many", lambda each: f"{each.pack_rate:.0f}")
    row("core-hours per cell, videos", arithmetic, lambda each: f"{each.num_read / each.video_rate / 3600:.0f}")
    row("... a pack", arithmetic, lambda each: f"{each.num_read / each.pack_rate / 3600:.0f}")
    row("cores that keep a GPU busy, videos", arithmetic, lambda each: f"{each.trained_a_second / each.video_rate:.1f}")
    row("... a pack", arithmetic, lambda each: f"{each.trained_a_second / each.pack_rate:.1f}")
    row("million clips trained on", "regime", lambda each: f"{each.num_trained / 1e6:.1f}")
    row("GMACs per clip in training, 224 px", "counted", lambda each: f"{each.train_macs / 1e9:.1f}")
    row("GMACs per view in evaluation, 256 px", "counted", lambda each: f"{each.view_macs / 1e9:.1f}")
    row("PMACs of training", arithmetic, lambda each: f"{each.train_pmacs:,.0f}")
    row(
        "evaluations while training, of one view",
        of_training,
        percent(lambda each: each.eval_pmacs(each.num_evaluations, 1)),
    )
    row("all views at the end", of_training, percent(lambda each: each.eval_pmacs(1, each.num_views)))
    row(
        '*with `curve_views="all"`, instead of one view*',
        of_training,
        percent(lambda each: each.eval_pmacs(each.num_evaluations, each.num_views)),
    )
    row(
        "*and `evaluate_every=1`*",
        of_training,
        percent(lambda each: each.eval_pmacs(each.num_epochs, each.num_views)),
    )
    row("**GPU-hours per cell**", arithmetic, lambda each: f"**{each.gpu_hours:.0f}**")
    row(f"GPU-hours of {NUM_CELLS} cells", arithmetic, lambda each: f"{NUM_CELLS * each.gpu_hours:,.0f}")
    row(
        f"**days of {NUM_CELLS} cells on {NUM_GPUS} GPUs**",
        arithmetic,
        lambda each: f"**{NUM_CELLS * each.gpu_hours / NUM_GPUS / 24:.1f}**",
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads((ROOT / "benchmarks" / "results" / "reading.json").read_text())))
