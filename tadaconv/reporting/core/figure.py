"""A figure on its way to a page, a notebook and its files; and which numbers can be drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tadaconv.files import write_atomically
from tadaconv.reporting.core import style
from tadaconv.reporting.core.text import as_markdown
from tadaconv.text import visible


@dataclass(frozen=True)
class Drawing:
    """A figure with the name of its files, a caption for those who see it and a text for those who do not."""

    name: str
    figure: Figure
    caption: str
    alt: str

    def __post_init__(self) -> None:
        for part in ("caption", "alt"):
            object.__setattr__(self, part, visible(getattr(self, part)))

    @cached_property
    def svg(self) -> bytes:
        """The figure as SVG, on transparent ground."""
        return style.saved(self.figure, "svg", self.name)

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG, on white."""
        return style.saved(self.figure, "png")

    @cached_property
    def pdf(self) -> bytes:
        """The figure as PDF, on transparent ground, with its fonts in it."""
        return style.saved(self.figure, "pdf")

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # PNG next to SVG: a notebook that its reader has not declared trusted shows no SVG.
        data = {"image/svg+xml": self.svg.decode(), "image/png": self.png, "text/plain": self.alt}
        narrow = {"is_narrow": True} if self.figure.get_figwidth() < style.WIDTH else {}
        return data, {"alt": self.alt, "caption": self.caption, **narrow}


def figure(
    *, caption: Callable[..., str], alt: Callable[..., str]
) -> Callable[[Callable[..., Figure | None]], Callable[..., Drawing | None]]:
    """Make a function that draws, ``name`` or ``draw_name``, into one that returns the :class:`Drawing` called so.

    It is drawn in the style of all figures. Drawing, caption and text are each called with those values that they
    name among their parameters; values for the caption or the text alone are given by keyword. Where the function
    returns None there is no figure.

    Args:
        caption: Makes the text below the figure, for readers who have never seen the code.
        alt: Makes the text in its place, for those who cannot see it.
    """

    def decorate(draw: Callable[..., Figure | None]) -> Callable[..., Drawing | None]:
        @wraps(draw)
        def drawing(*args: Any, **kwargs: Any) -> Drawing | None:
            values = {**dict(zip(signature(draw).parameters, args, strict=False)), **kwargs}
            known = {name for part in (draw, caption, alt) for name in signature(part).parameters}
            if not values.keys() <= known:
                raise TypeError(f"{draw.__name__} has no {', '.join(sorted(values.keys() - known))}")

            def call(part: Callable[..., Any]) -> Any:
                return part(**{name: values[name] for name in signature(part).parameters if name in values})

            drawn = call(style.styled(draw))
            name = draw.__name__.removeprefix("draw_")
            return None if drawn is None else Drawing(name, drawn, call(caption), call(alt))

        return drawing

    return decorate


def show(drawing: Drawing | None, folder: Path | str = ".") -> None:
    """Save a drawing in ``folder``, as ``figures/<name>`` in SVG, PNG and PDF, and display it; nothing for None."""
    if drawing is None:
        return
    from IPython.display import Markdown, display

    for kind, content in (("svg", drawing.svg), ("png", drawing.png), ("pdf", drawing.pdf)):
        write_atomically(Path(folder) / "figures" / f"{drawing.name}.{kind}", content)
    display(drawing)  # type: ignore[no-untyped-call]
    # In a notebook the caption is separate text below; the page takes it from the figure.
    display(Markdown(as_markdown(drawing.caption)), metadata={"is_caption": True})  # type: ignore[no-untyped-call]


LARGEST = float(np.finfo(np.float32).max)
"""Networks compute in single precision or less; beyond its range nothing was measured."""


def parted(data: pd.DataFrame, column: str, low: float = 0.0, high: float = 100.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lines of ``data`` with a number from ``low`` to ``high`` in ``column``, and the others, NaN among them."""
    is_drawn = _can_be_drawn(data[column], low, high)
    return data[is_drawn], data[~is_drawn]


def parted_by_cell(
    data: pd.DataFrame, column: str, low: float = 0.0, high: float = 100.0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As :func:`parted`, where one wrong line leaves out all of its cell (columns row and seed).

    A mean over seeds that some leave on the way would jump without any of them having changed.
    """
    is_wrong = ~_can_be_drawn(data[column], low, high)
    keeps = ~is_wrong.groupby([data["row"], data["seed"]]).transform("any")
    return data[keeps], data[~keeps]


def _can_be_drawn(values: "pd.Series[float]", low: float, high: float) -> "pd.Series[bool]":
    return values.between(max(low, -LARGEST), min(high, LARGEST))
