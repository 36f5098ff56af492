"""Which frames make a clip."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.data.sampling import random_frames, segments, view_frames

lengths = st.integers(1, 32).flatmap(lambda wanted: st.tuples(st.integers(wanted, 400), st.just(wanted)))


@given(lengths)
def test_segments_cut_the_video_evenly(case):
    num_frames, num_segments = case
    starts, ends = segments(num_frames, num_segments)
    covered = [frame for start, end in zip(starts, ends, strict=True) for frame in range(start, end)]
    assert covered == list(range(num_frames))
    assert set(ends - starts) <= {num_frames // num_segments, num_frames // num_segments + 1}


@given(lengths, st.integers(0, 2**32), st.integers(1, 5))
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
