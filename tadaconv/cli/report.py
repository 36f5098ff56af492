"""The command that reports what has been run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tadaconv.cli.app import app
from tadaconv.cli.options import Out, Storage, TableRegime
from tadaconv.cli.running import (
    DEFAULT_REGIME,
    own_regime,
    print_table,
    report_study,
    require_own_results,
    study_called,
    write_report,
)
from tadaconv.command import command
from tadaconv.discovery import plain_name
from tadaconv.errors import NoResultsError, UserError
from tadaconv.files import require_writable
from tadaconv.regime import load_regime
from tadaconv.reporting.core.options import ReportOptions, parse_parameters
from tadaconv.table import LoadedTable, load_table, study_name
from tadaconv.table_run import current_records
from tadaconv.text import visible

if TYPE_CHECKING:
    from tadaconv.execution.cells import CellRecord
    from tadaconv.execution.store import Store


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
        bool, typer.Option("--all", help="Every table and study of the storage, with a page that leads to each.")
    ] = False,
    row: Annotated[
        str | None,
        typer.Option("--row", help="Look inside a trained cell of this row of a table.", show_default="the table"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of that cell.", show_default="the first that finished")
    ] = None,
    regime: TableRegime = None,
    formats: Annotated[
        str, typer.Option("--format", help="What to write: html, ipynb, tex and csv, separated by commas.")
    ] = "html,ipynb,tex,csv",
    paper: Annotated[
        bool, typer.Option("--paper/--no-paper", help="The paper's numbers beside ours in the LaTeX table, or not.")
    ] = True,
    template: Annotated[
        str | None,
        typer.Option(
            help="A notebook of your own: a name in reports/, or a path to a .py file.", show_default="what ships"
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", "-p", metavar="NAME=VALUE", help="A parameter of the notebook; repeat for more.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:  # fmt: skip
    """Report a table, a study, a trained cell or a benchmark from the results there are. Trains nothing.

    A study whose best have been run on new seeds (tada study NAME --confirm) gets the table of these as well.

    Example: tada report context --format html,tex

    Example: tada report context --row "(3,3) + global" --seed 0

    Example: tada report --all

    Example: tada report benchmarks/results
    """
    from tadaconv.execution.store import Store
    from tadaconv.reporting import require_formats, require_options, require_results

    wanted = [each.strip() for each in formats.split(",")]
    require_formats(wanted)
    options = ReportOptions(template, parse_parameters(parameter or []), paper)
    _require_one_thing(name, everything, row, seed, options)
    console = Console()
    if name is None:
        store = Store.open(str(out / "journal.log") if storage is None else storage, create=False)
        require_writable(out)
        _report_all(console, store, out, wanted)
        return
    if name.endswith(".json") or Path(name).is_dir():
        require_options(options, "benchmark")
        require_writable(out)
        _report_benchmark(console, Path(name), out, wanted, options)
        return
    found = study_called(name)
    loaded = load_table(name) if found is None else None
    resolved = load_regime(regime or DEFAULT_REGIME)
    if row is not None and loaded is None:
        raise UserError(f"--row looks inside a row of a table, and {name} is a study; name a table")
    if row is not None and loaded is not None and (parts := loaded.table.row(row).ensemble):
        raise UserError(
            f"row {row!r} is an ensemble and has no network of its own; look inside one of its rows: {', '.join(parts)}"
        )
    require_options(options, "study" if loaded is None else "ablation" if row is None else "calibration")
    named = found if loaded is None else loaded
    assert named is not None
    try:
        store = Store.open(str(out / "journal.log") if storage is None else storage, create=False)
    except NoResultsError as error:
        raise NoResultsError(error.place, named.command(regime or DEFAULT_REGIME)) from error
    if regime is None:
        ran = store.studies()
        regime = own_regime(loaded, lambda own: f"{named.name}-{plain_name(own)}" in ran, "nothing has run in it")
        resolved = load_regime(regime)
    require_own_results(named, regime, store)
    require_writable(out)
    if found is not None:
        from tadaconv.study import confirmed

        report_study(console, found, regime, resolved, store, out, wanted, options)
        loaded, options = confirmed(found, regime, store), ReportOptions(paper=paper)
    if loaded is None:
        return
    records = current_records(loaded, resolved, study_name(loaded, regime), store)
    if row is not None:
        _report_cell(console, loaded, regime, _cell_of(loaded, regime, records, row, seed), out, wanted, options)
        return
    require_results(loaded, regime, records)
    print_table(console, loaded, regime, resolved, records, out)
    write_report(console, loaded, regime, resolved, records, store, out, wanted, options)  # last: it takes its time


def _require_one_thing(
    name: str | None, everything: bool, row: str | None, seed: int | None, options: ReportOptions
) -> None:
    """Raise :class:`UserError` unless the options ask for one kind of report."""
    if name is None and not everything:
        raise UserError("name a table, a study or a benchmark to report, or report all of a storage with --all")
    if name is not None and everything:
        raise UserError(f"--all reports everything in the storage; leave it out to report {name} alone")
    if seed is not None and row is None:
        raise UserError("--seed says which cell of a row to look inside; name the row with --row")
    if everything and (row is not None or options.template is not None or options.parameters):
        raise UserError("--all makes the reports that ship; --row, --template and --parameter go with a name")


def _cell_of(
    loaded: LoadedTable, regime: str, records: Sequence["CellRecord"], row: str, seed: int | None
) -> "CellRecord":
    """The record of a row's cell from ``seed``, or from the first seed that finished."""
    of_row = sorted((r for r in records if r.cell.label == row), key=lambda r: r.cell.experiment.seed)
    finished = [record for record in of_row if record.status == "finished"]
    if seed is not None:
        finished = [record for record in finished if record.cell.experiment.seed == seed]
    if finished:
        return finished[0]
    seeds = ", ".join(str(record.cell.experiment.seed) for record in of_row if record.status == "finished")
    if seeds:
        raise UserError(f"no cell from seed {seed} of row {row!r} has finished; those from these seeds have: {seeds}")
    raise UserError(
        f"no cell of row {row!r} has finished; run it with: "
        + loaded.command(regime, [record.cell.experiment for record in records], rows=row, seeds=seed and seed + 1)
    )


