"""Reads the JSON files of ``tada bench``, as far as a report tells of them.

The benchmarks stand above the reports and load torch, which a report's notebook has no need of. So the files are read
by a description of their own; the tests hold it against what the benchmarks write.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from tadaconv.command import command
from tadaconv.errors import UserError
from tadaconv.reporting.export import ReportManifest
from tadaconv.spec import describe
from tadaconv.text import one_line

Phase = Literal["forward", "backward", "both"]
PHASES: tuple[Phase, ...] = ("both", "forward", "backward")
"""Parts of a training step, their sum first: it is what a report compares."""


class _Read(BaseModel):
    # What later versions add is no reason to turn a file away.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Spread(_Read):
    """The middle of some numbers, how far they scatter, and how sure the middle is."""

    median: FiniteFloat
    quartile_low: FiniteFloat
    quartile_high: FiniteFloat
    interval_low: FiniteFloat | None = Field(description="95 % interval of the median; None below 6 rounds.")
    interval_high: FiniteFloat | None


class Limit(_Read):
    """What the device reached in the rounds of a race."""

    per_second: Spread = Field(description="Bytes of a copy, or multiply-adds of a matrix product, a second.")


class Entry(_Read):
    """One contestant in one race."""

    name: str
    seconds: dict[Phase, list[FiniteFloat]] = Field(description="Of one pass, by round.")
    time: dict[Phase, Spread] = Field(description="Seconds of one pass.")
    ratio: dict[Phase, Spread] = Field(description="Time over the plain network's in the same round.")
    copy_share: dict[Phase, FiniteFloat] = Field(description="Bytes a second over a copy's in the same round, median.")
    matrix_share: dict[Phase, FiniteFloat] = Field(description="Multiply-adds a second over a matrix product's.")
    peak_memory_bytes: int | None = Field(description="Of a process of its own; None where it is not known.")


class Race(_Read):
    """Contestants that took turns on the same clips; the first is the plain network."""

    name: str
    mode: str
    repeats: int = Field(description="Passes in a turn.")
    copy_limit: Limit
    matrix_limit: Limit
    entries: list[Entry] = Field(min_length=1)
    naive_over_ours: dict[str, Spread] = Field(
        description="Time of the form with a kernel for every frame over ours in the same round, by the name of ours."
    )

    @property
    def plain(self) -> Entry:
        """The contestant that the others are held against."""
        return self.entries[0]

    @model_validator(mode="after")
    def _rounds_agree(self) -> Self:
        rounds = {len(entry.seconds.get(phase, [])) for entry in self.entries for phase in PHASES}
        if len(rounds) != 1 or not rounds.pop():
            raise ValueError(f"the contestants of {self.name!r} have not all the same rounds")
        if min(second for entry in self.entries for each in entry.seconds.values() for second in each) <= 0:
            raise ValueError(f"a time of {self.name!r} is not above zero")
        names = [entry.name for entry in self.entries]
        if len(set(names)) != len(names):
            raise ValueError(f"two contestants of {self.name!r} have one name")
        for entry in self.entries:
            for part in (entry.time, entry.ratio, entry.copy_share, entry.matrix_share):
                if set(part) != set(PHASES):
                    raise ValueError(f"{entry.name!r} lacks a phase; each has {', '.join(PHASES)}")
        return self


class Settings(_Read):
    """What was asked for."""

    dtype: str
    num_clips: int
    num_frames: int
    size_px: int
    rounds: int
    backbone: str | None = None


class Run(_Read):
    """One run of ``tada bench``."""

    bench: Literal["op", "step"]
    settings: Settings
    environment: dict[str, str]
    races: list[Race] = Field(min_length=1)

    @model_validator(mode="after")
    def _races_differ(self) -> Self:
        names = [(race.name, race.mode) for race in self.races]
        if len(set(names)) != len(names):
            raise ValueError("two races have one name and mode")
        return self


class NamedRun(_Read):
    """A run and the file it was read from."""

    file: str = Field(description="Its name, with as much of its path as tells it from the others.")
    run: Run


class LeftOut(_Read):
    """A file of a folder that is no result of ``tada bench``."""

    file: str
    why: str


class BenchmarkManifest(ReportManifest):
    """``report.json``: every run in full, as far as the report tells of it."""

    benchmark: str = Field(description="Name of the report.")
    runs: list[NamedRun] = Field(description="By file.")
    left_out: list[LeftOut] = Field(description="JSON files beside them that are no results of tada bench.")


class _NotOursError(Exception):
    """Why a file is no result."""


def collect(paths: Sequence[Path]) -> BenchmarkManifest:
    """Read the files, and those of the folders, in the order of their names.

    Raises :class:`UserError` for a path that is not there or cannot be read, a file that is no result of
    ``tada bench``, and a folder without one.
    """
    if not paths:
        raise UserError("no benchmark is named; give files that tada bench has written, or their folder")
    found: dict[Path, Run] = {}
    left_out: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            inside, others = _folder(path)
            found |= inside
            left_out |= others
        else:
            try:
                found[path.resolve()] = _read(path)
            except _NotOursError as error:
                raise UserError(f"{str(path)!r} is no result of tada bench: {error}") from error
    names = _told_apart([*found, *left_out])
    return BenchmarkManifest(
        benchmark=_name(paths),
        runs=[NamedRun(file=names[path], run=found[path]) for path in sorted(found, key=names.__getitem__)],
        left_out=[LeftOut(file=names[path], why=left_out[path]) for path in sorted(left_out, key=names.__getitem__)],
    )


def read_benchmark(folder: Path | str = ".") -> BenchmarkManifest:
    """Read back what a report's folder holds; raises :class:`UserError` where it is not one."""
    path = Path(folder) / "report.json"
    try:
        return BenchmarkManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no exported report: {error.filename} is missing") from error


def _folder(folder: Path) -> tuple[dict[Path, Run], dict[Path, str]]:
    found: dict[Path, Run] = {}
    left_out: dict[Path, str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.resolve()] = _read(path)
        except _NotOursError as error:
            left_out[path.resolve()] = str(error)
    if not found:
        run = command("bench op", out=folder)
        raise UserError(f"{str(folder)!r} holds no result of tada bench; make one with: {run}")
    return found, left_out


def _read(path: Path) -> Run:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {str(path)!r}; give a file that tada bench has written") from error
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _NotOursError("it is not JSON") from error
    if not isinstance(tree, dict) or "bench" not in tree or "races" not in tree:
        raise _NotOursError("it has no races")
    try:
        return Run.model_validate(tree)
    except ValidationError as error:
        raise _NotOursError(one_line(describe(error))) from error  # a name in the file may break the line


def _told_apart(paths: Iterable[Path]) -> dict[Path, str]:
    """Each path by its last parts, as many as no two of them share."""
    paths = list(paths)
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return {path: "/".join(path.parts[-depth:]) for path in paths}


def _name(paths: Sequence[Path]) -> str:
    first, more = paths[0].resolve(), len(paths) - 1
    name = first.name if first.is_dir() else first.stem
    return f"{name}-and-{more}-more" if more else name
