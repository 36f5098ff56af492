"""The data of a report of benchmarks: the files of ``tada bench``, and frames of them.

A line of a frame is a method and phase, or a round of one. Columns have the names of stored files, in which a case is a
``race`` and a method a ``contestant``.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, ValidationError

from tadaconv.bench.record import PHASES, Benchmark, Spread, Stored
from tadaconv.command import command
from tadaconv.errors import UserError
from tadaconv.reporting.core.export import ReportManifest, as_csv
from tadaconv.spec import describe
from tadaconv.text import one_line

TABLE_COLUMNS = [
    "file", "bench", "race", "mode", "contestant", "phase", "rounds", "repeats",
    "ratio", "ratio_low", "ratio_high", "ratio_quartile_low", "ratio_quartile_high",
    "seconds", "seconds_low", "seconds_high", "seconds_quartile_low", "seconds_quartile_high",
    "copy_share", "matrix_share", "peak_memory_bytes",
]  # fmt: skip
"""``ratio`` is the median over the rounds of the time over the plain network's, ``_low`` to ``_high`` its 95 %
interval, ``seconds`` the median time of a pass."""

ROUND_COLUMNS = ["file", "race", "mode", "contestant", "phase", "round", "seconds", "ratio"]


class NamedRun(Stored):
    """A run and the file it was read from."""

    file: str = Field(description="Its name, with as much of its path as no other file shares.")
    run: Benchmark


class LeftOut(Stored):
    """A file of a folder that is no result of ``tada bench``."""

    file: str
    why: str


class BenchmarkManifest(ReportManifest):
    """``report.json``: every run in full."""

    benchmark: str = Field(description="Name of the report.")
    runs: list[NamedRun] = Field(description="By file.")
    left_out: list[LeftOut] = Field(description="JSON files next to them that are not results of tada bench.")


def collect(paths: Sequence[Path]) -> BenchmarkManifest:
    """Read the files, and those of the folders, in the order of their names.

    Raises :class:`UserError` for a path that does not exist or cannot be read, a file that is no result of
    ``tada bench``, and a folder without one.
    """
    if not paths:
        raise UserError("no benchmark is named; give files that tada bench has written, or their folder")
    results: dict[Path, Benchmark] = {}
    left_out: dict[Path, str] = {}
    for path in paths:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        read = {file.resolve(): _read(file) for file in files}
        runs = {file: run for file, run in read.items() if isinstance(run, Benchmark)}
        others = {file: reason for file, reason in read.items() if isinstance(reason, str)}
        if path.is_dir() and not runs:
            run = command("bench op", out=path)
            raise UserError(f"{str(path)!r} has no result of tada bench; make one with: {run}")
        if not path.is_dir() and others:
            raise UserError(f"{str(path)!r} is not a result of tada bench: {others.popitem()[1]}")
        results |= runs
        left_out |= others
    names = _distinct_names([*results, *left_out])
    return BenchmarkManifest(
        benchmark=_name(paths),
        runs=[NamedRun(file=names[path], run=results[path]) for path in sorted(results, key=names.__getitem__)],
        left_out=[LeftOut(file=names[path], why=left_out[path]) for path in sorted(left_out, key=names.__getitem__)],
    )


def read_benchmark(folder: Path | str = ".") -> BenchmarkManifest:
    """Read the folder of a report; raises :class:`UserError` where it is not one."""
    path = Path(folder) / "report.json"
    try:
        return BenchmarkManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no exported report: {error.filename} is missing") from error


def _read(path: Path) -> Benchmark | str:
    """The run in a file, or why it holds none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {str(path)!r}; give a file that tada bench has written") from error
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(tree, dict) or not {"bench", "races"} <= tree.keys():
        return "it has no benchmark"
    try:
        return Benchmark.model_validate(tree)
    except ValidationError as error:
        return one_line(describe(error))  # a name in the file may break the line


def _distinct_names(paths: Iterable[Path]) -> dict[Path, str]:
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


def table_frame(manifest: BenchmarkManifest) -> pd.DataFrame:
    """A line a run, case, method and phase: ``TABLE_COLUMNS``. Times are in seconds, shares fractions of one."""
    lines = [
        (
            named.file, named.run.bench, case.name, case.mode, timing.name, phase, len(timing.seconds[phase]),
            case.repeats, *_spread(timing.ratio[phase]), *_spread(timing.time[phase]), timing.copy_share[phase],
            timing.matrix_share[phase], timing.peak_memory_bytes,
        )
        for named in manifest.runs
        for case in named.run.cases
        for timing in case.timings
        for phase in PHASES
    ]  # fmt: skip
    floats = dict.fromkeys(TABLE_COLUMNS[8:-1], "float64")
    return pd.DataFrame(lines, columns=TABLE_COLUMNS).astype({**floats, "peak_memory_bytes": "Int64"})


def rounds_frame(manifest: BenchmarkManifest) -> pd.DataFrame:
    """A line a run, case, method, phase and round, from 1: ``ROUND_COLUMNS``; ``ratio`` is within the round."""
    lines = [
        (named.file, case.name, case.mode, timing.name, phase, number, seconds, seconds / plain)
        for named in manifest.runs
        for case in named.run.cases
        for timing in case.timings
        for phase in PHASES
        for number, (seconds, plain) in enumerate(
            zip(timing.seconds[phase], case.plain.seconds[phase], strict=True), start=1
        )
    ]
    return pd.DataFrame(lines, columns=ROUND_COLUMNS)


def files_of(manifest: BenchmarkManifest) -> dict[str, str]:
    """Both frames as CSV, to the last digit, by the name of their file."""
    return {"table.csv": as_csv(table_frame(manifest)), "rounds.csv": as_csv(rounds_frame(manifest))}


def _spread(spread: Spread) -> tuple[Any, ...]:
    return (spread.median, spread.interval_low, spread.interval_high, spread.quartile_low, spread.quartile_high)
