"""Runs one experiment: build, count, fit, evaluate. Knows nothing of tables, studies or Optuna."""

import logging
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tadaconv.data import Source, open_source
from tadaconv.data.memory import keep_freed_memory
from tadaconv.data.prefetch import num_cores, set_num_readers
from tadaconv.environment import devices_of_cell, environment, resolve_device
from tadaconv.errors import RunError
from tadaconv.measure import Cost, by_stage, calibrations, count, inspected_clips, peak_memory_bytes, reset_peak_memory
from tadaconv.models import Host
from tadaconv.models.localizing import build_model
from tadaconv.nn.frames import channels_last
from tadaconv.result import Progress, Result, StageCalibration
from tadaconv.run_options import RunOptions, require_division
from tadaconv.scores import HasClipNames, Scores, as_npz, clips_fingerprint
from tadaconv.spec import Experiment
from tadaconv.training import Evaluation, Fit, autocast, computing_as
from tadaconv.training.checkpoint import save_weights, write_whole
from tadaconv.training.localization import LocalizationEvaluation
from tadaconv.training.rank_processes import run_on_ranks
from tadaconv.training.ranks import ALONE, Ranks
from tadaconv.training.task import task_of
from tadaconv.weights import scores_beside, weights_beside

__all__ = ["Progress", "Result", "build_model", "curve_source", "out_of_memory", "run"]

CellToRun = tuple[Experiment, Path | None, RunOptions]
"""An experiment, its checkpoint, and how it is run; see :func:`run`."""


