"""Commands that run tables and studies."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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
from tadaconv.cli.running import confirm_study, run_named_table, search_study
from tadaconv.files import require_writable


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
    status, _ = run_named_table(table, regime, range(seeds), rows, data, crew, storage, out)
    raise typer.Exit(status)


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
    if confirm is None:
        refuse(context, "seeds", "counts the new seeds of --confirm; how many a trial has is in the study's file")
        search_study(name, trials, regime, data, crew, storage, out)
    else:
        refuse(context, "trials", "searches, and --confirm runs the best of what was found; give one of the two")
        raise typer.Exit(confirm_study(name, confirm, seeds, regime, data, crew, storage, out))
