"""Commands that look at what there is and what it takes, and train next to nothing."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tadaconv import catalogue
from tadaconv.cli.app import Group, app
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
from tadaconv.command import called_with
from tadaconv.errors import UserError
from tadaconv.locations import resolve_data
from tadaconv.regime import load_regime
from tadaconv.run_options import RunOptions
from tadaconv.table import Row, load_table


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
        found = preview.costs(name, scale, frames)
    print_json(found.model_dump_json(indent=2)) if as_json else Console(highlight=False).print(
        preview.render_costs(found)
    )


@app.command()
def check(table: TableName, regime: TableRegime = None, as_json: AsJson = False) -> None:
    """Build every row, and see that it starts as the backbone it is plugged into. Trains nothing.

    Example: tada check initialization
    """
    from tadaconv import preview

    loaded = load_table(table)
    if regime is None:
        regime = regime_with_clips(loaded, None, "a check reads no clips; name it with --regime")
    found = preview.check(loaded, load_regime(regime))
    print_json(found.model_dump_json(indent=2)) if as_json else Console(highlight=False).print(
        preview.render_check(found)
    )
    raise typer.Exit(0 if found.ok else 1)


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
    from tadaconv.execution import Store

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
            found = preview.plan_table(table, regime, resolved, measure, store, seeds=range(seeds), rows=rows or None)
        else:
            assert study is not None
            base = Row(study.study.base, study.study.base_temporal)
            found = preview.plan_trials(
                study.name, regime, resolved, measure, base,
                num_trials=trials, num_ended=num_ended_trials(study, regime, resolved, store), seeds=study.study.seeds,
            )  # fmt: skip
    print_json(found.model_dump_json(indent=2)) if as_json else Console(highlight=False).print(
        preview.render_plan(found)
    )
    raise typer.Exit(0 if found.ok else 1)


data_app = typer.Typer(
    help="Look after folders of clips.\n\nExample: tada data check my_clips", rich_markup_mode="rich", cls=Group
)
app.add_typer(data_app, name="data")


@data_app.command("check")
def data_check(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of clips, of annotations and media, or of a pack.")
    ],
    layout: Annotated[
        str,
        typer.Option(
            help="How labels are read: classes, from train/<class>/* and val/<class>/* or <class>/*; or the name of a "
            "data set (tada list), from its annotation files."
        ),
    ] = "classes",
    split: Annotated[
        str,
        typer.Option(
            help="1, 2 or 3 of ucf101 and hmdb51; a file of ids of kinetics400; what the names of the files of list "
            "have in common.",
            show_default=False,
        ),
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Read headers alone: minutes, but no index for runs.")] = False,
    accept: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file of ids, one a line: clips to leave out where they are missing or broken. An empty file takes "
            "back what was accepted.",
            show_default=False,
        ),
    ] = None,
    out: Out = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Look into every clip and list what is missing or broken. What was seen is kept in OUT/cache, for runs to open.

    A check that is stopped goes on where it was. The exit status is 1 where something must be mended or accepted.

    Example: tada data check my_clips

    Example: tada data check /data/ssv2 --layout ssv2

    Example: tada data check /fast/ssv2.pack
    """
    from tadaconv.data.pack import is_pack

    if is_pack(folder):
        for name in ("split", "quick", "accept"):
            refuse(context, name, f"is not for a pack, which {str(folder)!r} is; leave it out")
        from tadaconv.data import pack_check

        seen = pack_check.check_pack(folder)
        if layout not in ("classes", seen.layout):
            raise UserError(f"{str(folder)!r} is a pack of {seen.layout}, not of {layout}; leave --layout out")
        text = "" if as_json else pack_check.render(seen)
        document, ok = seen.model_dump_json(indent=2), seen.ok
    elif layout == "classes":
        for name in ("split", "quick", "accept"):
            refuse(context, name, "is for the layouts of data sets; name one with --layout")
        from tadaconv.data.check import check, render

        found = check(folder, out / "cache")
        text = "" if as_json else render(found)
        document, ok = found.model_dump_json(indent=2), found.ok
    else:
        from tadaconv.data import layout_check

        report = layout_check.check_layout(folder, layout, split, out / "cache", quick=quick, accept=accept)
        text = "" if as_json else layout_check.render(report)
        document, ok = report.model_dump_json(indent=2), report.ok
    print_json(document) if as_json else print(text)
    raise typer.Exit(0 if ok else 1)


@data_app.command("pack")
def data_pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of annotations and media, checked.")],
    layout: Annotated[str, typer.Option(help="The name of the data set (tada list).", show_default=False)],
    pack: Annotated[
        Path, typer.Option("--out", metavar="PACK", help="A new folder, or one of a pack that was stopped.")
    ],
    split: Annotated[str, typer.Option(help="As tada data check takes it.", show_default=False)] = "",
    runs: Annotated[
        Path, typer.Option("--runs", metavar="OUT", help="The --out of tada data check, which has the index.")
    ] = Path("runs"),
) -> None:
    """Write the frames of a data set's clips as JPEGs, which are read many times faster than videos.

    PACK then stands where DIR did, --data PACK, and needs neither check nor annotations. Its short side is 256 pixels
    at most. A command that was stopped goes on where it was; tada data check PACK reads all of it again.

    Example: tada data pack /data/ssv2 --layout ssv2 --out /fast/ssv2.pack

    Then: tada ablate context --regime ssv2_8f --data /fast/ssv2.pack
    """
    if layout == "classes":
        raise UserError("folders of classes are not packed: give a list of their clips, and --layout list")
    from tadaconv.data.folder import checked_index
    from tadaconv.data.pack import is_pack
    from tadaconv.data.pack_check import summary
    from tadaconv.data.packing import pack_clips

    if is_pack(folder):
        raise UserError(f"{str(folder)!r} is a pack already; give it to a run as --data {folder}")
    with called_with({"out": str(runs)}):
        index = checked_index(layout, split, folder, runs / "cache")
        num_kept = pack_clips(index, pack)
    if num_kept:
        print(f"{num_kept:,} clips were there already")
    print(summary(pack))


@data_app.command("sample")
def data_sample(
    layout: Annotated[
        str, typer.Argument(metavar="LAYOUT", help="The data set whose files are imitated, such as ssv2.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    form: Annotated[
        str, typer.Option(help="How the media lie there, such as frames or videos.", show_default="the usual one")
    ] = "",
) -> None:
    """Write a small set of moving digits in the files of a real data set.

    Example: tada data sample ssv2 my_ssv2

    Then: tada data check my_ssv2 --layout ssv2
    """
    from tadaconv.data.sample import write_sample

    print(write_sample(layout, folder, form))
