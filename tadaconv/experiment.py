"""Runs one experiment: build, count, fit, evaluate. Knows nothing of tables, studies or Optuna."""

import hashlib
import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import tadaconv
from tadaconv.data import Source, num_training_clips, open_source, require_usable_clips
from tadaconv.data.memory import keep_freed_memory
from tadaconv.data.prefetch import num_cores, set_num_readers
from tadaconv.discovery import KINDS
from tadaconv.errors import RunError, UserError
from tadaconv.measure import by_stage, calibrations, count, inspected_clips, peak_memory_bytes, reset_peak_memory
from tadaconv.models import Host, build, takes_clips
from tadaconv.models.pretrained import load_checked, read_weights
from tadaconv.nn.frames import channels_last
from tadaconv.result import Progress, Result, StageCalibration
from tadaconv.run_options import RunOptions, require_division
from tadaconv.scores import HasClipNames, Scores, as_npz, clips_fingerprint
from tadaconv.spec import Backbone, Experiment, Folder, Schedule, Temporal
from tadaconv.training import Evaluation, Fit, autocast, computing_as, evaluate, smallest_batch
from tadaconv.training.checkpoint import save_weights, write_whole
from tadaconv.training.rank_processes import run_on_ranks
from tadaconv.training.ranks import ALONE, Ranks
from tadaconv.weights import scores_beside, weights_beside

__all__ = [
    "Progress",
    "Result",
    "build_model",
    "curve_source",
    "environment",
    "out_of_memory",
    "rehearse",
    "require_batches",
    "require_fit",
    "resolve_device",
    "run",
]


def resolve_device(name: str) -> torch.device:
    """The device behind ``auto`` (CUDA if there is one), ``cpu``, ``cuda`` or ``cuda:N``; raises :class:`UserError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; one of: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("this machine has no usable CUDA device; use --device cpu or --device auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"there is no device {name!r}; this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


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

    A cell gives the same numbers alone and beside others, whatever the number of cores; more cells at a time use them.
    ``beside_gpu`` is the number of threads where the device is none; None leaves it.
    """
    before = torch.get_num_threads()
    threads = 1 if device.type == "cpu" else beside_gpu
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def build_model(experiment: Experiment, num_classes: int) -> Host:
    """The network of ``experiment``, its weights drawn from the experiment's seed.

    The backbone is drawn before the plug-in, so rows of one seed share the backbone's weights. The global random
    state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        return build(experiment.backbone, experiment.temporal, num_classes, experiment.data.num_frames)


@lru_cache(maxsize=1)
def _shapes_of_weights(weights: str, fingerprint: str) -> dict[str, Tensor]:
    """The shapes of pretrained weights, whose values are read, checked and let go; the rows of a table share them."""
    state = read_weights(Backbone(name="", weights=weights, weights_fingerprint=fingerprint))
    return {name: torch.empty_like(value, device="meta") for name, value in state.items()}


def rehearse(experiment: Experiment) -> None:
    """Build the network of ``experiment`` and pass the shape of a clip through it, without memory or arithmetic.

    What cannot run is found out in a moment, before anything is queued for it. Pretrained weights are read, once for
    experiments one after the other that share them. Raises :class:`UserError` for names, options, placements, weights
    and clips that do not fit together, and for batches that :func:`require_batches` refuses.
    """
    backbone, data = experiment.backbone, experiment.data
    if backbone.weights:
        shapes = _shapes_of_weights(backbone.weights, backbone.weights_fingerprint)
        with torch.device("meta"):
            load_checked(build(backbone.but(weights="", weights_fingerprint=""), None, 2), shapes)
    for size in sorted({data.size, data.eval_side}):
        require_fit(backbone, experiment.temporal, (3, data.num_frames, size, size))
    require_usable_clips(data)
    require_batches(experiment)


def require_fit(backbone: Backbone, temporal: Temporal, clip_CTHW: tuple[int, int, int, int]) -> None:
    """Raise :class:`UserError` unless ``backbone`` with ``temporal`` plugged in can be built and takes such clips.

    Its weights count for nothing, and neither memory nor arithmetic is spent: the shape alone is passed through it.
    """
    with torch.device("meta"), torch.no_grad():
        network = build(backbone.but(weights="", weights_fingerprint=""), temporal, 2, clip_CTHW[1]).eval()
        with takes_clips(backbone.name, clip_CTHW):
            network(torch.empty(1, *clip_CTHW))


def require_batches(experiment: Experiment) -> None:
    """Raise :class:`UserError` if an epoch has a batch of one clip and the network cannot be trained on one.

    Or a micro-batch, where ``norm_batch`` cuts batches. A batch norm behind a pooling over frames and space has one
    value per channel there, and no variance. All rows of a table see the same batches, so none is given others; a row
    that takes one clip a batch is left as it is.
    """
    backbone, data, schedule = experiment.backbone, experiment.data, experiment.schedule
    at_once = schedule.norm_batch or schedule.batch_size
    if at_once > 2 and isinstance(data, Folder):
        return  # two classes are two clips at least, and no batch of them has one
    num_train = num_training_clips(data)
    if at_once > 1 and (num_train is None or smallest_batch(num_train, schedule.batch_size, schedule.norm_batch) > 1):
        return
    with torch.device("meta"), torch.no_grad():
        bare = backbone.but(weights="", weights_fingerprint="")
        network = build(bare, experiment.temporal, 2, data.num_frames).train()
        try:
            network(torch.empty(1, 3, data.num_frames, data.size, data.size))
        except ValueError as error:
            clips = "" if num_train is None else f" of {num_train} training clip{'s' * (num_train > 1)}"
            part, mend = _one_clip(schedule, num_train)
            raise UserError(
                f"an epoch{clips}, cut into batches of at most {schedule.batch_size}{part} of one clip, on which a "
                f"batch norm of this network cannot be trained ({str(error).splitlines()[0]}); {mend}"
            ) from error


def _one_clip(schedule: Schedule, num_train: int | None) -> tuple[str, str]:
    """What of an epoch's batches has one clip, to go on from ``cut into batches of at most``, and how it is mended."""
    batch_size, norm_batch = schedule.batch_size, schedule.norm_batch
    if norm_batch and batch_size > 1 and (num_train is None or smallest_batch(num_train, batch_size) > 1):
        sizes = [size for size in (2, 3) if num_train and smallest_batch(num_train, batch_size, size) > 1] or [3]
        return (
            f" and these into micro-batches of at most {norm_batch}, has a micro-batch",
            f"set the regime's schedule.norm_batch to {min(sizes[0], batch_size)} or more, or to 0",
        )
    sizes = [size for size in (2, 3) if num_train and smallest_batch(num_train, size) > 1] or [3]
    return (
        ", has a batch",
        "give more clips" if num_train == 1 else f"set the regime's schedule.batch_size to {sizes[0]} or more",
    )


