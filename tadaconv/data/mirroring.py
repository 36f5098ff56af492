"""Classes that are mirror images of one another, told from their names.

In a mirror image left is right and clockwise is counterclockwise. A class whose name says one of them, and whose name
with the other is a class as well, changes places with it: "pull left" with "pull right", but not "upright" with
anything, nor "turn left" where there is no "turn right".
"""

import logging
import re
from collections.abc import Iterator, Sequence

from tadaconv.errors import UserError

_OPPOSITES = (("left", "right"), ("clockwise", "counterclockwise"))
"""Words that exchange their places in a mirror."""

_OPPOSITE = {word: other for pair in _OPPOSITES for word, other in (pair, pair[::-1])}

_said: set[str] = set()

_LETTERS = re.compile(r"[^\W\d_]+")


def mirrored_labels(class_names: Sequence[str]) -> tuple[int, ...]:
    """The class of the mirror image of each class, as indices (num_classes,); its own where no other is named so."""
    indices = {name: index for index, name in enumerate(class_names)}
    return tuple(indices.get(mirrored_name(name), index) for index, name in enumerate(class_names))


def mirror_pairs(class_names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The names of classes that are mirror images of one another, each pair once, in the order of ``class_names``."""
    labels = mirrored_labels(class_names)
    return tuple((class_names[one], class_names[other]) for one, other in enumerate(labels) if one < other)


def mirrored_name(name: str) -> str:
    """``name`` with every word exchanged that a mirror exchanges; words end where letters do and where case changes.

    Words are in lower case, capitals, or begin with one; so are those put in their place.
    """
    return _LETTERS.sub(lambda letters: "".join(map(_mirrored_word, _words(letters[0]))), name)


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
        f"classes that are mirror images of one another ({named}{more}) cannot be told apart where training clips are "
        "mirrored under their own labels; have the regime say mirror='swap', which exchanges the labels too, or 'no'"
    )


def require_mirror(mirror: str, class_names: Sequence[str], *, refuse: bool = False) -> None:
    """Say what :func:`why_not_mirrored` says, if anything: as a warning, once in the life of the process.

    Raises :class:`UserError` instead with ``refuse``, for clips of which nothing was run before there was a swap.
    """
    line = why_not_mirrored(mirror, class_names)
    if line and refuse:
        raise UserError(line)
    if line and line not in _said:
        _said.add(line)
        logging.getLogger("tadaconv").warning("%s", line)


def _words(letters: str) -> Iterator[str]:
    """Cut before a capital that follows a small letter, and before the last of several that a small letter follows."""
    begin = 0
    for i in range(1, len(letters)):
        small_after = i + 1 < len(letters) and not letters[i + 1].isupper()
        if letters[i].isupper() and (not letters[i - 1].isupper() or small_after):
            yield letters[begin:i]
            begin = i
    yield letters[begin:]


def _mirrored_word(word: str) -> str:
    other = _OPPOSITE.get(word.lower())
    if other is None:
        return word
    for cased in (str.lower, str.title, str.upper):
        if cased(word) == word:
            return cased(other)
    return word
