"""Measures a cell on a device: a few steps and evaluation batches of its network are timed on its clips."""

import gc
import math
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from tadaconv.data import Source
from tadaconv.data.memory import keep_freed_memory
from tadaconv.data.prefetch import num_cores
from tadaconv.environment import environment
from tadaconv.experiment import curve_source, fixed_threads, out_of_memory, prepare
from tadaconv.measure import Cost, peak_memory_bytes, reset_peak_memory
from tadaconv.preview.reading import BatchesThere, Machine, Rates, Reading, Spread, measure_rates, reading
from tadaconv.result import CurvePoint, Progress, Result, StageCalibration
from tadaconv.run_options import RunOptions
from tadaconv.spec import Data, Experiment, Record, TAda
from tadaconv.training import Fit, computing_as
from tadaconv.training import checkpoint as checkpoints
from tadaconv.training.fit import CHECKPOINT_SECONDS, TIMES_A_SAVE
from tadaconv.training.micro_batches import MicroBatch
from tadaconv.training.task import task_of

BUDGET_SECONDS = 2.0
"""How long the steps of one experiment are timed, after the first."""

MIN_STEPS = 3
MICRO_BATCHES_TIMED = 2
"""Micro-batches of a step that are timed, if it has as many; the second takes as much memory as any after it, since the
gradients of the first are there."""

NUM_EVAL_BATCHES = 3


