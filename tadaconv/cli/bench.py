"""Commands that measure speed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tadaconv.cli.app import Group, app
from tadaconv.cli.options import AsJson
from tadaconv.cli.output import print_json
from tadaconv.files import require_writable

if TYPE_CHECKING:
    from tadaconv.bench.record import Benchmark
    from tadaconv.bench.run import OnProgress


bench_app = typer.Typer(
    help="Compare the speed of operators with the plain convolution.\n\nExample: tada bench op",
    rich_markup_mode="rich",
    cls=Group,
)
app.add_typer(bench_app, name="bench")


BenchDevice = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
BenchDtype = Annotated[str, typer.Option("--dtype", help="fp32 or bf16.")]
BenchMode = Annotated[str, typer.Option("--mode", help="eager, compiled, or both separated by a comma.")]
BenchMethods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Compared with the plain one: tada, naive, fused (fused kernels of tada), rivals; separated by commas.",
        show_default="all",
    ),
]
BenchContestants = Annotated[str | None, typer.Option("--contestants", hidden=True)]
"""The first name of ``--methods``."""
BenchClips = Annotated[int, typer.Option("--clips", min=1, help="Clips per pass.")]
BenchFrames = Annotated[int, typer.Option("--frames", min=1, help="Frames per clip.")]
BenchSize = Annotated[int, typer.Option("--size", help="Height and width of the network's frames in pixels.")]
BenchRounds = Annotated[int, typer.Option("--rounds", help="Rounds; a round has one trial of every method.")]
BenchOut = Annotated[Path, typer.Option("--out", help="Folder for the JSON file and the chart.")]


@bench_app.command("op")
def bench_op(
    calibration: Annotated[str, typer.Option(help="Calibration dimensions of TAdaConv, separated by commas.")] = "cin",
    shapes: Annotated[
        str | None,
        typer.Option(help="res2 to res5 (3x3 of ResNet-50), next2 to next5 (7x7 of ConvNeXt-T).", show_default="all"),
    ] = None,
    methods: BenchMethods = None,
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
    """Time the operator and its rivals, compared with the plain convolution, forward and backward.

    Example: tada bench op --calibration cin,cout --shapes res2,res5
    """
    from tadaconv.bench import op
    from tadaconv.bench.options import Options

    options = Options(device, dtype, _names(mode), _names(methods or contestants), clips, frames, size, rounds)
    places = _names(shapes) or tuple(op.SHAPES)
    _bench(lambda progress: op.bench(options, _names(calibration), places, progress), out, as_json)


@bench_app.command("step")
def bench_step(
    backbone: Annotated[str, typer.Option(help="resnet50 or convnext_tiny_clip.")] = "resnet50",
    calibration: Annotated[str, typer.Option(help="Calibration dimension of TAdaConv.")] = "cin",
    methods: BenchMethods = None,
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
    """Time a training step with the operator and its rivals, compared with the plain backbone's.

    Example: tada bench step --methods tada,naive --device cuda --dtype bf16 --clips 16 --size 224
    """
    from tadaconv.bench import step
    from tadaconv.bench.options import Options

    options = Options(device, dtype, _names(mode), _names(methods or contestants), clips, frames, size, rounds)
    _bench(lambda progress: step.bench(options, backbone, progress, calibration), out, as_json)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _bench(run: "Callable[[OnProgress], Benchmark]", out: Path, as_json: bool) -> None:
    from rich.progress import Progress

    from tadaconv.reporting.benchmark.figures import picture
    from tadaconv.reporting.benchmark.terminal import terminal_tables

    require_writable(out)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("preparing", total=1.0)
        benchmark = run(lambda doing, part: progress.update(task, description=doing, completed=part))
    written = {out / f"{benchmark.file_stem}.json": f"{benchmark.model_dump_json(indent=1)}\n".encode()}
    if (chart := picture(benchmark)) is not None:
        written[out / f"{benchmark.file_stem}.png"] = chart
    out.mkdir(parents=True, exist_ok=True)
    for path, content in written.items():
        path.write_bytes(content)
    if as_json:
        print_json(benchmark.model_dump_json(indent=2))
        return
    console = Console()
    console.print(terminal_tables(benchmark))
    for path in written:
        console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)
