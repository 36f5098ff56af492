"""The command that writes features of videos, for localization."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadaconv import __version__
from tadaconv.cli.app import app
from tadaconv.cli.options import Storage, TableRegime, location_of, refuse
from tadaconv.cli.running import DEFAULT_REGIME, default_regime, require_network, require_own_results, trained_cell
from tadaconv.command import called_with
from tadaconv.discovery import plain_name
from tadaconv.errors import NoResultsError, RunError, UserError
from tadaconv.spec import Backbone, Features, Folder, Untrimmed
from tadaconv.table import load_table
from tadaconv.weights import fingerprint

if TYPE_CHECKING:
    from tadaconv.models import Host

_SIZE = 224


@app.command()
def features(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="TABLE:ROW for a trained cell, a backbone (with --weights), or a checkpoint of TAda2D's authors.",
        ),
    ],
    data: Annotated[Path, typer.Option("--data", metavar="VIDEOS", help="Folder of videos.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the features; a stopped call resumes there.")],
    fps: Annotated[float, typer.Option(min=0.01, help="Frames a second at which videos are seen.")],
    stride: Annotated[int, typer.Option(min=1, help="Frames from one feature to the next.")],
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Frames that a feature sees.", show_default="of a trained cell, its clip's or step's"),
    ] = None,
    padding: Annotated[
        bool,
        typer.Option("--padding/--no-padding", help="Repeat first and last frames, so that features reach the ends."),
    ] = True,
    size: Annotated[
        int | None,
        typer.Option(
            min=16, help="Pixels of the middle crop.", show_default=f"of a trained cell, its own; else {_SIZE}"
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="A backbone's weights: a file, timm:NAME or torchvision:NAME.", show_default=False)
    ] = "",
    half: Annotated[bool, typer.Option("--float16", help="Write float16 instead of float32.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of a trained cell.", show_default="the lowest that has finished")
    ] = None,
    regime: TableRegime = None,
    storage: Storage = None,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="OUT", help="The --out of the run that trained a cell.")
    ] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto (CUDA if available), cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Write features of videos, a .npy file a video, with a manifest of their origin, features.json.

    A feature is the mean over a window of what the network has before its classifier. Features are read as data of
    tables for localization, whose regimes take their times from the manifest.

    Example: tada features "context:(3,3) + global" --data my_videos --out my_features --fps 15 --stride 4

    Example: tada features resnet50 --weights in1k.pth --data my_videos --out tsn --fps 30 --stride 16 --window 16
    """
    from rich.console import Console
    from rich.progress import track

    from tadaconv.data.feature_files import FeatureManifest
    from tadaconv.environment import resolve_device
    from tadaconv.models.extraction import first_frame, videos_under, write_features_of
    from tadaconv.nn.frames import channels_last

    videos = videos_under(data)
    if ":" in model and not model.startswith(("timm:", "torchvision:")) and not Path(model).is_file():
        refuse(context, "weights", "is for backbones; a trained cell has its own")
        network, origin, cell_window, cell_size = _trained(model, regime, seed, storage, runs)
    else:
        for name in ("seed", "regime", "storage", "runs"):
            refuse(context, name, f"is for trained cells, TABLE:ROW, and {model!r} is none")
        if window is None:
            raise UserError("give --window, the frames that a feature sees")
        network, origin = _of_file(context, Path(model)) if Path(model).is_file() else _pretrained(model, weights)
        cell_window = cell_size = 0
    frames = window or cell_window
    seen = FeatureManifest(
        **origin, num_channels=1, fps=fps, window=frames, stride=stride, padded=padding, tadaconv=__version__,
        offset=first_frame(frames, stride, padding) + frames / 2, size=size or cell_size or _SIZE,
    )  # fmt: skip
    place, console = resolve_device(device), Console(stderr=True)
    ready = channels_last(network.to(place)).eval()
    broken = []
    written = write_features_of(ready, videos, out, seen, place, half=half)
    shown = track(written, "features", len(videos), console=console, transient=True, disable=not console.is_terminal)
    for name, reason in zip(videos, shown, strict=True):
        if reason:
            broken.append(f"{videos[name]}: {reason}")
    print(
        f"{out}: features of {len(videos) - len(broken)} videos; fps {fps:g}, stride {stride}, offset {seen.offset:g}"
    )
    if broken:
        raise RunError(
            f"{len(broken)} of {len(videos)} videos have no features: {'; '.join(broken[:3])}"
            f"{'; ...' if len(broken) > 3 else ''}; mend or remove them, and give the same command again"
        )


