import io
import re
from dataclasses import replace
from itertools import product
from math import inf, isnan, nan
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from rich.console import Console
from scipy import stats

from tadaconv import statistics as st
from tadaconv.execution.cells import CellRecord
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.metrics import TOP1
from tadaconv.regime import Recipe, Regime
from tadaconv.reporting.ablation import page as blocks
from tadaconv.reporting.ablation.data import Elsewhere, EnsembleOrigin, Export, collect
from tadaconv.reporting.ablation.latex import latex_table
from tadaconv.reporting.ablation.summary import (
    base_columns,
    by_label,
    compares_apart,
    differing,
    groups,
    judge,
    paper_order,
    scores_by_seed,
    standings,
    summarise,
    summary_files,
    table_columns,
    untested,
    verdicts,
)
from tadaconv.reporting.ablation.terminal import terminal_table
from tadaconv.reporting.ablation.text import (
    claim_sentence,
    claims_summary,
    elsewhere_notes,
    legend,
    our_clips,
    paper_notes,
    power_notes,
    table_notes,
    tau_note,
    what_was_run,
)
from tadaconv.reporting.core import format as words
from tadaconv.result import HeadAccuracy, SubsetAccuracy
from tadaconv.sequential import Judgement, SeedDesign
from tadaconv.spec import Backbone, Schedule, Synthetic, TAda
from tadaconv.table import Claim, LoadedTable, PaperResult, Row, Table


def lines(export: Export) -> dict[str, pd.Series]:
    summary = summarise(export)
    return {row["row"]: row for _, row in summary.iterrows()}


@pytest.fixture
def export_of(made_up):
    def make(scores, base="base", claims=None) -> Export:
        return collect(*(lambda made: (made[0], "quick", made[1]))(made_up(scores, base, claims)))

    return make


def test_differences_are_paired_by_seed(export_of) -> None:
    # Seeds shift both rows together: the means vary by 10 points, the differences not by more than 0.2.
    row = lines(export_of({"other": [49.9, 60.0, 70.1], "base": [52.0, 62.0, 72.0]}))["other"]
    differences = [-2.1, -2.0, -1.9]
    expected = stats.t.interval(0.95, 2, -2.0, stats.sem(differences))
    assert row["delta_mean"] == pytest.approx(-2.0)
    assert (row["delta_low"], row["delta_high"]) == pytest.approx(expected)
    assert row["p"] == 0.25
    assert row["top1_high"] - row["top1_low"] > 40


def test_a_failed_cell_lowers_n_and_is_never_averaged(export_of) -> None:
    row = lines(export_of({"other": [50.0, None, 60.0], "base": [52.0, 99.0, 62.0]}))["other"]
    assert (row["status"], row["n"], row["num_failed"], row["num_planned"]) == ("partial", 2, 1, 3)
    assert row["top1_mean"] == 55.0
    assert row["delta_mean"] == pytest.approx(-2.0)  # the base's own second seed has no partner


def test_a_missing_seed_makes_a_row_partial(made_up) -> None:
    loaded, records = made_up({"other": [50.0, 51.0], "base": [52.0, 53.0]})
    export = collect(loaded, "quick", records[:1] + records[2:])
    assert (lines(export)["other"]["status"], lines(export)["other"]["n"]) == ("partial", 1)
    assert "1 not run" in what_was_run(export)


def test_one_seed_knows_only_the_validation_clips(export_of) -> None:
    export = export_of({"other": [50.0], "base": [60.0]})
    row = lines(export)["other"]
    wilson = stats.binomtest(256, 512).proportion_ci(method="wilson")
    assert (row["top1_low"], row["top1_high"]) == pytest.approx((100 * wilson.low, 100 * wilson.high))
    assert row["covers"] == "clips"
    assert row["delta_mean"] == -10.0
    assert isnan(row["delta_low"])
    assert any("does not cover seeds" in note for note in table_notes(export, summarise(export)))


def test_equal_seeds_give_no_interval_and_say_so(export_of) -> None:
    export = export_of({"same": [50.0, 50.0, 50.0], "base": [60.0, 61.0, 62.0]})
    row = lines(export)["same"]
    assert row["top1_mean"] == 50.0
    assert isnan(row["top1_low"])
    assert any("same accuracy for same" in note for note in table_notes(export, summarise(export)))


def test_all_failed(export_of) -> None:
    export = export_of({"other": [None, None], "base": [None, None]}, claims=[Claim("c", "other", "base", "s")])
    summary = summarise(export)
    assert summary["status"].tolist() == ["failed", "failed"]
    assert summary["top1_mean"].isna().all()
    assert summary["macs"].isna().all()
    verdict = verdicts(export).iloc[0]
    assert verdict["verdict"] == "undecided"
    assert "No seed has a result" in claim_sentence(verdict.to_dict())


def test_rows_without_cells_are_missing(made_up) -> None:
    loaded, records = made_up({"other": [50.0], "base": [60.0]})
    assert summarise(collect(loaded, "quick", records[1:]))["status"].tolist() == ["missing", "finished"]
    assert summarise(collect(loaded, "quick", []))["status"].tolist() == ["missing", "missing"]


@pytest.mark.parametrize("wrong", [nan, inf, -0.1, 100.5])
def test_an_accuracy_that_is_none_counts_as_failed(made_up, wrong: float) -> None:
    loaded, records = made_up({"other": [50.0, 51.0], "base": [60.0, 61.0]})
    assert records[0].result is not None
    broken = CellRecord(records[0].cell, "finished", records[0].result.model_copy(update={"score": wrong}))
    export = collect(loaded, "quick", [broken, *records[1:]])
    assert (lines(export)["other"]["n"], lines(export)["other"]["num_failed"]) == (1, 1)
    assert export.cells["error"].tolist()[0] == "the accuracy is not a number from 0 to 100"


def test_intervals_stay_within_accuracies(export_of) -> None:
    row = lines(export_of({"other": [97.0, 99.0], "base": [1.0, 3.0]}))
    assert row["other"]["top1_high"] == 100.0
    assert row["base"]["top1_low"] == 0.0


def test_the_columns_and_order_of_the_table(export_of) -> None:
    summary = summarise(export_of({"b": [1.0], "a": [2.0], "base": [3.0]}))
    assert summary.columns[: len(base_columns(TOP1))].tolist() == base_columns(TOP1)
    assert summary["row"].tolist() == ["b", "a", "base"]
    assert isnan(summary["delta_mean"].iloc[-1])


def test_holm_is_taken_over_the_rows(export_of) -> None:
    up = [float(v) for v in range(60, 66)]
    row = lines(export_of({"a": [v - 5 for v in up], "b": [v - 9 for v in up], "base": up}))["a"]
    assert (row["p"], row["p_holm"]) == (0.03125, 0.0625)


@pytest.mark.parametrize(
    ("better", "verdict", "says"),
    [
        ([70.0, 71.0, 72.5], "supported", "is 10.2 points above"),
        ([50.0, 51.0, 52.5], "contradicted", "is 9.8 points below"),
        ([60.0, 63.0, 60.0], "undecided", "The minimum detectable difference"),
        ([70.0, None, None], "undecided", "one seed, so no interval"),
        ([61.0, 62.0, 63.0], "undecided", "the same in all 3 seeds, so no interval"),
    ],
)
def test_verdicts(export_of, better, verdict, says) -> None:
    claim = Claim("it helps", "better", "base", "paper, section 5")
    found = verdicts(export_of({"better": better, "base": [60.0, 61.0, 62.0]}, claims=[claim])).iloc[0]
    assert found["verdict"] == verdict
    assert says in claim_sentence(found.to_dict())


