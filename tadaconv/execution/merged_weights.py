"""Takes the trained weights of merged results along, from run folder to run folder, and writes over none."""

import filecmp
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tadaconv.errors import RunError
from tadaconv.execution.cells import weights_file
from tadaconv.execution.journal import JournalBackend
from tadaconv.execution.store import Store


@dataclass
class TakenWeights:
    """What became of the weights of some cells, by cell key."""

    copied: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """The other run folder holds other ones, and keeps them."""
    missing: list[str] = field(default_factory=list)
    """Neither run folder holds any."""


def run_folder(store: Store) -> Path | None:
    """The folder that a journal lies in, which holds the weights of its cells; None for a server's storage."""
    return Path(store.shown).parent if isinstance(store.backend, JournalBackend) else None


def take_weights(cells: Mapping[str, str], out: Path | None, into: Path) -> TakenWeights:
    """Copy the weights of ``cells`` from the run folder ``out``, if it is known, to the run folder ``into``.

    A file is in place whole or not at all, and one that is there already stays. ``cells`` are names by cell key.

    Raises:
        RunError: a file cannot be read or written; what was copied so far stays.
    """
    taken = TakenWeights()
    for key, name in cells.items():
        # Whoever wrote the other storage wrote its keys as well, and a key becomes a path here.
        theirs = weights_file(out, key) if out is not None and key.isalnum() else None
        ours = weights_file(into, key)
        try:
            if theirs is None or not theirs.is_file():
                if not (key.isalnum() and ours.is_file()):
                    taken.missing.append(key)
            elif not ours.exists():
                _copy(theirs, ours)
                taken.copied.append(key)
            elif not filecmp.cmp(theirs, ours, shallow=False):
                taken.differing.append(key)
        except OSError as error:
            raise RunError(
                f"the results are merged, but the weights of {name} cannot be copied from {theirs} to {ours}: "
                f"{error.strerror}; mend that, and merge again"
            ) from error
    return taken


def _copy(theirs: Path, ours: Path) -> None:
    partial = ours.with_name(f"{ours.name}.{os.getpid()}.partial")
    ours.parent.mkdir(parents=True, exist_ok=True)
    try:
        with theirs.open("rb") as source, partial.open("wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(ours)
    finally:
        partial.unlink(missing_ok=True)
