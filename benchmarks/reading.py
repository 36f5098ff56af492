"""What one core reads: clips a second by medium, beside other readers and packs; and what an epoch waits for reading.

    python benchmarks/reading.py [--rounds 5] [--clips 96]

The media are made here: a pattern that pans, under a square that moves, at the sizes, lengths and bytes of real ones.
Videos differ in what they cost by what they show, so ratios within a round are what counts. Other readers are those of
decord and torchcodec, where these are installed, in a plain DataLoader of one process; they read the same frames. A
pack holds the clips of a medium, and is read in the same rounds.

The steps of the epochs are sleeps, of half, once and twice the time that reading a batch takes; so they cost no core,
as a GPU's do not.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tadaconv.data import folder, prefetch
from tadaconv.data.check import check_layout
from tadaconv.data.folder import TRAIN, FolderClips, checked_index, resolve
from tadaconv.data.packing import pack_clips
from tadaconv.spec import Folder, Sampling
from tadaconv.training.fit import epoch_order

ROOT = Path(__file__).resolve().parent.parent
NUM_MADE = 8
BATCH = 8
WARM = 2
SEGMENTS = Sampling(kind="segments", rule="paper")
INTERVALS = Sampling(kind="intervals", rule="paper", interval=8, fps=30.0)


@dataclass(frozen=True)
class Medium:
    """Clips of one kind: how they are coded, frames, height, width, frames a second, and how a clip is sampled."""

    codec: str
    suffix: str
    num_frames: int
    height: int
    width: int
    rate: int
    sampling: Sampling
    options: dict[str, str]


# Videos have the bytes of those in copies that many people use, since these too are what decoding costs: 88 KB in
# Something-Something-V2, 19.4 GB of 220,847 (dmlc/gluon-cv, docs/tutorials/datasets/somethingsomethingv2.py), and
# 519 KB in Kinetics-400 at a height of 256, 132 GB of 254,404 (facebookresearch/video-nonlocal-net, DATASET.md).
WEBM = {"deadline": "realtime", "cpu-used": "5", "b": "147k"}
MP4 = {"crf": "23", "preset": "medium"}
LONG_MP4 = {"b": "450k", "preset": "medium", "g": "250"}
MEDIA = {
    "ssv2 webm": Medium("libvpx-vp9", ".webm", 45, 240, 428, 12, SEGMENTS, WEBM),
    "ssv2 mp4": Medium("libx264", ".mp4", 45, 240, 428, 12, SEGMENTS, MP4),
    "k400 mp4": Medium("libx264", ".mp4", 300, 256, 340, 30, INTERVALS, LONG_MP4),
    "frames": Medium("mjpeg", "", 45, 256, 340, 12, SEGMENTS, {"q": "3"}),
}


def pictures(medium: Medium, seed: int) -> Iterator[np.ndarray]:
    """The frames of a clip, (H, W, 3)."""
    draws = np.random.default_rng(seed)
    height, width = medium.height, medium.width
    coarse = torch.from_numpy(draws.uniform(0, 255, (1, 3, height // 12, width // 6))).float()
    ground = torch.nn.functional.interpolate(coarse, (height + 40, 2 * width), mode="bicubic")[0].clamp(0, 255)
    texture = ground.permute(1, 2, 0).numpy() + draws.normal(0, 3, (height + 40, 2 * width, 3))
    for number in range(medium.num_frames):
        at = number / medium.num_frames
        left, top = int(at * width * 0.5), int(20 + 20 * np.sin(6 * at))
        picture = texture[top : top + height, left : left + width].clip(0, 255).astype(np.uint8)
        x, y = int((0.1 + 0.6 * at) * width), int((0.3 + 0.2 * np.cos(9 * at)) * height)
        picture[y : y + 50, x : x + 70] = draws.integers(80, 90, 3)
        yield picture


def write(medium: Medium, path: Path, seed: int) -> None:
    """A video at ``path`` with the medium's suffix, or a folder of frames."""
    import av

    if not medium.suffix:
        path.mkdir(parents=True)
        context: Any = av.CodecContext.create("mjpeg", "w")
        context.height, context.width, context.pix_fmt = medium.height, medium.width, "yuvj420p"
        context.time_base, context.qmin, context.qmax = Fraction(1, medium.rate), 3, 3
        for number, picture in enumerate(pictures(medium, seed), 1):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
            (packet,) = context.encode(frame)
            (path / f"img_{number:05d}.jpg").write_bytes(bytes(packet))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(medium.codec, rate=medium.rate, options=medium.options)
        stream.height, stream.width, stream.pix_fmt = medium.height, medium.width, "yuv420p"
        for picture in pictures(medium, seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def make(medium: Medium, root: Path, num_clips: int) -> None:
    """``num_clips`` clips, links to a few that are made, in lists of training and of validation clips."""
    media, kind = root / "media", "videos" if medium.suffix else "rawframes"
    frames = "" if medium.suffix else f"{medium.num_frames} "
    for number in range(NUM_MADE):
        write(medium, root / "made" / f"{number}{medium.suffix}", number)
    media.mkdir()
    lines = []
    for number in range(num_clips + 2):
        name = f"{number:04d}{medium.suffix}"
        original = root / "made" / f"{number % NUM_MADE}{medium.suffix}"
        shutil.copytree(original, media / name, copy_function=os.link) if original.is_dir() else os.link(
            original, media / name
        )
        lines.append(f"media/{name} {frames}{number % 2}\n")
    (root / f"train_list_{kind}.txt").write_text("".join(lines[:-2]))
    (root / f"val_list_{kind}.txt").write_text("".join(lines[-2:]))


def opened(medium: Medium, root: Path, size: int = 32) -> FolderClips:
    """The clips under ``root``, once they have been checked, or of a pack."""
    spec = Folder(layout="list", num_frames=8, size=size, short_side=0, mirror="no", sampling=medium.sampling)
    return FolderClips(resolve(spec, root, root / "cache"), torch.device("cpu"))


def batches(source: FolderClips, epoch: int, size: int = BATCH) -> list[tuple[torch.Tensor, int, int]]:
    """Of an epoch, as training has them."""
    return [(indices, epoch, 0) for indices in epoch_order(source.num_train, 0, epoch).split(size)]


def generators(indices: torch.Tensor, epoch: int, seed: int) -> list[np.random.Generator]:
    """What is random about the clips of a batch."""
    return [np.random.default_rng((seed, epoch, index)) for index in indices.tolist()]


def processor_seconds(pids: Sequence[int]) -> float:
    """What processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rates(one: Callable[[int], int], num_batches: int, pids: Callable[[], Sequence[int]]) -> tuple[float, float]:
    """Clips a second of wall time, and of the reader's processor time, after a few batches to warm up."""
    for number in range(WARM):
        one(number)
    begin, used, num_clips = time.perf_counter(), processor_seconds(pids()), 0
    for number in range(WARM, num_batches):
        num_clips += one(number)
    return num_clips / (time.perf_counter() - begin), num_clips / max(0.01, processor_seconds(pids()) - used)


def by_ours(source: FolderClips, epoch: int) -> tuple[float, float]:
    """One reader that reads ahead; neither crops nor steps."""
    prefetch.set_num_readers(1)
    readers = source._readers
    assert readers is not None
    told = [source._train_wanted(batch[0], generators(*batch)) for batch in batches(source, epoch)]
    readers.expect(TRAIN, told, lambda num_clips: (source._ahead_bytes(TRAIN, num_clips), 0))
    try:
        return rates(
            lambda number: sum(1 for _ in readers.take(TRAIN, told[number]) or ()),
            len(told),
            lambda: readers.process_ids,
        )
    finally:
        readers.close()


class Read(Dataset[Any]):
    """Clips as a DataLoader's process reads them: a path and the indices of frames to uint8 (T, H, W, 3)."""

    def __init__(self, wanted: Sequence[tuple[str, list[int]]], library: str) -> None:
        self.wanted, self.library = wanted, library

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, place: int) -> torch.Tensor:
        path, frames = self.wanted[place]
        if self.library == "decord":
            from decord import VideoReader, cpu

            return torch.from_numpy(VideoReader(path, ctx=cpu(0), num_threads=1).get_batch(frames).asnumpy())
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        return decoder.get_frames_at(frames).data