def test_a_claim_is_paired_and_knows_its_effect(export_of) -> None:
    claim = Claim("it helps", "a", "b", "s")
    scores = {"a": [50.0, 60.0, 71.0], "b": [48.0, 59.0, 68.0], "base": [0.0, 1.0, 2.0]}
    found = verdicts(export_of(scores, claims=[claim])).iloc[0]
    assert (found["effect"], found["n"], found["sd"]) == pytest.approx((2.0, 3, 1.0))
    assert (found["low"], found["high"]) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)


def with_paper(loaded: LoadedTable, top1: dict[str, float]) -> LoadedTable:
    def row(r: Row) -> Row:
        return replace(r, paper=PaperResult(top1[r.name], "paper, table 8", "SSV2", 16, "2 clips x 3 crops"))

    return replace(loaded, table=Table(base=row(loaded.table.base), rows=[row(r) for r in loaded.table.rows]))


def test_the_papers_order(made_up) -> None:
    loaded, records = made_up({"a": [50.0], "b": [60.0], "base": [70.0]})
    export = collect(with_paper(loaded, {"a": 61.0, "b": 60.0, "base": 64.0}), "quick", records)
    summary = summarise(export)
    found = paper_order(export)
    assert (found.n, found.tau) == (3, pytest.approx(1 / 3))  # of three pairs, two agree
    notes = " ".join(paper_notes(export, summary))
    assert "SSV2, 16 frames, 2 clips x 3 crops" in notes
    assert "only in order: all rows. Why: other data, another number of frames and other views." in notes
    assert "Order of the rows in the paper: Kendall\u2019s tau 0.33 over 3 rows." in notes


def test_too_few_rows_for_an_order(context) -> None:
    loaded, records = context
    export = collect(loaded, "quick", records)
    found = paper_order(export)
    assert found.n == 1
    assert isnan(found.tau)
    assert "which takes three rows" in " ".join(paper_notes(export, summarise(export)))


def test_what_the_paper_measured_on_is_said_once_a_data_set(hosts) -> None:
    export = collect(*_in_quick(hosts))
    note = paper_notes(export, summarise(export))[0]
    assert note.startswith(
        "The paper's numbers were measured on Kinetics-400, 8 or 32 frames, 10 clips x 3 crops; ours"
    )


def test_equal_numbers_have_no_order(made_up) -> None:
    loaded, records = made_up({"a": [50.0], "b": [60.0], "base": [70.0]})
    export = collect(with_paper(loaded, dict.fromkeys(["a", "b", "base"], 64.0)), "quick", records)
    assert paper_notes(export, summarise(export))[-1] == (
        "Order of the rows in the paper: not compared, as all rows are equal in one of the two."
    )


def test_few_seeds_are_named_as_such(context) -> None:
    loaded, records = context
    export = collect(loaded, "quick", records)
    notes = " ".join(power_notes(export, summarise(export)))
    assert "With 3 pairs and 9 rows, sign-flip p after Holm cannot come below 1; it takes 9 seeds" in notes


def test_scores_by_seed(export_of) -> None:
    scores = scores_by_seed(export_of({"other": [50.0, None], "base": [60.0, 61.0]}))
    assert scores.loc["base"].tolist() == [60.0, 61.0]
    assert scores.loc["other"].isna().tolist() == [False, True]


# Rows that are compared with rows of their own


@settings(deadline=None, max_examples=40)
@given(hs.data())
def test_differences_to_a_row_of_ones_own_equal_brute_force(make_up, data: hs.DataObject) -> None:
    names = ["a", "b", "c", "base"]
    score = hs.none() | hs.integers(0, 512).map(lambda hits: hits / 5.12)
    scores = {name: data.draw(hs.lists(score, min_size=4, max_size=4)) for name in names}
    versus = {name: data.draw(hs.none() | hs.sampled_from(names)) for name in names}
    loaded, records = make_up(scores)
    base, *rows = (replace(loaded.table.row(name), versus=versus[name]) for name in ["base", "a", "b", "c"])
    loaded = replace(loaded, table=Table(base=base, rows=rows))
    found = lines(collect(loaded, "quick", records))
    for name in names:
        other = versus[name] or "base"
        pairs = zip(scores[name], scores[other], strict=True)
        differences = [x - y for x, y in pairs if x is not None and y is not None] if other != name else []
        row = found[name]
        assert row["versus"] == ("" if other == name else other)
        assert row["num_pairs"] == len(differences)
        if not differences:
            assert isnan(row["delta_mean"])
            continue
        assert row["delta_mean"] == pytest.approx(fmean(differences), abs=1e-9)
        flips = [sum(flipped) for flipped in product(*((d, -d) for d in differences))]
        extreme = sum(abs(flip) >= abs(sum(differences)) - 1e-9 for flip in flips)
        assert row["p"] == pytest.approx(extreme / len(flips))
        if len(differences) > 1 and max(differences) - min(differences) > 1e-6:
            bounds = stats.t.interval(0.95, len(differences) - 1, fmean(differences), stats.sem(differences))
            assert (row["delta_low"], row["delta_high"]) == pytest.approx(bounds)


def with_versus(loaded: LoadedTable, versus: dict[str, str]) -> LoadedTable:
    base, *rows = (replace(r, versus=versus.get(r.name)) for r in [loaded.table.base, *loaded.table.rows])
    return replace(loaded, table=Table(base=base, rows=rows))


def test_naming_the_base_changes_nothing(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 51.0], "b": [52.0, 55.0], "base": [60.0, 62.0]})
    named = with_versus(loaded, {"a": "base", "b": "base"})
    before, after = (summarise(collect(table, "quick", records)) for table in (loaded, named))
    pd.testing.assert_frame_equal(before, after)
    assert not compares_apart(after, "base")
    assert table_columns(after, "base") == base_columns(TOP1)


@pytest.mark.parametrize(
    ("versus", "references"),
    [
        ({"a": "b"}, {"b", "base"}),
        ({"a": "b", "b": "c", "c": "b", "base": "b"}, {"b", "c"}),
        ({"a": "a"}, {"a", "base"}),
        ({"base": "a"}, {"a", "base"}),
    ],
)
def test_references_are_compared_with_or_are_compared_with_none(made_up, versus, references) -> None:
    loaded, records = made_up({name: [50.0, 51.0] for name in ("a", "b", "c", "base")})
    summary = summarise(collect(with_versus(loaded, versus), "quick", records))
    assert set(summary.loc[summary["reference"], "row"]) == references
    assert compares_apart(summary, "base")
    assert table_columns(summary, "base") == [*base_columns(TOP1), "versus"]


def test_what_rows_differ_in_is_said(hosts) -> None:
    export = collect(*_in_quick(hosts))
    note, *_ = table_notes(export, summarise(export))
    assert note.startswith("Rows differ in backbone and number of frames: the difference of ")
    # The hosts are compared with the base, which is another backbone; what is plugged into them is not named.
    assert re.findall("\u201c(.+?)\u201d", note) == ["slowfast_4x16", "r2plus1d", "r3d"]
    assert note.endswith(" includes this effect.")


def test_differences_within_a_backbone_are_said_to_be(hosts) -> None:
    loaded, records = hosts
    alone = with_versus(loaded, {row.name: row.versus or row.name for row in loaded.table.all_rows})
    export = collect(alone, "quick", records)
    assert table_notes(export, summarise(export))[0].startswith(
        "Rows differ in backbone and number of frames: every difference is taken between rows of the same backbone and "
    )


