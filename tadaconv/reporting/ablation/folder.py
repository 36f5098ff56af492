"""The folder of a table's report."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tadaconv.ablation import LoadedTable
from tadaconv.execution.cells import CellRecord
from tadaconv.regime import Regime
from tadaconv.reporting.ablation import Surroundings
from tadaconv.reporting.ablation.data import Export, collect, csv_texts, write_csvs
from tadaconv.reporting.ablation.ensembles import ensembles_of
from tadaconv.reporting.ablation.latex import latex_table
from tadaconv.reporting.ablation.summary import by_label, summarise, table_columns
from tadaconv.reporting.ablation.text import latex_notes, title, what_was_run
from tadaconv.reporting.core.export import as_csv, write_atomically
from tadaconv.reporting.core.folder import Reported, report_folder, write_files
from tadaconv.reporting.core.options import Choices

TEMPLATE = "ablation"
"""The notebook template of a table's report, found like every other content by its name."""


_FILES = {"html": "report.html", "ipynb": "report.ipynb", "tex": "table.tex", "csv": "table.csv"}


_LABELS = "labels.csv"


def write_report(
    loaded: LoadedTable,
    regime_name: str,
    records: Sequence[CellRecord],
    out: Path,
    formats: set[str],
    surroundings: Surroundings,
    choices: Choices,
    regime: Regime | None = None,
) -> Path:
    """Write the files of ``formats`` that do not stand yet; see :func:`tadaconv.reporting.report`."""
    ensembles = ensembles_of(loaded, records, out)
    elsewhere, left_out = surroundings.elsewhere, surroundings.left_out
    export = collect(loaded, regime_name, records, elsewhere, left_out, regime=regime, ensembles=ensembles)
    heading = f"{title(export.manifest)} Regime {export.manifest.regime}. {what_was_run(export)}"
    reported = Reported(
        TEMPLATE if choices.template is None else choices.template,
        _FILES,
        title(export.manifest),
        export.manifest,
        [*csv_texts(export).values(), f"paper: {choices.paper}"],
        partial(_write_data, export),
        lambda: latex_table(
            summarise(export),
            export.manifest.base,
            heading,
            latex_notes(export, paper=choices.paper),
            paper=choices.paper,
        ),
        choices.parameters,
        [*csv_texts(export), _FILES["csv"], _LABELS],
    )
    return write_files(reported, report_folder(out, loaded.name, regime_name, choices.template), formats)


def _write_data(export: Export, folder: Path) -> None:
    write_csvs(export, folder)
    summary = summarise(export)
    columns = table_columns(summary, export.manifest.base)
    write_atomically(folder / _FILES["csv"], as_csv(summary[columns], digits=6))
    write_atomically(folder / _LABELS, as_csv(by_label(export), digits=6))
