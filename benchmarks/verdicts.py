"""Simulates tables, and counts how often their verdicts are false, under fixed and under adaptive numbers of seeds.

    python benchmarks/verdicts.py [--tables 10000]

The rows and claims are those of `ablations/context.py`. All rows of a seed share an effect, which cancels in paired
differences; what remains has a standard deviation of 1 between the seeds of a difference, the unit of all that
follows. The smallest difference of interest is 1. A row of an adaptive table gets one more seed while one of its
comparisons, claims or those to the base, is undecided. The noise of rows is

- normal
- heavy-tailed: Student's t of 3 degrees of freedom
- skewed: exponential, to opposite sides in the two rows of a claim, which is the worst for a t test
- rounded: normal, and scores are rounded to a quarter of the standard deviation of differences
- normal, and one cell in twenty fails at random

Prints a table and writes results/verdicts.json. It takes half a minute.
"""

import argparse
import json
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tadaconv.metrics import ROUNDING_ERROR
from tadaconv.sequential import SeedDesign
from tadaconv.statistics import CONFIDENCE
from tadaconv.table import load_table

ROOT = Path(__file__).resolve().parent.parent
SMALLEST = 1.0
DESIGNS = {
    str(design): design
    for design in (SeedDesign(first=first, last=last, smallest=SMALLEST) for first, last in ((3, 3), (12, 12), (3, 12)))
}
MOST_SEEDS = 12

TABLE = load_table("context").table
ROWS = [TABLE.base.name, *(row.name for row in TABLE.rows)]
CLAIMS = [(ROWS.index(claim.better), ROWS.index(claim.worse)) for claim in TABLE.claims]
COMPARISONS = np.array([*CLAIMS, *((row, 0) for row in range(1, len(ROWS)))])
"""Pairs of rows, (C, 2); the claims are the first."""
FAMILIES = {"claims": slice(len(CLAIMS)), "rows": slice(len(CLAIMS), None)}
"""Comparisons that are adjusted together."""

DEPTH = {"(3,3) + global": 0, "no calibration (TSN)": 1, "(3,3)": 1, "(1,1) + global": 1}
"""Of rows below the best where each claim is true; 2 for the others. The rows of a claim differ by 1."""
DEPTHS = np.array([DEPTH.get(name, 2) for name in ROWS])
SCENARIOS = {
    "no differences": np.zeros(len(ROWS)),
    "differences of 0 or the smallest": -SMALLEST * (np.arange(len(ROWS)) % 2),
    "differences of 0 to 2": -np.array([0, 2, 1.5, 1, 0.5, 0.5, 0.25, 0, 1, 0.25]),
}
"""Means of rows."""
EFFECTS = (0.5, 1.0, 1.5, 2.0)

UNDECIDED, ABOVE, BELOW, EQUIVALENT = range(4)


def normal(draws: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal."""
    return draws.normal(size=shape)


def heavy_tailed(draws: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Student's t of 3 degrees of freedom, at a variance of 1."""
    return draws.standard_t(3, size=shape) / sqrt(3)


def skewed(draws: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Exponential, to the side that the depth of a row gives, (T, R, S)."""
    return (draws.exponential(size=shape) - 1) * np.where(DEPTHS == 1, -1, 1)[:, None]


def with_failures(draws: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal, and NaN in one case of twenty."""
    return np.where(draws.random(shape) < 0.05, np.nan, draws.normal(size=shape))


NOISES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]] = {
    "normal": normal,
    "heavy-tailed": heavy_tailed,
    "skewed": skewed,
    "rounded": normal,
    "5 % failed": with_failures,
}


def simulated_scores(noise: str, means_R: NDArray[np.float64], num_tables: int, seed: int) -> NDArray[np.float64]:
    """Scores of tables, (tables, rows, seeds); NaN where a cell failed.

    Args:
        noise: one of ``NOISES``.
        means_R: true means of the rows.
        num_tables: tables to draw.
        seed: of the draws.
    """
    draws = np.random.default_rng(seed)
    shared_T1S = draws.normal(size=(num_tables, 1, MOST_SEEDS))
    own_TRS = NOISES[noise](draws, (num_tables, len(means_R), MOST_SEEDS)) / sqrt(2)
    scores_TRS = means_R[:, None] + shared_T1S + own_TRS
    return np.round(scores_TRS * 4) / 4 if noise == "rounded" else scores_TRS


