"""A figure on its way to a page, a notebook and its files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tadaconv.reporting.core import style
from tadaconv.reporting.core.export import write_atomically
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
        return style.as_svg(self.figure, self.name)

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG, on white."""
        return style.as_png(self.figure)

    @cached_property
    def pdf(self) -> bytes:
        """The figure as PDF, on transparent ground, with its fonts in it."""
        return style.as_pdf(self.figure)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # PNG beside SVG: a notebook that its reader has not declared trusted shows no SVG.
        data = {"image/svg+xml": self.svg.decode(), "image/png": self.png, "text/plain": self.alt}
        return data, {"alt": self.alt, "caption": self.caption}


def show(drawing: Drawing | None, folder: Path | str = ".") -> None:
    """Save a drawing in ``folder``, as ``figures/<name>`` in SVG, PNG and PDF, and display it; None says nothing."""
    if drawing is None:
        return
    from IPython.display import Markdown, display

    for kind, content in (("svg", drawing.svg), ("png", drawing.png), ("pdf", drawing.pdf)):
        write_atomically(Path(folder) / "figures" / f"{drawing.name}.{kind}", content)
    display(drawing)  # type: ignore[no-untyped-call]
    # In a notebook the caption stands below as text of its own; the page takes it from the figure.
    display(Markdown(as_markdown(drawing.caption)), metadata={"is_caption": True})  # type: ignore[no-untyped-call]