def test_differences_across_recipes_are_marked_everywhere(hosts) -> None:
    loaded, records = hosts
    recipes = [
        Recipe(num_frames=32, origin="paper", changes={"schedule__batch_size": 16, "schedule__lr": 0.05}),
        Recipe(backbones=("r3d",), origin="ours", changes={"schedule__optimizer": "adamw"}),
    ]
    regime = Regime(
        summary="", backbone=Backbone(name="tiny"), data=Synthetic(num_train=8, num_val=4), recipes=recipes,
        schedule=Schedule(epochs=6, batch_size=32, lr=0.1),
    )  # fmt: skip
    of_row = loaded.table.row
    records = [replace(r, cell=of_row(r.cell.label).cell(regime, r.cell.experiment.seed)) for r in records]
    export = collect(loaded, "quick", records)
    summary = summarise(export)
    across = set(summary.loc[summary["across_recipes"], "row"])
    assert across == {"slowfast_4x16", "r3d"}  # compared with the base; those plugged into them share their recipe
    recipe = dict(zip(summary["row"], summary["recipe"], strict=True))
    assert recipe["slowfast_4x16 + cin"] == "batch size 16, lr 0.05, optimizer sgd"
    assert recipe["r3d"] == "batch size 32, lr 0.1, optimizer adamw"
    assert "recipe" in table_columns(summary, export.manifest.base)
    note, *_ = table_notes(export, summary)
    assert note.startswith("Rows differ in backbone, number of frames and recipe: the difference of ")
    html = blocks.results(export).html
    assert html.count("\u2020") == len(across) + 1
    assert "recipe by row" in blocks.conditions(export).text
    tex = latex_table(summary, export.manifest.base, "t")
    assert tex.count(r"$^\dagger$") == len(across)
    assert "% \u2020: to a row trained with a different recipe" in tex
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(terminal_table(loaded, "quick", records))
    assert console.export_text().count("\u2020") == len(across) + 1


def test_accuracies_of_each_label_stand_beside_those_of_all_at_once(context) -> None:
    loaded, records = context

    def of_two(record: CellRecord) -> CellRecord:
        top1 = record.cell.experiment.seed + 50.0
        heads = {name: HeadAccuracy(top1=top1 + i, top5=top1 + 20) for i, name in enumerate(("verb", "noun"))}
        tail = SubsetAccuracy(num_val=31, top1=top1 - 20, per_head=dict.fromkeys(heads, top1 - 10))
        found = {"per_head": heads, "per_subset": {"tail verbs": tail}}
        return replace(record, result=record.result.model_copy(update=found))

    export = collect(loaded, "quick", [of_two(r) for r in records if r.cell.label in ("(3,3)", "(1,1)")])
    (note,) = [note for note in table_notes(export, summarise(export)) if "multiplied" in note]
    assert note.startswith("Accuracies are of the action: the probabilities of verb and noun are multiplied")
    found = by_label(export).set_index(["row", "clips", "label"])
    seeds = sorted({cell.seed for cell in export.manifest.cells})
    mean = sum(seeds) / len(seeds) + 50
    assert found.loc[("(3,3)", "all", "verb"), ["top1_mean", "top5_mean"]].tolist() == [mean, mean + 20]
    assert found.loc[("(3,3)", "all", "noun"), "top1_mean"] == mean + 1
    assert found.loc[("(3,3)", "tail verbs", ""), ["num_val", "n", "top1_mean"]].tolist() == [31, len(seeds), mean - 20]
    own = export.cells[export.cells["row"] == "(3,3)"]
    assert found.loc[("(3,3)", "all", ""), "top1_mean"] == pytest.approx(own["top1"].mean())
    assert found.loc[("(3,3)", "all", ""), "top5_mean"] == pytest.approx(own["top5"].mean())
    html = blocks.results(export).html
    for shown in (
        "Each label, and clips evaluated separately",
        "Tail verbs: verb (31 clips)",
        f"top-5 {mean + 20:.1f}",
    ):
        assert shown in html
    plain = collect(loaded, "q", records)
    assert by_label(plain).empty
    assert "evaluated separately" not in blocks.results(plain).html
    assert not any("multiplied" in note for note in table_notes(plain, summarise(plain)))


def test_one_recipe_is_not_marked(hosts) -> None:
    export = collect(*_in_quick(hosts))
    assert not summarise(export)["across_recipes"].any()
    assert "recipe" not in differing(export.manifest)
    assert not re.search("dagger|\u2020", latex_table(summarise(export), export.manifest.base, "t"))


def test_rows_on_one_backbone_are_not_said_to_differ(context) -> None:
    export = collect(context[0], "quick", context[1])
    assert differing(export.manifest) == {}
    assert not any("Rows differ" in note for note in table_notes(export, summarise(export)))


def test_notes_name_no_base_that_rows_are_not_compared_with(hosts) -> None:
    export = collect(*_in_quick(hosts))
    assert not any("base row" in note for note in table_notes(export, summarise(export)))


def test_our_clips_have_the_frames_that_rows_have(hosts, context) -> None:
    assert "8 or 32 frames" in our_clips(collect(*_in_quick(hosts)).manifest)
    assert "digits, 8 frames, 1 clip" in our_clips(collect(context[0], "quick", context[1]).manifest)


def test_our_clips_have_the_size_that_is_evaluated(context) -> None:
    manifest = collect(context[0], "quick", context[1]).manifest
    assert our_clips(manifest).endswith("1 clip x 1 crop of 32 px")
    data = {**manifest.conditions["data"], "eval_size": 48}
    cells = [cell.model_copy(update={"experiment": {**cell.experiment, "data": data}}) for cell in manifest.cells]
    evaluated = manifest.model_copy(update={"cells": cells})
    assert our_clips(evaluated).endswith("1 clip x 1 crop of 48 px")


def _in_quick(made: tuple[LoadedTable, list[CellRecord]]) -> tuple[LoadedTable, str, list[CellRecord]]:
    return made[0], "quick", made[1]


def test_the_table_says_what_rows_ran_on_where_they_differ(hosts) -> None:
    loaded, records = hosts
    some = [record for record in records if record.cell.label != "r3d"]
    summary = summarise(collect(loaded, "quick", some))
    assert table_columns(summary, loaded.table.base.name) == [*base_columns(TOP1), "versus", "backbone", "num_frames"]
    ran_on = {line["row"]: (line["backbone"], line["num_frames"]) for line in summary.to_dict("records")}
    assert ran_on["slow_only_8x8 + cin"] == ("tiny", 8)  # what stands in for it
    assert ran_on["slowfast_4x16 + cin"] == ("slowfast_4x16", 32)
    backbone, num_frames = ran_on["r3d"]  # it has no cell
    assert backbone == ""
    assert pd.isna(num_frames)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0"), (0.46, "0.5"), (9.94, "9.9"), (9.96, "10"), (41.5, "42"), (nan, "\u2013")]
)
def test_seconds_below_ten_have_a_decimal(seconds: float, shown: str) -> None:
    assert words.seconds(seconds) == shown


