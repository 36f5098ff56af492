"""The record of a benchmark: every measured time, and the statistics of them.

Imports no torch, so that reports read it quickly. Fields that later versions add to a file are ignored.
"""

import re
from typing import Literal, Self

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from tadaconv.spec import Spec

Phase = Literal["both", "forward", "backward"]
PHASES: tuple[Phase, ...] = ("both", "forward", "backward")
"""Parts of a training step, their sum first: it is what is compared."""


class Stored(Spec):
    """A part of the file."""

    # Some fields have other names in the files: those of the first version.
    model_config = ConfigDict(extra="ignore", populate_by_name=True, serialize_by_alias=True)


class Work(Stored):
    """The least work to be done."""

    bytes: int
    multiply_adds: int

    def __add__(self, other: "Work") -> "Work":
        return Work(bytes=self.bytes + other.bytes, multiply_adds=self.multiply_adds + other.multiply_adds)


class Spread(Stored):
    """Median, quartiles and the confidence interval of the median."""

    median: FiniteFloat
    quartile_low: FiniteFloat
    quartile_high: FiniteFloat
    interval_low: FiniteFloat | None = Field(
        description="95 % interval of the median by order statistics, which holds whatever the distribution; "
        "None below 6 numbers, which cannot give one."
    )
    interval_high: FiniteFloat | None


class Limit(Stored):
    """A limit of the device in the rounds of a case: a copy of a large tensor, or a product of large matrices."""

    # Reports that were exported before have neither work nor seconds.
    work: Work = Field(
        Work(bytes=0, multiply_adds=0), description="Of one trial: bytes read and written, or multiply-adds."
    )
    seconds: list[FiniteFloat] = Field([], description="By round.")
    per_second: Spread = Field(description="Bytes or multiply-adds per second.")


class Timing(Stored):
    """One method in one case."""

    name: str
    seconds: dict[Phase, list[FiniteFloat]] = Field(description="Of one pass, by round.")
    time: dict[Phase, Spread] = Field(description="Seconds of one pass.")
    ratio: dict[Phase, Spread] = Field(description="Time over the first method's in the same round.")
    copy_share: dict[Phase, FiniteFloat] = Field(
        description="Bytes per second over those of a copy in the same round, median; bytes are the plain network's."
    )
    matrix_share: dict[Phase, FiniteFloat] = Field(
        description="Multiply-adds a second over those of a matrix product in the same round, median; the "
        "multiply-adds are the plain network's."
    )
    peak_memory_bytes: int | None = Field(
        description="Of a process that runs this method alone: CUDA, the most allocated; CPU, all that the process "
        "ever held, None where that includes a compiler."
    )


class Case(Stored):
    """Methods timed in interleaved trials on the same clips, in one mode; the first is the plain network."""

    name: str
    mode: str = Field(description="eager or compiled.")
    repeats: int = Field(description="Passes in a trial.")
    work: dict[Phase, Work] = Field(
        {}, description="The minimum that the plain network must do in a pass; reports exported before have none."
    )
    copy_limit: Limit
    matrix_limit: Limit
    timings: list[Timing] = Field(alias="entries", min_length=1)
    naive_over_ours: dict[str, Spread] = Field(
        description="Time of the form with a kernel for every frame over ours in the same round, forward and backward, "
        "by the name of ours."
    )

    @property
    def plain(self) -> Timing:
        """The method that the others are compared with."""
        return self.timings[0]

    @model_validator(mode="after")
    def _rounds_agree(self) -> Self:
        rounds = {len(timing.seconds.get(phase, [])) for timing in self.timings for phase in PHASES}
        if len(rounds) != 1 or not rounds.pop():
            raise ValueError(f"the methods of {self.name!r} have not all the same rounds")
        if min(second for timing in self.timings for of_phase in timing.seconds.values() for second in of_phase) <= 0:
            raise ValueError(f"a time of {self.name!r} is not above zero")
        names = [timing.name for timing in self.timings]
        if len(set(names)) != len(names):
            raise ValueError(f"two methods of {self.name!r} have one name")
        for timing in self.timings:
            for part in (timing.time, timing.ratio, timing.copy_share, timing.matrix_share):
                if set(part) != set(PHASES):
                    raise ValueError(f"{timing.name!r} lacks a phase; each has {', '.join(PHASES)}")
        return self


class Settings(Stored):
    """The options of the run."""

    dtype: str
    num_clips: int
    num_frames: int
    size_px: int
    rounds: int
    backbone: str | None = Field(None, description="Of a training step.")
    modes: list[str] = Field([], description="In the order they ran; reports exported before have none.")
    calibrations: list[str] = Field(["cin"], description="Of ours.")


class Benchmark(Stored):
    """One run of ``tada bench``."""

    bench: Literal["op", "step"]
    settings: Settings
    environment: dict[str, str]
    cases: list[Case] = Field(alias="races", min_length=1)

    @model_validator(mode="after")
    def _cases_differ(self) -> Self:
        names = [(case.name, case.mode) for case in self.cases]
        if len(set(names)) != len(names):
            raise ValueError("two cases have one name and mode")
        return self

    @property
    def file_stem(self) -> str:
        """The name of its files: ``step-resnet50-cpu-2-threads-fp32-eager-2x8x112`` (clips x frames x pixels)."""
        asked = self.settings
        named = [asked.backbone] if asked.backbone else []
        named += [] if asked.calibrations == ["cin"] else asked.calibrations
        clips = f"{asked.num_clips}x{asked.num_frames}x{asked.size_px}"
        parts = [self.bench, *named, self.environment["device"], asked.dtype, *asked.modes, clips]
        return re.sub(r"[^a-z0-9_]+", "-", "-".join(parts).lower())