def out_of_memory(experiment: Experiment, place: torch.device) -> RunError:
    """The error of an experiment that takes more memory than ``place`` has: what takes it, and what would take less."""
    batch_size, norm_batch = experiment.schedule.batch_size, experiment.schedule.norm_batch
    in_parts = f" in micro-batches of {norm_batch}" if 0 < norm_batch < batch_size else ""
    return RunError(
        f"out of memory on {place} with batches of {batch_size} clips{in_parts}; lower schedule.batch_size or the clip "
        f"size, or {'lower' if norm_batch else 'set'} schedule.norm_batch, which trains on fewer clips at a time"
    )


@lru_cache(maxsize=1)
def source_digest() -> str:
    """12 hex digits over the package's own code: tells two states of one version apart."""
    return digest_of(Path(tadaconv.__file__).parent)


def digest_of(package: Path) -> str:
    """12 hex digits over the code of a package in the folder ``package``, the same for a wheel and a clone of a commit.

    Tables, studies, reports and regimes are content: a wheel holds some of them inside the package and a clone beside
    it, and what of them a number depends on stands in its cell. Ends of lines are as the checkout has them.
    """
    files = {file.relative_to(package).as_posix(): file for file in package.rglob("*.py") if file.is_file()}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        if name.partition("/")[0] not in KINDS.values():
            code = file.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{name}\0{len(code)}\0".encode() + code)
    return digest.hexdigest()[:12]


