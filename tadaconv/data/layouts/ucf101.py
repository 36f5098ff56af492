"""UCF101: three splits, ``classInd.txt``, ``trainlist01.txt``, ``testlist01.txt``; its test clips validate."""

from tadaconv.data.annotations import Annotations, Gathering, Listed, Reader, Side
from tadaconv.data.media import comparable, stem
from tadaconv.errors import UserError

_NUM_CLASSES = 101
SPLITS = ("1", "2", "3")


def split_number(gathering: Gathering) -> str:
    """The split asked for, by default the first; raises :class:`UserError` for any but 1, 2 and 3."""
    number = gathering.split or SPLITS[0]
    if number not in SPLITS:
        raise UserError(f"split {number!r} of {gathering.layout}; one of: {', '.join(SPLITS)}")
    return number


def _evidence(gathering: Gathering) -> str:
    path = gathering.file("classInd.txt")
    return path if path and gathering.file("trainlist01.txt") else ""


def _class_names(gathering: Gathering) -> tuple[str, ...]:
    path = gathering.file("classInd.txt")
    if path is None:
        gathering.problem(".", "no classInd.txt; unpack UCF101TrainTestSplits-RecognitionTask.zip there")
        return ()
    names: dict[int, str] = {}
    for number, line in gathering.lines(path):
        first, _, name = line.partition(" ")
        if not first.isdecimal() or not name:
            gathering.problem(path, "lines that are no class such as '1 ApplyEyeMakeup': {}", f"line {number}")
            continue
        names[int(first)] = name.strip()
    return gathering.numbered_classes(path, names, _NUM_CLASSES, "UCF101", first=1)


def _read(gathering: Gathering) -> Annotations:
    split = split_number(gathering)
    class_names = _class_names(gathering)
    numbers = {comparable(name): number for number, name in enumerate(class_names)}
    lists: dict[Side, list[str]] = {"train": [f"trainlist0{split}.txt"], "val": [f"testlist0{split}.txt"]}
    for side, path in gathering.lists(lists, "unpack UCF101TrainTestSplits-RecognitionTask.zip there"):
        for number, line in gathering.lines(path):
            gathering.count(side)
            medium, _, label = line.replace("\\", "/").partition(" ")
            folder, _, video = medium.rpartition("/")
            of_folder = numbers.get(comparable(folder))
            if of_folder is None:
                if class_names:
                    gathering.problem(path, f"{folder!r} is not a class of classInd.txt; lines: {{}}", f"line {number}")
                continue
            if label and label.strip() != str(of_folder + 1):
                gathering.problem(path, "labels that are not the number of their folder's class: {}", f"line {number}")
                continue
            gathering.clip(path, stem(video), Listed(side, (of_folder,), folder=folder, rate=25.0))
    return gathering.finish(
        (("label", class_names),), class_folders=True, media_places="<Class>/<name>.avi or a folder <name> of frames"
    )


READER = Reader(_read, _evidence, has_splits=True, default_split=SPLITS[0])
