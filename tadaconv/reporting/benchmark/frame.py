"""A benchmark as frames: a line for every contestant and phase, and for every round of them."""

from typing import Any

import pandas as pd

from tadaconv.reporting.benchmark.record import PHASES, BenchmarkManifest, Spread
from tadaconv.reporting.core.export import as_csv

TABLE_COLUMNS = [
    "file", "bench", "race", "mode", "contestant", "phase", "rounds", "repeats",
    "ratio", "ratio_low", "ratio_high", "ratio_quartile_low", "ratio_quartile_high",
    "seconds", "seconds_low", "seconds_high", "seconds_quartile_low", "seconds_quartile_high",
    "copy_share", "matrix_share", "peak_memory_bytes",
]  # fmt: skip
"""``ratio`` is the median over the rounds of the time over the plain network's, ``_low`` to ``_high`` its 95 %
interval, ``seconds`` the median time of a pass."""

ROUND_COLUMNS = ["file", "race", "mode", "contestant", "phase", "round", "seconds", "ratio"]


def table_frame(manifest: BenchmarkManifest) -> pd.DataFrame:
    """A line a run, race, contestant and phase: ``TABLE_COLUMNS``. Shares are parts of one, times in seconds."""
    lines = [
        (
            named.file, named.run.bench, race.name, race.mode, entry.name, phase, len(entry.seconds[phase]),
            race.repeats, *_spread(entry.ratio[phase]), *_spread(entry.time[phase]), entry.copy_share[phase],
            entry.matrix_share[phase], entry.peak_memory_bytes,
        )
        for named in manifest.runs
        for race in named.run.races
        for entry in race.entries
        for phase in PHASES
    ]  # fmt: skip
    floats = dict.fromkeys(TABLE_COLUMNS[8:-1], "float64")
    return pd.DataFrame(lines, columns=TABLE_COLUMNS).astype({**floats, "peak_memory_bytes": "Int64"})


def rounds_frame(manifest: BenchmarkManifest) -> pd.DataFrame:
    """A line a run, race, contestant, phase and round, from 1: ``ROUND_COLUMNS``; ``ratio`` is within the round."""
    lines = [
        (named.file, race.name, race.mode, entry.name, phase, number, seconds, seconds / plain)
        for named in manifest.runs
        for race in named.run.races
        for entry in race.entries
        for phase in PHASES
        for number, (seconds, plain) in enumerate(
            zip(entry.seconds[phase], race.plain.seconds[phase], strict=True), start=1
        )
    ]
    return pd.DataFrame(lines, columns=ROUND_COLUMNS)


def files_of(manifest: BenchmarkManifest) -> dict[str, str]:
    """Both frames as CSV, to the last digit, by the name of their file."""
    return {"table.csv": as_csv(table_frame(manifest)), "rounds.csv": as_csv(rounds_frame(manifest))}


def _spread(spread: Spread) -> tuple[Any, ...]:
    return (spread.median, spread.interval_low, spread.interval_high, spread.quartile_low, spread.quartile_high)
