import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.data.transforms import (
    Box,
    random_box,
    to_clip,
    view_boxes,
)

JITTER = 340 / 224
sizes = st.tuples(st.integers(16, 200), st.integers(16, 200), st.integers(16, 200))


@given(sizes, st.integers(0, 2**32))
def test_random_boxes_lie_inside_at_a_jittered_scale(case, seed):
    height, width, size = case
    box = random_box(np.random.default_rng(seed), height, width, size, (1.0, JITTER))
    assert 0 <= box.top <= height - box.side
    assert 0 <= box.left <= width - box.side
    assert min(height, width) / JITTER - 1 <= box.side <= min(height, width)


@given(st.integers(16, 200), st.integers(16, 200))
def test_three_crops_cover_a_frame_up_to_three_times_as_long_as_wide(height, width):
    (centre,) = view_boxes(height, width, 1)
    boxes = view_boxes(height, width, 3)
    assert boxes[1] == centre
    covered = np.zeros((height, width), dtype=bool)
    for box in boxes:
        assert box.side == min(height, width)
        covered[box.top : box.top + box.side, box.left : box.left + box.side] = True
    assert covered[0, 0]
    assert covered[-1, -1]
    assert covered.all() or max(height, width) > 3 * min(height, width)


def test_a_clip_is_cropped_scaled_and_normalised():
    frames = torch.zeros(2, 10, 20, 3, dtype=torch.uint8)
    frames[:, 4:, 8:12] = torch.tensor([255, 51, 0], dtype=torch.uint8)
    clip = to_clip(frames, Box(top=5, left=9, side=3), size=6)
    assert clip.shape == (3, 2, 6, 6)
    assert clip.dtype == torch.float32
    for channel, value in enumerate((1.0, 0.2, 0.0)):
        torch.testing.assert_close(clip[channel], torch.full((2, 6, 6), (value - 0.45) / 0.225))


@pytest.mark.parametrize("size", [8, 5])
def test_a_mirror_image_is_turned_left_to_right(size):
    frames = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    box = Box(0, 0, 8)
    torch.testing.assert_close(to_clip(frames, box, size, mirror=True), to_clip(frames.flip(2), box, size))