def make_deterministic() -> None:
    """Give the same numbers bit for bit on CUDA, from here on in this process; slower, and some operations refuse.

    Call it before the first operation on a GPU: cuBLAS reads its setting then.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


@contextmanager
def fixed_threads(device: torch.device, beside_gpu: int | None = None) -> Generator[None]:
    """One thread for what trains on the CPU: the order of a sum, and so its rounding, depends on their number.

    A cell gives the same numbers alone and next to others, whatever the number of cores; more cells at a time use them.
    ``beside_gpu`` is the number of threads for a GPU; None leaves it.
    """
    before = torch.get_num_threads()
    threads = 1 if device.type == "cpu" else beside_gpu
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def out_of_memory(experiment: Experiment, place: torch.device) -> RunError:
    """The error of an experiment that takes more memory than ``place`` has: what takes it, and what would take less."""
    batch_size, norm_batch = experiment.schedule.batch_size, experiment.schedule.norm_batch
    in_parts = f" in micro-batches of {norm_batch}" if 0 < norm_batch < batch_size else ""
    return RunError(
        f"out of memory on {place} with batches of {batch_size} clips{in_parts}; lower schedule.batch_size or the clip "
        f"size, or {'lower' if norm_batch else 'set'} schedule.norm_batch, which trains on fewer clips at a time"
    )


def curve_source(experiment: Experiment, source: Source, device: torch.device) -> Source:
    """The clips that evaluations while training see: those of ``source``, or one view of them, in the middle.

    Args:
        experiment: what is run.
        source: the clips of its result.
        device: where clips are made ready.
    """
    if not experiment.curve_has_fewer_views:
        return source
    return open_source(experiment.data.but(num_temporal_views=1, num_spatial_crops=1), device, sharing_with=source)


def run(
    experiment: Experiment,
    device: str = "auto",
    report: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    options: RunOptions | None = None,
) -> Result:
    """Train and evaluate ``experiment``; on the CPU the same experiment gives the same numbers, bit for bit.

    On the CPU it uses one thread, since numbers depend on how many there are.

    Args:
        experiment: what to run.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        report: called at the ends of epochs, and once a second at most in between.
        checkpoint: file that keeps the state; a run resumes from one, to the numbers of an uninterrupted run.
            The trained weights are stored next to it, with the suffix ``.weights``, and the class probabilities of the
            validation clips, with ``.scores.npz``; see :mod:`tadaconv.scores`.
        options: how to run it. None is eager, on one GPU, with this process's threads and readers.

    Raises:
        UserError: the experiment or the options name something that does not exist.
        RunError: the loss is not finite, memory is out, or the checkpoint cannot be written.
    """
    place = resolve_device(device)
    if options is None:
        with fixed_threads(place), computing_as(RunOptions(), place):
            return _run((experiment, checkpoint, RunOptions()), place, ALONE, report)
    require_division(experiment.schedule, options.gpus_per_cell)
    if options.gpus_per_cell == 1:
        return run_part((experiment, checkpoint, options), device=place, ranks=ALONE, report=report)
    devices = devices_of_cell(device, options.gpus_per_cell)
    result: Result = run_on_ranks(f"{__name__}:run_part", (experiment, checkpoint, options), devices, report)
    return result


def run_part(
    cell: CellToRun,
    *,
    device: torch.device,
    ranks: Ranks,
    report: Callable[[Progress], None] | None,
) -> Result:
    """Carry out the part of one rank in the run of a cell.

    Args:
        cell: the experiment, its checkpoint and how it is run; see :func:`run`.
        device: of this rank.
        ranks: all ranks of the cell, and which of them this is.
        report: as :func:`run` takes it; called by the first rank alone.
    """
    experiment, checkpoint, options = cell
    readers = num_cores() if options.readers is None else options.readers
    set_num_readers(-(-readers // ranks.size))
    if options.deterministic and device.type == "cuda":
        make_deterministic()
    if device.type == "cpu":
        keep_freed_memory()
    options = options.but(threads=max(1, options.threads // ranks.size))
    with fixed_threads(device, options.threads), computing_as(options, device):
        return _run((experiment, checkpoint, options), device, ranks, report if ranks.is_first else None)


def prepare(experiment: Experiment, device: torch.device) -> tuple[Source, Host, Cost]:
    """The clips of an experiment, its network on ``device``, and what that costs a clip."""
    source = open_source(experiment.data, device)
    reset_peak_memory(device)
    model = build_model(experiment, [len(head.class_names) for head in source.heads])
    cost = count(model, experiment.data.shapes[-1])
    return source, channels_last(model.to(device)), cost


def _run(cell: CellToRun, device: torch.device, ranks: Ranks, report: Callable[[Progress], None] | None) -> Result:
    experiment, _, _ = cell
    source, model, cost = prepare(experiment, device)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(experiment.seed)
            return _train(cell, model, source, cost, device, ranks, report)
    except torch.OutOfMemoryError as error:
        raise out_of_memory(experiment, device) from error
    finally:
        source.close()


def _leave_files(
    checkpoint: Path,
    experiment: Experiment,
    model: Host,
    source: Source,
    evaluation: Evaluation | LocalizationEvaluation,
) -> None:
    """Write the trained weights, and, of recognition, the class probabilities of the validation clips.

    Hours of training are not lost because a disk has no room for them.
    """
    writes: dict[str, Callable[[], None]] = {
        "weights": lambda: save_weights(weights_beside(checkpoint), experiment.key, model)
    }
    if isinstance(evaluation, Evaluation):
        scores = _scores(experiment, source, evaluation)
        writes["class probabilities"] = lambda: write_whole(scores_beside(checkpoint), as_npz(scores))
    for what, write in writes.items():
        try:
            write()
        except RunError as error:
            logging.getLogger("tadaconv").warning("the result is kept, but its %s are not: %s", what, error)


def _scores(experiment: Experiment, source: Source, evaluation: Evaluation) -> Scores:
    return Scores(
        cell=experiment.key,
        fingerprint=clips_fingerprint(experiment),
        clips=np.array(source.val_names if isinstance(source, HasClipNames) else [], dtype=np.str_),
        classes=np.array(source.class_names, dtype=np.str_),
        heads={head.name: len(head.class_names) for head in source.heads},
        labels=evaluation.labels.numpy(),
        probabilities=evaluation.probabilities.numpy(),
    )


def _train(
    cell: CellToRun,
    model: Host,
    source: Source,
    cost: Cost,
    device: torch.device,
    ranks: Ranks,
    report: Callable[[Progress], None] | None,
) -> Result:
    experiment, checkpoint, options = cell
    schedule = experiment.schedule
    watched = curve_source(experiment, source, device)
    # Drawn at random, since clips of a folder are in the order of their classes.
    of_curve = inspected_clips(source.num_val, schedule.curve_clips).sort().values if schedule.curve_clips else None
    eval_seconds = 0.0
    last = None

    def measure(source: Source, clips: torch.Tensor | None = None) -> float:
        nonlocal eval_seconds, last
        started = time.perf_counter()
        last = task.evaluate(fit.network, source, schedule.batch_size, device, options.precision, ranks, clips)
        eval_seconds = time.perf_counter() - started
        return last.score

    def inspect() -> dict[str, StageCalibration]:
        if next(iter(model.sites()), None) is None:  # features have no backbone
            return {}
        clips, _ = watched.val_batch(inspected_clips(source.num_val))
        with autocast(device, options.precision):
            return by_stage(calibrations(model, clips[:, 0]))

    task = task_of(experiment, model, source)
    fit = Fit(model, source, schedule, experiment.seed, device, experiment.key, checkpoint, options, ranks, task)
    state = fit.run(lambda: measure(watched, of_curve), report, inspect if ranks.is_first else None)
    # resumed from a checkpoint that was written after the last step, or of fewer views or clips
    if last is None or watched is not source or of_curve is not None:
        measure(source)
        state.seconds += eval_seconds
    assert last is not None
    if checkpoint is not None and ranks.is_first:
        _leave_files(checkpoint, experiment, model, source, last)
    return Result(
        **last.result_fields(),
        curve=state.curve,
        params=cost.params,
        macs=cost.macs,
        cost=cost.model_dump(mode="json"),
        train_clips_per_second=schedule.epochs * source.num_train / state.train_seconds,
        eval_clips_per_second=source.num_val / eval_seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        seconds=state.seconds,
        environment={**environment(device, options), **({"clips": source.form} if source.form else {})},
    )
