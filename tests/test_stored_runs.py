"""A run that an earlier version has stored opens, says the same numbers, goes on, and none of its cells is run again.

``tests/stored`` is the folder of a user, as version 0.1.0 left it: a table, a regime with a file of weights, a design
study and a report template; a journal with their results, one of them failed and one pruned; trained weights of one
cell and the class probabilities of all; reports of each kind, with their notebooks. Larger files are compressed.
"""

import csv
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import postgres_server
import pytest
from support import Call

from tadaconv import discovery
from tadaconv.ablation import load_table
from tadaconv.execution.merge import merge
from tadaconv.execution.store import Store
from tadaconv.regime import load_regime
from tadaconv.study import load_study

STORED = Path(__file__).parent / "stored"
TABLE, STUDY, REGIME = "stored_table", "stored_study", "stored_regime"
NUM_TRIALS = 6
IN = ("--regime", REGIME)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the user's folder, which is the current one."""
    folder = tmp_path / "project"
    shutil.copytree(STORED, folder)
    for packed in folder.rglob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[postgres_server.Server]:
    if reason := postgres_server.found():
        pytest.skip(reason)
    with postgres_server.Server() as server:
        yield server


@pytest.fixture(params=["journal", "postgresql"])
def storage(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the results are: the journal, or a server into which they were merged."""
    journal = str(folder / "runs" / "journal.log")
    if request.param == "journal":
        return journal
    server: postgres_server.Server = request.getfixturevalue("server")
    monkeypatch.setenv("PGPASSWORD", postgres_server.PASSWORD)
    url = server.url(server.new_database())
    merge([Store.open(journal, create=False)], Store.open(url), folder / "runs")
    return url


def lines_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def attempts(storage: str) -> dict[str, list[tuple[str, str]]]:
    """By cell, the study and the state of every attempt."""
    store = Store.open(storage, create=False)
    return {
        key: [(store.name_of(attempt.study_id), attempt.status) for attempt in of_cell]
        for key, of_cell in store.attempts().items()
    }


def test_every_cell_is_there_under_the_key_of_its_row(storage: str) -> None:
    store = Store.open(storage, create=False)
    records = store.records(f"{TABLE}-{REGIME}")
    assert [(record.cell.label, record.cell.experiment.seed, record.status) for record in records] == [
        ("no calibration (TSN)", 0, "finished"),
        ("no calibration (TSN)", 1, "finished"),
        ("a rate far too high", 0, "failed"),
        ("(1,1) in res2", 0, "finished"),
        ("(1,1) in res2", 1, "finished"),
    ]
    stored = {(line["row"], int(line["seed"])): line["cell"] for line in lines_of(table_report() / "cells.csv")}
    assert {(record.cell.label, record.cell.experiment.seed): record.cell.key for record in records} == stored
    # The same keys follow from the files as they are read now.
    from tadaconv.locations import resolve_data

    regime = resolve_data(load_regime(REGIME), None, Path("runs/cache"))
    cells = load_table(TABLE).table.cells(regime, [0, 1])
    assert set(stored.items()) <= {((cell.label, cell.experiment.seed), cell.key) for cell in cells}


def table_report() -> Path:
    return STORED / "runs" / "reports" / f"{TABLE}-{REGIME}"


def test_the_table_runs_nothing_again_and_is_reported_with_the_same_numbers(storage: str, tada: Call) -> None:
    before, written = attempts(storage), Path("runs/reports") / table_report().name
    done = tada("report", TABLE, *IN, "--storage", storage)
    assert done.status == 0, done.text
    require_same_report(table_report(), written)
    rows = ("--rows", "no calibration (TSN)", "--rows", "both together")
    done = tada("ablate", TABLE, *IN, "--seeds", "2", *rows, "--storage", storage)
    assert done.status == 0, done.text
    assert "4 cells: 4 finished before, 0 to run" in done.out
    assert attempts(storage) == before
    # The call stores how many seeds the table is run with, and so the table has further columns.
    stored, now = lines_of(table_report() / "table.csv"), lines_of(written / "table.csv")
    assert [{name: line[name] for name in stored[0]} for line in now] == stored
    assert set(now[0]) - set(stored[0]) == {"verdict", "num_needed"}


def require_same_report(stored: Path, written: Path) -> None:
    """Every stored table of numbers is written again to the byte, and every field of ``report.json`` is the same."""
    tables = sorted(stored.glob("*.csv"))
    assert tables
    for table in tables:
        assert (written / table.name).read_bytes() == table.read_bytes(), table.name
    differences = list(differing(read_json(stored), read_json(written)))
    assert differences == []


def read_json(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


OTHERWISE = ("digests", "template", "weights")
"""What changes in ``report.json`` with the code that writes it, and with the folder that holds the file of weights."""


def differing(stored: Any, written: Any, place: str = "") -> Iterator[str]:
    """Where in two documents a field is lacking or another; fields that came later are no difference."""
    if isinstance(stored, dict) and isinstance(written, dict):
        for name, value in stored.items():
            if name not in OTHERWISE:
                yield from differing(value, written.get(name, "nothing"), f"{place}.{name}")
    elif isinstance(stored, list) and isinstance(written, list) and len(stored) == len(written):
        for number, pair in enumerate(zip(stored, written, strict=True)):
            yield from differing(*pair, f"{place}[{number}]")
    elif stored != written:
        yield f"{place}: {stored!r} was stored, and {written!r} is written"


@pytest.mark.parametrize("name", ["attempts", "cells", "curves", "studies"])
def test_the_whole_storage_is_exported_to_the_same_bytes(name: str, folder: Path, tada: Call) -> None:
    done = tada("export", "--storage", "runs/journal.log", "--out", "again")
    assert done.status == 0, done.text
    assert Path("again", f"{name}.csv").read_bytes() == (folder / "exported" / f"{name}.csv").read_bytes()


def test_the_study_is_reported_with_the_same_numbers_and_goes_on(storage: str, tada: Call) -> None:
    of_study = STORED / "runs" / "reports" / f"{STUDY}-{REGIME}"
    done = tada("report", STUDY, *IN, "--storage", storage, "--format", "csv")
    assert done.status == 0, done.text
    written = Path("runs/reports") / of_study.name
    if storage.endswith("journal.log"):  # merging numbers trials anew
        require_same_report(of_study, written)
    stored = lines_of(of_study / "trials.csv")
    assert {line["status"] for line in stored} >= {"finished", "pruned"}
    assert len(stored) == NUM_TRIALS
    before = attempts(storage)
    done = tada("study", STUDY, *IN, "--trials", str(NUM_TRIALS + 1), "--storage", storage)
    assert done.status == 0, done.text
    after = attempts(storage)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 1
    trials = lines_of(written / "trials.csv")
    assert results_of(trials[:NUM_TRIALS]) == results_of(stored)
    assert len(trials) == NUM_TRIALS + 1


def results_of(trials: list[dict[str, str]]) -> list[list[str]]:
    """What came of each configuration, in an order that does not depend on their numbers."""
    columns = ["status", "top1", "macs", "params_stage", "params_layers", "params_share"]
    return sorted([line[name] for name in columns] for line in trials)


def test_a_trained_cell_is_read_back(folder: Path, tada: Call) -> None:
    (weights,) = (folder / "runs" / "weights").glob("*.pt")
    done = tada("report", TABLE, *IN, "--row", "(1,1) in res2", "--seed", "0", "--format", "csv")
    assert done.status == 0, done.text
    name = f"{TABLE}-{REGIME}-{weights.stem[:8]}"
    stored = lines_of(STORED / "runs" / "reports" / name / "layers.csv")
    written = lines_of(folder / "runs" / "reports" / name / "layers.csv")
    assert stored
    for old, new in zip(stored, written, strict=True):
        assert old.keys() <= new.keys()
        for column, value in old.items():
            try:
                assert float(new[column]) == pytest.approx(float(value), rel=1e-3, abs=1e-5)
            except ValueError:  # a name
                assert new[column] == value


def test_a_template_of_the_user_is_executed(folder: Path, tada: Call) -> None:
    own = ("--template", "stored_report", "--parameter", "threshold=1.5")
    done = tada("report", TABLE, *IN, *own, "--format", "ipynb")
    assert done.status == 0, done.text
    notebook = nbformat.read(
        folder / "runs" / "reports" / f"{TABLE}-{REGIME}-stored_report" / "report.ipynb", as_version=4
    )
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert "no calibration (TSN)" in str(outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)


NOTEBOOKS = sorted(path.parent.name for path in STORED.glob("runs/reports/*/report.ipynb"))


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_of_a_report_is_executed_from_the_files_next_to_it(name: str, folder: Path) -> None:
    report = folder / "runs" / "reports" / name
    notebook = nbformat.read(report / "report.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 3
    names: dict[str, Any] = {}
    with working_in(report):
        for source in code:
            exec(compile(source, name, "exec"), names)
    assert list((report / "figures").glob("*.svg"))


def test_there_is_a_notebook_of_every_kind() -> None:
    assert {name.partition("-")[0] for name in NOTEBOOKS} == {"benchmark", TABLE, STUDY}
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize(
    ("kind", "name", "load"),
    [("ablation table", TABLE, load_table), ("study", STUDY, load_study), ("regime", REGIME, load_regime)],
)
def test_a_file_of_the_user_is_found_by_its_name(
    kind: str, name: str, load: Callable[[str], object], folder: Path
) -> None:
    assert discovery.find(kind, name).resolve().is_relative_to(folder)
    load(name)
