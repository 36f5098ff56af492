import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from statistics import mean

import pytest
from scipy import stats

from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.reporting.core.export import write_files
from tadaconv.reporting.study.confirmation import confirmation_data, confirmation_sentences
from tadaconv.reporting.study.data import StudyExport, collect, files_of, read_study
from tadaconv.reporting.study.page import confirmation

Scores = Mapping[int, Sequence[float | None]]


@pytest.fixture
def confirmed(make_study, make_result):
    """``confirmed({2: [60.0, None]}, {2: 65.0})``: by trial, top-1 on new seeds (None failed) and in the search."""

    def make(new: Scores, searched: Mapping[int, float | None], names: Mapping[int, str] | None = None) -> StudyExport:
        loaded, records = make_study(12)
        made = []
        for record in records:
            top1 = searched.get(record.number)
            name = (names or {}).get(record.number, record.name)
            cells = [Cell(name, record.cells[0].cell.experiment.but(seed=s + 1)) for s in range(12)]
            anew = tuple(
                CellRecord(cell, "failed", None, "RunError: no", "Traceback")
                if score is None
                else CellRecord(cell, "finished", make_result(score))
                for cell, score in zip(cells, new.get(record.number, []), strict=False)
            )
            status = "pruned" if top1 is None else "finished"
            made.append(replace(record, name=name, status=status, score=top1, confirmed=anew))
        return collect(loaded, "quick", made, confirmed=True)

    return make


NEW: Scores = {0: [60.0, 61.5, 60.7], 3: [66.0, 67.9, 66.4], 4: [64.0, 66.2, 65.0]}
SEARCHED = {0: 60.5, 3: 70.0, 4: 69.0}


def said(export: StudyExport) -> str:
    return " ".join(confirmation_sentences(export))


def page(export: StudyExport) -> str:
    block = confirmation(export)
    assert block is not None
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", block.html)).replace("\xa0", " "))


def test_the_table_has_both_accuracies_and_their_difference(confirmed) -> None:
    data = confirmation_data(confirmed(NEW, SEARCHED))
    assert data["trial"].tolist() == [3, 4, 0], "the best of the search first, the base last"
    for line in data.to_dict("records"):
        scores = NEW[line["trial"]]
        assert line["searched"] == SEARCHED[line["trial"]]
        assert line["top1_mean"] == pytest.approx(mean(scores))
        assert line["change"] == pytest.approx(mean(scores) - SEARCHED[line["trial"]])
        low, high = stats.t.interval(0.95, 2, mean(scores), stats.sem(scores))
        assert (line["top1_low"], line["top1_high"]) == pytest.approx((low, high))
        if line["trial"]:
            pairs = [a - b for a, b in zip(scores, NEW[0], strict=True)]
            low, high = stats.t.interval(0.95, 2, mean(pairs), stats.sem(pairs))
            assert (line["delta_low"], line["delta_high"]) == pytest.approx((low, high))


def test_the_bias_of_the_search_is_shown_next_to_the_base(confirmed) -> None:
    text = said(confirmed(NEW, SEARCHED))
    new = mean([mean(NEW[3]), mean(NEW[4])])
    assert "in the search is optimistically biased by selection (winner\u2019s curse)." in text
    fall = f"a difference of \u2212{69.5 - new:.1f} points."
    assert f"Mean of 2 selected trials: 69.5 % in the search, {new:.1f} % on new seeds, {fall}" in text
    assert f"The base, which was not selected: 60.5 % in the search, {mean(NEW[0]):.1f} % on new seeds" in text


