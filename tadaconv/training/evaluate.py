"""Evaluation: accuracies over the validation clips, all views of a clip averaged."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tadaconv.data.source import Source
from tadaconv.errors import RunError
from tadaconv.training.fit import autocast


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent, the loss in nats; ``confusion`` as in :class:`tadaconv.result.Result`."""

    top1: float
    top5: float
    loss: float
    per_class: dict[str, float]
    per_family: dict[str, float]
    classes: list[str]
    family_classes: dict[str, list[str]]
    confusion: list[tuple[int, int, int]]


def view_log_probabilities(model: nn.Module, clips: Tensor) -> Tensor:
    """Log of the class probabilities averaged over views: (B, V, C, T, H, W) to (B, num_classes), float32."""
    batch, views = clips.shape[:2]
    scores = model(clips.flatten(0, 1)).float().log_softmax(1)
    averaged: Tensor = scores.view(batch, views, -1).logsumexp(1) - math.log(views)
    return averaged


@torch.no_grad()
def evaluate(model: nn.Module, source: Source, batch_size: int, device: torch.device) -> Evaluation:
    """Accuracy of ``model`` on the validation clips of ``source``, ``batch_size`` views at a time.

    Top-5 counts the five likeliest classes, or all where there are fewer. Classes and families without a validation
    clip are left out of ``per_class`` and ``per_family``. Raises :class:`RunError` if the loss is not finite.
    """
    was_training = model.training
    model.eval()
    log_probabilities, labels = [], []
    clips_a_batch = max(1, batch_size // source.num_views)
    for indices in torch.arange(source.num_val).split(clips_a_batch):
        clips, batch_labels = source.val_batch(indices)
        with autocast(device):
            log_probabilities.append(view_log_probabilities(model, clips))
        labels.append(batch_labels)
    model.train(was_training)
    result = _summarise(torch.cat(log_probabilities), torch.cat(labels), source)
    if not math.isfinite(result.loss):
        raise RunError(
            f"the validation loss is {result.loss}; lower the learning rate or clip the gradient norm "
            "(schedule.clip_norm)"
        )
    return result


def _summarise(log_p: Tensor, labels: Tensor, source: Source) -> Evaluation:
    best = log_p.topk(min(5, log_p.shape[1]), 1).indices
    hits = best == labels.unsqueeze(1)
    correct = hits[:, 0].double()

    def percent(members: Tensor) -> float | None:
        return 100 * float(correct[members].mean()) if members.any() else None

    by_class = {name: percent(labels == i) for i, name in enumerate(source.class_names)}
    by_family = {
        name: percent(torch.isin(labels, torch.tensor(classes, device=labels.device)))
        for name, classes in source.families.items()
    }
    return Evaluation(
        top1=100 * float(correct.mean()),
        top5=100 * float(hits.any(1).double().mean()),
        loss=float(-log_p.gather(1, labels.unsqueeze(1)).double().mean()),
        per_class={name: value for name, value in by_class.items() if value is not None},
        per_family={name: value for name, value in by_family.items() if value is not None},
        classes=list(source.class_names),
        family_classes={name: [source.class_names[i] for i in each] for name, each in source.families.items()},
        confusion=_confusion(labels, best[:, 0]),
    )


def _confusion(labels: Tensor, predicted: Tensor) -> list[tuple[int, int, int]]:
    pairs, counts = torch.stack([labels, predicted], 1).cpu().unique(dim=0, return_counts=True)
    return [(int(label), int(guess), int(n)) for (label, guess), n in zip(pairs, counts, strict=True)]