class Course(NamedTuple):
    """What is known of differences after each seed, arrays of (..., seeds)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    verdict: NDArray[np.int_]
    p: NDArray[np.float64]


def course(design: SeedDesign, x: NDArray[np.float64]) -> Course:
    """What `SeedDesign.judge` says of differences after each seed, for many at once.

    A fixed design looks after the last seed alone.

    Args:
        design: when it looks.
        x: differences by seed, (..., seeds); NaN where there is none.
    """
    known = ~np.isnan(x)
    n = known.cumsum(axis=-1)
    filled, enough = np.where(known, x, 0), np.maximum(n, 2)
    mean = filled.cumsum(axis=-1) / np.maximum(n, 1)
    sd = np.sqrt(np.maximum((filled**2).cumsum(axis=-1) - n * mean**2, 0) / (enough - 1))
    least = np.minimum.accumulate(np.where(known, x, np.inf), axis=-1)
    most = np.maximum.accumulate(np.where(known, x, -np.inf), axis=-1)
    fixed = not design.is_adaptive
    look = known & (n >= (2 if fixed else design.first)) & (most - least > ROUNDING_ERROR)
    if fixed:
        look[..., :-1], look[..., -1] = False, (n[..., -1] > 1) & (most - least > ROUNDING_ERROR)[..., -1]
    t = np.divide(mean * np.sqrt(n), sd, out=np.zeros_like(mean), where=look)
    critical, p_at_look = np.zeros_like(mean), np.ones_like(mean)
    for num in np.unique(n[look]):
        here = look & (n == num)
        critical[here] = special.stdtrit(num - 1, (1 + CONFIDENCE) / 2) if fixed else design.critical_value(num)
        p_at_look[here] = 2 * special.stdtr(num - 1, -abs(t[here])) if fixed else design.p_value(num, t[here])
    half = critical * sd / np.sqrt(np.maximum(n, 1))

    low, high, verdict = (np.empty_like(mean), np.empty_like(mean), np.zeros(x.shape, dtype=int))
    lower, upper = np.full(x.shape[:-1], -np.inf), np.full(x.shape[:-1], np.inf)
    decided = np.full(x.shape[:-1], UNDECIDED)
    for seed in range(x.shape[-1]):
        both = (
            np.maximum(lower, mean[..., seed] - half[..., seed]),
            np.minimum(upper, mean[..., seed] + half[..., seed]),
        )
        taken = look[..., seed] & (both[0] <= both[1])
        lower, upper = np.where(taken, both[0], lower), np.where(taken, both[1], upper)
        equivalent = (lower > -design.smallest) & (upper < design.smallest)
        now = np.select([lower > 0, upper < 0, equivalent], [ABOVE, BELOW, EQUIVALENT], UNDECIDED)
        decided = np.where(decided == UNDECIDED, now, decided)
        low[..., seed], high[..., seed], verdict[..., seed] = lower, upper, decided
    return Course(low, high, np.clip(mean, low, high), verdict, np.minimum.accumulate(p_at_look, axis=-1))


def seeds_of_rows(design: SeedDesign, verdict_TCS: NDArray[np.int_]) -> NDArray[np.int_]:
    """The seeds that each row gets, (tables, rows): the first, and more while a comparison of it is undecided."""
    open_TCS = verdict_TCS == UNDECIDED
    # Verdicts stay, so the seeds after which there was none are the first ones.
    wanted_TC = np.clip(open_TCS.sum(axis=-1) + 1, design.first, design.last)
    num_TR = np.zeros((len(verdict_TCS), len(ROWS)), dtype=int)
    for comparison, pair in enumerate(COMPARISONS):
        for row in pair:
            num_TR[:, row] = np.maximum(num_TR[:, row], wanted_TC[:, comparison])
    return num_TR


def holm(p_TC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values of each table, as :func:`tadaconv.statistics.holm`; 1 where there was no test."""
    order = np.argsort(p_TC, axis=1)
    scaled = np.take_along_axis(p_TC, order, axis=1) * np.arange(p_TC.shape[1], 0, -1)
    adjusted = np.empty_like(p_TC)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(scaled, axis=1), 1), axis=1)
    return adjusted


