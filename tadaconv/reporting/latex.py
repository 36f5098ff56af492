r"""The table for a paper: a ``tabular`` with booktabs rules that compiles where it is ``\input``, in every engine."""

import unicodedata
from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import Any, NamedTuple
from unicodedata import combining

import pandas as pd

from tadaconv.reporting.summary import compares_apart, is_marked, untested
from tadaconv.reporting.words import MINUS, count_scale, percent, plural, points, published, scaled, some

_SPELT = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}", "[": "{[}", "*": "{*}", "\n": " ", "\r": " ", "\t": " ",
    "\u00a0": "~", "\u00ad": r"\-", "\u2013": "--", "\u2014": "---", "\u2018": "`", "\u2019": "'", "\u201c": "``",
    "\u201d": "''", "\u2026": r"\dots{}", "\u20ac": r"\texteuro{}", "\u0149": "'n", "\u017f": "s",
    "\u013f": r"L\textperiodcentered{}", "\u0140": r"l\textperiodcentered{}",
}  # fmt: skip

_GREEK_CAPITALS = r"A B \Gamma \Delta E Z H \Theta I K \Lambda M N \Xi O \Pi P - \Sigma T \Upsilon \Phi X \Psi \Omega"
_GREEK_LETTERS = (
    r"\alpha \beta \gamma \delta \varepsilon \zeta \eta \theta \iota \kappa \lambda \mu \nu \xi o \pi \rho \varsigma "
    r"\sigma \tau \upsilon \varphi \chi \psi \omega"
)
_MATHS = {
    **{chr(code): command for code, command in enumerate(_GREEK_CAPITALS.split(), 0x391) if command != "-"},
    **{chr(code): command for code, command in enumerate(_GREEK_LETTERS.split(), 0x3B1)},
    MINUS: "-", "\u00b5": r"\mu", "\u00b1": r"\pm", "\u00d7": r"\times", "\u00f7": r"\div", "\u00b9": "^1",
    "\u00b2": "^2", "\u00b3": "^3", "\u2264": r"\leq", "\u2265": r"\geq", "\u2260": r"\neq", "\u2248": r"\approx",
    "\u2190": r"\leftarrow", "\u2192": r"\rightarrow", "\u221e": r"\infty", "\u2208": r"\in",
}  # fmt: skip

_NOT_IN_PDFLATEX = "«»ÐÞðþĄąĐđĘęĦħĮįĸŊŋŦŧŲų"
"""Of Latin-1 and Latin Extended-A, what an article's first encoding lacks in pdfLaTeX."""


def escape(text: str) -> str:
    r"""``text`` as LaTeX that every engine sets, with an article's preamble and no package.

    Special characters are spelt out, and Greek letters without accents and some signs are mathematics. The letters of
    Latin-1 and Latin Extended-A that pdfLaTeX has stand for themselves. So does any other character in XeLaTeX and
    LuaLaTeX, whose font must have it; pdfLaTeX, which would stop at it, sets its code point instead, ``[U+5377]``.
    Control and invisible characters are code points everywhere. What would be taken for an argument of the line break
    before (``[``, ``*``), or as a dash or a quote with its neighbour, is kept from it.
    """
    parts, last = [], ""
    for kind, run in groupby(unicodedata.normalize("NFC", text), _kind):
        characters = "".join(run)
        if kind == "plain":
            for character in characters:
                # LuaLaTeX joins two hyphens to a dash across empty braces, but not across a kern.
                parts.append(r"\kern0pt" if character == last and character in "-,'" else "")
                parts.append(_SPELT.get(character, character))
                last = character
            continue
        last = ""
        if kind == "maths":
            parts += [f"${_MATHS[character]}$" for character in characters]
        elif kind == "hidden":
            parts.append(_code_points(characters))
        else:  # this primitive is known where Unicode is read, and alone there
            parts.append(rf"\ifdefined\Umathchar {characters}\else {_code_points(characters)}\fi{{}}")
    return "".join(parts)


def _kind(character: str) -> str:
    """How a character is set: *plain*, *maths*, *hidden* (as code point) or *other* (by engine)."""
    if character in _SPELT:
        return "plain"
    if character in _MATHS:
        return "maths"
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}:
        return "hidden"
    return "plain" if ord(character) <= 0x17F and character not in _NOT_IN_PDFLATEX else "other"


def _code_points(characters: str) -> str:
    return f"{{[}}{' '.join(f'U+{ord(character):04X}' for character in characters)}]"


