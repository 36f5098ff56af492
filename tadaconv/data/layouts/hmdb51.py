"""HMDB51: three splits, a file a class and split, ``<class>_test_split1.txt``: 1 trains, 2 tests, 0 is not used."""

import re

from tadaconv.data.annotations import Annotations, Gathering, Listed, Reader, Side
from tadaconv.data.layouts.ucf101 import SPLITS, split_number
from tadaconv.data.media import stem

_NUM_CLASSES = 51
_NAME = re.compile(r"(?P<class_name>.+)_test_split(?P<split>[123])\.txt", re.IGNORECASE)


def _files(gathering: Gathering, split: str) -> dict[str, str]:
    """The file of every class, by class in alphabetical order."""
    files: dict[str, str] = {}
    for path in gathering.companions(lambda name: _NAME.fullmatch(name) is not None):
        name = _NAME.fullmatch(path.rpartition("/")[2])
        if name is not None and name["split"] == split:
            files.setdefault(name["class_name"], path)
    return dict(sorted(files.items()))


def _evidence(gathering: Gathering) -> str:
    files = _files(gathering, "1")
    return f"{next(iter(files.values()))} and {len(files) - 1} like it" if files else ""


def _read(gathering: Gathering) -> Annotations:
    split = split_number(gathering)
    files = _files(gathering, split)
    if not files:
        gathering.problem(".", f"no <class>_test_split{split}.txt; unpack test_train_splits.rar there")
    else:
        folder = next(iter(files.values())).rpartition("/")[0] or "."
        gathering.files.append(f"*_test_split{split}.txt in {folder}: {len(files)} classes")
        if len(files) != _NUM_CLASSES:
            gathering.warning(folder, f"{len(files)} classes of split {split}, where HMDB51 has {_NUM_CLASSES}")
    for label, (class_name, path) in enumerate(files.items()):
        for number, line in gathering.lines(path):
            name, _, use = line.rpartition(" ")  # names may hold spaces and any sign
            name = stem(name.strip())
            if not name or use not in ("0", "1", "2"):
                gathering.problem(path, "lines that are not 'name.avi' and 0, 1 or 2: {}", f"line {number}")
            elif use == "0":
                gathering.leave_out(name, class_name)
            else:
                side: Side = "train" if use == "1" else "val"
                gathering.count(side)
                clip = Listed(side, (label,), key=name, exact=name, folder=class_name, rate=30.0)
                gathering.clip(path, f"{class_name}/{name}", clip)
    return gathering.finish(
        (("label", tuple(files)),),
        class_folders=True,
        published={"val": (1530, "alibaba-mmai-research/TAdaConv#21")} if split == "1" else {},
        media_places="<class>/<name>.avi or a folder <name> of frames",
    )


READER = Reader(_read, _evidence, has_splits=True, default_split=SPLITS[0])
