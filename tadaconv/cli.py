"""The command line, ``tada``: names things, and holds no logic.

Exit status 0; 1 if a run failed; 2 if the call is wrong, with one line that says how to mend it; 130 after Ctrl-C.
"""

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from tadaconv import __version__, catalogue, discovery
from tadaconv.ablation import (
    LoadedTable,
    Row,
    current_records,
    load_table,
    require_writable,
    resolve_data,
    run_table,
    study_name,
)
from tadaconv.errors import RunError, UserError, unknown
from tadaconv.regime import load_regime
from tadaconv.spec import describe

if TYPE_CHECKING:
    from tadaconv.bench.record import Benchmark
    from tadaconv.bench.run import Report
    from tadaconv.execution import CellRecord, Crew, Planned, Store
    from tadaconv.execution.live import Lines, Show
    from tadaconv.regime import Regime
    from tadaconv.study import LoadedStudy

# Typer brings its own click or uses the installed one, by version; its public exception leads to the right base.
_WrongCall: type[Exception] = typer.BadParameter.__mro__[1]


_INTERRUPTED = 130


class _Group(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    rich_markup_mode="rich",
    help="Ablation tables of temporally-adaptive convolutions (TAdaConv): run them, and report what was found.\n\n"
    "Example: tada ablate context",
)

TableName = Annotated[
    str, typer.Argument(metavar="TABLE", help="A table's name (tada list shows them), or a path to its file.")
]
RegimeName = Annotated[
    str, typer.Option("--regime", help="Backbone scale, clips and recipe: a name (tada list), or a path to a file.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for results, checkpoints and reports.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Where the results are: a journal file, or postgresql+psycopg://USER@HOST/DATABASE.",
        show_default="OUT/journal.log",
    ),
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of labelled clips, for the regimes that need one.", show_default=False)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[int, typer.Option("--workers", help="Cells run at a time, each by a process of its own.")]
Executor = Annotated[str, typer.Option("--executor", help="What runs the workers: local, ray or slurm.")]
ExecutorOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--executor-option",
        metavar="NAME=VALUE",
        help="An option of ray or slurm, such as partition=gpu; repeat for more.",
        show_default=False,
    ),
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="The same numbers bit for bit on CUDA too, as on the CPU; slower.")
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tadaconv {__version__}")
        raise typer.Exit


