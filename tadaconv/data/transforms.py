"""Which box of a video's frames makes a clip, and how its pixels become a network's input.

Either a box is cut out of the frames and scaled to the clip's size, or the frames are scaled and a crop of the clip's
size is cut out of them: the latter is what the published code of the paper's authors does.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MEAN, STD = 0.45, 0.225
"""Normalisation of pixels in 0 to 1, the same for all three channels."""


@dataclass(frozen=True)
class Box:
    """A square of a frame, in pixels."""

    top: int
    left: int
    side: int


@dataclass(frozen=True)
class ScaledBox:
    """A square of frames that have been scaled to ``height`` and ``width`` pixels."""

    height: int
    width: int
    box: Box


Range = tuple[float, float]
"""Least and largest short side of scaled frames, in crops."""


def random_box(rng: np.random.Generator, height: int, width: int, size: int, jitter: Range) -> Box:
    """The box of a random scale and place: scaling the short side to U(jitter) crops, then cropping ``size`` pixels.

    Args:
        rng: what is drawn from.
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        size: side of the crop, in pixels.
        jitter: least and largest short side of the scaled frames, in crops.
    """
    least, largest = jitter
    scaled = rng.uniform(least * size, largest * size)
    side = max(1, round(min(height, width) * size / scaled))
    return Box(int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side)


def random_scaled_box(rng: np.random.Generator, height: int, width: int, size: int, jitter: Range) -> ScaledBox:
    """The same of scaled frames, in whole pixels; as published, the last place of a box is never drawn.

    Args:
        rng: what is drawn from.
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        size: side of the crop, in pixels.
        jitter: least and largest short side of the scaled frames, in crops.
    """
    least, largest = jitter
    rows, columns = _scaled(height, width, int(rng.uniform(least * size, largest * size)))
    left, top = int(rng.uniform(0, columns - size)), int(rng.uniform(0, rows - size))
    return ScaledBox(rows, columns, Box(top, left, size))


def view_scaled_boxes(height: int, width: int, size: int, num_crops: int) -> tuple[ScaledBox, ...]:
    """Crops of ``size`` pixels of frames whose short side is scaled to it, where :func:`view_boxes` has them.

    Args:
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        size: side of the crops, in pixels.
        num_crops: 1 or 3.
    """
    rows, columns = _scaled(height, width, size)
    return tuple(ScaledBox(rows, columns, box) for box in view_boxes(rows, columns, num_crops))


def _scaled(height: int, width: int, short: int) -> tuple[int, int]:
    """Height and width after scaling the short side to ``short`` pixels; the other is rounded down."""
    if height < width:
        return short, int(width / height * short)
    return int(height / width * short), short


def view_boxes(height: int, width: int, num_crops: int) -> tuple[Box, ...]:
    """Boxes as wide as the short side: the centre, or three along the long side from its start to its end.

    Args:
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        num_crops: 1 or 3.
    """
    side = min(height, width)
    rest = max(height, width) - side
    offsets = {1: (rest // 2,), 3: (0, rest // 2, rest)}[num_crops]
    return tuple(Box(offset, 0, side) if height > width else Box(0, offset, side) for offset in offsets)


def to_clip(frames_THWC: Tensor, box: Box, size: int, mirror: bool = False) -> Tensor:
    """Crop uint8 frames (T, H, W, C), scale to ``size`` and normalise: float32 (C, T, size, size), on their device.

    Args:
        frames_THWC: uint8, (T, H, W, C).
        box: what is cut out.
        size: side of the clip, in pixels.
        mirror: whether left and right change places.
    """
    x_TCHW = _cut(frames_THWC.permute(0, 3, 1, 2), box).to(torch.float32)
    if box.side != size:
        x_TCHW = F.interpolate(x_TCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    if mirror:
        x_TCHW = x_TCHW.flip(-1)
    return ((x_TCHW / 255 - MEAN) / STD).transpose(0, 1)


def scaled_to_clip(frames_THWC: Tensor, scaled: ScaledBox, mirror: bool = False) -> Tensor:
    """Scale uint8 frames (T, H, W, C) without antialiasing, crop and normalise: float32 (C, T, side, side).

    Args:
        frames_THWC: uint8, (T, H, W, C).
        scaled: to what the frames are scaled, and what is cut out of them.
        mirror: whether left and right change places.
    """
    x_TCHW = frames_THWC.permute(0, 3, 1, 2).to(torch.float32) / 255
    x_TCHW = F.interpolate(x_TCHW, size=(scaled.height, scaled.width), mode="bilinear", align_corners=False)
    x_TCHW = _cut(x_TCHW, scaled.box)
    if mirror:
        x_TCHW = x_TCHW.flip(-1)
    return ((x_TCHW - MEAN) / STD).transpose(0, 1)


def _cut(x_TCHW: Tensor, box: Box) -> Tensor:
    return x_TCHW[..., box.top : box.top + box.side, box.left : box.left + box.side]
