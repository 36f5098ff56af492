"""Class probabilities on disk, and the accuracy of the mean of several: against an enumeration in exact fractions."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.errors import UserError
from tadaconv.scores import Scores, as_npz, clips_fingerprint, ensemble, read_scores
from tadaconv.spec import Backbone, Experiment, Folder, Schedule, Synthetic


def made(draw: np.random.Generator, num_clips: int, sizes: list[int], levels: int, cell: str = "k") -> Scores:
    """Probabilities of each head from few levels, so that classes are often equally likely."""
    heads = {f"head {i}": size for i, size in enumerate(sizes)}
    raw = [draw.integers(0, levels, (num_clips, size)) + 0.25 for size in sizes]
    return Scores(
        cell=cell,
        fingerprint="f",
        clips=np.array([f"clip {i}" for i in range(num_clips)]),
        classes=np.array([f"{head}: {i}" for head, size in heads.items() for i in range(size)]),
        heads=heads,
        labels=np.stack([draw.integers(0, size, num_clips) for size in sizes], 1),
        probabilities=np.concatenate([each / each.sum(1, keepdims=True) for each in raw], 1).astype(np.float16),
    )


def enumerated(parts: list[Scores]) -> tuple[float, float]:
    """Top-1 and top-5: every combination of classes of every clip, ranked by its exact mean, the first of equals."""
    first = parts[0]
    sizes = list(first.heads.values())
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    hits = [0, 0]
    for i, labels in enumerate(first.labels.tolist()):
        mean = {
            classes: sum(
                math.prod(Fraction(float(part.probabilities[i, s + c])) for s, c in zip(starts, classes, strict=True))
                for part in parts
            )
            for classes in product(*map(range, sizes))
        }
        ranked = sorted(mean, key=lambda classes: (-mean[classes], classes))
        hits[0] += ranked[0] == tuple(labels)
        hits[1] += tuple(labels) in ranked[:5]
    return 100 * hits[0] / len(first.labels), 100 * hits[1] / len(first.labels)


@given(
    seed=st.integers(0, 10**6),
    num_clips=st.integers(1, 9),
    sizes=st.sampled_from([[2], [5], [12], [3, 4], [1, 6], [2, 3, 2]]),
    levels=st.integers(1, 6),
    num_parts=st.integers(1, 3),
)
def test_the_mean_of_several_against_an_enumeration(
    seed: int, num_clips: int, sizes: list[int], levels: int, num_parts: int
) -> None:
    draw = np.random.default_rng(seed)
    first = made(draw, num_clips, sizes, levels)
    others = [made(draw, num_clips, sizes, levels) for _ in range(num_parts - 1)]
    parts = [first, *(replace(other, labels=first.labels) for other in others)]
    found = ensemble({f"row {i}": part for i, part in enumerate(parts)})
    assert (found.top1, found.top5) == pytest.approx(enumerated(parts))
    assert found == ensemble({f"row {i}": part for i, part in reversed(list(enumerate(parts)))})
    assert found.num_val == num_clips
    assert set(found.per_head) == (set() if len(sizes) == 1 else set(first.heads))
    cuts = np.cumsum(sizes)[:-1]
    for i, name in enumerate(found.per_head):
        alone = [
            replace(
                p, heads={name: sizes[i]}, labels=p.labels[:, [i]], probabilities=np.split(p.probabilities, cuts, 1)[i]
            )
            for p in parts
        ]
        assert (found.per_head[name].top1, found.per_head[name].top5) == pytest.approx(enumerated(alone))


def test_one_that_is_sure_outvotes_one_that_is_not() -> None:
    both = made(np.random.default_rng(0), 1, [3], 2)
    sure = replace(both, labels=np.array([[2]]), probabilities=np.array([[0, 0.1, 0.9]], np.float16))
    unsure = replace(sure, probabilities=np.array([[0.4, 0.35, 0.25]], np.float16))
    assert ensemble({"unsure": unsure, "sure": sure}).top1 == 100


def test_a_mean_is_not_rounded_to_half_precision() -> None:
    both = made(np.random.default_rng(0), 1, [2], 2)
    first = replace(both, labels=np.array([[1]]), probabilities=np.array([[0.5 - 2**-12, 0.5]], np.float16))
    other = replace(first, probabilities=np.full((1, 2), 1637 / 4096, np.float16))
    sums = (first.probabilities + other.probabilities)[0]
    assert sums[0] == sums[1]  # the two would be equal in it, and the first be taken
    assert ensemble({"a": first, "b": other}).top1 == 100


def test_a_file_holds_everything_and_needs_numpy_alone(tmp_path: Path) -> None:
    scores = made(np.random.default_rng(1), 5, [3, 4], 9, cell="cafe")
    path = tmp_path / "cafe.scores.npz"
    path.write_bytes(as_npz(scores))
    assert as_npz(scores) == as_npz(replace(scores))
    plain = np.load(path, allow_pickle=False)
    assert plain["scores"].dtype == np.float16
    assert {name: plain[name].tolist() for name in plain.files if name != "scores"} == {
        "labels": scores.labels.tolist(),
        "classes": scores.classes.tolist(),
        "heads": ["head 0", "head 1"],
        "num_classes": [3, 4],
        "clips": [f"clip {i}" for i in range(5)],
        "fingerprint": "f",
        "cell": "cafe",
    }
    back = read_scores(path, "cafe")
    assert back.probabilities.tobytes() == scores.probabilities.tobytes()
    assert as_npz(back) == as_npz(scores)
    with pytest.raises(UserError, match=r"cafe.scores.npz belong to another cell, cafe, and not to beef$"):
        read_scores(path, "beef")
    with pytest.raises(UserError, match=r"^no class probabilities at .*none.npz$"):
        read_scores(tmp_path / "none.npz", "cafe")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda s: as_npz(s)[:-40],
        lambda _: b"a text",
        lambda s: as_npz(replace(s, labels=s.labels[:-1])),
        lambda s: as_npz(replace(s, labels=s.labels + 3)),
        lambda s: as_npz(replace(s, classes=s.classes[:-1])),
        lambda s: as_npz(replace(s, heads={"head 0": 4})),
        lambda s: as_npz(replace(s, clips=s.clips[:-1])),
        lambda s: as_npz(replace(s, clips=s.clips.astype(object))),  # a pickle, which may run code
        lambda s: as_npz(replace(s, probabilities=s.probabilities * np.float16("nan"))),
    ],
)
def test_a_damaged_file_is_one_line(spoil: Any, tmp_path: Path) -> None:
    path = tmp_path / "k.npz"
    path.write_bytes(spoil(made(np.random.default_rng(2), 4, [3], 5)))
    with pytest.raises(UserError, match=r"^the class probabilities .*k.npz cannot be read \(\w+\)$"):
        read_scores(path, "k")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: {"fingerprint": "g"}, "were evaluated on other clips"),
        (lambda s: {"clips": s.clips[::-1]}, "were evaluated on other clips"),
        (lambda s: {"clips": np.array(["x", *s.clips[1:]])}, "were evaluated on other clips"),
        (lambda s: {"labels": 1 - s.labels}, "were evaluated on other clips"),
        (lambda s: {"classes": s.classes[::-1]}, "predict other classes"),
        (lambda s: {"classes": np.array(["x", *s.classes[1:]])}, "predict other classes"),
        (lambda _: {"heads": {"verb": 2}}, "predict other classes"),
        (
            lambda s: {"labels": s.labels[:3], "probabilities": s.probabilities[:3], "clips": s.clips[:3]},
            "were evaluated on other clips",
        ),
    ],
)
def test_other_clips_classes_or_orders_are_refused(change: Any, told: str) -> None:
    one = made(np.random.default_rng(4), 4, [2], 5)
    with pytest.raises(UserError) as raised:
        ensemble({"8 frames": one, "16 frames": replace(one, **change(one))})
    line = f"'8 frames' and '16 frames' {told}, or in another order, so their class probabilities cannot be averaged"
    assert str(raised.value) == line


def test_names_of_clips_are_compared_where_both_have_them() -> None:
    one = made(np.random.default_rng(4), 4, [2], 5)
    nameless = replace(one, clips=np.array([], dtype=np.str_))
    assert ensemble({"a": one, "b": nameless}) == ensemble({"a": one, "b": one})


def test_clips_are_the_same_whatever_is_taken_of_each() -> None:
    clips = Synthetic(num_train=8, num_val=8)
    base = Experiment(backbone=Backbone(name="tiny"), data=clips, schedule=Schedule(epochs=1, batch_size=2, lr=0.1))
    known = clips_fingerprint(base)
    assert clips_fingerprint(base.but(data__num_frames=16, seed=3)) == known
    assert clips_fingerprint(base.but(data__seed=1)) != known
    assert clips_fingerprint(base.but(data=Folder(fingerprint="abc", num_frames=16))) == "abc"
