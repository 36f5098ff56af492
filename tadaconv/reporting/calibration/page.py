"""The parts of the page of a trained cell's report, each a function of what was exported."""

from typing import Any

import pandas as pd

from tadaconv.reporting.calibration import text
from tadaconv.reporting.calibration.data import PARTS, CalibrationExport, strips
from tadaconv.reporting.calibration.text import layer_names
from tadaconv.reporting.core.format import data_uri, number
from tadaconv.reporting.core.page import Block, flat, render
from tadaconv.reporting.core.text import meaning_of_families


def headline(export: CalibrationExport) -> Block:
    """Which cell was inspected, and how far its calibration is from one."""
    manifest = export.manifest
    title, about, findings = text.title(manifest), text.about(manifest), text.findings(export)
    notes = text.context_notes(manifest)
    html = render("calibration_headline", manifest=manifest, title=title, about=about, findings=findings, notes=notes)
    return Block(html, "\n".join([title, about, *findings, *notes]))


def clips(export: CalibrationExport) -> Block:
    """The clips whose alpha is shown, every frame of them."""
    clips, strip_of = export.clips.to_dict("records"), strips(export)
    images = {name: data_uri(image, "image/png") for name, image in strip_of.items()}
    predictions = [f"{clip['class']}: predicted as {clip['predicted']}, {clip['probability']:.2f}" for clip in clips]
    num_frames = len(export.frames[0])
    meaning = meaning_of_families(set(export.clips["family"]), classes=True)
    html = render("calibration_clips", clips=clips, images=images, num_frames=num_frames, meaning=meaning)
    return Block(html, "\n".join([*predictions, meaning]).rstrip())


def layers(export: CalibrationExport) -> Block:
    """Every layer with its distances from one."""
    numbers = {part: export.layers[part].map(number) for part in (*PARTS, "over_inner_time")}
    lines = export.layers.assign(name=layer_names(export.layers), **numbers).to_dict("records")
    has_inner = bool(export.layers["over_inner_time"].notna().any())
    html = render("calibration_layers", lines=lines, has_inner=has_inner)
    return Block(html, export.layers.to_string(index=False))


def segments(export: CalibrationExport) -> Block:
    """The true segments of the clips shown, and the best detections in each."""
    assert export.segments is not None
    tables = [
        (clip, export.segments[export.segments["clip"] == clip["clip"]].to_dict("records"))
        for clip in export.clips.to_dict("records")
    ]
    return Block(render("calibration_segments", tables=tables), export.segments.to_string(index=False))


def conditions(export: CalibrationExport) -> Block:
    """What the cell was trained on, by which recipe, and which clips were inspected."""
    manifest = export.manifest
    groups = {name: flat(values) for name, values in manifest.conditions.items()}
    temporal = manifest.cells[0].experiment["temporal"]
    if manifest.localizes:
        groups["localization"] = flat(manifest.cells[0].experiment["localization"])
    groups["plugged in"] = flat({name: value for name, value in _leaves(temporal).items() if name != "kind"})
    html = render("calibration_conditions", manifest=manifest, groups=groups)
    return Block(html, "\n".join(f"{name}: {values}" for name, values in groups.items()))


def _leaves(tree: dict[str, Any]) -> dict[str, Any]:
    """A description with one level of names, ``context kernels``, and lists in words."""
    leaves = pd.json_normalize(tree, sep=" ").to_dict("records")[0]
    return {
        str(name): ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in leaves.items()
    }


def cell_lines(export: CalibrationExport) -> list[dict[str, Any]]:
    """The cell as :func:`tadaconv.reporting.core.provenance.provenance` takes it."""
    manifest = export.manifest
    key = manifest.cells[0].cell
    return [
        {"row": manifest.row, "seed": manifest.seed, "cell": key, "status": "finished",
         manifest.metric: manifest.score, "seconds": manifest.seconds}
    ]  # fmt: skip


def methods() -> Block:
    """Methods."""
    return Block(render("calibration_methods"), "Methods: root mean squares of alpha - 1 and of its parts.")
