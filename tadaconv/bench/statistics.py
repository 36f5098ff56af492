"""Statistics of the times of a benchmark: medians with intervals, ratios within a round, fractions of a limit."""

from collections.abc import Sequence

import numpy as np

from tadaconv.bench.record import PHASES, Limit, Phase, Spread, Timing, Work

CONFIDENCE = 0.95
"""Of the interval of a median."""


def spread(values: Sequence[float]) -> Spread:
    """Median, quartiles (linear between order statistics) and the 95 % interval of the median."""
    from scipy.stats import binom

    low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    # The number of values below the true median is binomial: the largest rank from either end that covers it.
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, len(values), 0.5))
    ordered = sorted(values)
    return Spread(
        median=median,
        quartile_low=low,
        quartile_high=high,
        interval_low=ordered[rank - 1] if rank else None,
        interval_high=ordered[-rank] if rank else None,
    )


def ratios(times: Sequence[float], bases: Sequence[float]) -> Spread:
    """The spread of one method's times over another's, paired by round."""
    return spread([time / base for time, base in zip(times, bases, strict=True)])


def limit(work: Work, seconds: list[float]) -> Limit:
    """A limit of the device, from the seconds of its trial by round."""
    amount = work.bytes or work.multiply_adds
    return Limit(work=work, seconds=seconds, per_second=spread([amount / s for s in seconds]))


def timing(
    name: str,
    seconds: dict[Phase, list[float]],
    base: dict[Phase, list[float]],
    work: dict[Phase, Work],
    copy: Limit,
    matrix: Limit,
    peak_memory_bytes: int | None,
) -> Timing:
    """A method's times next to the plain network's and the device's limits, round by round.

    Args:
        name: of the method.
        seconds: of one pass, by phase and round.
        base: those of the plain network in the same rounds.
        work: the least that the plain network must do in a pass, by phase.
        copy: the limit of the device in the same rounds, in bytes per second.
        matrix: the same in multiply-adds per second.
        peak_memory_bytes: of a process that runs this method alone; None where it is not known.
    """

    def share(phase: Phase, amount: int, best: Limit, best_amount: int) -> float:
        rates = zip(seconds[phase], best.seconds, strict=True)
        return spread([(amount / own) / (best_amount / other) for own, other in rates]).median

    return Timing(
        name=name,
        seconds=seconds,
        time={phase: spread(seconds[phase]) for phase in PHASES},
        ratio={phase: ratios(seconds[phase], base[phase]) for phase in PHASES},
        copy_share={phase: share(phase, work[phase].bytes, copy, copy.work.bytes) for phase in PHASES},
        matrix_share={
            phase: share(phase, work[phase].multiply_adds, matrix, matrix.work.multiply_adds) for phase in PHASES
        },
        peak_memory_bytes=peak_memory_bytes,
    )
