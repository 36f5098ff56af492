r"""The table for a paper: a ``tabular`` with booktabs rules that compiles where it is ``\input``, in every engine."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.summary import compares_apart, is_marked, summarise, untested
from tadaconv.reporting.ablation.text import latex_notes, what_was_run
from tadaconv.reporting.ablation.text import title as title_of
from tadaconv.reporting.core.format import count_scale, difference, published, scaled, score, some
from tadaconv.reporting.core.latex import NameColumn, comment, escape, kind_of, name_column, tabular
from tadaconv.text import plural


def latex_report(export: Export, *, paper: bool) -> str:
    """The LaTeX table of an export with its heading and notes; with ``paper`` the paper's numbers beside ours."""
    heading = f"{title_of(export.manifest)} Regime {export.manifest.regime}. {what_was_run(export)}"
    notes = latex_notes(export, paper=paper)
    return latex_table(summarise(export), export.manifest.base, heading, notes, paper=paper, metric=export.metric)


def latex_table(
    summary: pd.DataFrame,
    base: str,
    title: str,
    notes: Iterable[str] = (),
    *,
    paper: bool = True,
    metric: Metric = TOP1,
) -> str:
    """The rows of ``summary`` as LaTeX; needs the package booktabs and no other.

    A score is bold where it is significantly the best of its group, and underlined where it is the best or tied with
    it; see :func:`~.summary.standings`. The base row is named as such; where rows are compared
    with different rows, a column names these instead. Rows without a result stay, with dashes, and ``n`` says of how
    many seeds where some have none. Without ``paper`` the paper's numbers and their sources are left out. ``title``
    and ``notes``, a line each, stand in comments.
    """
    apart = compares_apart(summary, base)
    names, others = name_column(summary["row"]), name_column(summary["versus"], 0.24)
    has_versus = bool(summary["versus"].any())
    published_column, unit = f"paper_{metric.name}", _in_brackets(metric.unit)
    has_paper = paper and bool(summary[published_column].notna().any())
    params, macs = count_scale(summary["params"].dropna()), count_scale(summary["macs"].dropna())
    heads = [
        (names.spec, "", ""),
        ("r", "$n$", ""),
        ("r", escape(metric.label), unit),
        *(
            [("r", "$\\Delta$" if apart else "$\\Delta$ to base", _in_brackets(metric.unit_of_differences))]
            if has_versus
            else []
        ),
        *([(others.spec, "to", "")] if apart else []),
        ("r", "params", f"({params[1]})" if params[1] else ""),
        ("r", "MACs", f"({macs[1]})" if macs[1] else ""),
        *([("r", "paper", unit)] if has_paper else []),
    ]
    rows = [
        [
            _name(names, row, apart),
            str(row["n"]) if row["n"] == row["num_planned"] else f"{row['n']} of {row['num_planned']}",
            _bracketed(_marked(row, metric), *(score(row[metric.column(end)], metric) for end in ("low", "high"))),
            *([_difference(row, metric)] if has_versus else []),
            *([others.cell(row["versus"] or "\u2013")] if apart else []),
            escape(scaled(row["params"], params[0])),
            escape(scaled(row["macs"], macs[0])),
            *([escape(published(row[published_column], metric))] if has_paper else []),
        ]
        for row in summary.to_dict("records")
    ]
    specs, *head_lines = zip(*heads, strict=True)
    lines = [
        *_opening(summary, title, metric, fits=not apart and not has_paper),
        *map(comment, notes),
        "\\begingroup\\setlength{\\tabcolsep}{3.5pt}",
        *tabular("".join(specs), head_lines, rows),
        "\\endgroup",
        *(_sources(summary, published_column) if has_paper else []),
    ]
    return "\n".join(lines) + "\n"


def _opening(summary: pd.DataFrame, title: str, metric: Metric, *, fits: bool) -> list[str]:
    """Comments: what the table is, what it needs, and what a caption has to say of its marks."""
    lines = [
        title,
        "Needs \\usepackage{booktabs}. n: seeds. Brackets: 95 % intervals, see the report for what they cover.",
        "As wide as the text of an article in one column: in two columns, put it into table*."
        if fits
        else "Wider than the text of an article in one column, 345 pt: put it into table*, or leave out a column.",
    ]
    lines += [metric.hint] if metric.hint else []
    if is_marked(summary).any():
        alike = "backbone, frames and recipe" if "recipe" in summary else "backbone and frames"
        lines.append(
            f"Bold: significantly the best of the rows on the same {alike} (t test in pairs, 5 %, Holm). "
            f"Underlined: the {metric.superlative} of them, where it is not, and what is not significantly "
            f"{metric.short_of} it."
        )
    if untested(summary):
        lines.append(f"Not tested, and so neither marked nor ruled out: {some(untested(summary))}.")
    if summary["other_seeds"].any():
        lines.append(
            "Pairs: the seeds that both rows have, where one has others as well; the difference is over these alone."
        )
    if (summary["across_recipes"] & (summary["num_pairs"] > 0)).any():
        lines.append("Dagger: to a row that was trained by another recipe, whose effect is mixed in.")
    for name, parts in summary.loc[summary["ensemble"] != "", ["row", "ensemble"]].itertuples(index=False):
        lines.append(f"{name}: the mean of the class probabilities of {parts}, seed by seed.")
    if any(kind_of(character) == "other" for name in summary["row"] for character in name):
        lines.append(
            "Some names have characters that pdfLaTeX lacks: use XeLaTeX or LuaLaTeX with a font that has them."
        )
    return [comment(line) for line in lines]


def _name(column: NameColumn, row: dict[Any, Any], apart: bool) -> str:
    states = {"failed": "failed", "missing": "no value" if row["ensemble"] else "not run"}
    notes = [*(["base"] if row["reference"] and not apart else []), *filter(None, [states.get(row["status"])])]
    return column.cell(row["row"]) + (f" ({', '.join(notes)})" if notes else "")


def _in_brackets(unit: str) -> str:
    return f"({escape(unit)})" if unit else ""


def _marked(row: dict[Any, Any], metric: Metric) -> str:
    number = escape(score(row[metric.column("mean")], metric))
    return {"best": f"\\textbf{{{number}}}", "tie": f"\\underline{{{number}}}"}.get(row["standing"], number)


def _difference(row: dict[Any, Any], metric: Metric) -> str:
    """The difference with its interval, and with its pairs where these are not all seeds of both rows."""
    mean, low, high = (difference(row[f"delta_{part}"], metric) for part in ("mean", "low", "high"))
    pairs = f" {{\\scriptsize ({plural(row['num_pairs'], 'pair')})}}" if row["other_seeds"] else ""
    other_recipe = r"$^{\dagger}$" if row["across_recipes"] and row["num_pairs"] else ""
    return _bracketed(escape(mean), low, high) + pairs + other_recipe


def _bracketed(mean: str, low: str, high: str) -> str:
    return mean if low == "\u2013" else f"{mean} {{\\scriptsize [{escape(low)}, {escape(high)}]}}"


def _sources(summary: pd.DataFrame, published_column: str) -> list[str]:
    known = summary.dropna(subset=[published_column])
    return [comment(f"paper, {row['row']}: {row['paper_source']}") for row in known.to_dict("records")]
