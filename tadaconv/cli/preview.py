"""Commands that say what there is and what a run takes: list, cost, check and plan. They train next to nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from tadaconv import catalogue
from tadaconv.cli.app import app
from tadaconv.cli.options import (
    AsJson,
    Compile,
    Data,
    Device,
    FusedKernels,
    GpusPerCell,
    Out,
    PrecisionName,
    Readers,
    Storage,
    TableName,
    TableRegime,
    refuse,
)
from tadaconv.cli.output import print_json
from tadaconv.cli.running import (
    num_ended_trials,
    regime_with_clips,
    require_own_results,
    say_unused_recipes,
    study_called,
)
from tadaconv.locations import resolve_data
from tadaconv.regime import load_regime
from tadaconv.run_options import RunOptions
from tadaconv.table import Row, load_table

Shown = TypeVar("Shown", bound=BaseModel)


def _show(result: Shown, render: Callable[[Shown], RenderableType], as_json: bool) -> None:
    print_json(result.model_dump_json(indent=2)) if as_json else Console(highlight=False).print(render(result))


@app.command("list")
def list_content(
    as_json: AsJson = False,
) -> None:
    """List what there is: tables, studies, reports, regimes, backbones, rivals, datasets and their layouts.

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
    """Count parameters, multiply-adds, activations and memory, beside the paper's. Trains nothing.

    Example: tada cost plug_in

    Example: tada cost slowfast_8x8 --frames 32
    """
    from tadaconv import preview

    scale = None if regime is None else load_regime(regime)
    with Console(stderr=True).status("tracing the networks"):
        counted = preview.costs(name, scale, frames)
    _show(counted, preview.render_costs, as_json)


@app.command()
def check(table: TableName, regime: TableRegime = None, as_json: AsJson = False) -> None:
    """Build every row, and see that it starts as the backbone it is plugged into. Trains nothing.

    Example: tada check initialization
    """
    from tadaconv import preview

    loaded = load_table(table)
    if regime is None:
        regime = regime_with_clips(loaded, None, "a check reads no clips; name it with --regime")
    checked = preview.check(loaded, load_regime(regime))
    _show(checked, preview.render_check, as_json)
    raise typer.Exit(0 if checked.ok else 1)


@app.command("plan")
def plan_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE|STUDY", help="A table or a study; tada list shows them.")],
    regime: TableRegime = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of a table; seeds 0 to N-1 would be run.")] = 1,
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", metavar="ROW", help="This row of a table alone; repeat for more.", show_default="all"),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials of a study.")] = 20,
    data: Data = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    gpus_per_cell: GpusPerCell = 1,
    precision: PrecisionName = "auto",
    compile: Compile = False,
    fused_kernels: FusedKernels = False,
    readers: Readers = None,
    storage: Storage = None,
    out: Out = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Measure what a run will take before it is paid for: cells, hours, memory and disk, from a few steps a row.

    Example: tada plan context --seeds 3 --workers 2

    Example: tada plan stage_placement --trials 40
    """
    from tadaconv import preview
    from tadaconv.data.prefetch import num_cores, set_num_readers
    from tadaconv.execution.store import Store

    study = study_called(name)
    table = load_table(name) if study is None else None
    if study is None:
        refuse(context, "trials", f"is for studies, and {name} is a table; its cells are rows times --seeds")
    else:
        refuse(context, "seeds", f"is for tables, and {name} is a study, whose file says how many seeds a trial has")
        refuse(context, "rows", f"is for tables, and {name} is a study")
    for row in rows or []:
        if table is not None:
            table.table.row(row)
    regime = regime_with_clips(table, data) if regime is None else regime
    bare_regime = load_regime(regime)
    if table is not None:
        say_unused_recipes(table, regime, bare_regime)
    resolved = resolve_data(bare_regime, data, cache=out / "cache")
    place = out / "journal.log"
    known = str(place) if storage is None else storage
    store = Store.open(known, create=False) if storage is not None or place.is_file() else None
    named = table if study is None else study
    if store is not None and named is not None:
        require_own_results(named, regime, store)
    with Console(stderr=True).status("measuring") as status:
        set_num_readers(max(1, num_cores() // workers) if readers is None else readers)
        measure = preview.Measure(
            device,
            workers,
            lambda row: status.update(f"measuring {escape(row)}"),
            options=RunOptions(
                gpus_per_cell=gpus_per_cell, precision=precision, compile=compile, fused_kernels=fused_kernels
            ),
        )
        if table is not None:
            planned = preview.plan_table(table, regime, resolved, measure, store, seeds=range(seeds), rows=rows or None)
        else:
            assert study is not None
            base = Row(study.study.base, study.study.base_temporal)
            planned = preview.plan_trials(
                study.name, regime, resolved, measure, base,
                num_trials=trials, num_ended=num_ended_trials(study, regime, resolved, store), seeds=study.study.seeds,
            )  # fmt: skip
    _show(planned, preview.render_plan, as_json)
    raise typer.Exit(0 if planned.ok else 1)
