"""Evaluation: accuracies over the validation clips, all views of a clip averaged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from tadaconv.data.source import Source
from tadaconv.errors import RunError
from tadaconv.result import HeadAccuracy, SubsetAccuracy
from tadaconv.run_options import Precision
from tadaconv.training.computing import autocast
from tadaconv.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent, the loss in nats; the fields are those of :class:`tadaconv.result.Result`."""

    top1: float
    top5: float
    loss: float
    per_class: dict[str, float]
    per_family: dict[str, float]
    classes: list[str]
    family_classes: dict[str, list[str]]
    confusion: list[tuple[int, int, int]]
    per_head: dict[str, HeadAccuracy] = field(default_factory=dict)
    per_subset: dict[str, SubsetAccuracy] = field(default_factory=dict)
    labels: Tensor = field(default_factory=lambda: torch.empty(0, 1, dtype=torch.int64), compare=False, repr=False)
    """(N, heads) int64 of the N validation clips, on the CPU."""
    probabilities: Tensor = field(
        default_factory=lambda: torch.empty(0, 0, dtype=torch.float16), compare=False, repr=False
    )
    """(N, C) float16 on the CPU: each clip's class probabilities, averaged over its views, of one head after the other.
    """

    @property
    def score(self) -> float:
        """Top-1."""
        return self.top1

    def result_fields(self) -> dict[str, Any]:
        """The fields of a :class:`tadaconv.result.Result` that an evaluation gives."""
        own = ("labels", "probabilities", "top1")
        rest = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in own}
        return {"score": self.top1, "num_val": len(self.labels), **rest}


def _by_head(model: nn.Module, clips: Tensor, num_classes: Sequence[int] = ()) -> list[Tensor]:
    """Log-probabilities of every view by head, (B, V, C) each; ``num_classes`` are those of several heads."""
    scores: Tensor = model(clips.flatten(0, 1)).float()
    parts = scores.split(list(num_classes), 1) if len(num_classes) > 1 else (scores,)
    return [part.log_softmax(1).view(*clips.shape[:2], -1) for part in parts]


def averaged(log_p_BVC: Tensor) -> Tensor:
    """Log of the mean over views of probabilities that are given as logs: (B, V, C) to (B, C)."""
    return log_p_BVC.logsumexp(1) - math.log(log_p_BVC.shape[1])


