"""Commands that run tables and studies."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tadaconv import discovery
from tadaconv.cli.app import app
from tadaconv.cli.options import (
    CrewOptions,
    Data,
    Out,
    RegimeName,
    Storage,
    TableName,
    TableRegime,
    refuse,
    takes_workers,
)
from tadaconv.cli.running import (
    regime_with_clips,
    report_study,
    require_own_results,
    run_and_report,
    say_unused_recipes,
)
from tadaconv.files import require_writable
from tadaconv.locations import resolve_data
from tadaconv.regime import load_regime
from tadaconv.table import load_table


@app.command()
@takes_workers
def ablate(
    table: TableName,
    regime: TableRegime = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds; seeds 0 to N-1 are run.")] = 1,
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", metavar="ROW", help="Run this row alone; repeat for more.", show_default="all"),
    ] = None,
    data: Data = None,
    *,
    crew: CrewOptions,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Run a table and report it. Cells that have a result are not run again; a failed cell is tried anew.

    Any number of calls, on any machines, share the work of one storage.

    Example: tada ablate context --seeds 3 --workers 2

    Example: tada ablate context --rows "(1,1)" --rows "(3,3) + global"
    """
    from tadaconv.execution.store import Store

    loaded = load_table(table)
    for name in rows or []:
        loaded.table.row(name)
    regime = regime_with_clips(loaded, data) if regime is None else regime
    bare_regime = load_regime(regime)
    say_unused_recipes(loaded, regime, bare_regime)
    place = str(out / "journal.log") if storage is None else storage
    own = crew.crew(place, out)
    require_writable(out)
    resolved = resolve_data(bare_regime, data, cache=out / "cache")
    store = Store.open(place)
    raise typer.Exit(run_and_report(Console(), loaded, regime, resolved, store, own, range(seeds), rows or None, out))


@app.command()
@takes_workers
def worker(
    *,
    crew: CrewOptions,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to stay without work before leaving.")] = 0.0,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Help with whatever is queued in a storage, from this or another machine, until nothing is left.

    Come and go as you like: a cell that is not finished goes back to the queue. Clips must lie at the same path as
    where the table was started; checkpoints are found again if OUT is the same folder.

    Example: tada worker --storage postgresql+psycopg://me@server/results --workers 4
    """
    from tadaconv.execution.launcher import join
    from tadaconv.execution.live import LineView
    from tadaconv.execution.store import Store

    place = str(out / "journal.log") if storage is None else storage
    own = crew.crew(place, out, wait)
    store = Store.open(place, create=False)
    require_writable(out)
    console = Console()
    with LineView(console) as show:
        num_ended = join(store, own, show.event, show.line)
    console.print(f"{num_ended} cells ended here", highlight=False)


@app.command()
@takes_workers
def study(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name (tada list shows them), or a path.")],
    trials: Annotated[
        int, typer.Option(min=1, help="Trials the study shall have, those of earlier calls among them.")
    ] = 20,
    regime: RegimeName = "quick",
    confirm: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Run the best K as a table on new seeds.", show_default="search"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of new seeds, with --confirm.")] = 3,
    data: Data = None,
    *,
    crew: CrewOptions,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Search a design space and report it. A study may be stopped, gone on with, and its space may grow.

    Example: tada study stage_placement --trials 40 --workers 2

    Example: tada study stage_placement --confirm 3 --seeds 3
    """
    from tadaconv import study as studies
    from tadaconv.execution.store import Store

    if confirm is None:
        refuse(context, "seeds", "counts the new seeds of --confirm; how many a trial has is in the study's file")
    else:
        refuse(context, "trials", "searches, and --confirm runs the best of what was found; give one of the two")
    loaded = studies.load_study(name)
    bare_regime = load_regime(regime)
    place = str(out / "journal.log") if storage is None else storage
    own = crew.crew(place, out)
    require_writable(out)
    resolved = resolve_data(bare_regime, data, cache=out / "cache")
    store = Store.open(place)
    kept = studies.study_name(loaded, regime)
    require_own_results(loaded, regime, store)
    console = Console()
    if confirm is not None:
        records = studies.trial_records(loaded, resolved, kept, store)
        table = studies.confirm(loaded, records, confirm)
        chosen = studies.confirm_seeds(loaded, seeds)
        status = run_and_report(console, table, regime, resolved, store, own, chosen, None, out)
        report_study(console, loaded, regime, resolved, store, out, table=False)  # it shows what the best came to
        raise typer.Exit(status)
    from tadaconv.reporting.study.live import StudyView

    with StudyView(console, loaded, regime, trials) as view:
        studies.search(
            loaded, resolved, kept, store, num_trials=trials, crew=own, show=view,
            regime_file=discovery.find("regime", regime),
        )  # fmt: skip
    report_study(console, loaded, regime, resolved, store, out)
