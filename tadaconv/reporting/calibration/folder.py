"""The folder of the report of a trained cell."""

import hashlib
from functools import partial
from pathlib import Path

from tadaconv.ablation import LoadedTable
from tadaconv.discovery import plain_name
from tadaconv.execution.cells import CellRecord
from tadaconv.reporting.calibration import text
from tadaconv.reporting.calibration.data import collect, contents, write_data
from tadaconv.reporting.calibration.latex import latex_table
from tadaconv.reporting.core.folder import Reported, report_folder, write_files
from tadaconv.reporting.core.options import Choices

TEMPLATE = "calibration"
"""The notebook template of the report of a trained cell, found like every other content by its name."""

_FILES = {"html": "report.html", "ipynb": "report.ipynb", "tex": "table.tex", "csv": "layers.csv"}


def write_report(
    loaded: LoadedTable,
    regime_name: str,
    record: CellRecord,
    out: Path,
    formats: set[str],
    num_clips: int,
    choices: Choices,
) -> Path:
    """Write the files of ``formats`` that do not stand yet; see
    :func:`tadaconv.reporting.calibration.calibration_report`.
    """
    from tadaconv.reporting.calibration.inspection import open_cell

    export = collect(loaded, regime_name, record, open_cell(loaded, regime_name, record, out, num_clips))
    files = contents(export)
    reported = Reported(
        TEMPLATE if choices.template is None else choices.template,
        _FILES,
        text.title(export.manifest),
        export.manifest,
        [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in files.items()],
        partial(write_data, files),
        partial(latex_table, export),
        choices.parameters,
        [*files],
    )
    cell = f"{plain_name(regime_name)}-{record.cell.key[:8]}"
    return write_files(reported, report_folder(out, loaded.name, cell, choices.template), formats)
