"""A table, a regime and a study that are given by path: what was run is found again from anywhere, and as it was."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from support import made_result, tada_with

import tadaconv.preview  # noqa: F401 - before a test of the commands puts something in place of what it imports
from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.execution.launcher import Crew
from tadaconv.execution.live import LineView
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.regime import load_regime
from tadaconv.reporting.reportable import reportable
from tadaconv.sequential import SeedDesign
from tadaconv.study import LoadedStudy, confirm, load_study, search, trial_records
from tadaconv.table import load_table, study_name
from tadaconv.table_run import run_table

TABLE = '''"""Does it matter?"""
from tadaconv.table import Row, Table
from tadaconv.spec import Context, TAda

TABLE = Table(base=Row("(3,3)", TAda()), rows=[Row("(1,1)", TAda(context=Context(kernels=({kernel}, 1))))])
'''
REGIME = """from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Schedule, Synthetic

REGIME = Regime(
    summary="small", backbone=Backbone(name="tiny"), data=Synthetic(num_train=4, num_val=4, num_frames=4, size=16),
    schedule=Schedule(epochs=1, batch_size=2, lr={lr}),
)
"""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A run folder with the table ``a/mine.py`` run in the regime ``a/v1.2.py``; the current folder is another one."""
    if getattr(request, "param", "made up") == "made up":
        monkeypatch.setattr("tadaconv.experiment.run", lambda *_, **__: made_result())
        monkeypatch.setattr("tadaconv.dry_run.dry_run", lambda _: None)

    for folder, kernel, lr in (("a", 1, 0.1), ("b", 5, 0.2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(TABLE.format(kernel=kernel))
        (tmp_path / folder / "v1.2.py").write_text(REGIME.format(lr=lr))
    monkeypatch.chdir(tmp_path / "a")
    runs = tmp_path / "runs"
    runs.mkdir()
    loaded, regime, store = load_table("./mine.py"), load_regime("v1.2.py"), Store.open(str(runs / "journal.log"))
    run_table(
        loaded, regime, study_name(loaded, "v1.2.py"), store, rows=None,
        design=SeedDesign(first=1, last=1, smallest=1.0),
        crew=Crew(WorkerCall(store.shown, "", "cpu", runs)), show=lambda _: LineView(Console(quiet=True)),
        regime_file=discovery.find("regime", "v1.2.py"),
    )  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return runs


@pytest.fixture
def tada(out: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Calls a command on the run folder; its exit status, and all it said."""

    def call(*arguments: str) -> tuple[int, str]:
        done = tada_with(capsys)(*arguments, "--out", str(out))
        return done.status, done.text

    return call


def rows_of(folder: Path) -> list[str]:
    with (folder / "cells.csv").open(encoding="utf-8") as file:
        return [line["row"] for line in csv.DictReader(file)]


@pytest.mark.parametrize("out", ["trained"], indirect=True)
def test_one_table_one_cell_and_all_are_reported_from_any_folder(
    out: Path, tada: Callable[..., tuple[int, str]]
) -> None:
    paths = "../a/mine.py", "--regime", "../a/v1.2.py"
    status, said = tada("report", "--all", "--format", "csv")
    assert (status, "left out" in said) == (0, False), said
    folder = out / "reports" / "mine-v1.2"
    assert rows_of(folder) == ["(1,1)", "(3,3)"]
    assert "mine-v1.2/" in (out / "reports" / "index.html").read_text()
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert str(out.parent) not in before["report.json"].decode()

    assert tada("report", *paths, "--format", "csv")[0] == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert tada("report", *paths, "--row", "(1,1)", "--format", "csv")[0] == 0
    status, said = tada("plan", *paths)
    assert (status, "2 finished before, 0 to run" in " ".join(said.split())) == (0, True), said


@pytest.mark.parametrize(
    ("table", "regime", "other"), [("b/mine.py", "a/v1.2.py", "table"), ("a/mine.py", "b/v1.2.py", "regime")]
)
@pytest.mark.parametrize("command", ["ablate", "report", "plan"])
def test_another_file_of_the_same_name_is_refused(
    out: Path, tada: Callable[..., tuple[int, str]], command: str, table: str, regime: str, other: str
) -> None:
    before = (out / "journal.log").read_bytes()
    status, said = tada(command, f"../{table}", "--regime", f"../{regime}")
    assert (status, said.count("\n")) == (2, 1)
    file = out.parent / "a" / ("mine.py" if other == "table" else "v1.2.py")
    assert f"mine-v1.2 in {out}/journal.log holds the results of a different {other}, {file}; rename ../b/" in said
    assert (out / "journal.log").read_bytes() == before


def test_files_that_are_missing_or_have_changed_are_named(out: Path, tada: Callable[..., tuple[int, str]]) -> None:
    regime = out.parent / "a" / "v1.2.py"
    text = regime.read_text()
    regime.unlink()
    status, said = tada("report", "--all", "--format", "csv")
    advice = f"tada report {out.parent}/a/mine.py --out {out} --regime NAME_OR_PATH"
    assert (status, f"mine-v1.2 is left out: there is no file at {regime}; report it with: {advice}" in said) == (
        2,
        True,
    )
    assert "can be reported; see the lines above" in said

    (out.parent / "b" / "v1.2.py").write_text(text)  # the file has moved
    paths = str(out.parent / "a" / "mine.py"), "--regime", "../b/v1.2.py"
    assert tada("report", *paths, "--format", "csv")[0] == 0

    regime.write_text(text.replace("lr=0.1", "lr=0.3"))
    status, said = tada("report", "--all", "--format", "csv")
    assert (status, "all 2 finished cells are of rows or a regime that have changed" in said) == (2, True), said


def test_a_storage_that_keeps_no_origin_is_read_by_name(
    out: Path, tada: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Store.study_attrs
    before = {"table", "regime"}
    monkeypatch.setattr(
        Store, "study_attrs", lambda *given: {name: v for name, v in kept(*given).items() if name not in before}
    )
    assert tada("report", "--all", "--format", "csv")[0] == 2
    for folder, name in (("ablations", "mine.py"), ("regimes", "v1.2.py")):
        Path(folder).mkdir()
        Path(folder, name).write_bytes((out.parent / "a" / name).read_bytes())
    assert tada("report", "--all", "--format", "csv")[0] == 0
    assert rows_of(out / "reports" / "mine-v1.2") == ["(1,1)", "(3,3)"]


STUDY = '''"""Which kernel?"""
from tadaconv.spec import Context, TAda
from tadaconv.study import Pruner, Study

def suggest(trial):
    return TAda(context=Context(kernels=(trial.suggest_categorical("kernel", [1, 3, {last}]),)))

STUDY = Study(suggest, start={{"one": {{"kernel": 1}}}}, base="one", pruner=Pruner("none"))
'''


@pytest.fixture
def searched(out: Path) -> Callable[[str], LoadedStudy]:
    """Runs the study of a file in the regime ``a/v1.2.py``."""
    for folder, last in (("a", 5), ("b", 7)):
        (out.parent / folder / "toy.py").write_text(STUDY.format(last=last))

    def run(path: str) -> LoadedStudy:
        loaded, store = load_study(path), Store.open(str(out / "journal.log"))
        search(
            loaded, load_regime("../a/v1.2.py"), "toy-v1.2", store, num_trials=3,
            crew=Crew(WorkerCall(store.shown, "", "cpu", out)), show=SimpleNamespace(trials=print, line=print),
            regime_file=discovery.find("regime", "../a/v1.2.py"),
        )  # fmt: skip
        return loaded

    return run


def test_a_study_by_path_and_the_table_of_its_best_are_reported(
    out: Path, searched: Callable[[str], LoadedStudy]
) -> None:
    regime, store = load_regime("../a/v1.2.py"), Store.open(str(out / "journal.log"))
    loaded = searched("../a/toy.py")
    best = confirm(loaded, trial_records(loaded, regime, "toy-v1.2", store), 1)
    plan(store, "toy_confirm-v1.2", best.table.cells(regime, [0]), [0])
    reported, left_out = reportable(store)
    path = str(out.parent / "a" / "v1.2.py")
    assert [(each.loaded.name, each.regime) for each in reported] == [
        ("mine", path), ("toy", path), ("toy_confirm", path)
    ]  # fmt: skip
    assert not left_out

    (out.parent / "a" / "toy.py").write_text("STUDY = 1")
    reported, left_out = reportable(store)
    assert [each.loaded.name for each in reported] == ["mine"]
    assert [line.partition(" ")[0] for line in left_out] == ["toy-v1.2", "toy_confirm-v1.2"]
    assert all("toy.py' defines no STUDY" in line for line in left_out)


def test_another_study_of_the_same_name_is_refused(searched: Callable[[str], LoadedStudy]) -> None:
    searched("../a/toy.py")
    with pytest.raises(
        UserError, match=r"^toy-v1\.2 in .* holds the results of a different study, .*/a/toy\.py; rename "
    ):
        searched("../b/toy.py")
