"""The layers of a trained cell as a table for a paper."""

from tadaconv.reporting.calibration.data import PARTS, CalibrationExport
from tadaconv.reporting.calibration.text import layer_names
from tadaconv.reporting.core.latex import escape, tabular


def latex_table(export: CalibrationExport) -> str:
    """Root mean squares by layer as LaTeX; needs the package booktabs and no other."""
    manifest = export.manifest
    about = (
        f"{manifest.row}, seed {manifest.seed}, cell {manifest.cells[0].cell}, {manifest.num_clips} validation clips"
    )
    heads = [("", ""), ("distance", "from one"), ("constant", ""), ("between", "clips"), ("between", "frames")]
    rows = [
        [escape(name), *(f"{line[part]:.3f}" for part in PARTS)]
        for name, line in zip(layer_names(export.layers), export.layers.to_dict("records"), strict=True)
    ]
    lines = [
        f"% {' '.join(about.split())}",
        "% Root mean squares of alpha - 1 and of its parts. Needs \\usepackage{booktabs}.",
        *tabular("lrrrr", zip(*heads, strict=True), rows),
    ]
    return "\n".join(lines) + "\n"
