"""The parts of the page of a trained cell's report, each a function of what was exported."""

from typing import Any

from tadaconv.reporting import blocks
from tadaconv.reporting.blocks import Block, render
from tadaconv.reporting.calibration import sentences
from tadaconv.reporting.calibration.frame import PARTS, CalibrationExport
from tadaconv.reporting.calibration.words import layer_names, number


def headline(export: CalibrationExport) -> Block:
    """Which cell was opened, and what was seen."""
    manifest = export.manifest
    title, about, found = sentences.title(manifest), sentences.about(manifest), sentences.findings(export)
    notes = sentences.context_notes(manifest.cells[0].experiment["temporal"])
    html = render("calibration_headline", manifest=manifest, title=title, about=about, found=found, notes=notes)
    return Block(html, "\n".join([title, about, *found, *notes]))


def layers(export: CalibrationExport) -> Block:
    """Every layer with its distances from one."""
    lines = [
        {"name": name, "num": line["num"], "frames": line["num_frames"], **{part: number(line[part]) for part in PARTS}}
        for name, line in zip(layer_names(export.layers), export.layers.to_dict("records"), strict=True)
    ]
    return Block(render("calibration_layers", lines=lines), export.layers.to_string(index=False))


def conditions(export: CalibrationExport) -> Block:
    """What the cell was trained on, by which recipe, and which clips were looked at."""
    manifest = export.manifest
    groups = {name: blocks.flat(values) for name, values in manifest.conditions.items()}
    temporal = manifest.cells[0].experiment["temporal"]
    groups["plugged in"] = blocks.flat({name: value for name, value in temporal.items() if name != "kind"})
    html = render("calibration_conditions", manifest=manifest, groups=groups)
    return Block(html, "\n".join(f"{name}: {values}" for name, values in groups.items()))


def cell_lines(export: CalibrationExport) -> list[dict[str, Any]]:
    """The cell as :func:`tadaconv.reporting.provenance.provenance` takes it."""
    manifest = export.manifest
    key = manifest.cells[0].cell
    return [
        {"row": manifest.row, "seed": manifest.seed, "cell": key, "status": "finished", "top1": manifest.top1,
         "seconds": manifest.seconds}
    ]  # fmt: skip


def methods() -> Block:
    """How the numbers are made."""
    return Block(render("calibration_methods"), "Methods: root mean squares of alpha - 1 and of its parts.")
