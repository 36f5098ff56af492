"""The parts of a report's page, each a function of the exported results; a notebook cell calls one of them.

A block shows itself as HTML in a notebook and on the page, and as plain text elsewhere. Every template escapes what
it is given: names of rows, errors and paths come out as text.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tadaconv.reporting import words
from tadaconv.reporting.export import Export
from tadaconv.reporting.summary import summarise, verdicts


@dataclass(frozen=True)
class Block:
    """A piece of a report, as HTML and as text."""

    html: str
    text: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def headline(export: Export) -> Block:
    """The question of the table, and what was run to answer it."""
    question, _, about = export.manifest.question.partition("\n\n")
    title = " ".join(question.split()) or export.manifest.table
    return Block(_render("headline", m=export.manifest, title=title, about=about), title)


@cache
def _environment() -> Environment:
    folder = Path(__file__).parent / "page" / "blocks"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": words.percent, "points": words.points, "plural": words.plural}
    return environment


def _render(name: str, **context: Any) -> str:
    return _environment().get_template(f"{name}.html.j2").render(**context)
