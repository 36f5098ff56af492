"""Something-Something-V2: 20BN's file names and those of Qualcomm's release.

The key of the table of labels is a template without its square brackets; ids and class numbers are strings. The lists
of TAdaConv's authors, ``*-with-label.json``, have a number in each entry, which serves where there is no table.
"""

import sys
from typing import Any

from tadaconv.data.annotations import Annotations, Gathering, Reader, Side

_NUM_CLASSES = 174
_HINT = "the archives 20bn-something-something-v2-00 to -19 are parts of a single one, to be joined before unpacking"
_LABELS = ("something-something-v2-labels.json", "labels.json")
_LISTS: dict[Side, tuple[str, ...]] = {
    "train": ("something-something-v2-train.json", "train.json", "something-something-v2-train-with-label.json"),
    "val": (
        "something-something-v2-validation.json",
        "validation.json",
        "something-something-v2-validation-with-label.json",
    ),
    "test": ("something-something-v2-test.json", "test.json"),
}
_ANSWERS = ("test-answers.csv", "something-something-v2-test-answers.csv")


def _evidence(gathering: Gathering) -> str:
    path = gathering.file(*_LABELS)
    train = gathering.file(*_LISTS["train"]) or gathering.file(*_LISTS["val"])
    if path is None or train is None:
        return train if train and train.endswith("-with-label.json") else ""
    names = gathering.json(path)
    return f"{path} with {len(names)} templates" if isinstance(names, dict) else ""


def _class_names(gathering: Gathering) -> tuple[str, ...]:
    """The templates in the order of their numbers; empty, and a problem, where the numbers are not 0, 1, 2, ..."""
    path = gathering.file(*_LABELS)
    numbers = _numbers_of_lists(gathering) if path is None else gathering.json(path)
    path = path or gathering.file(*_LISTS["train"]) or "."
    if numbers == {}:
        gathering.problem(".", "no labels.json or something-something-v2-labels.json; put it next to train.json")
        return ()
    if numbers is None:
        return ()
    try:
        by_number = {int(number): _plain(template) for template, number in numbers.items()}
        numbered = by_number if len(by_number) == len(numbers) else {}
    except (AttributeError, TypeError, ValueError):
        numbered = {}
    return gathering.numbered_classes(path, numbered, _NUM_CLASSES, "Something-Something-V2")


def _numbers_of_lists(gathering: Gathering) -> dict[str, int]:
    """The number of each template as the entries give it; empty where they give none."""

    def entry(fields: dict[str, Any]) -> None:
        if "label_idx" in fields and "template" in fields:
            numbers[str(fields["template"])] = fields["label_idx"]

    numbers: dict[str, int] = {}
    for side in ("train", "val"):
        if path := gathering.file(*_LISTS[side]):
            gathering.json(path, entry)
    return numbers


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _read(gathering: Gathering) -> Annotations:
    class_names = _class_names(gathering)
    numbers = {name: number for number, name in enumerate(class_names)}

    def entry(fields: dict[str, Any]) -> tuple[str, str]:  # two strings of each entry are kept; templates are shared
        template = _plain(str(fields.get("template", "")))
        return str(fields.get("id", "")), sys.intern(template)

    table = gathering.file(*_LABELS) or "the lists"
    for side, path in gathering.lists(_LISTS, "put it next to labels.json"):
        entries = gathering.json(path, entry)
        if entries is None:
            continue
        if not isinstance(entries, list):
            gathering.problem(path, 'must be a list of {"id": ..., "template": ...}')
            continue
        answers = _answers(gathering) if side == "test" else {}
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
        hint=_HINT,
        media_places="<id>.webm, <id>.mp4 or a folder <id> of frames",
    )


def _answers(gathering: Gathering) -> dict[str, str]:
    """The labels of the test clips, where the release has them: ``id;template`` a line, without a header."""
    path = gathering.file(*_ANSWERS)
    if path is None:
        return {}
    answers = dict(line.split(";", 1) for _, line in gathering.lines(path) if ";" in line)
    gathering.files.append(f"{path}: labels of {len(answers):,} test clips")
    return {clip_id.strip(): _plain(label.strip().strip('"')) for clip_id, label in answers.items()}


READER = Reader(_read, _evidence, has_mirror_classes=True)
