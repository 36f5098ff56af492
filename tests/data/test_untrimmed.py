"""What the untrimmed clips claim: only the order of frames within windows tells what grows from what shrinks."""

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tadaconv.data.segments import Segments
from tadaconv.data.untrimmed import (
    CLASSES,
    GROWS,
    SHRINKS,
    ZERO,
    Actions,
    UntrimmedClips,
    order_blind_ceiling,
)
from tadaconv.errors import UserError
from tadaconv.spec import Untrimmed

CPU = torch.device("cpu")
UNLIKELY = 1e-5
DATA = Untrimmed(num_train=40, num_val=20)


def clips_of(**changes: Any) -> UntrimmedClips:
    return UntrimmedClips(DATA.but(**changes), CPU)


def actions_of(num_clips: int, **changes: Any) -> Actions:
    return clips_of(**changes)._actions(torch.arange(num_clips))


def sizes_by_definition(
    ground: list[int], actions: list[tuple[int, int, int, int]], num_frames: int, window: int
) -> list[int]:
    """Which size each frame of one clip has, from (start, length, label, phase) of its actions."""
    sizes = [ground[frame % window] for frame in range(num_frames)]
    for start, length, label, phase in actions:
        for i in range(length):
            if label == GROWS:
                sizes[start + i] = (phase + i) % window
            elif label == SHRINKS:
                sizes[start + i] = (phase - i) % window
    return sizes


def listed(actions: Actions, clip: int) -> list[tuple[int, int, int, int]]:
    """(start, length, label, phase) of a clip's actions."""
    return [entry for entry in zip(*(values[clip].tolist() for values in actions), strict=True) if entry[1]]


def in_windows(frames: list[int], window: int) -> list[list[int]]:
    return [sorted(frames[i : i + window]) for i in range(0, len(frames), window)]


# From (seed, index) alone


@given(indices=st.lists(st.integers(0, 19), min_size=1, max_size=4), epoch=st.integers(0, 2), val=st.booleans())
def test_a_clip_does_not_depend_on_its_batch(indices: list[int], epoch: int, val: bool) -> None:
    source = clips_of(num_frames=32)

    def batch(chosen: list[int]) -> tuple[Tensor, list[Segments]]:
        tensor = torch.tensor(chosen)
        return source.val_batch(tensor) if val else source.train_batch(tensor, epoch, seed=0)

    together, truth = batch(indices)
    for position, index in enumerate(indices):
        alone, (segments,) = batch([index])
        assert torch.equal(together[position], alone[0])
        assert torch.equal(truth[position].spans, segments.spans)
        assert torch.equal(truth[position].labels, segments.labels)


