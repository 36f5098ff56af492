from dataclasses import replace
from itertools import combinations
from math import inf, nan
from statistics import median

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from matplotlib.collections import LineCollection

from tadaconv.reporting.ablation import figures
from tadaconv.reporting.ablation.data import Export, collect
from tadaconv.reporting.ablation.figures.cost import (
    MOST_NAMED,
    accuracy_by_macs_caption,
    draw_accuracy_by_macs,
    with_names,
)


@pytest.fixture(scope="module")
def export(make_up) -> Export:
    """What a caption is given beside its data."""
    loaded, records = make_up({"base": [60.0]})
    return collect(loaded, "quick", records)


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
    assert set(marked(figure, "oD")) == {(data.loc[name, "ms"], data.loc[name, "mean"]) for name in data.index}


def marked(figure, markers: str) -> list[tuple[float, float]]:
    lines = [line for line in figure.axes[0].lines if line.get_marker() in markers]
    return [tuple(point) for line in lines for point in line.get_xydata().tolist()]


def test_one_slow_cell_does_not_stretch_the_axis(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 51.0, 52.0], "b": [55.0, 54.0, 56.0], "base": [60.0, 61.0, 62.0]})
    took = {"a": [1.0, 1.1, 60.0], "b": [1.9, 2.0, 2.1], "base": [2.9, 3.0, 3.3]}
    speeds = {(row, seed): ("cpu", 1000 / ms) for row, each in took.items() for seed, ms in enumerate(each)}
    export = collect(loaded, "quick", timed(records, speeds))
    drawing = figures.accuracy_by_latency(export)
    (ax,) = drawing.figure.axes
    left, right = ax.get_xlim()
    assert left < 1.1 < 3.95 < right < 5
    assert marked(drawing.figure, ">") == [(3.95, 51.0)]
    assert marked(drawing.figure, "<") == []
    bars = [line for line in ax.collections if isinstance(line, LineCollection)][1].get_segments()
    ends = [(y, low, high) for (low, y), (high, _) in (bar.tolist() for bar in bars)]
    wanted = [(51.0, 1.0, 3.95), (55.0, 1.9, 2.1), (61.0, 2.9, 3.3)]
    assert sorted(ends) == [pytest.approx(each) for each in wanted]
    assert "an arrow ends a bar that the axis does not hold" in drawing.caption


def test_what_has_no_cost_is_left_out_and_named(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 50.5], "b": [70.0, 71.0], "base": [60.0, 61.0]})
    timings = timed(records, {("a", 1): ("cpu", nan), ("b", 0): ("cpu", 0.0), ("b", 1): ("cpu", inf)})
    by_latency = figures.accuracy_by_latency(collect(loaded, "quick", timings))
    assert "3 cells without a time are left out (a, seed 1; b, seed 0; b, seed 1)." in by_latency.caption
    free = [replace(r, result=r.result.model_copy(update={"macs": 0})) if r.cell.label == "b" else r for r in records]
    by_macs = figures.accuracy_by_macs(collect(loaded, "quick", free))
    assert "1 row whose multiply-adds are not known is left out (b)." in by_macs.caption
    assert {y for _, y in marked(by_macs.figure, "oD")} == {50.25, 60.5}
    unknown = [replace(r, result=r.result.model_copy(update={"macs": 0})) for r in records]
    assert figures.accuracy_by_macs(collect(loaded, "quick", unknown)) is None


POINTS = hs.lists(hs.tuples(hs.floats(1, 2), hs.integers(0, 40)), min_size=2, max_size=MOST_NAMED)


@settings(max_examples=15)
@given(POINTS)
def test_no_line_to_a_name_crosses_another(export: Export, points: list[tuple[float, int]]) -> None:
    data = scattered([1e9 * cost for cost, _ in points]).assign(mean=[50.0 + height / 4 for _, height in points])
    (ax,) = draw_accuracy_by_macs(data, export=export).figure.axes
    level, turned = (line.get_segments() for line in ax.collections[-2:])
    paths = [(float(a[0][1]), float(b[0][1]), float(b[1][1])) for a, b in zip(level, turned, strict=True)]
    whole = ax.get_ylim()[1] - ax.get_ylim()[0]
    for (point, (_, mean)), (start, turn, _) in zip(enumerate(points), paths, strict=True):
        assert start == turn == 50 + mean / 4, point
    for (i, one), (j, other) in combinations(enumerate(paths), 2):
        if abs(one[0] - other[0]) > whole / 100:
            assert (one[0] < other[0]) == (one[2] < other[2])
        elif one[0] == other[0] and points[i][0] != points[j][0]:
            assert (points[i][0] < points[j][0]) == (one[2] > other[2])  # the cheaper is named first


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


