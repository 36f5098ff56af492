"""Reports of tables with a seed design: intervals and verdicts are the design's, and seeds are planned by row."""

from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from tadaconv import statistics as st
from tadaconv.execution import attrs
from tadaconv.execution.store import Store
from tadaconv.metrics import METRICS, TOP1, Metric
from tadaconv.reporting.ablation import StorageContext, report
from tadaconv.reporting.ablation import page as blocks
from tadaconv.reporting.ablation.data import EnsembleOrigin, Export, collect, read_export
from tadaconv.reporting.ablation.summary import base_verdicts, scores_by_seed, standings, summarise, verdicts
from tadaconv.reporting.ablation.text import claim_sentence, claims_summary, rates_sentence, what_was_run
from tadaconv.sequential import SeedDesign
from tadaconv.table import Claim, LoadedTable, Row, Table
from tadaconv.table_run import stored_design

ADAPTIVE = SeedDesign(first=3, last=6, smallest=1.0)
FIXED = SeedDesign(first=3, last=3, smallest=1.0)
CLAIMS = [Claim("a helps", "a", "base", "s"), Claim("b helps", "b", "base", "s"), Claim("a beats b", "a", "b", "s")]


def export_of(make_up, scores, design: SeedDesign | None, claims=CLAIMS) -> Export:
    loaded, records = make_up(scores, claims=claims)
    return collect(loaded, "quick", records, design=design)


SCORE = hs.integers(200, 312).map(lambda hits: hits / 5.12)


@settings(deadline=None, max_examples=25)
@given(data=hs.data(), first=hs.integers(2, 4), more=hs.integers(0, 3))
def test_intervals_verdicts_and_p_are_those_of_the_design(make_up, data: hs.DataObject, first: int, more: int) -> None:
    design = SeedDesign(first=first, last=first + more, smallest=4.0)
    num_seeds = hs.integers(1, design.last)
    scores = {
        name: data.draw(num_seeds.flatmap(lambda n: hs.lists(SCORE | hs.none(), min_size=n, max_size=n)))
        for name in ("a", "b", "base")
    }
    export = export_of(make_up, scores, design)
    found = scores_by_seed(export)
    for lines, better, worse in (
        (verdicts(export), "supported", "contradicted"),
        (base_verdicts(export), "better", "worse"),
    ):
        p_values = []
        for line in lines.to_dict("records"):
            differences = (found.loc[line["better"]] - found.loc[line["worse"]]).dropna().to_numpy()
            judged = design.judge(differences)
            assert np.array_equal(
                [line["effect"], line["low"], line["high"], line["n"]], judged.interval, equal_nan=True
            )
            words = {"above": better, "below": worse}
            assert line["verdict"] == words.get(judged.direction, judged.direction)
            assert (None if line["num_needed"] is pd.NA else line["num_needed"]) == judged.num_needed
            p = judged.p if design.is_adaptive else st.sign_flip_p(differences)
            assert line["p"] == pytest.approx(p, nan_ok=True)
            p_values.append(judged.p)
        assert np.array_equal(lines["p_holm"], st.holm(lines["p"]), equal_nan=True)
        is_significant = (st.holm(p_values) <= 0.05) & lines["verdict"].isin([better, worse])
        assert lines["table_wide"].tolist() == is_significant.tolist()
    rows = summarise(export).set_index("row")
    for line in base_verdicts(export).to_dict("records"):
        row = rows.loc[line["better"]]
        ours = [row[name] for name in ("delta_mean", "delta_low", "delta_high", "num_pairs", "p", "p_holm")]
        theirs = [line[name] for name in ("effect", "low", "high", "n", "p", "p_holm")]
        assert np.array_equal(ours, theirs, equal_nan=True)
        assert row["verdict"] == line["verdict"]


@pytest.mark.parametrize("design", [FIXED, SeedDesign(first=2, last=4, smallest=1.0), None])
def test_equivalence_is_a_verdict_where_a_design_is_stored(make_up, design: SeedDesign | None) -> None:
    scores = {"a": [60.1, 60.9, 62.0], "b": [70.0, 71.1, 72.3], "base": [60.0, 61.0, 62.05]}
    export = export_of(make_up, scores, design)
    expected = "undecided" if design is None else "equivalent"
    line = verdicts(export).iloc[0]
    assert (line["verdict"], line["num_needed"] is pd.NA) == (expected, design is None)
    assert summarise(export).set_index("row")["verdict"].to_dict() == {"a": expected, "b": "better", "base": ""}
    said = claim_sentence(line.to_dict(), TOP1, design)
    assert ("A difference of 1 point or more is ruled out either way." in said) == (design is not None)
    block = blocks.claims(export)
    assert block is not None
    assert ("Equivalent within 1 point" in block.html) == (design is not None)
    methods = blocks.methods(export)
    assert methods is not None
    assert ("Schuirmann" in methods.html) == (design is not None)


