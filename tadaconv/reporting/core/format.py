"""Numbers and names as readers see them: rounded once, here, and the same everywhere."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from math import floor, log10

from tadaconv.metrics import ROUNDING_ERROR, TOP1, Metric
from tadaconv.text import listed

MINUS = "\u2212"


def score(value: float, metric: Metric) -> str:
    """A score with the decimals of its metric and without its unit, or a dash where it is not known."""
    return f"{value:.{metric.decimals}f}" if value == value else "\u2013"


def percent(value: float) -> str:
    """An accuracy with one decimal, or a dash where it is not known."""
    return score(value, TOP1)


def published(value: float, metric: Metric) -> str:
    """A number of the paper with every digit it prints, and at least the decimals of ours; a dash without a number."""
    return score(value, metric) if value != value or value == round(value, metric.decimals) else f"{value:g}"


def p_value(p: float) -> str:
    """``p = 0.031`` or, of what three decimals cannot show, ``p < 0.001``."""
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def difference(value: float, metric: Metric) -> str:
    """A difference with its sign and the decimals of its metric, or a dash where it is not known.

    One that would round to zero and is not has as many decimals as show its first digit, -0.04 or +0.003: verdicts rest
    on which side of zero the end of an interval is. Rounding errors of equal scores are zero.
    """
    if value != value:
        return "\u2013"
    size = abs(value)
    if size <= ROUNDING_ERROR:
        return f"{0:.{metric.decimals}f}"
    shown = f"{size:.{metric.decimals}f}"
    if float(shown) == 0:
        shown = f"{size:.{-floor(log10(size))}f}".rstrip("0")
    return f"{MINUS if value < 0 else '+'}{shown}"


def distance(value: float, metric: Metric) -> str:
    """The size of a difference with its unit: ``0.4 points``."""
    return metric.of_difference(difference(abs(value), metric).removeprefix("+"))


def coefficient(value: float) -> str:
    """A rank correlation with two decimals and a true minus, or a dash where it is not known."""
    if value != value:
        return "\u2013"
    rounded = round(value, 2)
    return f"{MINUS if rounded < 0 else ''}{abs(rounded):.2f}"


def count_scale(counts: Iterable[int]) -> tuple[float, str]:
    """The unit in which the largest of ``counts`` has one to three digits before the point: k, M or G."""
    largest = max(counts, default=0)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= unit:
            return unit, name
    return 1.0, ""


def scaled(count: object, unit: float) -> str:
    """``count / unit`` to four digits (27.49, 191.5), plain counts in full, or a dash where it is not known."""
    if not isinstance(count, int | float) or count != count:
        return "\u2013"
    if unit == 1:
        return f"{count:.0f}"
    return f"{count / unit:.{2 if count < 100 * unit else 1}f}"


def seconds(value: float) -> str:
    """A time in seconds: whole ones, one decimal below ten, or a dash where it is not known."""
    if value != value:
        return "\u2013"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def in_unit(heading: str, unit: str, between: str = " ") -> str:
    """``heading`` with its unit in brackets, if it has one."""
    return f"{heading}{between}({unit})" if unit else heading


def in_unit_of(metric: Metric) -> str:
    """``top-1 in percent``, for running text."""
    unit = "percent" if metric.unit == "%" else metric.unit
    return f"{metric.label} in {unit}" if unit else metric.label


def some(names: Sequence[str], most: int = 8) -> str:
    """All of a few names, separated by semicolons, or the first of more than ``most`` with how many more there are."""
    return (
        "; ".join(names) if len(names) <= most else f"{'; '.join(names[: most - 2])}; and {len(names) - most + 2} more"
    )


def data_uri(content: bytes, kind: str) -> str:
    """``content`` as an address that needs no request."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def anchor(row: str) -> str:
    """Where a page lists the cells of ``row``: a name for links within it."""
    return f"cells-{hashlib.sha256(row.encode()).hexdigest()[:8]}"


def at_once(labels: Sequence[str]) -> str:
    """What all labels of a clip are together: of a verb and a noun, an action."""
    return "action" if tuple(labels) == ("verb", "noun") else f"{listed(labels)} at once"


def number(value: float, scale: float | None = None) -> str:
    """An alpha, or a distance from one, with so many decimals that ``scale``, or itself, has two digits.

    A dash where it is not known.
    """
    if value != value:
        return "\u2013"
    size = abs(value if scale is None else scale)
    decimals = 2
    while decimals < 6 and 0 < size < 10.0 ** (1 - decimals):
        decimals += 1
    return f"{value:.{decimals}f}".replace("-", MINUS)