class Probe(Record):
    """What was measured for one experiment; times in seconds."""

    num_steps_timed: int
    num_micro_batches: int = 1
    """Most parts of a step's batch, which go through the network one after the other. Of more than two, two are timed,
    and the time of the step is extrapolated by its clips."""
    num_eval_batches_timed: int
    num_steps: int
    """Optimizer steps of the whole cell."""
    num_epochs: int
    """Epochs of the cell; every one ends with a checkpoint."""
    num_evaluations: int
    """Evaluations while the cell trains, each at the end of an epoch."""
    step_seconds: Spread
    """Of a step with its clips; see ``reading``."""
    eval_seconds: Spread
    """Of one evaluation on all validation clips, from batches of it."""
    curve_eval_seconds: Spread | None = None
    """Of one while the cell trains, if that sees one view and the result several: by arithmetic, its part of the views.
    None if all are the same, of which the last is that of the result."""
    reading: Reading | None = None
    """How long steps and evaluations wait for clips; None if clips are made or kept in memory."""
    setup_seconds: float
    """Clips opened, network built, counted and, if asked for, compiled; and what the first step adds."""
    checkpoint_seconds: float
    checkpoint_bytes: int
    """Weights and optimizer state, as a file, while the cell runs."""
    weights_bytes: int
    """The trained weights, and the class probabilities of the validation clips, which are kept as files."""
    storage_bytes: int
    """The experiment and its result, as they are stored."""
    memory_bytes: int
    """CUDA: peak allocated. CPU: peak resident size of the process."""
    host_memory_bytes: int
    """Peak resident size of the process, decoded clips included."""

    @property
    def cell_seconds(self) -> Spread:
        """Wall time of the whole cell: setup, steps, evaluations, and a checkpoint after every epoch."""
        step, while_training = self.step_seconds, self.curve_eval_seconds or self.eval_seconds
        at_end = self.eval_seconds if self.curve_eval_seconds else Spread(low=0.0, median=0.0, high=0.0)
        return Spread(
            low=self._cell_seconds(step.low, while_training.low, at_end.low),
            median=self._cell_seconds(step.median, while_training.median, at_end.median),
            high=self._cell_seconds(step.high, while_training.high, at_end.high),
        )

    def _cell_seconds(self, step: float, while_training: float, at_end: float) -> float:
        run = self.setup_seconds + self.num_steps * step + self.num_evaluations * while_training + at_end
        checkpoints = (self.num_epochs + run // CHECKPOINT_SECONDS) * self.checkpoint_seconds
        return run + min(checkpoints, run / TIMES_A_SAVE + self.checkpoint_seconds)


MeasuredRates = dict[Data, Rates]
"""How fast clips were read, by what a cell wants of them."""


def probe(
    experiment: Experiment,
    device: torch.device,
    budget_seconds: float = BUDGET_SECONDS,
    options: RunOptions | None = None,
    cores: int | None = None,
    rates: MeasuredRates | None = None,
) -> Probe:
    """Measure ``experiment`` on ``device``, on the CPU with one thread, as cells are run; no result is kept.

    Args:
        experiment: with its clips resolved.
        device: where it is to run.
        budget_seconds: how long steps are timed after the first; at least three are, if the experiment has as many.
            And how long clips are read by themselves, where they are read.
        options: precision, compilation and fused kernels; and the GPUs of a cell, of which one is measured, and taken
            to have its part of the steps and evaluations. The rest is the caller's to see to. None for the defaults.
        cores: of the worker that is to run it; all that this process may use if None.
        rates: what was measured of others, to which this one adds; their clips are not read again.

    Raises:
        UserError: the experiment or the options name something that does not exist, or that does not fit together.
        RunError: it runs out of memory, or its loss is not finite from the start.
    """
    options = options or RunOptions()
    with _as_cells_run(experiment, device), computing_as(options, device):
        try:
            known = {} if rates is None else rates
            return _measure(experiment, device, budget_seconds, options, cores or num_cores(), known)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise out_of_memory(experiment, device) from error


@contextmanager
def _as_cells_run(experiment: Experiment, device: torch.device) -> Generator[None]:
    """One thread on the CPU, a new peak of memory, and the random state left as it was."""
    gc.collect()
    if device.type == "cpu":
        keep_freed_memory()
    _reset_peaks(device)
    with fixed_threads(device), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(experiment.seed)
        yield


def _reset_peaks(device: torch.device) -> None:
    reset_peak_memory(device)
    # Linux can reset the peak of the resident size. Elsewhere it stays that of the process's life: never too low.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class PartOfFit(Fit):
    """Training of which a step ends after :data:`MICRO_BATCHES_TIMED` micro-batches."""

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """The first of the step's micro-batches."""
        return super().micro_batches(step)[:MICRO_BATCHES_TIMED]

    def read_beforehand(self) -> None:
        """Read the first clips as a cell does, and train on these from then on: a batch, and the one ready after it."""
        self.source.expect_train(self._batches_to_come(), self.schedule.batch_size)
        first = [self.source.train_batch(*batch) for batch in islice(self._batches_to_come(), 2)]
        self.source.close()  # what it reads on would take cores from the steps
        self.source = BatchesThere(self.source, first)

    def train_on_every_shape(self) -> None:
        """Pass a micro-batch of every size forward and backward, and change no weight."""
        self.model.train()
        largest, smallest = (super(PartOfFit, self).micro_batches(step) for step in (0, self.steps_per_epoch - 1))
        for part in {len(part.indices): part for part in [*largest, *smallest]}.values():
            self._add_gradients(part)
        self.optimizer.zero_grad(set_to_none=True)


def set_up(experiment: Experiment, device: torch.device, options: RunOptions | None = None) -> tuple[PartOfFit, Cost]:
    """Do what a cell does before its first step. The first call in a process also imports and decodes for later ones.

    Raises :class:`UserError` as :func:`probe` does.

    Args:
        experiment: with its clips resolved.
        device: where it is to run.
        options: how it is to run; None for the defaults.
    """
    source, model, cost = prepare(experiment, device)
    task = task_of(experiment, model, source)
    fit = PartOfFit(model, source, experiment.schedule, experiment.seed, device, options=options, task=task)
    return fit, cost


def _measure(
    experiment: Experiment,
    device: torch.device,
    budget_seconds: float,
    options: RunOptions,
    cores: int,
    rates: MeasuredRates,
) -> Probe:
    started = time.perf_counter()
    fit, cost = set_up(experiment, device, options)
    source, schedule = fit.source, experiment.schedule
    try:
        if not source.is_in_memory:
            fit.read_beforehand()
        if options.compile:
            _compile(fit, [source, curve_source(experiment, source, device)])
        setup_seconds = time.perf_counter() - started
        first, *others = timed = _step_seconds(fit, budget_seconds)
        evaluations = _eval_seconds(fit, source)
        on_cpu = device.type == "cpu"
        at_once = min(options.gpus_per_cell, cores) if on_cpu else options.gpus_per_cell

        def shared(seconds: list[float], num_parts: int) -> Spread:
            """Of work in parts, of which each process takes as many as another, or one fewer."""
            return Spread.of([of_one * math.ceil(num_parts / at_once) / num_parts for of_one in seconds])

        num_batches = math.ceil(source.num_val / _clips_at_once(fit, source))

        step = shared(
            [seconds / _share(fit, step) for step, seconds in enumerate(timed)][1 if others else 0 :],
            schedule.num_micro_batches,
        )
        evaluation = shared(evaluations, num_batches)
        read = None
        if not source.is_in_memory:
            if experiment.data not in rates:
                rates[experiment.data] = measure_rates(source, schedule.batch_size, budget_seconds)
            machine = Machine(cores, at_once if on_cpu else 0)
            clips_a_step = source.num_train / fit.steps_per_epoch
            read = reading(source, rates[experiment.data], machine, (step, clips_a_step), evaluation)
            step, evaluation = read.step.seconds, read.evaluation.seconds
    finally:
        source.close()
    curve_share = 1 / source.num_views if experiment.curve_has_fewer_views else 1.0
    curve_share *= min(1.0, (schedule.curve_clips or source.num_val) / source.num_val)
    num_evaluations = sum(map(schedule.evaluates_after, range(1, schedule.epochs + 1)))
    checkpoint_seconds, checkpoint_bytes = _checkpoint(fit)
    weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in fit.model.state_dict().values())
    weights_bytes += 2 * source.num_val * len(source.class_names)  # in half precision
    temporal = experiment.temporal
    stages = temporal.placement.stages if isinstance(temporal, TAda) else ()
    spread = StageCalibration(distance=1 / 3, over_time=1 / 3, over_clips=1 / 3)
    point = CurvePoint(
        epoch=1, step=fit.num_steps, train_loss=1 / 3, score=100 / 3,
        calibration={f"res{stage}": spread for stage in stages},
    )  # fmt: skip
    typical = Result(
        score=100 / 3, top5=100 / 3, loss=1 / 3,
        per_class=dict.fromkeys(source.class_names, 100 / 3), per_family=dict.fromkeys(source.families, 100 / 3),
        classes=list(source.class_names),
        family_classes={name: [source.class_names[i] for i in members] for name, members in source.families.items()},
        # Of a network that has learnt something: most clips are on the diagonal.
        confusion=[(i, j, 1) for i in range(len(source.class_names)) for j in range(min(i + 1, 4))],
        num_val=source.num_val,
        curve=[point] * num_evaluations,
        params=cost.params, macs=cost.macs, cost=cost.model_dump(mode="json"),
        train_clips_per_second=100 / 3, eval_clips_per_second=100 / 3, peak_memory_bytes=2**32, seconds=100 / 3,
        environment=environment(device, options),
    )  # fmt: skip
    return Probe(
        num_steps_timed=max(1, len(others)),
        num_micro_batches=fit.micro_batches(0)[0].of,
        num_eval_batches_timed=len(evaluations),
        num_steps=fit.num_steps,
        num_epochs=schedule.epochs,
        num_evaluations=num_evaluations,
        step_seconds=step,
        eval_seconds=evaluation,
        curve_eval_seconds=evaluation.each(lambda seconds: seconds * curve_share) if curve_share < 1 else None,
        reading=read,
        setup_seconds=setup_seconds + max(0.0, first - median(others or [first])),
        checkpoint_seconds=checkpoint_seconds,
        checkpoint_bytes=checkpoint_bytes,
        weights_bytes=weights_bytes,
        storage_bytes=len(experiment.model_dump_json()) + len(typical.model_dump_json()),
        memory_bytes=peak_memory_bytes(device),
        host_memory_bytes=peak_memory_bytes(torch.device("cpu")),
    )


