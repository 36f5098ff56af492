"""Reports of localization: detections by class, the ceiling of rows that are blind to order, intervals over videos."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from rich.console import Console
from test_any_metric import words_of

from tadaconv import statistics as st
from tadaconv.execution.cells import CellRecord
from tadaconv.reporting import report
from tadaconv.reporting.ablation import figures, page
from tadaconv.reporting.ablation.data import Export, Manifest, collect, files_of, read_export
from tadaconv.reporting.ablation.detections import precision_on, tiou_shown
from tadaconv.reporting.ablation.latex import latex_report
from tadaconv.reporting.ablation.summary import by_label, summarise, summary_files
from tadaconv.reporting.ablation.terminal import terminal_table
from tadaconv.reporting.ablation.text import power_notes, table_notes
from tadaconv.reporting.core.export import write_files
from tadaconv.reporting.core.labels import MOST_ROWS
from tadaconv.result import DetectionScores
from tadaconv.table import LoadedTable

Detection = Callable[..., DetectionScores]
Localized = Callable[[Mapping[str, Sequence[DetectionScores]]], tuple[LoadedTable, list[CellRecord]]]

BY_CLASS = {
    "blind": [(52.0, 50.0, 90.0), (55.0, 54.0, 91.0), (53.0, 52.0, 89.0)],
    "lucky": [(40.0, 70.0, 88.0), (60.0, 66.0, 92.0), (56.0, 50.0, 90.0)],
    "base": [(92.0, 90.0, 93.0), (95.0, 93.0, 91.0), (93.0, 94.0, 92.0)],
}
"""By row and seed, average precisions at tIoU 0.5 of the classes that follow."""
CLASSES = ("grows", "shrinks", "shows a 0")
OF_RECOGNITION = re.compile(r"accura|top-?[15]\b|Wilson|binomial|confusion|validation clips\b", re.IGNORECASE)
"""What nothing says of localization."""


@pytest.fixture
def table(make_localization: Localized, make_detection: Detection) -> tuple[LoadedTable, list[CellRecord]]:
    return make_localization(
        {
            row: [make_detection(dict(zip(CLASSES, values, strict=True))) for values in by_seed]
            for row, by_seed in BY_CLASS.items()
        }
    )


def first_seeds(records: Sequence[CellRecord]) -> list[CellRecord]:
    return [record for record in records if record.cell.experiment.seed == 0]


# --- Files


def test_a_line_a_class_and_threshold_is_written_and_read_back(
    table: tuple[LoadedTable, list[CellRecord]], tmp_path: Path
) -> None:
    export = collect(table[0], "quick_localize", table[1])
    write_files(files_of(export), tmp_path)
    (tmp_path / "report.json").write_text(export.manifest.model_dump_json())
    written = pd.read_csv(tmp_path / "detections.csv")
    expected = [
        (record.cell.label, record.cell.experiment.seed, name, tiou, value)
        for record in table[1]
        for name, values in record.result.detection.by_class.items()
        for tiou, value in zip(record.result.detection.tious, values, strict=True)
    ]
    assert list(written.itertuples(index=False, name=None)) == expected
    back = read_export(tmp_path)
    assert back.manifest == export.manifest
    pd.testing.assert_frame_equal(back.detections, export.detections, check_dtype=False)
    assert figures.precision_by_class_data(back).equals(figures.precision_by_class_data(export))
    of_cell = json.loads((tmp_path / "report.json").read_text())["cells"][0]["detection"]
    scores = table[1][0].result.detection
    assert of_cell["by_class"] == {}, "it would be written twice"
    assert of_cell["by_tiou"] == scores.by_tiou
    assert of_cell["interval"] == list(scores.interval)


def test_cells_that_do_not_localize_have_none_of_it(context: tuple[LoadedTable, list[CellRecord]]) -> None:
    export = collect(context[0], "quick", context[1])
    assert "detections.csv" not in files_of(export)
    assert "detection" not in json.loads(export.manifest.model_dump_json())["cells"][0]
    assert figures.precision_by_class(export) is None
    assert figures.detection_scores(export) is None
    assert Manifest.model_validate_json(export.manifest.model_dump_json()) == export.manifest


# --- Numbers


def test_precision_is_the_mean_over_classes_then_over_seeds(table: tuple[LoadedTable, list[CellRecord]]) -> None:
    export = collect(table[0], "quick_localize", table[1])
    found = precision_on(export, {"both": ["grows", "shrinks"], "0": ["shows a 0"]}).set_index(["panel", "row"])
    for row, by_seed in BY_CLASS.items():
        both = st.t_interval([fmean(values[:2]) for values in by_seed])
        assert found.loc[("both", row), ["mean", "low", "high"]].tolist() == pytest.approx(both[:3])
        zero = st.t_interval([values[2] for values in by_seed])
        assert found.loc[("0", row), "mean"] == pytest.approx(zero.mean)
        assert found.loc[("0", row), "high"] == pytest.approx(min(zero.high, 100))
    assert found["n"].tolist() == [3] * 6


@pytest.mark.parametrize(
    ("tious", "shown"),
    [([0.3, 0.5, 0.7], 0.5), ([0.1, 0.2], 0.2), ([0.75], 0.75), ([0.4, 0.6], 0.4),
     (np.linspace(0.5, 0.95, 10).tolist(), 0.5), (np.linspace(0.1, 0.5, 5).tolist(), 0.5)],
)  # fmt: skip
def test_classes_are_shown_at_the_threshold_nearest_to_a_half(
    make_localization: Localized, make_detection: Detection, tious: list[float], shown: float
) -> None:
    values = {"a": [float(i) for i in range(len(tious))]}
    scores = make_detection({"a": 1.0}, tious=tious, by_tiou=values["a"], by_class=values, order_blind=None)
    export = collect(*_in_regime(make_localization({"base": [scores]})))
    assert tiou_shown(export) == pytest.approx(shown)
    at = min(range(len(tious)), key=lambda i: abs(tious[i] - shown))
    assert precision_on(export, {"a": ["a"]})["mean"].tolist() == [float(at)]


def _in_regime(made: tuple[LoadedTable, list[CellRecord]]) -> tuple[LoadedTable, str, list[CellRecord]]:
    return made[0], "quick_localize", made[1]


def test_with_one_seed_the_interval_is_that_over_videos(table: tuple[LoadedTable, list[CellRecord]]) -> None:
    export = collect(table[0], "quick_localize", first_seeds(table[1]))
    summary = summarise(export).set_index("row")
    for record in first_seeds(table[1]):
        line = summary.loc[record.cell.label]
        assert (line["map_low"], line["map_high"]) == pytest.approx(record.result.detection.interval)
    assert set(summary["covers"]) == {"clips"}
    (note,) = [note for note in table_notes(export, summarise(export)) if note.startswith("Brackets")]
    assert note.startswith("Brackets of a row with one seed: 95 % bootstrap interval over the validation videos.")
    drawn = figures.accuracy_by_row(export)
    assert drawn is not None
    assert "Dashed bars come from one seed and cover the choice of validation videos alone" in drawn.caption
    several = collect(table[0], "quick_localize", table[1])
    assert set(summarise(several)["covers"]) == {"seeds"}
    low, high = table[1][6].result.detection.interval
    assert power_notes(several, summarise(several))[0] == (
        "Intervals over seeds do not cover the choice of validation videos: the bootstrap interval of "
        f"\u201cbase\u201d, seed 0, over 100 videos is {low:.1f} to {high:.1f} %."
    )


def test_an_interval_that_is_not_known_is_not_shown(make_localization: Localized, make_detection: Detection) -> None:
    scores = make_detection({"grows": 50.0}, interval=(nan, nan))
    summary = summarise(collect(*_in_regime(make_localization({"base": [scores]}))))
    assert summary[["covers", "n"]].to_numpy().tolist() == [["", 1]]
    assert summary["map_low"].isna().all()


# --- The ceiling


def note_on_the_ceiling(export: Export) -> str:
    (note,) = [note for note in table_notes(export, summarise(export)) if "blind" in note]
    return note


def test_the_note_says_which_rows_lie_above_the_ceiling(table: tuple[LoadedTable, list[CellRecord]]) -> None:
    note = note_on_the_ceiling(collect(table[0], "quick_localize", table[1]))
    assert note.startswith(
        "A network that is blind to the order of frames reaches at most 54.8 % [53.3, 56.1] on grows and shrinks, at "
        "any tIoU;"
    )
    (base, lucky), unit = (st.t_interval([fmean(v[:2]) for v in BY_CLASS[row]]) for row in ("base", "lucky")), "%"
    assert f"Above it at tIoU 0.5 with the whole interval over seeds: \u201cbase\u201d {base.mean:.1f} {unit} [" in note
    assert f"[{base.low:.1f}, {base.high:.1f}]." in note
    assert f"Above it at tIoU 0.5 by the mean alone: \u201clucky\u201d {lucky.mean:.1f} {unit} [" in note
    assert "\u201cblind\u201d" not in note


def test_without_seeds_no_row_is_said_to_lie_above_by_its_interval(
    table: tuple[LoadedTable, list[CellRecord]], make_localization: Localized, make_detection: Detection
) -> None:
    note = note_on_the_ceiling(collect(table[0], "quick_localize", first_seeds(table[1])))
    assert note.endswith("by the mean alone: \u201cbase\u201d 91.0 %; \u201clucky\u201d 55.0 %.")
    low = make_detection(dict(zip(CLASSES, BY_CLASS["blind"][0], strict=True)))
    assert note_on_the_ceiling(collect(*_in_regime(make_localization({"base": [low]})))).endswith(
        "No row lies above it at tIoU 0.5."
    )
    plain = make_detection({"run": 50.0}, order_blind=None)
    export = collect(*_in_regime(make_localization({"base": [plain]})))
    assert not any("blind" in note for note in table_notes(export, summarise(export)))
    drawn = figures.precision_by_class(export)
    assert drawn is not None
    assert "blind" not in drawn.caption + drawn.alt
    assert not drawn.figure.legends


# --- Figures


def test_panels_show_what_was_measured_and_the_band_the_ceiling(table: tuple[LoadedTable, list[CellRecord]]) -> None:
    export = collect(table[0], "quick_localize", table[1])
    data = figures.precision_by_class_data(export)
    assert data["panel"].unique().tolist() == ["grows and shrinks", *CLASSES]
    drawn = figures.precision_by_class(export)
    assert drawn is not None
    axes = drawn.figure.axes
    assert [ax.get_title("left") for ax in axes] == ["grows and\nshrinks", *CLASSES]
    for ax, panel in zip(axes, data["panel"].unique(), strict=True):
        markers = {
            float(y): float(x)
            for line in ax.lines
            if line.get_marker() in "oD"
            for x, y in zip(*line.get_data(), strict=True)
        }
        means = data[data["panel"] == panel].set_index("row")["mean"]
        assert markers == {float(i): means[row] for i, row in enumerate(BY_CLASS)}
    (band,) = axes[0].patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((53.3, 56.1))
    assert not any(ax.patches for ax in axes[1:])
    (legend,) = drawn.figure.legends
    assert legend.get_texts()[0].get_text() == "the most that a network blind to the order of frames reaches"
    assert "blind: grows and shrinks 52.7 %, grows 53.3 %" in drawn.alt
    assert "base: grows and shrinks 92.8 %" in drawn.alt


def test_of_many_rows_the_ends_are_shown_and_of_many_classes_the_widest(
    make_localization: Localized, make_detection: Detection
) -> None:
    num_rows, names = MOST_ROWS + 5, [f"class {i}" for i in range(20)]
    draw = np.random.default_rng(0)
    spread = draw.permutation(20)
    made = {
        f"row {i}": [
            make_detection({name: 30 + 0.02 * i * spread[j] for j, name in enumerate(names)}, order_blind=None)
        ]
        for i in range(num_rows)
    }
    export = collect(*_in_regime(make_localization(made)))
    chosen = figures.precision_by_class_data(export)["panel"].unique().tolist()
    assert chosen == [name for j, name in enumerate(names) if spread[j] >= 13]
    drawn = figures.precision_by_class(export)
    assert drawn is not None
    assert f"Of {num_rows} rows, {MOST_ROWS} are shown" in drawn.caption
    assert "Of 20 classes the 7 in which the means of rows differ most are shown" in drawn.caption
    assert f"row {num_rows // 2}:" not in drawn.alt
    details = figures.detection_scores(export)
    assert details is not None
    assert len(details.figure.axes) == 3 * 10, "ten rows"
    assert f"Of {num_rows} rows, 10 are shown" in details.caption


def test_no_other_panel_has_the_band_of_classes_that_did_not_occur(
    make_localization: Localized, make_detection: Detection
) -> None:
    drawn = figures.precision_by_class(
        collect(*_in_regime(make_localization({"base": [make_detection({"shows a 0": 80.0})]})))
    )
    assert drawn is not None
    assert [ax.get_title("left") for ax in drawn.figure.axes] == ["shows a 0"]
    assert not drawn.figure.axes[0].patches
    assert "blind" not in drawn.alt


def test_curves_by_threshold_number_and_duration(table: tuple[LoadedTable, list[CellRecord]]) -> None:
    export = collect(table[0], "quick_localize", table[1])
    data = figures.detection_scores_data(export).set_index(["row", "measure", "place"])
    scores = [record.result.detection for record in table[1] if record.cell.label == "lucky"]
    for i, tiou in enumerate(scores[0].tious):
        by_seed = [found.by_tiou[i] for found in scores]
        expected = [fmean(by_seed), min(by_seed), max(by_seed)]
        assert data.loc[("lucky", "map", tiou), ["mean", "low", "high"]].tolist() == pytest.approx(expected)
    assert data.loc[("lucky", "recall", 5), "mean"] == pytest.approx(78)
    assert data.loc[("lucky", "duration", 2), "mean"] == pytest.approx(82 - 10)
    drawn = figures.detection_scores(export)
    assert drawn is not None
    assert "120, 61 and 70 of them" in drawn.caption
    assert "with the base row dashed" in drawn.caption
    panels = drawn.figure.axes
    assert [ax.get_ylabel() for ax in panels[::3]] == ["blind", "lucky", "base"]
    assert [len(ax.lines) for ax in panels] == [2] * 6 + [1] * 3, "the base alone has no row to be compared with"
    assert [text.get_text() for text in panels[-1].get_xticklabels()] == ["28", "44"]


def test_a_duration_without_segments_is_left_out(make_localization: Localized, make_detection: Detection) -> None:
    bins = [{"shortest": 0.0, "longest": 2.0, "num_segments": 0, "recall": []},
            {"shortest": 2.0, "longest": None, "num_segments": 9, "recall": [50.0] * 5}]  # fmt: skip
    scores = make_detection({"a": 50.0}, by_duration=bins, order_blind=None)
    export = collect(*_in_regime(make_localization({"base": [scores]})))
    data = figures.detection_scores_data(export)
    assert data.loc[data["measure"] == "duration", "place"].tolist() == [1]
    assert figures.detection_scores(export) is not None


ODD = hs.floats(0, 100) | hs.sampled_from([nan, float("inf"), -1.0, 1e300])


@settings(max_examples=15)
@given(data=hs.data(), num_classes=hs.integers(1, 9), num_tious=hs.integers(1, 4), num_bins=hs.integers(1, 3))
def test_no_scores_keep_a_figure_or_a_note_from_being_made(
    make_localization: Localized, make_detection: Detection, data: hs.DataObject, num_classes: int, num_tious: int,
    num_bins: int,
) -> None:  # fmt: skip
    tious = [0.2 + 0.1 * i for i in range(num_tious)]
    names = ["grows", "shrinks", *(f"{i} $x$" for i in range(num_classes))]

    def scores() -> DetectionScores:
        values = [data.draw(hs.lists(ODD, min_size=num_tious, max_size=num_tious)) for _ in names]
        recalls = data.draw(hs.lists(ODD, min_size=num_tious, max_size=num_tious))
        bins = [
            {"shortest": float(i), "longest": None, "num_segments": i, "recall": recalls if i else []}
            for i in range(num_bins)
        ]
        return make_detection(
            {}, tious=tious, by_tiou=[50.0] * num_tious, by_class=dict(zip(names, values, strict=True)),
            average_recall=dict(zip((1, 10), data.draw(hs.tuples(ODD, ODD)), strict=True)), by_duration=bins,
        )  # fmt: skip

    made = make_localization({row: [scores() for _ in range(2)] for row in ("a row", "base")})
    export = collect(*_in_regime(made))
    for figure in (figures.precision_by_class, figures.detection_scores):
        drawing = figure(export)
        if drawing is not None:
            assert len(drawing.svg) > 1000
            assert not re.search(r"\b(nan|inf)\b", drawing.alt + drawing.caption)
    assert "nan" not in note_on_the_ceiling(export)


# --- Several labels


def test_each_label_stands_beside_the_action(make_localization: Localized, make_detection: Detection) -> None:
    def of_three(shift: float) -> DetectionScores:
        heads = {"verb": [20.0 + shift] * 5, "noun": [30.0, 20.0, 10.0, 10.0, 10.0]}
        return make_detection({"verb: cut": 20.0}, by_head={**heads, "action": [12.0] * 5}, by_tiou=[12.0] * 5)

    made = make_localization({"other": [of_three(0), of_three(4)], "base": [of_three(1), of_three(1)]})
    export = collect(*_in_regime(made))
    labels = by_label(export)
    assert labels.columns.tolist() == ["row", "clips", "num_val", "label", "n", "map_mean", "map_sd"]
    means = labels.set_index(["row", "label"])["map_mean"]
    assert means["other"].to_dict() == pytest.approx({"verb": 22.0, "noun": 16.0, "action": 12.0})
    assert pd.read_csv(io.StringIO(summary_files(export)["labels.csv"])).shape == (6, 7)
    html = page.results(export).html
    assert "Verb (100 videos)" in html
    assert "mAP in percent, mean over seeds." in html
    assert "mAP is of the action; each label is scored over the same detections." in html
    assert "top-5" not in html.lower()


# --- All that a reader sees


def test_a_page_of_localization_speaks_of_videos_and_average_precision(
    table: tuple[LoadedTable, list[CellRecord]], tmp_path: Path
) -> None:
    folder = report(table[0], "quick_localize", table[1], tmp_path)
    said = words_of(folder)
    for name, text in said.items():
        wrong = OF_RECOGNITION.search(text)
        assert not wrong, (name, text[max(0, wrong.start() - 80) : wrong.end() + 80])
    html = said["report.html"]
    for sentence in (
        "mAP (%)",
        "Evaluated on 100 validation videos with 251 true segments.",
        "for these validation videos",
        "100 validation videos, the same for every row and seed",
        "CVPR 2015",
        "thresholds 0.3, 0.4, 0.5, 0.6 and 0.7",
        "with 1,000 samples of the validation videos",
        "The ceiling on grows and shrinks",
    ):
        assert sentence in html.replace("&nbsp;", " "), sentence
    drawn = {file.stem for file in (folder / "figures").glob("*.svg")}
    assert {"precision_by_class", "detection_scores"} <= drawn
    assert not drawn & {"confusion", "gain_by_class", "accuracy_by_family"}
    assert (folder / "detections.csv").is_file()
    assert not list(folder.glob("labels.csv"))


def test_terminal_and_latex_speak_of_map(table: tuple[LoadedTable, list[CellRecord]]) -> None:
    console = Console(record=True, width=100)
    console.print(terminal_table(table[0], "quick_localize", first_seeds(table[1]), styled=False))
    shown = console.export_text()
    tex = latex_report(collect(table[0], "quick_localize", first_seeds(table[1])), paper=True)
    for text in (shown, tex):
        assert "mAP" in text
        assert not OF_RECOGNITION.search(text)
        assert "bootstrap interval over the validation videos" in " ".join(text.replace("%", "").split())