@pytest.mark.parametrize("smallest", [0.5, 2.0])
def test_the_smallest_difference_is_named_as_it_is_stored(make_up, smallest: float) -> None:
    scores = {"a": [60.12, 60.0, 60.2], "b": [60.0, 59.95, 60.0], "base": [60.0, 59.9, 60.06]}
    export = export_of(make_up, scores, SeedDesign(first=3, last=3, smallest=smallest))
    assert "equivalent" in verdicts(export)["verdict"].tolist()
    block = blocks.claims(export)
    assert block is not None
    assert f"Equivalent within {smallest:g} points" in block.html


ERROR = replace(
    TOP1, name="px", label="error", noun="error", nouns="errors", unit="px", unit_of_differences="px",
    higher_is_better=False, high=None, adjective="", of_classes=False, difference_in_words="1 px",
)  # fmt: skip


@pytest.mark.parametrize("metric", [TOP1, ERROR])
def test_verdicts_follow_the_direction_of_the_metric(made_up, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "px", ERROR)
    loaded, records = made_up(
        {"a": [70.0, 71.0, 72.5], "b": [50.0, 51.0, 52.4], "base": [60.0, 61.0, 62.0]}, claims=CLAIMS
    )
    records = [
        replace(r, result=r.result.model_copy(update={"metric": metric.name})) for r in records if r.result is not None
    ]
    export = collect(loaded, "quick", records, design=FIXED)
    # Signs of the differences: above, below, above.
    signs = np.sign(verdicts(export)["effect"]).tolist()
    assert signs == [1, -1, 1]
    words = {metric.sign: ("supported", "better"), -metric.sign: ("contradicted", "worse")}
    assert verdicts(export)["verdict"].tolist() == [words[sign][0] for sign in signs]
    assert base_verdicts(export)["verdict"].tolist() == [words[sign][1] for sign in signs[:2]]


def test_only_verdicts_of_a_difference_hold_for_all_claims_together(make_up) -> None:
    # Equivalent at the first look, and later a difference that is significant, but too small to matter.
    more = [60.3, 61.35, 62.25, 60.8, 61.75, 62.3]
    scores = {"a": more, "b": [60.0] * 6, "base": [60.0, 61.0, 62.0, 60.5, 61.5, 62.0]}
    claims = [Claim("a helps", "a", "base", "s")]
    design = SeedDesign(first=2, last=6, smallest=5.0)
    line = verdicts(export_of(make_up, scores, design, claims)).iloc[0]
    assert line["verdict"] == "equivalent"
    assert line["p_holm"] < 0.05
    assert not line["table_wide"]
    up = {**scores, "a": [value + 10 for value in more]}
    for of_table, is_wide in ((None, False), (FIXED, True)):
        line = verdicts(export_of(make_up, up, of_table, claims)).iloc[0]
        assert (line["verdict"], line["table_wide"]) == ("supported", is_wide)


# How many seeds a row is to have


def test_rows_of_fewer_seeds_by_design_are_finished(make_up) -> None:
    scores = {
        "a": [70.0, 71.1, 72.0],
        "b": [60.5, 60.0, 63.0, None, 62.0, 61.0],
        "base": [60.0, 61.0, 62.0, 60.5, 61.5, 62.0],
    }
    adaptive = summarise(export_of(make_up, scores, ADAPTIVE)).set_index("row")
    assert adaptive["status"].to_dict() == {"a": "finished", "b": "partial", "base": "finished"}
    assert adaptive["num_planned"].to_dict() == {"a": 3, "b": 6, "base": 6}
    assert not adaptive.loc["a", "other_seeds"], "its difference is that of all its seeds"
    export = export_of(make_up, scores, ADAPTIVE)
    assert what_was_run(export) == "3 rows, 3 to 6 seeds: 14 of 15 cells finished, 1 failed."
    for design in (None, FIXED):
        fixed = summarise(export_of(make_up, scores, design)).set_index("row")
        assert fixed["status"].to_dict() == {"a": "partial", "b": "partial", "base": "finished"}