def rates(design: SeedDesign, scores_TRS: NDArray[np.float64], means_R: NDArray[np.float64]) -> dict[str, float]:
    """What became of simulated tables, as fractions.

    Args:
        design: when rows get further seeds.
        scores_TRS: of the tables; seeds beyond the last of the design are not used.
        means_R: true means of the rows.
    """
    better, worse = COMPARISONS.T
    scores_TRS = scores_TRS[:, :, : design.last]
    all_looks = course(design, scores_TRS[:, better] - scores_TRS[:, worse])
    true_C = means_R[better] - means_R[worse]
    num_TR = seeds_of_rows(design, all_looks.verdict)
    last_TC1 = np.minimum(num_TR[:, better], num_TR[:, worse])[..., None] - 1
    low, high, mean, verdict, p = (np.take_along_axis(values, last_TC1, axis=-1)[..., 0] for values in all_looks)

    false = (verdict == ABOVE) & (true_C <= 0) | (verdict == BELOW) & (true_C >= 0)
    false |= (verdict == EQUIVALENT) & (np.abs(true_C) >= design.smallest)
    right = (verdict == ABOVE) & (true_C > 0) | (verdict == BELOW) & (true_C < 0)
    claims, is_known = FAMILIES["claims"], np.isfinite(low)
    covered = (low <= true_C) & (true_C <= high)
    covered_always = ((all_looks.low <= true_C[:, None]) & (true_C[:, None] <= all_looks.high)).all(axis=-1)
    found = {
        name: (holm(p[:, family]) < 1 - CONFIDENCE) & (np.sign(mean[:, family]) != np.sign(true_C[family]))
        for name, family in FAMILIES.items()
    }
    return {
        "false_verdicts": float(false[:, claims].mean()),
        "false_verdicts_of_the_worst_claim": float(false[:, claims].mean(axis=0).max()),
        **{f"tables_with_a_false_finding_among_{name}": float(each.any(axis=1).mean()) for name, each in found.items()},
        "coverage": float(covered[is_known].mean()),
        "coverage_at_all_looks": float(covered_always.mean()),
        "right_direction": float(right[:, claims].mean()),
        "equivalent": float((verdict == EQUIVALENT)[:, claims].mean()),
        "cells": float(num_TR.mean() / design.last),
    }


def simulate(num_tables: int) -> dict[str, Any]:
    """All rates, and the power at several differences."""
    error_rates, power = [], []
    for noise in NOISES:
        for seed, (scenario, means_R) in enumerate(SCENARIOS.items()):
            scores_TRS = simulated_scores(noise, means_R, num_tables, seed)
            for name, design in DESIGNS.items():
                of_tables = rates(design, scores_TRS, means_R)
                error_rates.append({"noise": noise, "scenario": scenario, "seeds": name} | of_tables)
    for effect in EFFECTS:
        means_R = -effect * DEPTHS
        scores_TRS = simulated_scores("normal", means_R, num_tables, len(SCENARIOS))
        for name, design in DESIGNS.items():
            power.append({"difference": effect, "seeds": name} | rates(design, scores_TRS, means_R))
    return {"tables": num_tables, "smallest": SMALLEST, "error_rates": error_rates, "power": power}


def printed(simulated: dict[str, Any]) -> str:
    """Tables of the rates, in percent."""
    lines = [
        f"{simulated['tables']:,} tables of {len(ROWS)} rows and {len(CLAIMS)} claims each; in percent",
        "",
        "false, worst: false verdicts of a claim, of the claim with the most",
        "tables, rows:  tables with a false finding after Holm, among the claims, among the rows against the base",
        "cover, looks:  intervals that cover the truth at the end, at all looks",
        "right, equiv:  claims whose verdict is of the right direction, is that of equivalence",
        "cells:         of the most that the design may take",
        "",
    ]
    columns = {
        "false": "false_verdicts",
        "worst": "false_verdicts_of_the_worst_claim",
        "tables": "tables_with_a_false_finding_among_claims",
        "rows": "tables_with_a_false_finding_among_rows",
        "cover": "coverage",
        "looks": "coverage_at_all_looks",
        "right": "right_direction",
        "equiv": "equivalent",
        "cells": "cells",
    }
    heading = f"{'noise':<13} {'true differences':<33} {'seeds':<5} " + " ".join(f"{name:>6}" for name in columns)
    lines += [heading, "-" * len(heading)]
    for of_tables in [*simulated["error_rates"], *simulated["power"]]:
        scenario = of_tables.get("scenario", f"all claims true by {of_tables.get('difference')}")
        values = " ".join(f"{100 * of_tables[key]:6.2f}" for key in columns.values())
        lines.append(f"{of_tables.get('noise', 'normal'):<13} {scenario:<33} {of_tables['seeds']:<5} {values}")
    return "\n".join(lines)


def main() -> None:
    """Simulates, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=10_000)
    simulated = simulate(parser.parse_args().tables)
    print(printed(simulated))
    place = ROOT / "benchmarks" / "results" / "verdicts.json"
    place.write_text(json.dumps(simulated, indent=2) + "\n")


if __name__ == "__main__":
    main()
