"""Commands on a whole storage."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tadaconv.cli.app import app
from tadaconv.cli.options import Out, Storage, location_of
from tadaconv.cli.running import print_line


@app.command("export")
def export_storage(
    form: Annotated[str, typer.Option("--format", help="Format of the files: csv or parquet.")] = "csv",
    storage: Annotated[
        str, typer.Option("--storage", help="Where the results are: a journal file or a URL.")
    ] = "runs/journal.log",
    out: Annotated[Path, typer.Option("--out", help="Folder of the files.")] = Path("runs/export"),
) -> None:
    """Export all cells and studies of a storage as tables: attempts, cells, curves and studies.

    Example: tada export --format parquet --out results
    """
    from tadaconv.execution.store import Store
    from tadaconv.reporting import archive

    archive.require_format(form)
    store = Store.open(storage, create=False)
    console = Console()
    with console.status("reading the storage"):
        paths = archive.write_archive(archive.read_storage(store), out, form)
    for path in paths:
        print_line(console, f"written: {path}")


@app.command("merge")
def merge_storages(
    sources: Annotated[
        list[str], typer.Argument(metavar="FROM...", help="Storages to copy from: journal files or URLs.")
    ],
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Copy the results of other storages into this one, each cell once. The others are only read.

    Trained weights and class probabilities, in the folder weights/ next to a journal, are copied as well.

    Example: tada merge laptop/journal.log server/journal.log --storage runs/journal.log
    """
    from tadaconv.execution.merge import merge
    from tadaconv.execution.store import Store

    others = [Store.open(source, create=False) for source in sources]
    into = Store.open(location_of(storage, out))
    console = Console()
    with console.status("merging"):
        merged = merge(others, into, out)
    for source in merged:
        for line in (*source.notes, str(source)):
            print_line(console, line)


@app.command("dashboard")
def dashboard_command(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8080,
    storage: Storage = None,
    out: Out = Path("runs"),
) -> None:
    """Show a storage in Optuna's dashboard, read-only and for this machine only, until Ctrl-C.

    Example: tada dashboard --port 8081
    """
    from tadaconv import dashboard
    from tadaconv.execution.store import Store

    store = Store.open(location_of(storage, out), create=False)
    dashboard.serve(
        store, port, lambda address: print(f"{store.shown} is shown at {address} (Ctrl-C ends it)", flush=True)
    )