def _trained(
    model: str, regime: str | None, seed: int | None, storage: str | None, runs: Path
) -> "tuple[Host, dict[str, Any], int, int]":
    """The network of a trained cell, its origin, the frames of its clips or of its steps, and pixels."""
    import torch

    from tadaconv.data import open_source
    from tadaconv.execution.cells import weights_file
    from tadaconv.execution.store import Store
    from tadaconv.models.localizing import LocalizingNetwork
    from tadaconv.reporting.calibration.inspection import trained_network

    table, _, row = model.partition(":")
    loaded = load_table(table)
    require_network(loaded, row)
    with called_with({"out": str(runs), **({"storage": storage} if storage else {})}):
        try:
            store = Store.open(location_of(storage, runs), create=False)
        except NoResultsError as error:
            raise NoResultsError(error.place, loaded.command(regime or DEFAULT_REGIME)) from error
        if regime is None:
            studies = store.studies()
            regime = default_regime(loaded, lambda own: f"{loaded.name}-{plain_name(own)}" in studies, "has no results")
        require_own_results(loaded, regime, store)
        record = trained_cell(loaded, regime, row, seed, store)
        experiment = record.cell.experiment
        clips = experiment.data
        if isinstance(clips, Features):
            raise UserError(
                f"row {row!r} is trained on features and has no network on clips; name a row with a backbone"
            )
        if isinstance(clips, Folder):
            num_classes = [clips.num_classes]
        else:
            num_classes = [len(head.class_names) for head in open_source(clips, torch.device("cpu")).heads]
        network = trained_network(loaded, regime, record, runs, num_classes)
    num_frames = clips.num_frames
    if isinstance(network, LocalizingNetwork):
        assert isinstance(clips, Untrimmed)
        assert network.backbone is not None
        network, num_frames = network.backbone.host, clips.window
    file = weights_file(runs, experiment.key)
    origin = {
        "model": f"{loaded.name}:{row}, seed {experiment.seed}, {plain_name(regime)}",
        "cell": experiment.key,
        "weights_fingerprint": fingerprint(file),
        "backbone": experiment.backbone.name,
        "temporal": experiment.temporal,
    }
    return network, origin, num_frames, clips.shapes[-1][-1]


def _of_file(context: typer.Context, file: Path) -> "tuple[Host, dict[str, Any]]":
    """The network of the authors' checkpoint, and its origin."""
    from tadaconv.models import load_official

    refuse(context, "weights", f"is for backbones, and {str(file)!r} has its own")
    origin = {
        "model": file.name,
        "cell": "",
        "weights_fingerprint": fingerprint(file),
        "backbone": "",
        "temporal": None,
    }
    return load_official(file), origin


def _pretrained(name: str, weights: str) -> "tuple[Host, dict[str, Any]]":
    """A backbone with its weights, and its origin."""
    from tadaconv.models import build
    from tadaconv.weights import resolve_weights

    if not weights:
        raise UserError(
            f"{name!r} has no weights yet: add --weights FILE; or name TABLE:ROW, or a checkpoint that is here"
        )
    backbone = resolve_weights(Backbone(name=name, weights=weights))
    origin = {
        "model": name if backbone.weights_file else f"{name}, {weights}", "cell": "",
        "weights_fingerprint": backbone.weights_fingerprint, "backbone": name, "temporal": None,
    }  # fmt: skip
    return build(backbone, None, num_classes=1), origin
