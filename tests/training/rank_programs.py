"""What ranks do in tests, and the same by one process."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny_clips import TinyClips, TinyNet
from torch import Tensor, nn

from tadaconv.data.source import Head, classes_of_heads
from tadaconv.errors import RunError, UserError
from tadaconv.result import Progress
from tadaconv.spec import Schedule
from tadaconv.training import Evaluation, Fit, evaluate, fit
from tadaconv.training.ranks import ALONE, Ranks

CPU = torch.device("cpu")
SGD = Schedule(epochs=3, batch_size=6, lr=0.1, warmup_epochs=0.5, clip_norm=0.5, norm_batch=2, weight_decay=0.1)
"""Two steps an epoch of eleven clips: of six clips in three micro-batches, and of five in three."""
SCHEDULES = [SGD, SGD.but(optimizer="adamw", lr=0.01, clip_norm=None), SGD.but(norm_batch=0)]


class DoubleClips(TinyClips):
    """The clips in float64."""

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        clips, labels = super().train_batch(indices, epoch, seed)
        return clips.double(), labels

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        clips, labels = super().val_batch(indices)
        return clips.double(), labels


class TwoHeads(DoubleClips):
    """Clips with two labels, whose classes are of two heads."""

    def __init__(self, num_val: int) -> None:
        super().__init__(num_val=num_val, num_views=2)
        self.heads = (Head("verb", ("a", "b", "c")), Head("noun", ("x", "y", "z")))
        self.class_names = classes_of_heads(self.heads)
        self.families: dict[str, tuple[int, ...]] = {}

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        clips, labels = super().val_batch(indices)
        return clips, torch.stack([labels % 3, (labels + indices) % 3], 1)


class Net(TinyNet):
    """With parameters that are frozen, and some that are never used, which get no gradient and must not decay."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.averaging = nn.BatchNorm3d(3, momentum=None)
        self.frozen = nn.Parameter(torch.ones(3, 1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.tanh(self.averaging(x * self.frozen)))


def net() -> Net:
    torch.manual_seed(0)
    return Net().double()


def state(trained: Fit) -> dict[str, Tensor]:
    """Everything that a step changes."""
    optimizer = trained.optimizer.state_dict()["state"]
    return {
        **trained.model.state_dict(),
        **{
            f"{number}.{name}": torch.as_tensor(of)
            for number, all_of in optimizer.items()
            for name, of in all_of.items()
        },
        "losses": torch.tensor([point.train_loss for point in trained.state.curve], dtype=torch.float64),
    }


def train(
    schedule: Schedule,
    ranks: Ranks = ALONE,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> dict[str, Tensor]:
    """The whole state after training."""
    fit.REPORT_SECONDS = fit.CHECKPOINT_SECONDS = fit.TIMES_A_SAVE = 0.0
    source = DoubleClips(num_train=11)
    trained = Fit(net(), source, schedule, 5, CPU, checkpoint=checkpoint, ranks=ranks)
    torch.manual_seed(7)
    trained.run(lambda: 0.0, report)
    return state(trained)


def train_all(
    arguments: tuple[list[Schedule], Path | None],
    *,
    device: torch.device,
    ranks: Ranks,
    report: Callable[[Progress], None],
) -> list[dict[str, Tensor]]:
    """Train by every schedule; every rank comes to the same bit for bit."""
    assert device == CPU
    schedules, checkpoint = arguments
    states = [train(schedule, ranks, checkpoint, report if ranks.is_first else None) for schedule in schedules]
    for reached in states:
        first = {name: value.clone() if ranks.is_first else torch.zeros_like(value) for name, value in reached.items()}
        ranks.add_up(first.values())
        for name, value in reached.items():
            assert torch.equal(first[name], value), f"{name} of rank {ranks.rank}"
    return states


def train_on_from_own(checkpoints: list[Path], *, ranks: Ranks, **_: object) -> dict[str, Tensor]:
    """Every rank finds another checkpoint."""
    return train(SGD, ranks, checkpoints[ranks.rank])


def evaluations(ranks: Ranks = ALONE) -> list[Evaluation]:
    """Of seven clips, in batches of one, of some and of all."""
    network = net()
    sources: list[TinyClips] = [DoubleClips(num_val=7, num_views=2), TwoHeads(num_val=7)]
    return [evaluate(network, source, batch_size, CPU, ranks) for source in sources for batch_size in (1, 4, 100)]


def evaluate_all(_: None, *, ranks: Ranks, **__: object) -> list[Evaluation]:
    return evaluations(ranks)


def sums(_: None, *, ranks: Ranks, **__: object) -> list[Tensor]:
    """Of tensors of several types, shapes and strides."""
    tensors = [
        torch.full((2, 3), float(1 + ranks.rank)),
        torch.arange(6.0).view(2, 3).t() * ranks.rank,
        torch.tensor(2 - ranks.rank),
        torch.full((), 0.5, dtype=torch.float64),
        torch.arange(16.0).view(1, 2, 2, 4).to(memory_format=torch.channels_last) * 10**ranks.rank,
    ]
    ranks.add_up(tensors)
    return tensors


def fail(how: str, *, ranks: Ranks, **_: object) -> Any:
    """Rank 1 fails while rank 0 waits for it."""

    class UnknownElsewhereError(Exception):
        pass

    logging.getLogger("tadaconv").warning("rank %d is here", ranks.rank)
    if ranks.rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            os._exit(3)
        if how == "told to stop":  # as all processes of a job are; whoever started them is to end them
            os.kill(os.getpid(), signal.SIGTERM)
            ranks.add_up([torch.zeros(1)])
            return "not the first"
        raise {
            "user": UserError("give another\nvalue"),
            "run": RunError("no more memory"),
            "other": UnknownElsewhereError("odd"),
        }[how]
    ranks.add_up([torch.zeros(1)])
    return "done"
