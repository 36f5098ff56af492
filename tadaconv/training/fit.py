"""Training: a plain loop in which every step follows from the schedule, the seed and the step's number."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tadaconv.data.source import Source
from tadaconv.errors import RunError
from tadaconv.result import CurvePoint, Progress, StageCalibration
from tadaconv.run_options import RunOptions
from tadaconv.spec import Schedule
from tadaconv.training import checkpoint as checkpoints
from tadaconv.training.computing import autocast, compiled
from tadaconv.training.micro_batches import MicroBatch, RunningStatistics, cut, num_micro_batches, random_numbers_of
from tadaconv.training.ranks import ALONE, Ranks
from tadaconv.training.task import Recognition, Task

CHECKPOINT_SECONDS = 30.0
"""A checkpoint is written at the end of an epoch, and when the last one is this old; but see ``TIMES_A_SAVE``."""

TIMES_A_SAVE = 100.0
"""The least time between checkpoints over the time to write one: writing takes at most a hundredth."""

REPORT_SECONDS = 1.0
"""The least time between reports within an epoch, each of which waits for the device."""


def learning_rate(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """The learning rate of step ``step``, counted from 0: linear warm-up, then half a cosine down to 0.

    The cosine begins at ``schedule.lr`` where the warm-up ends; or, with ``cosine="all_epochs"``, at step 0, and the
    warm-up leads to its value at the end of the warm-up.

    Args:
        schedule: the recipe.
        step: from 0.
        steps_per_epoch: steps of an epoch.
    """
    warmup, total = schedule.warmup_epochs * steps_per_epoch, schedule.epochs * steps_per_epoch
    from_start = schedule.cosine == "all_epochs"
    start = 0.0 if from_start else warmup

    def cosine(at: float) -> float:
        return schedule.lr * 0.5 * (1 + math.cos(math.pi * (at - start) / max(1.0, total - start)))

    if step >= warmup:
        return cosine(step)
    top = cosine(warmup) if from_start else schedule.lr
    return schedule.warmup_lr + (top - schedule.warmup_lr) * step / warmup


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; vectors (norms, biases) are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr)
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum, nesterov=schedule.momentum > 0)


def epoch_order(num_train: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch's clips, (num_train,), from (seed, epoch) alone.

    Args:
        num_train: training clips.
        seed: of the run.
        epoch: from 0.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(num_train, generator=generator)


@lru_cache(maxsize=2)  # of the epoch that is trained on and of that from which clips are read ahead
def _batches(num_train: int, seed: int, epoch: int, num_batches: int) -> tuple[Tensor, ...]:
    """The indices of an epoch's clips, batch by batch; even, see :func:`smallest_batch`."""
    return epoch_order(num_train, seed, epoch).tensor_split(num_batches)


def steps_per_epoch(num_train: int, batch_size: int) -> int:
    """The number of batches of at most ``batch_size`` clips in an epoch of ``num_train`` clips."""
    return math.ceil(num_train / batch_size)


def smallest_batch(num_train: int, batch_size: int, norm_batch: int = 0) -> int:
    """Clips of the smallest batch of an epoch, or, with ``norm_batch``, of its smallest micro-batch.

    Both are even, so the largest batch has at most one clip more, and so has the largest micro-batch of a batch.

    Args:
        num_train: training clips.
        batch_size: most clips of a batch.
        norm_batch: most clips of a micro-batch; 0 for all of the batch.
    """
    num_steps = steps_per_epoch(num_train, batch_size)
    sizes = num_train // num_steps, math.ceil(num_train / num_steps)
    return min(size // num_micro_batches(size, norm_batch) for size in sizes)


@dataclass
class State:
    """The progress of a run: what a checkpoint holds next to weights and optimizer."""

    step: int = 0
    loss_sum: float = 0.0
    num_clips: int = 0
    train_seconds: float = 0.0
    seconds: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)


