"""What a storage holds, held against what was put into it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tadaconv.cli.running import Reporter
from tadaconv.errors import UserError
from tadaconv.execution.attrs import SEEDS
from tadaconv.execution.origins import study_with_results
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.regime import Regime, load_regime
from tadaconv.reporting.ablation.data import read_export
from tadaconv.reporting.reportable import reportable, results_of_earlier_recipe, storage_context
from tadaconv.result import Result
from tadaconv.sequential import SeedDesign
from tadaconv.table import load_table, study_name
from tadaconv.table_run import claim_name, current_records

Run = Callable[..., None]

TABLE = '''"""Does it matter?"""
from tadaconv.table import Row, Table
from tadaconv.spec import Context, TAda

TABLE = Table(base=Row("base", TAda()), rows=[Row("other", TAda(context=Context(kernels=({kernel}, 1))))])
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations" / "mine.py").write_text(TABLE.format(kernel=3))
    return tmp_path


@pytest.fixture
def store(here: Path) -> Store:
    return Store.open(str(here / "journal.log"))


@pytest.fixture
def run(store: Store, make_result: Callable[[float], Result]) -> Callable[..., None]:
    """Plans a table and finishes its cells with an accuracy."""

    def plan_and_finish(table: str, regime_name: str, top1: float, seeds: Sequence[int] = (0,)) -> None:
        loaded, regime = load_table(table), load_regime(regime_name)
        study = study_name(loaded, regime_name)
        claim_name(loaded, study, store)
        planned = plan(store, study, loaded.table.cells(regime, [0]), seeds)
        for cell in planned.to_run:
            (waiting,) = store.attempts([cell.key])[cell.key]
            attempt = store.claim(waiting.trial_id)
            assert attempt is not None
            assert store.finish(attempt, make_result(top1))

    return plan_and_finish


def test_a_table_whose_report_would_have_too_long_a_name_is_refused_before_it_runs(here: Path, store: Store) -> None:
    for length, fits in ((249, True), (250, False)):
        path = here / "ablations" / f"{'m' * length}.py"
        path.write_text(TABLE.format(kernel=3))
        loaded = load_table(str(path))
        study = study_name(loaded, "quick")
        if fits:
            claim_name(loaded, study, store)
        else:
            with pytest.raises(UserError, match="longer than 255 bytes; rename the file"):
                claim_name(loaded, study, store)


def around(store: Store, table: str, regime_name: str) -> Any:
    loaded = load_table(table)
    regime: Regime = load_regime(regime_name)
    records = current_records(loaded, regime, study_name(loaded, regime_name), store)
    return storage_context(loaded, regime_name, records, store)


def test_a_table_by_name_and_one_by_path_are_found_where_they_have_results(store: Store, run: Run, here: Path) -> None:
    elsewhere = here / "somewhere" / "far.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text(TABLE.format(kernel=3))
    run("mine", "quick", 50.0)
    run(str(elsewhere), "proxy", 50.0, seeds=(1,))
    store.make_study("strange-study")
    found, left_out = reportable(store)
    assert [(each.loaded.name, each.regime) for each in found] == [("far", "proxy"), ("mine", "quick")]
    (line,) = left_out
    assert line.startswith("strange-study is left out: ")


def test_a_table_that_is_only_queued_is_left_out_with_a_line(store: Store) -> None:
    loaded, regime = load_table("mine"), load_regime("quick")
    plan(store, "mine-quick", loaded.table.cells(regime, [0]), [0])
    found, (line,) = reportable(store)
    assert found == []
    assert "mine-quick is left out: it has no result yet" in line


def test_the_same_table_in_other_regimes_stands_around_it(store: Store, run: Run) -> None:
    run("mine", "quick", 50.0)
    assert around(store, "mine", "quick").elsewhere == {}
    run("mine", "proxy", 60.0)
    found = around(store, "mine", "quick").elsewhere
    assert list(found) == ["proxy"]
    assert [record.result.top1 for record in found["proxy"]] == [60.0, 60.0]


def test_what_ran_before_a_row_changed_is_counted_as_left_out(store: Store, run: Run, here: Path) -> None:
    run("mine", "quick", 50.0, seeds=(0, 1))
    assert around(store, "mine", "quick").left_out == {}
    (here / "ablations" / "mine.py").write_text(TABLE.format(kernel=5))
    assert around(store, "mine", "quick").left_out == {"changed": 2}
    run("mine", "quick", 60.0, seeds=(0, 1))
    assert around(store, "mine", "quick").left_out == {"changed": 2}


def test_results_of_another_protocol_are_counted_as_such(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("mine", "quick", 50.0)
    attempts = {key: [_of_protocol_0(each) for each in found] for key, found in store.attempts().items()}
    monkeypatch.setattr(Store, "attempts", lambda *_: attempts)
    loaded = load_table("mine")
    assert storage_context(loaded, "quick", [], store).left_out == {"protocol": 2}


def _of_protocol_0(attempt: Any) -> Any:
    return replace(attempt, attrs={**attempt.attrs, "spec": {**attempt.attrs["spec"], "protocol": 0}})


def test_the_seed_design_of_a_table_is_read_of_its_study(store: Store, run: Run) -> None:
    run("mine", "quick", 60.0)
    loaded = load_table("mine")
    assert storage_context(loaded, "quick", [], store).design is None
    store.set_study_attr("mine-quick", SEEDS, {"first": 3, "last": 12, "smallest": 0.5})
    assert storage_context(loaded, "quick", [], store).design == SeedDesign(first=3, last=12, smallest=0.5)


REGIME = '''"""A regime."""
from tadaconv.regimes.quick import REGIME as QUICK

REGIME = QUICK.but(summary="of this lab", formerly={formerly!r}, schedule__lr={lr})
'''


def test_results_of_a_recipe_of_before_are_reported_under_its_new_name(here: Path, store: Store, run: Run) -> None:
    regimes = here / "regimes"
    regimes.mkdir()
    (regimes / "lab.py").write_text(REGIME.format(formerly="", lr=0.1))
    run("mine", "lab", 50.0, (0, 1))
    mine = load_table("mine")
    assert results_of_earlier_recipe(mine, "lab", store) is None
    (regimes / "lab_1.py").write_text((regimes / "lab.py").read_text().replace("''", "'lab'"))
    (regimes / "lab.py").write_text(REGIME.format(formerly="", lr=0.2))

    line = results_of_earlier_recipe(mine, "lab", store)
    assert line is not None
    assert line.startswith("results of mine-lab were made when lab had another recipe; report them with: tada report ")
    assert "--regime lab_1" in line
    assert study_with_results("mine", "lab_1", store) == "mine-lab"
    with pytest.raises(UserError, match="--regime lab_1"):
        Reporter(store, here).table(mine, "lab", load_regime("lab"))
    _, left_out = reportable(store)
    assert left_out == [f"mine-lab is left out: {line}"]

    (folder := here / "reports" / "mine-lab_1").parent.mkdir(exist_ok=True)
    assert Reporter(store, here, ("csv",)).table(mine, "lab_1", load_regime("lab_1")) == folder
    assert read_export(folder).cells["top1"].tolist() == [50.0] * 4

    run("mine", "lab", 60.0)  # both recipes in one study
    shown = Reporter(store, here, ("csv",)).table(mine, "lab", load_regime("lab"))
    assert read_export(shown).cells["top1"].tolist() == [60.0] * 2
    assert results_of_earlier_recipe(mine, "lab", store) == line
    store.set_study_attr("mine-lab", SEEDS, {"first": 2, "last": 4, "smallest": 1.0})
    for regime, is_adaptive in (("lab", True), ("lab_1", False)):
        folder = Reporter(store, here, ("csv",)).table(mine, regime, load_regime(regime))
        design = read_export(folder).manifest.design
        assert (design is not None) == is_adaptive, "a design is that of the recipe it was run with"
    run("mine", "lab_1", 70.0, (0, 1))  # nothing runs again: the cells are known
    assert study_with_results("mine", "lab_1", store) == "mine-lab_1"
    assert results_of_earlier_recipe(mine, "lab", store) is None
    again = Reporter(store, here, ("csv",)).table(mine, "lab_1", load_regime("lab_1"))
    assert read_export(again).cells["top1"].tolist() == [50.0] * 4