def test_a_row_that_was_not_run_lacks_its_first_seeds(make_up) -> None:
    loaded, records = make_up({"a": [70.0, 71.1, 72.0], "b": [60.0], "base": [60.0, 61.0, 62.0, 61.0]})
    records = [record for record in records if record.cell.label != "b"]
    export = collect(loaded, "quick", records, design=ADAPTIVE)
    row = summarise(export).set_index("row").loc["b"]
    assert (row["status"], row["num_planned"], row["state"]) == ("missing", 3, "not run")
    assert what_was_run(export) == "3 rows, 3 to 4 seeds: 7 of 10 cells finished, 3 not run."


def test_seeds_may_start_elsewhere(make_up, make_record) -> None:
    loaded, _ = make_up({"a": [], "base": []})
    records = [
        make_record(loaded.table.row(name), seed, 60.0 + seed + (name == "a") * 0.3 * seed)
        for name, seeds in (("a", (5, 6)), ("base", (5, 6, 7, 8)))
        for seed in seeds
    ]
    export = collect(loaded, "quick", records, design=ADAPTIVE)
    assert summarise(export).set_index("row")["num_planned"].to_dict() == {"a": 3, "base": 4}
    assert what_was_run(export) == "2 rows, 3 to 4 seeds: 6 of 7 cells finished, 1 not run."


def test_an_ensemble_is_to_have_the_seeds_of_all_its_parts(make_up) -> None:
    loaded, records = make_up({"a": [70.0, 71.1, 72.0], "b": [60.0, 61.0, 62.0, 63.0], "base": [60.0] * 4})
    table = Table(base=loaded.table.base, rows=[*loaded.table.rows[:2], Row("both", None, ensemble=("a", "b"))])
    ensembles = [
        EnsembleOrigin(row="both", seed=seed, cells={"a": "k", "b": "l"}, top1=73.0 + 0.1 * seed) for seed in range(3)
    ]
    without = EnsembleOrigin(row="both", seed=3, cells={"b": "l"}, why="\u201ca\u201d has no result")
    with_both = replace(loaded, table=table)
    further = EnsembleOrigin(row="both", seed=3, cells={"a": "k", "b": "l"}, top1=73.3)
    export = collect(with_both, "quick", records, ensembles=[*ensembles, further], design=ADAPTIVE)
    row = summarise(export).set_index("row").loc["both"]
    assert (row["n"], row["num_planned"], row["status"]) == (4, 4, "finished")
    for design, num_planned in ((ADAPTIVE, 3), (None, 4)):
        export = collect(with_both, "quick", records, ensembles=[*ensembles, without], design=design)
        row = summarise(export).set_index("row").loc["both"]
        assert (row["n"], row["num_planned"]) == (3, num_planned)
        assert ("has no value with seed 3" in blocks.results(export).html) == (design is None)


# Marks


@settings(deadline=None, max_examples=25)
@given(hs.lists(hs.lists(SCORE, min_size=5, max_size=5), min_size=2, max_size=4))
def test_marks_of_an_adaptive_design_rest_on_its_p_values(scores: list[list[float]]) -> None:
    names = [str(i) for i in range(len(scores))]
    df = pd.DataFrame(scores, index=names)
    marks, means = standings(df, [names], ADAPTIVE), df.mean(axis=1)
    tops = [name for name in names if means.max() - means[name] <= 1e-9]
    if len(tops) > 1:
        return
    (top,) = tops
    others = [name for name in names if name != top]
    p_values = [ADAPTIVE.judge((df.loc[top] - df.loc[name]).to_numpy()).p for name in others]
    below = {name for name, p in zip(others, st.holm(p_values), strict=True) if p <= 0.05}
    assert {name for name in names if marks[name] == "below"} == below
    assert marks[top] == ("best" if below == set(others) else "tie")


def test_marks_are_stricter_where_there_are_looks() -> None:
    # Student's t of three differences is 6.9: beyond that of a fixed design, 4.3, within that of the first look.
    scores = pd.DataFrame([[63.0, 65.0, 67.0], [60.0, 61.0, 62.0]], index=["a", "b"])
    assert standings(scores, [["a", "b"]], FIXED) == {"a": "best", "b": "below"}
    assert standings(scores, [["a", "b"]], SeedDesign(first=3, last=12, smallest=1.0)) == {"a": "tie", "b": "tie"}


