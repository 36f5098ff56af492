"""The functions for notebooks and scripts do what the commands do, on the same storage, and give what these write."""

import csv
import re
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_stored_runs import NUM_TRIALS, REGIME, STUDY, TABLE, folder

from tadaconv import api
from tadaconv.api import results, run_study, run_table
from tadaconv.errors import UserError
from tadaconv.execution.store import Store
from tadaconv.reporting.ablation import figures
from tadaconv.reporting.study import figures as study_figures

__all__ = ["folder"]  # a fixture: the folder of a user, with the results of a table and a study

ROWS = ("no calibration (TSN)", "(1,1) in res2")


def lines_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def num_attempts() -> int:
    return sum(map(len, Store.open("runs/journal.log", create=False).attempts().values()))


def test_a_table_is_run_and_what_comes_back_is_its_report(folder: Path) -> None:
    before = num_attempts()
    export = run_table(TABLE, regime=REGIME, seeds=2, rows=ROWS)
    assert num_attempts() == before
    written = lines_of(folder / "runs" / "reports" / f"{TABLE}-{REGIME}" / "cells.csv")
    assert len(export.cells) == len(written) > 0
    assert [f"{top1:.6f}" for top1 in export.cells.top1.dropna()] == [
        f"{float(line['top1']):.6f}" for line in written if line["top1"]
    ]
    drawing = figures.accuracy_by_row(export)
    assert drawing is not None
    assert drawing._repr_mimebundle_()[0]["image/svg+xml"].startswith("<?xml")


@pytest.mark.usefixtures("folder")
def test_a_study_goes_on_and_what_comes_back_is_its_report() -> None:
    before = num_attempts()
    export = run_study(STUDY, regime=REGIME, trials=NUM_TRIALS + 1)
    assert num_attempts() == before + 1
    assert len(export.trials) == NUM_TRIALS + 1
    assert study_figures.best_so_far(export) is not None
    frame = results()
    assert (frame.study == f"{STUDY}-{REGIME}").sum() == NUM_TRIALS + 1


@pytest.mark.usefixtures("folder")
def test_a_storage_is_one_frame() -> None:
    frame = results("runs/journal.log")
    store = Store.open("runs/journal.log", create=False)
    of_table = frame[frame.study == f"{TABLE}-{REGIME}"]
    records = store.records(f"{TABLE}-{REGIME}")
    assert list(zip(of_table.label, of_table.seed, of_table.status, of_table.cell, strict=True)) == [
        (record.cell.label, record.cell.experiment.seed, record.status, record.cell.key) for record in records
    ]
    scores = [None if record.result is None else record.result.score for record in records]
    assert [None if pd.isna(score) else score for score in of_table.top1] == scores
    assert [record.error for record in records] == [None if pd.isna(error) else error for error in of_table.error]
    assert "failed" in set(of_table.status)
    finished = frame[frame.status == "finished"]
    assert (finished["experiment.seed"] == finished.seed).all()
    of_study = frame[frame.study == f"{STUDY}-{REGIME}"]
    assert set(of_study.status) == {"finished", "pruned"}
    assert len(of_study) == NUM_TRIALS
    with pytest.raises(UserError, match="no results at nowhere"):
        results("nowhere.log")


@pytest.mark.usefixtures("folder")
def test_what_the_commands_refuse_is_refused() -> None:
    with pytest.raises(UserError, match="unknown row 'third'"):
        run_table(TABLE, regime=REGIME, rows=["third"])
    with pytest.raises(UserError, match="workers is 0; give an integer"):
        run_table(TABLE, regime=REGIME, workers=0)
    with pytest.raises(UserError, match="seeds 0 would run no cells; give a number from 1 on"):
        run_table(TABLE, regime=REGIME, seeds=0)
    with pytest.raises(UserError, match="trials is 0; give an integer, 1 or more"):
        run_study(STUDY, regime=REGIME, trials=0)
    for seeds in ("3:", True, 2.0):
        with pytest.raises(UserError, match="is no number of seeds; give one, such as 3"):
            run_table(TABLE, regime=REGIME, seeds=seeds)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="smallest nan is no size of a difference"):
        run_table(TABLE, regime=REGIME, smallest=float("nan"))
    with pytest.raises(UserError, match=r"rows is a list of names; write rows=\['third'\]"):
        run_table(TABLE, regime=REGIME, rows="third")
    with pytest.raises(UserError, match="--data is for"):
        run_study(STUDY, regime=REGIME, data="clips")


@pytest.mark.usefixtures("folder")
def test_readme_shows_a_dozen_lines_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, Any]] = []

    def run_stored(table: str, **parameters: Any) -> object:
        called.append((table, signature(run_table).bind(table, **parameters)))
        return run_table(TABLE, regime=REGIME, seeds=2, rows=ROWS)

    def run_no_study(study: str, **parameters: Any) -> None:
        called.append((study, signature(run_study).bind(study, **parameters)))

    monkeypatch.setattr(api, "run_table", run_stored)
    monkeypatch.setattr(api, "run_study", run_no_study)
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    block, *_ = (text for text in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "tadaconv.api" in text)
    names: dict[str, Any] = {}
    exec(block, names)
    assert [table for table, *_ in called] == ["context", "stage_placement"]
    assert len(block.splitlines()) <= 12
    assert list(names["export"].cells.columns[:2]) == ["row", "seed"]
    assert set(names["frame"].study) >= {f"{TABLE}-{REGIME}", f"{STUDY}-{REGIME}"}
