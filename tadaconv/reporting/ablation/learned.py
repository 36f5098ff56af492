"""What a table has taught, and at which cost: verdicts by the hours of its cells, and what other designs would take."""

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from tadaconv import statistics as st
from tadaconv.reporting.ablation.data import Export, Learned
from tadaconv.reporting.ablation.summary import base_verdicts, first_rows, planned_cells, summarise, verdicts
from tadaconv.sequential import SeedDesign


def seeds_to_decide(effect: float, sd: float, design: SeedDesign | None) -> int | None:
    """The fewest seeds at which a fixed design decides a comparison with 80 % power, either way.

    It shows a difference, or where a design is stored, that there is none of interest. None where ``sd`` is unknown, or
    where more than 1000 seeds would be needed.

    Args:
        effect: the true mean difference.
        sd: standard deviation of the paired differences.
        design: of the table.
    """
    different = st.seeds_needed(effect, sd)
    equivalent = None if design is None else st.seeds_for_equivalence(effect, sd, design.smallest)
    return min((n for n in (different, equivalent) if n is not None), default=None)


def learned(export: Export) -> Learned:
    """What the cells of a table cost, what they decided, and what it would take otherwise.

    Cells that rows share count once, and rows that are the same experiment are no comparison.
    """
    first = first_rows(export.manifest)
    claims, rows = (_of_two_experiments(lines, first) for lines in (verdicts(export), base_verdicts(export)))
    by_pair = {
        frozenset((first[line["better"]], first[line["worse"]])): line
        for line in pd.concat([claims, rows]).to_dict("records")
    }
    decided = [line for line in by_pair.values() if line["verdict"] != "undecided"]
    status = export.cells.drop_duplicates("cell")["status"]
    return Learned(
        num_cells=int(status.isin(["finished", "failed"]).sum()),
        num_failed=int((status == "failed").sum()),
        **_cost(export),
        claims_decided=int((claims["verdict"] != "undecided").sum()),
        num_claims=len(claims),
        rows_decided=int((rows["verdict"] != "undecided").sum()),
        num_rows=len(rows),
        pairs_decided=len(decided),
        **_rest(export, [line for line in by_pair.values() if line["verdict"] == "undecided"]),
        **_fixed(export, decided),
        **_saved(export),
    )


def _of_two_experiments(lines: pd.DataFrame, first: Mapping[str, str]) -> pd.DataFrame:
    return lines[lines["better"].map(first) != lines["worse"].map(first)]


def _gpus(environment: Mapping[str, str]) -> int:
    return int(environment.get("gpus_per_cell", 1)) if environment.get("cuda") else 1


def _cost(export: Export) -> dict[str, Any]:
    """The hours of all cells, and of which device."""
    seconds, devices = 0.0, set()
    cells = zip(export.manifest.cells, export.cells["seconds"], strict=True)
    took_of = {cell.cell: (cell, took) for cell, took in cells}
    for cell, took in took_of.values():
        if cell.status == "finished":
            seconds += took * _gpus(cell.environment)
            devices.add("GPU" if cell.environment.get("cuda") else "CPU")
        elif cell.status == "failed" and cell.started is not None and cell.ended is not None:
            seconds += (cell.ended - cell.started).total_seconds()
    return {"hours": seconds / 3600, "device": " and ".join(sorted(devices)) or "CPU"}


def _hours_by_row(export: Export) -> dict[str, float]:
    """The hours of a cell of each row that trains; of one without a result, the mean of the others."""
    hours = pd.Series(
        [
            seconds * _gpus(cell.environment) / 3600
            for cell, seconds in zip(export.manifest.cells, export.cells["seconds"], strict=True)
        ],
        index=export.cells["row"],
        dtype=float,
    )
    by_row = hours.groupby(level=0).mean()
    rows = [row.name for row in export.manifest.rows if not row.ensemble]
    return dict(zip(rows, by_row.reindex(rows).fillna(by_row.mean()).fillna(0.0).tolist(), strict=True))


