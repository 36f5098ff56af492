"""Metrics by name, and scores as storages of every version have them."""

import json
from math import inf, nan
from typing import Any

import pytest

from tadaconv.errors import UserError
from tadaconv.metrics import METRICS, TOP1, common_metric, metric_named
from tadaconv.result import CurvePoint, Progress, Result, stored_curve, stored_metric, stored_score
from tadaconv.spec import Folder, Synthetic

# As the versions before there were metrics wrote it.
STORED: dict[str, Any] = {
    "top1": 61.25, "top5": 90.0, "loss": 1.1, "per_head": {}, "per_subset": {}, "per_class": {"a": 61.25},
    "per_family": {}, "classes": ["a"], "family_classes": {}, "confusion": [[0, 0, 8]], "num_val": 8,
    "curve": [
        {"epoch": 1, "step": 4, "train_loss": 1.5, "val_top1": 40.0, "calibration": {}},
        {"epoch": 2, "step": 8, "train_loss": 1.2, "val_top1": 61.25,
         "calibration": {"res2": {"distance": 0.5, "over_time": 0.25, "over_clips": 0.125}}},
    ],
    "params": 3, "macs": 4, "cost": {}, "train_clips_per_second": 1.0, "eval_clips_per_second": 2.0,
    "peak_memory_bytes": 5, "seconds": 6.0, "environment": {"device": "cpu"},
}  # fmt: skip


def test_a_result_stored_before_there_were_metrics_is_one_of_top_1() -> None:
    result = Result.model_validate(STORED)
    assert (result.metric, result.score, result.top1) == ("top1", 61.25, 61.25)
    assert [(point.metric, point.score) for point in result.curve] == [("top1", 40.0), ("top1", 61.25)]


def test_a_result_of_top_1_is_written_as_it_always_was_so_that_versions_share_a_storage() -> None:
    written = Result.model_validate(STORED).model_dump(mode="json")
    assert json.dumps(written) == json.dumps(STORED), "the order of names as well"
    assert Result.model_validate_json(json.dumps(written)) == Result.model_validate(STORED)


def test_a_result_of_another_metric_comes_back_as_it_was() -> None:
    tree = {name: value for name, value in STORED.items() if name not in ("top1", "top5", "curve")}
    point = CurvePoint(metric="map", epoch=1, step=4, train_loss=1.5, score=31.0)
    result = Result.model_validate({**tree, "metric": "map", "score": 31.5, "curve": [point]})
    written = json.loads(result.model_dump_json())
    assert "top1" not in written
    assert (written["metric"], written["score"]) == ("map", 31.5)
    assert Result.model_validate(written) == result
    with pytest.raises(AttributeError, match="this result is evaluated by 'map', see score"):
        _ = result.top1


@pytest.mark.parametrize("metric", ["top1", "map"])
def test_what_is_read_of_a_stored_tree_is_what_the_result_says(metric: str) -> None:
    points = [CurvePoint(metric=metric, epoch=e, step=e, train_loss=1.0, score=10.0 * e) for e in (1, 3)]
    tree = {name: value for name, value in STORED.items() if name not in ("top1", "curve")}
    result = Result.model_validate({**tree, "metric": metric, "score": 30.0, "curve": points})
    written = json.loads(result.model_dump_json())
    assert (stored_metric(written), stored_score(written)) == (metric, 30.0)
    assert stored_curve(written["curve"]) == {1: 10.0, 3: 30.0}


def test_points_travel_in_progress_as_they_are() -> None:
    point = CurvePoint(epoch=1, step=4, train_loss=1.5, score=40.0)
    progress = Progress(step=4, num_steps=8, train_loss=1.5, curve=[point])
    assert Progress.model_validate_json(progress.model_dump_json()).curve == [point]


def test_nothing_else_is_let_in() -> None:
    with pytest.raises(ValueError, match="val_top1"):
        Result.model_validate({**STORED, "val_top1": 3.0})
    with pytest.raises(ValueError, match="score"):
        Result.model_validate({name: value for name, value in STORED.items() if name != "top1"})


def test_metrics_are_looked_up_by_name_and_never_mixed() -> None:
    assert all(metric.name == name for name, metric in METRICS.items())
    assert metric_named("top1") is TOP1
    with pytest.raises(UserError, match="unknown metric 'top'; one of: top1"):
        metric_named("top")
    assert common_metric([]) is TOP1
    assert common_metric(["top1", "top1"]) is TOP1


def test_what_clips_are_judged_by_is_a_metric_and_no_part_of_their_description() -> None:
    for data in (Synthetic, Folder):
        assert data.METRIC in METRICS
        assert "METRIC" not in data.model_fields


@pytest.mark.parametrize(
    ("value", "holds"), [(0.0, True), (100.0, True), (100.1, False), (-0.1, False), (nan, False), (inf, False)]
)
def test_a_score_lies_between_the_ends_of_its_metric(value: float, holds: bool) -> None:
    assert TOP1.holds(value) == holds
