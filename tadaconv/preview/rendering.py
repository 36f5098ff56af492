"""Tables of previews in a terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table


def rows_table(headings: Sequence[str], footers: Sequence[str] = ()) -> Table:
    """A table for a terminal of 80 columns, without rows yet: the names of rows, then a column a heading.

    ``footers`` are the first of the texts below the columns, that of the names among them.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, show_footer=bool(footers))
    table.add_column("row", overflow="fold", min_width=8)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for column, footer in zip(table.columns, footers, strict=False):
        column.footer = footer
    return table
