"""Which frames of a video make a clip: arithmetic on counts of frames alone, which opens no video.

Two kinds, each by two rules. With *segments* a video is cut into as many equal segments as a clip has frames, and one
frame is taken from each. With *intervals* a clip is a window of the video, with a fixed time between its frames. The
rule *even* takes middles and spreads views evenly. The rule *paper* gives the indices that the published code of the
paper's authors computes in float32, bit for bit, given the same uniform numbers.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadaconv.spec import Sampling

Indices = NDArray[np.int64]


def training_frames(
    sampling: Sampling, rng: np.random.Generator, num_frames: int, clip_frames: int, fps: float
) -> Indices:
    """The frames of a training clip, (clip_frames,), in order; all that is random is drawn from ``rng``.

    Args:
        sampling: kind and rule.
        rng: made from what the draw may depend on.
        num_frames: frames of the video, one at least; too few for a clip give repeated frames.
        clip_frames: frames of the clip.
        fps: frames a second of the video; segments do not need it.
    """
    if sampling.kind == "segments":
        if sampling.rule == "even":
            return random_frames(rng, num_frames, clip_frames)
        edges = _linspace(0, num_frames, clip_frames + 1)
        drawn = edges[:-1] + (edges[1:] - edges[:-1]) * rng.random(clip_frames).astype(np.float32)
        return _rounded(drawn, num_frames)
    if sampling.rule == "paper" and clip_frames == 1:
        return rng.integers(0, num_frames, 1)
    return _window(sampling, rng.random() * _room(sampling, num_frames, clip_frames, fps), num_frames, clip_frames, fps)


def evaluation_frames(
    sampling: Sampling, num_frames: int, clip_frames: int, fps: float, view: int, num_views: int
) -> Indices:
    """The frames of one of ``num_views`` temporal views, (clip_frames,), in order; arguments as in training.

    A single view is the middle. Of several, those of the rule ``even`` are the midpoints of as many equal parts; those
    of the rule ``paper`` end with the last frame of each segment, or begin with the first window and stop one step
    short of the last.

    Args:
        sampling: kind and rule.
        num_frames: frames of the video, one at least.
        clip_frames: frames of the clip.
        fps: frames a second of the video; segments do not need it.
        view: which temporal view, from 0.
        num_views: how many there are.
    """
    if sampling.kind == "segments":
        if sampling.rule == "even":
            return view_frames(num_frames, clip_frames, view, num_views)
        edges = _linspace(0, num_frames, clip_frames + 1)
        starts, ends = edges[:-1], edges[1:]
        if num_views == 1:
            return _rounded((starts + ends) / np.float32(2), num_frames)
        return _rounded(starts + (ends - starts) * np.float32(view + 1) / np.float32(num_views), num_frames)
    room = _room(sampling, num_frames, clip_frames, fps)
    if sampling.rule == "even":
        start = room * (2 * view + 1) / (2 * num_views)
    else:
        start = room / 2 if num_views == 1 else room * view / num_views
    return _window(sampling, start, num_frames, clip_frames, fps)


def frames_needed(sampling: Sampling, clip_frames: int, fps: float) -> int:
    """The fewest frames of a video at ``fps`` that hold a clip, with no frame standing in for one past the end.

    Args:
        sampling: kind and rule.
        clip_frames: frames of the clip.
        fps: frames a second of the video.
    """
    if sampling.kind == "segments":
        return clip_frames
    if sampling.rule == "paper":
        return 1 if clip_frames == 1 else math.ceil(_length(sampling, clip_frames, fps))
    return math.floor(_length(sampling, clip_frames - 1, fps)) + 1


def segments(num_frames: int, num_segments: int) -> tuple[Indices, Indices]:
    """Cut ``num_frames`` frames into equal segments: first frames and ends (exclusive), (num_segments,) each.

    Lengths differ by one frame at most; where there are fewer frames than segments, neighbours share a frame.
    """
    assert num_frames >= 1, num_frames
    assert num_segments >= 1, num_segments
    edges = np.arange(num_segments + 1, dtype=np.int64) * num_frames // num_segments
    return edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)


def random_frames(rng: np.random.Generator, num_frames: int, num_segments: int) -> Indices:
    """One frame drawn from each segment, in order: (num_segments,).

    Args:
        rng: what is drawn from.
        num_frames: frames of the video.
        num_segments: into which it is cut.
    """
    starts, ends = segments(num_frames, num_segments)
    return rng.integers(starts, ends)


def view_frames(num_frames: int, num_segments: int, view: int, num_views: int) -> Indices:
    """The frames of one temporal view, (num_segments,): with one view, the middle of each segment.

    Several views are evenly spaced in every segment, as the midpoints of its ``num_views`` parts.

    Args:
        num_frames: frames of the video.
        num_segments: into which it is cut.
        view: which temporal view, from 0.
        num_views: how many there are.
    """
    starts, ends = segments(num_frames, num_segments)
    return starts + (2 * view + 1) * (ends - starts) // (2 * num_views)


def _length(sampling: Sampling, num_intervals: int, fps: float) -> float:
    """What ``num_intervals`` intervals take, in frames of the video."""
    return num_intervals * sampling.interval * fps / sampling.fps


def _room(sampling: Sampling, num_frames: int, clip_frames: int, fps: float) -> float:
    """How far the window of a clip can be moved, in frames of the video."""
    num_intervals = clip_frames if sampling.rule == "paper" else clip_frames - 1
    return max(num_frames - _length(sampling, num_intervals, fps), 0)


def _window(sampling: Sampling, start: float, num_frames: int, clip_frames: int, fps: float) -> Indices:
    """The frames shown at the times of a window that begins at ``start``; past the end, the last is repeated."""
    times: NDArray[np.floating[Any]]
    if sampling.rule == "paper":
        # The code of the authors would run backwards through a window that is shorter than a frame.
        times = _linspace(start, start + max(_length(sampling, clip_frames, fps) - 1, 0), clip_frames)
    else:
        times = start + np.arange(clip_frames) * _length(sampling, 1, fps)
    return np.clip(times, 0, num_frames - 1).astype(np.int64)


def _rounded(places: NDArray[np.float32], num_frames: int) -> Indices:
    """The nearest frames; halves go to the even one."""
    return np.rint(np.clip(places, 0, num_frames - 1)).astype(np.int64)


def _linspace(start: float, end: float, num: int) -> NDArray[np.float32]:
    """``num`` numbers from ``start`` to ``end`` in float32, stepped from the nearer of the two.

    So does PyTorch's ``linspace``, whose rounding decides where a place is a whole number; every product is rounded
    here, while PyTorch fuses it with the sum on CPUs that can, so that its last bit depends on the CPU.
    """
    low, high = np.float32(start), np.float32(end)
    if num == 1:
        return np.array([low])
    step = (high - low) / np.float32(num - 1)
    steps = np.arange(num, dtype=np.float32)
    return np.where(steps < num // 2, low + step * steps, high - step * steps[::-1]).astype(np.float32)