def test_times_that_differ_more_between_seeds_than_rows_have_no_front(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 51.0], "b": [70.0, 71.0], "base": [60.0, 61.0]})

    def drawn(speeds: dict[str, tuple[float, float]]) -> tuple[list[str], str, set[str]]:
        by_cell = {(row, seed): ("cpu", speed) for row, pair in speeds.items() for seed, speed in enumerate(pair)}
        export = collect(loaded, "quick", timed(records, by_cell))
        data, drawing = figures.accuracy_by_latency_data(export), figures.accuracy_by_latency(export)
        legend = {text.get_text() for text in drawing.figure.legends[0].get_texts()}
        return data.loc[data["front"], "row"].tolist(), drawing.caption, legend

    # Medians of 1.5, 1.55 and 1.6 ms, and seeds a whole millisecond apart.
    front, caption, legend = drawn({"a": (1000, 500), "b": (1000 / 1.05, 1000 / 2.05), "base": (625, 625)})
    assert front == []
    assert "No Pareto front is drawn, since times of the seeds of one row" in caption
    assert "Steps are" not in caption
    assert legend == {"row", "base row"}
    front, caption, legend = drawn({"a": (1000, 990), "b": (500, 499), "base": (800, 790)})
    assert front == ["a", "b", "base"]
    assert "Steps are the Pareto front" in caption
    assert legend == {"row", "base row", "Pareto front"}
    assert drawn({"a": (800, 800), "b": (800, 800), "base": (800, 800)})[0] == ["b"]


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


def test_a_long_table_names_the_front_and_the_references_alone(export: Export) -> None:
    data = scattered([1e9] * 500, front=False)
    data.loc[499, "front"] = True
    assert data.loc[with_names(data), "row"].tolist() == ["row 0", "row 499"]
    assert "Of 500 rows, 2 are named" in accuracy_by_macs_caption(data, export)
    assert with_names(scattered([1e9] * 500)).sum() == MOST_NAMED
    assert with_names(scattered([1e9] * MOST_NAMED, front=False)).all()
    figure = draw_accuracy_by_macs(data, export=export).figure
    assert [text.get_text() for text in figure.axes[0].texts] == [" row 0", " row 499"]
    assert figure.get_figheight() < 5


def test_intervals_of_one_seed_are_not_called_those_of_seeds(export: Export) -> None:
    caption = accuracy_by_macs_caption(figures.accuracy_by_macs_data(export), export)
    assert "Vertical bars are 95 % intervals of the accuracy, those of the table." in caption
    assert "seeds" not in caption


@pytest.mark.parametrize(
    ("most", "apart", "axis", "last"),
    [
        (1.000021e9, "up to 0.0021 %", "above the cheapest row (%)", 0.0021),
        (1.0123e9, "a factor of up to 1.012", "above the cheapest row (%)", 1.23),
        (2.0e9, "a factor of up to 2", "above the cheapest row (%)", 100.0),
        (2.5e9, "a factor of up to 2.5", "times the cheapest row", 2.5),
        (59.6227e9, "a factor of up to 59.62", "times the cheapest row", 59.6227),
    ],
)
def test_an_axis_of_costs_is_relative_to_the_cheapest(
    export: Export, most: float, apart: str, axis: str, last: float
) -> None:
    data = scattered([1e9, most])
    assert f"Costs differ by {apart}." in accuracy_by_macs_caption(data, export)
    (ax,) = draw_accuracy_by_macs(data, export=export).figure.axes
    (beside,) = ax.child_axes
    assert beside.get_xlabel() == axis
    assert ax.get_xlim()[0] >= 0
    left, right = ax.get_xlim()
    beside.apply_aspect()
    beside._set_lims()
    low, high = beside.get_xlim()
    assert low + (high - low) * (most / 1e9 - left) / (right - left) == pytest.approx(last)
