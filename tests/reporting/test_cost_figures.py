from dataclasses import replace
from math import nan
from statistics import median

import numpy as np
import pandas as pd
import pytest

from tadaconv.reporting import captions, figures
from tadaconv.reporting.export import collect
from tadaconv.reporting.figures.cost import MOST_NAMED, with_names


def undominated(points: dict[str, tuple[float, float]]) -> set[str]:
    """By trying all pairs: rows that no other beats in one of cost and accuracy without losing in the other."""
    return {
        name
        for name, (cost, accuracy) in points.items()
        if not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points.values())
    }


def timed(records, speeds: dict[tuple[str, int], tuple[str, float]]):
    """The records with a device and a speed for some of them, by row and seed."""
    made = []
    for record in records:
        device, speed = speeds.get((record.cell.label, record.cell.experiment.seed), ("cpu", 500.0))
        changes = {"environment": {"device": device}, "eval_clips_per_second": speed}
        made.append(
            record if record.result is None else replace(record, result=record.result.model_copy(update=changes))
        )
    return made


def steps(figure) -> list[tuple[float, float]]:
    (line,) = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
    return [tuple(point) for point in line.get_xydata().tolist()]


def test_the_front_is_drawn_through_what_nothing_dominates(context) -> None:
    export = collect(context[0], "quick", context[1])
    data = figures.accuracy_by_macs_data(export)
    points = {row["row"]: (row["macs"], row["mean"]) for row in data.to_dict("records")}
    assert set(data.loc[data["front"], "row"]) == undominated(points)
    drawn = steps(figures.accuracy_by_macs(export).figure)
    on_it = sorted((cost / 1e6, mean) for cost, mean in (points[name] for name in undominated(points)))
    assert np.array(drawn[:-1]) == pytest.approx(np.array(on_it))
    assert drawn[-1][0] > on_it[-1][0]
    assert drawn[-1][1] == on_it[-1][1]


def test_latency_is_the_median_over_seeds_with_its_range(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 51.0, 52.0], "base": [60.0, 61.0, None]})
    speeds = {("a", 0): 100.0, ("a", 1): 400.0, ("a", 2): 250.0, ("base", 0): 200.0, ("base", 1): 125.0}
    export = collect(loaded, "quick", timed(records, {cell: ("cpu", speed) for cell, speed in speeds.items()}))
    data = figures.accuracy_by_latency_data(export).set_index("row")
    for name in ("a", "base"):
        took = [1000 / speed for (row, _), speed in speeds.items() if row == name]
        line = data.loc[name]
        assert [line["ms"], line["ms_low"], line["ms_high"]] == pytest.approx([median(took), min(took), max(took)])
    figure = figures.accuracy_by_latency(export).figure
    points = {tuple(point) for line in figure.axes[0].lines if line.get_marker() in "oD" for point in line.get_xydata()}
    assert points == {(data.loc[name, "ms"], data.loc[name, "mean"]) for name in data.index}
    assert figure.axes[0].get_xlim()[1] > 10.0


def test_only_cells_of_one_device_are_compared(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 51.0], "b": [70.0, 71.0], "base": [60.0, 61.0]})
    speeds = {("a", 0): ("H200", 9000.0), ("b", 0): ("H200", 9000.0), ("b", 1): ("H200", 9000.0)}
    export = collect(loaded, "quick", timed(records, speeds))
    data = figures.accuracy_by_latency_data(export)  # three cells each; the first to occur is drawn
    assert set(data["device"]) == {"H200"}
    assert dict(zip(data["row"], data["num_timed"], strict=True)) == {"a": 1, "b": 2}
    assert data["ms"].tolist() == pytest.approx([1 / 9, 1 / 9])
    caption = figures.accuracy_by_latency(export).caption
    assert "in evaluation on H200." in caption
    assert "3 cells on cpu are left out (a, seed 1; base, seed 0; base, seed 1)." in caption
    assert "tada bench" in caption


@pytest.mark.parametrize("speed", [0.0, nan, float("inf")])
def test_cells_that_were_not_timed_are_no_points(speed: float, made_up) -> None:
    loaded, records = made_up({"a": [50.0], "base": [60.0]})
    export = collect(loaded, "quick", timed(records, {("a", 0): ("cpu", speed)}))
    assert figures.accuracy_by_latency_data(export)["row"].tolist() == ["base"]
    export = collect(loaded, "quick", timed(records, {("a", 0): ("cpu", speed), ("base", 0): ("cpu", speed)}))
    assert figures.accuracy_by_latency(export) is None


def scattered(macs: list[float], front: bool = True) -> pd.DataFrame:
    """Rows of these multiply-adds, as the scatter takes them."""
    lines = [(f"row {i}", cost, 50.0 + i, nan, nan, i == 0, "", front) for i, cost in enumerate(macs)]
    return pd.DataFrame(lines, columns=["row", "macs", "mean", "low", "high", "reference", "versus", "front"])


def test_a_long_table_names_the_front_and_the_references_alone() -> None:
    data = scattered([1e9] * 500, front=False)
    data.loc[499, "front"] = True
    assert data.loc[with_names(data), "row"].tolist() == ["row 0", "row 499"]
    assert "Of 500 rows, 2 have their names" in captions.accuracy_by_macs(data, with_names(data))
    assert with_names(scattered([1e9] * 500)).sum() == MOST_NAMED
    assert with_names(scattered([1e9] * MOST_NAMED, front=False)).all()
    figure = figures.draw_accuracy_by_macs(data)
    assert [text.get_text() for text in figure.axes[0].texts] == [" row 0", " row 499"]
    assert figure.get_figheight() < 5


@pytest.mark.parametrize(
    ("most", "words", "axis", "last"),
    [
        (1.0123e9, "costs 1.23 % more than", "above the cheapest row (%)", 1.23),
        (2.0e9, "costs 100.00 % more than", "above the cheapest row (%)", 100.0),
        (2.5e9, "costs 2.5 times as much as", "times the cheapest row", 2.5),
        (59.6227e9, "costs 60 times as much as", "times the cheapest row", 59.6227),
    ],
)
def test_costs_far_apart_are_told_as_a_factor(most: float, words: str, axis: str, last: float) -> None:
    data = scattered([1e9, most])
    assert f"The dearest row {words} the cheapest." in captions.accuracy_by_macs(data, with_names(data))
    (ax,) = figures.draw_accuracy_by_macs(data).axes
    (beside,) = ax.child_axes
    assert beside.get_xlabel() == axis
    assert ax.get_xlim()[0] >= 0
    left, right = ax.get_xlim()
    beside.apply_aspect()
    beside._set_lims()
    low, high = beside.get_xlim()
    assert low + (high - low) * (most / 1e9 - left) / (right - left) == pytest.approx(last)