@app.callback()
def _tada(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``tada`` on ``arguments``, by default those of the process, and exit with its status."""
    if arguments is None:
        _hide_password()
    sys.exit(_status(list(sys.argv[1:] if arguments is None else arguments)))


def _hide_password() -> None:
    """Start over without the password that a URL among the arguments holds: who lists processes would read it."""
    if not any("://" in argument for argument in sys.argv[1:]):
        return
    from tadaconv.execution.location import hide_password

    try:
        hidden, environment = hide_password(sys.argv[1:])
    except UserError as error:
        sys.exit(_complain(str(error), 2))
    if environment:
        interpreter = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])]
        os.execve(sys.executable, [*interpreter, *hidden], {**os.environ, **environment})


def _status(arguments: list[str]) -> int:
    try:
        command = typer.main.get_command(app)
        status = command.main(arguments or ["--help"], prog_name="tada", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except _WrongCall as error:
        message: str = error.format_message()  # type: ignore[attr-defined]
        return _complain(f"{message.rstrip('.')}; see: tada --help", 2)
    except ValidationError as error:
        return _complain(describe(error), 2)
    except UserError as error:
        return _complain(str(error), 2)
    except RunError as error:
        return _complain(str(error), 1)
    if status == _INTERRUPTED:  # typer turns Ctrl-C into this status or into Abort, by version
        again = shlex.join(["tada", *arguments])
        runs = arguments[:1] in (["ablate"], ["study"], ["worker"])
        kept = "what has finished is kept, go on with" if runs else "start again with"
        return _complain(f"stopped; {kept}: {again}", status)
    return int(status)


def _complain(message: str, status: int) -> int:
    print("tada:", " ".join(message.splitlines()), file=sys.stderr)
    return status


@app.command("list")
def list_content(
    as_json: AsJson = False,
) -> None:
    """List what there is: tables, studies, reports, regimes, backbones, rivals and datasets.

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
def ablate(
    table: TableName,
    regime: RegimeName = "quick",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds; seeds 0 to N-1 are run.")] = 1,
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", metavar="ROW", help="Run this row alone; repeat for more.", show_default="all"),
    ] = None,
    data: Data = None,
    device: Device = "auto",
    workers: Workers = 1,
    executor: Executor = "local",
    executor_option: ExecutorOptions = None,
    deterministic: Deterministic = False,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Run a table and report it. Cells that have a result are not run again; a failed cell is tried anew.

    Any number of calls, on any machines, share the work of one storage.

    Example: tada ablate context --seeds 3 --workers 2

    Example: tada ablate context --rows "(1,1)" --rows "(3,3) + global"
    """
    from tadaconv.execution import Store

    loaded = load_table(table)
    for name in rows or []:
        loaded.table.row(name)
    bare_regime = load_regime(regime)
    place = storage or str(out / "journal.log")
    crew = _crew(place, device, out, workers, executor, executor_option, deterministic)
    require_writable(out)
    resolved = resolve_data(bare_regime, data, cache=out / "cache")
    store = Store.open(place)
    raise typer.Exit(_run_and_report(Console(), loaded, regime, resolved, store, crew, range(seeds), rows or None, out))


@app.command()
def worker(
    device: Device = "auto",
    workers: Workers = 1,
    executor: Executor = "local",
    executor_option: ExecutorOptions = None,
    deterministic: Deterministic = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to stay without work before leaving.")] = 0.0,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Help with whatever is queued in a storage, from this or another machine, until nothing is left.

    Come and go as you like: a cell that is not finished goes back to the queue. Clips must lie at the same path as
    where the table was started; checkpoints are found again if OUT is the same folder.

    Example: tada worker --storage postgresql+psycopg://me@server/results --workers 4
    """
    from tadaconv.execution import Store, join

    place = storage or str(out / "journal.log")
    crew = _crew(place, device, out, workers, executor, executor_option, deterministic, wait)
    store = Store.open(place, create=False)
    require_writable(out)
    console = Console()
    with _lines(console) as show:
        num_ended = join(store, crew, show.event, show.line)
    console.print(f"{num_ended} cells ended here", highlight=False)


@app.command()
def study(
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
    device: Device = "auto",
    workers: Workers = 1,
    executor: Executor = "local",
    executor_option: ExecutorOptions = None,
    deterministic: Deterministic = False,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Search a design space and report it. A study may be stopped, gone on with, and its space may grow.

    Example: tada study stage_placement --trials 40 --workers 2

    Example: tada study stage_placement --confirm 3 --seeds 3
    """
    from tadaconv import study as studies
    from tadaconv.execution import Store

    loaded = studies.load_study(name)
    bare_regime = load_regime(regime)
    place = storage or str(out / "journal.log")
    crew = _crew(place, device, out, workers, executor, executor_option, deterministic)
    require_writable(out)
    resolved = resolve_data(bare_regime, data, cache=out / "cache")
    store = Store.open(place)
    kept = studies.study_name(loaded, regime)
    console = Console()
    if confirm is not None:
        records = studies.trial_records(loaded, resolved, kept, store)
        table = studies.confirm(loaded, records, confirm)
        chosen = studies.confirm_seeds(loaded, seeds)
        raise typer.Exit(_run_and_report(console, table, regime, resolved, store, crew, chosen, None, out))
    from tadaconv.reporting.study.live import StudyView

    with StudyView(console, loaded, regime, trials) as view, _logged(view):
        studies.search(loaded, resolved, kept, store, num_trials=trials, crew=crew, show=view)
    _report_study(console, loaded, regime, resolved, store, out, None)


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="TABLE|STUDY", help="A table or a study; tada list shows them.")],
    regime: RegimeName = "quick",
    formats: Annotated[
        str, typer.Option("--format", help="What to write: html, ipynb, tex and csv, separated by commas.")
    ] = "html,ipynb,tex,csv",
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Report a table or a study from the results there are. Trains nothing.

    A study whose best have been run on new seeds (tada study NAME --confirm) gets the table of these as well.

    Example: tada report context --format html,tex
    """
    from tadaconv.execution import Store

    found, wanted = _study_called(name), [each.strip() for each in formats.split(",")]
    loaded = load_table(name) if found is None else None
    resolved = load_regime(regime)
    store = Store.open(storage or str(out / "journal.log"), create=False)
    require_writable(out)
    console = Console()
    if found is not None:
        from tadaconv.study import confirmed

        _report_study(console, found, regime, resolved, store, out, wanted)
        loaded = confirmed(found, regime, store)
    if loaded is not None:
        records = current_records(loaded, resolved, study_name(loaded, regime), store)
        _write_report(console, loaded, regime, records, out, wanted)
        _print_table(console, loaded, regime, records)


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
    print(found.model_dump_json(indent=2)) if as_json else Console(highlight=False).print(preview.render_costs(found))


@app.command()
def check(table: TableName, regime: RegimeName = "quick", as_json: AsJson = False) -> None:
    """Build every row, and see that it starts as the backbone it is plugged into. Trains nothing.

    Example: tada check initialization
    """
    from tadaconv import preview

    found = preview.check(load_table(table), load_regime(regime))
    print(found.model_dump_json(indent=2)) if as_json else Console(highlight=False).print(preview.render_check(found))
    raise typer.Exit(0 if found.ok else 1)


@app.command("plan")
def plan_command(
    name: Annotated[str, typer.Argument(metavar="TABLE|STUDY", help="A table or a study; tada list shows them.")],
    regime: RegimeName = "quick",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of a table; seeds 0 to N-1 would be run.")] = 1,
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", metavar="ROW", help="This row of a table alone; repeat for more.", show_default="all"),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials of a study.")] = 20,
    data: Data = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    storage: Storage = None,
    out: Out = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Measure what a run will take before it is paid for: cells, hours, memory and disk, from a few steps a row.

    Example: tada plan context --seeds 3 --workers 2

    Example: tada plan stage_placement --trials 40
    """
    from tadaconv import preview
    from tadaconv.execution import Store

    study = _study_called(name)
    table = load_table(name) if study is None else None
    for row in rows or []:
        if table is not None:
            table.table.row(row)
    resolved = resolve_data(load_regime(regime), data, cache=out / "cache")
    place = out / "journal.log"
    store = Store.open(storage or str(place), create=False) if storage or place.is_file() else None
    with Console(stderr=True).status("measuring") as status:
        measure = preview.Measure(device, workers, lambda row: status.update(f"measuring {escape(row)}"))
        if table is not None:
            found = preview.plan_table(table, regime, resolved, measure, store, seeds=range(seeds), rows=rows or None)
        else:
            assert study is not None
            base = Row(study.study.base, study.study.base_temporal)
            found = preview.plan_trials(
                study.name, regime, resolved, measure, base,
                num_trials=trials, num_ended=_num_ended(study, regime, resolved, store), seeds=study.study.seeds,
            )  # fmt: skip
    print(found.model_dump_json(indent=2)) if as_json else Console(highlight=False).print(preview.render_plan(found))
    raise typer.Exit(0 if found.ok else 1)


@app.command("export")
def export_storage(
    form: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="The results: a journal file or a URL.", show_default="runs/journal.log"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path("runs/export"),
) -> None:
    """Write all cells and studies of a storage as flat files: attempts, cells, curves and studies.

    Example: tada export --format parquet --out results
    """
    from tadaconv.execution import Store
    from tadaconv.reporting import archive

    archive.require_format(form)
    store = Store.open(storage or "runs/journal.log", create=False)
    console = Console()
    with console.status("reading the storage"):
        paths = archive.write_archive(archive.read_storage(store), out, form)
    for path in paths:
        console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


@app.command("merge")
def merge_storages(
    sources: Annotated[
        list[str], typer.Argument(metavar="FROM...", help="Storages to copy from: journal files or URLs.")
    ],
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Copy the results of other storages into this one, none twice. The others are only read.

    Example: tada merge laptop/journal.log server/journal.log --storage runs/journal.log
    """
    from tadaconv.execution import Store
    from tadaconv.execution.merge import merge

    others = [Store.open(source, create=False) for source in sources]
    into = Store.open(storage or str(out / "journal.log"))
    for found in merge(others, into):
        for line in (*found.notes, str(found)):
            Console(soft_wrap=True).print(line, markup=False, highlight=False)


@app.command("dashboard")
def dashboard_command(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8080,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Show a storage in Optuna's dashboard, to be read only and on this machine alone. Ctrl-C ends it.

    Example: tada dashboard --port 8081
    """
    from tadaconv import dashboard
    from tadaconv.execution import Store

    store = Store.open(storage or str(out / "journal.log"), create=False)
    dashboard.serve(
        store, port, lambda address: print(f"{store.shown} is shown at {address} (Ctrl-C ends it)", flush=True)
    )


data_app = typer.Typer(
    help="Look after folders of clips.\n\nExample: tada data check my_clips", rich_markup_mode="rich", cls=_Group
)
app.add_typer(data_app, name="data")


@data_app.command("check")
def data_check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with train/<class>/* and val/<class>/*, or <class>/*.")
    ],
    as_json: AsJson = False,
) -> None:
    """Decode every clip of a folder and list what is broken.

    Example: tada data check my_clips
    """
    from tadaconv.data.check import check, render

    found = check(folder)
    print(found.model_dump_json(indent=2) if as_json else render(found))
    raise typer.Exit(0 if found.ok else 1)


bench_app = typer.Typer(
    help="Speed against the plain convolution, with its spread.\n\nExample: tada bench op",
    rich_markup_mode="rich",
    cls=_Group,
)
app.add_typer(bench_app, name="bench")

BenchDevice = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
BenchDtype = Annotated[str, typer.Option("--dtype", help="fp32 or bf16.")]
BenchMode = Annotated[str, typer.Option("--mode", help="eager, compiled, or both separated by a comma.")]
BenchContestants = Annotated[
    str | None,
    typer.Option(
        "--contestants", help="Beside the plain one: tada, naive and rivals, separated by commas.", show_default="all"
    ),
]
BenchClips = Annotated[int, typer.Option("--clips", min=1, help="Clips a pass.")]
BenchFrames = Annotated[int, typer.Option("--frames", min=1, help="Frames a clip.")]
BenchSize = Annotated[int, typer.Option("--size", help="Height and width of the network's frames in pixels.")]
BenchRounds = Annotated[int, typer.Option("--rounds", help="Rounds, in each of which every contestant has a turn.")]
BenchOut = Annotated[Path, typer.Option("--out", help="Folder for the JSON file and the chart.")]


@bench_app.command("op")
def bench_op(
    calibration: Annotated[str, typer.Option(help="Calibrations of ours, separated by commas.")] = "cin",
    shapes: Annotated[
        str | None,
        typer.Option(help="res2 to res5 (3x3 of ResNet-50), next2 to next5 (7x7 of ConvNeXt-T).", show_default="all"),
    ] = None,
    contestants: BenchContestants = None,
    device: BenchDevice = "auto",
    dtype: BenchDtype = "fp32",
    mode: BenchMode = "eager",
    clips: BenchClips = 2,
    frames: BenchFrames = 8,
    size: BenchSize = 224,
    rounds: BenchRounds = 15,
    out: BenchOut = Path("benchmarks/results"),
    as_json: AsJson = False,
) -> None:
    """Time the operator and its rivals against the plain convolution, forward and backward.

    Example: tada bench op --calibration cin,cout --shapes res2,res5
    """
    from tadaconv.bench import op
    from tadaconv.bench.settings import Settings

    chosen = Settings(device, dtype, _names(mode), _names(contestants), clips, frames, size, rounds)
    places = _names(shapes) or tuple(op.SHAPES)
    _bench(lambda report: op.bench(chosen, _names(calibration), places, report), out, as_json)


@bench_app.command("step")
def bench_step(
    backbone: Annotated[str, typer.Option(help="resnet50 or convnext_tiny_clip.")] = "resnet50",
    contestants: BenchContestants = None,
    device: BenchDevice = "auto",
    dtype: BenchDtype = "fp32",
    mode: BenchMode = "eager",
    clips: BenchClips = 2,
    frames: BenchFrames = 8,
    size: BenchSize = 112,
    rounds: BenchRounds = 9,
    out: BenchOut = Path("benchmarks/results"),
    as_json: AsJson = False,
) -> None:
    """Time a training step with the operator and its rivals against the plain backbone's.

    Example: tada bench step --contestants tada,naive --device cuda --dtype bf16 --clips 16 --size 224
    """
    from tadaconv.bench import step
    from tadaconv.bench.settings import Settings

    chosen = Settings(device, dtype, _names(mode), _names(contestants), clips, frames, size, rounds)
    _bench(lambda report: step.bench(chosen, backbone, report), out, as_json)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _bench(run: "Callable[[Report], Benchmark]", out: Path, as_json: bool) -> None:
    from rich.progress import Progress

    from tadaconv.bench import files, render

    require_writable(out)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("preparing", total=1.0)
        found = run(lambda doing, part: progress.update(task, description=doing, completed=part))
    paths = files.write(found, out)
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    console = Console()
    console.print(render.render(found))
    for path in paths:
        console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


def _crew(
    storage: str,
    device: str,
    out: Path,
    workers: int,
    executor: str,
    executor_options: Sequence[str] | None,
    deterministic: bool,
    wait: float = 0.0,
) -> "Crew":
    """The workers that the options ask for; a wrong device is said before anything is queued."""
    from tadaconv.execution import Crew, WorkerCall

    if device not in ("auto", "cpu"):  # those are always right, and the check waits for torch
        from tadaconv.experiment import resolve_device

        resolve_device(device)
    call = WorkerCall(storage, "", device, out.resolve(), wait_seconds=wait, deterministic=deterministic)
    pairs = [option.partition("=") for option in executor_options or []]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise UserError(f"--executor-option {name!r} has no value; write NAME=VALUE")
    return Crew(call, workers, executor, {name: value for name, _, value in pairs})


def _study_called(name: str) -> "LoadedStudy | None":
    """The study behind a name or a path; None if it is that of a table, or of nothing."""
    from tadaconv.study import load_study

    is_path = name.endswith(".py") or "/" in name
    if is_path and hasattr(discovery.load("ablation table", name), "STUDY"):
        return load_study(name)
    if is_path or name in discovery.available("ablation table"):
        return None
    known = discovery.available("study")
    if name not in known:
        raise unknown("table or study", name, [*discovery.available("ablation table"), *known])
    return load_study(name)


def _num_ended(study: "LoadedStudy", regime_name: str, regime: "Regime", store: "Store | None") -> int:
    """How many trials of a study have ended."""
    from tadaconv.study import study_name, trial_records
    from tadaconv.study.trials import ENDS

    name = study_name(study, regime_name)
    if store is None or name not in store.studies():
        return 0
    return sum(record.status in ENDS for record in trial_records(study, regime, name, store))


def _run_and_report(
    console: Console,
    loaded: LoadedTable,
    regime_name: str,
    regime: "Regime",
    store: "Store",
    crew: "Crew",
    seeds: range,
    rows: Sequence[str] | None,
    out: Path,
) -> int:
    """Run a table, print it and write its report; the exit status."""
    study = study_name(loaded, regime_name)
    ran = run_table(
        loaded,
        regime,
        study,
        store,
        seeds=seeds,
        rows=rows,
        crew=crew,
        show=lambda planned: _shown(console, store, study, planned),
    )
    records = current_records(loaded, regime, study, store)
    _print_table(console, loaded, regime_name, records)
    status = _summarise_failures(ran)
    _write_report(console, loaded, regime_name, records, out)  # last: its notebook takes its time
    return status


def _report_study(
    console: Console,
    loaded: "LoadedStudy",
    regime_name: str,
    regime: "Regime",
    store: "Store",
    out: Path,
    formats: Sequence[str] | None,
) -> None:
    from tadaconv import reporting
    from tadaconv.reporting.study import study_report, study_table
    from tadaconv.study import kept_budget, trial_records
    from tadaconv.study import study_name as name_of_study

    study = name_of_study(loaded, regime_name)
    records = trial_records(loaded, regime, study, store)
    console.print(study_table(loaded, regime_name, records))
    with console.status("writing the report"):
        folder = study_report(
            loaded, regime_name, records, out, formats or reporting.FORMATS, max_macs=kept_budget(study, store)
        )
    console.print(f"report: {folder}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _logged(show: "Lines") -> Generator[None]:
    """Show what the package logs, in the place of lines that would tear a live table."""

    class _Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            show.line(record.getMessage())

    log, handler = logging.getLogger("tadaconv"), _Handler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _lines(console: Console) -> Generator["Show"]:
    from tadaconv.execution.live import LineView

    with LineView(console) as view, _logged(view):
        yield view


@contextmanager
def _shown(console: Console, store: "Store", study: str, planned: "Planned") -> Generator["Show"]:
    from tadaconv.execution.live import view

    console.print(str(planned), highlight=False)
    with view(console, store.records(study), len(planned.to_run)) as show, _logged(show):
        yield show


def _print_table(console: Console, loaded: LoadedTable, regime: str, records: Sequence["CellRecord"]) -> None:
    from tadaconv import reporting

    console.print(reporting.terminal_table(loaded, regime, records))


def _write_report(
    console: Console,
    loaded: LoadedTable,
    regime: str,
    records: Sequence["CellRecord"],
    out: Path,
    formats: Sequence[str] | None = None,
) -> None:
    from tadaconv import reporting

    with console.status("writing the report"):
        folder = reporting.report(loaded, regime, records, out, reporting.FORMATS if formats is None else formats)
    console.print(f"report: {folder}", markup=False, highlight=False, soft_wrap=True)


def _summarise_failures(ran: Sequence["CellRecord"]) -> int:
    failed = [record for record in ran if record.status == "failed"]
    if not failed:
        return 0
    _complain(f"{len(failed)} of {len(ran)} cells failed; the same command tries each anew", 1)
    for record in failed:
        print(f"  {record.cell.label}, seed {record.cell.experiment.seed}: {record.error}", file=sys.stderr)
    return 1
