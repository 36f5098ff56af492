"""Numbers, names and lists in words, and text that others wrote made fit to be printed and stored."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes

_HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal, turns the direction of text or ends a line unseen; line feeds are text."""


def visible(text: str) -> str:
    r"""``text`` with what steers a terminal or a browser unseen, such as the escape character, as ``\x1b``."""
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def encodable(text: str) -> str:
    r"""``text`` with what UTF-8 cannot encode, which are bytes of a file's name that are not UTF-8, as ``\udce9``."""
    return text.encode(errors="backslashreplace").decode()


def path_to_text(path: Path) -> str:
    """An absolute path as text that any storage keeps: itself, or a ``file://`` URL where it is not UTF-8."""
    plain = str(path)
    return plain if encodable(plain) == plain else path.as_uri()


def text_to_path(text: str) -> Path:
    """The path that :func:`path_to_text` made ``text`` from."""
    url = text.startswith("file://")
    return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file://"))) if url else text)


def one_line(text: object) -> str:
    """``text``, such as an error's, in one line, with single spaces between its words."""
    return " ".join(str(text).split())


def plural(number: int, noun: str, nouns: str = "") -> str:
    """``1 seed``, ``3 seeds``.

    Args:
        number: how many there are.
        noun: one of them.
        nouns: several of them, where that is not ``noun`` with an s: ``batches``.
    """
    return f"{number} {noun if number == 1 else nouns or f'{noun}s'}"


def capitalised(text: str) -> str:
    """``text`` with a capital at its start; symbols of one letter and words such as *mAP* stay as they are."""
    return text if len(text) < 2 or text[1].isupper() else text[0].upper() + text[1:]


def listed(names: Sequence[object], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``, of one name or more."""
    *others, final = map(str, names)
    return f"{', '.join(others)} {last} {final}" if others else final


def three_digits(value: float) -> str:
    """As many decimals as three digits leave: 1.08, 15.3, 104."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def duration(seconds: float) -> str:
    """``41 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
