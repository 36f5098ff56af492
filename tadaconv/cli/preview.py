"""Commands that list content and estimate runs: list, cost, check and plan. They train next to nothing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tadaconv import catalogue
from tadaconv.cli.app import app
from tadaconv.cli.options import (
    AsJson,
    Data,
    MachineOptions,
    Out,
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
from tadaconv.cli.output import show
from tadaconv.cli.running import (
    load_named,
    print_unused_recipes,
    regime_with_clips,
    require_own_results,
    require_rows,
)
from tadaconv.locations import resolve_data
from tadaconv.metrics import metric_named
from tadaconv.regime import Regime, load_regime
from tadaconv.table import LoadedTable, Row, load_table, study_name
from tadaconv.table_run import table_study

if TYPE_CHECKING:
    from tadaconv.execution.store import Store
    from tadaconv.study import LoadedStudy


@app.command("list")
def list_content(
    as_json: AsJson = False,
) -> None:
    """List the tables, studies, reports, regimes, backbones, rivals, datasets and layouts that commands take.

    Example: tada list --json
    """
    content = catalogue.content()
    if as_json:
        print(json.dumps(content, indent=2))
        return
    console = Console(highlight=False, markup=False)
    for kind, entries in content.items():
        console.print(kind, style="bold")
        lines = Table.grid(padding=(0, 2, 0, 0))
        lines.add_column(no_wrap=True)
        for entry in entries:
            rows = f" ({entry['rows']} rows)" if "rows" in entry else ""
            lines.add_row(f"  {entry['name']}", f"{entry.get('summary', '')}{rows}")
        console.print(lines)
        if not entries:
            console.print("  (none)")


@app.command()
def cost(
    name: Annotated[str, typer.Argument(metavar="TABLE|BACKBONE", help="A table or a backbone; tada list shows them.")],
    regime: Annotated[
        str | None,
        typer.Option(help="Count at this regime's scale.", show_default="the paper's: ResNet-50, 8 x 256 x 256"),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames of a clip, for rows that name none.", show_default="the scale's"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count parameters, multiply-adds, activations and memory, next to the paper's figures. Trains nothing.

    Example: tada cost plug_in

    Example: tada cost slowfast_8x8 --frames 32
    """
    from tadaconv import preview

    scale = None if regime is None else load_regime(regime)
    with Console(stderr=True).status("tracing the networks"):
        counted = preview.costs(name, scale, frames)
    show(counted, preview.render_costs, as_json)


@app.command()
def check(table: TableName, regime: TableRegime = None, as_json: AsJson = False) -> None:
    """Build every row, and check that it starts as the backbone that it is plugged into. Trains nothing.

    Example: tada check initialization
    """
    from tadaconv import preview

    loaded = load_table(table)
    if regime is None:
        regime = regime_with_clips(loaded, None, "a check reads no clips; choose it with --regime")
    checked = preview.check(loaded, load_regime(regime))
    show(checked, preview.render_check, as_json)
    raise typer.Exit(0 if checked.ok else 1)


@app.command("plan")
@takes_options
def plan_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE|STUDY", help="A table or a study; tada list shows them.")],
    regime: TableRegime = None,
    seeds: Seeds = None,
    smallest: Smallest = None,
    rows: Rows = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials of a study.")] = 20,
    data: Data = None,
    *,
    machine: MachineOptions,
    storage: Storage = None,
    out: Out = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Estimate what a run takes, from a few steps of every row: cells, hours, memory and disk.

    Example: tada plan context --seeds 3:12

    Example: tada plan stage_placement --trials 40
    """
    from tadaconv import preview
    from tadaconv.data.prefetch import num_cores, set_num_readers
    from tadaconv.execution.seed_design import asked_design
    from tadaconv.execution.store import Store

    loaded = load_named(name)
    if isinstance(loaded, LoadedTable):
        refuse(context, "trials", f"is for studies, and {name} is a table; its cells are rows times --seeds")
        require_rows(loaded, rows)
    else:
        refuse(context, "seeds", f"is for tables, and {name} is a study, whose file gives the seeds of a trial")
        refuse(context, "smallest", f"is for tables, and {name} is a study, whose trials are not compared in pairs")
        refuse(context, "rows", f"is for tables, and {name} is a study")
    regime = regime_with_clips(loaded, data) if regime is None else regime
    bare_regime = load_regime(regime)
    print_unused_recipes(loaded, regime, bare_regime)
    resolved = resolve_data(bare_regime, data, cache=out / "cache")
    store = None
    if storage is not None or (out / "journal.log").is_file():
        store = Store.open(location_of(storage, out), create=False)
        require_own_results(loaded, regime, store)
    workers, why_workers = machine.workers or 1, ""
    if isinstance(loaded, LoadedTable):
        study = table_study(loaded, resolved, study_name(loaded, regime))
        design = asked_design(study, store, metric_named(bare_regime.data.METRIC), seeds, smallest)
        if machine.workers is None:
            workers, why_workers = preview.workers_of_table(
                loaded, resolved, machine.device, machine.options, store, design=design, rows=rows or None
            )
    with Console(stderr=True).status("measuring") as status:
        set_num_readers(max(1, num_cores() // workers) if machine.readers is None else machine.readers)
        measure = preview.Measure(
            machine.device,
            workers,
            why_workers,
            lambda row: status.update(f"measuring {escape(row)}"),
            options=machine.options,
        )
        if isinstance(loaded, LoadedTable):
            planned = preview.plan_table(loaded, regime, resolved, measure, store, design=design, rows=rows or None)
        else:
            searched = loaded.study
            planned = preview.plan_trials(
                loaded.name, regime, resolved, measure, Row(searched.base, searched.base_temporal),
                num_trials=trials, num_ended=_num_ended_trials(loaded, regime, resolved, store), seeds=searched.seeds,
            )  # fmt: skip
    show(planned, preview.render_plan, as_json)
    raise typer.Exit(0 if planned.ok else 1)


def _num_ended_trials(study: "LoadedStudy", regime_name: str, regime: Regime, store: "Store | None") -> int:
    from tadaconv.study import ENDS, study_name, trial_records

    name = study_name(study, regime_name)
    if store is None or name not in store.studies():
        return 0
    return sum(record.status in ENDS for record in trial_records(study, regime, name, store))
