import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.data.transforms import (
    Box,
    ScaledBox,
    random_box,
    random_scaled_box,
    scaled_to_clip,
    to_clip,
    view_boxes,
    view_scaled_boxes,
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


@given(sizes, st.tuples(st.floats(1, 2), st.floats(0, 1)), st.integers(0, 2**32))
def test_scaled_boxes_lie_inside_frames_of_a_short_side_in_the_range(case, jitter, seed):
    height, width, size = case
    least, largest = jitter[0], jitter[0] + jitter[1]
    scaled = random_scaled_box(np.random.default_rng(seed), height, width, size, (least, largest))
    assert int(least * size) <= min(scaled.height, scaled.width) <= largest * size
    assert (scaled.height <= scaled.width) == (height <= width) or scaled.height == scaled.width
    assert abs(scaled.height * width - scaled.width * height) <= max(height, width)
    assert scaled.box.side == size
    assert 0 <= scaled.box.top <= max(0, scaled.height - size - 1)
    assert 0 <= scaled.box.left <= max(0, scaled.width - size - 1)


def test_short_sides_and_places_of_the_paper_are_all_drawn_but_the_last():
    drawn = [random_scaled_box(np.random.default_rng(s), 240, 320, 224, (1.0, 340 / 224)) for s in range(4000)]
    assert {scaled.height for scaled in drawn} == set(range(224, 340))
    assert all(scaled.width == int(320 / 240 * scaled.height) for scaled in drawn)
    fixed = [random_scaled_box(np.random.default_rng(s), 10, 14, 10, (1.0, 1.0)) for s in range(200)]
    assert {scaled.box.left for scaled in fixed} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("shape", "tops", "lefts"), [((24, 40), (0, 0, 0), (0, 5, 10)), ((40, 24), (0, 5, 10), (0, 0, 0))]
)
def test_three_crops_of_scaled_frames_lie_along_the_long_side(shape, tops, lefts):
    scaled = view_scaled_boxes(*shape, 16, 3)
    assert [(one.height, one.width) for one in scaled] == [(16, 26) if shape[0] < shape[1] else (26, 16)] * 3
    assert [(one.box.top, one.box.left, one.box.side) for one in scaled] == list(
        zip(tops, lefts, [16] * 3, strict=True)
    )
    assert view_scaled_boxes(*shape, 16, 1) == scaled[1:2]


def bilinear(picture, height, width):
    """Bilinear interpolation without antialiasing, pixel by pixel; rows and columns beyond the border repeat it."""
    old_height, old_width = picture.shape[:2]
    out = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            y = max((row + 0.5) * old_height / height - 0.5, 0)
            x = max((column + 0.5) * old_width / width - 0.5, 0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, old_height - 1), min(left + 1, old_width - 1)
            upper = picture[top, left] * (1 - x + left) + picture[top, right] * (x - left)
            lower = picture[bottom, left] * (1 - x + left) + picture[bottom, right] * (x - left)
            out[row, column] = upper * (1 - y + top) + lower * (y - top)
    return out


@pytest.mark.parametrize("mirror", [False, True])
def test_scaled_frames_are_those_of_bilinear_interpolation_pixel_by_pixel(mirror):
    frames = torch.randint(0, 256, (2, 12, 17, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clip = scaled_to_clip(frames, ScaledBox(7, 9, Box(1, 2, 5)), mirror)
    for time in range(2):
        picture = (bilinear(frames[time].numpy() / 255, 7, 9)[1:6, 2:7] - 0.45) / 0.225
        expected = picture[:, ::-1] if mirror else picture
        np.testing.assert_allclose(clip[:, time].permute(1, 2, 0).numpy(), expected, atol=1e-5)