class Fit:
    """One training run of ``model`` on ``source``.

    Args:
        model: changed in place; on ``device``.
        source: the clips.
        schedule: the recipe.
        seed: of the data order and augmentation.
        device: where the model is.
        identity: the cell key, which a checkpoint must have to be resumed.
        checkpoint: file of the state; None keeps none. Rank 0 writes it, and all ranks resume from it.
        options: its precision, and whether to compile; see :func:`tadaconv.training.computing.computing_as`.
        ranks: which of the processes that train the model together this is.
        task: what it is trained for; None for the classes of the source.

    Attributes:
        network: what clips go through: the model, or its compiled form.
    """

    def __init__(
        self,
        model: nn.Module,
        source: Source,
        schedule: Schedule,
        seed: int,
        device: torch.device,
        identity: str = "",
        checkpoint: Path | None = None,
        options: RunOptions | None = None,
        ranks: Ranks = ALONE,
        task: Task | None = None,
    ) -> None:
        self.model, self.source, self.schedule, self.seed, self.device = model, source, schedule, seed, device
        self.identity, self.checkpoint, self.ranks = identity, checkpoint, ranks
        self.options = options or RunOptions()
        self.network = compiled(model) if self.options.compile else model
        self.task = task or Recognition([len(head.class_names) for head in source.heads])
        self.optimizer = make_optimizer(model, schedule)
        self.steps_per_epoch = steps_per_epoch(source.num_train, schedule.batch_size)
        self.num_steps = self.steps_per_epoch * schedule.epochs
        self.state = State()
        self._losses: list[tuple[int, int, Tensor]] = []
        """Steps whose losses are on the device only: the step from 1, its clips and their mean loss, float64."""
        self._trained: list[nn.Parameter] | None = None

    def run(
        self,
        validate: Callable[[], float],
        report: Callable[[Progress], None] | None = None,
        inspect: Callable[[], dict[str, StageCalibration]] | None = None,
        report_seconds: float | None = None,
    ) -> State:
        """Train to the end, from the checkpoint if there is one.

        Args:
            validate: returns the validation top-1 in percent; called at the end of each epoch that the schedule names.
            report: called at the ends of epochs, and in between at most once in ``report_seconds``, by default
                ``REPORT_SECONDS``.
            inspect: returns the calibrations by stage; called after ``validate``.
            report_seconds: 0 reports every step, and waits for the device each time.

        Raises:
            RunError: the loss is not finite, or a checkpoint cannot be read or written.
        """
        if self.checkpoint is not None and self.checkpoint.exists():
            self._load(self.checkpoint)
        self._require_same_step()
        batch_size = self.schedule.batch_size
        self.source.expect_train(self._batches_to_come(), -(-batch_size // self.ranks.size), views=batch_size)
        saved, reported = time.perf_counter(), -math.inf  # the first step is reported, so that a run can stop there
        save_seconds, wait_to_report = 0.0, REPORT_SECONDS if report_seconds is None else report_seconds
        before: tuple[int, float] | None = None
        while self.state.step < self.num_steps:
            started = time.perf_counter()
            self._step()
            ends_epoch = self.state.step % self.steps_per_epoch == 0
            reports = report is not None and (ends_epoch or started - reported >= wait_to_report)
            wait = TIMES_A_SAVE * save_seconds
            least = wait if ends_epoch else max(wait, CHECKPOINT_SECONDS)
            saves = self.checkpoint is not None and self.ranks.is_first and started - saved >= least
            loss = self._read_losses() if ends_epoch or reports or saves else None
            self.state.train_seconds += time.perf_counter() - started
            if ends_epoch and self.schedule.evaluates_after(self.state.step // self.steps_per_epoch):
                self._add_point(validate(), inspect() if inspect is not None else {})
            self.state.seconds += time.perf_counter() - started
            if self.checkpoint is not None and saves:
                saved = time.perf_counter()
                self._save(self.checkpoint)
                save_seconds = time.perf_counter() - saved
            if report is not None and loss is not None and reports:
                state, reported = self.state, started
                now = self._num_clips_trained(), state.train_seconds
                report(
                    Progress(
                        step=state.step,
                        num_steps=self.num_steps,
                        train_loss=loss,
                        curve=state.curve,
                        learning_rate=learning_rate(self.schedule, state.step - 1, self.steps_per_epoch),
                        clips_per_second=None if before is None else (now[0] - before[0]) / (now[1] - before[1]),
                    )
                )
                before = now
        return self.state

    def _num_clips_trained(self) -> int:
        """Clips of all steps so far, those of every epoch."""
        return (self.state.step - 1) // self.steps_per_epoch * self.source.num_train + self.state.num_clips

    def _require_same_step(self) -> None:
        """Raise :class:`RunError`, on all ranks, unless all resume from the same step: a checkpoint may be replaced."""
        steps = torch.zeros(self.ranks.size, dtype=torch.int64, device=self.device)
        steps[self.ranks.rank] = self.state.step
        self.ranks.add_up([steps])
        if steps.ne(self.state.step).any():
            raise RunError(f"checkpoint {self.checkpoint} changed while it was read; another process writes it")

    def _read_losses(self) -> float:
        """Add the losses of further steps to the epoch's, which waits for the device; returns that of the last step."""
        values: list[float] = torch.stack([loss for *_, loss in self._losses]).tolist()
        for (step, num_clips, _), value in zip(self._losses, values, strict=True):
            if not math.isfinite(value):
                epoch = (step - 1) // self.steps_per_epoch + 1
                raise RunError(
                    f"the loss is {value} at step {step} of {self.num_steps} (epoch {epoch}); lower the learning rate "
                    "or clip the gradient norm (schedule.clip_norm)"
                )
            self.state.loss_sum += value * num_clips
        self._losses.clear()
        return values[-1]

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """The micro-batches of step ``step``, counted from 0, in order, of all ranks."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        indices = _batches(self.source.num_train, self.seed, epoch, self.steps_per_epoch)[batch]
        return cut(indices, epoch, self.schedule.norm_batch)

    def _batches_to_come(self) -> Iterator[tuple[Tensor, int, int]]:
        """The arguments of all further calls of the source's ``train_batch``."""
        for step in range(self.state.step, self.num_steps):
            for part in self.ranks.own(self.micro_batches(step)):
                yield part.indices, part.epoch, self.seed

    def _step(self) -> None:
        """One optimizer step. Its loss stays on the device, so that the step does not wait for it."""
        state, schedule = self.state, self.schedule
        if state.step % self.steps_per_epoch == 0:
            state.loss_sum, state.num_clips = 0.0, 0
        micro_batches = self.micro_batches(state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(schedule, state.step, self.steps_per_epoch)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._accumulate(micro_batches)
        if schedule.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), schedule.clip_norm)
        self.optimizer.step()
        num_clips = sum(len(part.indices) for part in micro_batches)
        state.step += 1
        state.num_clips += num_clips
        self._losses.append((state.step, num_clips, loss.double()))

    def _accumulate(self, micro_batches: Sequence[MicroBatch]) -> Tensor:
        """Add up the gradients of the mean loss over the clips of a batch, and update the running statistics.

        Returns that loss.
        """
        if micro_batches[0].of == 1 and self.ranks.size == 1:
            return self._add_gradients(micro_batches[0])
        statistics, losses = RunningStatistics(self.model, counts_steps=self.ranks.is_first), []
        for part in self.ranks.own(micro_batches):
            losses.append(self._add_gradients(part))
            statistics.add(part.share)
        loss = (
            torch.stack(losses).sum().double() if losses else torch.zeros((), dtype=torch.float64, device=self.device)
        )
        self.ranks.add_up([*self._gradients(), *statistics.changes, loss])
        statistics.finish()
        return loss

    def _gradients(self) -> list[Tensor]:
        """The gradients of the parameters that any rank has trained, zeros where this one had no micro-batch."""
        if self.ranks.size == 1:
            return []
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self._trained is None:  # with weight decay, no gradient is not the same as a zero
            has_gradient = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
            self.ranks.add_up([has_gradient])
            self._trained = [p for p, number in zip(parameters, has_gradient.tolist(), strict=True) if number]
        for parameter in self._trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if len(gradients) != len(self._trained):
            raise RunError(
                "the parameters that the network uses differ from step to step, so ranks cannot sum gradients; "
                "train it on one GPU"
            )
        return gradients

    def _add_gradients(self, part: MicroBatch) -> Tensor:
        """Add the gradients of a micro-batch's part of the loss, and return that part, without its graph."""
        inputs, targets = self.source.train_batch(part.indices, part.epoch, self.seed)
        with random_numbers_of(part, self.seed, self.state.step, self.device):
            with autocast(self.device, self.options.precision):
                loss = self.task.loss(self.network, inputs, targets)
            loss.backward(torch.full_like(loss, part.share))
        return loss.detach() * part.share

    def _add_point(self, score: float, calibration: dict[str, StageCalibration]) -> None:
        state = self.state
        point = CurvePoint(
            metric=self.task.metric,
            epoch=state.step // self.steps_per_epoch,
            step=state.step,
            train_loss=state.loss_sum / state.num_clips,
            score=score,
            calibration=calibration,
        )
        state.curve.append(point)

    def _save(self, path: Path) -> None:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.empty(0)
        state = self.state
        checkpoints.save(
            path,
            {
                "identity": self.identity,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state(),
                "cuda_rng": cuda,
                "state": {**vars(state), "curve": [point.model_dump() for point in state.curve]},
            },
        )

    def _load(self, path: Path) -> None:
        saved = checkpoints.load(path, self.device)
        if saved.get("identity") != self.identity:
            raise RunError(f"checkpoint {path} belongs to another cell; delete it to start over")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"].cpu())
        # A checkpoint of the CPU has no CUDA state, and training continues in another precision anyway.
        if self.device.type == "cuda" and saved["cuda_rng"].numel():
            torch.cuda.set_rng_state(saved["cuda_rng"].cpu(), self.device)
        state = saved["state"]
        self.state = State(**{**state, "curve": [CurvePoint(**point) for point in state["curve"]]})
