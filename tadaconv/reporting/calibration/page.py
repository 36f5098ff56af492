"""The parts of the page of a trained cell's report, each a function of what was exported."""

from typing import Any

from tadaconv.reporting.calibration import text
from tadaconv.reporting.calibration.data import PARTS, CalibrationExport, strips
from tadaconv.reporting.calibration.text import layer_names
from tadaconv.reporting.core.format import data_uri, number
from tadaconv.reporting.core.page import Block, flat, render
from tadaconv.reporting.core.text import meaning_of_families


def headline(export: CalibrationExport) -> Block:
    """Which cell was opened, and what was seen."""
    manifest = export.manifest
    title, about, found = text.title(manifest), text.about(manifest), text.findings(export)
    notes = text.context_notes(manifest.cells[0].experiment["temporal"])
    html = render("calibration_headline", manifest=manifest, title=title, about=about, found=found, notes=notes)
    return Block(html, "\n".join([title, about, *found, *notes]))


def clips(export: CalibrationExport) -> Block:
    """The clips whose alpha is shown, every frame of them."""
    lines = [
        {
            **clip,
            "right": clip["predicted"] == clip["class"],
            "sure": 100 * clip["probability"],
            "image": data_uri(image, "image/png"),
        }
        for clip, image in zip(export.clips.to_dict("records"), strips(export).values(), strict=True)
    ]
    said = [f"{line['class']}: predicted as {line['predicted']}, {line['sure']:.0f} %" for line in lines]
    num_frames = len(export.frames[0])
    meaning = meaning_of_families({line["family"] for line in lines}, classes=True)
    html = render("calibration_clips", clips=lines, num_frames=num_frames, meaning=meaning)
    return Block(html, "\n".join([*said, meaning]).rstrip())


def layers(export: CalibrationExport) -> Block:
    """Every layer with its distances from one."""
    lines = [
        {
            "name": name,
            "num": line["num"],
            "frames": line["num_frames"],
            **{part: number(line[part]) for part in (*PARTS, "over_inner_time")},
        }
        for name, line in zip(layer_names(export.layers), export.layers.to_dict("records"), strict=True)
    ]
    has_inner = bool(export.layers["over_inner_time"].notna().any())
    return Block(render("calibration_layers", lines=lines, has_inner=has_inner), export.layers.to_string(index=False))


def conditions(export: CalibrationExport) -> Block:
    """What the cell was trained on, by which recipe, and which clips were looked at."""
    manifest = export.manifest
    groups = {name: flat(values) for name, values in manifest.conditions.items()}
    temporal = manifest.cells[0].experiment["temporal"]
    groups["plugged in"] = flat({name: value for name, value in _unfolded(temporal).items() if name != "kind"})
    html = render("calibration_conditions", manifest=manifest, groups=groups)
    return Block(html, "\n".join(f"{name}: {values}" for name, values in groups.items()))


def _unfolded(tree: dict[str, Any], within: str = "") -> dict[str, Any]:
    """A description as one level of names: ``context kernels``; lists as readers write them."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _unfolded(value, f"{within}{name} ")
        else:
            found[within + name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return found


def cell_lines(export: CalibrationExport) -> list[dict[str, Any]]:
    """The cell as :func:`tadaconv.reporting.core.provenance.provenance` takes it."""
    manifest = export.manifest
    key = manifest.cells[0].cell
    return [
        {"row": manifest.row, "seed": manifest.seed, "cell": key, "status": "finished", "top1": manifest.top1,
         "seconds": manifest.seconds}
    ]  # fmt: skip


def methods() -> Block:
    """How the numbers are made."""
    return Block(render("calibration_methods"), "Methods: root mean squares of alpha - 1 and of its parts.")