@lru_cache(maxsize=1)
def source_commit() -> dict[str, str]:
    """The commit that the package's code is of, and whether it has changed since; empty where there is no telling.

    From the checkout that holds the package, or from what pip wrote down when it installed from one.
    """
    package = Path(tadaconv.__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):  # in somebody else's checkout, as an environment within one
            raise ValueError("not tracked")
        commit = git("rev-parse", "--short=12", "HEAD")
        return {"commit": commit, **({"dirty": "yes"} if git("status", "--porcelain", "--", ".") else {})}
    except (OSError, ValueError, subprocess.SubprocessError):
        with suppress(PackageNotFoundError, ValueError, KeyError, TypeError):
            installed = json.loads(distribution("tadaconv").read_text("direct_url.json") or "{}")
            return {"commit": str(installed["vcs_info"]["commit_id"])[:12]}
    return {}


def _driver() -> str:
    """The version of NVIDIA's driver; empty where the system does not tell."""
    with suppress(OSError):
        words = Path("/proc/driver/nvidia/version").read_text().split()
        return next((word for word in words if word.count(".") >= 1 and word.replace(".", "").isdigit()), "")
    return ""


def environment(device: torch.device, options: RunOptions | None = None) -> dict[str, str]:
    """What the numbers of a run depend on beside the experiment; without options nothing of how it computes."""
    cuda, threads = device.type == "cuda", torch.get_num_threads()
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU ({threads} thread{'s' * (threads > 1)})",
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda) if cuda else "",
        **({"driver": _driver()} if cuda else {}),
        **({"deterministic": "yes"} if cuda and torch.are_deterministic_algorithms_enabled() else {}),
        **({} if options is None else options.entries(cuda)),
        "tadaconv": f"{tadaconv.__version__}+{source_digest()}",
        **source_commit(),
    }


def curve_source(experiment: Experiment, source: Source, device: torch.device) -> Source:
    """The clips that evaluations while training see: those of ``source``, or one view of them, in the middle."""
    if not experiment.curve_has_fewer_views:
        return source
    return open_source(experiment.data.but(num_temporal_views=1, num_spatial_crops=1), device, beside=source)


