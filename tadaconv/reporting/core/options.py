"""What a caller may choose about a report, and the checks of it."""

from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tadaconv import discovery
from tadaconv.errors import UserError, unknown

FORMATS = ("html", "ipynb", "tex", "csv")
"""What a report can be written as."""


@dataclass(frozen=True)
class ReportOptions:
    """How a report is made.

    Attributes:
        template: name or path of a notebook template of one's own, in the place of the one that ships for its kind;
            its report has a separate folder.
        parameters: values for the template's parameters, by name.
        paper: whether the LaTeX table has the paper's numbers next to ours.
    """

    template: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    paper: bool = True


def require_formats(formats: Sequence[str]) -> None:
    """Raise :class:`UserError` for a format that no report has."""
    for name in formats:
        if name not in FORMATS:
            raise unknown("report format", name, FORMATS)


def require_options(options: ReportOptions, shipped: str) -> None:
    """Raise :class:`UserError` for an unknown template or parameter.

    ``shipped`` names the template that is used where ``options`` has none. Reports raise
    the same when they execute the notebook; this is for raising it before anything is read or printed.
    """
    template = discovery.find("report", options.template or shipped)
    if options.parameters:
        from tadaconv.reporting.core.notebook import require_parameters

        require_parameters(template, options.parameters)


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Values by name from ``NAME=VALUE``: a value that reads as a Python literal is one, any other is text.

    Raises :class:`UserError` for a pair without a name or without ``=``, and for a name that is given twice.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name.isidentifier() and equals):
            raise UserError(f"--parameter {pair!r} is not NAME=VALUE, such as num_clips=2")
        if name in values:
            raise UserError(f"--parameter {name} is given twice; give it one value")
        try:
            values[name] = literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            values[name] = text
    return values
