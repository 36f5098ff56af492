"""Reports of a design study: trials -> DataFrame -> front, importance and words -> figure or table.

:func:`study_report` writes a folder, :class:`.terminal.StudyTable` shows the trials in a terminal.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tadaconv.discovery import plain_name
from tadaconv.errors import UserError
from tadaconv.reporting.core.options import FORMATS, ReportOptions, require_formats

if TYPE_CHECKING:
    from tadaconv.study import InfeasibleDraw, LoadedStudy, TrialRecord


def study_report(
    loaded: "LoadedStudy",
    regime_name: str,
    records: Sequence["TrialRecord"],
    out: Path,
    formats: Sequence[str] = FORMATS,
    *,
    max_macs: int | None = None,
    confirmed: bool = False,
    infeasible: Sequence["InfeasibleDraw"] = (),
    options: ReportOptions | None = None,
) -> Path:
    """Write the report of a study to ``<out>/reports/<study>-<regime>/`` and return that folder.

    The data are always written, *csv* alone gives nothing else: ``report.json``, ``parameters.json`` and the CSV files
    of trials, curves, cells and infeasible draws. *tex* adds the LaTeX table of the Pareto front, *html* the page,
    *ipynb* the executed notebook, and either of the two ``figures/``. The same results give the same bytes: files that
    are up to date are kept, which is logged at level INFO. ``max_macs`` is the budget in
    multiply-adds per clip, as :func:`tadaconv.study.budget_macs` counts it for a regime; it is drawn in the figure of
    costs. ``confirmed`` means that the best have been run on new seeds: the page then links to that table's report.
    ``infeasible`` are the draws that are no trials, as :func:`tadaconv.study.infeasible_draws` gives them.

    Raises:
        UserError: for an unknown format, template or parameter, a folder that cannot be written, or a study none of
            whose trials has ended.
    """
    require_formats(formats)
    if all(record.status in ("running", "waiting") for record in records):
        ran = [cell.cell.experiment for record in records for cell in record.cells]
        raise UserError(
            f"no results of {loaded.name} in the regime {regime_name} yet; "
            f"make them with: {loaded.command(regime_name, ran)}"
        )
    from tadaconv.reporting.core.folder import Report, write_report
    from tadaconv.reporting.study.data import collect, files_of
    from tadaconv.reporting.study.latex import latex_table
    from tadaconv.reporting.study.text import listing

    export = collect(loaded, regime_name, records, max_macs, confirmed, infeasible)
    made = Report(
        name=f"{loaded.name}-{plain_name(regime_name)}",
        template="study",
        listing=listing(export),
        manifest=export.manifest,
        data=files_of(export),
        latex=lambda: latex_table(export),
        csv="trials.csv",
    )
    return write_report(made, Path(out), formats, options or ReportOptions())
