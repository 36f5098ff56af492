"""Reports of an ablation table: results -> DataFrame -> summary -> figure or table.

:func:`report` writes a folder, :func:`terminal_table` draws the same table in a terminal.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tadaconv import discovery
from tadaconv.ablation import LoadedTable
from tadaconv.errors import UserError, unknown
from tadaconv.execution.cells import CellRecord
from tadaconv.regime import Regime
from tadaconv.reporting.ablation import Surroundings
from tadaconv.reporting.core.options import Choices
from tadaconv.reporting.renamed import RenamedFinder

if TYPE_CHECKING:
    from rich.table import Table

sys.meta_path.append(RenamedFinder())

FORMATS = ("html", "ipynb", "tex", "csv")
"""What a report can be written as."""


def terminal_table(
    loaded: LoadedTable,
    regime_name: str,
    records: Sequence[CellRecord],
    out: Path | None = None,
    *,
    regime: Regime | None = None,
    styled: bool = True,
) -> "Table":
    """The table for a terminal, cheap enough to be drawn again whenever a cell moves on.

    ``out`` is the run folder, from which rows that average others have their numbers. Published numbers are compared
    with ours only as far as ``regime`` says that it measures what the paper did. Without ``styled`` a sign stands where
    a number would be bold or underlined, for files and pipes.
    """
    from tadaconv.reporting.ablation.terminal import terminal_table as draw

    return draw(loaded, regime_name, records, out, regime=regime, styled=styled)


def report(
    loaded: LoadedTable,
    regime_name: str,
    records: Sequence[CellRecord],
    out: Path,
    formats: Sequence[str] = FORMATS,
    *,
    regime: Regime | None = None,
    surroundings: Surroundings | None = None,
    choices: Choices | None = None,
) -> Path:
    """Write the report of a table to ``<out>/reports/<table>-<regime>/`` and return that folder.

    The data are always written, *csv* alone gives nothing else: ``report.json`` and the CSV files of table, cells,
    curves and class families. *tex* adds the LaTeX table, *html* the page, *ipynb* the executed notebook, and either of
    the two ``figures/``. The same results give the same bytes: files that stand for them already are left alone, and a
    log message of level INFO says so.

    Args:
        loaded: The table.
        regime_name: The regime, as it was named.
        records: Its cells as they stand.
        out: The run folder.
        formats: Of ``FORMATS``.
        regime: The regime itself. Published numbers are compared with ours only as far as it says that it measures
            what the paper did, and it tells whose its recipes are; without it only orders are compared.
        surroundings: What the storage holds beside them.
        choices: A template of one's own, its parameters, and whether the LaTeX table has the paper's numbers.

    Raises:
        UserError: for an unknown format, template or parameter, a folder that cannot be written, or a table none of
            whose cells has run.
    """
    require_formats(formats)
    require_results(loaded, regime_name, records)
    from tadaconv.reporting.ablation.folder import write_report

    return write_report(
        loaded, regime_name, records, Path(out), set(formats), surroundings or Surroundings(), choices or Choices(),
        regime,
    )  # fmt: skip


def require_results(loaded: LoadedTable, regime_name: str, records: Sequence[CellRecord]) -> None:
    """Raise :class:`UserError` for a table none of whose cells has run."""
    if not any(record.status in ("finished", "failed") for record in records):
        raise UserError(
            f"no results of {loaded.name} in the regime {regime_name} yet; "
            f"make them with: {loaded.command(regime_name, [record.cell.experiment for record in records])}"
        )


def require_formats(formats: Sequence[str]) -> None:
    """Raise :class:`UserError` for a format that no report has."""
    for name in formats:
        if name not in FORMATS:
            raise unknown("report format", name, FORMATS)


def require_choices(choices: Choices, shipped: str) -> None:
    """Raise :class:`UserError` for a template there is none of, or a parameter that it does not have.

    ``shipped`` names the template that is used where ``choices`` has none. Reports say the same themselves, once they
    have come to their notebook; this is for saying it before anything is read or printed.
    """
    template = discovery.find("report", choices.template or shipped)
    if choices.parameters:
        from tadaconv.reporting.core.notebook import require_parameters

        require_parameters(template, choices.parameters)


@contextmanager
def prepared(formats: Sequence[str]) -> Iterator[None]:
    """Start what executes notebooks while the results are still to be read, if any of ``formats`` needs it."""
    if not {"html", "ipynb"} & set(formats):
        yield
        return
    from tadaconv.reporting.core.kernel import kernel_ahead

    with kernel_ahead():
        yield