# The best row and its ties


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # Far above every other in each of four seeds.
        (
            {"a": [70.0, 71.0, 72.1, 70.4], "b": [60.0, 61.2, 62.0, 60.4], "base": [50.0, 51.0, 52.2, 50.1]},
            {"a": "best", "b": "below", "base": "below"},
        ),
        # b is level with a, the base is not.
        (
            {"a": [70.0, 71.0, 72.1, 70.4], "b": [70.5, 70.2, 72.0, 70.4], "base": [50.0, 51.0, 52.2, 50.1]},
            {"a": "tie", "b": "tie", "base": "below"},
        ),
        # p is 0.022 for each of three rows, which is not enough for three; and enough for one.
        (
            {"a": [70.0, 71.0, 72.0, 73.0], "b": [69.0, 69.0, 69.0, 71.5], "c": [68.0, 70.0, 69.0, 71.5]}
            | {"base": [67.0, 69.5, 71.0, 71.0]},
            dict.fromkeys(["a", "b", "c", "base"], "tie"),
        ),
        ({"a": [70.0, 71.0, 72.0, 73.0], "base": [69.0, 69.0, 69.0, 71.5]}, {"a": "best", "base": "below"}),
        # On top by a seed that the base lacks, and below it in every other: who is best is open.
        ({"a": [70.0, 71.0, 72.1, 99.0], "base": [75.0, 76.2, 77.0, None]}, {"a": "tie", "base": "tie"}),
        # Equal in every seed: a tie without any test.
        ({"a": [70.0, 71.0], "base": [70.0, 71.0]}, {"a": "tie", "base": "tie"}),
        # The same difference in every seed has no spread to test: nothing is said of b, and a is not the best.
        ({"a": [70.0, 71.0, 72.0], "base": [69.0, 70.0, 71.0]}, {"a": "tie"}),
        # One seed of b cannot tell; on top of all, it leaves nobody to compare with.
        (
            {"a": [70.0, 71.0, 72.1], "b": [69.0, None, None], "base": [50.0, 51.0, 52.2]},
            {"a": "tie"} | {"base": "below"},
        ),
        ({"a": [70.0, 71.0, 72.1], "b": [90.0, None, None], "base": [50.0, 51.0, 52.2]}, {}),
        # A row that failed altogether is none to compare with; alone, a row is not the best of anything.
        (
            {"a": [70.0, 71.0, 72.1, 70.4], "b": [None] * 4, "base": [60.0, 61.2, 62.0, 60.4]},
            {"a": "best"} | {"base": "below"},
        ),
        ({"a": [None, None, None], "base": [50.0, 51.0, 52.0]}, {}),
        ({"a": [None, None], "base": [None, None]}, {}),
        # Without a seed in common there is no pair.
        ({"a": [70.0, 71.0, None, None], "base": [None, None, 60.0, 61.0]}, {"a": "tie"}),
    ],
)
def test_standings(export_of, scores, expected) -> None:
    summary = summarise(export_of(scores))
    assert {row: s for row, s in zip(summary["row"], summary["standing"], strict=True) if s} == expected


def test_rows_on_different_backbones_are_not_ranked_together(hosts) -> None:
    export = collect(*_in_quick(hosts))
    found = groups(export.manifest)
    assert sorted(len(members) for members in found) == [2, 3, 3, 3]
    assert ["r3d", "r3d + cin"] in found
    summary = summarise(export).set_index("row")
    for members in found:
        known = summary.loc[members]
        top = known["top1_mean"].idxmax()
        assert known["standing"][top] in {"best", "tie"}
        assert (known.drop(top)["standing"] != "best").all()
    alone = {"a": [70.0, 71.0], "b": [60.0, 61.5]}
    assert standings(pd.DataFrame(alone).T, [["a"], ["b"]]) == {"a": "", "b": ""}


@settings(deadline=None, max_examples=40)
@given(hs.data())
def test_standings_equal_scipys_tests(data: hs.DataObject) -> None:
    rows = data.draw(hs.lists(hs.lists(hs.integers(0, 40), min_size=4, max_size=4), min_size=2, max_size=4))
    scores = pd.DataFrame([[hits / 4 for hits in row] for row in rows], index=[str(i) for i in range(len(rows))])
    found = standings(scores, [list(scores.index)])
    tops = scores.index[scores.sum(axis=1) == scores.sum(axis=1).max()]  # quarters add up exactly
    marks = [marks_below(scores, top) for top in tops]
    for name, mark in found.items():
        each = {marked[name] for marked in marks}
        assert mark == (each.pop() if len(each) == 1 else "tie" if "tie" in each else "")


def marks_below(scores: pd.DataFrame, top: str) -> dict[str, str]:
    """The standings where ``top`` is the row on top, by scipy and Holm's steps one at a time."""
    ahead = {name: scores.loc[top] - scores.loc[name] for name in scores.index if name != top}
    tested = {name: stats.ttest_rel(d, d * 0).pvalue for name, d in ahead.items() if np.ptp(d) > 0}
    below, level = set(), True
    for i, name in enumerate(sorted(tested, key=lambda name: tested[name])):
        level = level and tested[name] * (len(tested) - i) <= 0.05
        below |= {name} if level and ahead[name].mean() > 0 else set()
    marks = {top: "best" if below == set(ahead) else "tie"}
    for name, d in ahead.items():
        untested = "tie" if d.eq(0).all() else ""
        marks[name] = untested if name not in tested else "below" if name in below else "tie"
    return marks


@settings(deadline=None, max_examples=100)
@given(hs.data())
def test_marks_depend_on_no_order(data: hs.DataObject) -> None:
    # Few values over few seeds: exact ties on top, equal rows, rows of one seed and of none are common.
    num_seeds = data.draw(hs.integers(3, 4))
    score = hs.none() | hs.integers(0, 3)
    rows = data.draw(hs.lists(hs.lists(score, min_size=num_seeds, max_size=num_seeds), min_size=2, max_size=5))
    scores = pd.DataFrame(rows, index=[f"row {i}" for i in range(len(rows))], dtype=float)
    found = standings(scores, [list(scores.index)])
    for _ in range(3):
        rows_turned = data.draw(hs.permutations(list(scores.index)))
        turned = scores.loc[rows_turned, data.draw(hs.permutations(range(num_seeds)))]
        assert standings(turned, [list(turned.index)]) == found


@settings(deadline=None, max_examples=100)
@given(hs.data())
def test_of_rows_that_tie_on_top_each_is_taken_in_turn(data: hs.DataObject) -> None:
    rows = data.draw(hs.lists(hs.lists(hs.integers(0, 3), min_size=4, max_size=4), min_size=2, max_size=5))
    scores = pd.DataFrame(rows, index=[f"row {i}" for i in range(len(rows))], dtype=float)
    found = standings(scores, [list(scores.index)])
    tops = scores.index[scores.sum(axis=1) == scores.sum(axis=1).max()]
    # Lifted by a hair in one seed, a row is alone on top, and the rest stand to it as they did.
    alone = []
    for top in tops:
        lifted = scores.copy()
        lifted.loc[top] += 1e-7
        alone.append(standings(lifted, [list(scores.index)]))
    if len(tops) > 1:
        assert {name for name, mark in found.items() if mark == "tie"} >= set(tops)
        assert "best" not in found.values()
    for name in scores.index:
        same = any(np.ptp(scores.loc[top] - scores.loc[name]) == 0 for top in tops)
        if not same:  # a hair apart in every seed is a difference without a spread
            assert (found[name] in {"best", "tie"}) == any(marks[name] in {"best", "tie"} for marks in alone)


