from math import nan
from statistics import fmean

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as hs
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from scipy import stats

from tadaconv.reporting.ablation import figures
from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.ablation.figures.rows import differences_caption, draw_accuracy_by_row
from tadaconv.reporting.core.labels import ends, label_of, short_labels


def markers(axes: Axes, marker: str) -> list[tuple[float, float]]:
    """The points that are drawn with a marker, from the top down."""
    found = [point for line in axes.lines if line.get_marker() == marker for point in line.get_xydata().tolist()]
    return sorted((tuple(point) for point in found), key=lambda point: point[1])


def segments(axes: Axes) -> list[list[list[float]]]:
    lines = [each for each in axes.collections if isinstance(each, LineCollection)]
    return [segment.tolist() for each in lines for segment in each.get_segments()]


def rings(axes: Axes) -> set[tuple[float, float]]:
    found = [each for each in axes.collections if isinstance(each, PathCollection)]
    return {(x, round(y, 6)) for each in found for x, y in each.get_offsets().tolist()}


def by_row(records) -> dict[str, dict[int, float]]:
    """Top-1 by row and seed, straight from the records."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record.result is not None:
            found.setdefault(record.cell.label, {})[record.cell.experiment.seed] = record.result.top1
    return found


def test_the_means_are_drawn_where_they_are(context) -> None:
    loaded, records = context
    axes = figures.accuracy_by_row(collect(loaded, "quick", records)).figure.axes[0]
    scores = by_row(records)
    means = [(fmean(scores[row.name].values()), y) for y, row in enumerate(loaded.table.all_rows)]
    assert markers(axes, "o") + markers(axes, "D") == [pytest.approx(point) for point in means]  # the base stands last
    assert rings(axes) == {(x, y + 0.24) for y, row in enumerate(scores) for x in scores[row].values()}


def test_each_row_shows_the_mean_it_is_compared_with(hosts) -> None:
    table, export = hosts[0].table, collect(hosts[0], "quick", hosts[1])
    data = figures.accuracy_by_row_data(export)
    axes = draw_accuracy_by_row(data, export=export).figure.axes[0]
    dotted = {round((low + high) / 2): x for (x, low), (x_high, high) in segments(axes) if x == x_high}
    means = {name: fmean(scores.values()) for name, scores in by_row(hosts[1]).items()}
    compared = {i: table.row(name).versus or table.base.name for i, name in enumerate(data["row"])}
    del compared[data["row"].tolist().index(table.base.name)]
    assert dotted == pytest.approx({i: means[versus] for i, versus in compared.items()})
    assert {y for _, y in markers(axes, "D")} == {i for i, name in enumerate(data["row"]) if "+" not in name}


def test_differences_are_paired_by_seed(hosts) -> None:
    loaded, records = hosts
    data, scores = figures.differences_data(collect(loaded, "quick", records)), by_row(records)
    rows = [row for row in loaded.table.all_rows if row is not loaded.table.base]
    assert data["row"].tolist() == [row.name for row in rows]
    for line, row in zip(data.to_dict("records"), rows, strict=True):
        other = row.versus or loaded.table.base.name
        pairs = [
            scores[row.name][s] - scores[other][s]
            for s in range(3)
            if {s} <= scores[row.name].keys() & scores[other].keys()
        ]
        assert line["versus"] == other
        assert line["seeds"] == pytest.approx(pairs)
        low, high = stats.ttest_1samp(pairs, 0).confidence_interval()
        assert [line[part] for part in ("n", "mean", "low", "high")] == pytest.approx(
            [len(pairs), fmean(pairs), low, high]
        )
    assert set(data["n"]) == {2, 3}


def test_a_forest_plot_shows_its_data(hosts) -> None:
    export = collect(hosts[0], "quick", hosts[1])
    data, axes = figures.differences_data(export), figures.differences(export).figure.axes[0]
    assert markers(axes, "o") == [(mean, y) for y, mean in enumerate(data["mean"])]
    assert rings(axes) == {(x, y + 0.24) for y, seeds in enumerate(data["seeds"]) for x in seeds}
    assert segments(axes) == [
        [[low, y], [high, y]] for y, (low, high) in enumerate(zip(data["low"], data["high"], strict=True))
    ]
    assert [line.get_xdata() for line in axes.lines if line.get_marker() == "None"] == [[0, 0]]
    assert {f"\n\u0394 to {versus}" for versus in data["versus"]} == {text.get_text() for text in axes.texts}
    named = [label.get_text() for label in axes.get_yticklabels()]
    assert [name.endswith("(n = 2)\n") for name in named] == (data["n"] == 2).tolist()


def test_rows_without_a_difference_say_why(made_up) -> None:
    scores = {
        "failed": [None, None],
        "other seeds": [None, 50.0],
        "one": [nan, nan],
        "fine": [60.0, 61.0],
        "base": [61.0, None],
    }
    loaded, records = made_up(scores)
    records = [record for record in records if record.cell.label != "one"]
    export = collect(loaded, "quick", records)
    data = figures.differences_data(export).set_index("row")
    assert data["why"].to_dict() == {
        "failed": "failed",
        "other seeds": "no seed that both have",
        "one": "not run",
        "fine": "",
    }
    drawing = figures.differences(export)
    assert {text.get_text() for text in drawing.figure.axes[0].texts} == set(data["why"]) - {""}
    assert "one to base: not run" in drawing.alt
    assert "fine to base: \u22121.0" in drawing.alt
    assert "A marker without a bar" in drawing.caption
    assert "Bars" not in drawing.caption


def test_a_base_without_a_result_leaves_nothing_to_compare_with(make_hosts) -> None:
    loaded, records = make_hosts(0)
    kept = [record for record in records if record.cell.label != "r3d"]
    data = figures.differences_data(collect(loaded, "quick", kept)).set_index("row")
    assert data.loc["r3d + cin", "why"] == "no result to compare with"


def test_a_long_table_shows_its_ends(made_up) -> None:
    scores = {f"row {i}": [40.0 + (i * 37 % 101) / 5] for i in range(101)}
    loaded, records = made_up({**scores, "none": [None], "base": [50.1]})
    export = collect(loaded, "quick", records)
    drawing = figures.accuracy_by_row(export)
    axes = drawing.figure.axes[0]
    ranked = sorted([*((value[0], name) for name, value in scores.items()), (50.1, "base")], reverse=True)
    expected = [
        name for _, name in [*ranked[:15], *(pair for pair in ranked[15:-15] if pair[1] == "base"), *ranked[-15:]]
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == expected
    assert "Of 103 rows, 31 are shown" in drawing.caption
    assert [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]] == [14.5, 15.5]
    assert drawing.figure.get_figheight() < 25
    assert figures.differences(export).figure.get_figheight() < 25
    assert "Of 102 rows, 30 are shown" in figures.differences(export).caption


@given(hs.lists(hs.integers(0, 9), max_size=30), hs.sampled_from([2, 4, 10]))
def test_ends_are_the_highest_and_the_lowest(values: list[int], most: int) -> None:
    data = pd.DataFrame({"row": [str(i) for i in range(len(values))], "mean": values}, dtype=object)
    shown, breaks = ends(data, "mean", most)
    if len(values) <= most:
        assert shown["row"].tolist() == data["row"].tolist()
        assert breaks == []
    else:
        ordered = sorted(values, reverse=True)
        assert shown["mean"].tolist() == ordered[: most // 2] + ordered[-(most // 2) :]
        assert breaks == [most // 2]


@given(
    hs.lists(
        hs.text(hs.sampled_from("abc $\n"), min_size=1).filter(str.strip), unique_by=lambda t: " ".join(t.split())
    ),
    hs.integers(7, 20),
)
def test_short_labels_stay_short_and_apart(names: list[str], width: int) -> None:
    labels = [label.replace(r"\$", "$") for label in short_labels(names, width)]
    assert all(len(label) <= width and "\n" not in label for label in labels)
    if len(names) < 10:
        assert len(set(labels)) == len(names)


def test_no_control_character_reaches_a_file() -> None:
    assert label_of("a\x00b\ud800c") == "a\ufffdb\ufffdc"


def test_captions_of_one_seed_claim_no_interval(made_up) -> None:
    loaded, records = made_up({"a": [50.0], "base": [60.0]})
    export = collect(loaded, "quick", records)
    assert "95 %" not in differences_caption(figures.differences_data(export), "base", export)
