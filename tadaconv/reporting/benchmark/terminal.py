"""A benchmark as text: a table a case, for a terminal of 80 columns."""

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from tadaconv.bench.record import Benchmark, Case
from tadaconv.reporting.benchmark import text

_LEGEND = (
    "ms: median time, forward and backward. time ratio: median of each round's ratio to the first row, with its "
    "quartiles and the 95 % interval of the median; then of forward and of backward alone. copy, matr.: the plain "
    "network's least bytes and multiply-adds, over what a copy and a matrix product reach in that time. MiB: peak "
    "memory of a separate process."
)

_HEADINGS = [
    "ms", "time\nratio", "quar-\ntiles", "95 %\ninterval", "for-\nward", "back-\nward", "copy\n%", "matr.\n%", "MiB",
]  # fmt: skip
"""Of the columns of :func:`~tadaconv.reporting.benchmark.text.numbers`, narrow enough for 80 characters."""


def terminal_tables(run: Benchmark) -> Group:
    """Every case as a table, and below them a legend of the columns."""
    few = run.settings.rounds < text.FEWEST_WITH_INTERVAL
    legend = f"{_LEGEND} Fewer than {text.FEWEST_WITH_INTERVAL} rounds have no 95 % interval." if few else _LEGEND
    tables = [part for case in run.cases for part in (_table(case), "")]
    return Group(escape(text.setting(run)), "", *tables, legend)


def _table(case: Case) -> Table:
    table = Table(
        title=escape(text.case_title(case)), caption=escape(text.case_note(case)), box=SIMPLE_HEAD, padding=0,
        pad_edge=False, title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("", min_width=12)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for timing in case.timings:
        numbers = text.numbers(timing).values()
        table.add_row(escape(timing.name), *(number.replace(" to ", " ").replace(", ", " ") for number in numbers))
    return table
