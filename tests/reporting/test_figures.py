import re
from itertools import combinations, pairwise
from math import nan
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as hs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.reporting.ablation import figures
from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.ablation.figures import calibration_over_training
from tadaconv.reporting.core import style
from tadaconv.reporting.core.text import as_markdown
from tadaconv.table import LoadedTable, load_table

ALWAYS = [
    figures.accuracy_by_row,
    figures.accuracy_by_macs,
    figures.accuracy_by_latency,
    figures.learning_curves,
    figures.accuracy_by_family,
]
OF_ROWS = [*ALWAYS, figures.differences]
FIGURES = [*ALWAYS, figures.differences, figures.confusion, figures.gain_by_class, figures.placement_map]


@pytest.fixture
def export(context):
    return collect(context[0], "quick", context[1])


@pytest.fixture
def placed(context) -> tuple[LoadedTable, list[CellRecord]]:
    """The table of placements that ships, with made-up results."""
    loaded, (first, *_) = load_table("placement"), context[1]
    cells = [
        Cell(row.name, first.cell.experiment.but(temporal=row.temporal, seed=seed))
        for seed in (0, 1)
        for row in loaded.table.all_rows
    ]
    return loaded, [CellRecord(cell, "finished", first.result) for cell in cells]


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_named_said_in_words_and_legible(figure, context, placed) -> None:
    loaded, records = placed if figure is figures.placement_map else context
    drawing = figure(collect(loaded, "quick", records))
    assert drawing.name == figure.__name__
    assert drawing.caption.endswith(".")
    assert drawing.alt.endswith(".")
    if figure in OF_ROWS:
        assert all(row.name in drawing.alt for row in loaded.table.all_rows)
    assert_legible(drawing.figure)


GAPS = {
    "one row": ({"base": [60.0]}, False),
    "failures": ({"a": [50.0, None], "base": [60.0, 61.0]}, True),
    "not a number": ({"a": [nan, 50.0, 51.0], "b": [nan] * 3, "base": [60.0, nan, 62.0]}, True),
    "no seed in common": ({"a": [50.0, None], "base": [None, 60.0]}, False),
    "all equal": ({"same": [50.0, 50.0], "base": [50.0, 50.0]}, True),
    "no base": ({"a": [50.0, 51.0], "base": [None, None]}, False),
}
"""Tables, and whether they have a difference to show."""


@pytest.mark.parametrize(("scores", "compared"), GAPS.values(), ids=GAPS)
def test_figures_of_tables_with_gaps(scores, compared: bool, made_up) -> None:
    loaded, records = made_up(scores)
    export = collect(loaded, "quick", records)
    drawn = {figure.__name__: figure(export) for figure in FIGURES}
    none = {name for name, drawing in drawn.items() if drawing is None}
    missing = {"gain_by_class", "placement_map"}  # these tables have neither a row without an operator nor placements
    missing |= set() if compared else {"differences"}
    missing |= {"confusion"} if set(scores["base"]) == {None} else set()
    assert none == missing
    assert all(drawing.png.startswith(b"\x89PNG") for drawing in drawn.values() if drawing is not None)


def test_names_of_any_kind_are_text(made_up) -> None:
    names = [
        "<script>alert(1)</script>",
        "50 % of $a_b$ & \\$\\frac{$ ${x}_",
        "a\x00b\x1b[1m",
        "\u6642\u9593 \u0410\u0431 \u05d0",
    ]
    loaded, records = made_up({**{name: [50.0, 51.0] for name in names}, "base": [52.0, 53.5]}, base=names[1])
    export = collect(loaded, "quick", records)
    for figure in (*OF_ROWS, figures.confusion):
        drawing = figure(export)
        ElementTree.fromstring(drawing.svg)
        assert b"<script" not in drawing.svg
        assert drawing.pdf.startswith(b"%PDF")
    written = {text.get_text() for text in figures.accuracy_by_macs(export).figure.findobj(Text)}
    assert "50 % of \\$a_b\\$ & \\\\$\\frac{\\$ \\${x}_" in {text.strip() for text in written}


