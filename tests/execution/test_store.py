"""Which files are opened, what a torn or damaged journal does, and what is never written over."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import fake_cells
import optuna
import pytest
from fake_cells import ROWS, FakeRun, ablate
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial

from tadaconv.errors import RunError, StorageError, UserError
from tadaconv.execution import journal
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a table that another process finished: that it has ended is known at once, not by its lease."""
    folder = tmp_path_factory.mktemp("finished")
    program = Path(fake_cells.__file__)
    subprocess.run([sys.executable, program.name, folder, "on"], check=True, cwd=program.parent, timeout=60)
    return (folder / "journal.log").read_bytes()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_journal_torn_anywhere_loses_nothing_before_the_tear(finished: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(finished)))
    whole = finished[: finished.rfind(b"\n", 0, cut) + 1]
    with TemporaryDirectory() as folder:
        path = Path(folder, "journal.log")
        path.write_bytes(whole)
        expected = Store.open(str(path)).attempts()
        path.write_bytes(finished[:cut])
        torn = Store.open(str(path))
        assert torn.attempts() == expected
        assert path.read_bytes() == finished[:cut], "reading mends nothing"
        plan(torn, "other-quick", ROWS[:1], [0])
        assert path.read_bytes().startswith(whole)
        assert Store.open(str(path)).attempts() == torn.attempts()
        assert Store.open(str(path)).records("other-quick")
        ablate(torn, "t-quick", FakeRun(Path(folder, "log")))
        assert {r.status for r in Store.open(str(path)).records("t-quick")} == {"finished"}


def test_a_torn_line_longer_than_a_block_is_cut_off_too(store: Store, fake_run: FakeRun) -> None:
    ablate(store, "t-quick", fake_run)
    whole = Path(store.shown).read_bytes()
    with Path(store.shown).open("ab") as file:
        file.write(b'{"op_code":1,"worker_id":"' + b"x" * 200_000)
    ablate(Store.open(store.shown), "t-quick", fake_run, seeds=range(2))
    assert Path(store.shown).read_bytes().startswith(whole + b'{"op_code":')


def test_the_lock_of_a_killed_writer_is_released(store: Store, fake_run: FakeRun) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from tadaconv.execution.journal import _locked\n"
        "with _locked(Path(f'{sys.argv[1]}.write')):\n"
        "    print('held', flush=True); signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, store.shown], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    waiting = threading.Thread(target=lambda: ablate(store, "t-quick", fake_run), daemon=True)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive(), "it waits for the lock"
    process.kill()
    waiting.join(20)
    assert not waiting.is_alive()
    process.wait()
    process.stdout.close()
    assert [r.status for r in store.records("t-quick")] == ["finished"] * 3


def sqlite_file(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table trials (id integer)")
    connection.close()


FOREIGN = {
    "text": lambda path: path.write_text("hello\n"),
    "text without a newline": lambda path: path.write_text("hello"),
    "json": lambda path: path.write_text('{"op_code": "sell"}\n'),
    "json list": lambda path: path.write_text("[1, 2]\n"),
    "json lines": lambda path: path.write_text('{"step":1}\n{"step":2}\n'),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "sqlite": sqlite_file,
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("create", [True, False])
def test_a_file_of_another_program_is_named_and_left_alone(tmp_path: Path, kind: str, create: bool) -> None:
    path = tmp_path / "theirs"
    FOREIGN[kind](path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"theirs is not an Optuna journal") as caught:
        Store.open(str(path), create=create)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("line", [b"garbage\n", b'{"op_code":4}\n', b"[]\n", b'{"op_code":99,"worker_id":"x"}\n'])
def test_a_damaged_journal_is_named(tmp_path: Path, finished: bytes, line: bytes) -> None:
    path = tmp_path / "journal.log"
    first = finished.index(b"\n") + 1
    path.write_bytes(finished[:first] + line + finished[first:])
    with pytest.raises(UserError, match=r"journal\.log is damaged") as caught:
        Store.open(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:///runs.db", "mysql://host/db", "redis://host"])
def test_urls_are_refused_with_what_is_supported(url: str) -> None:
    with pytest.raises(UserError, match="journal file"):
        Store.open(url)


def test_places_that_cannot_be_written_or_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for location in (str(tmp_path / "file" / "journal.log"), "/proc/journal.log", str(tmp_path)):
        with pytest.raises(UserError, match=location):
            Store.open(location)
    with pytest.raises(UserError, match=r"make some with: tada ablate TABLE --storage /.*/none\.log, or name"):
        Store.open(str(tmp_path / "none.log"), create=False)
    assert not (tmp_path / "none.log").exists()


def test_a_planning_lock_that_cannot_be_taken_is_reported_in_one_line(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    (tmp_path / "journal.log.plan").mkdir()
    with pytest.raises(StorageError, match=r"cannot write to the storage .*journal\.log: Is a directory"):
        store.requeue_ended()


def test_a_full_disk_is_reported_in_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal._File, "append_logs", full)
    with pytest.raises(RunError, match=r"cannot write to the storage .*journal.log: No space left on device"):
        plan(store, "t-quick", ROWS, [0])


def test_a_read_that_failed_half_way_is_complete_the_next_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(Store.open(store.shown), "t-quick", ROWS, range(2))
    read, failures = JournalStorage.get_trial, [2, 4]

    def failing(self: JournalStorage, trial_id: int) -> FrozenTrial:
        if trial_id in failures:
            failures.remove(trial_id)
            raise StorageError("cannot read the storage")
        return read(self, trial_id)

    monkeypatch.setattr(JournalStorage, "get_trial", failing)
    for _ in range(2):
        with pytest.raises(StorageError, match="cannot read"):
            store.attempts()
    assert store.attempts() == Store.open(store.shown).attempts()
    assert len(store.attempts()) == 2 * len(ROWS)


def test_trials_carry_their_cell_and_no_parameters(store: Store, fake_run: FakeRun) -> None:
    ablate(store, "t-quick", fake_run)
    for trial, cell in zip(
        optuna.load_study(storage=store.backend.storage, study_name="t-quick").trials, ROWS, strict=True
    ):
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert trial.params == trial.distributions == {}
        assert trial.user_attrs["cell"] == cell.key
        assert trial.user_attrs["spec"] == json.loads(cell.experiment.model_dump_json())
        assert trial.value == trial.user_attrs["result"]["top1"]


def test_a_study_never_planned_has_no_records(store: Store) -> None:
    with pytest.raises(UserError, match="has no plan of t-quick"):
        store.records("t-quick")


def test_a_plan_of_another_version_is_refused(store: Store) -> None:
    plan(store, "t-quick", ROWS, [0])
    Path(store.shown).write_bytes(Path(store.shown).read_bytes().replace(b'"num_train"', b'"num_clips"'))
    with pytest.raises(UserError, match="another version of tadaconv"):
        Store.open(store.shown).records("t-quick")


def test_nothing_is_printed(tmp_path: Path) -> None:
    imports = "from tadaconv.execution.planner import plan; from tadaconv.execution.store import Store; "
    code = imports + "plan(Store.open('j'), 's', [], [0])"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