def test_epochs_and_data_seeds_change_the_clips_and_the_runs_seed_does_not() -> None:
    source, every = clips_of(num_frames=32), torch.arange(20)
    state = torch.get_rng_state()
    first, _ = source.train_batch(every, 0, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(source.train_batch(every, 0, seed=1)[0], first)
    others = [source.train_batch(every, 1, seed=0)[0], source.val_batch(every)[0][:, 0]]
    others.append(clips_of(num_frames=32, seed=1).train_batch(every, 0, seed=0)[0])
    for other in others:
        assert not (other == first).flatten(1).all(1).any()


def test_shapes_and_times_in_steps() -> None:
    source = clips_of(size=20, num_frames=40, window=4)
    clips, truth = source.train_batch(torch.arange(7), 0, seed=0)
    assert (clips.shape, clips.dtype) == ((7, 3, 40, 20, 20), torch.float32)
    assert source.val_batch(torch.arange(7))[0].shape == (7, 1, 3, 40, 20, 20)
    assert (source.num_train, source.num_val, source.num_views, source.data.num_steps) == (40, 20, 1, 10)
    actions = source._actions(source._keys(torch.arange(7), val=False))
    for clip, segments in enumerate(truth):
        assert (segments.spans.dtype, segments.labels.dtype) == (torch.float32, torch.int64)
        expected = [((start / 4, (start + length) / 4), label) for start, length, label, _ in listed(actions, clip)]
        spans, labels = map(tuple, segments.spans.tolist()), segments.labels[:, 0].tolist()
        assert list(zip(spans, labels, strict=True)) == expected


@pytest.mark.parametrize("changes", [{"num_frames": 60}, {"num_frames": 16, "window": 16}, {"num_val": 3}])
def test_frames_are_whole_windows_and_validation_clips_pairs(changes: dict[str, int]) -> None:
    with pytest.raises(UserError, match="multiple of"):
        DATA.but(**changes)


# Actions


@pytest.mark.parametrize(("num_frames", "window"), [(128, 8), (28, 4), (48, 8)])
def test_actions_are_whole_windows_long_a_window_apart_and_within_the_clip(num_frames: int, window: int) -> None:
    actions = actions_of(3000, num_frames=num_frames, window=window)
    by_number: dict[int, Counter[tuple[int, ...]]] = {}
    for clip in range(3000):
        entries = listed(actions, clip)
        lengths = tuple(length // window for _, length, _, _ in entries)
        by_number.setdefault(len(lengths), Counter())[lengths] += 1
        ends = [-window, *(start + length for start, length, _, _ in entries)]
        starts = [*(start for start, _, _, _ in entries), num_frames + window]
        assert all(start - end >= window for start, end in zip(starts, ends, strict=True))
        assert all(length % window == 0 for _, length, _, _ in entries)
    numbers = [sum(counts.values()) for counts in by_number.values()]
    assert len(numbers) == 1 or stats.chisquare(numbers).pvalue > UNLIKELY
    steps = num_frames // window - 2
    for number, counts in by_number.items():
        fitting = [each for each in product(range(2, 7), repeat=number) if sum(each) + number - 1 <= steps]
        assert set(counts) <= set(fitting)
        if number == 1:
            assert stats.chisquare([counts[each] for each in fitting]).pvalue > UNLIKELY
    assert set(by_number) == {n for n in range(1, 5) if 2 * n + n - 1 <= steps}


def test_actions_start_at_any_frame_with_any_phase_and_class() -> None:
    actions = actions_of(4000)
    chosen = actions.lengths > 0
    for values, count in ((actions.labels, 3), (actions.phases, 8)):
        assert stats.chisquare(torch.bincount(values[chosen], minlength=count).numpy()).pvalue > UNLIKELY
    shares = torch.bincount(actions.starts[chosen] % 8) / chosen.sum()
    assert shares.min() > 0.1
    assert shares.max() < 0.2
    joint = torch.stack([actions.labels[chosen], actions.phases[chosen], (actions.starts % 8)[chosen]])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        table = np.histogram2d(joint[a].numpy(), joint[b].numpy(), bins=(joint[a].max() + 1, joint[b].max() + 1))[0]
        assert stats.chi2_contingency(table).pvalue > UNLIKELY


def test_sizes_are_those_of_the_definition() -> None:
    source, keys = clips_of(), torch.arange(60)
    actions = source._actions(keys)
    sizes = source._size_numbers(keys, actions)
    for clip in range(60):
        bare = actions._replace(lengths=torch.zeros_like(actions.lengths))
        ground = source._size_numbers(keys, bare)[clip, :8].tolist()
        assert sorted(ground) == list(range(8))
        assert sizes[clip].tolist() == sizes_by_definition(ground, listed(actions, clip), 128, 8)


# Blind to the order


def test_every_action_that_grows_has_one_that_shrinks_with_the_same_sizes_in_every_window() -> None:
    """All places in a window, phases and lengths, ends included; with the same background."""
    window, ground = 8, [3, 1, 7, 0, 2, 6, 4, 5]
    every = torch.tensor(list(product(range(8, 16), (16, 24, 32), range(8))))
    starts, lengths, phases = (column.unsqueeze(1) for column in every.unbind(1))
    grows = Actions(starts, lengths, torch.full_like(starts, GROWS), phases)
    shrinks = grows.twins(window)
    assert (shrinks.labels == SHRINKS).all()
    for values, again in zip(grows, shrinks.twins(window), strict=True):
        assert torch.equal(values, again)
    for clip in range(len(every)):
        mine, other = (sizes_by_definition(ground, listed(a, clip), 64, window) for a in (grows, shrinks))
        assert mine != other
        assert in_windows(mine, window) == in_windows(other, window)
        inside = starts[clip] // 8 + 1, (starts[clip] + lengths[clip]) // 8
        assert in_windows(mine, window)[slice(*inside)] == [list(range(8))] * (inside[1] - inside[0])


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_twins_have_the_same_frames_in_every_window(noise: float) -> None:
    source = clips_of(noise=noise)
    clips, truth = source.val_batch(torch.arange(20))
    windows = clips[:, 0].unflatten(2, (16, 8)).permute(0, 2, 3, 1, 4, 5)  # (B, 16, 8, 3, S, S)
    num_other = 0
    for one, other in zip(range(0, 20, 2), range(1, 20, 2), strict=True):
        for mine, theirs in zip(windows[one], windows[other], strict=True):
            assert Counter(f.numpy().tobytes() for f in mine) == Counter(f.numpy().tobytes() for f in theirs)
        assert torch.equal(truth[one].spans, truth[other].spans)
        swapped = [{GROWS: SHRINKS, SHRINKS: GROWS, ZERO: ZERO}[label] for label in truth[one].labels[:, 0].tolist()]
        assert truth[other].labels[:, 0].tolist() == swapped
        is_other = not torch.equal(clips[one], clips[other])
        assert is_other == any(label != ZERO for label in swapped)
        num_other += is_other
    assert num_other > 5


def test_a_twin_is_the_clip_that_is_drawn_for_its_actions() -> None:
    source = clips_of(noise=0.0)
    keys = source._keys(torch.arange(10), val=True)
    drawn, _ = source._clips(keys, source._actions(keys).twins(8), val=True)
    torch.testing.assert_close(source.val_batch(torch.arange(1, 20, 2))[0][:, 0], drawn, rtol=0, atol=1e-6)


def test_a_network_on_frames_says_the_same_of_twins_and_one_over_time_does_not() -> None:
    clips = clips_of().val_batch(torch.arange(20))[0][:, 0].double()
    generator = torch.Generator().manual_seed(0)
    for frames, is_blind in ((1, True), (3, False)):
        weight = torch.randn(6, 3, frames, 5, 5, generator=generator, dtype=torch.float64)
        features = torch.conv3d(clips, weight, padding=(frames // 2, 0, 0)).relu().square().mean((3, 4))
        steps = features.unflatten(2, (16, 8)).mean(3)
        assert torch.allclose(steps[::2], steps[1::2], rtol=1e-9, atol=1e-9) == is_blind


def test_a_clip_played_backwards_is_one_of_the_other_class() -> None:
    """As likely, too: starts, lengths and ends have the same distribution from both ends."""
    source, keys = clips_of(), torch.arange(200)
    actions = source._actions(keys)
    sizes = source._size_numbers(keys, actions)
    for clip in range(200):
        backwards = [
            (128 - start - length, length, {GROWS: SHRINKS, SHRINKS: GROWS}.get(label, label),
             (phase + {GROWS: length - 1, SHRINKS: 1 - length}.get(label, 0)) % 8)
            for start, length, label, phase in listed(actions, clip)
        ]  # fmt: skip
        bare = actions._replace(lengths=torch.zeros_like(actions.lengths))
        ground = source._size_numbers(keys, bare)[clip, :8].tolist()
        assert sizes[clip].tolist()[::-1] == sizes_by_definition(ground[::-1], backwards, 128, 8)
    many = actions_of(4000)
    count = (many.lengths > 0).sum(1, keepdim=True)
    before = many.starts[:, 0]
    after = 128 - (many.starts + many.lengths).gather(1, count - 1)[:, 0]
    assert stats.ks_2samp(before.numpy(), after.numpy()).pvalue > UNLIKELY


# Pictures


def test_a_0_is_shown_where_the_class_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    source = clips_of(noise=0.0)
    keys = torch.arange(40)
    actions, shown = source._actions(keys), list[Tensor]()

    def pick(self: UntrimmedClips, digits_BT: Tensor, u: Tensor, val: bool) -> Tensor:  # noqa: ARG001
        shown.append(digits_BT)
        return torch.zeros(*digits_BT.shape, 8, 8)

    monkeypatch.setattr(UntrimmedClips, "_pick_glyphs", pick)
    source._clips(keys, actions, val=False)
    for clip in range(40):
        (other,) = set(shown[0][clip].tolist()) - {0}
        zeros = {
            frame for start, length, label, _ in listed(actions, clip) for frame in range(start, start + length)
            if label == ZERO
        }  # fmt: skip
        assert shown[0][clip].tolist() == [0 if frame in zeros else other for frame in range(128)]
    assert len(shown[0].unique()) == 10


def test_a_digit_drifts_from_window_to_window_and_not_within_one() -> None:
    phases = clips_of()._phases(128).view(16, 8)
    assert torch.equal(phases, phases[:, :1].expand(16, 8))
    torch.testing.assert_close(phases[:, 0], torch.linspace(0, 1, 16))


# The ceiling


def average_precision(detections: list[tuple[float, int, int]], truth: set[tuple[int, int]]) -> float:
    """Interpolated, in percent, of detections (score, clip, segment) that find a segment exactly; a plain loop."""
    hits = [(clip, segment) in truth for _, clip, segment in sorted(detections, reverse=True)]
    precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return 100 * sum(max(precisions[i:]) for i, hit in enumerate(hits) if hit) / len(truth)


def test_the_ceiling_is_that_of_a_detector_that_reports_every_segment_as_both_classes() -> None:
    """On the truth itself; no other detector that says the same of twins does better."""
    data = DATA.but(num_val=60)
    truth = clips_of(num_val=60).val_batch(torch.arange(60))[1]
    labels = {(c, s): int(label) for c, t in enumerate(truth) for s, label in enumerate(t.labels[:, 0])}
    pairs = [key for key, label in labels.items() if label != ZERO]
    rng, averages = np.random.default_rng(0), dict[str, list[float]]()
    for _ in range(60):
        own = {(c // 2, s): rng.random() for c, s in pairs}  # twins have one score
        coin = {key: rng.integers(2) for key in own}
        by_name: dict[str, list[float]] = {}
        for label in (GROWS, SHRINKS):
            of_class = {key for key in pairs if labels[key] == label}
            chosen = [(c, s) for c, s in pairs if coin[c // 2, s] == label]
            scored = {
                "equal scores": [(rng.random(), c, s) for c, s in pairs],
                "own scores": [(own[c // 2, s] + 1e-9 * rng.random(), c, s) for c, s in pairs],
                "a coin for the class": [(rng.random(), c, s) for c, s in chosen],
            }
            for name, detections in scored.items():
                by_name.setdefault(name, []).append(average_precision(detections, of_class))
        for name, precisions in by_name.items():
            averages.setdefault(name, []).append(float(np.mean(precisions)))
    ceiling = order_blind_ceiling(data)
    assert 50 < ceiling.low < ceiling.mean < ceiling.high < 65
    equal = averages["equal scores"]
    assert abs(np.mean(equal) - ceiling.mean) < 5 * np.std(equal) / 60**0.5
    assert np.mean(averages["a coin for the class"]) < np.mean(averages["own scores"]) < ceiling.mean
    assert ceiling == order_blind_ceiling(data)
    assert order_blind_ceiling(data.but(num_val=400)).mean < ceiling.mean


def test_classes_are_named_in_the_order_of_labels() -> None:
    assert (CLASSES[GROWS], CLASSES[SHRINKS], CLASSES[ZERO]) == ("grows", "shrinks", "shows a 0")
    assert clips_of().class_names == CLASSES
