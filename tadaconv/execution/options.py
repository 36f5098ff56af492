"""Options of an executor, given as ``name=value``, and the paths its workers use on other machines."""

from collections.abc import Callable, Mapping
from typing import Any

from tadaconv.errors import UserError, unknown
from tadaconv.execution.call import WorkerCall
from tadaconv.execution.location import Location

Reader = Callable[[str], Any]
"""Makes a value of its text; raises ValueError that says what is wanted instead."""


def read_options(executor: str, options: Mapping[str, str], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The values of ``options``; hyphens in names count as underscores.

    Raises :class:`UserError` for an option that is not among ``readers``, one given twice and a value that cannot be.
    """
    values: dict[str, Any] = {}
    for given, value in options.items():
        name = given.strip().replace("-", "_")
        if name not in readers:
            raise unknown(f"option of --executor {executor}", given, readers)
        if name in values:
            raise UserError(f"--executor-option {name} is given twice; give it once")
        try:
            values[name] = readers[name](value.strip())
        except ValueError as error:
            raise UserError(f"--executor-option {given}={value!r} cannot be; give {error}") from error
    return values


def text(value: str) -> str:
    """Any text in one line."""
    if not value or not value.isprintable():
        raise ValueError("some text")
    return value


def whole(least: int) -> Reader:
    """A reader of whole numbers from ``least`` on."""

    def read(value: str) -> int:
        if not value.isascii() or not value.isdigit() or int(value) < least:
            raise ValueError(f"a whole number from {least} on")
        return int(value)

    return read


def share(most: float, least_above: float = 0.0) -> Reader:
    """A reader of numbers above ``least_above`` and up to ``most``."""

    def read(value: str) -> float:
        wanted = f"a number above {least_above:g}" + (f" and up to {most:g}" if most < float("inf") else "")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(wanted) from None
        if not least_above < number <= most or number == float("inf"):
            raise ValueError(wanted)
        return number

    return read


def anywhere(call: WorkerCall) -> WorkerCall:
    """``call`` as it holds on other machines: its paths are absolute."""
    path = Location.parse(call.storage).path
    storage = call.storage if path is None else str(path.absolute())
    return call.but(storage=storage, out=call.out.absolute())