def joint_log_probabilities(by_head: Sequence[Tensor]) -> Tensor:
    """Log of the mean over views of the products of the heads' probabilities, for every combination of their classes.

    Args:
        by_head: log-probabilities of each head, (B, V, C1), (B, V, C2), ...

    Returns:
        (B, C1 * C2 * ...), the classes of the last head running fastest.
    """
    joint = by_head[0]
    for log_p_BVC in by_head[1:]:
        joint = (joint.unsqueeze(3) + log_p_BVC.unsqueeze(2)).flatten(2)
    return averaged(joint)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    source: Source,
    batch_size: int,
    device: torch.device,
    precision: Precision = "auto",
    ranks: Ranks = ALONE,
    clips: Tensor | None = None,
) -> Evaluation:
    """Accuracy of ``model`` on the validation clips of ``source``, ``source.eval_batch(batch_size)`` views at a time.

    Top-5 counts the five likeliest classes, or all where there are fewer. With several heads a clip is correct where
    all its labels are; the accuracies of each head are given, too. Classes and families without a validation clip are
    left out of ``per_class`` and ``per_family``. Ranks share the batches, which are those of one process, and all
    return the same. Raises :class:`RunError` if the loss is not finite.

    Args:
        model: left in the mode it is in.
        source: the clips.
        batch_size: clips of a training step.
        device: where the model is.
        precision: of the forward passes.
        ranks: which of the processes that evaluate together this is.
        clips: int64 indices of the validation clips to evaluate on, (N,), without the source's subsets; None for all.
    """
    was_training = model.training
    model.eval()
    num_classes = [len(head.class_names) for head in source.heads]
    chosen = torch.arange(source.num_val) if clips is None else clips
    num_clips = len(chosen)
    log_p = [torch.zeros(num_clips, number, device=device) for number in num_classes]
    labels = torch.zeros(num_clips, len(num_classes), dtype=torch.int64, device=device)
    # The likeliest combinations of the classes of several heads alone: 97 verbs and 300 nouns have 29,100.
    joint = torch.zeros(num_clips, min(5, math.prod(num_classes)), dtype=torch.int64, device=device)
    batches = ranks.own(torch.arange(num_clips).split(max(1, source.eval_batch(batch_size) // source.num_views)))
    source.expect_val([chosen[indices] for indices in batches])
    for indices in batches:
        batch, batch_labels = source.val_batch(chosen[indices])
        with autocast(device, precision):
            views = _by_head(model, batch, num_classes)
        own = slice(int(indices[0]), int(indices[-1]) + 1)
        for of_head, of_views in zip(log_p, views, strict=True):
            of_head[own] = averaged(of_views)
        labels[own] = batch_labels.view(len(indices), -1)
        if len(views) > 1:
            joint[own] = _ranked(joint_log_probabilities(views))
    model.train(was_training)
    ranks.add_up([*log_p, labels, joint])  # each clip is another's zeros
    subsets = source.subsets if clips is None else {}
    result = _summarise(log_p, labels, joint if len(num_classes) > 1 else None, source, subsets)
    if not math.isfinite(result.loss):
        raise RunError(
            f"the validation loss is {result.loss}; lower the learning rate or clip the gradient norm "
            "(schedule.clip_norm)"
        )
    return result


def _ranked(log_p: Tensor) -> Tensor:
    """The five likeliest classes, or all where there are fewer: (B, C) to (B, 5) indices."""
    return log_p.topk(min(5, log_p.shape[1]), 1).indices


def _accuracy(hits: Tensor) -> HeadAccuracy:
    """Of (N, 5), which of the likeliest classes is the clip's."""
    return HeadAccuracy(top1=100 * float(hits[:, 0].double().mean()), top5=100 * float(hits.any(1).double().mean()))


def _summarise(
    log_p: Sequence[Tensor], labels: Tensor, joint: Tensor | None, source: Source, subsets: Mapping[str, Tensor]
) -> Evaluation:
    """From (N, C) log-probabilities and a column of labels a head, and the likeliest combinations of several."""
    heads = source.heads
    per_head: dict[str, HeadAccuracy] = {}
    confusion: list[tuple[int, int, int]] = []
    loss, first = 0.0, 0
    whole = torch.zeros(len(labels), dtype=torch.int64, device=labels.device)
    correct_of, class_of = [], []
    for i, (head, of_head) in enumerate(zip(heads, log_p, strict=True)):
        label, best = labels[:, i], _ranked(of_head)
        hits = best == label.unsqueeze(1)
        per_head[head.name] = _accuracy(hits)
        loss += float(-of_head.gather(1, label.unsqueeze(1)).double().mean())
        confusion += [(a + first, b + first, n) for a, b, n in _confusion(label, best[:, 0])]
        correct_of.append(hits[:, 0].double())
        class_of.append(label + first)
        whole = whole * len(head.class_names) + label
        first += len(head.class_names)
    correct, classes = torch.cat(correct_of), torch.cat(class_of)

    def percent(groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
        members = {name: torch.isin(classes, torch.tensor(of, device=classes.device)) for name, of in groups.items()}
        return {name: 100 * float(correct[of].mean()) for name, of in members.items() if of.any()}

    correct_at_once = correct_of[0] if joint is None else (joint[:, 0] == whole).double()
    product = per_head[heads[0].name] if joint is None else _accuracy(joint == whole.unsqueeze(1))
    by_head = {} if joint is None else {head.name: hits for head, hits in zip(heads, correct_of, strict=True)}
    per_subset = {
        name: SubsetAccuracy(
            num_val=len(clips),
            top1=100 * float(correct_at_once[clips].mean()),
            per_head={head: 100 * float(hits[clips].mean()) for head, hits in by_head.items()},
        )
        for name, clips in subsets.items()
        if len(clips)
    }
    return Evaluation(
        top1=product.top1,
        top5=product.top5,
        loss=loss,
        per_head={} if joint is None else per_head,
        per_subset=per_subset,
        per_class=percent({name: [i] for i, name in enumerate(source.class_names)}),
        per_family=percent(source.families),
        classes=list(source.class_names),
        family_classes={name: [source.class_names[i] for i in members] for name, members in source.families.items()},
        confusion=confusion,
        labels=labels.cpu(),
        probabilities=torch.cat([of_head.exp() for of_head in log_p], 1).half().cpu(),
    )


def _confusion(labels: Tensor, predicted: Tensor) -> list[tuple[int, int, int]]:
    pairs, counts = torch.stack([labels, predicted], 1).cpu().unique(dim=0, return_counts=True)
    return [(int(label), int(guess), int(n)) for (label, guess), n in zip(pairs, counts, strict=True)]
