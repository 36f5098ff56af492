"""Which frames and which box of a video make a clip, and how they become a network's input."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

MEAN, STD = 0.45, 0.225
"""Normalisation of pixels in 0 to 1, the same for all three channels."""

JITTER = 340 / 224
"""Largest short side, in crops, to which a training clip is scaled before it is cropped (SSV2 recipe of the paper)."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Box:
    """A square of a frame, in pixels."""

    top: int
    left: int
    side: int


def segments(num_frames: int, num_segments: int) -> tuple[Indices, Indices]:
    """Cut ``num_frames`` frames into equal segments: first frames and ends (exclusive), (num_segments,) each.

    Lengths differ by one frame at most. Needs a frame for every segment.
    """
    assert num_frames >= num_segments >= 1, (num_frames, num_segments)
    edges = np.arange(num_segments + 1, dtype=np.int64) * num_frames // num_segments
    return edges[:-1], edges[1:]


def random_frames(rng: np.random.Generator, num_frames: int, num_segments: int) -> Indices:
    """One frame drawn from each segment, in order: (num_segments,)."""
    starts, ends = segments(num_frames, num_segments)
    return rng.integers(starts, ends)


def view_frames(num_frames: int, num_segments: int, view: int, num_views: int) -> Indices:
    """The frames of one temporal view, (num_segments,): with one view, the middle of each segment.

    Several views lie evenly spaced in every segment, as the midpoints of its ``num_views`` parts.
    """
    starts, ends = segments(num_frames, num_segments)
    return starts + (2 * view + 1) * (ends - starts) // (2 * num_views)


def random_box(rng: np.random.Generator, height: int, width: int, size: int) -> Box:
    """The box of a random scale and place: scaling the short side to U(size, JITTER size), then cropping ``size``."""
    scaled = rng.uniform(size, JITTER * size)
    side = max(1, round(min(height, width) * size / scaled))
    return Box(int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side)


def view_boxes(height: int, width: int, num_crops: int) -> tuple[Box, ...]:
    """Boxes as wide as the short side: the centre, or three along the long side from its start to its end."""
    side = min(height, width)
    rest = max(height, width) - side
    offsets = {1: (rest // 2,), 3: (0, rest // 2, rest)}[num_crops]
    return tuple(Box(offset, 0, side) if height > width else Box(0, offset, side) for offset in offsets)


def to_clip(frames_THWC: Tensor, box: Box, size: int, mirror: bool = False) -> Tensor:
    """Crop uint8 frames (T, H, W, C), scale to ``size`` and normalise: float32 (C, T, size, size), on their device."""
    crop = frames_THWC[:, box.top : box.top + box.side, box.left : box.left + box.side]
    x_TCHW = crop.permute(0, 3, 1, 2).to(torch.float32)
    if box.side != size:
        x_TCHW = F.interpolate(x_TCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    if mirror:
        x_TCHW = x_TCHW.flip(-1)
    return ((x_TCHW / 255 - MEAN) / STD).transpose(0, 1)
