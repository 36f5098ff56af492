"""Runs the cases of a benchmark: memory first, then rounds of trials, then their statistics."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Literal

import torch

from tadaconv.bench import record
from tadaconv.bench.device import DTYPES, facts, limits, tune_cudnn
from tadaconv.bench.interleaved import run_interleaved
from tadaconv.bench.options import Mode, Options
from tadaconv.bench.peak_memory import peaks
from tadaconv.bench.record import Benchmark, Case, Limit, Phase, Work
from tadaconv.bench.statistics import limit, ratios, timing
from tadaconv.bench.workload import Workload
from tadaconv.environment import resolve_device
from tadaconv.errors import RunError
from tadaconv.training.computing import many_compiled

TRIAL_SECONDS = 0.05
"""A trial repeats its pass until the plain network takes about this long: shorter times are dominated by the clock."""

MOST_REPEATS = 100

MOST_COMPILED = 1024
"""The most compiled methods, and parts of them, that are kept."""

OnProgress = Callable[[str, float], None]
"""Called with the current step, and the fraction of the whole that is done."""

_COPY, _MATRIX = "(copy)", "(matrix product)"
"""The trials of the device itself; no method has such a name."""

Seconds = dict[str, dict[Phase, list[float]]]
"""By method and phase, a number a round."""


def no_progress(doing: str, part: float) -> None:
    """Show nothing."""
    del doing, part


def run(
    bench: Literal["op", "step"],
    workloads: Sequence[Workload],
    options: Options,
    progress: OnProgress = no_progress,
    *,
    calibrations: Sequence[str] = ("cin",),
    backbone: str | None = None,
) -> Benchmark:
    """Run every workload in every mode.

    Args:
        bench: which of the two benchmarks it is.
        workloads: the convolutions or networks.
        options: how.
        progress: called with the current step, and the fraction that is done.
        calibrations: of ours, for the record.
        backbone: of a training step, for the record.

    Raises:
        RunError: out of memory.
    """
    device = resolve_device(options.device)
    tune_cudnn(device)
    pairs = [(workload, mode) for workload in workloads for mode in options.ordered_modes()]
    cases = []
    try:
        for number, (workload, mode) in enumerate(pairs):

            def within(doing: str, part: float, number: int = number) -> None:
                progress(doing, (number + part) / len(pairs))

            cases.append(_case(workload, mode, options, device, within))
    except torch.OutOfMemoryError as error:
        raise RunError(f"out of memory on {device}; lower --clips or --size, or name fewer --methods") from error
    asked = record.Settings(
        dtype=options.dtype,
        num_clips=options.num_clips,
        num_frames=options.num_frames,
        size_px=options.size,
        rounds=options.rounds,
        backbone=backbone,
        modes=list(options.ordered_modes()),
        calibrations=list(calibrations),
    )
    return Benchmark(bench=bench, settings=asked, environment=facts(device), cases=cases)


def _case(workload: Workload, mode: Mode, options: Options, device: torch.device, progress: OnProgress) -> Case:
    compiled, where = mode == "compiled", f"{workload.name}, {mode}"
    memory: dict[str, int | None] = dict.fromkeys(workload.methods)
    if not compiled or device.type == "cuda":  # on the CPU the peak would be the compiler's
        makes = [partial(make, compiled) for make in workload.methods.values()]
        for name, peak in zip(workload.methods, peaks(makes), strict=True):
            memory[name] = peak
            progress(f"{where}: memory", 0.0)
    with many_compiled(MOST_COMPILED) if compiled else nullcontext():
        seconds, copy, matrix, repeats = _timed(workload, compiled, options, device, partial(progress, where))
    base = next(iter(seconds.values()))
    return Case(
        name=workload.name,
        mode=mode,
        repeats=repeats,
        work=workload.work,
        copy_limit=copy,
        matrix_limit=matrix,
        timings=[timing(name, seconds[name], base, workload.work, copy, matrix, memory[name]) for name in memory],
        naive_over_ours={
            ours: ratios(seconds[naive]["both"], seconds[ours]["both"]) for ours, naive in workload.naive.items()
        },
    )


def _timed(
    workload: Workload, compiled: bool, options: Options, device: torch.device, progress: Callable[[float], None]
) -> tuple[Seconds, Limit, Limit, int]:
    """Seconds of every method, the limits of the device in the same rounds, and the passes in a trial."""
    trials = {}
    for name, make in workload.methods.items():
        trials[name] = make(compiled)
        trials[name]()  # compiles, and fills the allocator's and the kernels' caches
        progress(0.0)
    once = sum(next(iter(trials.values()))().values())
    repeats = min(MOST_REPEATS, max(1, math.ceil(TRIAL_SECONDS / once)))
    copy, product = limits(device, DTYPES[options.dtype])
    methods: dict[str, Callable[[], dict[str, float]]] = {n: partial(trial, repeats) for n, trial in trials.items()}
    methods |= {_COPY: lambda: {"both": copy()}, _MATRIX: lambda: {"both": product()}}
    rounds = []
    for outcome in run_interleaved(methods, options.rounds):
        rounds.append(outcome)
        progress(len(rounds) / options.rounds)
    seconds: Seconds = {}
    for name in trials:
        forward, backward = ([outcome[name][phase] for outcome in rounds] for phase in ("forward", "backward"))
        both = [sum(pair) for pair in zip(forward, backward, strict=True)]
        seconds[name] = {"forward": forward, "backward": backward, "both": both}
    copies, products = ([outcome[name]["both"] for outcome in rounds] for name in (_COPY, _MATRIX))
    copy_limit = limit(Work(bytes=copy.bytes, multiply_adds=0), copies)
    matrix_limit = limit(Work(bytes=0, multiply_adds=product.multiply_adds), products)
    return seconds, copy_limit, matrix_limit, repeats
