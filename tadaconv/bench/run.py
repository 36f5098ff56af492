"""Runs the races of a benchmark: memory first, then rounds of turns, then what follows from them."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from tadaconv.bench import contest
from tadaconv.bench.device import DTYPES, facts, limits, settle
from tadaconv.bench.record import Benchmark, Limit, Race, entry, limit, ratios
from tadaconv.bench.settings import Mode, Settings
from tadaconv.bench.turn import Turn, peaks
from tadaconv.bench.work import Phase, Work
from tadaconv.environment import resolve_device
from tadaconv.errors import RunError
from tadaconv.training.computing import many_compiled

TURN_SECONDS = 0.05
"""A turn repeats its pass until the plain network takes about this long: shorter times are mostly the clock's."""

MOST_REPEATS = 100

MOST_COMPILED = 1024
"""Contestants, and parts of them, whose compiled form is kept."""

Report = Callable[[str, float], None]
"""Told what is being done, and what part of the whole is over, 0 to 1."""

_COPY, _MATRIX = "(copy)", "(matrix product)"
"""The device's own turns, which no contestant's name can be taken for."""

Make = Callable[[bool], Turn]
"""Makes a contestant, from whether to compile it; picklable, as it is sent to other processes."""

Seconds = dict[str, dict[Phase, list[float]]]
"""By contestant and phase, a number a round."""


def silently(doing: str, part: float) -> None:
    """Report to nobody."""
    del doing, part


@dataclass(frozen=True)
class Heat:
    """A race to be run.

    Attributes:
        name: what is raced over.
        makes: by contestant; the plain network first.
        work: the plain network's.
        naive: from the name of a contestant to that of its form with a kernel for every frame.
    """

    name: str
    makes: dict[str, Make]
    work: dict[Phase, Work]
    naive: dict[str, str]


def run(
    bench: Literal["op", "step"],
    heats: Sequence[Heat],
    settings: Settings,
    more_settings: dict[str, str | list[str]],
    report: Report = silently,
) -> Benchmark:
    """Run every heat in every mode.

    Raises:
        RunError: memory is out.
    """
    device = resolve_device(settings.device)
    settle(device)
    pairs = [(heat, mode) for heat in heats for mode in settings.ordered_modes()]
    races = []
    try:
        for number, (heat, mode) in enumerate(pairs):

            def within(doing: str, part: float, number: int = number) -> None:
                report(doing, (number + part) / len(pairs))

            races.append(_race(heat, mode, settings, device, within))
    except torch.OutOfMemoryError as error:
        raise RunError(f"out of memory on {device}; lower --clips or --size, or name fewer --contestants") from error
    asked = {
        "dtype": settings.dtype,
        "modes": list[str](settings.ordered_modes()),
        "num_clips": settings.num_clips,
        "num_frames": settings.num_frames,
        "size_px": settings.size,
        "rounds": settings.rounds,
    }
    return Benchmark(bench=bench, settings={**more_settings, **asked}, environment=facts(device), races=races)


def _race(heat: Heat, mode: Mode, settings: Settings, device: torch.device, report: Report) -> Race:
    compiled, where = mode == "compiled", f"{heat.name}, {mode}"
    memory: dict[str, int | None] = dict.fromkeys(heat.makes)
    if not compiled or device.type == "cuda":  # on the CPU the peak would be the compiler's
        for name, peak in zip(heat.makes, peaks([partial(m, compiled) for m in heat.makes.values()]), strict=True):
            memory[name] = peak
            report(f"{where}: memory", 0.0)
    with many_compiled(MOST_COMPILED) if compiled else nullcontext():
        seconds, copy, matrix, repeats = _timed(heat, compiled, settings, device, partial(report, where))
    base = next(iter(seconds.values()))
    return Race(
        name=heat.name,
        mode=mode,
        repeats=repeats,
        work=heat.work,
        copy_limit=copy,
        matrix_limit=matrix,
        entries=[entry(name, seconds[name], base, heat.work, copy, matrix, memory[name]) for name in heat.makes],
        naive_over_ours={
            ours: ratios(seconds[naive]["both"], seconds[ours]["both"]) for ours, naive in heat.naive.items()
        },
    )


def _timed(
    heat: Heat, compiled: bool, settings: Settings, device: torch.device, report: Callable[[float], None]
) -> tuple[Seconds, Limit, Limit, int]:
    """Seconds of every contestant, what the device reached in the same rounds, and the passes in a turn."""
    turns = {}
    for name, make in heat.makes.items():
        turns[name] = make(compiled)
        turns[name]()  # compiles, and fills the allocator's and the kernels' caches
        report(0.0)
    once = sum(next(iter(turns.values()))().values())
    repeats = min(MOST_REPEATS, max(1, math.ceil(TURN_SECONDS / once)))
    copy, product = limits(device, DTYPES[settings.dtype])
    done = 0

    def after_round() -> None:
        nonlocal done
        done += 1
        report(done / settings.rounds)

    everyone: dict[str, Callable[[], dict[str, float]]] = {n: partial(turn, repeats) for n, turn in turns.items()}
    everyone |= {_COPY: lambda: {"both": copy()}, _MATRIX: lambda: {"both": product()}}
    rounds = contest.hold(everyone, settings.rounds, after_round=after_round)
    seconds: Seconds = {}
    for name in turns:
        forward, backward = ([played[name][phase] for played in rounds] for phase in ("forward", "backward"))
        both = [there + back for there, back in zip(forward, backward, strict=True)]
        seconds[name] = {"forward": forward, "backward": backward, "both": both}
    reached = [
        limit(work, [played[name]["both"] for played in rounds])
        for name, work in (
            (_COPY, Work(bytes=copy.bytes, multiply_adds=0)),
            (_MATRIX, Work(bytes=0, multiply_adds=product.multiply_adds)),
        )
    ]
    return seconds, reached[0], reached[1], repeats
