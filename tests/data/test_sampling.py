"""Which frames make a clip: against rows computed by hand, exact fractions, and what must hold of any draw."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.data.sampling import (
    evaluation_frames,
    frames_needed,
    random_frames,
    segments,
    training_frames,
    view_frames,
)
from tadaconv.spec import Sampling

EVEN, PAPER = Sampling(), Sampling(rule="paper")
EIGHT_BY_EIGHT = Sampling(kind="intervals", rule="paper", interval=8)
SIXTEEN_BY_FIVE = Sampling(kind="intervals", rule="paper", interval=5)
EVERY_EIGHTH = Sampling(kind="intervals", interval=8)

ONE_AND_TWO_VIEWS = ((0, 1), (0, 2), (1, 2))
ONE_AND_TEN_VIEWS = ((0, 1), *((view, 10) for view in range(10)))


def frames_of(sampling: Sampling, num_frames: int, clip_frames: int, view: int, num_views: int, fps: float = 30.0):
    return evaluation_frames(sampling, num_frames, clip_frames, fps, view, num_views).tolist()


long_enough = st.integers(1, 32).flatmap(lambda wanted: st.tuples(st.integers(wanted, 400), st.just(wanted)))


@given(long_enough)
def test_segments_cut_the_video_evenly(case):
    num_frames, num_segments = case
    starts, ends = segments(num_frames, num_segments)
    covered = [frame for start, end in zip(starts, ends, strict=True) for frame in range(start, end)]
    assert covered == list(range(num_frames))
    assert set(ends - starts) <= {num_frames // num_segments, num_frames // num_segments + 1}


@given(long_enough, st.integers(0, 2**32), st.integers(1, 5))
def test_every_segment_gives_one_frame(case, seed, num_views):
    starts, ends = segments(*case)
    drawn = [random_frames(np.random.default_rng(seed), *case)]
    drawn += [view_frames(*case, view, num_views) for view in range(num_views)]
    for frames in drawn:
        assert ((starts <= frames) & (frames < ends)).all()
    views = np.stack(drawn[1:])
    assert (np.diff(views, axis=0) >= 0).all()


def test_a_single_view_takes_the_middle():
    assert view_frames(15, 3, 0, 1).tolist() == [2, 7, 12]
    assert [view_frames(16, 2, view, 2).tolist() for view in (0, 1)] == [[2, 10], [6, 14]]


def test_training_reaches_every_frame():
    drawn = {int(f) for seed in range(200) for f in random_frames(np.random.default_rng(seed), 13, 4)}
    assert drawn == set(range(13))


@pytest.mark.parametrize(
    ("sampling", "view", "frames"),
    [
        (PAPER, (0, 1), [3, 8, 14, 20, 25, 31, 37, 42]),
        (PAPER, (0, 2), [3, 8, 14, 20, 25, 31, 37, 42]),
        (PAPER, (1, 2), [6, 11, 17, 22, 28, 34, 39, 44]),
        (EVEN, (0, 1), [2, 8, 13, 19, 25, 30, 36, 42]),
        (EVEN, (0, 2), [1, 6, 12, 17, 23, 29, 34, 40]),
        (EVEN, (1, 2), [3, 9, 14, 20, 26, 31, 37, 43]),
    ],
)
def test_eight_segments_of_45_frames(sampling: Sampling, view: tuple[int, int], frames: list[int]) -> None:
    assert frames_of(sampling, 45, 8, *view) == frames


@pytest.mark.parametrize(
    ("sampling", "clip_frames", "num_frames", "fps", "view", "frames"),
    [
        (EIGHT_BY_EIGHT, 8, 300, 30.0, (0, 1), [118, 127, 136, 145, 154, 163, 172, 181]),
        (EIGHT_BY_EIGHT, 8, 300, 30.0, (0, 10), [0, 9, 18, 27, 36, 45, 54, 63]),
        (EIGHT_BY_EIGHT, 8, 300, 30.0, (9, 10), [212, 221, 230, 239, 248, 257, 266, 275]),
        (EIGHT_BY_EIGHT, 8, 250, 25.0, (9, 10), [177, 184, 191, 199, 206, 214, 221, 229]),
        (EIGHT_BY_EIGHT, 8, 50, 30.0, (0, 1), [0, 9, 18, 27, 36, 45, 49, 49]),
        (SIXTEEN_BY_FIVE, 16, 300, 30.0, (0, 10), [0, 5, 10, 15, 21, 26, 31, 36, 42, 47, 52, 57, 63, 68, 73, 79]),
    ],
)
def test_windows_of_the_paper(sampling, clip_frames, num_frames, fps, view, frames) -> None:
    assert frames_of(sampling, num_frames, clip_frames, *view, fps) == frames


def half_to_even(place: Fraction) -> int:
    below = math.floor(place)
    if place - below == Fraction(1, 2):
        return below + below % 2
    return below + (place - below > Fraction(1, 2))


def exact_segments(num_frames: int, clip_frames: int, view: int, num_views: int) -> list[int]:
    """The definition in exact fractions, frame by frame."""
    frames = []
    for i in range(clip_frames):
        start, end = Fraction(i * num_frames, clip_frames), Fraction((i + 1) * num_frames, clip_frames)
        share = Fraction(1, 2) if num_views == 1 else Fraction(view + 1, num_views)
        place = start + (end - start) * share
        frames.append(half_to_even(min(max(place, Fraction(0)), Fraction(num_frames - 1))))
    return frames


def exact_window(
    interval: int, num_frames: int, clip_frames: int, view: int, num_views: int, fps: Fraction
) -> list[Fraction]:
    """The places of the frames in exact fractions, before they are rounded down."""
    length = clip_frames * interval * fps / 30
    room = max(num_frames - length, Fraction(0))
    start = room / 2 if num_views == 1 else room * view / num_views
    places = [start + (length - 1) * i / (clip_frames - 1) for i in range(clip_frames)]
    return [min(max(place, Fraction(0)), Fraction(num_frames - 1)) for place in places]


@pytest.mark.parametrize("clip_frames", [8, 16, 32])
def test_segments_of_the_paper_equal_exact_fractions(clip_frames: int) -> None:
    for num_frames in range(1, 401):
        for view in ONE_AND_TWO_VIEWS:
            assert frames_of(PAPER, num_frames, clip_frames, *view) == exact_segments(num_frames, clip_frames, *view)


@pytest.mark.parametrize(
    ("interval", "clip_frames", "fps", "num_unequal"), [(8, 8, 30, 0), (5, 16, 30, 76), (5, 16, 25, None)]
)
def test_windows_of_the_paper_differ_from_exact_fractions_at_whole_numbers_alone(
    interval: int, clip_frames: int, fps: int, num_unequal: int | None
) -> None:
    sampling, unequal = Sampling(kind="intervals", rule="paper", interval=interval), 0
    for num_frames in range(1, 401):
        for view in ONE_AND_TEN_VIEWS:
            frames = frames_of(sampling, num_frames, clip_frames, *view, fps=float(fps))
            exact = exact_window(interval, num_frames, clip_frames, *view, fps=Fraction(fps))
            differing = [
                (frame, place) for frame, place in zip(frames, exact, strict=True) if frame != math.floor(place)
            ]
            assert all(place.denominator == 1 and frame == place - 1 for frame, place in differing)
            unequal += bool(differing)
    assert num_unequal in (None, unequal)


def test_windows_of_the_paper_are_those_of_torch_but_for_the_last_bit_of_a_fused_product() -> None:
    """Where a CPU rounds a product and a sum at once, torch's own last bit is another than on one that does not."""
    for num_frames in range(1, 401, 3):
        for view, num_views in ONE_AND_TEN_VIEWS:
            length = 16 * 5 * 25 / 30
            room = max(num_frames - length, 0)
            start = room / 2 if num_views == 1 else room * view / num_views
            places = torch.linspace(start, start + length - 1, 16).clamp(0, num_frames - 1)
            frames = frames_of(SIXTEEN_BY_FIVE, num_frames, 16, view, num_views, fps=25.0)
            for frame, place in zip(frames, places.tolist(), strict=True):
                assert frame == int(place) or abs(place - round(place)) < 1e-4


