"""The commands as they are typed: what they print, run and leave behind, and how they refuse a wrong call."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import BaseModel
from support import Call, made_result, wait_until

from tadaconv import cli, reporting
from tadaconv.cli.options import CrewOptions
from tadaconv.errors import RunError, UserError
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.regime import load_regime
from tadaconv.result import Progress, Result
from tadaconv.run_options import RunOptions
from tadaconv.spec import Experiment, Folder
from tadaconv.table import load_table

TABLE = '''"""Does the mini table run?

More words.
"""
from tadaconv.table import Row, Table
from tadaconv.spec import Context, TAda

TABLE = Table(base=Row("(3,3)", TAda()), rows=[Row("TSN", None), Row("(1,1)", TAda(context=Context(kernels=(1, 1))))])
'''
REGIME = """from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Folder, Schedule, Synthetic

REGIME = Regime(
    summary="{summary}", backbone=Backbone(name="tiny"), data={data}, schedule=Schedule(epochs=1, batch_size=2, lr=0.1)
)
"""
EXPERIMENT = '''"""In place of training: sleeps in the second cell, goes on from its checkpoint."""
import time
from tadaconv.result import Result

def dry_run(experiment):
    pass

def resolve_device(name):
    return "cpu"

def devices_of_cell(name, gpus_per_cell):
    return ["cpu"] * gpus_per_cell

def run(experiment, *, device, report, checkpoint, options):
    with open("log", "a") as log:
        log.write(experiment.key + "\\n")
    if experiment.temporal and not checkpoint.exists():
        checkpoint.touch()
        open("sleeping", "w").close()
        time.sleep(60)
    return Result(score=50, top5=100, loss=1, per_class={}, num_val=8, curve=[], params=1, macs=1, cost={},
        train_clips_per_second=1, eval_clips_per_second=1, peak_memory_bytes=1, seconds=1, environment={})
'''


STOOD_IN_FOR = ("tadaconv.experiment", "tadaconv.environment", "tadaconv.dry_run")


class FakeExperiment(types.ModuleType):
    """Stands in for what needs torch, :data:`STOOD_IN_FOR`, so that no cell trains."""

    def __init__(self) -> None:
        super().__init__("tadaconv.experiment")
        self.ran: list[Experiment] = []
        self.fails: Callable[[Experiment], None] = lambda _: None
        # Commands that run nothing import these by name, and do not use them here.
        self.environment = self.build_model = self.curve_source = self.out_of_memory = None
        self.fixed_threads = self.prepare = None

    def dry_run(self, experiment: Experiment) -> None:
        """Nothing is built here."""

    def resolve_device(self, name: str) -> str:
        if name.startswith("cuda"):
            raise UserError("no CUDA device; use --device cpu")
        return "cpu"

    def devices_of_cell(self, name: str, gpus_per_cell: int) -> list[str]:
        return [self.resolve_device(name)] * gpus_per_cell

    def run(
        self, experiment: Experiment, *, device: str, report: Callable[[Progress], None], checkpoint: Path, **_: object
    ) -> Result:
        assert (device, checkpoint.suffix) == ("cpu", ".pt")
        self.ran.append(experiment)
        report(Progress(step=1, num_steps=2, train_loss=1.0, curve=[]))
        self.fails(experiment)
        return made_result(50.0 + experiment.seed)


class FakeReporting:
    """Stands in for what writes reports; remembers what it was asked for."""

    def __init__(self) -> None:
        self.formats: list[str] = []
        self.records: list[CellRecord] = []
        self.around: dict[str, Any] = {}

    def report(
        self, loaded: Any, name: str, records: Sequence[CellRecord], out: Path, formats: Sequence[str], **around: Any
    ) -> Path:
        self.formats, self.records, self.around = list(formats), list(records), around
        return out / "reports" / f"{loaded.name}-{name}"


@pytest.fixture
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations" / "mini.py").write_text(TABLE)
    (tmp_path / "regimes").mkdir()
    for name, data in {"small": "Synthetic(num_train=8, num_val=8)", "mine": "Folder()"}.items():
        (tmp_path / "regimes" / f"{name}.py").write_text(REGIME.format(summary=f"the {name} one", data=data))
    return tmp_path


@pytest.fixture(autouse=True)
def experiment(monkeypatch: pytest.MonkeyPatch) -> FakeExperiment:
    fake = FakeExperiment()
    for name in STOOD_IN_FOR:
        monkeypatch.setitem(sys.modules, name, fake)
    return fake


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> FakeReporting:
    fake = FakeReporting()
    monkeypatch.setattr(reporting, "report", fake.report)
    monkeypatch.setattr("tadaconv.reporting.ablation.terminal.terminal_table", lambda *_, **__: "THE TABLE")
    return fake


ABLATE = ("ablate", "mini", "--regime", "small")


@pytest.mark.usefixtures("work_folder")
class TestAblate:
    def test_runs_reports_and_then_has_nothing_left_to_run(
        self, tada: Call, experiment: FakeExperiment, reports: FakeReporting
    ) -> None:
        done = tada(*ABLATE)
        assert (done.status, done.err) == (0, "")
        lines = done.out.splitlines()
        assert lines[0] == "3 cells: 0 finished before, 3 to run"
        assert [line.split(": ")[0] for line in lines[1:4]] == [
            "[1/3] TSN, seed 0", "[2/3] (1,1), seed 0", "[3/3] (3,3), seed 0"
        ]  # fmt: skip
        assert lines[4:] == ["THE TABLE", "report: runs/reports/mini-small"]
        assert reports.formats == ["html", "ipynb", "tex", "csv"]
        assert [r.status for r in reports.records] == ["finished"] * 3
        again = tada(*ABLATE)
        assert again.out.splitlines() == ["3 cells: 3 finished before, 0 to run", *lines[4:]]
        assert len(experiment.ran) == 3

    def test_the_number_of_workers_comes_first_where_the_call_leaves_it_open(
        self, tada: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[int, int]] = []

        def number(cells: Sequence[Cell], _: str, __: int, num_at_once: int) -> tuple[int, str]:
            seen.append((len(cells), num_at_once))
            return 1, "1 worker: 1 core"

        monkeypatch.setattr("tadaconv.execution.launcher.num_workers_for", number)
        assert tada(*ABLATE).out.splitlines()[:2] == ["1 worker: 1 core", "3 cells: 0 finished before, 3 to run"]
        assert tada(*ABLATE).out.splitlines()[0] == "3 cells: 3 finished before, 0 to run"
        assert tada(*ABLATE, "--workers", "1", "--seeds", "2").out.startswith("6 cells: 3 finished before, 3 to run\n")
        assert seen == [(3, 3)]
        # The first three seeds are run by now, up to one more a row at a time is to come.
        assert tada(*ABLATE, "--seeds", "2:4").status == 0
        assert seen == [(3, 3), (6, 3)]

    def test_seeds_are_continued_as_they_are_stored_and_not_otherwise(
        self, tada: Call, experiment: FakeExperiment
    ) -> None:
        """All rows have equal scores here, so none is decided; see tests/execution for those that are."""
        done = tada(*ABLATE, "--seeds", "2:3", "--smallest", "2")
        assert (
            "6 cells: 0 finished before, 6 to run, up to 9 with the seeds of comparisons that stay undecided"
            in " ".join(done.out.split())
        )
        assert [e.seed for e in experiment.ran] == [0] * 3 + [1] * 3 + [2] * 3
        again = tada(*ABLATE)
        assert (again.status, again.out.splitlines()[0]) == (0, "9 cells: 9 finished before, 0 to run")
        refused = tada(*ABLATE, "--seeds", "4")
        assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
        assert "mini-small in runs/journal.log has run all seeds of --seeds 2:3 --smallest 2, and" in refused.err
        assert len(experiment.ran) == 9

    def test_seeds_and_rows_choose_cells(self, tada: Call, experiment: FakeExperiment) -> None:
        tada(*ABLATE, "--rows", "(1,1)", "--rows", "TSN", "--seeds", "2")
        assert len(experiment.ran) == 4
        assert {e.seed for e in experiment.ran} == {0, 1}
        tada(*ABLATE, "--seeds", "2")
        assert len(experiment.ran) == 6

    def test_failed_cells_are_summed_up(self, tada: Call, experiment: FakeExperiment) -> None:
        def fails(experiment: Experiment) -> None:
            if experiment.temporal is None:
                raise RunError("the loss is not finite at step 1")

        experiment.fails = fails
        done = tada(*ABLATE)
        assert done.status == 1
        assert "THE TABLE" in done.out
        assert done.err.splitlines() == [
            "tada: 1 of 3 cells failed; the same command tries each again",
            "  TSN, seed 0: the loss is not finite at step 1",
        ]
        experiment.fails = lambda _: None
        done = tada(*ABLATE)
        assert (done.status, done.err) == (0, "")
        assert done.out.startswith("3 cells: 2 finished before, 1 to run (1 failed before, tried once more)\n")

    def test_ctrl_c_shows_how_to_resume(self, tada: Call, experiment: FakeExperiment) -> None:
        def stop(_: Experiment) -> None:
            raise KeyboardInterrupt

        experiment.fails = stop
        done = tada(*ABLATE, "--rows", "(1,1)")
        assert done.status == 130
        assert done.err == (
            "tada: stopped; finished work is kept, resume with: tada ablate mini --regime small --rows '(1,1)'\n"
        )

    @pytest.mark.parametrize("damage", [bytes(9) + b"\n{}\n", b'{"op_code":99,"worker_id":"x"}\n'])
    def test_a_journal_that_is_damaged_meanwhile_is_one_line(
        self, tada: Call, experiment: FakeExperiment, damage: bytes
    ) -> None:
        def spoil(_: Experiment) -> None:
            with Path("runs/journal.log").open("ab") as file:
                file.write(damage)

        experiment.fails = spoil
        done = tada(*ABLATE)
        assert done.status == 1
        assert done.err.startswith("tada: the journal runs/journal.log is damaged: line ")
        assert done.err.count("\n") == 1
        assert len(experiment.ran) == 1
        assert damage in Path("runs/journal.log").read_bytes(), "nothing is cut that others follow"

    def test_a_terminal_sees_a_live_table(
        self, tada: Call, monkeypatch: pytest.MonkeyPatch, experiment: FakeExperiment
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        experiment.fails = lambda _: time.sleep(0.3)  # longer than the table takes to be drawn again
        done = tada(*ABLATE)
        assert done.status == 0
        for text in ("(3,3)", "waiting", "running", "finished", "50.00", "3 of 3 cells in", "left"):
            assert text in done.out, text

    def test_folder_regimes_train_on_the_clips_of_data(
        self, tada: Call, experiment: FakeExperiment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def resolve(data: Folder, root: Path, cache: Path) -> Folder:
            return data.but(root=str(root), fingerprint=cache.as_posix(), num_classes=2)

        fake = types.ModuleType("tadaconv.data.folder")
        fake.resolve = resolve  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tadaconv.data.folder", fake)
        assert tada("ablate", "mini", "--regime", "mine", "--data", "clips").status == 0
        assert {e.data for e in experiment.ran} == {Folder(root="clips", fingerprint="runs/cache", num_classes=2)}


WRONG_CALLS = {
    "no such command: nearest first": (["reprot"], "unknown command 'reprot'; one of: report, "),
    "no such option": ([*ABLATE, "--sedes", "3"], "No such option: --sedes"),
    "no table named": (["ablate"], "Missing argument"),
    "no such table": (["ablate", "mimi"], "unknown ablation table 'mimi'; one of: mini, "),
    "no such file": (["ablate", "./mimi.py"], "no ablation table file at './mimi.py'"),
    "no such regime": (["ablate", "mini", "--regime", "smal"], "unknown regime 'smal'; one of: small, "),
    "no such row": ([*ABLATE, "--rows", "(1,2)"], "unknown row '(1,2)'; one of: (1,1), (3,3), TSN"),
    "no seeds": ([*ABLATE, "--seeds", "0"], "--seeds 0 would run no cells; give a number from 1 on"),
    "seeds not a number": (
        [*ABLATE, "--seeds", "three"],
        "--seeds three is no number of seeds; give one, such as 3, or",
    ),
    "no last number of seeds": ([*ABLATE, "--seeds", "3:"], "--seeds 3: is no number of seeds"),
    "three numbers of seeds": ([*ABLATE, "--seeds", "3:5:7"], "--seeds 3:5:7 is no number of seeds"),
    "a negative number of seeds": ([*ABLATE, "--seeds", "-3"], "--seeds -3 is no number of seeds"),
    "fewer seeds at last": (
        [*ABLATE, "--seeds", "5:3"],
        "--seeds 5:3: the last number is to be above the first; give 5:",
    ),
    "a look at one seed": ([*ABLATE, "--seeds", "1:4"], "one seed has no standard deviation to judge by; give 2:4"),
    "too many looks": ([*ABLATE, "--seeds", "3:100000"], "computed up to 100 seeds; give 3:12"),
    "no smallest difference": (
        [*ABLATE, "--smallest", "0"],
        "--smallest 0.0 is no size of a difference; give a number",
    ),
    "a negative one": ([*ABLATE, "--smallest", "-1"], "--smallest -1.0 is no size of a difference"),
    "a smallest difference of nan": ([*ABLATE, "--smallest", "nan"], "--smallest nan is no size of a difference"),
    "a smallest difference in words": ([*ABLATE, "--smallest", "one"], "Invalid value for '--smallest'"),
    "no such device": ([*ABLATE, "--device", "cuda"], "no CUDA device; use --device cpu"),
    "out is a file": ([*ABLATE, "--out", "ablations/mini.py"], "cannot write to ablations/mini.py"),
    "out cannot be made": ([*ABLATE, "--out", "/proc/runs"], "cannot write to /proc/runs"),
    "storage by URL": ([*ABLATE, "--storage", "sqlite:///x.db"], "give the path of a journal file"),
    "storage of another program": ([*ABLATE, "--storage", "ablations/mini.py"], "is not an Optuna journal"),
    "data for synthetic clips": ([*ABLATE, "--data", "."], "this regime makes its own"),
    "no data for a folder regime": (["ablate", "mini", "--regime", "mine"], "add --data DIR"),
    "report of nothing": (
        ["report", "mini", "--regime", "small"],
        "make some with: tada ablate mini --regime small, or name another storage",
    ),
    "report of what": (["report"], "a study or a benchmark to report, or report all of a storage with --all"),
    "report of all and one": (["report", "mini", "--all"], "leave it out to report mini alone"),
    "report of no row": (["report", "mini", "--seed", "0"], "name the row with --row"),
    "report of an unknown row": (["report", "mini", "--regime", "small", "--row", "(1,2)"], "unknown row '(1,2)'; one"),
    "report of an ensemble's row": (
        ["report", "k400", "--regime", "small", "--row", "TAda2D, 8 + 16 frames"],
        "is an ensemble and has no network; name one of its rows: TAda2D, 8 frames, TAda2D, 16 frames",
    ),
    "report of all by a template": (["report", "--all", "--template", "mine"], "go with a name"),
    "seeds of a search": (["study", "stage_placement", "--seeds", "3"], "--seeds counts the new seeds of --confirm"),
    "trials of a confirmation": (["study", "stage_placement", "--confirm", "2", "--trials", "9"], "one of the two"),
    "plan of a table by trials": (["plan", "mini", "--regime", "small", "--trials", "9"], "--trials is for studies"),
    "plan of a study by rows": (["plan", "stage_placement", "--rows", "x"], "--rows is for tables"),
    "unknown format": (["report", "mini", "--format", "pdf"], "unknown report format 'pdf'; one of: "),
    "unknown parameter": (["report", "mini", "-p", "clips"], "--parameter 'clips' is not NAME=VALUE"),
    "a parameter that is not there": (["report", "mini", "--regime", "small", "-p", "n=1"], "has no parameters; tag"),
    "no such template": (["report", "mini", "--regime", "small", "--template", "m"], "unknown report 'm'; one of: "),
    "no storage to report": (
        ["report", "--all"],
        "no results at runs/journal.log; make some with: tada ablate TABLE --storage runs/journal.log, ",
    ),
}


@pytest.mark.parametrize("what", WRONG_CALLS)
def test_a_wrong_call_gets_one_line_and_status_2(
    what: str, work_folder: Path, tada: Call, experiment: FakeExperiment
) -> None:
    arguments, message = WRONG_CALLS[what]
    before = (work_folder / "ablations" / "mini.py").read_text()
    done = tada(*arguments)
    assert (done.status, done.out, experiment.ran) == (2, "", [])
    assert done.err.startswith("tada: ")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert (work_folder / "ablations" / "mini.py").read_text() == before


def test_what_a_users_file_does_wrong_is_one_line(work_folder: Path, tada: Call) -> None:
    for wrong in ("TABLE = 1", "1 / 0", "def", "from tadaconv.spec import TAda\nTAda(contxt=1)"):
        (work_folder / "ablations" / "mini.py").write_text(wrong)
        done = tada(*ABLATE)
        assert (done.status, done.err.count("\n")) == (2, 1), wrong


class TestWorker:
    @pytest.mark.usefixtures("work_folder")
    def test_helps_with_what_is_queued(self, tada: Call, experiment: FakeExperiment) -> None:
        store = Store.open("runs/journal.log")
        rows = load_table("mini").table.cells(load_regime("small"), [0])
        plan(store, "mini-small", rows, [0, 1])
        done = tada("worker")
        assert (done.status, done.err) == (0, "")
        assert done.out.splitlines()[-1] == "6 cells run here"
        assert len(experiment.ran) == 6
        assert tada("worker").out == "0 cells run here\n"
        assert {record.status for record in store.records("mini-small")} == {"finished"}

    @pytest.mark.usefixtures("work_folder")
    def test_a_missing_storage_is_named(self, tada: Call) -> None:
        done = tada("worker", "--storage", "nowhere.log")
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert "nowhere.log" in done.err


def test_options_of_computing_reach_the_workers(tmp_path: Path) -> None:
    plain = CrewOptions(device="cpu").crew("j.log", tmp_path).call.options
    assert plain == RunOptions()
    asked = CrewOptions(precision="float32", compile=True, fused_kernels=True, executor="slurm")
    assert asked.crew("j.log", tmp_path).call.options == RunOptions(
        precision="float32", compile=True, fused_kernels=True
    )


@pytest.mark.parametrize("command", [("worker",), ("ablate", "mini", "--regime", "small")])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--workers", "0"), "'--workers'"),
        (("--executor", "rey"), "'rey'; one of: ray"),
        (("--executor-option", "partition=gpu"), "partition"),
        (("--executor", "ray", "--executor-option", "cpus"), "NAME=VALUE"),
    ],
)
def test_wrong_workers_are_one_line(
    work_folder: Path, tada: Call, command: tuple[str, ...], options: tuple[str, ...], named: str
) -> None:
    done = tada(*command, *options)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert named in done.err
    assert not (work_folder / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker", "--storage", "postgresql+psycopg://me:hush%21@host/db"),
        ("worker", "--storage=postgresql://me:hush@host/db?sslmode=disable"),
        ("ablate", "nonesuch", "--storage", "postgres://host/db?user=me&password=hush"),
        ("merge", "mysql://me:hush@host/db"),
        ("nonesuch", "postgresql://me:hu/sh@host/db"),
    ],
)
def test_a_password_in_a_url_is_refused_and_never_shown(tada: Call, arguments: tuple[str, ...]) -> None:
    done = tada(*arguments)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert "put it into PGPASSWORD or ~/.pgpass instead" in done.err
    assert "hu" not in done.err


@pytest.mark.usefixtures("work_folder")
def test_report_writes_the_formats_asked_for(tada: Call, reports: FakeReporting) -> None:
    tada(*ABLATE)
    done = tada("report", "mini", "--regime", "small", "--format", "csv, tex")
    assert (done.status, reports.formats) == (0, ["csv", "tex"])
    assert done.out.splitlines() == ["THE TABLE", "report: runs/reports/mini-small"]


@pytest.fixture
def folder_table(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table as one that names ``mine``, a regime of a folder of clips, which are there wherever they are named."""
    table = work_folder / "ablations" / "mini.py"
    table.write_text(TABLE.replace("rows=[", 'regime="mine", rows=['))

    def resolve(data: Folder, root: Path, cache: Path) -> Folder:
        return data.but(root=str(root), fingerprint=cache.as_posix(), num_classes=2)

    fake = types.ModuleType("tadaconv.data.folder")
    fake.resolve = resolve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tadaconv.data.folder", fake)
    return table


