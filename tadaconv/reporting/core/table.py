"""Tables that are declared once: their columns give a terminal, a page and LaTeX the same cells.

A kind of report states its columns as a list of :class:`Column`. :func:`.terminal.terminal_table`, the macro ``table``
of ``templates/blocks/table.html.j2`` and :func:`.latex.latex_rows` draw them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Line = Mapping[Any, Any]
"""A line of a frame, by column."""


@dataclass(frozen=True)
class Cell:
    """What a table shows in one row and column, as text.

    Attributes:
        text: a name, or a number without its unit.
        interval: the ends of its interval, where it has one.
        mark: *best* is set in bold, *tie* underlined.
        tags: short words behind a name, such as *base*.
        notes: smaller lines below; LaTeX has them behind.
        link: the part of the page that the text leads to.
    """

    text: str
    interval: tuple[str, str] | None = None
    mark: str = ""
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    link: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: what it shows.
        cell: makes the cell of a line; plain text is a cell without anything else.
        unit: of its numbers, in brackets after the heading or below it.
        holds_names: whether its cells are names, which are set to the left and may wrap.
    """

    heading: str
    cell: Callable[[Line], Cell | str]
    unit: str = ""
    holds_names: bool = False

    def of(self, line: Line) -> Cell:
        """The cell of a line."""
        cell = self.cell(line)
        return Cell(cell) if isinstance(cell, str) else cell


def bounds(line: Line, name: str, form: Callable[[float], str]) -> tuple[str, str] | None:
    """The columns ``<name>_low`` and ``<name>_high`` in the ``form`` of a number; None where they are not known."""
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return (form(low), form(high)) if low == low else None
