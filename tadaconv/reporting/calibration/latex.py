"""The layers of a trained cell as a table for a paper."""

from tadaconv.reporting.calibration.data import PARTS, CalibrationExport
from tadaconv.reporting.calibration.text import layer_names
from tadaconv.reporting.core.latex import escape


def latex_table(export: CalibrationExport) -> str:
    """Root mean squares by layer as LaTeX; needs the package booktabs and no other."""
    manifest = export.manifest
    about = (
        f"{manifest.row}, seed {manifest.seed}, cell {manifest.cells[0].cell}, {manifest.num_clips} validation clips"
    )
    heads = [("", ""), ("distance", "from one"), ("constant", ""), ("between", "clips"), ("between", "frames")]
    lines = [
        f"% {' '.join(about.split())}",
        "% Root mean squares of alpha - 1 and of its parts. Needs \\usepackage{booktabs}.",
        "\\begin{tabular}{@{}lrrrr@{}}",
        "\\toprule",
        *(" & ".join(line) + r" \\" for line in zip(*heads, strict=True)),
        "\\midrule",
    ]
    for name, line in zip(layer_names(export.layers), export.layers.to_dict("records"), strict=True):
        lines.append(" & ".join([escape(name), *(f"{line[part]:.3f}" for part in PARTS)]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"