def _trained(export: Export, rows: Collection[str]) -> list[str]:
    """The rows whose cells ``rows`` consist of: of an ensemble, its parts; of rows that share cells, the first."""
    first = first_rows(export.manifest)
    parts = {row.name: row.ensemble or (row.name,) for row in export.manifest.rows}
    return list(dict.fromkeys(first[part] for row in rows for part in parts[row]))


def _rest(export: Export, undecided: Collection[Mapping[Any, Any]]) -> dict[str, Any]:
    """What it would take to decide what is open."""
    num_of_row = summarise(export).set_index("row")["n"].to_dict()
    design, ensembles = export.manifest.design, {row.name for row in export.manifest.rows if row.ensemble}
    last = design.last if design is not None and design.is_adaptive else None
    needed_of: dict[str, int] = {}
    anew_of: dict[str, int] = {}
    num_known = num_anew = num_beyond = num_unknown = 0
    for line in undecided:
        needed = seeds_to_decide(line["effect"], line["sd"], design)
        num_unknown += not line["sd"] > 0
        num_beyond += bool(line["sd"] > 0 and needed is None)
        if needed is not None:
            # So many have not decided it, whatever the estimate is.
            needed = max(needed, line["n"] + 1)
            # An adaptive design has no seeds for the sake of an ensemble.
            is_anew = last is not None and (needed > last or bool(ensembles & {line["better"], line["worse"]}))
            num_anew, num_known = num_anew + is_anew, num_known + (not is_anew)
            of_rows = anew_of if is_anew else needed_of
            for row in _trained(export, (line["better"], line["worse"])):
                of_rows[row] = max(needed, of_rows.get(row, 0))
    hours = _hours_by_row(export)
    further = {row: max(0, needed - num_of_row[row]) for row, needed in needed_of.items()}
    trained = [{line["better"], line["worse"]} for line in undecided]
    open_rows = set().union(*(pair for pair in trained if not pair & ensembles))
    return {
        "rest_pairs": num_known,
        "rest_seeds": max(needed_of.values(), default=0),
        "rest_cells": sum(further.values()),
        "rest_hours": sum(number * hours[row] for row, number in further.items()),
        "rest_beyond": num_beyond,
        "rest_unknown": num_unknown,
        "is_exhausted": last is not None and bool(open_rows) and all(num_of_row[row] >= last for row in open_rows),
        "new_run_pairs": num_anew,
        "new_run_seeds": max(anew_of.values(), default=0),
        "new_run_cells": sum(anew_of.values()),
        "new_run_hours": sum(number * hours[row] for row, number in anew_of.items()),
    }


def _fixed(export: Export, decided: Collection[Mapping[Any, Any]]) -> dict[str, Any]:
    """The seeds of every row that decide as much in a fixed design."""
    needed = [seeds_to_decide(line["effect"], line["sd"], export.manifest.design) for line in decided]
    seeds = max((number for number in needed if number is not None), default=None)
    if seeds is None:
        return {"fixed_seeds": None, "fixed_hours": None}
    hours, has_run = _hours_by_row(export), set(_trained(export, export.cells["row"]))
    return {
        "fixed_seeds": seeds,
        "fixed_hours": seeds * sum(of_cell for row, of_cell in hours.items() if row in has_run),
    }


def _saved(export: Export) -> dict[str, Any]:
    """The cells that an adaptive design did without, of the rows that were run."""
    design = export.manifest.design
    if design is None or not design.is_adaptive:
        return {"saved_cells": None, "saved_hours": None}
    seeds, hours = planned_cells(export.manifest), _hours_by_row(export)
    saved = {row: max(0, design.last - len(seeds[row])) for row in _trained(export, export.cells["row"])}
    return {
        "saved_cells": sum(saved.values()),
        "saved_hours": sum(number * hours[row] for row, number in saved.items()),
    }