def test_a_tie_on_top_keeps_what_either_of_them_would_keep(export_of) -> None:
    level, noisy = [70.0, 70.0, 70.0, 70.0], [50.0, 90.0, 60.0, 80.0]
    scores = {"level": level, "noisy": noisy, "base": [69.0, 69.1, 69.0, 69.1]}
    # The base is significantly below the one and not below the other.
    assert st.paired_t_p(np.subtract(level, scores["base"])) < 0.05 / 2
    assert st.paired_t_p(np.subtract(noisy, scores["base"])) > 0.05
    for names in (["level", "noisy", "base"], ["noisy", "base", "level"]):
        summary = summarise(export_of({name: scores[name] for name in names}))
        assert set(summary["standing"]) == {"tie"}


def test_means_that_differ_by_rounding_alone_are_equal() -> None:
    # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1, and so a seed's place would decide which of the two is on top.
    scores = pd.DataFrame([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.0, 0.01, 0.0], [0.05, 0.0, nan]], index=list("abcd"))
    assert scores.mean(axis=1)["a"] != scores.mean(axis=1)["b"]
    turned = scores[[2, 1, 0]].rename(columns={2: 0, 0: 2})
    assert standings(scores, [list("abcd")]) == standings(turned, [list("abcd")])
    assert {standings(scores, [list("abcd")])[name] for name in "ab"} == {"tie"}


def test_many_rows_that_all_tie_take_as_many_tests_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(i) for i in range(400)]
    scores = pd.DataFrame([[8.0, 9.0, 7.0]] * 400, index=names)
    tested = 0

    def counted(design: SeedDesign | None, differences: np.ndarray) -> Judgement:
        nonlocal tested
        tested += 1
        return judge(design, differences)

    monkeypatch.setattr("tadaconv.reporting.ablation.summary.judge", counted)
    assert set(standings(scores, [names]).values()) == {"tie"}
    assert tested == len(names) - 1


def test_the_spread_between_seeds(export_of) -> None:
    row = lines(export_of({"a": [50.0, 52.0, 57.0], "b": [50.0, None, None], "c": [5.0, 5.0, 5.0], "base": [60.0] * 3}))
    assert row["a"]["top1_sd"] == pytest.approx(stats.tstd([50, 52, 57]))
    assert isnan(row["b"]["top1_sd"])
    assert row["c"]["top1_sd"] == 0


# Everything that can be missing, at once

KINDS: dict[str, list[float | None]] = {
    "failed": [None, None, None],
    "missing a seed": [50.0, 51.5, None],
    "one seed": [55.0, None, None],
    "all equal": [60.0, 60.0, 60.0],
    "not a number": [nan, 61.0, 62.5],
    "same difference": [67.0, 68.0, 69.5],
    "base": [70.0, 71.0, 72.5],
}


@pytest.fixture
def kinds(made_up) -> tuple[LoadedTable, list[CellRecord]]:
    claims = [Claim(f"{name} is better", name, "base", "made up") for name in KINDS if name != "base"]
    loaded, records = made_up(KINDS, claims=claims)
    broken = ("missing a seed", 2)
    return loaded, [r for r in records if (r.cell.label, r.cell.experiment.seed) != broken]


def test_every_kind_of_gap_is_counted_and_none_is_averaged(kinds) -> None:
    row = lines(collect(kinds[0], "quick", kinds[1]))
    assert {name: (line["status"], line["n"], line["num_failed"]) for name, line in row.items()} == {
        "failed": ("failed", 0, 3),
        "missing a seed": ("partial", 2, 0),
        "one seed": ("partial", 1, 2),
        "all equal": ("finished", 3, 0),
        "not a number": ("partial", 2, 1),
        "same difference": ("finished", 3, 0),
        "base": ("finished", 3, 0),
    }
    for name, line in row.items():
        known = [v for v in KINDS[name] if v is not None and not isnan(v)]
        assert line["top1_mean"] == pytest.approx(fmean(known) if known else nan, nan_ok=True)
        pairs = [v - b for v, b in zip(KINDS[name], KINDS["base"], strict=True) if v is not None and not isnan(v)]
        expected = fmean(pairs) if pairs and name != "base" else nan
        assert line["delta_mean"] == pytest.approx(expected, nan_ok=True)
    assert [name for name, line in row.items() if not isnan(line["delta_low"])] == ["missing a seed", "all equal"]
    standing = {name: line["standing"] for name, line in row.items() if line["standing"]}
    assert standing == {"base": "tie", "missing a seed": "below", "all equal": "below"}


def test_claims_say_what_they_can_and_no_more(kinds) -> None:
    export = collect(kinds[0], "quick", kinds[1])
    found = {line["better"]: line for line in verdicts(export).to_dict("records")}
    said = {name: (line["verdict"], claim_sentence(line)) for name, line in found.items()}
    assert said["failed"] == ("undecided", "No seed has a result of both \u201cfailed\u201d and \u201cbase\u201d.")
    assert said["one seed"][0] == said["same difference"][0] == said["not a number"][0] == "undecided"
    assert "one seed, so no interval" in said["one seed"][1]
    assert "3.0 points below \u201cbase\u201d (the same in all 3 seeds, so no interval)." in said["same difference"][1]
    assert "10.0 points below" in said["not a number"][1]
    assert said["all equal"][0] == said["missing a seed"][0] == "contradicted"
    for name in ("failed", "one seed", "same difference", "not a number"):
        assert "% interval" not in said[name][1]
        assert "Sign-flip" not in said[name][1]
        assert "nan" not in said[name][1].replace(name, "")
    assert said["all equal"][1].endswith("3 paired seeds). Sign-flip p = 0.25; 3 seeds cannot give less than 0.25.")


def test_the_page_the_paper_and_the_terminal_show_every_gap(kinds) -> None:
    loaded, records = kinds
    export = collect(loaded, "quick", records)
    html, summary = blocks.results(export).html, summarise(export)
    assert len(re.findall(r">\d of 3<", html)) == 4
    assert "nan</td>" not in html.lower()
    assert "Of 21 planned cells: 6 failed, 1 without a result." in html
    assert "All seeds gave the same accuracy for all equal, so there is no interval" in html
    assert "The difference is the same in every seed for not a number; same difference, so it has no interval." in html
    tex = latex_table(summary, "base", "t")
    for name, n in (("failed (failed)", 0), ("missing a seed", 2), ("one seed", 1), ("not a number", 2)):
        assert f"\n{name} & {n} of 3 & " in tex
    assert "nan" not in tex


def test_claims_open_with_what_became_of_them(export_of) -> None:
    def opening(*verdicts: str) -> str:
        return claims_summary(list(verdicts))

    assert opening("supported", "supported", "supported", "undecided") == ("4 claims: 3 supported, 1 undecided.")
    assert opening("supported", "contradicted", "undecided", "undecided") == (
        "4 claims: 1 supported, 1 contradicted, 2 undecided."
    )
    assert opening("contradicted", "contradicted") == "2 claims: 2 contradicted."
    assert opening("undecided") == "1 claim: 1 undecided."
    claim = Claim("it helps", "a", "base", "s")
    block = blocks.claims(export_of({"a": [70.0, 71.0, 72.1], "base": [60.0, 61.2, 62.0]}, claims=[claim]))
    assert block is not None
    assert block.html.index("1 claim: 1 supported.") < block.html.index("<ul")
    assert blocks.claims(export_of({"a": [1.0], "base": [2.0]})) is None


