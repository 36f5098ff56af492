"""Standard output and standard error of a command, which runs on whether or not they can be written.

A run of hours must not end because its reader has gone (``| head``), the disk under its log is full, or a name has a
letter that the terminal's encoding lacks.
"""

import codecs
import io
import json
import re
import select
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from rich.console import RenderableType

Shown = TypeVar("Shown", bound=BaseModel)

_LIKE_IT = str.maketrans("\u2212\u2010\u2011\u2012\u2013\u2014\u00d7\u0394\u00b7\u2022\u2018\u2019\u201c\u201d\u2026"
                         "\u2020",
                         "-" * 6 + "xD.*''\"\".+")  # fmt: skip
"""For signs in tables and messages, an ASCII letter of the same width, so that columns stay aligned."""


def _substitute(error: UnicodeError) -> tuple[str, int]:
    r"""The substitute of characters that an encoding lacks: a similar one, or ``\xe9``, so that names still differ."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end].translate(_LIKE_IT)
    # The characters of braille are those of rich's spinner.
    lacking = re.sub("[\u2800-\u28ff]", "*", lacking)
    return lacking.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("tadaconv.substitute", _substitute)


class _Lasting(io.FileIO):
    """An open file that others may close or fill: the first write that fails is kept, and later ones are dropped."""

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, or drop what cannot be written."""
        if self.lost is None:
            try:
                while (num_bytes := super().write(data)) is None:  # a pipe that is full and does not block
                    select.select((), (self,), ())
                return num_bytes
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes


def _lasting(stream: TextIO | None) -> tuple[TextIO | None, _Lasting | None]:
    """A stream like ``stream`` that accepts every text at any time; ``stream`` itself if it is not the process's."""
    if not isinstance(stream, io.TextIOWrapper):  # none, or a notebook's
        return stream, None
    try:
        raw = _Lasting(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # closed, or of a test that keeps what is printed
        return stream, None
    stream.flush()
    lasting = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="tadaconv.substitute",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    return lasting, raw


@contextmanager
def lasting_output() -> "Generator[Output]":
    """Let ``sys.stdout`` and ``sys.stderr`` take whatever is printed meanwhile."""
    before = sys.stdout, sys.stderr
    (out, raw), (err, _) = _lasting(sys.stdout), _lasting(sys.stderr)
    sys.stdout, sys.stderr = out, err  # None where the process was started without them
    try:
        yield Output(out, raw)
    finally:
        for stream, old in zip((out, err), before, strict=True):
            if stream is not None and stream is not old:
                stream.flush()
        sys.stdout, sys.stderr = before


class Output:
    """What was printed to standard output."""

    def __init__(self, stream: TextIO | None, raw: _Lasting | None) -> None:
        self._stream, self._raw = stream, raw

    def lost(self) -> str | None:
        """Why some of it was not written; None if all of it was, or if its reader wanted no more."""
        if self._raw is None or self._stream is None:
            return None
        self._stream.flush()
        error = self._raw.lost
        return None if error is None or isinstance(error, BrokenPipeError) else error.strerror


def print_json(document: str) -> None:
    """Print a JSON document in ASCII, so that it is the same document in every encoding."""
    print(re.sub("[^\x00-\x7f]+", lambda match: json.dumps(match[0])[1:-1], document))


def show(result: Shown, render: "Callable[[Shown], RenderableType]", as_json: bool) -> None:
    """Print a result.

    Args:
        result: what a command came to.
        render: makes of it what is printed to a terminal, where a text is printed as it is.
        as_json: whether it is printed as a JSON document instead.
    """
    if as_json:
        print_json(result.model_dump_json(indent=2))
        return
    rendered = render(result)
    if isinstance(rendered, str):
        print(rendered)
    else:
        from rich.console import Console

        Console(highlight=False).print(rendered)
