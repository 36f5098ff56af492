"""Jester: 20BN's file names and those of Qualcomm's release.

A line is ``id;label``; classes have the order of their file.
"""

from tadaconv.data.annotations import Annotations, Gathering, Reader, Side

_NUM_CLASSES = 27
_LABELS = ("jester-v1-labels.csv", "labels.csv")
_LISTS: dict[Side, tuple[str, ...]] = {
    "train": ("jester-v1-train.csv", "train.csv"),
    "val": ("jester-v1-validation.csv", "validation.csv"),
    "test": ("jester-v1-test-answers.csv", "test-answers.csv", "jester-v1-test.csv", "test.csv"),
}


def _evidence(gathering: Gathering) -> str:
    labels, train = gathering.file(*_LABELS), gathering.file(*_LISTS["train"])
    if labels is None or train is None:
        return ""
    first = next(iter(gathering.lines(train)), (0, ""))[1]
    return f"{train} of lines id;label" if first.partition(";")[0].isdigit() and ";" in first else ""


def _read(gathering: Gathering) -> Annotations:
    table = gathering.file(*_LABELS)
    if table is None:
        gathering.problem(".", "no jester-v1-labels.csv or labels.csv, a class a line; put it next to the others")
    class_names = tuple(line.strip('"') for _, line in gathering.lines(table)) if table else ()
    if table:
        gathering.took_classes(table, class_names, _NUM_CLASSES, "Jester")
        if len(set(class_names)) != len(class_names):
            gathering.problem(table, "names a class twice")
    numbers = {name: number for number, name in enumerate(class_names)}
    for side, path in gathering.lists(_LISTS, "put it next to the classes"):
        for number, line in gathering.lines(path):
            clip_id, _, label = (part.strip().strip('"') for part in line.partition(";"))
            gathering.count(side)
            if label or side == "test":
                gathering.clip_of_class(path, clip_id, side, label, numbers, f"{table}", rate=12.0)
            else:
                gathering.problem(path, "lines that are not id;label: {}", f"line {number}")
    return gathering.finish((("label", class_names),), media_places="20bn-jester-v1/<id>/00001.jpg")


READER = Reader(_read, _evidence, has_mirror_classes=True)
