"""What a table cost and decided, and what other numbers of seeds would: by hand."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from scipy import stats

from tadaconv import statistics as st
from tadaconv.metrics import TOP1
from tadaconv.reporting.ablation import page as blocks
from tadaconv.reporting.ablation.answer import answer
from tadaconv.reporting.ablation.data import EnsembleOrigin, Export, collect
from tadaconv.reporting.ablation.learned import learned, seeds_to_decide
from tadaconv.reporting.ablation.summary import base_verdicts, summarise, verdicts
from tadaconv.reporting.ablation.text import (
    claim_sentence,
    device_time,
    learned_in_short,
    learned_sentences,
    legend,
    what_was_run,
)
from tadaconv.sequential import SeedDesign
from tadaconv.table import Claim, Row, Table

DESIGN = SeedDesign(first=3, last=3, smallest=1.0)
SCORES = {
    "up": [70.0, 71.2, 72.0], "open": [60.0, 64.0, 61.0], "level": [60.1, 60.9, 62.0], "base": [60.0, 61.0, 62.05]
}  # fmt: skip
CLAIMS = [Claim("up", "up", "base", "s"), Claim("open", "open", "up", "s")]


def made(make_up, seconds=3600.0, design=DESIGN, scores=SCORES, claims=CLAIMS) -> Export:
    loaded, records = make_up(scores, claims=claims)
    timed = [
        r if r.result is None else replace(r, result=r.result.model_copy(update={"seconds": seconds})) for r in records
    ]
    return collect(loaded, "quick", timed, design=design)


def test_costs_decisions_and_estimates_by_hand(make_up) -> None:
    found = learned(made(make_up))
    assert (found.num_cells, found.num_failed, found.hours, found.device) == (12, 0, 12.0, "CPU")
    # open - up is below zero for certain; open - base is open.
    assert (found.claims_decided, found.num_claims) == (2, 2)
    assert (found.rows_decided, found.num_rows) == (2, 3)
    assert found.pairs_decided == 3  # up and base are both a claim and a row
    open_ = [a - b for a, b in zip(SCORES["open"], SCORES["base"], strict=True)]
    needed = st.seeds_needed(sum(open_) / 3, stats.tstd(open_))
    equivalent = st.seeds_for_equivalence(sum(open_) / 3, stats.tstd(open_), 1.0)
    assert needed is not None
    assert equivalent is not None
    assert found.rest_seeds == min(needed, equivalent)
    assert found.rest_cells == 2 * (found.rest_seeds - 3)  # of both rows
    assert found.rest_hours == pytest.approx(found.rest_cells)
    fixed = []
    for a, b in (("up", "base"), ("open", "up")):
        differences = [x - y for x, y in zip(SCORES[a], SCORES[b], strict=True)]
        fixed.append(st.seeds_needed(sum(differences) / 3, stats.tstd(differences)))
    level = [a - b for a, b in zip(SCORES["level"], SCORES["base"], strict=True)]
    fixed.append(seeds_to_decide(sum(level) / 3, stats.tstd(level), DESIGN))
    assert found.fixed_seeds == max(fixed)
    assert found.fixed_hours == pytest.approx(4 * max(fixed))
    assert found.saved_cells is None


def test_cells_saved_are_those_up_to_the_last_seed_of_every_row_that_was_run(make_up) -> None:
    design = SeedDesign(first=3, last=8, smallest=1.0)
    scores = {"up": SCORES["up"], "open": [*SCORES["open"], 60.0, 63.0], "base": [*SCORES["base"], 60.0, 61.0]}
    found = learned(made(make_up, 1800.0, design, scores))
    assert found.saved_cells == 5 + 3 + 3
    assert found.saved_hours == pytest.approx(11 / 2)
    assert found.hours == pytest.approx(13 / 2)
    said = learned_sentences(made(make_up, 1800.0, design, scores), found)
    assert said[-1] == "8 seeds of every row would have taken 11 more cells (5.50 CPU hours)."


def test_times_have_a_unit_that_they_are_read_in() -> None:
    assert device_time(2.5, "GPU") == "2.50 GPU hours"
    assert device_time(0.5, "CPU") == "30.0 CPU minutes"
    assert device_time(0.001, "CPU") == "3.60 CPU seconds"


def test_rows_that_were_not_run_cost_and_save_nothing(make_up) -> None:
    design = SeedDesign(first=3, last=8, smallest=1.0)
    loaded, records = make_up(SCORES)
    records = [record for record in records if record.cell.label != "open"]
    found = learned(collect(loaded, "quick", records, design=design))
    assert found.saved_cells == 3 * 5
    assert found.fixed_seeds is not None
    assert found.fixed_hours == pytest.approx(found.fixed_seeds * found.hours / 3)
    assert found.rest_unknown == 1


def test_an_open_comparison_takes_a_seed_more_at_least(make_up) -> None:
    # The t of 3 seeds is beyond that of a fixed design, and within the first boundary of the adaptive one.
    design = SeedDesign(first=3, last=12, smallest=1.0)
    scores = {"a": [63.0, 65.0, 67.0], "base": [60.0, 61.0, 62.0]}
    export = made(make_up, design=design, scores=scores, claims=[])
    line = base_verdicts(export).iloc[0]
    assert line["verdict"] == "undecided"
    assert st.seeds_needed(line["effect"], line["sd"]) == 3
    assert (learned(export).rest_seeds, learned(export).rest_cells) == (4, 2)
    claim = Claim("c", "a", "base", "s")
    (said,) = verdicts(made(make_up, design=design, scores=scores, claims=[claim])).to_dict("records")
    assert "deciding it with 80 % power takes about 4 seeds." in claim_sentence(said, TOP1, design)


def test_failed_cells_cost_what_is_known_of_them(make_up) -> None:
    loaded, records = make_up({**SCORES, "up": [70.0, None, 72.0]}, claims=CLAIMS)
    began = next(r.started for r in records if r.started is not None)
    failed = next(i for i, r in enumerate(records) if r.status == "failed")
    before = learned(collect(loaded, "quick", records, design=DESIGN))
    records[failed] = replace(records[failed], started=began, ended=began + timedelta(hours=2))
    found = learned(collect(loaded, "quick", records, design=DESIGN))
    assert (found.num_cells, found.num_failed) == (12, 1)
    assert found.hours == pytest.approx(before.hours + 2)
    assert "12 cells (1 failed) took" in blocks.learned(collect(loaded, "quick", records, design=DESIGN)).text


def test_gpus_of_a_cell_are_counted_each(make_up) -> None:
    loaded, records = make_up(SCORES)
    environment = {"device": "a GPU", "cuda": "12.8", "gpus_per_cell": "2"}
    on_gpus = [
        replace(r, result=r.result.model_copy(update={"seconds": 1800.0, "environment": environment})) for r in records
    ]
    found = learned(collect(loaded, "quick", on_gpus, design=DESIGN))
    assert (found.hours, found.device) == (12.0, "GPU")
    mixed = learned(collect(loaded, "quick", [*on_gpus[:6], *records[6:]], design=DESIGN))
    assert mixed.device == "CPU and GPU"


def test_what_cannot_be_estimated_is_counted(make_up) -> None:
    one = learned(made(make_up, scores={name: values[:1] for name, values in SCORES.items()}))
    assert (one.rest_unknown, one.rest_cells, one.rest_beyond, one.fixed_seeds) == (4, 0, 0, None)
    scores = {"same": [60.0, 64.0, 60.0, 60.0], "base": [60.0, 60.0, 64.0, 60.0]}  # a difference of exactly 0
    beyond = learned(made(make_up, design=None, scores=scores, claims=[]))
    assert (beyond.rest_unknown, beyond.rest_beyond, beyond.rest_cells) == (0, 1, 0)
    said = " ".join(learned_sentences(made(make_up, design=None, scores=scores, claims=[]), beyond))
    assert "1 open comparison would take more than 1000 seeds" in said
    assert "0 of 1 row comparison" in said
    assert "A fixed design" not in said


def test_an_ensemble_takes_the_cells_of_its_parts(make_up) -> None:
    loaded, records = make_up({"a": [60.0, 64.0, 61.0], "b": [60.0, 61.0, 62.0], "base": [60.0, 61.0, 62.05]})
    claim = Claim("c", "both", "a", "s")
    rows = [*loaded.table.rows, Row("both", None, ensemble=("a", "b"))]
    ensembles = [
        EnsembleOrigin(row="both", seed=seed, cells={"a": "k", "b": "l"}, top1=top1)
        for seed, top1 in enumerate((62.0, 63.0, 63.1))
    ]
    table = replace(loaded, table=Table(base=loaded.table.base, rows=rows, claims=[claim]))
    found = learned(collect(table, "quick", records, ensembles=ensembles, design=DESIGN))
    assert found.num_cells == 9
    assert found.rest_cells > 0
    assert "Decided in" in learned_in_short(found)


@settings(deadline=None, max_examples=30)
@given(hs.floats(0.0, 0.8), hs.floats(0.2, 2.0))
def test_seeds_for_equivalence_have_the_power(effect: float, sd: float) -> None:
    """Of two one-sided tests, by simulation; the bound is no more than a few seeds above the truth."""
    n = st.seeds_for_equivalence(effect, sd, 1.0)
    if n is None or n > 60:
        return
    assert n == st.seeds_for_equivalence(-effect, sd, 1.0)

    def power(num: int) -> float:
        draws = effect + sd * np.random.default_rng(0).normal(size=(20_000, num))
        half = stats.t.ppf(0.975, num - 1) * draws.std(axis=1, ddof=1) / num**0.5
        means = draws.mean(axis=1)
        return float(np.mean((means - half > -1) & (means + half < 1)))

    assert power(n) > 0.79
    assert n <= 3 or power(n - 2) < 0.81


def test_seeds_for_equivalence_are_none_where_there_is_none() -> None:
    assert st.seeds_for_equivalence(1.0, 1.0, 1.0) is None
    assert st.seeds_for_equivalence(0.0, 0.0, 1.0) is None
    assert st.seeds_for_equivalence(0.999, 5.0, 1.0) is None
    assert seeds_to_decide(0.1, 1.0, None) == st.seeds_needed(0.1, 1.0)
    assert seeds_to_decide(0.0, 1.0, None) is None
    assert seeds_to_decide(0.1, 1.0, DESIGN) == st.seeds_for_equivalence(0.1, 1.0, 1.0)


def shared(make_up, scores, design=DESIGN, claims=CLAIMS) -> Export:
    """The table with a row *again* that is the same experiment as its row *open*."""
    loaded, records = make_up(scores, claims=claims)
    again = replace(loaded.table.row("open"), name="again")
    copies = [replace(r, cell=replace(r.cell, label="again")) for r in records if r.cell.label == "open"]
    table = Table(base=loaded.table.base, rows=[*loaded.table.rows, again], claims=loaded.table.claims)
    return collect(replace(loaded, table=table), "quick", [*records, *copies], design=design)


@pytest.mark.parametrize("seeds", ["3", "3:6"])
def test_cells_that_rows_share_count_once(make_up, seeds: str) -> None:
    first, last = (int(part) for part in (seeds.split(":") * 2)[:2])
    design = SeedDesign(first=first, last=last, smallest=1.0)
    loaded, records = make_up(SCORES, claims=CLAIMS)
    once, twice = collect(loaded, "quick", records, design=design), shared(make_up, SCORES, design)
    with_row = learned(once).model_copy(update={"num_rows": 4})
    assert learned(twice) == with_row, "a row more is compared with the base, and decides no other pair"
    assert what_was_run(twice) == "5 rows, 3 seeds: 12 of 12 cells finished."


def test_rows_that_are_one_experiment_are_level_by_construction(make_up) -> None:
    claims = [Claim("Again helps.", "again", "open", "s")]
    for design in (DESIGN, SeedDesign(first=3, last=6, smallest=1.0)):
        export = shared(make_up, SCORES, design, claims=[])
        export = replace(export, manifest=export.manifest.model_copy(update={"claims": claims}))
        (line,) = verdicts(export).to_dict("records")
        assert (line["verdict"], line["num_needed"], line["effect"]) == ("equivalent", 0, 0.0)
        assert np.isnan(line["p"])
        said = "\u201cagain\u201d and \u201copen\u201d are the same experiment"
        assert claim_sentence(line, TOP1, design).startswith(said)
        assert "the two rows are the same experiment" in answer(export)
        assert learned(export).num_claims == 0
        note = "\u201cagain\u201d is the same experiment as \u201copen\u201d: they share their cells"
        assert any(text.startswith(note) for text in legend(summarise(export), TOP1, design=design))
        assert note in blocks.results(export).html
    old = shared(make_up, SCORES, None, claims=[])
    old = replace(old, manifest=old.manifest.model_copy(update={"claims": claims}))
    assert verdicts(old)["verdict"].tolist() == ["undecided"], "as it was reported before"
    equal = {"a": [60.0, 61.0, 62.0], "base": [60.0, 61.0, 62.0]}
    assert base_verdicts(made(make_up, scores=equal, claims=[]))["verdict"].tolist() == ["undecided"]


def test_an_exhausted_design_says_what_a_new_run_would_take(make_up) -> None:
    design = SeedDesign(first=3, last=4, smallest=1.0)
    scores = {"a": [60.0, 64.0, 61.0, 62.0], "base": [60.0, 61.0, 62.0, 61.0]}
    export = made(make_up, design=design, scores=scores, claims=[])
    found = learned(export)
    line = base_verdicts(export).iloc[0]
    needed = seeds_to_decide(line["effect"], line["sd"], design)
    assert needed is not None
    assert needed > 4
    assert (found.is_exhausted, found.rest_pairs, found.rest_cells) == (True, 0, 0)
    assert (found.new_run_pairs, found.new_run_seeds, found.new_run_cells) == (1, needed, 2 * needed)
    assert found.new_run_hours == pytest.approx(2 * needed)
    said = " ".join(learned_sentences(export, found))
    assert "The design is exhausted: rows that are still compared have all 4 seeds" in said
    assert (
        f"it takes a new run in another folder (--out), up to {needed} seeds of a row, about {2 * needed} cells" in said
    )
    assert "further cell" not in said + learned_in_short(found)
    assert "would have taken" not in said, "nothing was saved"
    assert "The design is exhausted. To decide 1 open comparison: a new run in another folder" in learned_in_short(
        found
    )
    begun = {name: values[:3] for name, values in scores.items()}
    assert not learned(made(make_up, design=design, scores=begun, claims=[])).is_exhausted
    fixed = learned(made(make_up, scores=begun, claims=[]))
    assert (fixed.is_exhausted, fixed.new_run_pairs, fixed.rest_pairs) == (False, 0, 1)
