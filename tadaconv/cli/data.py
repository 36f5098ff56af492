"""Commands on folders of clips."""

from pathlib import Path
from typing import Annotated

import typer

from tadaconv.cli.app import Group, app
from tadaconv.cli.options import AsJson, Out, refuse
from tadaconv.cli.output import show
from tadaconv.command import called_with
from tadaconv.errors import UserError

data_app = typer.Typer(
    help="Check, pack and imitate data sets.\n\nExample: tada data check my_clips", rich_markup_mode="rich", cls=Group
)
app.add_typer(data_app, name="data")


@data_app.command("check")
def data_check(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of clips, of annotations and media, or of a pack."),
    ],
    layout: Annotated[
        str,
        typer.Option(
            help="Source of the labels: classes for folders train/<class>/* and val/<class>/*, or <class>/*; or the "
            "name of a layout (tada list) for the annotation files of a data set."
        ),
    ] = "classes",
    split: Annotated[
        str,
        typer.Option(
            help="1, 2 or 3 for ucf101 and hmdb51; a file of ids for kinetics400; the common part of file names for "
            "list.",
            show_default=False,
        ),
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Read headers only: minutes, but no index for runs.")] = False,
    accept: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of ids, one per line, of missing or broken clips to leave out; an empty file undoes it.",
            show_default=False,
        ),
    ] = None,
    out: Out = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Inspect every clip and list what is missing or broken. The index for runs is written to OUT/cache.

    A check that was stopped resumes. The exit status is 1 if clips have to be repaired or accepted.

    Example: tada data check my_clips

    Example: tada data check /data/ssv2 --layout ssv2

    Example: tada data check /fast/ssv2.pack
    """
    from tadaconv.data.pack import is_pack

    if is_pack(folder):
        for name in ("split", "quick", "accept"):
            refuse(context, name, f"is not for a pack, which {str(folder)!r} is; leave it out")
        from tadaconv.data import pack_check

        pack = pack_check.check_pack(folder)
        if layout not in ("classes", pack.layout):
            raise UserError(f"{str(folder)!r} is a pack of {pack.layout}, not of {layout}; leave --layout out")
        show(pack, pack_check.render, as_json)
        raise typer.Exit(0 if pack.ok else 1)
    if layout == "classes":
        refuse(context, "accept", "is only for the layouts of data sets; name one with --layout")
    from tadaconv.data.check import check_layout, render

    checked = check_layout(folder, layout, split, out / "cache", quick=quick, accept=accept)
    show(checked, render, as_json)
    raise typer.Exit(0 if checked.ok else 1)


@data_app.command("pack")
def data_pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of annotations and media, already checked.")],
    layout: Annotated[str, typer.Option(help="The layout of the data set (tada list).", show_default=False)],
    pack: Annotated[
        Path, typer.Option("--out", metavar="PACK", help="A new folder, or that of a pack that was stopped.")
    ],
    split: Annotated[str, typer.Option(help="As for tada data check.", show_default=False)] = "",
    runs: Annotated[
        Path, typer.Option("--runs", metavar="OUT", help="The --out of tada data check, where the index is.")
    ] = Path("runs"),
) -> None:
    """Write the frames of a data set's clips as JPEGs, which are read many times faster than videos.

    Runs take PACK in place of DIR, as --data PACK, and need neither a check nor annotations. Short sides of frames are
    256 pixels at most. A pack that was stopped resumes; tada data check PACK reads all of it again.

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
        print(f"{num_kept:,} clips were packed before")
    print(summary(pack))


@data_app.command("sample")
def data_sample(
    layout: Annotated[
        str,
        typer.Argument(
            metavar="LAYOUT",
            help="The layout of the data set to imitate, such as ssv2; hacs_features or epic_features.",
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    form: Annotated[
        str,
        typer.Option(
            help="Form of the media, such as frames or videos; of features npy, npz, csv or pt.",
            show_default="the usual one",
        ),
    ] = "",
) -> None:
    """Write a small data set of moving digits in the layout of a real data set, or made features with annotations.

    Example: tada data sample ssv2 my_ssv2

    Then: tada data check my_ssv2 --layout ssv2
    """
    from tadaconv.data.sample import write_sample

    print(write_sample(layout, folder, form))