def by_loader(source: FolderClips, epoch: int, library: str) -> tuple[float, float]:
    """A DataLoader of one process, which reads as many batches ahead."""
    wanted: list[tuple[str, list[int]]] = []
    for batch in batches(source, epoch):
        for place, frames in source._train_wanted(batch[0], generators(*batch)):
            wanted.append((str(source._clips.path(place)), frames.tolist()))
    loader = DataLoader(
        Read(wanted, library), batch_size=BATCH, num_workers=1, prefetch_factor=prefetch.DEPTH, collate_fn=list,
        multiprocessing_context="spawn",
    )  # fmt: skip
    coming = iter(loader)
    pids = [worker.pid for worker in coming._workers]  # type: ignore[attr-defined]
    return rates(lambda _: len(next(coming)), len(loader), lambda: pids)


def libraries() -> dict[str, str]:
    """The other readers that can be imported, and their versions; why not, of the rest.

    None is imported here: two FFmpegs in one process disturb one another.
    """
    versions = {}
    for name in ("decord", "torchcodec"):
        code = f"import {name}; print({name}.__version__)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            versions[name] = done.stdout.strip()
        else:
            print(f"{name}: left out, {done.stderr.strip().splitlines()[-1]}")
    return versions


def speeds(medium: Medium, root: Path, num_clips: int, rounds: int, others: Sequence[str]) -> dict[str, Any]:
    """Rates by reader, the rounds' medians; ours over those of the others, and the pack's over ours, within rounds."""
    make(medium, root, num_clips)
    check_layout(root, "list", "", root / "cache")
    source = opened(medium, root)
    pack = None
    if medium.suffix:
        pack_clips(checked_index("list", "", root, root / "cache"), root / "pack")
        pack = opened(medium, root / "pack")
    measured: dict[str, list[tuple[float, float]]] = {}
    for turn in range(rounds):
        measured.setdefault("tadaconv", []).append(by_ours(source, turn))
        for library in others if medium.suffix else ():
            measured.setdefault(library, []).append(by_loader(source, turn, library))
        if pack is not None:
            measured.setdefault("pack", []).append(by_ours(pack, turn))
    found: dict[str, Any] = {}
    for reader, turns in measured.items():
        ratios = [ours[1] / theirs[1] for ours, theirs in zip(measured["tadaconv"], turns, strict=True)]
        ratio = {"ours_over_it": round(statistics.median(ratios), 2)}
        if reader == "pack":
            ratio = {"over_video": round(statistics.median(1 / of for of in ratios), 1)}
        found[reader] = {
            "clips_per_second": round(statistics.median(wall for wall, _ in turns), 1),
            "clips_per_core_second": round(statistics.median(core for _, core in turns), 1),
            **({} if reader == "tadaconv" else ratio),
        }
    return found


