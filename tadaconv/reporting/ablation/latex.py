r"""The table for a paper: a ``tabular`` with booktabs rules that compiles where it is ``\input``, in every engine."""

from collections.abc import Iterable

import pandas as pd

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.answer import answer
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.summary import compares_apart, summarise
from tadaconv.reporting.ablation.table import columns
from tadaconv.reporting.ablation.text import latex_notes, legend, what_was_run
from tadaconv.reporting.ablation.text import title as title_of
from tadaconv.reporting.core.latex import comment, kind_of, latex_rows
from tadaconv.sequential import SeedDesign


def latex_report(export: Export, *, paper: bool) -> str:
    """The LaTeX table of an export with its heading and notes; with ``paper`` the paper's numbers beside ours."""
    heading = f"{title_of(export.manifest)} Regime {export.manifest.regime}. {what_was_run(export)}"
    notes = [*filter(None, [answer(export)]), *latex_notes(export, paper=paper)]
    return latex_table(
        summarise(export), export.manifest.base, heading, notes, paper=paper, metric=export.metric,
        design=export.manifest.design,
    )  # fmt: skip


def latex_table(
    summary: pd.DataFrame,
    base: str,
    title: str,
    notes: Iterable[str] = (),
    *,
    paper: bool = True,
    metric: Metric = TOP1,
    design: SeedDesign | None = None,
) -> str:
    """The rows of ``summary`` as LaTeX; needs the package booktabs and no other.

    Args:
        summary: Of :func:`~.summary.summarise`; rows without a result stay.
        base: Name of the base row.
        title: The first line of comment.
        notes: Further lines of comment.
        paper: Whether the paper's numbers are shown, with their sources in comments.
        metric: The metric that the cells are evaluated by.
        design: How many seeds the table is run with.
    """
    known = summary.dropna(subset=[f"paper_{metric.name}"]) if paper else summary[:0]
    fits = not compares_apart(summary, base) and known.empty
    comments = [
        title,
        "Needs \\usepackage{booktabs}. n: seeds.",
        "As wide as the text of an article in one column: in two columns, put it into table*."
        if fits
        else "Wider than the text of an article in one column, 345 pt: put it into table*, or leave out a column.",
        *legend(summary, metric, design=design),
        *notes,
    ]
    if any(kind_of(character) == "other" for name in summary["row"] for character in name):
        comments.append("Some names have characters that pdfLaTeX lacks: use XeLaTeX or LuaLaTeX with a font for them.")
    lines = [
        *map(comment, comments),
        "\\begingroup\\setlength{\\tabcolsep}{3.5pt}",
        *latex_rows(columns(summary, base, metric, "latex", paper=paper), summary.to_dict("records")),
        "\\endgroup",
        *(comment(f"paper, {row['row']}: {row['paper_source']}") for row in known.to_dict("records")),
    ]
    return "\n".join(lines) + "\n"
