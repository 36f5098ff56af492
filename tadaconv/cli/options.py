"""Arguments and options that several commands take."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadaconv.errors import UserError
from tadaconv.run_options import Precision, RunOptions

if TYPE_CHECKING:
    from tadaconv.execution.launcher import Crew

TableName = Annotated[
    str, typer.Argument(metavar="TABLE", help="A table's name (tada list shows them), or a path to its file.")
]
RegimeName = Annotated[
    str, typer.Option("--regime", help="Backbone, clips and recipe: a name (tada list), or a path to a file.")
]
TableRegime = Annotated[
    str | None,
    typer.Option(
        "--regime",
        help="Backbone, clips and recipe: a name (tada list), or a path to a file.",
        show_default="the table's own, else quick",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of results, checkpoints and reports.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Where the results are: a journal file, or the URL of a PostgreSQL database.",
        show_default="OUT/journal.log",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of clips, of a data set or of a pack, for regimes that need one.", show_default=False),
]
Rows = Annotated[
    list[str] | None,
    typer.Option("--rows", metavar="ROW", help="Only this row; repeat the option for more.", show_default="all"),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="N|FIRST:LAST",
        help="Seeds of every row; or FIRST, then one more at a time, up to LAST, where a comparison is undecided.",
        show_default="as the table was run before, else 1",
    ),
]
Smallest = Annotated[
    float | None,
    typer.Option(
        metavar="POINTS",
        help="Smallest difference of interest: rows that differ by less, significantly, are equivalent.",
        show_default="as the table was run before, else 1 point",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def location_of(storage: str | None, out: Path) -> str:
    """Where the results are: what ``--storage`` names, or else the journal of the run folder."""
    return str(out / "journal.log") if storage is None else storage


def refuse(context: typer.Context, name: str, why: str) -> None:
    """Raise :class:`UserError` if an option was given that would have no effect.

    Args:
        context: of the command.
        name: of the option, without its hyphens.
        why: the rest of the sentence that begins with the option's name.
    """
    source = context.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        raise UserError(f"--{name} {why}")


@dataclass(frozen=True)
class MachineOptions:
    """How and where cells are run or measured; :func:`takes_options` makes the fields options of a command."""

    device: Annotated[str, typer.Option(help="auto (CUDA if available), cpu, cuda or cuda:N.")] = "auto"
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells that run at a time, each in its own process.",
            show_default="1; of a table, as many as cores, memory and GPUs allow",
        ),
    ] = None
    gpus_per_cell: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="GPUs (on the CPU, processes) that train a cell together; N divides the micro-batches of a step.",
        ),
    ] = 1
    precision: Annotated[
        Precision, typer.Option(help="auto: bfloat16 on CUDA, float32 elsewhere; float32: without TF32.")
    ] = "auto"
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile networks with torch.compile: minutes first, then faster steps."),
    ] = False
    fused_kernels: Annotated[
        bool, typer.Option("--fused-kernels", help="Triton kernels for calibrated taps (k2, cin_k2), on NVIDIA GPUs.")
    ] = False
    readers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Reading processes of a worker, for clips that do not fit into memory; 0 reads in threads.",
            show_default="the cores of a worker",
        ),
    ] = None

    @property
    def options(self) -> RunOptions:
        """How cells are run."""
        names = {field.name for field in fields(RunOptions)}
        return RunOptions(**{name: value for name, value in vars(self).items() if name in names})


@dataclass(frozen=True)
class CrewOptions(MachineOptions):
    """The workers of commands that run cells."""

    executor: Annotated[str, typer.Option(help="Where workers run: local, ray or slurm.")] = "local"
    executor_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of ray or slurm, such as partition=gpu; repeat the option for more.",
            show_default=False,
        ),
    ] = None
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Bit for bit the same numbers on CUDA, as on the CPU; slower.")
    ] = False
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves of running cells to OUT/tensorboard.")
    ] = False

    def crew(self, storage: str, out: Path, wait_seconds: float = 0.0, default_workers: int | None = 1) -> "Crew":
        """The workers that the options ask for; raises :class:`UserError`, before anything is queued, if it cannot be.

        Args:
            storage: where the results are.
            out: the run folder.
            wait_seconds: how long a worker stays without work.
            default_workers: how many where ``--workers`` is not given; None for as many as this machine carries.
        """
        from tadaconv.execution.launcher import Crew
        from tadaconv.execution.tensorboard import require_tensorboard
        from tadaconv.execution.worker import WorkerCall

        is_plain = self.device in ("auto", "cpu") and not (self.compile or self.fused_kernels)
        if self.executor == "local" and not is_plain:  # a check imports torch
            from tadaconv.environment import resolve_device
            from tadaconv.training.computing import require

            require(self.options, resolve_device(self.device))
        pairs = [option.partition("=") for option in self.executor_option or []]
        for name, equals, _ in pairs:
            if not (name and equals):
                raise UserError(f"--executor-option {name!r} has no value; write NAME=VALUE")
        if self.tensorboard:
            require_tensorboard()
        call = WorkerCall(
            storage, "", self.device, out.resolve(), options=self.options, tensorboard=self.tensorboard,
            wait_seconds=wait_seconds,
        )  # fmt: skip
        return Crew(call, self.workers or default_workers, self.executor, {name: value for name, _, value in pairs})


def takes_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of a parameter of :class:`MachineOptions` as options, in its place."""
    own = inspect.signature(function).parameters.values()
    (group,) = (p for p in own if inspect.isclass(p.annotation) and issubclass(p.annotation, MachineOptions))
    options = inspect.signature(group.annotation).parameters
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in own
        for parameter in (options.values() if one is group else [one])
    ]

    @wraps(function)
    def wrapper(**given: Any) -> None:
        values = group.annotation(**{name: given.pop(name) for name in options})
        function(**given, **{group.name: values})

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
