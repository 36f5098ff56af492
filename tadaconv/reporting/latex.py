r"""The table for a paper: a ``tabular`` with booktabs rules that compiles where it is ``\input``."""

import pandas as pd

from tadaconv.reporting.summary import compares_apart
from tadaconv.reporting.words import MINUS, count_scale, in_unit, percent, points, published, scaled

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", MINUS: r"$-$", "\u2013": "--", "\n": " ", "\r": " ", "[": "{[}",
}  # fmt: skip


def escape(text: str) -> str:
    """``text`` with LaTeX's special characters spelt out; ``[`` is wrapped, or the line break before would eat it."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex_table(summary: pd.DataFrame, base: str, title: str, *, paper: bool = True) -> str:
    """The rows of :func:`~tadaconv.reporting.summary.summarise` as LaTeX; needs the package booktabs and no other.

    The base row is bold; where rows are compared with different rows, these are, and a column names them. Rows without
    a result stay, with dashes. ``title`` stands in a comment.
    """
    apart = compares_apart(summary, base)
    has_paper = paper and bool(summary["paper_top1"].notna().any())
    params, macs = count_scale(summary["params"].dropna()), count_scale(summary["macs"].dropna())
    heads = ["", "$n$", "top-1 (\\%)", *(["$\\Delta$", "to"] if apart else ["$\\Delta$ base"])]
    heads += [in_unit("params", params[1]), in_unit("MACs", macs[1]), *(["paper"] if has_paper else [])]
    lines = [
        f"% {' '.join(title.split())}",
        "% Needs \\usepackage{booktabs}. Brackets: 95 % intervals, see the report for what they cover.",
        f"\\begin{{tabular}}{{{''.join('l' if head in ('', 'to') else 'r' for head in heads)}}}",
        "\\toprule",
        " & ".join(heads) + r" \\",
        "\\midrule",
    ]
    for row in summary.to_dict("records"):
        name = escape(row["row"]) + {"failed": " (failed)", "missing": " (not run)"}.get(row["status"], "")
        fields = [
            f"\\textbf{{{name}}}" if row["reference"] else name,
            str(row["n"]),
            _bracketed(percent(row["top1_mean"]), percent(row["top1_low"]), percent(row["top1_high"])),
            _bracketed(points(row["delta_mean"]), points(row["delta_low"]), points(row["delta_high"])),
            *([escape(row["versus"] or "\u2013")] if apart else []),
            escape(scaled(row["params"], params[0])),
            escape(scaled(row["macs"], macs[0])),
            *([escape(published(row["paper_top1"]))] if has_paper else []),
        ]
        lines.append(" & ".join(fields) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}", *_sources(summary)]
    return "\n".join(lines) + "\n"


def _bracketed(mean: str, low: str, high: str) -> str:
    interval = "" if low == "\u2013" else f" [{escape(low)}, {escape(high)}]"
    return escape(mean) + interval


def _sources(summary: pd.DataFrame) -> list[str]:
    known = summary.dropna(subset=["paper_top1"])
    return [
        f"% paper, {' '.join(row['row'].split())}: {' '.join(row['paper_source'].split())}"
        for row in known.to_dict("records")
    ]