def test_equal_differences_of_six_seeds_have_a_sign_flip_test(export_of) -> None:
    up = [float(v) for v in range(60, 66)]
    claim = Claim("it helps", "a", "base", "s")
    line = verdicts(export_of({"a": [v + 2 for v in up], "base": up}, claims=[claim])).iloc[0]
    assert claim_sentence(line.to_dict()).endswith("Sign-flip p = 0.031; 0.031 after Holm.")
    line = verdicts(export_of({"a": up, "base": up}, claims=[claim])).iloc[0]
    assert claim_sentence(line.to_dict()).endswith("(the same in all 6 seeds, so no interval).")


def test_a_p_value_does_not_look_smaller_than_the_least(export_of) -> None:
    claim = Claim("it helps", "a", "base", "s")
    scores = {"a": [70.0, 71.1, 72.0, 70.4, 71.9], "base": [60.0, 60.0, 61.0, 60.1, 61.2]}
    line = verdicts(export_of(scores, claims=[claim])).iloc[0]
    assert claim_sentence(line.to_dict()).endswith("Sign-flip p = 0.0625; 5 seeds cannot give less than 0.0625.")


# What is said below the table


def test_the_table_says_what_its_seeds_can_show(export_of) -> None:
    export = export_of({"a": [50.0, 51.0, 53.0], "b": [60.0, 64.0, 61.0], "base": [60.0, 61.5, 62.0]})
    summary = summarise(export)
    effects = sorted(st.detectable_effect(sd, 3) for sd in summary["delta_sd"].dropna())
    seeds = sorted(st.seeds_needed(1.0, sd) for sd in summary["delta_sd"].dropna())
    (note,) = [note for note in power_notes(export, summary) if "detectable" in note]
    assert f"at 80 % power is {effects[0]:.1f} to {effects[1]:.1f} points by row" in note
    assert f"detecting 1 point takes {seeds[0]} to {seeds[1]} seeds" in note
    # Of two degrees of freedom, the upper bound of a spread is twice the spread.
    upper = [st.upper_sd(sd, 3) for sd in summary["delta_sd"].dropna()]
    assert min(upper) > 2 * summary["delta_sd"].min()
    safe = sorted(st.detectable_effect(sd, 3) for sd in upper)
    many = sorted(st.seeds_needed(1.0, sd) for sd in upper)
    assert note.endswith(f"it is {safe[0]:.1f} to {safe[1]:.1f} points, and {many[0]} to {many[1]} seeds.")
    nothing = export_of({"a": [50.0], "base": [60.0]})
    assert not any("detectable" in note for note in power_notes(nothing, summarise(nothing)))


def test_a_difference_over_fewer_seeds_than_its_means_says_so(made_up) -> None:
    # The means differ by 4.25; over the two seeds that both have, a lies 1.25 above the base, and c has the base's.
    scores = {"a": [70.0, 72.0, 80.0], "b": [None, 61.0, None], "c": [60.0, 61.0, None], "base": [69.0, 70.5, None]}
    loaded, records = made_up(scores)
    export = collect(loaded, "quick", records)
    summary = summarise(export)
    row = summary.set_index("row")
    assert row["other_seeds"].to_dict() == {"a": True, "b": True, "c": False, "base": False}
    assert row["num_pairs"].to_dict() == {"a": 2, "b": 1, "c": 2, "base": 0}
    assert row["delta_mean"]["a"] == pytest.approx(1.25)
    html, tex = blocks.results(export).html, latex_table(summary, "base", "t")
    assert re.findall(r">(\d pairs?)<", html) == ["2 pairs", "1 pair"]
    assert re.findall(r"\((\d pairs?)\)", tex) == ["2 pairs", "1 pair"]
    assert "% The number of pairs is given if rows differ in their seeds" in tex
    assert "and is not that of the two means" in html
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_table(loaded, "quick", records))
    assert re.findall(r"\d pairs?\b", console.export_text()) == ["2 pairs", "1 pair"]
    assert "num_pairs" in table_columns(summary, "base")


def test_the_same_seeds_in_every_row_count_no_pairs(export_of) -> None:
    export = export_of({"a": [70.0, None, 80.0], "base": [69.0, None, 70.0]})
    summary = summarise(export)
    assert not summary["other_seeds"].any()
    assert "pairs<" not in blocks.results(export).html
    assert "pair)" not in latex_table(summary, "base", "t")


def test_a_cell_that_runs_may_have_lost_its_worker(made_up) -> None:
    loaded, records = made_up({"a": [50.0, None], "base": [60.0, 61.0]})
    said = "A running cell may have lost its worker"
    for status, expected in (("failed", False), ("running", True)):
        found = [replace(r, status=status) if r.result is None else r for r in records]
        export = collect(loaded, "quick", found)
        assert any(said in note for note in table_notes(export, summarise(export))) == expected


def test_rows_that_were_not_tested_are_named(made_up) -> None:
    # The base lies below by the same in every seed, b has one seed: neither has a test.
    scores = {"a": [70.0, 71.0, 72.0], "b": [69.0, None, None], "c": [50.0, 51.5, 52.0], "base": [69.0, 70.0, 71.0]}
    loaded, records = made_up(scores)
    export = collect(loaded, "quick", records)
    summary = summarise(export)
    assert untested(summary) == ["b", "base"]
    html, tex = blocks.results(export).html, latex_table(summary, "base", "t")
    assert "Not tested, so neither marked nor ruled out: b; base. The test needs two seeds" in html
    assert "Underlined: the highest of the rows, and those not significantly below it" in html
    assert "% Not tested, so neither marked nor ruled out: b; base." in tex
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_table(loaded, "quick", records))
    assert "Not tested, so neither marked nor ruled out: b; base." in console.export_text()
    loaded, records = made_up({"a": [1.0], "base": [2.0]})
    assert untested(summarise(collect(loaded, "quick", records))) == []  # without any test there are no marks


def test_the_reason_is_given_why_a_row_was_not_tested(make_result) -> None:
    """A row alone on its backbone, an ensemble, and one of a single seed."""
    regime = Regime(
        summary="", backbone=Backbone(name="tiny"), data=Synthetic(num_train=8, num_val=8),
        schedule=Schedule(epochs=1, batch_size=2, lr=0.1),
    )  # fmt: skip
    rows = [Row("a", TAda()), Row("b", TAda(calibration="cin")), Row("alone", None, backbone="resnet_tiny")]
    table = Table(base=Row("base", None), rows=[*rows, Row("both", None, ensemble=("a", "b"))])
    scores = {"a": [70.0, 71.5, 72.0], "b": [69.0], "alone": [80.0, 81.0, 81.5], "base": [60.0, 61.0, 62.5]}
    records = [
        CellRecord(table.row(name).cell(regime, seed), "finished", make_result(score))
        for name, values in scores.items()
        for seed, score in enumerate(values)
    ]
    ensembles = [EnsembleOrigin(row="both", seed=0, cells={"a": "k", "b": "l"}, top1=73.0)]
    loaded = LoadedTable("t", "?", table)
    summary = summarise(collect(loaded, "quick", records, ensembles=ensembles))
    assert summary.set_index("row")["num_ranked"].to_dict() == {"a": 3, "b": 3, "alone": 1, "both": 0, "base": 3}
    notes = [note for note in legend(summary, TOP1) if note.startswith("Not tested")]
    start = "Not tested, so neither marked nor ruled out:"
    assert notes[0].startswith(f"{start} b. The test needs two seeds shared with the highest")
    assert notes[1:] == [
        f"{start} alone. There is no result of other rows of the same backbone.",
        f"{start} both. Only rows that train are ranked.",
    ]


