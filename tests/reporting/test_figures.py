import re
from itertools import combinations, pairwise
from math import nan
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as hs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tadaconv.reporting import captions, figures, style
from tadaconv.reporting.captions import as_markdown
from tadaconv.reporting.export import collect

FIGURES = [
    figures.accuracy_by_row,
    figures.accuracy_by_macs,
    figures.learning_curves,
    figures.accuracy_by_family,
]


@pytest.fixture
def export(context):
    return collect(context[0], "quick", context[1])


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_names_its_rows_in_words(figure, export) -> None:
    drawing = figure(export)
    assert drawing is not None
    assert drawing.name == figure.__name__
    for row in export.manifest.rows:
        assert row.name in drawing.alt
    assert drawing.caption.endswith(".")


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    "scores",
    [
        {"base": [60.0]},
        {"$a_b$ % <x>": [50.0, None], "base": [60.0, 61.0]},
        {"same": [50.0, 50.0], "base": [50.0, 50.0]},
        {"a": [50.0, 51.0], "base": [None, None]},
    ],
    ids=["one row", "names and failures", "all equal", "no base"],
)
def test_figures_of_tables_with_gaps(figure, scores, made_up) -> None:
    loaded, records = made_up(scores)
    drawing = figure(collect(loaded, "quick", records))
    assert drawing is not None
    assert drawing.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_is_drawn_where_all_failed(figure, made_up) -> None:
    loaded, records = made_up({"a": [None], "base": [None]})
    assert figure(collect(loaded, "quick", records)) is None


def test_the_same_drawing_gives_the_same_bytes(export) -> None:
    first, second = figures.accuracy_by_family(export), figures.accuracy_by_family(export)
    assert first is not None
    assert second is not None
    assert (first.svg, first.png) == (second.svg, second.png)
    assert b"<dc:date>" not in first.svg


def test_the_means_are_drawn_where_they_are(export) -> None:
    data = figures.accuracy_by_row_data(export)
    axes = figures.draw_accuracy_by_row(data).axes[0]
    drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() in ("o", "D")]
    assert drawn == [(mean, y) for y, mean in enumerate(data["mean"])]


def test_families_are_means_over_seeds(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 60.0], "base": [70.0, None]})
    data = figures.accuracy_by_family_data(collect(loaded, "quick", records))
    assert data.columns.tolist() == ["frame", "set", "order"]
    assert data.loc["a"].tolist() == [75.0, 55.0, 35.0]
    assert data.loc["base"].tolist() == [90.0, 70.0, 50.0]


def test_show_saves_both_kinds(export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures.show(figures.accuracy_by_family(export), tmp_path)
    figures.show(None, tmp_path)
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
        "accuracy_by_family.png",
        "accuracy_by_family.svg",
    ]
    assert capsys.readouterr().out


@given(hs.lists(hs.floats(0, 100), max_size=12), hs.floats(0.1, 10))
def test_labels_keep_apart_and_in_order(wanted: list[float], gap: float) -> None:
    placed = style.spread(wanted, gap)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    assert all(placed[b] - placed[a] >= gap * (1 - 1e-6) for a, b in pairwise(order))


@given(hs.lists(hs.floats(0, 1000), max_size=8, unique_by=round), hs.just(0.0))
def test_labels_that_do_not_meet_stay_where_they_are(wanted: list[float], gap: float) -> None:
    assert style.spread(wanted, gap) == wanted


def test_captions_are_no_markdown() -> None:
    escaped = as_markdown("<b> *a* [x](y) 50 %")
    assert re.sub(r"\\(.)", r"\1", escaped) == "<b> *a* [x](y) 50 %"
    assert "\\<b\\>" in escaped


# Rows that are compared with rows of their own, and names of any length


@pytest.mark.parametrize("length", [0, 70])
@pytest.mark.parametrize("figure", FIGURES)
def test_no_text_lies_on_another_or_leaves_the_figure(figure, length: int, make_hosts) -> None:
    loaded, records = make_hosts(length)
    assert_legible(figure(collect(loaded, "quick", records)).figure)