# What is said


def test_an_adaptive_verdict_says_after_how_many_seeds(make_up) -> None:
    scores = {
        "a": [70.0, 71.1, 72.0, 70.4, 71.9, 72.0], "b": [60.5, 60.0, 63.0, 60.0, 62.0, 61.0],
        "base": [60.0, 61.0, 62.0, 60.5, 61.5, 62.0],
    }  # fmt: skip
    export = export_of(make_up, scores, ADAPTIVE)
    first, second, _ = verdicts(export).to_dict("records")
    said = claim_sentence(first, TOP1, ADAPTIVE)
    assert re_needed(first) == f"Decided after {first['num_needed']} seeds."
    assert re_needed(first) in said
    assert "repeated 95 % interval +" in said
    assert "Repeated p " in said
    assert "Sign-flip" not in said
    said = claim_sentence(second, TOP1, ADAPTIVE)
    assert "Undecided after 6 of at most 6 seeds." in said
    assert "The minimum detectable difference of a fixed design of as many seeds" in said
    html = (blocks.methods(export) or blocks.results(export)).html
    for reference in ("Jennison and Turnbull", "Lan and DeMets", "Kim and DeMets", "Schuirmann", "Holm"):
        assert reference in html
    assert "every assignment of signs" not in html
    assert "repeated paired t test" in blocks.results(export).html


def re_needed(line: dict[object, object]) -> str:
    return f"Decided after {line['num_needed']} seeds."


def test_no_look_was_taken_yet(make_up) -> None:
    export = export_of(make_up, {"a": [70.0, 71.1], "b": [60.5], "base": [60.0, 61.0, 62.0]}, ADAPTIVE)
    first, second, _ = verdicts(export).to_dict("records")
    assert isnan(first["low"])
    assert "(2 paired seeds, so no interval yet)" in claim_sentence(first, TOP1, ADAPTIVE)
    assert "Undecided after 2 of at most 6 seeds." in claim_sentence(first, TOP1, ADAPTIVE)
    assert "one seed, so no interval" in claim_sentence(second, TOP1, ADAPTIVE)


def test_rates_are_said_for_a_claim_and_for_all() -> None:
    def line(verdict: str, table_wide: bool = False) -> dict[str, object]:
        return {"verdict": verdict, "table_wide": table_wide}

    lines = [line("supported", True), line("contradicted"), line("equivalent"), line("undecided")]
    assert rates_sentence(lines, None).startswith("A claim is decided by the 95 % interval")
    fixed = rates_sentence(lines, FIXED)
    assert fixed == (
        "The verdict on a claim is false with a probability of at most 5 %. 1 of the 2 claims supported or "
        "contradicted holds at 5 % for all 4 claims together as well (Holm)."
    )
    assert "at most 5 %, all looks at further seeds together." in rates_sentence(lines, ADAPTIVE)
    assert "Holm" not in rates_sentence([line("undecided"), line("equivalent")], FIXED)
    assert claims_summary([str(one["verdict"]) for one in lines]) == (
        "4 claims: 1 supported, 1 equivalent, 1 contradicted, 1 undecided."
    )


# From the storage into the report


def test_the_design_goes_from_the_storage_into_the_report(context, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    store.make_study("context-quick")
    assert stored_design("context-quick", store) is None
    store.set_study_attr("context-quick", attrs.SEEDS, {"first": 3, "last": 12, "smallest": 1.0})
    design = stored_design("context-quick", store)
    assert design == SeedDesign(first=3, last=12, smallest=1.0)
    loaded, records = context
    folder = report(loaded, "quick", records, tmp_path, ["csv"], context=StorageContext(design=design))
    export = read_export(folder)
    assert export.manifest.design == design
    claims = pd.read_csv(folder / "claims.csv", keep_default_na=False, na_values={"num_needed": [""]})
    assert claims["verdict"].tolist() == verdicts(export)["verdict"].tolist()
    table = pd.read_csv(folder / "table.csv", keep_default_na=False)
    assert table["verdict"].tolist() == summarise(export)["verdict"].tolist()


def test_a_table_without_a_design_has_the_columns_of_before(context: tuple[LoadedTable, list], tmp_path: Path) -> None:
    folder = report(*context[:1], "quick", context[1], tmp_path, ["csv"])
    assert not {"verdict", "num_needed"} & set(pd.read_csv(folder / "table.csv").columns)
    assert read_export(folder).manifest.design is None
