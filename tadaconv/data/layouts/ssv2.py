"""Something-Something-V2: 20BN's file names and those of Qualcomm's release.

The key of the table of labels is a template without its square brackets; ids and class numbers are strings. The lists
of TAdaConv's authors, ``*-with-label.json``, have a number in each entry, which serves where there is no table.
"""

from typing import Any

from tadaconv.data.annotations import LEFT_RIGHT, Annotations, Gathering, Reader, Side

_NUM_CLASSES = 174
_HINT = "the archives 20bn-something-something-v2-00 to -19 are parts of a single one, to be joined before unpacking"
_NAMES: dict[Side | str, tuple[str, ...]] = {
    "labels": ("something-something-v2-labels.json", "labels.json"),
    "train": ("something-something-v2-train.json", "train.json", "something-something-v2-train-with-label.json"),
    "val": (
        "something-something-v2-validation.json",
        "validation.json",
        "something-something-v2-validation-with-label.json",
    ),
    "test": ("something-something-v2-test.json", "test.json"),
    "answers": ("test-answers.csv", "something-something-v2-test-answers.csv"),
}


def _file(gathering: Gathering, part: Side | str) -> str | None:
    return gathering.file(*_NAMES[part])


def _evidence(gathering: Gathering) -> str:
    path = _file(gathering, "labels")
    train = _file(gathering, "train") or _file(gathering, "val")
    if path is None or train is None:
        return train if train and train.endswith("-with-label.json") else ""
    names = gathering.json(path)
    return f"{path} with {len(names)} templates" if isinstance(names, dict) else ""


def _class_names(gathering: Gathering) -> tuple[str, ...]:
    """The templates in the order of their numbers; empty, and a problem, where the numbers are not 0, 1, 2, ..."""
    path = _file(gathering, "labels")
    numbers = _numbers_of_lists(gathering) if path is None else gathering.json(path)
    path = path or _file(gathering, "train") or "."
    if numbers == {}:
        gathering.problem(".", "no labels.json or something-something-v2-labels.json; put it next to train.json")
        return ()
    if numbers is None:
        return ()
    try:
        by_number = {int(number): _plain(template) for template, number in numbers.items()}
        in_order = tuple(by_number[number] for number in range(len(numbers)))
    except (AttributeError, KeyError, TypeError, ValueError):
        gathering.problem(path, 'must be {"template": "0", ...} with every class number from 0 on once')
        return ()
    gathering.took_classes(path, in_order, _NUM_CLASSES, "Something-Something-V2")
    return in_order


def _numbers_of_lists(gathering: Gathering) -> dict[str, int]:
    """The number of each template as the entries give it; empty where they give none."""

    def entry(fields: dict[str, Any]) -> None:
        if "label_idx" in fields and "template" in fields:
            numbers[str(fields["template"])] = fields["label_idx"]

    numbers: dict[str, int] = {}
    for part in ("train", "val"):
        if path := _file(gathering, part):
            gathering.json(path, entry)
    return numbers


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _read(gathering: Gathering) -> Annotations:
    class_names = _class_names(gathering)
    numbers = {name: number for number, name in enumerate(class_names)}

    def entry(fields: dict[str, Any]) -> tuple[str, str]:  # two strings of each entry are kept; templates are shared
        template = _plain(str(fields.get("template", "")))
        return str(fields.get("id", "")), shared.setdefault(template, template)

    shared: dict[str, str] = {}
    table = _file(gathering, "labels") or "the lists"
    sides: tuple[Side, ...] = ("train", "val", "test")
    for side in sides:
        path = _file(gathering, side)
        if path is None:
            if side != "test":
                name = _NAMES[side][1]
                gathering.problem(".", f"no {name} or {_NAMES[side][0]}; put it next to labels.json")
            continue
        entries = gathering.json(path, entry)
        if entries is None:
            continue
        if not isinstance(entries, list):
            gathering.problem(path, 'must be a list of {"id": ..., "template": ...}')
            continue
        answers = _answers(gathering) if side == "test" else {}
        gathering.took(f"{path}: {len(entries):,} clips of {side}")
        gathering.count(side, len(entries))
        for number, one in enumerate(entries, 1):
            if not isinstance(one, tuple):
                reason = 'entries that are not {"id": ..., "template": ...}: {}'
                gathering.problem(path, reason, f"entry {number}")
                continue
            clip_id, template = one
            if clip_id:
                label = str(answers.get(clip_id, template))
                gathering.clip_of_class(path, clip_id, side, label, numbers, table, rate=12.0)
            else:
                gathering.problem(path, "an entry has no id")
    return gathering.finish(
        (("label", class_names),),
        mirror_words=LEFT_RIGHT,
        hint=_HINT,
        media_places="<id>.webm, <id>.mp4 or a folder <id> of frames",
    )


def _answers(gathering: Gathering) -> dict[str, str]:
    """The labels of the test clips, where the release has them: ``id;template`` a line, without a header."""
    path = _file(gathering, "answers")
    if path is None:
        return {}
    answers = dict(line.split(";", 1) for _, line in gathering.lines(path) if ";" in line)
    gathering.took(f"{path}: labels of {len(answers):,} test clips")
    return {clip_id.strip(): _plain(label.strip().strip('"')) for clip_id, label in answers.items()}


READER = Reader(_read, _evidence)
