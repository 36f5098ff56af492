"""The parts of a page: HTML from templates that escape every name, and plain text elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tadaconv.reporting.core.format import anchor, difference, scaled, score, seconds
from tadaconv.text import capitalised, plural, visible


@dataclass(frozen=True)
class Block:
    """A piece of a report, as HTML and as text; what names and errors hide in either is made visible."""

    html: str
    text: str

    def __post_init__(self) -> None:
        for part in ("html", "text"):
            object.__setattr__(self, part, visible(getattr(self, part)))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def flat(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a part of a description as readers see them; what is not set is left out."""
    return [
        (name.replace("_", " "), _by_side(value) if name in ("num_listed", "num_missing") else _in_words(value))
        for name, value in values.items()
        if value not in (None, "")
    ]


def _by_side(counts: Sequence[int]) -> str:
    """Numbers of clips for training and for validation."""
    return f"{counts[0]:,} training and {counts[1]:,} validation clips"


def _in_words(value: Any) -> str:
    """A value of a description, a part of which may be a description itself."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in flat(value))
    return str(value)


@cache
def _environment() -> Environment:
    folder = Path(__file__).parent / "templates" / "blocks"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (anchor, capitalised, difference, plural, scaled, score, seconds)
    environment.filters |= {function.__name__: function for function in filters}
    return environment


def render(name: str, **context: Any) -> str:
    """The template ``name`` of ``templates/blocks/`` as HTML."""
    # A number and its percent sign stay on one line.
    return _environment().get_template(f"{name}.html.j2").render(**context).replace(" %", "&nbsp;%")
