"""How data sets are laid out on disks, a file a layout.

A layout reads annotations and lists media; it opens no video.
"""

from pathlib import Path

from tadaconv.data.annotations import Annotations, Gathering, Reader
from tadaconv.data.layouts import diving48, epic100, hmdb51, jester, kinetics400, lists, ssv2, ucf101
from tadaconv.data.layouts.classes import read_class_folders
from tadaconv.data.media import Tree, survey
from tadaconv.errors import UserError, lookup
from tadaconv.spec import Folder

LAYOUTS: dict[str, Reader] = {
    "ssv2": ssv2.READER,
    "kinetics400": kinetics400.READER,
    "epic100": epic100.READER,
    "ucf101": ucf101.READER,
    "hmdb51": hmdb51.READER,
    "diving48": diving48.READER,
    "jester": jester.READER,
    "list": lists.READER,
}


def read(layout: str, root: Path, split: str = "") -> Annotations:
    """The annotations under ``root``, with every problem of the annotations and of where the media are.

    ``split`` is the number of the split for UCF101 and HMDB51, a file of ids for Mini-Kinetics, and what the names of
    lists have in common for ``list``. Raises :class:`UserError` for a layout that is not known, a root that is not a
    folder, and a split that the layout does not have.

    Args:
        layout: a name in :data:`LAYOUTS`, or ``classes`` for class folders, split as :class:`.spec.Folder` does.
        root: the folder of annotations and media.
        split: of the layout; empty for the usual.
    """
    reader = None if layout == "classes" else lookup("layout", layout, LAYOUTS)
    if split and not (reader and reader.has_splits):
        raise UserError(f"split {split!r} of {layout}, which has only one; leave the split out")
    if reader is None:
        return read_class_folders(root, Folder().val_share)
    tree = _survey(root)
    gathering = Gathering(layout, split, tree)
    if not reader.evidence(gathering) and (other := _guess(tree)):
        name, evidence = other
        gathering.problem(".", f"not of layout {layout}: looks like {name} ({evidence}); add --layout {name}")
    return reader.read(gathering)


def split_of(layout: str, split: str) -> str:
    """``split``, or the default split of ``layout`` where none is named; raises as :func:`read` does."""
    return split or ("" if layout == "classes" else lookup("layout", layout, LAYOUTS).default_split)


def guess(root: Path) -> tuple[str, str] | None:
    """The layout that ``root`` looks like, and the evidence for it; None without any.

    Raises :class:`UserError` if ``root`` is not a folder.
    """
    return _guess(_survey(root))


def _guess(tree: Tree) -> tuple[str, str] | None:
    for name, reader in LAYOUTS.items():
        if evidence := reader.evidence(Gathering(name, "", tree)):
            return name, evidence
    return None


def _survey(root: Path) -> Tree:
    if not root.is_dir():
        raise UserError(f"no folder at {str(root)!r}; give the one that holds annotations and videos")
    return survey(root)
