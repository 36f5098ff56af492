"""Takes the trained weights and the scores of merged results along, from run folder to run folder; writes over none."""

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
    """What became of the weights, or of the scores, of some cells, by cell key."""

    copied: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """The other run folder holds other ones, and keeps them."""
    missing: list[str] = field(default_factory=list)
    """Neither run folder holds any."""


def run_folder(store: Store) -> Path | None:
    """The folder that a journal lies in, which holds weights and scores of its cells; None for a server's storage."""
    return Path(store.shown).parent if isinstance(store.backend, JournalBackend) else None


def take_files(contents: str, cells: Mapping[str, str], out: Path | None, into: Path) -> TakenFiles:
    """Copy a file of each of ``cells`` from the run folder ``out``, if it is known, to the run folder ``into``.

    A file is in place whole or not at all, and one that is there already stays.

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
        # Whoever wrote the other storage wrote its keys as well, and a key becomes a path here.
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
                f"{error.strerror}; mend that, and merge again"
            ) from error
    return taken


def _copy(theirs: Path, ours: Path) -> None:
    with theirs.open("rb") as source, replacing(ours, durable=True) as file:
        shutil.copyfileobj(source, file)
