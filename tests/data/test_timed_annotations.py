"""Annotations of untrimmed videos in the formats that data sets have, and everything that can be wrong with them."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.data.timed_annotations import TimedAnnotations, read_timed_annotations
from tadaconv.errors import UserError

HACS: dict[str, Any] = {
    "version": "1.1.1",
    "database": {
        "one": {
            "subset": "training",
            "duration": "20.5",
            "annotations": [{"segment": [1.5, 4], "label": "Surfing"}, {"segment": [3, 20.9], "label": "Archery"}],
        },
        "two": {"subset": "validation", "duration": 10, "frame": 300, "annotations": []},
        "three": {
            "subset": "validation",
            "annotations": [{"segment": [2.0, 2.0], "label": "Surfing"}, {"segment": ["7", 9], "label": "Surfing"}],
        },
        "four": {"subset": "testing", "duration": 5},
    },
}

HEADER = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class"
EPIC = {
    "EPIC_100_train.csv": f"{HEADER}\nP01_01_0,P01,P01_01,00:00:01.50,00:01:02.25,3,299\n"
    "P02_101_0,P02,P02_101,00:00:00.00,00:00:01.00,96,0\nP01_01_1,P01,P01_01,00:00:02,00:00:03,0,7\n",
    "EPIC_100_validation.csv": f'{HEADER}\n"P03_1","P03","P03_03","00:00:04.5","00:00:05.0","1","2"\n',
    "EPIC_100_video_info.csv": "video_id,duration,fps\nP01_01,70.5,59.94\nP03_03,5,50\n",
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def epic(folder: Path, **changes: str) -> Path:
    """The tables of EPIC-KITCHENS-100, those of ``changes`` with another text; an empty one is left out."""
    for name, text in (EPIC | {f"EPIC_100_{name}.csv": text for name, text in changes.items()}).items():
        if text:
            (folder / name).write_text(text)
    return folder


def rows(annotations: TimedAnnotations, subset: str) -> dict[str, tuple[float | None, list[Any], list[Any]]]:
    return {n: (v.duration, v.spans.tolist(), v.labels.tolist()) for n, v in annotations.subsets[subset].items()}


def test_json_of_activitynet(tmp_path: Path) -> None:
    read = read_timed_annotations(written(tmp_path, HACS))
    assert read.heads == (("label", ("Archery", "Surfing")),)
    assert list(read.subsets) == ["testing", "training", "validation"]
    assert rows(read, "training") == {"one": (20.5, [[1.5, 4.0], [3.0, 20.9]], [[1], [0]])}
    assert rows(read, "validation") == {
        "two": (10.0, [], []), "three": (None, [[2.0, 2.0], [7.0, 9.0]], [[1], [1]])
    }  # fmt: skip
    assert rows(read, "testing") == {"four": (5.0, [], [])}
    for video in (video for subset in read.subsets.values() for video in subset.values()):
        assert (video.spans.dtype, video.spans.shape) == (np.float64, (len(video), 2))
        assert (video.labels.dtype, video.labels.shape) == (np.int64, (len(video), 1))


def test_only_the_named_subsets_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, HACS)
    assert read_timed_annotations(path, ("validation",)).heads == (("label", ("Surfing",)),)
    damaged = copy.deepcopy(HACS)
    damaged["database"]["four"]["duration"] = "long"
    assert list(read_timed_annotations(written(tmp_path, damaged), ("validation",)).subsets) == ["validation"]
    with pytest.raises(UserError, match="'four': the duration is 'long'"):
        read_timed_annotations(path)


def test_tables_of_epic(tmp_path: Path) -> None:
    read = read_timed_annotations(epic(tmp_path))
    assert [(head, len(names)) for head, names in read.heads] == [("verb", 97), ("noun", 300)]
    assert rows(read, "train") == {
        "P01_01": (70.5, [[1.5, 62.25], [2.0, 3.0]], [[3, 299], [0, 7]]), "P02_101": (None, [[0.0, 1.0]], [[96, 0]])
    }  # fmt: skip
    assert rows(read, "validation") == {"P03_03": (5.0, [[4.5, 5.0]], [[1, 2]])}
    alone = read_timed_annotations(tmp_path / "EPIC_100_validation.csv", ("validation",))
    assert list(alone.subsets) == ["validation"]
    assert rows(alone, "validation") == rows(read, "validation")


def test_classes_of_epic_have_the_names_of_their_tables(tmp_path: Path) -> None:
    folder = epic(tmp_path, verb_classes="id,key\n" + "".join(f"{number},verb {number}\n" for number in range(97)))
    heads = dict(read_timed_annotations(folder).heads)
    assert heads["verb"][96] == "verb 96"
    assert heads["noun"][299] == "299"


WRONG_JSON: dict[str, tuple[Any, str]] = {
    "segment inverted": ({"segment": [4, 1.5]}, r"'one': segment \[4, 1.5\] ends before it begins"),
    "segment before the video": ({"segment": [-1, 2]}, r"'one': segment \[-1, 2\] begins before the video"),
    "segment beyond the video": ({"segment": [3, 21.1]}, "more than 0.5 s after the video, whose duration is 20.5"),
    "limit NaN": ({"segment": [math.nan, 2]}, "the start of a segment is nan, no finite number"),
    "limit infinite": ({"segment": [0, math.inf]}, "the end of a segment is inf, no finite number"),
    "limit a word": ({"segment": [0, "end"]}, "is 'end', no finite number"),
    "limit true": ({"segment": [0, True]}, "is True, no finite number"),
    "limit enormous": ({"segment": [0, 10**400]}, "no finite number"),
    "no segment": ({"segment": None}, "segment None is not"),
    "one limit": ({"segment": [1]}, r"segment \[1\] is not"),
    "no label": ({"label": None}, r"segment \[1.5, 4\] has no label"),
    "class that training lacks": ({}, "class 'Diving' of subset 'validation' does not occur in 'training'"),
    "duration a word": ({}, "'one': the duration is 'abc', no finite number"),
    "duration NaN": ({}, "'one': the duration is nan"),
    "duration zero": ({}, "'one': the duration is 0 s"),
    "no subset": ({}, "video 'one' has no subset"),
    "no list": ({}, "'one': its annotations are no list"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_JSON)
def test_one_line_for_a_wrong_json(tmp_path: Path, case: str) -> None:
    changes, message = WRONG_JSON[case]
    wrong = copy.deepcopy(HACS)
    one = wrong["database"]["one"]
    one["annotations"][0].update(changes)
    if case.startswith("class"):
        wrong["database"]["three"]["annotations"][0]["label"] = "Diving"
    if case.startswith("duration"):
        one["duration"] = {"a word": "abc", "NaN": math.nan, "zero": 0}[case.removeprefix("duration ")]
    if case == "no subset":
        del one["subset"]
    if case == "no list":
        one["annotations"] = {"segment": [0, 1]}
    path = written(tmp_path, wrong)
    with pytest.raises(UserError, match=message) as refusal:
        read_timed_annotations(path, ("training", "validation"), train="training")
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{", "no JSON from line 1 on"),
        ("[1, 2]", "no JSON object with the key 'database'"),
        ({"results": {}}, "no JSON object with the key 'database'"),
        ({"database": {}}, "it has no annotated segment"),
    ],
)
def test_one_line_for_another_file(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_timed_annotations(written(tmp_path, content))


def test_a_subset_that_does_not_exist_and_one_without_segments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown subset 'val'; one of: validation, training, testing"):
        read_timed_annotations(written(tmp_path, HACS), ("val",))
    with pytest.raises(UserError, match="subset 'testing' has no annotated segment"):
        read_timed_annotations(written(tmp_path, HACS), ("testing",))
    with pytest.raises(UserError, match="unknown subset 'val'; one of: validation, train"):
        read_timed_annotations(epic(tmp_path), ("val",))
    with pytest.raises(UserError, match="No such file"):
        read_timed_annotations(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("train", EPIC["EPIC_100_train.csv"].replace("stop_timestamp", "stop"), "has no column stop_timestamp"),
        ("train", EPIC["EPIC_100_train.csv"].replace("00:01:02.25", "00:00:01.25"), r"line 2, video 'P01_01': segment"),
        ("train", EPIC["EPIC_100_train.csv"].replace("00:01:02.25", "00:02:02.25"), "whose duration is 70.5 s"),
        ("train", EPIC["EPIC_100_train.csv"].replace("00:01:02.25", "62.25"), "'62.25' is not a time such as"),
        ("train", EPIC["EPIC_100_train.csv"].replace(",299", ",300"), "noun_class '300' is not one of 0 to 299"),
        ("train", EPIC["EPIC_100_train.csv"].replace(",299", ",-1"), "noun_class '-1' is not one of"),
        ("train", EPIC["EPIC_100_train.csv"].replace(",299", ""), "lines with another number of fields"),
        ("train", HEADER + "\n", "has no annotated segment"),
        ("video_info", "video_id,duration\nP01_01,nan\n", "line 2, video 'P01_01': the duration is 'nan'"),
        ("video_info", "video_id,seconds\nP01_01,1\n", "has no column duration"),
        ("verb_classes", "id,key\n1,put\n", "must number every class once"),
    ],
)  # fmt: skip
def test_one_line_for_a_wrong_table(tmp_path: Path, table: str, text: str, message: str) -> None:
    folder = epic(tmp_path, **{table: text}, **({} if table != "train" else {"validation": ""}))
    with pytest.raises(UserError, match=message) as refusal:
        read_timed_annotations(folder)
    assert "EPIC_100" in str(refusal.value) or text == HEADER + "\n"
    assert "\n" not in str(refusal.value)


def test_a_folder_without_tables(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no EPIC_100_train\.csv and no EPIC_100_validation\.csv"):
        read_timed_annotations(tmp_path)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50), st.sampled_from("xyz")), max_size=4),
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, videos: dict[str, Any]) -> None:
    database = {
        name: {
            "subset": subset,
            "duration": "100.25",
            "annotations": [{"segment": [start, start + length], "label": label} for start, length, label in segments],
        }
        for name, (subset, segments) in videos.items()
    }
    path = written(tmp_path_factory.mktemp("truth"), {"database": database})
    if not any(segments for _, segments in videos.values()):
        with pytest.raises(UserError, match="no annotated segment"):
            read_timed_annotations(path)
        return
    read = read_timed_annotations(path)
    ((_, names),) = read.heads
    assert list(names) == sorted({label for _, segments in videos.values() for *_, label in segments})
    for name, (subset, segments) in videos.items():
        video = read.subsets[subset][name]
        assert video.spans.tolist() == [[start, start + length] for start, length, _ in segments]
        assert [names[label] for (label,) in video.labels] == [label for *_, label in segments]


def test_it_needs_no_torch() -> None:
    program = "import sys; import tadaconv.data.timed_annotations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