def test_rounding_is_written_as_no_difference(made_up) -> None:
    loaded, records = made_up(
        {"a": [60.1, 60.2, 59.7], "b": [60.1, 60.2, 59.8], "base": [60.0] * 3}, claims=[Claim("c", "a", "base", "s")]
    )
    export = collect(loaded, "quick", records)
    assert 0 < abs(verdicts(export).loc[0, "effect"]) < 1e-9
    files = {name: pd.read_csv(io.StringIO(text)) for name, text in summary_files(export).items()}
    assert files["claims.csv"].loc[0, "effect"] == 0
    written = files["table.csv"].set_index("row")["delta_mean"]
    assert written["a"] == 0
    assert written["b"] == pytest.approx(0.1 / 3, abs=1e-6)


def test_p_that_cannot_be_small_says_so_and_decides_nothing(export_of) -> None:
    draw = np.random.default_rng(0)
    base = 60 + draw.normal(size=7)
    scores = {"up": (base + 3 + 0.3 * draw.normal(size=7)).tolist(), "level": (base + draw.normal(size=7)).tolist()}
    export = export_of({**scores, "third": (base - draw.normal(size=7)).tolist(), "base": base.tolist()})
    notes = " ".join(power_notes(export, summarise(export)))
    assert "Unlike the t test, which decides claims and marks" in notes
    assert "With 7 pairs" not in notes  # three tests: p can come down to 3 / 64
    many = export_of({**{f"row {i}": scores["level"] for i in range(9)}, "base": base.tolist()})
    assert (
        "With 7 pairs and 9 rows, sign-flip p after Holm cannot come below 0.14; it takes 9 seeds to reach 0.05."
        in " ".join(power_notes(many, summarise(many)))
    )


def test_a_row_alone_is_compared_with_nothing(made_up) -> None:
    for scores in ([69.0, 70.5, 68.8], [69.0]):
        loaded, records = made_up({"base": scores})
        export = collect(loaded, "quick", records)
        html, summary = blocks.results(export).html, summarise(export)
        for word in ("\u0394", "No row shares", "paired by seed"):
            assert word not in html
        assert "Delta" not in latex_table(summary, "base", "t")
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(terminal_table(loaded, "quick", records))
        assert "\u0394" not in console.export_text()


def test_differences_that_do_not_exist_are_not_explained(export_of) -> None:
    export = export_of({"a": [70.0, 71.0, 72.5], "base": [None, None, None]})
    notes = table_notes(export, summarise(export))
    assert any("No row shares a finished seed with the row it is compared with" in note for note in notes)
    assert not any("paired by seed" in note for note in notes)


def test_claims_speak_of_adjustment_where_there_is_any(export_of) -> None:
    claim = [Claim("it helps", "a", "base", "s"), Claim("b helps", "b", "base", "s")]
    three = {"a": [70.0, 71.0, 72.1], "b": [69.9, 71.2, 72.0], "base": [60.0, 61.2, 62.0]}
    two = {name: three[name] for name in ("a", "base")}
    assert "so are stricter" in blocks.claims(export_of(three, claims=claim)).html
    assert "stricter" not in blocks.claims(export_of(two, claims=claim[:1])).html
    one_seed = {name: values[:1] for name, values in three.items()}
    html = blocks.claims(export_of(one_seed, claims=claim)).html
    assert "not adjusted" in html
    assert "stricter" not in html
    assert "paper" not in html  # a claim says itself where it comes from


def test_seeds_beyond_reason_are_not_counted(export_of) -> None:
    export = export_of({"a": [0.0, 90.0, 40.0], "base": [60.0, 10.0, 12.0]})
    (note,) = [note for note in power_notes(export, summarise(export)) if "detectable" in note]
    assert "detecting 1 point takes more than 1000 seeds" in note
    assert "power is more than 100 points;" in note  # accuracies cannot differ by 231
    assert note.endswith("it is more than 100 points, and more than 1000 seeds.")


def test_other_regimes_rank_the_rows(context) -> None:
    loaded, records = context
    export = collect(loaded, "quick", records)
    summary = summarise(export)
    rows = summary["row"].tolist()
    others = [
        Elsewhere(regime="<proxy>", score=dict(zip(rows[:8], [3.0, 1, 2, 4, 7, 6, 8, 5], strict=True)), num_seeds={}),
        Elsewhere(regime="tiny", score={rows[0]: 1.0, "gone": 2.0}, num_seeds={}),
        Elsewhere(regime="level", score=dict.fromkeys(rows, 50.0), num_seeds={}),
    ]
    export = replace(export, manifest=export.manifest.model_copy(update={"elsewhere": others}))
    first, second, third = elsewhere_notes(export)
    tau = stats.kendalltau(summary["top1_mean"][:8], [3, 1, 2, 4, 7, 6, 8, 5]).statistic
    interval = st.kendall_tau(summary["top1_mean"].tolist()[:8], [3.0, 1, 2, 4, 7, 6, 8, 5])
    assert interval.low < tau < interval.high
    assert first == (
        "Order of the rows in regime \u201c<proxy>\u201d: Kendall\u2019s tau "
        f"{tau:.2f} [{words.coefficient(interval.low)}, {interval.high:.2f}] over 8 rows."
    )
    assert second.endswith("\u201ctiny\u201d: not compared, which takes three rows with both numbers, and there are 1.")
    assert third.endswith("\u201clevel\u201d: not compared, as all rows are equal in one of the two.")
    assert "&lt;proxy&gt;" in blocks.results(export).html
    (note,) = tau_note(export)
    assert "takes the rows as a sample of design choices and includes noise between seeds" in note
    assert tau_note(collect(loaded, "quick", records)) == []


@pytest.mark.parametrize(
    ("value", "shown"), [(0.642, "0.64"), (-0.2, "\u22120.20"), (-0.001, "0.00"), (1.0, "1.00"), (nan, "\u2013")]
)
def test_coefficients(value: float, shown: str) -> None:
    assert words.coefficient(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0"), (-0.0, "0.0"), (-1e-15, "0.0"), (nan, "\u2013"), (2.0, "+2.0"), (-9.66, "\u22129.7"),
        (-0.04, "\u22120.04"), (0.04, "+0.04"), (0.0499, "+0.05"), (0.05, "+0.1"), (-0.0996, "\u22120.1"),
        (0.0996 / 10, "+0.01"), (-0.00031, "\u22120.0003"), (12.34, "+12.3"),
    ],
)  # fmt: skip
def test_points(value: float, shown: str) -> None:
    assert words.difference(value, TOP1) == shown


@given(hs.floats(-100, 100))
def test_points_tell_the_side_of_zero(value: float) -> None:
    shown = words.difference(value, TOP1).replace(words.MINUS, "-")
    assert np.sign(float(shown)) == (np.sign(value) if abs(value) > 1e-9 else 0)
    assert float(shown) == pytest.approx(value, abs=0.0501)
    assert shown[0] in "+-" or shown == "0.0"
    assert "e" not in shown


