"""Commands that run tables and studies."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tadaconv import discovery
from tadaconv.cli.app import app
from tadaconv.cli.options import (
    CrewOptions,
    Data,
    Out,
    RegimeName,
    Rows,
    Seeds,
    Smallest,
    Storage,
    TableName,
    TableRegime,
    location_of,
    refuse,
    takes_options,
)
from tadaconv.cli.running import Reporter, print_unused_recipes, regime_with_clips, require_own_results, require_rows
from tadaconv.files import require_writable
from tadaconv.locations import resolve_data
from tadaconv.regime import Regime, load_regime
from tadaconv.table import load_table
from tadaconv.text import plural

if TYPE_CHECKING:
    from tadaconv.execution.launcher import Crew


@app.command()
@takes_options
def ablate(
    table: TableName,
    regime: TableRegime = None,
    seeds: Seeds = None,
    smallest: Smallest = None,
    rows: Rows = None,
    data: Data = None,
    *,
    crew: CrewOptions,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Run a table and report it. Finished cells are not run again; failed cells are retried.

    Any number of calls, on any machines, share the work of one storage.

    Example: tada ablate context --seeds 3 --workers 2

    Example: tada ablate context --seeds 3:12 --smallest 2

    Example: tada ablate context --rows "(1,1)" --rows "(3,3) + global"
    """
    status, _ = run_named_table(table, regime, seeds, smallest, rows, data, crew, storage, out)
    raise typer.Exit(status)


def run_named_table(
    name: str,
    regime_name: str | None,
    seeds: int | str | None,
    smallest: float | None,
    rows: Sequence[str] | None,
    data: Path | None,
    crew: CrewOptions,
    storage: str | None,
    out: Path,
) -> tuple[int, Path]:
    """Run a table and report it; the exit status, and the folder of the report.

    Args:
        name: of the table, or its path.
        regime_name: what finds the regime; None for the default.
        seeds: how many, or ``FIRST:LAST``; None for what is stored, else 1.
        smallest: the smallest difference of interest; None for what is stored, else the metric's.
        rows: names of the rows to run; None or none for all.
        data: the folder of clips, for the regimes that need one.
        crew: the workers.
        storage: where the results are; None for the journal in ``out``.
        out: the run folder.
    """
    from tadaconv.execution.seed_design import read_seeds, read_smallest

    if seeds is not None:
        read_seeds(seeds)
    if smallest is not None:
        read_smallest(smallest)
    loaded = load_table(name)
    require_rows(loaded, rows)
    regime_name = regime_with_clips(loaded, data) if regime_name is None else regime_name
    regime = load_regime(regime_name)
    print_unused_recipes(loaded, regime_name, regime)
    resolved, workers, reporter = _prepare(regime, data, crew, storage, out, default_workers=None)
    return reporter.run_table(loaded, regime_name, resolved, workers, seeds, smallest, rows or None)


def _prepare(
    regime: Regime,
    data: Path | None,
    crew: CrewOptions,
    storage: str | None,
    out: Path,
    default_workers: int | None = 1,
) -> "tuple[Regime, Crew, Reporter]":
    """The regime on its clips, the workers and the storage; raises :class:`UserError` before anything is queued.

    Args:
        regime: what is run on.
        data: the folder of clips, for the regimes that need one.
        crew: the workers.
        storage: where the results are; None for the journal in ``out``.
        out: the run folder.
        default_workers: how many where the options say none; None for as many as this machine carries.
    """
    from tadaconv.execution.store import Store

    location = location_of(storage, out)
    workers = crew.crew(location, out, default_workers=default_workers)
    require_writable(out)
    resolved = resolve_data(regime, data, cache=out / "cache")
    return resolved, workers, Reporter(Store.open(location), out)


@app.command()
@takes_options
def worker(
    *,
    crew: CrewOptions,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for cells before the worker ends.")] = 0.0,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Run cells that are queued in a storage, from this or another machine, until none is left.

    Workers can be stopped at any time: a cell that is not finished goes back to the queue. Clips have to be at the same
    path as on the machine where the table was started. Cells resume from their checkpoints if OUT is the same.

    Example: tada worker --storage postgresql+psycopg://me@server/results --workers 4
    """
    from tadaconv.execution.launcher import join
    from tadaconv.execution.live import LineView
    from tadaconv.execution.store import Store

    location = location_of(storage, out)
    workers = crew.crew(location, out, wait)
    store = Store.open(location, create=False)
    require_writable(out)
    console = Console()
    with LineView(console) as show:
        num_ended = join(store, workers, show.event, show.line)
    console.print(f"{plural(num_ended, 'cell')} run here", highlight=False)


@app.command()
@takes_options
def study(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name (tada list shows them), or a path.")],
    trials: Annotated[int, typer.Option(min=1, help="Total number of trials, including those of earlier runs.")] = 20,
    regime: RegimeName = "quick",
    confirm: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Run the best K trials as a table on new seeds.", show_default="search"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of new seeds for --confirm.")] = 3,
    data: Data = None,
    *,
    crew: CrewOptions,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Search a design space and report it. A study can be stopped and resumed, and its space can grow.

    Example: tada study stage_placement --trials 40 --workers 2

    Example: tada study stage_placement --confirm 3 --seeds 3
    """
    if confirm is None:
        refuse(context, "seeds", "counts the new seeds of --confirm; how many a trial has is in the study's file")
        search_named_study(name, regime, trials, data, crew, storage, out)
        return
    from tadaconv import study as studies

    refuse(context, "trials", "is for the search, and --confirm runs the best of its trials; give one of the two")
    loaded = studies.load_study(name)
    resolved, workers, reporter = _prepare(load_regime(regime), data, crew, storage, out)
    require_own_results(loaded, regime, reporter.store)
    records = studies.trial_records(loaded, resolved, studies.study_name(loaded, regime), reporter.store)
    table = studies.confirm(loaded, records, confirm)
    status, _ = reporter.run_table(
        table, regime, resolved, workers, seeds, first_seed=studies.confirm_seeds(loaded, seeds).start
    )
    reporter.study(loaded, regime, resolved, printed=False)  # it shows the scores of the best, too
    raise typer.Exit(status)


def search_named_study(
    name: str, regime_name: str, trials: int, data: Path | None, crew: CrewOptions, storage: str | None, out: Path
) -> Path:
    """Search a design space and report it; the folder of the report.

    Args:
        name: of the study, or its path.
        regime_name: what finds the regime.
        trials: how many the study shall have, those of earlier calls included.
        data: the folder of clips, for the regimes that need one.
        crew: the workers.
        storage: where the results are; None for the journal in ``out``.
        out: the run folder.
    """
    from tadaconv import study as studies
    from tadaconv.reporting.study.live import StudyView

    loaded = studies.load_study(name)
    resolved, workers, reporter = _prepare(load_regime(regime_name), data, crew, storage, out)
    require_own_results(loaded, regime_name, reporter.store)
    with StudyView(reporter.console, loaded, regime_name, trials) as view:
        studies.search(
            loaded, resolved, studies.study_name(loaded, regime_name), reporter.store, num_trials=trials, crew=workers,
            show=view, regime_file=discovery.find("regime", regime_name),
        )  # fmt: skip
    return reporter.study(loaded, regime_name, resolved)
