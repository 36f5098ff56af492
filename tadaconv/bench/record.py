"""What a benchmark leaves: every time as it was measured, and what follows from them."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tadaconv.bench.interleaved import Spread, spread
from tadaconv.bench.roofline import PHASES, Phase, Work
from tadaconv.spec import Spec


class Limit(Spec):
    """What the device reached in the rounds of a race: a copy of a large tensor, or a product of large matrices."""

    work: Work = Field(description="Of one turn: bytes read and written, or multiply-adds.")
    seconds: list[float] = Field(description="By round.")
    per_second: Spread = Field(description="Bytes or multiply-adds a second.")


class Entry(Spec):
    """One contestant in one race."""

    name: str
    seconds: dict[Phase, list[float]] = Field(description="Of one pass, by round.")
    time: dict[Phase, Spread] = Field(description="Seconds of one pass.")
    ratio: dict[Phase, Spread] = Field(description="Time over the first contestant's in the same round.")
    copy_share: dict[Phase, float] = Field(
        description="Bytes a second over those of a copy in the same round, median; the bytes are the plain network's."
    )
    matrix_share: dict[Phase, float] = Field(
        description="Multiply-adds a second over those of a matrix product in the same round, median; the "
        "multiply-adds are the plain network's."
    )
    peak_memory_bytes: int | None = Field(
        description="Of a process that runs this contestant alone: CUDA, the most allocated; CPU, all that the process "
        "ever held, None where that includes a compiler."
    )


class Race(Spec):
    """Contestants that took turns on the same clips; the first is the plain network."""

    name: str
    mode: Literal["eager", "compiled"]
    repeats: int = Field(description="Passes in a turn.")
    work: dict[Phase, Work] = Field(description="The least that the plain network must do in a pass.")
    copy_limit: Limit
    matrix_limit: Limit
    entries: list[Entry]
    naive_over_ours: dict[str, Spread] = Field(
        description="Time of the form with a kernel for every frame over ours in the same round, forward and backward, "
        "by the name of ours."
    )


class Benchmark(Spec):
    """One run of ``tada bench``."""

    bench: Literal["op", "step"]
    settings: dict[str, int | str | list[str]]
    environment: dict[str, str]
    races: list[Race]


def ratios(times: Sequence[float], bases: Sequence[float]) -> Spread:
    """The spread of one contestant's times over another's, paired by round."""
    return spread([time / base for time, base in zip(times, bases, strict=True)])


def limit(work: Work, seconds: list[float]) -> Limit:
    """What the device reached, from the seconds of a turn by round."""
    amount = work.bytes or work.multiply_adds
    return Limit(work=work, seconds=seconds, per_second=spread([amount / s for s in seconds]))


def entry(
    name: str,
    seconds: dict[Phase, list[float]],
    base: dict[Phase, list[float]],
    work: dict[Phase, Work],
    copy: Limit,
    matrix: Limit,
    peak_memory_bytes: int | None,
) -> Entry:
    """A contestant's times held against the plain network's and the device's, round by round."""

    def share(phase: Phase, amount: int, best: Limit, best_amount: int) -> float:
        rates = zip(seconds[phase], best.seconds, strict=True)
        return spread([(amount / own) / (best_amount / other) for own, other in rates]).median

    return Entry(
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