def test_the_end_of_an_interval_shows_on_which_side_of_zero_it_lies(made_up) -> None:
    # Interval ends of -0.04 and of +0.04: one claim is contradicted, the other undecided, and both ends round to zero.
    half = st.t_interval([-1.0, 0.0, 1.0]).high
    below, above = ([60 + d + shift for d in (-1.0, 0.0, 1.0)] for shift in (-half - 0.04, -half + 0.04))
    claims = [Claim("it helps", name, "base", "s") for name in ("below", "above")]
    loaded, records = made_up({"below": below, "above": above, "base": [60.0] * 3}, claims=claims)
    export = collect(loaded, "quick", records)
    found = verdicts(export).to_dict("records")
    assert [line["verdict"] for line in found] == ["contradicted", "undecided"]
    assert "to \u22120.04, 3 paired seeds" in claim_sentence(found[0])
    assert "to +0.04, 3 paired seeds" in claim_sentence(found[1])
    summary = summarise(export)
    tex = latex_table(summary, "base", "t")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_table(loaded, "quick", records))
    for text in (blocks.results(export).html, console.export_text(), tex.replace("$-$", words.MINUS)):
        assert re.search(r"\u22120\.04\]", text)
        assert re.search(r"\+0\.04\]", text)
        assert "-0.0]" not in text


def test_a_small_difference_that_was_found_is_not_called_level(export_of) -> None:
    claim = Claim("it helps", "a", "base", "s")
    small = verdicts(export_of({"a": [60.04, 61.03, 62.05], "base": [60.0, 61.0, 62.0]}, claims=[claim])).iloc[0]
    assert small["verdict"] == "supported"
    assert "is 0.04 points above" in claim_sentence(small.to_dict())
    open_ = verdicts(export_of({"a": [60.04, 60.0, 62.05], "base": [60.0, 60.01, 62.0]}, claims=[claim])).iloc[0]
    assert open_["verdict"] == "undecided"
    assert "is level with" in claim_sentence(open_.to_dict())


def test_p_is_among_the_tests_once_it_can_be_small(export_of) -> None:
    up = [float(v) for v in range(60, 66)]
    six = blocks.results(export_of({"a": [v + 5 + v % 2 for v in up], "base": up})).html
    assert "<td>0.031</td>" in six
    assert _HAS_P in six
    assert "p: sign-flip test" in six
    five = blocks.results(export_of({"a": [v + 5 + v % 2 for v in up[:5]], "base": up[:5]})).html
    assert _HAS_P not in five
    assert "p: sign-flip" not in five


# The methods that a page names


_HAS_P = '<th scope="col">p</th>'


def page_of(export: Export) -> str:
    """What a page says, its methods apart."""
    parts = [blocks.claims(export), blocks.results(export)]
    return re.sub(r"\s+", " ", " ".join(part.html for part in parts if part)).replace("&nbsp;", " ")


def several(made_up, kinds, context, hosts) -> dict[str, Export]:
    """Exports of all kinds, with few seeds and many, with and without claims and orders to compare."""
    up = [float(v) for v in range(60, 76)]
    claim = Claim("it helps", "a", "base", "s")
    made = {
        "gaps": kinds, "three seeds": context, "hosts": hosts,
        "one seed": made_up({"a": [50.0], "base": [60.0]}),
        "no claims": made_up({"a": [50.0, 52.0, 51.0], "base": [60.0, 61.5, 62.0]}),
        "nothing": made_up({"a": [None], "base": [None]}, claims=[claim]),
        "equal": made_up({"a": [50.0] * 3, "base": [50.0] * 3}, claims=[claim]),
        "six seeds": made_up({"a": [v + 5 + v % 2 for v in up[:6]], "base": up[:6]}),
        "six equal differences": made_up({"a": [v + 2 for v in up[:6]], "base": up[:6]}, claims=[claim]),
        "many seeds": made_up({"a": [v + 5 + v % 2 for v in up], "base": up}, claims=[claim]),
    }  # fmt: skip
    exports = {name: collect(loaded, "quick", records) for name, (loaded, records) in made.items()}
    rows = exports["three seeds"].manifest.rows
    for name, number in (("four rows elsewhere", 4), ("all rows elsewhere", len(rows))):
        other = Elsewhere(
            regime="tiny", score={row.name: float(i) for i, row in enumerate(rows[:number])}, num_seeds={}
        )
        manifest = exports["three seeds"].manifest.model_copy(update={"elsewhere": [other]})
        exports[name] = replace(exports["three seeds"], manifest=manifest)
    return exports


def test_methods_are_those_that_the_page_uses(made_up, kinds, context, hosts) -> None:
    named = {}
    for name, export in several(made_up, kinds, context, hosts).items():
        page, block = page_of(export), blocks.methods(export)
        text = "" if block is None else block.html
        paired = re.search(r"interval \S+ to \S+, \d+ paired seeds", page) is not None
        summary = summarise(export)
        has_seeds = bool((summary["n"] > 1).any())
        expected = {
            "Biometrika 6": has_seeds,
            "Wilson": "binomial" in page,
            "every assignment of signs": "Sign-flip p" in page or _HAS_P in page,
            "Phipson": (int(summary["num_pairs"].max()) > 14),
            "adjusted over the rows": _HAS_P in page or re.search(r"\d after Holm\.", page) is not None,
            "Hsu": "Bold:" in page or "Underlined:" in page,
            "non-central": "minimum detectable difference" in page,
            "tau-b": "tau 0." in page or "tau 1." in page or "tau \u2212" in page,
            "Clopper": re.search(r"tau \S+ \[", page) is not None,
            "multiply-adds of convolutions": bool(summary["macs"].notna().any()),
            "A claim is supported": bool(export.manifest.claims) and block is not None,
        }
        assert {what: what in text for what in expected} == expected, name
        assert has_seeds or not paired
        assert text.count("Scandinavian") <= 1
        assert ("Scandinavian" in text) == ("Holm" in text)
        named[name] = {what for what, there in expected.items() if there}
    assert named["nothing"] == set()
    assert named["one seed"] == {"Wilson", "multiply-adds of convolutions"}
    assert "every assignment of signs" in named["three seeds"]
    assert "every assignment of signs" not in named["no claims"]
    assert "Clopper" not in named["four rows elsewhere"]
    assert len(set.union(*named.values())) == 11


# What is said of cells that failed


def test_what_becomes_of_failed_cells_is_said(made_up) -> None:
    def said(scores) -> str:
        loaded, records = made_up(scores)
        block = blocks.failures(collect(loaded, "quick", records))
        return "" if block is None else re.sub(r"\s+", " ", block.html)

    again, kept = "retries failed cells", "so the cell is not run again"
    assert said({"a": [50.0], "base": [60.0]}) == ""
    assert again in said({"a": [None], "base": [60.0]})
    assert kept not in said({"a": [None], "base": [60.0]})
    assert kept in said({"a": [nan], "base": [60.0]})
    assert again not in said({"a": [nan], "base": [60.0]})
    both = said({"a": [nan, None], "base": [60.0, 61.0]})
    assert again in both
    assert kept in both


def test_a_cell_whose_accuracy_is_no_number_is_not_run_again_and_one_that_failed_is(
    made_up, make_result, tmp_path: Path
) -> None:
    # What the page says of them, asked of the storage.
    cells = [record.cell for record in made_up({"a": [nan], "base": [None]})[1]]
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "made_up", cells, [0])
    for trial_id, _, _ in store.backend.waiting([store.make_study("made_up")], None, limit=9):
        attempt = store.claim(trial_id)
        assert attempt is not None
        if attempt.attrs["label"] == "a":
            assert store.finish(attempt, make_result(nan))
        else:
            assert not store.fail(attempt, "a wrong description", "", "cpu", 0, retry=False)
    again = plan(store, "made_up", cells, [0])
    assert [cell.label for cell in again.to_run] == ["base"]
