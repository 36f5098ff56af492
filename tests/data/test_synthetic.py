"""What the synthetic clips claim: made from (seed, index) alone, and told apart only by what their family says."""

from collections import Counter
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tadaconv.data import digits, open_source, synthetic
from tadaconv.data.digits import MEAN, STD, uniforms
from tadaconv.data.synthetic import CLASSES, REVERSES, SyntheticClips, class_names
from tadaconv.errors import UserError
from tadaconv.models import build
from tadaconv.spec import Backbone, Synthetic, TAda
from tadaconv.training import evaluate

CPU = torch.device("cpu")
FAMILIES = tuple(CLASSES)
CLASS_NAMES = class_names(Synthetic(num_train=1, num_val=1, families=FAMILIES))
NUM_CLASSES = len(CLASS_NAMES)
CHANGES, CHANGES_BACK = (CLASS_NAMES.index(name) for name in ("8 becomes 9", "9 becomes 8"))
GROWS, SHRINKS = (CLASS_NAMES.index(name) for name in ("8 grows", "8 shrinks"))
ONE, TWO = (CLASS_NAMES.index(name) for name in CLASSES["set"])
EARLY_5, EARLY_6 = (CLASS_NAMES.index(name) for name in CLASSES["gap"])
CLOCKWISE, COUNTERCLOCKWISE = (CLASS_NAMES.index(name) for name in CLASSES["turn"])
LENGTHS = [4, 5, 7, 8]
UNLIKELY = 1e-5
"""The tests below draw a few hundred p-values, always the same ones; none should be as small as this."""


def clips_of(num_frames: int = 4, **changes: Any) -> SyntheticClips:
    data = Synthetic(num_frames=num_frames, size=16, num_train=40, num_val=20, families=FAMILIES)
    return SyntheticClips(data.but(**changes), CPU)


def draws(num_clips: int, stream: int = 0) -> Tensor:
    return uniforms(torch.arange(num_clips), synthetic._NUM_DRAWS, stream)


def digits_of(label: int, num_frames: int, num_clips: int = 4000) -> Tensor:
    """Which digit the frames of many clips of a class show, (num_clips, num_frames)."""
    labels = torch.full((num_clips,), label)
    return clips_of(num_frames)._digits(labels, draws(num_clips), torch.arange(num_clips))


def pools_of(source: SyntheticClips, val: bool) -> list[Tensor]:
    """By digit, the handwriting of training or of validation, (hands, 8, 8) each."""
    glyphs, counts, starts = source._glyphs[val]
    pools = list(glyphs.split(counts.tolist()))
    assert [int(start) for start in starts] == [sum(map(len, pools[:digit])) for digit in range(10)]
    return pools


# From (seed, index) alone


@given(indices=st.lists(st.integers(0, 39), min_size=1, max_size=6), epoch=st.integers(0, 3))
def test_a_clip_does_not_depend_on_its_batch(indices: list[int], epoch: int) -> None:
    source = clips_of()
    together, labels = source.train_batch(torch.tensor(indices), epoch, seed=0)
    for position, index in enumerate(indices):
        alone, label = source.train_batch(torch.tensor([index]), epoch, seed=0)
        assert torch.equal(together[position], alone[0])
        assert labels[position] == label[0]