def epochs(root: Path, rounds: int, num_clips: int) -> dict[str, Any]:
    """An epoch with steps, over the larger of reading and cropping alone and of the steps alone."""
    medium = MEDIA["ssv2 webm"]
    make(medium, root, num_clips)
    check_layout(root, "list", "", root / "cache")
    source = opened(medium, root)
    prefetch.set_num_readers(1)

    def epoch(number: int, sleep: float) -> tuple[float, int]:
        """Seconds after the first batch, in which all steps fall, and how many steps."""
        told = batches(source, number)
        source.expect_train(told)
        try:
            source.train_batch(*told[0])
            begin = time.perf_counter()
            time.sleep(sleep)
            for batch in told[1:]:
                source.train_batch(*batch)
                time.sleep(sleep)
            return time.perf_counter() - begin, len(told)
        finally:
            source.close()

    ratios: dict[str, list[float]] = {}
    for turn in range(rounds):
        alone, num_steps = epoch(turn, 0.0)
        for factor in (0.5, 1.0, 2.0):
            sleep = factor * alone / (num_steps - 1)
            wall, _ = epoch(turn, sleep)
            again, _ = epoch(turn, 0.0)  # other work on the machine comes and goes
            ratios.setdefault(f"{factor:g}", []).append(wall / max((alone + again) / 2, num_steps * sleep))
            alone = again
    return {factor: {"median": round(statistics.median(of), 3), "all": sorted(round(one, 3) for one in of)}
            for factor, of in ratios.items()}  # fmt: skip


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=96, help="clips of an epoch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder.MEMORY_SHARE = 0  # as of videos that do not fit into memory
    others = libraries()
    measured: dict[str, Any] = {
        "cores": os.cpu_count(), "python": platform.python_version(), "av": import_module("av").__version__, **others
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        for name, medium in MEDIA.items():
            root = Path(place, name.replace(" ", "-"))
            measured[name] = speeds(medium, root, arguments.clips, arguments.rounds, list(others))
            print(name, json.dumps(measured[name]), flush=True)
        measured["epoch"] = epochs(Path(place, "epoch"), arguments.rounds, arguments.clips)
        print("epoch", json.dumps(measured["epoch"]), flush=True)
    (ROOT / "benchmarks" / "results" / "reading.json").write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
