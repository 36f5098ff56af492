r"""The table for a paper: a ``tabular`` with booktabs rules that compiles where it is ``\input``, in every engine."""

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple
from unicodedata import combining

from tadaconv.reporting.core.format import MINUS
from tadaconv.reporting.core.table import Cell, Column, Line

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
    "\u2190": r"\leftarrow", "\u2192": r"\rightarrow", "\u221e": r"\infty", "\u2208": r"\in", "\u2020": r"^\dagger",
}  # fmt: skip

_NOT_IN_PDFLATEX = "«»ÐÞðþĄąĐđĘęĦħĮįĸŊŋŦŧŲų"
"""Of Latin-1 and Latin Extended-A, what an article's first encoding lacks in pdfLaTeX."""


def escape(text: str) -> str:
    r"""``text`` as LaTeX that every engine sets, with an article's preamble and no package.

    Special characters are spelt out, and Greek letters without accents and some signs are mathematics. The letters of
    Latin-1 and Latin Extended-A that pdfLaTeX has are written as they are. So is any other character in XeLaTeX and
    LuaLaTeX, whose font must have it; pdfLaTeX, which would stop at it, sets its code point instead, ``[U+5377]``.
    Control and invisible characters are code points everywhere. What would be taken for an argument of the line break
    before (``[``, ``*``), or as a dash or a quote with its neighbour, is kept from it.
    """
    parts, last = [], ""
    for kind, run in groupby(unicodedata.normalize("NFC", text), kind_of):
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


def kind_of(character: str) -> str:
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


def name_column(names: Iterable[str]) -> NameColumn:
    """The column of ``names``: as wide as they are, or, where one is long, wrapped at a quarter of the line."""
    if max(map(len, names), default=0) <= _LONGEST:
        return NameColumn("l", wraps=False)
    return NameColumn(r"p{0.26\linewidth}", wraps=True)


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


def tabular(spec: str, heads: Iterable[Sequence[str]], rows: Iterable[Sequence[str]], between: str = "") -> list[str]:
    """The lines of a ``tabular`` with booktabs rules.

    Args:
        spec: Its columns.
        heads: The lines of its head, a cell a column.
        rows: Those of its body.
        between: A line between two rows.
    """
    body = [" & ".join(row) + r" \\" for row in rows]
    parted = body if not between else [line for row in body for line in (row, between)][:-1]
    opening = [f"\\begin{{tabular}}{{@{{}}{spec}@{{}}}}", "\\toprule", *(" & ".join(head) + r" \\" for head in heads)]
    return [*opening, "\\midrule", *parted, "\\bottomrule", "\\end{tabular}"]


def latex_rows(columns: Sequence[Column], lines: Iterable[Line]) -> list[str]:
    """The lines of a ``tabular`` of these columns; wide names wrap."""
    rows = [[column.of(line) for column in columns] for line in lines]
    names = [
        name_column(row[i].text for row in rows) if column.holds_names else None for i, column in enumerate(columns)
    ]
    units = [f"({escape(column.unit)})" if column.unit else "" for column in columns]
    return tabular(
        "".join("r" if column is None else column.spec for column in names),
        [[escape(column.heading) for column in columns], units],
        [[_field(*pair) for pair in zip(row, names, strict=True)] for row in rows],
    )


def _field(cell: Cell, names: NameColumn | None) -> str:
    text = escape(cell.text) if names is None else names.cell(cell.text)
    text = {"best": f"\\textbf{{{text}}}", "tie": f"\\underline{{{text}}}"}.get(cell.mark, text)
    if cell.interval:
        text += f" {{\\scriptsize [{', '.join(map(escape, cell.interval))}]}}"
    if cell.tags:
        text += f" ({escape(', '.join(cell.tags))})"
    return text + "".join(f" {{\\scriptsize ({escape(note)})}}" for note in cell.notes)


def comment(text: str) -> str:
    """``text`` as one line of comment, whatever breaks lines or hides in it."""
    return "% " + " ".join("".join(c if c.isprintable() else " " for c in text).split())
