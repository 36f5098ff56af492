"""Copies trained weights and class probabilities of merged results between run folders; overwrites none."""

import filecmp
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tadaconv.errors import RunError
from tadaconv.execution.cells import scores_file, weights_file
from tadaconv.execution.journal import JournalBackend
from tadaconv.execution.store import Store
from tadaconv.files import replacing

CELL_FILES = {"trained weights": weights_file, "class probabilities": scores_file}
"""The files that a run folder keeps of a cell, by their contents."""


@dataclass
class TakenFiles:
    """The cells with copied, differing and missing files, by cell key."""

    copied: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """The other run folder has a different file, which is kept."""
    missing: list[str] = field(default_factory=list)
    """Neither run folder has the file."""


def run_folder(store: Store) -> Path | None:
    """The folder of a journal, which holds weights and scores of its cells; None for a server's storage."""
    return Path(store.shown).parent if isinstance(store.backend, JournalBackend) else None


def take_files(contents: str, cells: Mapping[str, str], out: Path | None, into: Path) -> TakenFiles:
    """Copy a file of each of ``cells`` from the run folder ``out``, if it is known, to the run folder ``into``.

    A file is copied whole or not at all, and an existing one is kept.

    Args:
        contents: of the files: one of :data:`CELL_FILES`.
        cells: names by cell key.
        out: the run folder to copy from.
        into: the run folder to copy to.

    Raises:
        RunError: a file cannot be read or written; what was copied so far stays.
    """
    taken, file_of = TakenFiles(), CELL_FILES[contents]
    for key, name in cells.items():
        # The keys are those of another's storage, and a key becomes part of a path here.
        theirs = file_of(out, key) if out is not None and key.isalnum() else None
        ours = file_of(into, key)
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
                f"the results are merged, but the {contents} of {name} cannot be copied from {theirs} to {ours}: "
                f"{error.strerror}; correct that, and merge again"
            ) from error
    return taken


def _copy(theirs: Path, ours: Path) -> None:
    with theirs.open("rb") as source, replacing(ours, durable=True) as file:
        shutil.copyfileobj(source, file)