def _report_cell(
    console: Console,
    loaded: LoadedTable,
    regime: str,
    record: "CellRecord",
    out: Path,
    formats: Sequence[str],
    options: ReportOptions,
) -> None:
    from tadaconv.reporting.calibration import calibration_report

    with console.status("looking inside"):
        folder = calibration_report(loaded, regime, record, out, formats, options=options)
    _say_where(console, folder)


def _report_benchmark(console: Console, place: Path, out: Path, formats: Sequence[str], options: ReportOptions) -> None:
    from tadaconv.reporting.benchmark import benchmark_report

    with console.status("writing the report"):
        folder = benchmark_report([place], out, formats, options=options)
    _say_where(console, folder)


def _report_all(console: Console, store: "Store", out: Path, formats: Sequence[str]) -> None:
    """Report every table and study, then write the page that leads to each."""
    from tadaconv.reporting.index import write_index
    from tadaconv.reporting.reportable import reportable

    found, left_out = reportable(store)
    for each in found:
        regime = load_regime(each.regime)
        if isinstance(each.loaded, LoadedTable):
            records = current_records(each.loaded, regime, study_name(each.loaded, each.regime), store)
            write_report(console, each.loaded, each.regime, regime, records, store, out, formats)
        else:
            report_study(console, each.loaded, each.regime, regime, store, out, formats, table=False)
    for line in left_out:
        console.print(visible(line), markup=False, highlight=False, soft_wrap=True)
    if left_out and not found:
        raise UserError(f"{store.shown} can be read, but of what it holds nothing can be reported; see the lines above")
    if not found:
        run = command("ablate", "TABLE")
        raise UserError(f"{store.shown} holds no result of a table or study yet; make some with: {run}")
    console.print(visible(f"index: {write_index(out)}"), markup=False, highlight=False, soft_wrap=True)


def _say_where(console: Console, folder: Path) -> None:
    console.print(visible(f"report: {folder}"), markup=False, highlight=False, soft_wrap=True)
