"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from tadaconv.errors import UserError

TableName = Annotated[
    str, typer.Argument(metavar="TABLE", help="A table's name (tada list shows them), or a path to its file.")
]
RegimeName = Annotated[
    str, typer.Option("--regime", help="Backbone scale, clips and recipe: a name (tada list), or a path to a file.")
]
TableRegime = Annotated[
    str | None,
    typer.Option(
        "--regime",
        help="Backbone scale, clips and recipe: a name (tada list), or a path to a file.",
        show_default="the table's own where its clips are there, else quick",
    ),
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
    Path | None,
    typer.Option(help="Folder of clips, or of a data set, for the regimes that need one.", show_default=False),
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
Readers = Annotated[
    int | None,
    typer.Option(
        "--readers",
        min=0,
        help="Processes a worker that read clips ahead, where these do not fit into memory; 0 reads in threads.",
        show_default="the cores of a worker",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def refuse(context: typer.Context, name: str, why: str) -> None:
    """Raise :class:`UserError` if the option ``name`` was given, which would have no effect."""
    source = context.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        raise UserError(f"--{name} {why}")
