"""The columns of an ablation table, for a terminal, a page and LaTeX."""

from functools import partial
from typing import Literal

import pandas as pd

from tadaconv import statistics as st
from tadaconv.metrics import Metric
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.learned import seeds_to_decide
from tadaconv.reporting.ablation.summary import compares_apart, summarise
from tadaconv.reporting.ablation.text import OTHER_RECIPE, verdict_in_words
from tadaconv.reporting.core.format import anchor, count_scale, difference, p_value, published, scaled, score, seconds
from tadaconv.reporting.core.table import Cell, Column, Line, bounds
from tadaconv.text import plural


def columns(
    summary: pd.DataFrame,
    base: str,
    metric: Metric,
    medium: Literal["terminal", "page", "latex"],
    *,
    paper: bool = True,
) -> list[Column]:
    """The columns of a table with the lines of ``summary``.

    Scores are bold or underlined by :func:`~.summary.standings`. Where rows are compared with different rows, the name
    is below each difference, in LaTeX in a column; else the base is tagged as such.

    Args:
        summary: Of :func:`~.summary.summarise`.
        base: Name of the base row.
        metric: The metric that the cells are evaluated by.
        medium: Where the table is shown. A page has more below its numbers, and the columns of the standard deviation
            and of the seconds per cell.
        paper: Whether the published numbers are shown.
    """
    apart, on_page = compares_apart(summary, base), medium == "page"
    params, macs = (count_scale(summary[name].dropna()) for name in ("params", "macs"))
    compared = bool(summary["paper_delta_mean"].notna().any())
    in_unit, in_points = partial(score, metric=metric), partial(difference, metric=metric)

    def name(row: Line) -> Cell:
        tags = ("base" if row["reference"] and not apart else "", row["state"])
        return Cell(row["row"], tags=tuple(filter(None, tags)))

    def num_seeds(row: Line) -> Cell:
        n = str(row["n"]) if row["n"] == row["num_planned"] else f"{row['n']} of {row['num_planned']}"
        return Cell(n, link=anchor(row["row"]) if row["status"] != "missing" and not row["ensemble"] else "")

    def mean(row: Line) -> Cell:
        mark = row["standing"] if row["standing"] in ("best", "tie") else ""
        return Cell(in_unit(row[metric.column("mean")]), bounds(row, metric.name, in_unit), mark)

    def change(row: Line) -> Cell:
        notes = {
            plural(row["num_pairs"], "pair"): row["other_seeds"],
            f"to {row['versus']}": apart and row["versus"] and medium != "latex",
        }
        sign = OTHER_RECIPE if row["across_recipes"] and row["num_pairs"] else ""
        shown = tuple(note for note, is_shown in notes.items() if is_shown)
        return Cell(in_points(row["delta_mean"]) + sign, bounds(row, "delta", in_points), notes=shown)

    def of_paper(row: Line) -> Cell:
        ends, is_alike = bounds(row, "paper_delta", in_points), row["paper_delta_mean"] == row["paper_delta_mean"]
        ours = f"ours {in_points(row['paper_delta_mean'])}" + (f" [{', '.join(ends)}]" if on_page and ends else "")
        notes = {
            ours: is_alike and medium != "latex",
            "order only": on_page and compared and row["paper_source"] and row["n"] and not is_alike,
            row["paper_source"]: on_page and row["paper_source"],
        }
        shown = tuple(note for note, is_shown in notes.items() if is_shown)
        return Cell(published(row[f"paper_{metric.name}"], metric), notes=shown)

    has_versus, has_paper = bool(summary["versus"].any()), bool(summary[f"paper_{metric.name}"].notna().any())
    shown = [
        (Column("row", name, holds_names=True), True),
        (Column("n", num_seeds), True),
        (Column(metric.label, mean, metric.unit), True),
        (
            Column("SD", lambda row: in_unit(row[metric.column("sd")]), metric.unit_of_differences),
            on_page and bool((summary["n"] > 1).any()),
        ),
        (Column("\u0394" if apart else "\u0394 to base", change, metric.unit_of_differences), has_versus),
        (Column("to", lambda row: row["versus"] or "\u2013", holds_names=True), apart and medium == "latex"),
        (Column("params", lambda row: scaled(row["params"], params[0]), params[1]), True),
        (Column("MACs", lambda row: scaled(row["macs"], macs[0]), macs[1]), True),
        (Column("paper", of_paper, metric.unit), paper and has_paper),
        (Column("seconds per cell", lambda row: seconds(row["seconds"])), on_page),
    ]
    return [column for column, is_shown in shown if is_shown]


def columns_of_tests(export: Export) -> list[Column]:
    """The columns of the tests of a table, with the lines of :func:`~.summary.base_verdicts` with two pairs or more."""
    metric, design, summary = export.metric, export.manifest.design, summarise(export)
    apart = compares_apart(summary, export.manifest.base)
    is_adaptive = design is not None and design.is_adaptive
    has_p = is_adaptive or bool((summary["num_pairs"] >= st.seeds_for_sign_flip()).any())

    def p(line: Line) -> str:
        return p_value(line["p_holm"]).removeprefix("p = ").removeprefix("p ") if line["p"] == line["p"] else "\u2013"

    def needed(line: Line) -> str:
        if line["verdict"] != "undecided":
            return str(line["num_needed"])
        seeds = seeds_to_decide(line["effect"], line["sd"], design)
        return "\u2013" if not line["sd"] > 0 else f"about {max(seeds, line['n'] + 1)}" if seeds else "over 1000"

    shown = [
        (Column("row", lambda line: str(line["text"]), holds_names=True), True),
        (Column("to", lambda line: str(line["worse"]), holds_names=True), apart),
        (Column("pairs", lambda line: str(line["n"])), True),
        (Column("SD of \u0394", lambda line: score(line["sd"], metric), metric.unit_of_differences), True),
        (Column("p", p), has_p),
        (Column("verdict", lambda line: verdict_in_words(line["verdict"], design, metric)), True),
        (Column("seeds to decide", needed), True),
    ]
    return [column for column, is_shown in shown if is_shown]
