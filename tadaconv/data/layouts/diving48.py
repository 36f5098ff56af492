"""Diving48, version 2: ``Diving48_V2_train.json``, ``Diving48_V2_test.json``, ``Diving48_vocab.json``.

Its test clips validate. Its start and end frames are not used: a medium is one dive, cut already, whose frames they
count from 0 on. Lists made of these files name whole media too.
"""

from tadaconv.data.annotations import Annotations, Gathering, Listed, Reader, Side
from tadaconv.data.media import stem

_NUM_CLASSES = 48
_LISTS: dict[Side, list[str]] = {"train": ["Diving48_V2_train.json"], "val": ["Diving48_V2_test.json"]}


def _evidence(gathering: Gathering) -> str:
    return gathering.file("Diving48_V2_train.json", "Diving48_vocab.json") or ""


def _class_names(gathering: Gathering) -> tuple[str, ...]:
    path = gathering.file("Diving48_vocab.json")
    if path is None:
        gathering.problem(".", "no Diving48_vocab.json; put it next to Diving48_V2_train.json")
        return ()
    vocabulary = gathering.json(path)
    if not isinstance(vocabulary, list) or not vocabulary:
        if vocabulary is not None:
            gathering.problem(path, "must be a list of classes, each a list of words")
        return ()
    names = tuple(" ".join(words) if isinstance(words, list) else str(words) for words in vocabulary)
    gathering.took_classes(path, names, _NUM_CLASSES, "Diving48")
    return names


def _read(gathering: Gathering) -> Annotations:
    class_names = _class_names(gathering)
    old = gathering.file("Diving48_train.json", "Diving48_test.json")
    noisy = f"{old} is of version 1, which has noisy labels: take version 2"
    for side, path in gathering.lists(_LISTS, noisy if old else "put it next to the vocabulary"):
        entries = gathering.json(path)
        if not isinstance(entries, list):
            if entries is not None:
                gathering.problem(path, 'must be a list of {"vid_name": ..., "label": ...}')
            continue
        for entry in entries:
            gathering.count(side)
            if not isinstance(entry, dict) or not entry.get("vid_name"):
                gathering.problem(path, "an entry has no vid_name")
                continue
            clip_id, label = stem(str(entry["vid_name"])), entry.get("label")
            if type(label) is not int or not 0 <= label < len(class_names):
                if class_names:
                    gathering.problem(path, f"{label!r} is not a class of Diving48_vocab.json; clips: {{}}", clip_id)
                continue
            gathering.clip(path, clip_id, Listed(side, (label,)))
    return gathering.finish(
        (("label", class_names),),
        hint="ready-made archives of frames are known to be incomplete",
        media_places="rgb/<vid_name>.mp4 or a folder <vid_name> of frames",
    )


READER = Reader(_read, _evidence)