@pytest.mark.parametrize(
    ("favourite", "verdict"),
    [
        (
            [66.0, 67.9, 66.4],
            "significantly better than the base: +6.0 points in 3 pairs of new seeds, 95 % interval +5.2 to +6.9.",
        ),
        ([50.0, 51.2, 50.9], "significantly worse than the base: \u221210.0 points in 3 pairs"),
        ([66.0, 52.0, 63.0], "compared with the base: \u22120.4 points in 3 pairs of new seeds, 95 % interval"),
        ([66.0, None, None], "compared with the base: +6.0 points in 1 pair of new seeds, no interval (one pair"),
        (
            [61.0, 62.5, 61.7],
            "compared with the base: +1.0 points in 3 pairs of new seeds, no interval (one pair, or equal",
        ),
    ],
)
def test_the_best_of_the_search_against_the_base(favourite, verdict: str, confirmed) -> None:
    text = said(confirmed({**NEW, 3: favourite}, SEARCHED))
    assert f"Trial 3, the best in the search, {verdict}" in text


def test_the_highest_on_new_seeds_is_named_with_those_that_do_not_differ(confirmed) -> None:
    highest = "The highest accuracy on new seeds:"
    assert f"{highest} trial 3, significantly above all others." in said(confirmed(NEW, SEARCHED))
    swapped = said(confirmed({**NEW, 3: NEW[4], 4: [70.0, 72.1, 71.0]}, SEARCHED))
    assert f"{highest} trial 4, significantly above all others." in swapped
    tied = said(confirmed({**NEW, 4: [69.0, 65.2, 65.9]}, SEARCHED))
    assert f"{highest} trial 3, not significantly different from trial 4." in tied


def test_failed_cells_are_counted_and_no_mean_is_made_of_nothing(confirmed) -> None:
    export = confirmed({**NEW, 4: [None, None, None], 3: [66.0, None, 66.4]}, SEARCHED)
    data = confirmation_data(export).set_index("trial")
    assert data.loc[4, "n"] == 0
    assert data.loc[4, "top1_mean"] != data.loc[4, "top1_mean"]
    assert "2 of 3 seeds, 1 failed" in page(export)
    assert "0 of 3 seeds, 3 failed" in page(export)
    assert "nan" not in page(export)
    nothing = confirmed({number: [None, None] for number in NEW}, SEARCHED)
    assert confirmation_sentences(nothing) == []
    assert "nan" not in page(nothing)


def test_one_new_seed_tells_nothing_of_others(confirmed) -> None:
    export = confirmed({number: scores[:1] for number, scores in NEW.items()}, SEARCHED)
    assert "no interval (one pair" in said(export)
    assert "highest" not in said(export)
    assert "interval over the validation clips, for this one trained network" in page(export)


def test_without_the_base_nothing_is_compared_with_it(confirmed) -> None:
    export = confirmed({3: NEW[3], 4: NEW[4]}, SEARCHED)
    assert "Against base" not in page(export)
    assert "the base" not in said(export)
    assert confirmation_data(export)["delta_mean"].isna().all()


def test_a_base_that_did_not_finish_in_the_search_is_compared_all_the_same(confirmed) -> None:
    export = confirmed(NEW, {3: 70.0, 4: 69.0})
    assert "significantly better than the base" in said(export)
    assert "which was not selected" not in said(export)
    assert "nan" not in page(export)


def test_a_best_that_came_later_is_named(confirmed) -> None:
    command = "tada study placed --confirm 3 --seeds 3"
    assert command not in page(confirmed(NEW, SEARCHED))
    later = page(confirmed(NEW, {**SEARCHED, 6: 75.0}))
    assert "Trial 6, now the best at 75.0 %, is not among them" in later
    assert command in later


def test_names_are_text(confirmed) -> None:
    block = confirmation(confirmed(NEW, SEARCHED, {3: "<script>alert(1)</script>", 4: "<b>x</b>"}))
    assert block is not None
    assert "<script" not in block.html
    assert "<b>x" not in block.html


def test_nothing_is_shown_where_nothing_was_confirmed(confirmed) -> None:
    assert confirmation(confirmed({}, SEARCHED)) is None


def test_it_is_read_back_as_it_was(confirmed, tmp_path: Path) -> None:
    export = confirmed({**NEW, 4: [None, 60.0]}, SEARCHED)
    write_files(files_of(export), tmp_path)
    (tmp_path / "report.json").write_text(export.manifest.model_dump_json())
    assert page(read_study(tmp_path)) == page(export)
