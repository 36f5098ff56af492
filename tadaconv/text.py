"""Text that others wrote, names of rows and errors, made fit to be printed."""

import re

_HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal, turns the direction of text or ends a line unseen; line feeds are text."""


def visible(text: str) -> str:
    r"""``text`` with what steers a terminal or a browser unseen, such as the escape character, as ``\x1b``."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