class _EnoughError(Exception):
    """Ends a probe's training."""


def _step_seconds(fit: Fit, budget_seconds: float) -> list[float]:
    """Seconds of each step; the first one warms up, and the others are timed for ``budget_seconds``."""
    passed = [0.0]
    warm: list[float] = []

    def report(_: Progress) -> None:
        passed.append(fit.state.train_seconds)
        warm.append(time.perf_counter())
        if len(warm) > MIN_STEPS and warm[-1] - warm[0] > budget_seconds:
            raise _EnoughError

    with suppress(_EnoughError):
        fit.run(lambda: 0.0, report, report_seconds=0.0)
    return [after - before for before, after in pairwise(passed)]


def _share(fit: Fit, step: int) -> float:
    """The fraction of a step's clips that are trained on."""
    return min(1.0, sum(part.share for part in fit.micro_batches(step)))


def _eval_seconds(fit: Fit, source: Source) -> list[float]:
    """Seconds of a whole evaluation, extrapolated from a few batches, after one that warms up.

    Where clips are read, only of computing.
    """
    num_clips = min(source.num_val, _clips_at_once(fit, source))
    first = torch.arange(num_clips)
    if not source.is_in_memory:
        source.expect_val([first])
        source = BatchesThere(source, val=source.val_batch(first))
    seconds = []
    for _ in range(1 + NUM_EVAL_BATCHES):
        started = time.perf_counter()
        _evaluate(fit, source, first)
        seconds.append((time.perf_counter() - started) * source.num_val / num_clips)
    return seconds[1:]


def _clips_at_once(fit: Fit, source: Source) -> int:
    """Validation clips that go through the network at once."""
    return max(1, source.eval_batch(fit.schedule.batch_size) // source.num_views)


def _evaluate(fit: Fit, source: Source, clips: torch.Tensor) -> None:
    fit.task.evaluate(fit.network, source, fit.schedule.batch_size, fit.device, fit.options.precision, clips=clips)


def _compile(fit: PartOfFit, sources: Sequence[Source]) -> None:
    """Compile the network for every shape that the cell has, in training and in evaluations."""
    fit.train_on_every_shape()
    for source in sources:
        at_once = _clips_at_once(fit, source)
        for num_clips in {min(at_once, source.num_val), source.num_val % at_once} - {0}:
            _evaluate(fit, source, torch.arange(num_clips))


def _checkpoint(fit: Fit) -> tuple[float, int]:
    """Seconds to write a checkpoint to the temporary folder, and its bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "probe.pt"
        started = time.perf_counter()
        checkpoints.save(path, {"model": fit.model.state_dict(), "optimizer": fit.optimizer.state_dict()})
        return time.perf_counter() - started, path.stat().st_size
