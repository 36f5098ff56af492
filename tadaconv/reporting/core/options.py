"""What a caller may choose about a report, and what stands around the cells that it reports."""

from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tadaconv.errors import UserError


@dataclass(frozen=True)
class Choices:
    """How a report is made.

    Attributes:
        template: name or path of a notebook template of one's own, in the place of the one that ships for its kind;
            its report lies in a folder of its own.
        parameters: values for the template's parameters, by name.
        paper: whether the LaTeX table has the paper's numbers beside ours.
    """

    template: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    paper: bool = True


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Values by name from ``NAME=VALUE``: a value that reads as a Python literal is one, any other is text.

    Raises :class:`UserError` for a pair without a name or without ``=``, and for a name that is given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name.isidentifier() and equals):
            raise UserError(f"--parameter {pair!r} is not NAME=VALUE, such as num_clips=2")
        if name in found:
            raise UserError(f"--parameter {name} is given twice; give it one value")
        try:
            found[name] = literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[name] = text
    return found