def test_a_clip_does_not_depend_on_the_global_random_state_nor_on_the_source_made() -> None:
    state = torch.get_rng_state()
    first, _ = clips_of().train_batch(torch.arange(5), 1, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    opened = open_source(clips_of().data, CPU)
    assert torch.equal(opened.train_batch(torch.arange(5), 1, seed=0)[0], first)


def test_epochs_and_data_seeds_change_the_clips_and_the_runs_seed_does_not() -> None:
    source, every = clips_of(), torch.arange(40)
    first, labels = source.train_batch(every, 0, seed=0)
    assert torch.equal(source.train_batch(every, 0, seed=1)[0], first)
    others = [source.train_batch(every, 1, seed=0)[0], clips_of(seed=1).train_batch(every, 0, seed=0)[0]]
    for other in others:
        assert not (other == first).flatten(1).all(1).any()
    assert torch.equal(clips_of(seed=1).train_batch(every, 0, seed=0)[1], labels)


def test_every_clip_is_another() -> None:
    source = clips_of(num_train=1000, noise=0.0)
    seen = [source.train_batch(torch.arange(500), epoch, seed=0)[0] for epoch in range(2)]
    seen.append(source.val_batch(torch.arange(500))[0][:, 0])
    assert len({clip.numpy().tobytes() for batch in seen for clip in batch}) == 1500


def test_validation_clips_are_always_the_same() -> None:
    indices = torch.arange(20)
    clips, labels = clips_of().val_batch(indices)
    assert torch.equal(clips, clips_of().val_batch(indices)[0])
    assert torch.equal(clips[7], clips_of().val_batch(torch.tensor([7]))[0][0])
    assert torch.equal(labels, clips_of().val_batch(indices)[1])


def test_shapes_and_labels() -> None:
    source = clips_of(5)
    clips, labels = source.train_batch(torch.arange(7), 0, seed=0)
    assert (clips.shape, clips.dtype) == ((7, 3, 5, 16, 16), torch.float32)
    assert (labels.shape, labels.dtype) == ((7,), torch.int64)
    assert source.val_batch(torch.arange(7))[0].shape == (7, 1, 3, 5, 16, 16)
    assert (source.num_train, source.num_val, source.num_views) == (40, 20, 1)


# Numbers


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_uniforms_are_uniform_over_clips_and_over_draws(stream: int) -> None:
    numbers = uniforms(torch.arange(5000), 24, stream).numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for draw in range(24):
        assert stats.kstest(numbers[:, draw], "uniform").pvalue > UNLIKELY
    for clip in uniforms(torch.arange(30), 5000, stream).numpy():
        assert stats.kstest(clip, "uniform").pvalue > UNLIKELY


def test_uniforms_are_independent() -> None:
    """Of one another within a clip, of the same draw in the next clip, and between streams."""
    a, b = uniforms(torch.arange(5000), 24, 0).numpy(), uniforms(torch.arange(5000), 24, 1).numpy()
    pairs = [(a[:, i], a[:, j]) for i in range(24) for j in range(i)]
    pairs += [(a[:, i], b[:, j]) for i, j in product(range(24), range(24))]
    pairs += [(a[:-1, i], a[1:, i]) for i in range(24)]
    for x, y in pairs:
        table = np.histogram2d(x, y, bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chi2_contingency(table).pvalue > UNLIKELY


def test_uniforms_stay_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_mix", lambda x: torch.full_like(x, 0xFFFFFFFF))
    numbers = uniforms(torch.arange(3), 2, 0)
    assert (numbers < 1).all()
    assert ((numbers * 178).long() == 177).all()  # a pool of 178 hands has no 179th


@pytest.mark.parametrize("label", range(NUM_CLASSES))
def test_what_is_drawn_does_not_depend_on_the_class(label: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, sizes, tints and textures follow from these draws, and the class from the index they are drawn for."""
    drawn = []

    def watch(keys: Tensor, count: int, stream: int) -> Tensor:
        drawn.append(uniforms(keys, count, stream))
        return drawn[-1]

    monkeypatch.setattr(synthetic, "uniforms", watch)
    indices = torch.arange(label, 2000 * NUM_CLASSES, NUM_CLASSES)
    monkeypatch.setattr(SyntheticClips, "_paint", lambda self, ink, u: torch.zeros(len(u), 3, 1, 1, 1))  # noqa: ARG005
    _, labels = clips_of(noise=0.0)._clips(indices, val=False)
    assert (labels == label).all()
    assert drawn[0].shape == (2000, synthetic._NUM_DRAWS)
    for column in drawn[0].numpy().T:
        assert stats.kstest(column, "uniform").pvalue > UNLIKELY


# Classes


def test_families_share_out_the_classes_and_classes_are_balanced() -> None:
    source = clips_of(num_train=3 * NUM_CLASSES)
    assert [c for members in source.families.values() for c in members] == list(range(NUM_CLASSES))
    labels = source.train_batch(torch.arange(3 * NUM_CLASSES), 2, seed=0)[1]
    assert Counter(labels.tolist()) == dict.fromkeys(range(NUM_CLASSES), 3)
    labels = source.val_batch(torch.arange(2 * NUM_CLASSES))[1]
    assert Counter(labels.tolist()) == dict.fromkeys(range(NUM_CLASSES), 2)


def test_every_family_is_a_value_of_the_field_and_the_first_three_are_the_default() -> None:
    field = Synthetic.model_fields["families"]
    assert get_args(get_args(field.annotation)[0]) == FAMILIES
    default = Synthetic(num_train=1, num_val=1)
    assert default.families == ("frame", "set", "order")
    assert not {"families", "val_twins"} & set(default.model_dump(mode="json"))
    assert class_names(default) == CLASS_NAMES[:10]


@pytest.mark.parametrize("families", [(), ("set", "set"), ("sets",)])
def test_wrong_families_are_refused(families: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="families"):
        Synthetic(num_train=1, num_val=1).but(families=families)


def test_the_families_change_nothing_but_which_class_an_index_has() -> None:
    """A clip follows from its class and the draws of its index, with whatever families."""
    indices = torch.arange(200)
    every, order = clips_of(num_frames=8), clips_of(num_frames=8, families=("order",))
    clips, labels = every.train_batch(indices, 0, seed=0)
    others, other_labels = order.train_batch(indices, 0, seed=0)
    is_same = torch.tensor(
        [every.class_names[a] == order.class_names[b] for a, b in zip(labels, other_labels, strict=True)]
    )
    assert is_same.sum() > 10
    assert torch.equal(clips[is_same], others[is_same])
    assert not (clips[~is_same] == others[~is_same]).flatten(1).all(1).any()


@pytest.mark.parametrize("label", range(4))
def test_every_frame_of_the_frame_family_shows_the_class(label: int) -> None:
    assert (digits_of(label, 4, 50) == int(CLASS_NAMES[label][-1])).all()


@pytest.mark.parametrize("num_frames", LENGTHS)
@pytest.mark.parametrize("label", [ONE, TWO])
def test_no_frame_tells_the_set_classes_apart(label: int, num_frames: int) -> None:
    """At every frame, every digit from 4 to 7 is as likely, in every class."""
    digits = digits_of(label, num_frames)
    assert set(digits.unique().tolist()) == {4, 5, 6, 7}
    for frame in digits.T:
        assert stats.chisquare(torch.bincount(frame, minlength=8)[4:].numpy()).pvalue > UNLIKELY


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_the_set_of_frames_tells_the_set_classes_apart(num_frames: int) -> None:
    for label, num_digits in ((ONE, 1), (TWO, 2)):
        assert {len(set(clip)) for clip in digits_of(label, num_frames, 500).tolist()} == {num_digits}


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_two_digits_of_a_set_take_every_order_equally_often(num_frames: int) -> None:
    digits = digits_of(TWO, num_frames)
    pairs, orders, shares = Counter[tuple[int, ...]](), Counter[tuple[bool, ...]](), set()
    for clip in digits.tolist():
        pairs[tuple(sorted(set(clip)))] += 1
        orders[tuple(digit == clip[0] for digit in clip)] += 1
        shares.add(min(Counter(clip).values()))
    assert shares == {num_frames // 2}
    assert len(pairs) == 6
    assert stats.chisquare(list(pairs.values())).pvalue > UNLIKELY
    # A frame's digit is that of the first frame as often at every distance.
    same = (digits[:, 1:] == digits[:, :1]).sum(0).numpy()
    assert stats.chi2_contingency(np.stack([same, len(digits) - same])).pvalue > UNLIKELY


@pytest.mark.parametrize("num_frames", [4, 5, 6, 7, 8, 16])
def test_a_change_of_digit_played_backwards_is_the_other_class(num_frames: int) -> None:
    """Over an even grid of the draw that sets the moment, the two classes hold the same clips, reversed."""
    grid = draws(840)
    grid[:, 1] = (torch.arange(840) + 0.5) / 840
    played = {
        label: clips_of(num_frames)._digits(torch.full((840,), label), grid, torch.arange(840))
        for label in (CHANGES, CHANGES_BACK)
    }
    forwards = Counter(tuple(clip) for clip in played[CHANGES].tolist())
    assert forwards == Counter(tuple(clip) for clip in played[CHANGES_BACK].flip(1).tolist())
    for clip in forwards:
        assert clip == tuple(sorted(clip))
        assert min(clip.count(8), clip.count(9)) > num_frames // 4  # both are seen for a while
    assert max(forwards.values()) - min(forwards.values()) <= 1  # every moment is as likely


def test_an_8_that_grows_played_backwards_shrinks() -> None:
    u = draws(200)
    for num_frames in LENGTHS:
        source = clips_of(num_frames)
        grows = source._sizes(torch.full((200,), GROWS), u)
        shrinks = source._sizes(torch.full((200,), SHRINKS), u)
        assert torch.equal(grows.flip(1), shrinks)
        assert (grows.diff(dim=1) > 0).all()
        for label in (GROWS, SHRINKS):
            assert (digits_of(label, num_frames, 20) == 8).all()


@pytest.mark.parametrize("num_frames", [4, 5, 6, 7, 8, 16])
def test_two_digits_with_a_gap_played_backwards_are_the_other_class(num_frames: int) -> None:
    """Over an even grid of the draws that set gap and start, both classes place their digits alike, reversed."""
    side = 60  # a multiple of the numbers of gaps and of starts
    grid = draws(side * side)
    grid[:, 24] = ((torch.arange(side) + 0.5) / side).repeat(side)
    grid[:, 25] = ((torch.arange(side) + 0.5) / side).repeat_interleave(side)

    def placed(label: int) -> Tensor:
        digits = clips_of(num_frames)._digits(torch.full((side * side,), label), grid, torch.arange(side * side))
        assert set(digits.unique().tolist()) == {-1, 5, 6}
        return digits

    forwards = Counter(tuple(clip) for clip in placed(EARLY_5).tolist())
    assert forwards == Counter(tuple(clip) for clip in placed(EARLY_6).flip(1).tolist())
    for clip in forwards:
        assert clip.count(5) == clip.count(6) == num_frames // 4
        gap = clip.index(6) - clip.index(5) - num_frames // 4
        assert gap >= (num_frames - 2 * (num_frames // 4) + 1) // 2 >= num_frames / 4  # an even clip's half of the rest


def test_frames_without_a_digit_are_ground_alone() -> None:
    source = clips_of(num_frames=8, noise=0.0, families=("gap",))
    clips, labels = source.train_batch(torch.arange(40), 0, seed=0)
    assert (labels == torch.arange(40) % 2).all()
    spread_BT = clips.amax((1, 3, 4)) - clips.amin((1, 3, 4))
    shown = spread_BT > 0.3 / STD  # ink is lighter than any ground by at least that
    assert (shown.sum(1) == 4).all()


def test_a_7_that_turns_played_backwards_turns_the_other_way() -> None:
    u = draws(4000)
    one, other = (clips_of(8)._angles(torch.full((4000,), label), u) for label in (CLOCKWISE, COUNTERCLOCKWISE))
    tilt, turn = (one + other) / 2, (one - other) / 2
    torch.testing.assert_close(tilt, ((u[:, 11:12] - 0.5) * 0.4).expand_as(tilt))
    torch.testing.assert_close(turn.flip(1), -turn)
    degrees = (turn[:, -1] - turn[:, 0]).rad2deg()
    assert 59 < degrees.min() < 61
    assert 99 < degrees.max() < 101
    assert (digits_of(CLOCKWISE, 8, 20) == 7).all()


def test_what_does_not_turn_is_tilted_a_little() -> None:
    u = draws(200)
    for label in set(range(NUM_CLASSES)) - {CLOCKWISE, COUNTERCLOCKWISE}:
        angles = clips_of()._angles(torch.full((200,), label), u)
        assert torch.equal(angles, ((u[:, 11:12] - 0.5) * 0.4).expand_as(angles))


def test_twins_of_validation_clips_are_played_backwards() -> None:
    indices = torch.arange(5 * NUM_CLASSES)
    single, pairs = clips_of(num_frames=8), clips_of(num_frames=8, val_twins=True)
    clips, labels = pairs.val_batch(indices)
    by_itself, same_labels = single.val_batch(indices)
    assert torch.equal(labels, same_labels)
    assert torch.equal(pairs.train_batch(indices, 0, 0)[0], single.train_batch(indices, 0, 0)[0])
    for block in range(5):
        for name, label in {name: i + block * NUM_CLASSES for i, name in enumerate(CLASS_NAMES)}.items():
            if name in REVERSES:
                original = CLASS_NAMES.index(REVERSES[name]) + block * NUM_CLASSES
                assert torch.equal(clips[label], clips[original].flip(2))
            else:
                assert torch.equal(clips[label], by_itself[label])


def test_a_network_that_is_blind_to_order_is_right_about_one_of_two_twins() -> None:
    source = clips_of(num_frames=8, families=("order", "gap", "turn"), val_twins=True)
    num_clips = 40 * len(source.class_names)
    clips, labels = source.val_batch(torch.arange(num_clips))
    weights = torch.randn(3 * 16 * 16, len(source.class_names), generator=torch.Generator().manual_seed(0))
    best = (clips[:, 0].sum(2).flatten(1).double() @ weights.double()).argmax(1)
    twins = (best == labels).view(-1, 2).sum(1)
    assert (twins <= 1).all()
    assert twins.sum() > 0


def test_other_sizes_are_constant_and_alike() -> None:
    u = draws(200)
    sizes = [clips_of()._sizes(torch.full((200,), c), u) for c in range(NUM_CLASSES) if c not in (GROWS, SHRINKS)]
    for size in sizes:
        assert torch.equal(size, sizes[0])
        assert torch.equal(size, size[:, :1].expand_as(size))
    assert min(size.min() for size in sizes) > 0.3
    assert max(size.max() for size in sizes) < 1


# Pictures


def test_paths_played_backwards_are_paths() -> None:
    """Exchanging the two ends of a path plays it backwards; both are drawn alike."""
    source, u = clips_of(5), draws(50)
    glyphs, sizes = torch.rand(50, 5, 8, 8, generator=torch.Generator().manual_seed(0)), 0.4 + 0.5 * draws(50)[:, :5]
    swapped = u.clone()
    swapped[:, [7, 8, 9, 10]] = u[:, [8, 7, 10, 9]]
    angles = 0.5 - draws(50)[:, 5:10]
    backwards = source._place(glyphs.flip(1), sizes.flip(1), angles.flip(1), swapped)
    torch.testing.assert_close(backwards.flip(2), source._place(glyphs, sizes, angles, u), rtol=0, atol=1e-4)


def test_digits_stay_inside_the_frame_at_their_size() -> None:
    """Untilted squares of ink cover as much of the frame as their size says, so no part of one is cut off."""
    source = SyntheticClips(Synthetic(num_frames=4, size=64, num_train=1, num_val=1), CPU)
    u = draws(100)
    sizes = 0.4 + 0.5 * draws(100, stream=5)[:, :4]
    ink = source._place(torch.ones(100, 4, 8, 8), sizes, torch.zeros(100, 4), u)
    torch.testing.assert_close(ink.mean((1, 3, 4)).sqrt(), sizes, rtol=0, atol=0.01)


def test_a_digit_looks_the_same_throughout_a_clip() -> None:
    """One hand a clip and digit; the hands are those of the digit, of the right share of them."""
    for val, labels in product((False, True), (CHANGES, TWO, 0)):
        source = clips_of(8)
        digits = digits_of(labels, 8, 60)
        glyphs = source._pick_glyphs(digits, draws(60), val)
        for clip, shown in zip(digits.tolist(), glyphs, strict=True):
            hands = {}
            for digit, glyph in zip(clip, shown, strict=True):
                assert torch.equal(hands.setdefault(digit, glyph), glyph)
                assert (pools_of(source, val)[digit] == glyph).flatten(1).all(1).any()


def test_training_and_validation_share_out_the_handwriting() -> None:
    source = clips_of()
    images, shown = digits._handwriting()
    by_split = {
        val: Counter(
            (digit, glyph.numpy().tobytes()) for digit, pool in enumerate(pools_of(source, val)) for glyph in pool
        )
        for val in (False, True)
    }
    assert not {image for _, image in by_split[False]} & {image for _, image in by_split[True]}
    everything = Counter((int(digit), image.tobytes()) for digit, image in zip(shown, images, strict=True))
    assert by_split[False] + by_split[True] == everything
    assert all(len(pool) >= 30 for val in (False, True) for pool in pools_of(source, val))


def test_pixels_lie_between_0_and_1_before_noise() -> None:
    source = clips_of(5, noise=0.0)
    pixels = source.train_batch(torch.arange(500), 0, seed=0)[0] * STD + MEAN
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert pixels.amax((1, 2, 3, 4)).min() > 0.5  # every clip shows some ink
    assert pixels.amin((1, 2, 3, 4)).max() < 0.4  # and some ground


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_noise_has_its_standard_deviation_and_no_structure(noise: float) -> None:
    indices = torch.arange(60)
    noisy, clean = (clips_of(4, noise=n).train_batch(indices, 0, seed=0)[0] for n in (noise, 0.0))
    added = (noisy - clean) * STD
    torch.testing.assert_close(added[:, 0], added[:, 2], rtol=0, atol=1e-5)  # grey
    grey = added[:, 0].numpy()
    assert grey.std() == pytest.approx(noise, rel=0.01)
    assert stats.kstest(grey.ravel() / (noise * 12**0.5) + 0.5, "uniform").pvalue > UNLIKELY
    neighbours = ((grey[:, 1:], grey[:, :-1]), (grey[..., 1:], grey[..., :-1]), (grey[1:], grey[:-1]))
    for x, y in neighbours:
        assert stats.pearsonr(x.ravel(), y.ravel()).pvalue > UNLIKELY


def test_small_clips_are_evaluated_in_larger_batches_with_the_same_result() -> None:
    source = SyntheticClips(Synthetic(num_frames=4, size=16, num_train=4, num_val=150, noise=0.05), CPU)
    assert source.eval_batch(16) == 400_000 // (3 * 4 * 16 * 16) > 100
    assert source.eval_batch(1000) == 1000
    large = SyntheticClips(Synthetic(num_frames=8, size=112, num_train=4, num_val=4), CPU)
    assert large.eval_batch(16) == 16

    class InSmallBatches(SyntheticClips):
        def eval_batch(self, batch_size: int) -> int:
            return batch_size

    torch.manual_seed(0)
    model = build(Backbone(name="tiny"), TAda(), len(source.class_names))
    ours = evaluate(model, source, 16, CPU)
    expected = evaluate(model, InSmallBatches(source.data, CPU), 16, CPU)
    torch.testing.assert_close(ours.probabilities, expected.probabilities, atol=2e-3, rtol=0)
    assert ours.loss == pytest.approx(expected.loss, rel=1e-6)