@pytest.mark.parametrize("fps", [12.0, 25.0, 30.0, 59.94])
def test_even_windows_are_evenly_spread_and_keep_their_interval(fps: float) -> None:
    step = 8 * Fraction(fps) / 30
    for num_frames in range(1, 401, 7):
        for view, num_views in ONE_AND_TEN_VIEWS:
            room = max(num_frames - 7 * step, Fraction(0))
            start = room * (2 * view + 1) / (2 * num_views)
            places = [start + i * step for i in range(8)]
            frames = frames_of(EVERY_EIGHTH, num_frames, 8, view, num_views, fps)
            for frame, place in zip(frames, places, strict=True):
                clipped = min(place, Fraction(num_frames - 1))
                assert frame == math.floor(clipped) or abs(clipped - round(clipped)) < 1e-9


samplings = st.builds(
    Sampling,
    kind=st.sampled_from(["segments", "intervals"]),
    rule=st.sampled_from(["even", "paper"]),
    interval=st.integers(1, 16),
    fps=st.sampled_from([30.0, 60.0]),
)
rates = st.sampled_from([10.0, 12.0, 24000 / 1001, 25.0, 30.0, 59.94])


@given(samplings, st.integers(1, 400), st.integers(1, 33), rates, st.integers(1, 10), st.integers(0, 2**32))
def test_frames_are_there_and_in_order(sampling, num_frames, clip_frames, fps, num_views, seed) -> None:
    drawn = training_frames(sampling, np.random.default_rng(seed), num_frames, clip_frames, fps)
    views = [frames_of(sampling, num_frames, clip_frames, view, num_views, fps) for view in range(num_views)]
    for frames in (drawn.tolist(), *views):
        assert len(frames) == clip_frames
        assert 0 <= frames[0] <= frames[-1] < num_frames
        assert frames == sorted(frames)
        if num_frames < clip_frames:
            assert len(set(frames)) < clip_frames
    for one, next_one in pairwise(views):
        assert all(a <= b for a, b in zip(one, next_one, strict=True))
    again = training_frames(sampling, np.random.default_rng(seed), num_frames, clip_frames, fps)
    assert (drawn == again).all()


