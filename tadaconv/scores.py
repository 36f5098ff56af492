"""The class probabilities of validation clips, which a trained cell stores next to its weights; needs no torch.

A file of scores is a NumPy archive, readable without this package by ``numpy.load(path)``; ``docs/reports.md`` has its
arrays. :func:`ensemble` is the accuracy of the mean of several.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tadaconv.errors import UserError
from tadaconv.result import HeadAccuracy
from tadaconv.spec import Experiment, Folder


@runtime_checkable
class HasClipNames(Protocol):
    """A source of clips that has a name for each validation clip, such as its id in the data set."""

    val_names: Sequence[str]


@dataclass(frozen=True, eq=False)
class Scores:
    """The class probabilities of the validation clips of one cell, N clips in the order of the data.

    Attributes:
        cell: key of the cell.
        fingerprint: which clips these are; see :func:`clips_fingerprint`.
        clips: (N,) names of the clips; (0,) where the data have none.
        classes: (C,) names of the classes in the order of the columns, one head's after the other.
        heads: what each of the labels of a clip is, and its number of classes.
        labels: (N, heads) int64, each an index into the classes of its head.
        probabilities: (N, C) float16, averaged over the views of a clip; of each head they add up to one.
    """

    cell: str
    fingerprint: str
    clips: NDArray[np.str_]
    classes: NDArray[np.str_]
    heads: Mapping[str, int]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float16]


@dataclass(frozen=True)
class EnsembleAccuracy:
    """Accuracies in percent of ``num_val`` clips; ``per_head`` is empty where clips have one label."""

    top1: float
    top5: float
    per_head: dict[str, HeadAccuracy]
    num_val: int


def clips_fingerprint(experiment: Experiment) -> str:
    """Identifies the validation clips of an experiment; frames and views of them may differ."""
    data = experiment.data
    if isinstance(data, Folder):
        return data.fingerprint
    made_from = data.model_dump(mode="json", exclude={"num_frames"})
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def as_npz(scores: Scores) -> bytes:
    """The content of a file of scores; the same scores give the same bytes."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        scores=scores.probabilities,
        labels=scores.labels,
        classes=scores.classes,
        heads=np.array(list(scores.heads), dtype=np.str_),
        num_classes=np.array(list(scores.heads.values()), dtype=np.int64),
        clips=scores.clips,
        fingerprint=np.array(scores.fingerprint),
        cell=np.array(scores.cell),
    )
    return buffer.getvalue()


def read_scores(path: Path, cell: str) -> Scores:
    """The scores of ``cell`` that :func:`as_npz` made.

    Raises :class:`UserError` for a file that does not exist, is not a file of scores, or is of another cell.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        scores = Scores(
            cell=str(arrays["cell"]),
            fingerprint=str(arrays["fingerprint"]),
            clips=arrays["clips"],
            classes=arrays["classes"],
            heads={str(name): int(n) for name, n in zip(arrays["heads"], arrays["num_classes"], strict=True)},
            labels=arrays["labels"],
            probabilities=arrays["scores"],
        )
        _require_whole(scores)
    except FileNotFoundError as error:
        raise UserError(f"no class probabilities at {path}") from error
    except Exception as error:  # NumPy raises all kinds for a damaged file
        raise UserError(f"the class probabilities {path} cannot be read ({type(error).__name__})") from error
    if scores.cell != cell:
        raise UserError(f"the class probabilities {path} belong to another cell, {scores.cell}, and not to {cell}")
    return scores


def _require_whole(scores: Scores) -> None:
    """Raise :class:`ValueError` where arrays do not fit together."""
    num_clips, num_classes = scores.probabilities.shape
    sizes = np.array(list(scores.heads.values()))
    fits = (
        scores.labels.shape == (num_clips, len(sizes))
        and scores.classes.shape == (num_classes,)
        and sizes.sum() == num_classes
        and scores.clips.shape in ((0,), (num_clips,))
        and num_clips > 0
        and bool(((scores.labels >= 0) & (scores.labels < sizes)).all())
        and bool(np.isfinite(scores.probabilities).all())
    )
    if not fits:
        raise ValueError("the arrays do not fit together")


def ensemble(parts: Mapping[str, Scores]) -> EnsembleAccuracy:
    """The accuracy of the mean of the class probabilities of ``parts``, which are given by name.

    Top-5 counts the five likeliest classes, or all where there are fewer. Of classes that are equally likely those that
    come first are taken; evaluation takes any, and in its single precision hardly ever has to.
    Where clips have several labels, the probability of a combination is the product of those of its classes in each
    part, and then the mean over parts.

    Raises :class:`UserError` where the parts are not of the same clips, labels and classes in the same order.
    """
    (first_name, first), *others = parts.items()
    for name, other in others:
        if difference := _difference(first, other):
            raise UserError(
                f"{first_name!r} and {name!r} {difference}, so their class probabilities cannot be averaged"
            )
    sizes = list(first.heads.values())
    # The sum of half-precision numbers is exact in double precision: the order of the parts changes nothing.
    by_part = [
        np.split(part.probabilities.astype(np.float64), np.cumsum(sizes)[:-1], axis=1) for part in parts.values()
    ]
    by_head = {
        name: _accuracy(_ranks(sum(of_parts[1:], of_parts[0]), first.labels[:, head]))
        for head, (name, of_parts) in enumerate(zip(first.heads, zip(*by_part, strict=True), strict=True))
    }
    if len(sizes) == 1:
        (alone,) = by_head.values()
        return EnsembleAccuracy(alone.top1, alone.top5, {}, len(first.labels))
    whole = np.ravel_multi_index(tuple(first.labels.T), sizes)
    ranks = np.empty(len(whole), dtype=np.int64)
    for clip in range(len(whole)):  # one by one: of 97 verbs and 300 nouns there are 29,100 pairs
        joint = sum(_products([heads[clip] for heads in of_part]) for of_part in by_part)
        ranks[clip] = _ranks(np.asarray(joint)[None], whole[clip : clip + 1])[0]
    at_once = _accuracy(ranks)
    return EnsembleAccuracy(at_once.top1, at_once.top5, by_head, len(whole))


def _difference(one: Scores, other: Scores) -> str:
    """In which way two files of scores are not of the same classes and clips in the same order; empty if in none."""
    if list(one.heads.items()) != list(other.heads.items()) or one.classes.tolist() != other.classes.tolist():
        return "predict other classes, or in another order"
    both_named = len(one.clips) > 0 and len(other.clips) > 0
    if (
        one.fingerprint != other.fingerprint
        or (both_named and one.clips.tolist() != other.clips.tolist())
        or not np.array_equal(one.labels, other.labels)
    ):
        return "were evaluated on other clips, or in another order"
    return ""


def _products(heads: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(C1,), (C2,), ... to (C1 * C2 * ...,), the classes of the last head running fastest."""
    joint = heads[0]
    for probabilities in heads[1:]:
        joint = np.outer(joint, probabilities).ravel()
    return joint


def _ranks(likelihood: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the classes, (B, C), come before that of the clip, (B,)."""
    own = np.take_along_axis(likelihood, labels[:, None], axis=1)
    ranks: NDArray[np.int64] = (likelihood > own).sum(1)
    equal = likelihood == own
    for clip in np.flatnonzero(equal.sum(1) > 1):
        ranks[clip] += equal[clip, : labels[clip]].sum()
    return ranks


def _accuracy(ranks: NDArray[np.int64]) -> HeadAccuracy:
    return HeadAccuracy(top1=100 * float((ranks < 1).mean()), top5=100 * float((ranks < 5).mean()))
