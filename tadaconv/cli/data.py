"""Commands on folders of clips."""

from pathlib import Path
from typing import Annotated

import typer

from tadaconv.cli.app import Group, app
from tadaconv.cli.options import AsJson, Out, refuse
from tadaconv.cli.output import print_json
from tadaconv.command import called_with
from tadaconv.errors import UserError

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
    """Inspect every clip and list what is missing or broken. Results are kept in OUT/cache, for runs to open.

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
        text, document, ok = pack_check.render(seen), seen.model_dump_json(indent=2), seen.ok
    else:
        if layout == "classes":
            refuse(context, "accept", "is for the layouts of data sets; name one with --layout")
        from tadaconv.data.check import check_layout, render

        report = check_layout(folder, layout, split, out / "cache", quick=quick, accept=accept)
        text, document, ok = render(report), report.model_dump_json(indent=2), report.ok
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
