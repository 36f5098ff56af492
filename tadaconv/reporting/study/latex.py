"""The table of a study for a paper: the Pareto front, the best and the configurations tried first."""

from typing import Any

import pandas as pd

from tadaconv.metrics import Metric
from tadaconv.reporting.core.format import count_scale, in_unit, scaled, score
from tadaconv.reporting.core.latex import escape, tabular
from tadaconv.reporting.core.text import listed_clips, missing_notes
from tadaconv.reporting.study import text
from tadaconv.reporting.study.data import StudyExport
from tadaconv.reporting.study.text import BIASED

_WIDTH = 0.58
"""Of the line, for names and differences: the numbers beside them take the rest in an article of one column."""


def latex_table(export: StudyExport) -> str:
    """The trials on the front and those tried first by cost as LaTeX; needs the package booktabs and no other."""
    finished = export.trials[export.trials["status"] == "finished"]
    rows = finished[finished["front"] | finished["first"] | finished["best"]].sort_values(["macs", "trial"])
    unit, metric = count_scale(rows["macs"].dropna()), export.metric
    manifest = export.manifest
    became = text.what_became(export.trials, manifest.num_infeasible)
    opening = f"{text.title(manifest)} Regime {manifest.regime}. {became}"
    on_new_seeds = f"confirm it with: {manifest.confirm_with}"
    if manifest.confirmation is not None:
        on_new_seeds = f"for results on new seeds see {manifest.confirmation}."
    notes = [
        " ".join(opening.split()),
        f"The {metric.noun} of the best of many trials is {BIASED}; {on_new_seeds}",
        f"Needs \\usepackage{{booktabs}}. Bold: the {metric.superlative} of all finished trials.",
        *filter(None, [metric.hint]),
        *missing_notes(listed_clips(manifest.conditions.get("data", {}))),
        "Rows: the Pareto front and the trials tried first, by cost; below each name, its differences from the base.",
    ]
    heads = ("", "$n$", in_unit(escape(metric.label), escape(metric.unit)), in_unit("MACs", unit[1]))
    table = tabular(
        f"p{{{_WIDTH}\\linewidth}}rrr",
        [heads],
        [_fields(row, unit[0], metric) for row in rows.to_dict("records")],
        "\\addlinespace",
    )
    return "\n".join([*(f"% {note}" for note in notes), *table]) + "\n"


def _fields(row: dict[Any, Any], unit: float, metric: Metric) -> list[str]:
    name = escape(row["name"])
    marked = f"\\textbf{{{name}}}" if row["best"] else name
    return [
        f"\\raggedright {marked} \\newline {{\\footnotesize {escape(row['what'])}}}",
        str(row["num_seeds"]),
        escape(score(row[metric.name], metric)),
        escape(scaled(None if pd.isna(row["macs"]) else int(row["macs"]), unit)),
    ]
