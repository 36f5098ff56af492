"""The command that reports what has been run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tadaconv.cli.app import app
from tadaconv.cli.options import Out, Storage, TableRegime, location_of
from tadaconv.cli.running import (
    DEFAULT_REGIME,
    Reporter,
    default_regime,
    load_named,
    print_line,
    require_own_results,
    write_report,
)
from tadaconv.command import command
from tadaconv.discovery import plain_name
from tadaconv.errors import NoResultsError, UserError
from tadaconv.files import require_writable
from tadaconv.regime import load_regime
from tadaconv.reporting.core.options import ReportOptions, parse_parameters
from tadaconv.table import LoadedTable
from tadaconv.table_run import current_records, stored_design

if TYPE_CHECKING:
    from tadaconv.execution.cells import CellRecord


@app.command()
def report(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE|STUDY|BENCHMARK",
            help="A table or a study (tada list shows them), or a file or folder that tada bench wrote.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Report every table and study of the storage, with an index page.")
    ] = False,
    row: Annotated[
        str | None,
        typer.Option("--row", help="Inspect a trained cell of this row of a table.", show_default="the table"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of that cell.", show_default="the lowest that has finished")
    ] = None,
    regime: TableRegime = None,
    formats: Annotated[
        str, typer.Option("--format", help="Formats, separated by commas: html, ipynb, tex and csv.")
    ] = "html,ipynb,tex,csv",
    paper: Annotated[
        bool, typer.Option("--paper/--no-paper", help="The paper's numbers next to ours in the LaTeX table, or not.")
    ] = True,
    template: Annotated[
        str | None,
        typer.Option(
            help="Another notebook: a name in reports/, or a path to a .py file.", show_default="the one that ships"
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", "-p", metavar="NAME=VALUE", help="A parameter of the notebook; repeat the option for more.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:  # fmt: skip
    """Report a table, a study, a trained cell or a benchmark from stored results. Trains nothing.

    A study whose best trials were run on new seeds (tada study NAME --confirm) gets a report of these as well.

    Example: tada report context --format html,tex

    Example: tada report context --row "(3,3) + global" --seed 0

    Example: tada report --all

    Example: tada report benchmarks/results
    """
    from tadaconv.execution.store import Store
    from tadaconv.reporting import require_formats, require_options

    wanted = [part.strip() for part in formats.split(",")]
    require_formats(wanted)
    options = ReportOptions(template, parse_parameters(parameter or []), paper)
    _require_one_subject(name, everything, row, seed, options)
    if name is None:
        store = Store.open(location_of(storage, out), create=False)
        require_writable(out)
        _report_all(Reporter(store, out, wanted))
        return
    if name.endswith(".json") or Path(name).is_dir():
        from tadaconv.reporting.benchmark import benchmark_report

        if row is not None:
            raise UserError(f"--row is for tables, and {name} is a benchmark; name a table")
        require_options(options, "benchmark")
        require_writable(out)
        write_report(Console(), lambda: benchmark_report([Path(name)], out, wanted, options=options))
        return
    loaded = load_named(name)
    resolved = load_regime(regime or DEFAULT_REGIME)
    if not isinstance(loaded, LoadedTable):
        if row is not None:
            raise UserError(f"--row is for tables, and {name} is a study; name a table")
        require_options(options, "study")
    else:
        if row is not None and (parts := loaded.table.row(row).ensemble):
            raise UserError(
                f"row {row!r} is an ensemble and has no network to inspect; inspect one of its rows: {', '.join(parts)}"
            )
        require_options(options, "ablation" if row is None else "calibration")
    try:
        store = Store.open(location_of(storage, out), create=False)
    except NoResultsError as error:
        raise NoResultsError(error.place, loaded.command(regime or DEFAULT_REGIME)) from error
    if regime is None:
        studies = store.studies()
        regime = default_regime(loaded, lambda own: f"{loaded.name}-{plain_name(own)}" in studies, "it has no results")
        resolved = load_regime(regime)
    require_own_results(loaded, regime, store)
    require_writable(out)
    reporter = Reporter(store, out, wanted, options)
    if not isinstance(loaded, LoadedTable):
        from tadaconv.study import confirmed

        reporter.study(loaded, regime, resolved)
        if (best := confirmed(loaded, regime, store)) is not None:
            Reporter(store, out, wanted, ReportOptions(paper=paper)).table(best, regime, resolved)
    elif row is None:
        reporter.table(loaded, regime, resolved)
    else:
        from tadaconv.execution.origins import study_with_results
        from tadaconv.reporting.calibration import calibration_report

        study = study_with_results(loaded.name, regime, store)
        records = current_records(loaded, resolved, study, store)
        design = stored_design(study, store, records)
        record = _cell_of(loaded, regime, records, row, seed, is_adaptive=design is not None and design.is_adaptive)
        write_report(reporter.console, lambda: calibration_report(loaded, regime, record, out, wanted, options=options))


def _require_one_subject(
    name: str | None, everything: bool, row: str | None, seed: int | None, options: ReportOptions
) -> None:
    """Raise :class:`UserError` unless the options ask for one kind of report."""
    if name is None and not everything:
        raise UserError("name a table, a study or a benchmark to report, or report all of a storage with --all")
    if name is not None and everything:
        raise UserError(f"--all reports everything in the storage; leave it out to report {name} alone")
    if seed is not None and row is None:
        raise UserError("--seed chooses a cell of a row to inspect; name the row with --row")
    if everything and (row is not None or options.template is not None or options.parameters):
        raise UserError("--all makes the reports that ship; --row, --template and --parameter go with a name")


def _cell_of(
    loaded: LoadedTable,
    regime: str,
    records: Sequence["CellRecord"],
    row: str,
    seed: int | None,
    is_adaptive: bool,
) -> "CellRecord":
    """The record of a row's cell.

    Args:
        loaded: the table.
        regime: what finds its regime.
        records: its cells.
        row: the name of a row.
        seed: of the cell; None for the first that finished.
        is_adaptive: whether results decide how many seeds the row gets, so that a call cannot ask for one.
    """
    of_row = {record.cell.experiment.seed: record for record in records if record.cell.label == row}
    finished = sorted(seed for seed, record in of_row.items() if record.status == "finished")
    chosen = finished[0] if seed is None and finished else seed
    if chosen in finished:
        return of_row[chosen]
    if finished:
        seeds = ", ".join(map(str, finished))
        raise UserError(f"row {row!r} has no finished cell from seed {seed}; name one of these seeds: {seeds}")
    raise UserError(
        f"no cell of row {row!r} has finished; run it with: "
        + loaded.command(
            regime,
            [record.cell.experiment for record in records],
            rows=row,
            seeds=None if is_adaptive else seed and seed + 1,
        )
    )


def _report_all(reporter: Reporter) -> None:
    """Report every table and study, then write the page that leads to each."""
    from tadaconv.reporting.index import write_index
    from tadaconv.reporting.reportable import reportable

    reportables, left_out = reportable(reporter.store)
    for subject in reportables:
        regime = load_regime(subject.regime)
        if isinstance(subject.loaded, LoadedTable):
            reporter.table(subject.loaded, subject.regime, regime, printed=False)
        else:
            reporter.study(subject.loaded, subject.regime, regime, printed=False)
    for line in left_out:
        print_line(reporter.console, line)
    if left_out and not reportables:
        raise UserError(f"no result in {reporter.store.shown} can be reported; see the lines above")
    if not reportables:
        run = command("ablate", "TABLE")
        raise UserError(f"{reporter.store.shown} has no result of a table or study yet; make some with: {run}")
    print_line(reporter.console, f"index: {write_index(reporter.out)}")
