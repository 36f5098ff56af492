"""Classes that are mirror images of one another, known from their names.

In a mirror image left is right and clockwise is counterclockwise, which is also written anticlockwise, and with a
hyphen, an underscore or a space after counter or anti. A class with one of these words in its name changes places
with the class that is named with the other word, if there is one: "pull left" with "pull right", but not "upright" with
anything, nor "turn left" where there is no "turn right".
"""

import logging
import re
from collections.abc import Sequence

from tadaconv.errors import UserError

_CLOCKWISE, _COUNTERCLOCKWISE = "clockwise", "counterclockwise"
_SPELLINGS = (_COUNTERCLOCKWISE, "anticlockwise")

_OPPOSITES = (("left", "right"), (_CLOCKWISE, _COUNTERCLOCKWISE))
"""Words that exchange their places in a mirror."""

_OPPOSITE = {word: other for pair in _OPPOSITES for word, other in (pair, pair[::-1])}

_warned: set[str] = set()

_PART = re.compile(r"u?l+|u+(?!l)|\.+")
"""A word or what is between two, where u is a capital, l another letter and a dot any other sign."""


def mirrored_labels(class_names: Sequence[str]) -> tuple[int, ...]:
    """The class of the mirror image of each class, as indices (num_classes,); its own where no other is named so."""
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        indices.setdefault("".join(_parts(name)), []).append(index)
    labels = list(range(len(class_names)))
    for name, same in indices.items():
        other = indices.get(mirrored_name(name), [])
        if len(same) == len(other) == 1:  # names that differ in the spelling alone have no other
            labels[same[0]] = other[0]
    return tuple(labels)


def mirror_pairs(class_names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The names of classes that are mirror images of one another, each pair once, in the order of ``class_names``."""
    labels = mirrored_labels(class_names)
    return tuple((class_names[one], class_names[other]) for one, other in enumerate(labels) if one < other)


def mirrored_name(name: str) -> str:
    """``name`` with every word exchanged that a mirror exchanges; words end where letters do and where case changes.

    Words are in lower case, capitals, or begin with one; so are those put in their place. Whichever way
    ``counterclockwise`` is written, it comes out in one word.
    """
    return "".join(map(_mirrored_word, _parts(name)))


def why_not_mirrored(mirror: str, class_names: Sequence[str]) -> str:
    """Why a plain mirror is wrong for these classes, and what to do, as one line; empty where it is not.

    ``mirror`` is that of a :class:`tadaconv.spec.Folder`.
    """
    pairs = mirror_pairs(class_names) if mirror == "yes" else ()
    if not pairs:
        return ""
    named = "; ".join(f"{one!r} and {other!r}" for one, other in pairs[:3])
    more = f"; and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    return (
        f"classes that are mirror images of one another ({named}{more}) become indistinguishable if training clips are "
        "mirrored under their own labels; set mirror='swap' in the regime, which exchanges the labels too, or 'no'"
    )


def require_mirror(mirror: str, class_names: Sequence[str], *, refuse: bool = False) -> None:
    """Warn of what :func:`why_not_mirrored` returns, if anything; once in the life of the process.

    Warns as well of a swap without classes to exchange. Raises :class:`UserError` instead with ``refuse`` where a
    plain mirror is wrong, for layouts that never had a run with a plain mirror.

    Args:
        mirror: that of a :class:`tadaconv.spec.Folder`.
        class_names: of the classes.
        refuse: whether a wrong mirror is an error.
    """
    line = why_not_mirrored(mirror, class_names)
    if line and refuse:
        raise UserError(line)
    if mirror == "swap" and not mirror_pairs(class_names):
        line = "by their names no two classes are mirror images of one another; mirror='swap' does what 'yes' does"
    if line and line not in _warned:
        _warned.add(line)
        logging.getLogger("tadaconv").warning("%s", line)


def _parts(name: str) -> list[str]:
    """``name`` in words and what is between them, every way to write ``counterclockwise`` being that word."""
    cases = "".join("." if not sign.isalpha() else "u" if sign.isupper() else "l" for sign in name)
    parts = [name[slice(*part.span())] for part in _PART.finditer(cases)]
    joined: list[str] = []
    while parts:
        length = _length_of_counterclockwise(parts)
        joined.append(_cased_like(_COUNTERCLOCKWISE, parts[0]) if length else parts[0])
        del parts[: length or 1]
    return joined


def _length_of_counterclockwise(parts: Sequence[str]) -> int:
    """How many of the first ``parts`` are ``counterclockwise`` written in any way; 0 where they are not."""
    written = {1: parts[:1], 2: parts[:2]}
    if parts[1:2] in (["-"], ["_"], [" "]):
        written[3] = parts[:3:2]
    spelled = (
        length for length, words in written.items()
        if "".join(words).lower() in _SPELLINGS and all(map(_is_cased, words))
    )  # fmt: skip
    return next(spelled, 0)


def _mirrored_word(word: str) -> str:
    other = _OPPOSITE.get(word.lower())
    return word if other is None or not _is_cased(word) else _cased_like(other, word)


def _is_cased(word: str) -> bool:
    """Whether ``word`` is in lower case, in capitals, or begins with one."""
    return word in (word.lower(), word.title(), word.upper())


def _cased_like(word: str, example: str) -> str:
    cased = next(cased for cased in (str.lower, str.title, str.upper) if cased(example) == example)
    return cased(word)
