"""The report of a trained cell: the calibrations that it computes for clips.

:func:`calibration_report` loads the weights that a run folder keeps and writes the folder of the report.
"""

from collections.abc import Sequence
from pathlib import Path

from tadaconv.discovery import plain_name
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord, metric_of
from tadaconv.reporting.core.options import FORMATS, ReportOptions, require_formats
from tadaconv.table import LoadedTable

NUM_CLIPS = 32
"""Validation clips that are passed through a trained network."""


def calibration_report(
    loaded: LoadedTable,
    regime_name: str,
    record: CellRecord,
    out: Path,
    formats: Sequence[str] = FORMATS,
    *,
    num_clips: int = NUM_CLIPS,
    options: ReportOptions | None = None,
) -> Path:
    """Write the report on the calibration of a trained cell, and return its folder.

    The folder is ``<out>/reports/<table>-<regime>-<first 8 digits of the cell's key>/``. The data are always written:
    ``report.json``, ``layers.csv``, ``clips.csv``, ``training.csv``, ``alphas.npz`` and the frames of the clips shown,
    ``clips/*.png``; of localization ``segments.csv`` and ``changes.csv`` as well. *tex*, *html* and *ipynb* are as for
    :func:`tadaconv.reporting.report`. The network runs once, on the GPU if there is one.

    Args:
        loaded: the table of the cell.
        regime_name: the regime, as the caller names it.
        record: the cell, with its result.
        out: the run folder; its ``weights/`` holds what was trained.
        formats: what to write.
        num_clips: validation clips to inspect, drawn at random, the same for every cell on the same clips.
        options: another template, and values for its parameters.

    Raises:
        UserError: for an unknown format, a cell without a result or without an adaptive convolution, weights that are
            not there or not this cell's, clips that cannot be read, and a folder that cannot be written.
    """
    require_formats(formats)
    if num_clips < 1:
        raise UserError(f"num_clips must be at least 1, not {num_clips}")
    localizes = record.cell.experiment.localization is not None
    if not (metric := metric_of([record])).of_classes and not localizes:
        raise UserError(
            f"an inspection shows predicted classes, and the metric of {record.cell.name} is {metric.label}"
        )
    from tadaconv.reporting.calibration.data import collect, files_of
    from tadaconv.reporting.calibration.inspection import inspect_cell
    from tadaconv.reporting.calibration.latex import latex_table
    from tadaconv.reporting.calibration.text import listing
    from tadaconv.reporting.core.folder import Report, write_report

    export = collect(loaded, regime_name, record, inspect_cell(loaded, regime_name, record, Path(out), num_clips))
    made = Report(
        name=f"{loaded.name}-{plain_name(f'{plain_name(regime_name)}-{record.cell.key[:8]}')}",
        template="calibration_localization" if localizes else "calibration",
        listing=listing(export.manifest),
        manifest=export.manifest,
        data=files_of(export),
        latex=lambda: latex_table(export),
        csv="layers.csv",
    )
    return write_report(made, Path(out), formats, options or ReportOptions())
