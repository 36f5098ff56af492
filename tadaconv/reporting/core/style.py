"""How every figure looks: one width, one type size, colours that survive greyscale and colour blindness.

Figures are drawn as wide as a page's column and with transparent ground, so that a dark page can turn them.
Colours only repeat what a marker, a line style or a label says already.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")
F = TypeVar("F", Figure, Figure | None)

WIDTH = 5.4
"""Inches: read at 1:1 in a report, and still legible at the width of a paper's column or of a phone."""

INK, SOFT, FAINT = "#1b1f24", "#6a737d", "#d5dae0"
"""Text and lines; secondary text; grid."""

LEADER = "#a3abb4"
"""Lines from points to their names, between secondary text and the grid."""

ROW, BASE = "#0072b2", "#c44e00"
"""A row and the base row (blue and vermilion of Okabe and Ito, 2008); their greys differ too."""

FILL = "#5aa9d6"
"""The strong end of a heat map, light enough for ink to be read on it, and for its turned self on a dark page."""

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.titlesize": 8.5, "axes.labelsize": 8.5,
    "xtick.labelsize": 8, "ytick.labelsize": 8.5, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": SOFT, "ytick.color": SOFT, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": SOFT, "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": False, "axes.axisbelow": True, "grid.color": FAINT, "grid.linewidth": 0.7,
    "xtick.major.size": 3, "ytick.major.size": 0, "lines.linewidth": 1.6, "lines.solid_capstyle": "butt",
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "svg.fonttype": "path",
    "pdf.fonttype": 42,
}  # fmt: skip


# Without the user's matplotlibrc and without screen backends.
_DEFAULTS = {name: value for name, value in mpl.rcParamsDefault.items() if "backend" not in name}
_WITHOUT_ORIGIN: dict[str, Any] = {
    "svg": {"Date": None, "Creator": None}, "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}  # fmt: skip
"""Metadata without a date or a version."""


LEGEND: dict[str, Any] = {"loc": "outside upper left", "frameon": False, "fontsize": 8, "borderaxespad": 0}
"""A legend above what is drawn."""


def styled(draw: Callable[P, F]) -> Callable[P, F]:
    """Draw in the style of this module, whatever the notebook around has set."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> F:
        with _in_style():
            figure = draw(*args, **kwargs)
            # Laid out once: saving it in each format would lay it out again, which takes longer than drawing it.
            if figure is not None and (engine := figure.get_layout_engine()) is not None:
                engine.execute(figure)
                figure.set_layout_engine("none")
            return figure

    return wrapper


@contextmanager
def _in_style(more: dict[Any, Any] | None = None) -> Iterator[None]:
    with mpl.rc_context({**_DEFAULTS, **RC, **(more or {})}), warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes; text next to the figure, as on the page, has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def canvas(height: float) -> tuple[Figure, Axes]:
    """A figure of the one width with a single pair of axes; not pyplot's, so a notebook does not show it twice."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def saved(figure: Figure, kind: Literal["svg", "png", "pdf"], name: str = "") -> bytes:
    """The figure as a file, the same bytes for the same drawing.

    PNG has 200 dots an inch and white ground; SVG and PDF have a transparent one. Text in a PDF stays text, in TrueType
    fonts that it contains.

    Args:
        figure: What is saved.
        kind: The format.
        name: What identifiers within an SVG file are derived from.
    """
    look: dict[str, Any] = {"dpi": 200, "facecolor": "white"} if kind == "png" else {}
    buffer = io.BytesIO()
    with _in_style({"svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, metadata=_WITHOUT_ORIGIN[kind], **look)
    return buffer.getvalue()


def space_out(wanted: list[float], gap: float) -> list[float]:
    """Positions at least ``gap`` apart, in the order of ``wanted`` and the nearest to it in least squares.

    Labels at points that nearly coincide are moved apart by it. All in the unit of the axis.
    """
    from scipy.optimize import isotonic_regression

    order, steps = np.argsort(wanted, kind="stable"), gap * np.arange(len(wanted))
    placed = np.empty(len(wanted))
    if len(wanted):
        placed[order] = isotonic_regression(np.asarray(wanted)[order] - steps).x + steps
    return [float(value) for value in placed]


def legend(figure: Figure, num_columns: int, **look: Any) -> None:
    """A legend of all labels in the figure, each once, above what is drawn."""
    entries = [entry for ax in figure.axes for entry in zip(*ax.get_legend_handles_labels(), strict=True)]
    by_label = {label: handle for handle, label in entries}
    spacing = {"handlelength": 1.8, "columnspacing": 1.2}
    figure.legend(by_label.values(), by_label.keys(), ncols=num_columns, **{**LEGEND, **spacing, **look})