@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_is_drawn_without_a_result(figure, context) -> None:
    failed = [CellRecord(record.cell, "failed", None, "RunError: no", "Traceback") for record in context[1]]
    assert figure(collect(context[0], "quick", failed)) is None
    assert figure(collect(context[0], "quick", [])) is None


@pytest.mark.parametrize("finished", [0, 1, 30])
def test_the_heading_stands_where_a_figure_follows(finished: int, context) -> None:
    records = [
        record if i < finished else CellRecord(record.cell, "failed", None, "RunError: no", "Traceback")
        for i, record in enumerate(context[1])
    ]
    export = collect(context[0], "quick", records)
    follows = any(figure(export) is not None for figure in (*FIGURES, calibration_over_training))
    heading = figures.heading(export)
    assert (heading is not None) == follows == (finished > 0)
    assert heading is None or heading.html == "<h2>Figures</h2>"


@pytest.mark.parametrize("figure", [figures.accuracy_by_latency, figures.confusion])
def test_the_same_drawing_gives_the_same_bytes(figure, export) -> None:
    first, second = figure(export), figure(export)
    # In another order: a format leaves no traces in the figure for the next.
    assert (first.svg, first.png, first.pdf) == tuple(reversed((second.pdf, second.png, second.svg)))
    assert b"date" not in first.svg.lower()
    assert b"Date" not in first.pdf


def test_text_in_a_pdf_is_truetype_that_it_contains(export) -> None:
    content = figures.accuracy_by_row(export).pdf
    fonts = re.findall(rb"/Subtype /(Type0|Type1|Type3|TrueType|CIDFontType\d)", content)
    assert set(fonts) == {b"Type0", b"CIDFontType2"}  # outlines of TrueType, never bitmaps or programs of Type 3
    assert content.count(b"/FontFile2") == fonts.count(b"CIDFontType2") > 0


def test_show_saves_every_kind(export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawing = figures.accuracy_by_family(export)
    figures.show(drawing, tmp_path)
    figures.show(None, tmp_path)
    saved = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert saved == {f"accuracy_by_family.{kind}": getattr(drawing, kind) for kind in ("svg", "png", "pdf")}
    assert capsys.readouterr().out


@given(hs.lists(hs.floats(0, 100), max_size=12), hs.floats(0.1, 10))
def test_labels_keep_apart_and_in_order(wanted: list[float], gap: float) -> None:
    placed = style.space_out(wanted, gap)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    assert all(placed[b] - placed[a] >= gap * (1 - 1e-6) for a, b in pairwise(order))


@given(hs.lists(hs.floats(0, 1000), max_size=8, unique_by=round), hs.just(0.0))
def test_labels_that_do_not_meet_stay_where_they_are(wanted: list[float], gap: float) -> None:
    assert style.space_out(wanted, gap) == wanted


def test_captions_are_no_markdown() -> None:
    escaped = as_markdown("<b> *a* [x](y) 50 %")
    assert re.sub(r"\\(.)", r"\1", escaped) == "<b> *a* [x](y) 50 %"
    assert "\\<b\\>" in escaped


@pytest.mark.parametrize("figure", [*OF_ROWS, figures.confusion])
def test_long_names_on_bases_of_their_own_keep_apart(figure, make_hosts) -> None:
    loaded, records = make_hosts(70)
    assert_legible(figure(collect(loaded, "quick", records)).figure)


@pytest.mark.parametrize("figure", [*OF_ROWS, figures.confusion])
def test_long_names_on_one_base_keep_apart(figure, made_up) -> None:
    names = [f"row {i} of twelve whose name says more than it has to, and then some" for i in range(12)]
    loaded, records = made_up({name: [60.0 + i / 50, 61.0] for i, name in enumerate(names)}, base=names[3])
    assert_legible(figure(collect(loaded, "quick", records)).figure)


def test_words_of_figures_name_what_is_compared(hosts, context) -> None:
    export = collect(hosts[0], "quick", hosts[1])
    for figure in OF_ROWS:
        assert "base" not in figure(export).caption
    assert "(compared with slowfast_4x16)" in figures.accuracy_by_row(export).alt
    assert "compared with" not in figures.accuracy_by_row(collect(context[0], "quick", context[1])).alt


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
