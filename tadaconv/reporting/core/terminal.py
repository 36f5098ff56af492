"""A table in a terminal; imports no plotting."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tadaconv.reporting.core.table import Cell, Column, Line
from tadaconv.text import visible

_MARKS = {"best": ("bold", "*"), "tie": ("underline", "~")}
"""By mark, the style of the number, and the sign before it where there are no styles."""

_STYLES = {"failed": "red", "missing": "dim"}
"""By status of a line, the style of its row."""


def terminal_table(
    title: str, columns: Sequence[Column], lines: Iterable[Line], notes: Iterable[Text], *, styled: bool = True
) -> Table:
    """The table that a terminal shows, readable at 80 columns.

    Args:
        title: The text above it.
        columns: Its columns.
        lines: Its lines, with a ``status``.
        notes: The lines below it.
        styled: Whether the output has styles; else marks are signs.
    """
    table = Table(
        title=escape(visible(title)), box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True,
        title_justify="left", caption_justify="left", caption_style="", caption=Text("\n").join(notes),
    )  # fmt: skip
    rows = [([column.of(line) for column in columns], _STYLES.get(line["status"])) for line in lines]
    for i, column in enumerate(columns):
        heading = Text(f"{column.heading}\n({column.unit})" if column.unit else column.heading)
        if column.holds_names:
            table.add_column(heading, overflow="fold", min_width=14)
        else:  # an interval may wrap below its number, so that no digit is cut off elsewhere
            table.add_column(heading, justify="right", no_wrap=not any(cells[i].interval for cells, _ in rows))
    for cells, style in rows:
        table.add_row(*(_text(cell, styled) for cell in cells), style=style)
    return table


def _text(cell: Cell, styled: bool) -> Text:
    style, sign = _MARKS.get(cell.mark, ("", ""))
    text = Text(visible(cell.text if styled else sign + cell.text))
    if styled and style:
        text.stylize(style)
    if cell.interval:
        text.append(f" [{','.join(cell.interval)}]")
    if cell.tags:
        text.append(f" ({', '.join(cell.tags)})", style="dim")
    for note in cell.notes:
        text.append(f"\n{visible(note)}", style="dim")
    return text
