"""The command that scores detections of other programs."""

from pathlib import Path
from typing import Annotated

import typer

from tadaconv.cli.app import app
from tadaconv.cli.options import AsJson
from tadaconv.cli.output import show


@app.command("detections")
def score_detections(
    truth: Annotated[
        Path,
        typer.Argument(
            metavar="TRUTH",
            help="Annotations: JSON of ActivityNet, HACS or THUMOS, or tables of EPIC-KITCHENS-100 or their folder.",
        ),
    ],
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Detections: JSON, as they are submitted.")],
    subset: Annotated[
        str, typer.Option(help="Videos that are scored.", show_default="validation, or the only one")
    ] = "",
    tiou: Annotated[
        list[float] | None,
        typer.Option(
            metavar="THRESHOLD",
            help="A threshold of temporal overlap; repeat the option for more.",
            show_default="the protocol's: 0.5 to 0.95, for EPIC-KITCHENS-100 0.1 to 0.5",
        ),
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            help="Of EPIC-KITCHENS-100: official, or authors, which drops detections of actions that the truth lacks.",
            show_default="official",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Score detections of actions in untrimmed videos: mAP with intervals over videos, and average recall.

    Example: tada detections HACS_segments_v1.1.1.json my_results.json

    Example: tada detections EPIC_100_validation.csv my_results.json --rule authors --json
    """
    from rich.console import Console

    from tadaconv.measure.submission import render, score_submission

    with Console(stderr=True).status("scoring"):
        scored = score_submission(truth, results, subset, tiou or (), rule)
    show(scored, render, as_json)
