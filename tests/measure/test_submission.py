"""``tada detections``: scores of submissions in both formats, and a line for everything that can be wrong with them."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import Call

from tadaconv.measure.detection import EPIC_THRESHOLDS, Instances, Predictions, average_precision, in_columns
from tadaconv.measure.submission import score_submission


def segments(*labels: str) -> list[dict[str, Any]]:
    return [{"segment": [10.0 * place, 10.0 * place + 5], "label": label} for place, label in enumerate(labels)]


DATABASE = {
    "a": {"subset": "validation", "duration": "60", "annotations": segments("jump", "run")},
    "b": {"subset": "validation", "duration": 60, "annotations": segments("run")},
    "c": {"subset": "training", "duration": 60, "annotations": segments("swim")},
}
HEADER = "video_id,start_timestamp,stop_timestamp,verb_class,noun_class"
EPIC = f"{HEADER}\nP01,00:00:00,00:00:10,0,1\nP01,00:00:20,00:00:30,2,1\nP02,00:00:00,00:00:10,2,3\n"


def perfect() -> dict[str, list[dict[str, Any]]]:
    return {
        video: [{**segment, "score": 0.9} for segment in of["annotations"]]
        for video, of in DATABASE.items() if of["subset"] == "validation"
    }  # fmt: skip


def files(folder: Path, results: Any, database: Any = DATABASE) -> tuple[Path, Path]:
    truth, path = folder / "truth.json", folder / "results.json"
    truth.write_text(json.dumps({"database": database}))
    path.write_text(results if isinstance(results, str) else json.dumps({"version": "1", "results": results}))
    return truth, path


def epic_files(folder: Path, results: Any) -> tuple[Path, Path]:
    truth, path = folder / "EPIC_100_validation.csv", folder / "results.json"
    truth.write_text(EPIC)
    path.write_text(json.dumps({"version": "0.2", "challenge": "action_detection", "results": results}))
    return truth, path


def action(start: float, end: float, verb: int, noun: int, score: float) -> dict[str, Any]:
    return {"verb": verb, "noun": noun, "action": f"{verb},{noun}", "score": score, "segment": [start, end]}


def test_the_truth_scores_100(tmp_path: Path, tada: Call) -> None:
    truth, results = files(tmp_path, perfect())
    done = tada("detections", str(truth), str(results), "--json")
    assert (done.status, done.err) == (0, "")
    scored = json.loads(done.out)
    label = scored["heads"]["label"]
    assert (label["average_map"], label["low"], label["high"]) == (100, 100, 100)
    assert label["classes"] == {"jump": 100, "run": 100}
    assert [level["tiou"] for level in label["by_tiou"]] == pytest.approx(np.arange(0.5, 1, 0.05))
    assert (scored["subset"], scored["num_videos"], scored["num_instances"]) == ("validation", 2, 3)
    assert scored["average_recall"]["100"] == 100
    shown = tada("detections", str(truth), str(results)).out
    assert "100.00 [100.0, 100.0]" in shown
    assert shown.startswith("results.json, validation of truth.json: 3 detections, 3 true segments, 2 videos\n")
    assert "AR@100 100.0" in " ".join(shown.split())


def test_what_does_not_count_and_what_counts_as_wrong_is_said(tmp_path: Path, tada: Call) -> None:
    results = perfect()
    results["other"] = [{"segment": [0, 5], "label": "run", "score": 1.0}] * 2
    results["b"] = [{"segment": [0, 5], "label": "fly", "score": 1.0}]
    truth, path = files(tmp_path, results)
    scored = score_submission(truth, path, thresholds=(0.5,))
    # Run: two wrong ones of the other video before the one of a; b's is of no class.
    assert scored.heads["label"].classes == {"jump": 100, "run": pytest.approx(100 * (1 / 3) / 2)}
    assert (scored.other_videos, scored.other_detections, scored.other_labels) == (1, 2, 1)
    shown = " ".join(tada("detections", str(truth), str(path)).out.split())
    assert "1 video of the results not in validation, whose detections, 2, count as wrong" in shown
    assert "1 detection with a class that the truth lacks, not counted." in shown
    del results["b"]
    assert score_submission(*files(tmp_path, results)).videos_without_detections == 1


def test_subset_and_thresholds(tmp_path: Path, tada: Call) -> None:
    truth, path = files(tmp_path, {"c": [{"segment": [0, 4], "label": "swim", "score": 0.5}]})
    options = ("--subset", "training", "--tiou", "0.7", "--tiou", "0.9", "--json")
    scored = json.loads(tada("detections", str(truth), str(path), *options).out)
    assert [(level["tiou"], level["map"]) for level in scored["heads"]["label"]["by_tiou"]] == [(0.7, 100), (0.9, 0)]


def test_verbs_nouns_and_actions(tmp_path: Path, tada: Call) -> None:
    results = {
        "P01": [action(0, 10, 0, 1, 0.5), action(0, 10, 5, 1, 0.9), action(21, 30, 2, 299, 0.8)],
        "P02": [action(0, 10, 2, 3, 0.7), action(0, 10, 2, 1, 0.6)],
    }
    truth, path = epic_files(tmp_path, results)
    rows = Instances(*in_columns([[(0, 10), (20, 30)], [(0, 10)]], [[(0, 1), (2, 1)], [(2, 3)]], 2))
    spans = [[one["segment"] for one in results[video]] for video in ("P01", "P02")]
    labels = [[(one["verb"], one["noun"]) for one in results[video]] for video in ("P01", "P02")]
    scores = np.array([one["score"] for of in results.values() for one in of])
    predictions = Predictions(*in_columns(spans, labels, 2), scores)
    for rule in ("official", "authors"):
        expected = average_precision(rows, predictions, {"verb": 97, "noun": 300}, EPIC_THRESHOLDS, rule=rule)
        scored = score_submission(truth, path, rule=rule)
        assert {name: of.average_map for name, of in scored.heads.items()} == {
            name: of.mean for name, of in expected.items()
        }
        assert (scored.average_recall, scored.auc) == ({}, None)
    assert score_submission(truth, path).heads["action"].classes.keys() == {"0 1", "2 1", "2 3"}
    assert "authors' rule" in tada("detections", str(truth), str(path), "--rule", "authors").out
    shown = " ".join(tada("detections", str(truth), str(path)).out.split())
    assert "authors' rule" not in shown
    assert "2 detections with a class that the truth lacks, not counted for that label and the action" in shown
    results["P01"] = results["P02"] = [action(0, 10, 0, 299, 0.5)]
    assert score_submission(*epic_files(tmp_path, results)).heads["verb"].average_map > 0


def without(of: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in of.items() if name != key}


ONE = {"segment": [0, 5], "label": "run", "score": 0.5}
WRONG: dict[str, tuple[Any, str]] = {
    "empty file": ("", "is empty"),
    "no JSON": ("{", "no JSON from line 1 on"),
    "the truth": (json.dumps({"database": {}}), "no JSON object with the key 'results'"),
    "no video": ({}, "holds no detection"),
    "no detection": ({"a": [], "b": []}, "holds no detection"),
    "no list": ({"a": ONE}, "video 'a': its detections are no list"),
    "no object": ({"a": [[0, 5]]}, "video 'a': its detections are no list of objects"),
    "score NaN": ({"a": [{**ONE, "score": math.nan}]}, "video 'a': a score is nan"),
    "score infinite": ({"a": [{**ONE, "score": math.inf}]}, "video 'a': a score is inf"),
    "no score": ({"a": [without(ONE, "score")]}, "video 'a': a score is None"),
    "inverted": ({"a": [{**ONE, "segment": [5, 1]}]}, "video 'a': segment [5, 1] ends before it begins"),
    "limit NaN": ({"a": [{**ONE, "segment": [math.nan, 1]}]}, "video 'a': the start of a segment is nan"),
    "no segment": ({"a": [without(ONE, "segment")]}, "video 'a': segment None is not [start, end]"),
    "no label": ({"a": [without(ONE, "label")]}, "video 'a': a detection has None for a label"),
    "other videos": ({"v_a": [ONE]}, "no video is in subset 'validation'"),
    "other classes": ({"a": [{**ONE, "label": "Run"}]}, "no class occurs in subset 'validation'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_line_for_wrong_results(tmp_path: Path, tada: Call, case: str) -> None:
    results, message = WRONG[case]
    done = tada("detections", *map(str, files(tmp_path, results)))
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert "results.json" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verb": None}, 'a detection without "verb" and "noun"'),
        ({"noun": "1"}, 'a detection without "verb" and "noun"'),
        ({"action": "1,0"}, "action '1,0' is not verb 0 with noun 1"),
    ],
)
def test_one_line_for_wrong_actions(tmp_path: Path, tada: Call, change: dict[str, Any], message: str) -> None:
    done = tada("detections", *map(str, epic_files(tmp_path, {"P01": [{**action(0, 10, 0, 1, 0.5), **change}]})))
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--subset", "val"), "unknown subset 'val'; one of: validation, training"),
        (("--tiou", "50"), "--tiou 50 is no threshold"),
        (("--tiou", "nan"), "--tiou nan is no threshold"),
        (("--tiou", "half"), "--tiou"),
        (("--rule", "authors"), "--rule is for verbs and nouns"),
        (("--rule", "mine"), "unknown rule 'mine'; one of: "),
    ],
)
def test_one_line_for_wrong_options(tmp_path: Path, tada: Call, options: tuple[str, ...], message: str) -> None:
    done = tada("detections", *map(str, files(tmp_path, perfect())), *options)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_subset_must_be_named_where_none_is_usual_and_only_it_is_read(tmp_path: Path, tada: Call) -> None:
    database = {name: {**of, "subset": of["subset"][:5]} for name, of in DATABASE.items()}
    done = tada("detections", *map(str, files(tmp_path, perfect(), database)))
    assert done.status == 2
    assert "has the subsets train, valid; name one with --subset" in done.err
    broken = {name: {**of, "duration": "long"} if of["subset"] == "training" else of for name, of in DATABASE.items()}
    assert tada("detections", *map(str, files(tmp_path, perfect(), broken))).status == 0
    only = {name: of for name, of in database.items() if of["subset"] == "valid"}
    assert tada("detections", *map(str, files(tmp_path, perfect(), only))).status == 0


def test_it_needs_no_torch(tmp_path: Path) -> None:
    truth, results = files(tmp_path, perfect())
    program = (
        "import sys; from tadaconv import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    call = [sys.executable, "-c", program, "detections", str(truth), str(results)]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout.endswith("0 False\n")