@pytest.mark.usefixtures("folder_table")
def test_a_table_is_run_in_its_own_regime_where_the_clips_are_given(tada: Call, experiment: FakeExperiment) -> None:
    done = tada("ablate", "mini", "--data", "clips")
    assert done.err.splitlines()[0] == "regime mine, which the table names; choose another with --regime NAME"
    assert {each.data.root for each in experiment.ran if isinstance(each.data, Folder)} == {"clips"}
    assert "mini-mine" in done.out
    again = tada("report", "mini")
    assert again.out.splitlines()[-1] == "report: runs/reports/mini-mine"
    assert again.err.splitlines()[0].startswith("regime mine, which")
    num_ran = len(experiment.ran)
    named = tada("ablate", "mini", "--regime", "small")
    assert "regime" not in named.err
    assert {each.data.kind for each in experiment.ran[num_ran:]} == {"synthetic"}


def test_without_its_clips_a_table_is_run_in_the_quick_regime(
    folder_table: Path, tada: Call, experiment: FakeExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tada("ablate", "mini")
    said = "regime quick: the table's own is mine, and "
    assert done.err.splitlines()[0] == f"{said}its clips are not given (--data DIR)"
    assert {each.schedule for each in experiment.ran} == {load_regime("quick").schedule}
    with monkeypatch.context() as patched:
        patched.setattr("tadaconv.preview.check", checked := Mock(side_effect=UserError("checked")))
        line = f"{said}a check reads no clips; choose it with --regime"
        assert tada("check", "mini").err.splitlines() == [line, "tada: checked"]
    assert checked.call_args.args[1] == load_regime("quick")
    assert tada("report", "mini").err.splitlines()[0] == f"{said}it has no results"
    folder_table.write_text(folder_table.read_text().replace('"mine"', '"small"'))  # makes its own clips
    assert tada("ablate", "mini").err.splitlines()[0].startswith("regime small, which the table names")


@pytest.mark.usefixtures("experiment")
def test_a_table_with_an_unknown_regime_is_named(work_folder: Path, tada: Call) -> None:
    (work_folder / "ablations" / "mini.py").write_text(TABLE.replace("rows=[", 'regime="quik", rows=['))
    for data in ([], ["--data", "clips"]):
        done = tada("ablate", "mini", *data)
        assert done.status == 2
        assert "table 'mini' names a regime that cannot be used: unknown regime 'quik'" in done.err
    assert tada("ablate", "mini", "--regime", "small").status == 0


RECIPES = """

from tadaconv.regime import Recipe

REGIME = REGIME.but(recipes=(
    Recipe(num_frames=8, origin="ours", changes={}),
    Recipe(origin="ours", changes={"schedule__lr": 0.2}),  # the first has taken every row
    Recipe(backbones=("resnet-50",), num_frames=1, origin="ours", changes={}),
    Recipe(backbones=("convnext_tiny",), num_frames=1, origin="ours", changes={}),
))
"""


def test_reports_are_made_with_the_regime_itself(work_folder: Path, tada: Call, reports: FakeReporting) -> None:
    small = work_folder / "regimes" / "small.py"
    words = '{"data": "a set", "num_frames": 8, "views": "one"}'
    small.write_text(f"{small.read_text()}\nREGIME = REGIME.but(published=[{words}])\n")
    for call in (("ablate", "mini"), ("report", "mini"), ("report", "--all")):
        reports.around = {}
        assert tada(*call, *(["--regime", "small"] if "--all" not in call else [])).status == 0
        assert reports.around["regime"].published[0].data == "a set"


@pytest.mark.usefixtures("experiment")
def test_recipes_that_train_no_row_are_printed_once(work_folder: Path, tada: Call) -> None:
    small = work_folder / "regimes" / "small.py"
    assert "recipe" not in tada("ablate", "mini", "--regime", "small").err
    small.write_text(small.read_text() + RECIPES)
    done = tada("ablate", "mini", "--regime", "small")
    assert done.status == 0
    said = "regime small: no row of mini is trained with its recipes for every backbone; resnet-50, 1 frame"
    assert "convnext" not in done.err  # which is a backbone, of other tables
    assert done.err.splitlines().count(said) == 1
    assert said in tada("plan", "mini", "--regime", "small", "--data", "clips").err  # before anything is measured


class TestList:
    def test_json_is_one_document_that_names_everything(self, work_folder: Path, tada: Call) -> None:
        (work_folder / "ablations" / "broken.py").write_text("1 / 0")
        (work_folder / "studies").mkdir()
        (work_folder / "studies" / "where.py").write_text('"""Where should it stand?"""\nimport nothing_of_this_name')
        content = json.loads(tada("list", "--json").out)
        named = {kind: {entry["name"]: entry for entry in entries} for kind, entries in content.items()}
        assert named["tables"]["mini"] == {"name": "mini", "summary": "Does the mini table run?", "rows": 3}
        assert "division by zero" in named["tables"]["broken"]["summary"]
        assert named["studies"]["where"]["summary"] == "Where should it stand?"
        assert named["regimes"]["small"]["summary"] == "the small one"
        assert {"resnet50"} <= named["backbones"].keys()
        assert named["datasets"].keys() == {"synthetic", "untrimmed", "folder", "features"}

    @pytest.mark.usefixtures("work_folder")
    def test_the_same_names_are_there_to_read(self, tada: Call) -> None:
        done = tada("list")
        assert done.status == 0
        content = json.loads(tada("list", "--json").out)
        assert sum(map(len, content.values())) > 40
        for kind, entries in content.items():
            assert kind in done.out
            assert all(entry["name"] in done.out for entry in entries)


@pytest.mark.parametrize("command", [c.name or c.callback.__name__ for c in cli.app.registered_commands])
def test_every_help_has_an_example_that_parses(command: str, tada: Call) -> None:
    done = tada(command, "--help")
    assert done.status == 0
    assert f"Example: tada {command}" in done.out


@pytest.mark.parametrize("columns", ["50", "80", "200"])
@pytest.mark.parametrize("command", ["", "data", "data check", "data pack", "bench op", "list", "ablate", "report"])
def test_a_flag_shows_no_type_in_the_help(
    command: str, columns: str, tada: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = tada(*command.split(), "--help").out
    assert "--help" in shown
    assert "bool" not in shown.lower()
    if command == "report":  # what takes a value says which
        assert "<str>" in shown


def test_tada_alone_shows_its_commands(tada: Call) -> None:
    done = tada()
    assert (done.status, done.err) == (0, "")
    assert "ablate" in done.out


LETTERS = "\u00e9 \u2717 \u8868 \U0001f600 \udcff"


@dataclass(frozen=True)
class Printed:
    """What came of a call; ``out`` is None where standard output could not be read afterwards."""

    status: int
    out: str | None
    err: str


@pytest.fixture
def into(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Printed]:
    """Calls ``tada`` with standard output in a file of one encoding, on a full disk, or in a pipe nobody reads."""

    def call(place: str, *arguments: str) -> Printed:
        number, file = None, tmp_path / "printed"
        if place == "a closed pipe":
            end, number = os.pipe()
            os.close(end)
        encoding = "utf-8" if place.startswith(("a ", "/")) else place
        name = number if number is not None else place if place.startswith("/") else file
        with monkeypatch.context() as patched, open(name, "w", encoding=encoding, newline="") as stream:  # noqa: PTH123
            patched.setattr(sys, "stdout", stream)
            with pytest.raises(SystemExit) as exited:
                cli.main(arguments)
            assert sys.stdout is stream
        out = file.read_text(encoding=encoding) if name is file else None
        return Printed(status=int(exited.value.code or 0), out=out, err=capsys.readouterr().err)

    return call


ENCODINGS = ["latin-1", "ascii", "cp1252", "koi8-r", "shift_jis", "utf-8", "utf-16"]


@pytest.mark.usefixtures("work_folder")
class TestOutput:
    @pytest.mark.parametrize("terminal", [False, True])
    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_what_an_encoding_lacks_is_shown_by_substitutes_and_the_report_is_written(
        self,
        encoding: str,
        terminal: bool,
        into: Callable[..., Printed],
        monkeypatch: pytest.MonkeyPatch,
        reports: FakeReporting,
    ) -> None:
        if terminal:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(
            "tadaconv.reporting.ablation.terminal.terminal_table", lambda *_, **__: f"{LETTERS} \u22121.0 \u0394 base"
        )
        done = into(encoding, *ABLATE)
        assert (done.status, done.err, reports.formats) == (0, "", ["html", "ipynb", "tex", "csv"])
        assert done.out is not None
        for letter in LETTERS.split():
            try:
                shown = letter.encode(encoding).decode(encoding)
            except UnicodeEncodeError:
                shown = letter.encode("ascii", "backslashreplace").decode()
            assert shown in done.out
        if encoding in ("ascii", "latin-1", "cp1252"):
            assert "-1.0 D base" in re.sub(r"\x1b\[[\d;]*m", "", done.out)
            assert "\\u28" not in done.out
            assert "\\u25" not in done.out
        assert f"report: runs{os.sep}reports" in done.out

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "koi8-r"])
    def test_help_is_shown_in_every_encoding(self, encoding: str, into: Callable[..., Printed]) -> None:
        done = into(encoding, "ablate", "--help")
        assert (done.status, done.err) == (0, "")
        assert "Example: tada ablate" in str(done.out)
        assert "\\u" not in str(done.out)

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_json_is_the_same_document_in_every_encoding(self, encoding: str, into: Callable[..., Printed]) -> None:
        class Named(BaseModel):
            name: str = f'{LETTERS[:-2]} \u22121 \\ " \n \x7f'

        from tadaconv.cli.output import print_json

        app = cli.app
        num_commands = len(app.registered_commands)
        app.command("named")(lambda: print_json(Named().model_dump_json(indent=2)))
        try:
            done = into(encoding, "named")
        finally:
            del app.registered_commands[num_commands:]
        assert (done.status, done.err) == (0, "")
        assert json.loads(str(done.out)) == Named().model_dump()

    def test_a_full_disk_under_standard_output_costs_no_report(
        self, into: Callable[..., Printed], reports: FakeReporting, experiment: FakeExperiment
    ) -> None:
        done = into("/dev/full", *ABLATE)
        assert (len(experiment.ran), reports.formats) == (3, ["html", "ipynb", "tex", "csv"])
        assert done.status == 1
        assert done.err == (
            "tada: standard output could not be written: No space left on device; results and reports are kept\n"
        )
        assert into("/dev/full", "list", "--json").status == 1
        assert into("/dev/full", "lst").status == 2

    def test_a_reader_that_has_gone_ends_no_run(
        self, into: Callable[..., Printed], reports: FakeReporting, experiment: FakeExperiment
    ) -> None:
        done = into("a closed pipe", *ABLATE)
        assert (done.status, done.err) == (0, "")
        assert (len(experiment.ran), reports.formats) == (3, ["html", "ipynb", "tex", "csv"])

        def fails(_: Experiment) -> None:
            raise RunError("no")

        experiment.fails = fails
        assert into("a closed pipe", *ABLATE, "--seeds", "2").status == 1

    def test_a_full_pipe_that_does_not_block_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tadaconv.cli.output import lasting_output

        end, start = os.pipe()
        os.set_blocking(start, False)
        with open(end, encoding="utf-8") as reader, open(start, "w", encoding="utf-8") as writer:  # noqa: PTH123
            monkeypatch.setattr(sys, "stdout", writer)
            read: list[str] = []
            thread = threading.Thread(target=lambda: read.append(reader.read(300_000)))
            thread.start()
            with lasting_output() as output:
                print("x" * 300_000, end="")
                assert output.lost() is None
            thread.join()
        assert read == ["x" * 300_000]

    def test_standard_output_that_is_closed_ends_no_run(
        self, tada: Call, monkeypatch: pytest.MonkeyPatch, reports: FakeReporting
    ) -> None:
        monkeypatch.setattr(sys, "stdout", None)  # as Python has it where the process was started without one
        assert tada(*ABLATE).status == 0
        assert reports.formats

    @pytest.mark.parametrize("closed", ["pipe", "full"])
    def test_the_interpreter_prints_nothing_as_it_ends(self, closed: str) -> None:
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            process = subprocess.Popen(
                [sys.executable, "-m", "tadaconv", "list", "--json"],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
                stdout=subprocess.PIPE if closed == "pipe" else full,
                stderr=subprocess.PIPE,
            )
        if process.stdout is not None:
            process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read().decode()
        process.stderr.close()
        assert process.wait() == (0 if closed == "pipe" else 1)
        assert err.count("\n") == (0 if closed == "pipe" else 1), err


