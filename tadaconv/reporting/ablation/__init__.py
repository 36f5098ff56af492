"""Reports of an ablation table: results -> DataFrame -> summary -> figure or table.

:func:`report` writes a folder, :func:`.terminal.terminal_table` draws the same table in a terminal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tadaconv.discovery import plain_name
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord
from tadaconv.regime import Regime
from tadaconv.reporting.core.options import FORMATS, ReportOptions, require_formats
from tadaconv.table import LoadedTable

if TYPE_CHECKING:
    from tadaconv.sequential import SeedDesign


@dataclass(frozen=True)
class StorageContext:
    """What a storage has of a table besides its cells.

    Attributes:
        elsewhere: by the name of another regime, the cells of the same table there.
        left_out: finished cells of the same study that are not shown, by reason; see
            :class:`tadaconv.reporting.ablation.data.Manifest`.
        design: how many seeds the table is run with; None where none is stored.
    """

    elsewhere: Mapping[str, Sequence[CellRecord]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    design: "SeedDesign | None" = None


def report(
    loaded: LoadedTable,
    regime_name: str,
    records: Sequence[CellRecord],
    out: Path,
    formats: Sequence[str] = FORMATS,
    *,
    regime: Regime | None = None,
    context: StorageContext | None = None,
    options: ReportOptions | None = None,
) -> Path:
    """Write the report of a table to ``<out>/reports/<table>-<regime>/`` and return that folder.

    The data are always written, *csv* alone gives nothing else: ``report.json`` and the CSV files of table, cells,
    curves and class families. *tex* adds the LaTeX table, *html* the page, *ipynb* the executed notebook, and either of
    the two ``figures/``. The same results give the same bytes: files that are up to date are left alone, with a log
    message of level INFO.

    Args:
        loaded: The table.
        regime_name: The regime, as it was named.
        records: Its cells.
        out: The run folder.
        formats: Of ``FORMATS``.
        regime: The regime itself. Published numbers are compared with ours only where it states that it measures what
            the paper did, and it states whose its recipes are; without it only orders are compared.
        context: What the storage has besides them.
        options: A template of the user's, its parameters, and whether the LaTeX table has the paper's numbers.

    Raises:
        UserError: for an unknown format, template or parameter, a folder that cannot be written, or a table none of
            whose cells has run.
    """
    require_formats(formats)
    require_results(loaded, regime_name, records)
    from tadaconv.reporting.ablation.data import collect, files_of
    from tadaconv.reporting.ablation.ensembles import ensembles_of
    from tadaconv.reporting.ablation.latex import latex_report
    from tadaconv.reporting.ablation.learned import learned
    from tadaconv.reporting.ablation.summary import summary_files
    from tadaconv.reporting.ablation.text import listing
    from tadaconv.reporting.core.folder import Report, write_report

    context, options = context or StorageContext(), options or ReportOptions()
    ensembles = ensembles_of(loaded, records, Path(out))
    export = collect(
        loaded, regime_name, records, context.elsewhere, context.left_out, regime=regime, ensembles=ensembles,
        design=context.design,
    )  # fmt: skip
    made = Report(
        name=f"{loaded.name}-{plain_name(regime_name)}",
        template="ablation",
        listing=listing(export),
        manifest=export.manifest.model_copy(update={"learned": learned(export)}),
        data={**files_of(export), **summary_files(export)},
        latex=lambda: latex_report(export, paper=options.paper),
    )
    return write_report(made, Path(out), formats, options)


def require_results(loaded: LoadedTable, regime_name: str, records: Sequence[CellRecord]) -> None:
    """Raise :class:`UserError` for a table none of whose cells has run."""
    if not any(record.status in ("finished", "failed") for record in records):
        raise UserError(
            f"no results of {loaded.name} in the regime {regime_name} yet; "
            f"make them with: {loaded.command(regime_name, [record.cell.experiment for record in records])}"
        )
