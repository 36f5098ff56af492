"""Where the numbers of a report come from: every cell with its experiment, its code, its machine and its time."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tadaconv.metrics import METRICS, TOP1
from tadaconv.reporting.core.export import CellOrigin
from tadaconv.reporting.core.page import Block, render
from tadaconv.run_options import precision_of
from tadaconv.spec import PROTOCOL
from tadaconv.text import listed, plural

LEFT_OUT = {
    "changed": "of a row or regime that has changed since.",
    "protocol": f"from a version of tadaconv with another protocol than this version's, {PROTOCOL}.",
}
"""Why a finished cell of the same study is not shown, by the reason's name in ``report.json``."""

NAMES = {
    "dirty": "uncommitted code", "clips": "form of clips", "fused_kernels": "fused kernels",
    "gpus_per_cell": "processes a cell",
}  # fmt: skip
"""What an entry of an environment is called, where its own name is no words."""


def provenance(
    origins: Sequence[CellOrigin],
    cells: Sequence[Mapping[Any, Any]],
    left_out: Mapping[str, int] | None = None,
    num_cells: int = 1000,
) -> Block:
    """Versions and devices, then every cell below its row: experiment, seed, key, times, worker and status.

    Args:
        origins: the cells' origins.
        cells: the lines of the frame of cells, one for each origin and in their order, with a column of their metric.
        left_out: finished cells that are not shown, by reason.
        num_cells: above this many, the page holds the experiments alone and report.json the cells.
    """
    of_cells = [tuple(environment.items()) for environment in _environments(origins)]
    counts = Counter(environment for environment in of_cells if environment)
    numbers = {environment: number for number, environment in enumerate(counts, 1)}
    rows: dict[str, dict[str, Any]] = {}
    for origin, cell, environment in zip(origins, cells, of_cells, strict=True):
        row = rows.setdefault(str(cell["row"]), {"experiment": _without_seed(origin.experiment), "cells": []})
        number = numbers.get(environment)
        row["cells"].append({**cell, "origin": origin, "times": _times(origin), "environment": number})
    html = render(
        "provenance",
        environments=[(dict(environment), count) for environment, count in counts.items()],
        names=NAMES,
        warnings=warnings(origins, left_out or {}),
        rows=rows,
        metric=next((metric for metric in METRICS.values() if cells and metric.name in cells[0]), TOP1),
        with_cells=len(origins) <= num_cells,
    )
    text = [f"{plural(count, 'cell')}: {dict(environment)}" for environment, count in counts.items()]
    return Block(html, "\n".join([*text, *warnings(origins, left_out or {})]))


def warnings(origins: Sequence[CellOrigin], left_out: Mapping[str, int]) -> list[str]:
    """What a reader has to know before trusting the numbers: code that no commit holds, cells of different origins."""
    notes = []
    num_dirty = sum(bool(origin.environment.get("dirty")) for origin in origins)
    if num_dirty:
        notes.append(
            f"{plural(num_dirty, 'cell')} ran on code with uncommitted changes, which no commit contains; marked "
            "\u201cuncommitted code\u201d below."
        )
    environments = [environment for environment in _environments(origins) if environment]
    varied = sorted(key for key in {k for e in environments for k in e} if _differ(environments, key))
    if varied:
        notes.append(
            f"The cells differ in {listed([NAMES.get(key, key) for key in varied])}, so their numbers may not be "
            "comparable to the last digit; the list of cells has the environment of each."
        )
    for reason, number in left_out.items():
        notes.append(f"Left out: {plural(number, 'finished cell')}, {LEFT_OUT[reason]}")
    return notes


def _environments(origins: Sequence[CellOrigin]) -> list[dict[str, str]]:
    """The cells' environments; where some ran on a GPU, with the precision of those too that do not record it."""
    environments = [origin.environment for origin in origins]
    if not any(environment.get("cuda") for environment in environments):
        return environments
    return [
        dict(sorted({**environment, "precision": precision_of(environment)}.items())) if environment else environment
        for environment in environments
    ]


def _differ(environments: Sequence[Mapping[str, str]], key: str) -> bool:
    """Whether an entry has several values; what is not known, as the commit of a wheel, is no other value."""
    known = [entries for entries in environments if key in entries or key not in ("commit", "clips")]
    return len({entries.get(key, "") for entries in known}) > 1


def _without_seed(experiment: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in experiment.items() if name != "seed"}, indent=1, sort_keys=True)


def _times(origin: CellOrigin) -> str:
    """When the cell began and ended, in UTC: ``2026-03-01 12:00 to 12:01``; empty where it is not known."""
    if origin.ended is None:
        return ""
    ended = f"{origin.ended:%Y-%m-%d %H:%M}"
    if origin.started is None:
        return ended
    began = f"{origin.started:%Y-%m-%d %H:%M}"
    return f"{began} to {ended.removeprefix(began[:11])}" if began != ended else began
