"""The folder of a study's report."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tadaconv.reporting.core.export import as_csv
from tadaconv.reporting.core.folder import Reported, report_folder, write_files
from tadaconv.reporting.core.options import Choices
from tadaconv.reporting.study import text
from tadaconv.reporting.study.data import collect, frames, write_data
from tadaconv.reporting.study.latex import latex_table

if TYPE_CHECKING:
    from tadaconv.study import InfeasibleDraw, LoadedStudy, TrialRecord


TEMPLATE = "study"
"""The notebook template of a study's report, found like every other content by its name."""

_FILES = {"html": "report.html", "ipynb": "report.ipynb", "tex": "table.tex", "csv": "trials.csv"}


def write_report(
    loaded: "LoadedStudy",
    regime_name: str,
    records: Sequence["TrialRecord"],
    infeasible: Sequence["InfeasibleDraw"],
    out: Path,
    formats: set[str],
    max_macs: int | None,
    confirmed: bool,
    choices: Choices,
) -> Path:
    """Write the files of ``formats`` that do not stand yet; see :func:`tadaconv.reporting.study.study_report`."""
    export = collect(loaded, regime_name, records, max_macs, confirmed, infeasible)
    reported = Reported(
        TEMPLATE if choices.template is None else choices.template,
        _FILES,
        text.title(export.manifest),
        export.manifest,
        [export.space.model_dump_json(), export.manifest.confirm_with, *map(as_csv, frames(export).values())],
        partial(write_data, export),
        partial(latex_table, export),
        choices.parameters,
        [*frames(export), "parameters.json"],
    )
    return write_files(reported, report_folder(out, loaded.name, regime_name, choices.template), formats)
