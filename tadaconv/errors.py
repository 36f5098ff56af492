"""Exceptions of the package, and the message for a mistyped name."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Self, TypeVar

T = TypeVar("T")


class UserError(ValueError):
    """The call is wrong; the message is one line that says how to mend it.

    The command line prints it and exits with status 2. Broken invariants of our own are ``assert``s instead.
    """


class NoResultsError(UserError):
    """There is no storage at ``place``."""

    def __init__(self, place: str, run: str) -> None:
        super().__init__(f"no results at {place}; make some with: {run}, or name another storage")
        self.place, self.run = place, run

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """From its arguments, so that it passes from a worker to its parent."""
        return type(self), (self.place, self.run)


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """An error for ``name`` that lists every right name, the nearest first.

    Args:
        kind: what is named, for readers: ``backbone``.
        name: what was given.
        known: the right names.
    """
    names = list(known)
    ranked = sorted(names, key=lambda n: -difflib.SequenceMatcher(None, name.lower(), n.lower()).ratio())
    listing = ", ".join(ranked) if ranked else "(none)"
    return UserError(f"unknown {kind} {name!r}; one of: {listing}")


def lookup(kind: str, name: str, registry: Mapping[str, T]) -> T:
    """``registry[name]``; raises :class:`UserError` that lists the right names, nearest first.

    Args:
        kind: what is named, for readers: ``backbone``.
        name: what was given.
        registry: values by their names.
    """
    if name not in registry:
        raise unknown(kind, name, registry)
    return registry[name]


class RunError(RuntimeError):
    """A cell cannot finish (loss not finite, out of memory, disk full); the message says why."""


class StorageError(RunError):
    """The storage cannot be written or its server is unreachable: no cell is at fault, and the run has to stop."""