@pytest.mark.parametrize("figure", FIGURES)
def test_long_names_on_one_base_keep_apart(figure, made_up) -> None:
    names = [f"row {i} of twelve whose name says more than it has to, and then some" for i in range(12)]
    loaded, records = made_up({name: [60.0 + i / 50, 61.0] for i, name in enumerate(names)}, base=names[3])
    assert_legible(figure(collect(loaded, "quick", records)).figure)


def assert_legible(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    draw = Text.draw
    with patch.object(Text, "draw", autospec=True, side_effect=draw) as drawn:  # ticks out of sight are not drawn
        canvas.draw()
    texts = [call.args[0] for call in drawn.call_args_list if call.args[0].get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts if text.get_visible()]
    whole = figure.bbox.padded(1)
    assert len(boxes) > 5
    for text, box in boxes:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text
    for (text, box), (other, beside) in combinations(boxes, 2):
        assert apart(box, beside) or between_the_lines(text, other), (text, other)


def apart(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    return shared is None or min(shared.width, shared.height) <= 1


def between_the_lines(one: str, other: str) -> bool:
    lines = [text.split("\n") for text in (one, other)]
    return len(lines[0]) == len(lines[1]) and all(not a or not b for a, b in zip(*lines, strict=True))


def test_each_row_shows_the_mean_it_is_compared_with(hosts) -> None:
    table, data = hosts[0].table, figures.accuracy_by_row_data(collect(hosts[0], "quick", hosts[1]))
    axes = figures.draw_accuracy_by_row(data).axes[0]
    lines = [line for drawn in axes.collections if isinstance(drawn, LineCollection) for line in drawn.get_segments()]
    dotted = {round((low + high) / 2): x for (x, low), (x_high, high) in lines if x == x_high}
    means = {name: fmean(r.result.top1 for r in hosts[1] if r.cell.label == name and r.result) for name in data["row"]}
    compared = {i: table.row(name).versus or table.base.name for i, name in enumerate(data["row"])}
    del compared[data["row"].tolist().index(table.base.name)]
    assert dotted == pytest.approx({i: means[versus] for i, versus in compared.items()})
    diamonds = {line.get_ydata()[0] for line in axes.lines if line.get_marker() == "D"}
    assert diamonds == {i for i, name in enumerate(data["row"]) if "+" not in name}


def test_each_panel_shows_the_row_it_is_compared_with(hosts) -> None:
    table, data = hosts[0].table, figures.learning_curves_data(collect(hosts[0], "quick", hosts[1]))
    panels = [ax for ax in figures.draw_learning_curves(data, None).axes if ax.get_visible()]
    ends = data[data["epoch"] == 6].groupby("row")["val_top1"].mean()
    for ax, row in zip(panels, table.rows, strict=True):
        other = row.versus or table.base.name
        assert ax.get_title(loc="left").replace("\n", " ") == f"{row.name} \u0394 to {other}"
        drawn = [line.get_ydata()[-1] for line in ax.lines]
        assert drawn == pytest.approx([ends[other], ends[row.name]])


def test_words_of_figures_name_what_is_compared(hosts, context) -> None:
    export = collect(hosts[0], "quick", hosts[1])
    for figure in FIGURES:
        assert "base" not in figure(export).caption
    assert "(compared with slowfast_4x16)" in figures.accuracy_by_row(export).alt
    assert "compared with" not in figures.accuracy_by_row(collect(context[0], "quick", context[1])).alt


def scattered(macs: list[float]) -> pd.DataFrame:
    """Rows of these multiply-adds, as the scatter takes them."""
    lines = [(f"row {i}", cost, 50.0 + i, nan, nan, i == 0, "") for i, cost in enumerate(macs)]
    return pd.DataFrame(lines, columns=["row", "macs", "mean", "low", "high", "reference", "versus"])


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
    assert f"The dearest row {words} the cheapest." in captions.accuracy_by_macs(data)
    (ax,) = figures.draw_accuracy_by_macs(data).axes
    (beside,) = ax.child_axes
    assert beside.get_xlabel() == axis
    assert ax.get_xlim()[0] >= 0
    left, right = ax.get_xlim()
    beside.apply_aspect()
    beside._set_lims()
    low, high = beside.get_xlim()
    assert low + (high - low) * (most / 1e9 - left) / (right - left) == pytest.approx(last)