def latex_table(summary: pd.DataFrame, base: str, title: str, notes: Iterable[str] = (), *, paper: bool = True) -> str:
    """The rows of :func:`~tadaconv.reporting.summary.summarise` as LaTeX; needs the package booktabs and no other.

    An accuracy is bold where it is significantly the best of its group, and underlined where it is the highest or tied
    with it; see :func:`~tadaconv.reporting.summary.standings`. The base row is named as such; where rows are compared
    with different rows, a column names these instead. Rows without a result stay, with dashes, and ``n`` says of how
    many seeds where some have none. Without ``paper`` the paper's numbers and their sources are left out. ``title``
    and ``notes``, a line each, stand in comments.
    """
    apart = compares_apart(summary, base)
    names, others = name_column(summary["row"]), name_column(summary["versus"], 0.24)
    has_versus = bool(summary["versus"].any())
    has_paper = paper and bool(summary["paper_top1"].notna().any())
    params, macs = count_scale(summary["params"].dropna()), count_scale(summary["macs"].dropna())
    heads = [
        (names.spec, "", ""),
        ("r", "$n$", ""),
        ("r", "top-1", r"(\%)"),
        *([("r", "$\\Delta$" if apart else "$\\Delta$ to base", "(points)")] if has_versus else []),
        *([(others.spec, "to", "")] if apart else []),
        ("r", "params", f"({params[1]})" if params[1] else ""),
        ("r", "MACs", f"({macs[1]})" if macs[1] else ""),
        *([("r", "paper", r"(\%)")] if has_paper else []),
    ]
    lines = [
        *_opening(summary, title, fits=not apart and not has_paper),
        *map(_comment, notes),
        "\\begingroup\\setlength{\\tabcolsep}{3.5pt}",
        f"\\begin{{tabular}}{{@{{}}{''.join(column for column, _, _ in heads)}@{{}}}}",
        "\\toprule",
        " & ".join(name for _, name, _ in heads) + r" \\",
        " & ".join(unit for _, _, unit in heads) + r" \\",
        "\\midrule",
    ]
    for row in summary.to_dict("records"):
        fields = [
            _name(names, row, apart),
            str(row["n"]) if row["n"] == row["num_planned"] else f"{row['n']} of {row['num_planned']}",
            _bracketed(_marked(row), percent(row["top1_low"]), percent(row["top1_high"])),
            *([_difference(row)] if has_versus else []),
            *([others.cell(row["versus"] or "\u2013")] if apart else []),
            escape(scaled(row["params"], params[0])),
            escape(scaled(row["macs"], macs[0])),
            *([escape(published(row["paper_top1"]))] if has_paper else []),
        ]
        lines.append(" & ".join(fields) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}", "\\endgroup", *(_sources(summary) if has_paper else [])]
    return "\n".join(lines) + "\n"


_LONGEST = 22
"""Characters of a name that still leave the numbers room on a line of 345 pt, the text of an article at 10 pt."""


class NameColumn(NamedTuple):
    """A column of names in a tabular, by its specification: as wide as they are, or one that wraps them."""

    spec: str
    wraps: bool

    def cell(self, name: str) -> str:
        """``name`` as LaTeX, which in a column that wraps is not set to both margins and may break within a word."""
        if not self.wraps:
            return escape(name)
        return r"\raggedright " + r"\allowbreak{}".join(map(escape, _pieces(name)))


def name_column(names: Iterable[str], share: float = 0.26) -> NameColumn:
    """The column of ``names``: as wide as they are, or, where one is long, wrapped at a ``share`` of the line."""
    if max(map(len, names), default=0) <= _LONGEST:
        return NameColumn("l", wraps=False)
    return NameColumn(rf"p{{{share}\linewidth}}", wraps=True)


def _pieces(name: str) -> list[str]:
    """``name`` cut where a line may end: within words, after what joins their parts, and at the latest a dozen on."""
    pieces, start = [], 0
    since = 0  # the last place where a line may end
    for i, (last, character) in enumerate(pairwise(name), 1):
        if " " in (last, character):
            since = i
        elif (last in "_/-.,:;=+|" and character.isalnum()) or (i - since >= 12 and not combining(character)):
            pieces.append(name[start:i])
            start = since = i
    return [*pieces, name[start:]]


def _opening(summary: pd.DataFrame, title: str, *, fits: bool) -> list[str]:
    """Comments: what the table is, what it needs, and what a caption has to say of its marks."""
    lines = [
        title,
        "Needs \\usepackage{booktabs}. n: seeds. Brackets: 95 % intervals, see the report for what they cover.",
        "As wide as the text of an article in one column: in two columns, put it into table*."
        if fits
        else "Wider than the text of an article in one column, 345 pt: put it into table*, or leave out a column.",
    ]
    if is_marked(summary).any():
        alike = "backbone, frames and recipe" if "recipe" in summary else "backbone and frames"
        lines.append(
            f"Bold: significantly the best of the rows on the same {alike} (t test in pairs, 5 %, Holm). "
            "Underlined: the highest of them, where it is not, and what is not significantly below it."
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
    if any(_kind(character) == "other" for name in summary["row"] for character in name):
        lines.append(
            "Some names have characters that pdfLaTeX lacks: use XeLaTeX or LuaLaTeX with a font that has them."
        )
    return [_comment(line) for line in lines]


def _comment(text: str) -> str:
    """``text`` as one line of comment, whatever breaks lines or hides in it."""
    return "% " + " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _name(column: NameColumn, row: dict[Any, Any], apart: bool) -> str:
    states = {"failed": "failed", "missing": "no value" if row["ensemble"] else "not run"}
    notes = [*(["base"] if row["reference"] and not apart else []), *filter(None, [states.get(row["status"])])]
    return column.cell(row["row"]) + (f" ({', '.join(notes)})" if notes else "")


def _marked(row: dict[Any, Any]) -> str:
    number = escape(percent(row["top1_mean"]))
    return {"best": f"\\textbf{{{number}}}", "tie": f"\\underline{{{number}}}"}.get(row["standing"], number)


def _difference(row: dict[Any, Any]) -> str:
    """The difference with its interval, and with its pairs where these are not all seeds of both rows."""
    mean, low, high = (points(row[f"delta_{part}"]) for part in ("mean", "low", "high"))
    pairs = f" {{\\scriptsize ({plural(row['num_pairs'], 'pair')})}}" if row["other_seeds"] else ""
    other_recipe = r"$^{\dagger}$" if row["across_recipes"] and row["num_pairs"] else ""
    return _bracketed(escape(mean), low, high) + pairs + other_recipe


def _bracketed(mean: str, low: str, high: str) -> str:
    return mean if low == "\u2013" else f"{mean} {{\\scriptsize [{escape(low)}, {escape(high)}]}}"


def _sources(summary: pd.DataFrame) -> list[str]:
    known = summary.dropna(subset=["paper_top1"])
    return [_comment(f"paper, {row['row']}: {row['paper_source']}") for row in known.to_dict("records")]