def test_a_missing_current_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tada: Call) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for command in (["list"], list(ABLATE), ["report", "--all"]):
        done = tada(*command)
        assert (done.status, done.out) == (2, "")
        assert done.err == "tada: the current folder cannot be used: No such file or directory; change to another one\n"


@pytest.mark.parametrize("module", ["tadaconv.cli", "typer", "pydantic", "tadaconv.cli.output", "tadaconv.execution"])
def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path: Path, module: str) -> None:
    """Before the command begins even where a library makes an error of its own of what interrupts its import."""
    raised = "error" if module == "tadaconv.execution" else "ImportError('torn')"
    (tmp_path / "program.py").write_text(
        "import os, runpy, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            try:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "            except KeyboardInterrupt as error:\n"
        f"                raise {raised}\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['tada', 'worker', '--storage', 'none.log']\n"
        "runpy.run_module('tadaconv', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("tada: stopped")
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("closed", [(1,), (0, 1), (0, 1, 2)])
def test_processes_that_are_started_find_all_standard_streams_open(closed: tuple[int, ...], tmp_path: Path) -> None:
    """As the kernel of a report, where a daemon or ``>&-`` has closed some of them."""
    inner = "import os; [os.fstat(descriptor) for descriptor in (0, 1, 2)]; open('open', 'w').close()"
    outer = (
        f"import os, subprocess, sys; [os.close(descriptor) for descriptor in {closed}]\n"
        "from tadaconv.__main__ import open_streams; open_streams()\n"
        f"sys.exit(subprocess.run([sys.executable, '-c', {inner!r}], close_fds=True).returncode)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", outer], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert (tmp_path / "open").exists()


def test_python_m_is_the_command(tmp_path: Path) -> None:
    ran = [
        subprocess.run(
            [sys.executable, *program, "cost", "--frames", "0"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
        for program in (["-m", "tadaconv"], ["-c", "from tadaconv.cli import main; main()"])
    ]
    assert {(done.returncode, done.stdout, done.stderr) for done in ran} == {(2, "", ran[0].stderr)}
    assert ran[0].stderr.startswith("tada: ")


def test_a_process_interrupted_and_killed_goes_on_with_the_same_command(work_folder: Path) -> None:
    (work_folder / "experiment.py").write_text(EXPERIMENT)
    (work_folder / "program.py").write_text(
        f"import sys, experiment\nsys.modules.update(dict.fromkeys({STOOD_IN_FOR}, experiment))\n"
        "from tadaconv import cli, reporting\nfrom tadaconv.reporting.ablation import terminal\n"
        "reporting.report = lambda *arguments, **_: arguments[3]\nterminal.terminal_table = lambda *_, **__: ''\n"
        "cli.main()\n"
    )
    command = [sys.executable, "program.py", *ABLATE, "--workers", "1"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    for stop, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_until(lambda: (work_folder / "sleeping").exists() or process.poll() is not None)  # noqa: B023
        assert process.poll() is None
        process.send_signal(stop)
        _, err = process.communicate(timeout=30)
        assert process.returncode == status
        assert b"Traceback" not in err
        (work_folder / "sleeping").unlink()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("3 cells: 1 finished before, 2 to run (2 queued or started before)\n")
    assert "died; the cell was requeued" in done.stdout
    keys = (work_folder / "log").read_text().split()
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [1, 2, 2]


def test_a_finished_table_is_reported_without_torch(work_folder: Path, tada: Call) -> None:
    tada(*ABLATE)
    program = (
        "import sys\nfrom tadaconv import cli, reporting\nfrom tadaconv.reporting.ablation import terminal\n"
        "reporting.report = lambda *arguments, **_: arguments[3]\n"
        "terminal.terminal_table = lambda *_, **__: ''\n"
        "try:\n    cli.main()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program, *ABLATE], cwd=work_folder, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_a_report_never_shows_a_result_under_a_changed_row(
    work_folder: Path, tada: Call, reports: FakeReporting
) -> None:
    """Rows are matched by key: what an edited row had is kept in the storage, and not shown as the new row's."""
    assert tada("ablate", "mini", "--regime", "small").status == 0
    assert {record.cell.label for record in reports.records} == {"TSN", "(1,1)", "(3,3)"}
    (work_folder / "ablations/mini.py").write_text(TABLE.replace("kernels=(1, 1)", "kernels=(1,)"))
    assert tada("report", "mini", "--regime", "small").status == 0
    assert {record.cell.label for record in reports.records} == {"TSN", "(3,3)"}
    assert reports.around["context"].left_out == {"changed": 1}
    regime = work_folder / "regimes/small.py"
    regime.write_text(regime.read_text().replace("lr=0.1", "lr=0.2"))
    done = tada("report", "mini", "--regime", "small")
    assert (done.status, "no results of mini in the regime small yet" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            TABLE.replace('Row("TSN", None)', 'Row("TSN", "none")'),
            "row 'TSN': temporal is a TAda, a Rival or None",
        ),
        (TABLE.replace('Row("TSN", None)', 'Row("", None)'), "a row's name must be one line of text, not ''"),
        (TABLE.replace('Row("TSN", None)', "None"), "a table's base and rows must be Row(...), not None"),
        ("import sys\nsys.exit(3)\n", "cannot be loaded: SystemExit: 3"),
    ],
)
def test_a_wrong_table_is_named_in_one_line(
    table: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.py").write_text(table)
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", str(tmp_path / "wrong.py")])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tada: {tmp_path}/wrong.py")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--out", ""), ("--out=",)])
def test_an_empty_folder_is_refused(tada: Call, arguments: Sequence[str]) -> None:
    done = tada("report", "--all", *arguments)
    assert (done.status, done.err) == (2, "tada: --out is empty; name a folder\n")


def test_a_path_that_may_not_be_read_is_one_line(tada: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    is_file = Path.is_file

    def refused(path: Path) -> bool:
        if path.parent.name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    done = tada("cost", "secret/table.py")
    assert done.status == 2
    assert done.err == "tada: secret/table.py: Permission denied; change its permissions, or name another path\n"


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_executor_that_is_not_installed_is_refused_before_anything_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"--executor {executor} needs {package}: pip install"):
        CrewOptions(executor=executor).crew("journal.log", tmp_path)


def test_a_row_of_a_benchmark_is_refused(tada: Call, tmp_path: Path) -> None:
    done = tada("report", str(tmp_path), "--row", "x")
    assert done.status == 2
    assert "--row is for tables" in done.err