def _clip_shape(source: Source) -> tuple[int, int, int, int]:
    clips, _ = source.val_batch(torch.zeros(1, dtype=torch.int64))
    channels, frames, height, width = clips.shape[2:]
    return channels, frames, height, width


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
        checkpoint: file that keeps the state; a run that finds one goes on from it to the numbers it would have had.
            The trained weights are left beside it, with the suffix ``.weights``, and the class probabilities of the
            validation clips, with ``.scores.npz``; see :mod:`tadaconv.scores`.
        options: how to run it. None is eager, on one GPU, with this process's threads and readers.

    Raises:
        UserError: the experiment names something that is not there, or the options ask for it.
        RunError: the loss is not finite, memory is out, or the checkpoint cannot be written.
    """
    place = resolve_device(device)
    if options is None:
        with fixed_threads(place), computing_as(RunOptions(), place):
            return _run(experiment, place, report, checkpoint, RunOptions(), ALONE)
    require_division(experiment.schedule, options.gpus_per_cell)
    if options.gpus_per_cell == 1:
        return run_part((experiment, checkpoint, options), device=place, ranks=ALONE, report=report)
    devices = devices_of_cell(device, options.gpus_per_cell)
    result: Result = run_on_ranks(f"{__name__}:run_part", (experiment, checkpoint, options), devices, report)
    return result


def devices_of_cell(device: str, gpus_per_cell: int) -> list[str]:
    """The devices of the ranks of a cell: GPUs from ``device`` on, or the CPU as often as there are ranks.

    Raises :class:`UserError` if there are too few.
    """
    place = resolve_device(device)
    if place.type == "cpu":
        return ["cpu"] * gpus_per_cell
    first, number = place.index or 0, torch.cuda.device_count()
    if first + gpus_per_cell > number:
        beside = f" from cuda:{first} on" if first else ""
        raise UserError(
            f"--gpus-per-cell {gpus_per_cell} wants more GPUs than there are: this machine has {number - first}{beside}"
        )
    return [f"cuda:{index}" for index in range(first, first + gpus_per_cell)]


def run_part(
    cell: tuple[Experiment, Path | None, RunOptions],
    *,
    device: torch.device,
    ranks: Ranks,
    report: Callable[[Progress], None] | None,
) -> Result:
    """Carry out the part of one rank in the run of a cell: an experiment, its checkpoint and how it is run."""
    experiment, checkpoint, options = cell
    readers = num_cores() if options.readers is None else options.readers
    set_num_readers(-(-readers // ranks.size))
    if options.deterministic and device.type == "cuda":
        make_deterministic()
    if device.type == "cpu":
        keep_freed_memory()
    options = options.but(threads=max(1, options.threads // ranks.size))
    with fixed_threads(device, options.threads), computing_as(options, device):
        return _run(experiment, device, report if ranks.is_first else None, checkpoint, options, ranks)


def _run(
    experiment: Experiment,
    place: torch.device,
    report: Callable[[Progress], None] | None,
    checkpoint: Path | None,
    options: RunOptions,
    ranks: Ranks,
) -> Result:
    source = open_source(experiment.data, place)
    reset_peak_memory(place)
    model = build_model(experiment, len(source.class_names))
    cost = count(model, _clip_shape(source))
    model = channels_last(model.to(place))
    try:
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            torch.manual_seed(experiment.seed)
            counted = cost.model_dump(mode="json")
            return _train(
                experiment, model, source, place, report, checkpoint, options, ranks, cost.params, cost.macs, counted
            )  # fmt: skip
    except torch.OutOfMemoryError as error:
        raise out_of_memory(experiment, place) from error
    finally:
        source.close()


def _leave_weights(path: Path, experiment: Experiment, model: Host) -> None:
    """Write the trained weights; hours of training are not lost because a disk has no room for them."""
    try:
        save_weights(path, experiment.key, model)
    except RunError as error:
        logging.getLogger("tadaconv").warning("the result is kept, but its weights are not: %s", error)


def _leave_scores(path: Path, experiment: Experiment, source: Source, found: Evaluation) -> None:
    """Write the class probabilities of the validation clips; a full disk loses nothing else."""
    scores = Scores(
        cell=experiment.key,
        fingerprint=clips_fingerprint(experiment),
        clips=np.array(source.val_names if isinstance(source, HasClipNames) else [], dtype=np.str_),
        classes=np.array(source.class_names, dtype=np.str_),
        heads={head.name: len(head.class_names) for head in source.heads},
        labels=found.labels.numpy(),
        probabilities=found.probabilities.numpy(),
    )
    try:
        write_whole(path, as_npz(scores))
    except RunError as error:
        logging.getLogger("tadaconv").warning("the result is kept, but its class probabilities are not: %s", error)


def _train(
    experiment: Experiment,
    model: Host,
    source: Source,
    device: torch.device,
    report: Callable[[Progress], None] | None,
    checkpoint: Path | None,
    options: RunOptions,
    ranks: Ranks,
    params: int,
    macs: int,
    cost: dict[str, object],
) -> Result:
    schedule = experiment.schedule
    watched = curve_source(experiment, source, device)
    eval_seconds = 0.0
    last = None

    def measure(clips: Source) -> float:
        nonlocal eval_seconds, last
        started = time.perf_counter()
        last = evaluate(fit.network, clips, schedule.batch_size, device, options.precision, ranks)
        eval_seconds = time.perf_counter() - started
        return last.top1

    def inspect() -> dict[str, StageCalibration]:
        clips, _ = watched.val_batch(inspected_clips(source.num_val))
        with autocast(device, options.precision):
            return by_stage(calibrations(model, clips[:, 0]))

    fit = Fit(model, source, schedule, experiment.seed, device, experiment.key, checkpoint, options, ranks)
    state = fit.run(lambda: measure(watched), report, inspect if ranks.is_first else None)
    if last is None or watched is not source:  # resumed from a checkpoint written after the last step, or of one view
        measure(source)
        state.seconds += eval_seconds
    assert last is not None
    if checkpoint is not None and ranks.is_first:
        _leave_weights(weights_beside(checkpoint), experiment, model)
        _leave_scores(scores_beside(checkpoint), experiment, source, last)
    return Result(
        score=last.top1,
        top5=last.top5,
        loss=last.loss,
        per_head=last.per_head,
        per_subset=last.per_subset,
        per_class=last.per_class,
        per_family=last.per_family,
        classes=last.classes,
        family_classes=last.family_classes,
        confusion=last.confusion,
        num_val=source.num_val,
        curve=state.curve,
        params=params,
        macs=macs,
        cost=cost,
        train_clips_per_second=schedule.epochs * source.num_train / state.train_seconds,
        eval_clips_per_second=source.num_val / eval_seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        seconds=state.seconds,
        environment={**environment(device, options), **({"clips": source.form} if source.form else {})},
    )
