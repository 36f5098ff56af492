"""How fast detections are scored: columns at once next to plain loops, then a million detections with their memory.

    python benchmarks/detection.py [--rounds 7]

20,000 detections at ten thresholds are scored in turn by ``average_precision`` and by loops over thresholds and
detections, which must give the same numbers; then soft-NMS of 3,000 proposals, 100 of which are kept, in turn with
loops over lists. A million detections, as many as models write for HACS, are scored in a process of its own: with
NumPy alone it holds little else. Times are of CPU, which other programs disturb least; ratios are within a round.
Writes results/detection.json.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from tadaconv.bench.interleaved import run_interleaved
from tadaconv.bench.statistics import ratios, spread
from tadaconv.measure.detection import (
    ACTIVITYNET_THRESHOLDS,
    NUM_DRAWS,
    Instances,
    Predictions,
    average_precision,
    average_recall,
    soft_nms,
)

ROOT = Path(__file__).resolve().parent.parent
HEADS = {"label": 200}


def case(num_videos: int, per_video: int, num_classes: int, seed: int = 0) -> tuple[Instances, Predictions]:
    """Three true segments a video of its one class, and predictions near them, a third of the next class."""
    generator = np.random.default_rng(seed)
    true_videos = np.repeat(np.arange(num_videos), 3)
    starts = generator.uniform(0, 100, len(true_videos))
    true_spans = np.stack([starts, starts + generator.uniform(2, 30, len(starts))], axis=1)
    classes = generator.integers(num_classes, size=num_videos)
    videos = np.repeat(np.arange(num_videos), per_video)
    near = 3 * videos + generator.integers(3, size=len(videos))
    spans = np.sort(true_spans[near] + generator.normal(0, 4, (len(videos), 2)), axis=1)
    labels = (classes[videos] + (generator.random(len(videos)) < 1 / 3)) % num_classes
    return (
        Instances(true_videos, true_spans, classes[true_videos][:, None]),
        Predictions(videos, spans, labels[:, None], generator.random(len(videos))),
    )


def overlap_of(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The tIoU of two segments."""
    shared = max(min(one[1], other[1]) - max(one[0], other[0]), 0.0)
    return shared / ((one[1] - one[0]) + (other[1] - other[0]) - shared)


def by_loops(truth: Instances, predictions: Predictions) -> list[list[float]]:
    """Average precision in percent by threshold and class, by loops as the protocol is worded.

    Over thresholds, classes, predictions in the order of scores, and the true segments of the same video and class,
    which are looked up, in the order of their overlap.
    """
    segments = defaultdict(list)
    columns = truth.videos.tolist(), map(tuple, truth.spans.tolist()), truth.labels[:, 0].tolist()
    for video, span, label in sorted(zip(*columns, strict=True)):
        segments[video, label].append(span)
    rows = defaultdict(list)
    columns = predictions.videos.tolist(), map(tuple, predictions.spans.tolist()), predictions.labels[:, 0].tolist()
    for video, span, label, score in zip(*columns, predictions.scores.tolist(), strict=True):
        rows[label].append((-score, span, video))
    scores = []
    for threshold in ACTIVITYNET_THRESHOLDS:
        scores.append([])
        for label, count in sorted(Counter(truth.labels[:, 0].tolist()).items()):
            taken = set()
            correct = []
            for _, span, video in sorted(rows[label]):
                own = segments.get((video, label), ())
                overlaps = [(-overlap_of(span, segment), place) for place, segment in enumerate(own)]
                for overlap, place in sorted(overlaps):
                    if -overlap >= threshold and (video, place) not in taken:
                        taken.add((video, place))
                        correct.append(True)
                        break
                else:
                    correct.append(False)
            hits = list(accumulate(correct))
            precisions = [hit / rank for rank, hit in enumerate(hits, 1)]
            highest = list(accumulate(reversed(precisions), max))[::-1]
            area = 0.0
            for is_correct, precision in zip(correct, highest, strict=True):
                area += precision if is_correct else 0.0
            scores[-1].append(100 * area / count)
    return scores


