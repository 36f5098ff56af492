"""Measures how much regimes can tell: minimum detectable differences and decided claims, and what they cost.

    python benchmarks/power.py [--regimes quick_1 quick] [--seeds 3] [--out runs/power]

Runs the tables of the design in each regime in turn, on seeds 0 and up, and the base of each table with four times the
epochs. Cells that have a result in OUT are not run again, so an interrupted call resumes. Prints, by table and regime,

- how many claims are decided by the t interval of all seeds
- the minimum detectable difference at 80 % power, the median over claims and comparisons with the base, in points
- the accuracy of the best row, the median standard deviation of a row between seeds
- the CPU time of the table, in which cells that several tables share count in each; other programs disturb it
- the CPU time of a cell of the base and of the row without an operator, the regimes in turn
- how much the base gains when it is trained four times as long

and writes results/power.json. On two cores it takes about an hour.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tadaconv import statistics as st
from tadaconv.api import run_table
from tadaconv.environment import environment, resolve_device
from tadaconv.experiment import run
from tadaconv.regime import load_regime
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.summary import scores_by_seed, summarise, verdicts
from tadaconv.table import load_table

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("context", "calibration_dimension", "initialization", "aggregation", "placement")
LONGER = 4

TRAINED_LONGER = '''"""How much do the bases gain from longer training?"""
from tadaconv.table import Row, Table, load_table

BASES = {{row.temporal.model_dump_json(): row for row in (load_table(name).table.base for name in {tables!r})}}
ROWS = [Row(row.name, row.temporal) for row in BASES.values()]
TABLE = Table(base=ROWS[0], rows=ROWS[1:])
'''
LONGER_REGIME = '''"""A regime with more epochs."""
from tadaconv.regime import load_regime

REGIME = load_regime({regime!r}).but(schedule__epochs=load_regime({regime!r}).schedule.epochs * {longer})
'''


def measured(export: Export) -> dict[str, Any]:
    """What the results of a table in a regime can tell."""
    scores, summary, claims = scores_by_seed(export), summarise(export), verdicts(export)
    pairs = [(line.better, line.worse) for line in claims.itertuples()]
    pairs += [(row, versus) for row, versus in summary[["row", "versus"]].itertuples(index=False) if versus]
    differences = [(scores.loc[one] - scores.loc[other]).dropna().to_numpy() for one, other in pairs]
    detectable = [st.detectable_effect(st.standard_deviation(d), len(d)) for d in differences]
    seconds = export.cells["seconds"]
    return {
        "decided": int((claims["verdict"] != "undecided").sum()),
        "claims": len(claims),
        "detectable": float(np.nanmedian(detectable)),
        "best": float(summary["top1_mean"].max()),
        "seed_sd": float(summary["top1_sd"].median()),
        "minutes": float(seconds.sum() / 60),
        "cells": len(seconds),
    }  # fmt: skip


def gains(regime: str, seeds: int, workers: int, out: Path) -> dict[str, float]:
    """By name of a base, its gain in points from training longer, the mean over seeds."""
    table, longer = out / "bases.py", out / f"{regime}_longer.py"
    table.write_text(TRAINED_LONGER.format(tables=TABLES))
    longer.write_text(LONGER_REGIME.format(regime=regime, longer=LONGER))
    means = [
        scores_by_seed(run_table(table, regime=name, seeds=seeds, workers=workers, out=out)).mean(axis=1)
        for name in (regime, longer)
    ]
    return {str(row): float(gain) for row, gain in (means[1] - means[0]).items()}


def cell_seconds(regimes: list[str], repeats: int = 4) -> dict[str, dict[str, float]]:
    """CPU seconds of a cell by row and regime, the median of cells that are run in turn."""
    table = load_table(TABLES[0]).table
    rows = [table.base, table.row("no calibration (TSN)")]
    taken: dict[str, dict[str, list[float]]] = {row.name: {name: [] for name in regimes} for row in rows}
    for seed in range(repeats):
        for row in rows:
            for name in regimes if seed % 2 else regimes[::-1]:
                experiment = row.cell(load_regime(name), seed).experiment
                started = time.process_time()
                run(experiment, "cpu")
                taken[row.name][name].append(time.process_time() - started)
    return {row: {name: median(seconds) for name, seconds in of.items()} for row, of in taken.items()}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regimes", nargs="+", default=["quick_1", "quick"], help="the baseline first")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/power"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "seeds": arguments.seeds, "environment": environment(resolve_device("cpu")),
        "tables": {name: {} for name in TABLES}, "gains": {},
    }  # fmt: skip
    for table in TABLES:
        for regime in arguments.regimes:
            export = run_table(
                table, regime=regime, seeds=arguments.seeds, workers=arguments.workers, out=arguments.out
            )
            result["tables"][table][regime] = measured(export)
    result["cell_seconds"] = cell_seconds(arguments.regimes)
    for regime in arguments.regimes:
        result["gains"][regime] = gains(regime, arguments.seeds, arguments.workers, arguments.out)
    (ROOT / "benchmarks" / "results" / "power.json").write_text(json.dumps(result, indent=1) + "\n")
    for line in rendered(result):
        print(line)


def rendered(result: dict[str, Any]) -> list[str]:
    """The table of the module's docstring, a line a table and regime, then the totals."""
    lines = [
        "| table | regime | decided | detectable | best | seed sd | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    by_regime: dict[str, list[dict[str, Any]]] = {}
    for table, regimes in result["tables"].items():
        for regime, of in regimes.items():
            by_regime.setdefault(regime, []).append(of)
            lines.append(
                f"| {table} | {regime} | {of['decided']} of {of['claims']} | {of['detectable']:.1f} | "
                f"{of['best']:.1f} | {of['seed_sd']:.2f} | {of['minutes']:.1f} |"
            )
    for regime, tables in by_regime.items():
        decided, claims = sum(of["decided"] for of in tables), sum(of["claims"] for of in tables)
        lines.append(
            f"| all | {regime} | {decided} of {claims} | {median(of['detectable'] for of in tables):.1f} (median) | "
            f"{max(of['best'] for of in tables):.1f} | {median(of['seed_sd'] for of in tables):.2f} | "
            f"{sum(of['minutes'] for of in tables):.1f} |"
        )
    for row, seconds in result["cell_seconds"].items():
        shown = ", ".join(f"{regime} {value:.1f}" for regime, value in seconds.items())
        lines.append(f"CPU seconds of a cell of {row}: {shown}")
    for regime, gain in result["gains"].items():
        shown = ", ".join(f"{row} {points:+.1f}" for row, points in gain.items())
        lines.append(f"{regime}, trained {LONGER} times as long, in points: {shown}")
    return lines


if __name__ == "__main__":
    main()
