import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as hs

from tadaconv.reporting import figures, style
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
