"""Steps of time: where features are in seconds, and which steps of a video a network sees at once.

A step is a feature, or the mean of some in a row, or a part of the duration that all features of a video were scaled
to. Step i spans [i, i + 1], and what it sees is centred on its middle.
"""

import math
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tadaconv.data.timed_annotations import TimedVideo
from tadaconv.spec import Features

_INSIDE = 0.999
"""Fraction of a segment that has to be in a window for it to be trained on there."""

Times = TypeVar("Times", float, NDArray[np.float64], Tensor)


class Grid(NamedTuple):
    """The steps of a video: the middle of step i, i + 0.5 in steps, is at ``first + i * step`` seconds."""

    first: float
    step: float

    def seconds(self, steps: Times) -> Times:
        """Times in seconds of places in steps."""
        return self.first + (steps - 0.5) * self.step

    def steps(self, seconds: Times) -> Times:
        """Places in steps of times in seconds."""
        return (seconds - self.first) / self.step + 0.5


def grid_of(data: Features, duration: float | None) -> Grid:
    """The steps of a video of this duration in seconds, which is asked for only where features are resized."""
    if data.resize:
        assert duration is not None
        return Grid(duration / data.num_steps / 2, duration / data.num_steps)
    fps, stride, offset = times_of(data)
    middle = offset + stride * (data.features_per_step - 1) / 2
    return Grid(middle / fps, stride * data.features_per_step / fps)


def times_of(data: Features) -> tuple[float, float, float]:
    """Frames a second, stride and offset of features that are not resized."""
    assert data.fps is not None
    assert data.stride is not None
    assert data.offset is not None
    return data.fps, data.stride, data.offset


def num_steps_of(data: Features, num_features: int) -> int:
    """How many steps a video of so many features has."""
    return data.num_steps if data.resize else math.ceil(num_features / data.features_per_step)


def on_grid(data: Features, video: TimedVideo, length: int) -> NDArray[np.float64]:
    """The segments of a video in steps, (M, 2), cut to its ``length``.

    Args:
        data: how steps lie in time.
        video: its segments in seconds.
        length: its steps.
    """
    clipped: NDArray[np.float64] = grid_of(data, video.duration).steps(video.spans).clip(0, length)
    return clipped


class Window(NamedTuple):
    """Steps of a video that a network sees at once: ``length`` of them from ``start`` on."""

    video: str
    start: int
    length: int

    def holds(self, spans: NDArray[np.float64]) -> NDArray[np.int64]:
        """The places of the segments, (M, 2) in steps of the video, that are whole in the window, and not empty."""
        cut = spans.clip(self.start, self.start + self.length).astype(np.float32)
        kept, whole = cut[:, 1] - cut[:, 0], spans[:, 1] - spans[:, 0]
        return np.flatnonzero((kept > 0) & (kept > _INSIDE * whole))


def windows_of(data: Features, video: str, length: int) -> list[Window]:
    """The windows of a video of ``length`` steps, of which the last ends with the video.

    Args:
        data: how many steps a window has, and its distance to the next.
        video: its name.
        length: its steps.
    """
    size, stride = data.num_steps, data.window_stride or max(1, data.num_steps // 2)
    if length <= size:
        return [Window(video, 0, length)]
    return [Window(video, start, size) for start in (*range(0, length - size, stride), length - size)]