@given(st.integers(1, 90), rates, st.integers(1, 3), st.integers(0, 2**32))
def test_one_frame_is_in_every_video(num_frames: int, fps: float, num_views: int, seed: int) -> None:
    """The paper's window of one frame ends where it begins, so that nothing lies past the end of a video."""
    assert frames_needed(EIGHT_BY_EIGHT, 1, fps) == frames_needed(EVERY_EIGHTH, 1, fps) == 1
    length = 8 * fps / 30
    for view in range(num_views):
        room = max(num_frames - length, 0)
        start = room / 2 if num_views == 1 else room * view / num_views
        assert frames_of(EIGHT_BY_EIGHT, num_frames, 1, view, num_views, fps) == [int(np.float32(start))]
        assert start <= num_frames - 1
    assert training_frames(EIGHT_BY_EIGHT, np.random.default_rng(seed), num_frames, 1, fps)[0] in range(num_frames)


@given(samplings, st.integers(2, 33), rates, st.integers(0, 2**32))
def test_a_video_of_the_frames_needed_holds_a_clip_and_a_shorter_one_does_not(sampling, clip_frames, fps, seed) -> None:
    needed = frames_needed(sampling, clip_frames, fps)
    if sampling.kind == "segments":
        assert needed == clip_frames
        return
    spread = frames_of(sampling, 10_000, clip_frames, 0, 10_000, fps)  # starts within the first frame
    rng = np.random.default_rng(seed)
    held = training_frames(sampling, rng, needed, clip_frames, fps).tolist()
    assert held[-1] - held[0] in range(spread[-1] - spread[0] - 1, spread[-1] - spread[0] + 2)
    if needed > 1:
        # In one frame less, the last place lies past the end.
        length = (clip_frames - (sampling.rule == "even")) * sampling.interval * fps / sampling.fps
        assert (length - 1 if sampling.rule == "paper" else length) > needed - 2 - 1e-9


def test_a_draw_of_the_paper_lies_in_its_segment_rounded_to_the_nearest_frame() -> None:
    for seed in range(300):
        num_frames, clip_frames = 5 + seed, 8
        uniform = np.random.default_rng(seed).random(clip_frames)
        frames = training_frames(PAPER, np.random.default_rng(seed), num_frames, clip_frames, 0.0)
        places = (np.arange(clip_frames) + uniform) * num_frames / clip_frames
        assert (np.abs(frames - np.minimum(places, num_frames - 1)) <= 0.5 + 1e-4).all()
        assert frames.max() < num_frames


def test_windows_of_training_begin_anywhere_that_holds_them() -> None:
    for sampling, last in ((EIGHT_BY_EIGHT, 35), (EVERY_EIGHTH, 43)):
        starts = [training_frames(sampling, np.random.default_rng(s), 100, 8, 30.0)[0] for s in range(600)]
        assert (min(starts), max(starts)) == (0, last)
        assert len(set(starts)) == last + 1


def test_a_window_shorter_than_a_frame_is_of_one_frame() -> None:
    """Two at interval 1 and 10 a second, of 30, take 0.67 frames: the middle of three begins at 1.17."""
    assert frames_of(PAPER.but(kind="intervals", interval=1), 3, 2, 0, 1, 10.0) == [1, 1]


def test_views_differ_from_one_another() -> None:
    assert len({tuple(frames_of(EIGHT_BY_EIGHT, 300, 8, *view)) for view in ONE_AND_TEN_VIEWS[1:]}) == 10
    assert frames_of(PAPER, 45, 8, 0, 2) != frames_of(PAPER, 45, 8, 1, 2)


def test_too_few_frames_are_repeated_in_order() -> None:
    assert frames_of(EVEN, 3, 8, 0, 1) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert frames_of(PAPER, 1, 8, 0, 1) == [0] * 8


@pytest.mark.parametrize(
    ("sampling", "needed"),
    [(EVEN, 4), (PAPER, 4), (Sampling(kind="intervals", interval=2), 6), (PAPER.but(kind="intervals", interval=2), 7)],
)
def test_frames_needed_for_four_at_25_a_second(sampling: Sampling, needed: int) -> None:
    """Windows of 3 x 2 x 25 / 30 = 5 and, as the paper has them, of 4 x 2 x 25 / 30 = 6.67 frames."""
    assert frames_needed(sampling, 4, 25.0) == needed
