"""Text that others wrote, names of rows, files and errors, made fit to be printed and stored."""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

_HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal, turns the direction of text or ends a line unseen; line feeds are text."""


def visible(text: str) -> str:
    r"""``text`` with what steers a terminal or a browser unseen, such as the escape character, as ``\x1b``."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


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