def soft_nms_by_loops(spans: list[list[float]], scores: list[float], most: int) -> list[float]:
    """The scores of those that are kept."""
    waiting = [(score, start, end) for (start, end), score in zip(spans, scores, strict=True)]
    kept = []
    while waiting and len(kept) < most:
        best = max(waiting)
        waiting.remove(best)
        kept.append(best[0])
        for place, (score, start, end) in enumerate(waiting):
            overlap = overlap_of((start, end), (best[1], best[2]))
            waiting[place] = (score * math.exp(-(overlap**2) / 0.4), start, end)
    return kept


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """CPU seconds of a call."""

    def trial() -> float:
        started = time.process_time()
        run()
        return time.process_time() - started

    return trial


def compared(ours: Callable[[], object], loops: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Medians of both and their ratio, in turn."""
    taken = list(run_interleaved({"ours": timed(ours), "loops": timed(loops)}, rounds))
    seconds = {name: [of[name] for of in taken] for name in ("ours", "loops")}
    ratio = ratios(seconds["loops"], seconds["ours"])
    return {
        "seconds": {name: spread(values).median for name, values in seconds.items()},
        "loops_over_ours": ratio.model_dump(include={"median", "interval_low", "interval_high"}),
        "rounds": rounds,
    }


def peak_mib() -> float:
    """The most memory this process has held so far."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def a_million() -> dict[str, float]:
    """Times and memory of a million predictions in 5,000 videos of 200 classes."""
    truth, predictions = case(5000, 200, 200)
    columns = (predictions.videos, predictions.spans, predictions.labels, predictions.scores)
    made = peak_mib()
    (score,) = average_precision(truth, predictions, HEADS).values()  # and its memory, before anything else
    result = {
        "predictions": len(predictions),
        "mib_of_predictions": sum(column.nbytes for column in columns) / 2**20,
        "mib_before": made,
        "mib_peak": peak_mib(),
        "map": score.mean,
        "seconds": timed(lambda: average_precision(truth, predictions, HEADS))(),
        "seconds_with_50_draws": timed(lambda: average_precision(truth, predictions, HEADS, num_draws=50))(),
        "seconds_of_average_recall": timed(lambda: average_recall(truth, predictions))(),
    }
    result["seconds_of_a_draw"] = (result["seconds_with_50_draws"] - result["seconds"]) / 50
    return result


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(a_million()))
        return
    truth, predictions = case(200, 100, 20)
    (ours,) = average_precision(truth, predictions, HEADS).values()
    assert ours.by_class.tolist() == by_loops(truth, predictions)
    single = case(1, 3000, 1)[1]
    spans, scores = single.spans.tolist(), single.scores.tolist()
    kept = soft_nms(single.spans, single.scores, 0.4, most=100)
    assert np.allclose(kept.scores, soft_nms_by_loops(spans, scores, 100), rtol=1e-9)
    part = subprocess.run([sys.executable, __file__, "--part"], capture_output=True, text=True, check=True)
    result = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cores": os.cpu_count(),
        "average_precision_20000": {
            "map": ours.mean,
            **compared(
                lambda: average_precision(truth, predictions, HEADS), lambda: by_loops(truth, predictions),
                arguments.rounds,
            ),
            "seconds_of_an_interval": timed(
                lambda: average_precision(truth, predictions, HEADS, num_draws=NUM_DRAWS)
            )(),
        },
        "soft_nms_3000": compared(
            lambda: soft_nms(single.spans, single.scores, 0.4, most=100),
            lambda: soft_nms_by_loops(spans, scores, 100), arguments.rounds,
        ),
        "a_million": json.loads(part.stdout),
    }  # fmt: skip
    text = json.dumps(result, indent=2)
    (ROOT / "benchmarks" / "results" / "detection.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
