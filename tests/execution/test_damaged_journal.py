"""Lines of a journal that hold no entry: the last one is cut, any other is damage, and no entry is ever lost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tadaconv import cli
from tadaconv.errors import StorageError, UserError
from tadaconv.execution import journal
from tadaconv.execution.journal import _entry, _locked
from tadaconv.execution.lease import Reaper
from tadaconv.execution.store import Store


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a study with two attributes: three lines."""
    path = tmp_path_factory.mktemp("valid") / "journal.log"
    Store.open(str(path)).set_study_attr("first", "name", "value of some length")
    return path.read_bytes()


def attrs(path: Path, study: str) -> dict[str, object]:
    """What plain Optuna reads of a study, a second reader of the same format."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    return storage.get_study_user_attrs(storage.get_study_id_from_name(study))


NO_ENTRY = {
    "blank": b"\n",
    "blank lines": b"\n \r\n\t\n",
    "spaces": b"   ",
    "half an entry": b'{"op_code":2,"worker_id":"x","study_id":0,"user_a\n',
    "half an entry, torn": b'{"op_code":2,"worker_id":"x","study_id":0,"user_a',
    "half an entry and blank lines": b'{"op_code":2,"wor\n\n\n',
    "half a line ending": b'{"op_code":2,"worker_id":"x","study_id":0,"user_attr":{"a":1}}\r',
    "no object": b"[1]\n",
    "no operation": b'{"step":1}\n',
    "zeros": bytes(300) + b"\n",
    "not UTF-8": b"\xff\xfe\n",
    "UTF-16": '{"op_code":2,"worker_id":"x"}'.encode("utf-16") + b"\n",
    "deep": b"[" * 100_000 + b"\n",
    "a number without end": b"9" * 5000 + b"\n",
}


@pytest.mark.parametrize("kind", NO_ENTRY)
def test_a_last_line_without_an_entry_is_skipped_and_cut_off_by_the_next_writer(
    kind: str, tmp_path: Path, valid: bytes
) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(valid + NO_ENTRY[kind])
    reader, store = Store.open(str(path)), Store.open(str(path))
    assert store.study_attrs("first")["name"] == "value of some length"
    assert path.read_bytes() == valid + NO_ENTRY[kind], "reading mends nothing"
    store.set_study_attr("second", "name", 1)
    assert path.read_bytes().startswith(valid + b'{"op_code":')
    for each in (store, reader, Store.open(str(path))):
        assert each.study_attrs("second")["name"] == 1
    assert attrs(path, "second")["name"] == 1


@pytest.mark.parametrize("kind", [kind for kind, line in NO_ENTRY.items() if line.endswith(b"\n")])
def test_such_a_line_before_an_entry_is_damage_and_is_named_by_its_number(
    kind: str, tmp_path: Path, valid: bytes
) -> None:
    path = tmp_path / "journal.log"
    first, *rest = valid.splitlines(keepends=True)
    path.write_bytes(first + NO_ENTRY[kind] + b"".join(rest))
    before = path.read_bytes()
    with pytest.raises(
        UserError, match=r"journal\.log is damaged: line 2 is no entry, and other lines follow; restore it"
    ):
        Store.open(str(path))
    assert path.read_bytes() == before


def test_entries_that_end_as_on_windows_are_read(tmp_path: Path, valid: bytes) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(valid.replace(b"\n", b"  \r\n"))
    store = Store.open(str(path))
    store.set_study_attr("second", "name", 1)
    assert path.read_bytes().startswith(valid.replace(b"\n", b"  \r\n"))
    assert attrs(path, "first")["name"] == "value of some length"
    assert attrs(path, "second")["name"] == 1


pieces = st.sampled_from([b"\n", b" ", b"\r\n", b"\0", b"\xff", b"{", b'{"op_code":2,"worker_id":"x"}', b"null", b"[]"])


@given(st.lists(st.one_of(pieces, st.binary(max_size=9)), max_size=8).map(b"".join), st.integers(0, 400))
@example(b'{"op_code":99,"worker_id":"x"}\n', 400)
def test_whatever_bytes_follow_a_journal_no_entry_is_lost(valid: bytes, after: bytes, cut: int) -> None:
    """Every writer either goes on behind the whole entries, or refuses and changes no byte."""
    kept = valid[: valid.rfind(b"\n", 0, cut) + 1]
    with TemporaryDirectory() as folder:
        path = Path(folder, "journal.log")
        path.write_bytes(kept)
        known = Store.open(str(path)).studies()
        open_before = Store.open(str(path))  # wrote nothing yet, and has read what is whole
        path.write_bytes(kept + after)
        for opened in (lambda: Store.open(str(path)), lambda: open_before):
            before = path.read_bytes()
            try:
                store = opened()
                store.set_study_attr("added", "name", store is open_before)
            except (UserError, StorageError) as error:
                assert "\n" not in str(error), error  # noqa: PT017 - either of two ends is right
                assert path.read_bytes() == before
            else:
                assert path.read_bytes().startswith(kept)
                assert Store.open(str(path)).study_attrs("added")["name"] == (store is open_before)
                assert set(known) <= set(Store.open(str(path)).studies())
                assert attrs(path, "added")["name"] == (store is open_before)


WRITER = """
import sys
from tadaconv.execution.store import Store
store = Store.open(sys.argv[1])
print(flush=True)
for number in range(40):
    store.set_study_attr(sys.argv[2], str(number), number)
"""


def test_last_lines_that_appear_while_several_write_are_cut_and_no_entry_is_lost(tmp_path: Path, valid: bytes) -> None:
    """A writer that dies leaves its line while others write: here a thread adds half lines under the writers' lock."""
    path = tmp_path / "journal.log"
    path.write_bytes(valid)
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in ("one", "two")]
    reader = Store.open(str(path))
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.stdout.close()
    lines = list(NO_ENTRY.values())
    number = 0
    while any(writer.poll() is None for writer in writers):
        with _locked(path.with_name("journal.log.write")), path.open("ab") as file:
            *_, last = path.read_bytes().splitlines(keepends=True)
            file.write(lines[number % len(lines)] if _entry(last) is not None else b"")
        reader.studies()
        number += 1
    assert [writer.returncode for writer in writers] == [0, 0]
    reader.set_study_attr("last", "name", number)
    for name in ("one", "two"):
        expected = {"format": 2, **{str(number): number for number in range(40)}}
        assert reader.study_attrs(name) == Store.open(str(path)).study_attrs(name) == attrs(path, name) == expected


def test_a_dead_line_that_is_cut_while_it_is_read_is_no_damage(
    tmp_path: Path, valid: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has the beginning of the line in its buffer; what follows comes from the entries in its place."""
    path = tmp_path / "journal.log"
    path.write_bytes(valid)
    reader, writer = Store.open(str(path)), Store.open(str(path))
    writer.set_study_attr("first", "unread", True)
    with path.open("ab") as file:
        file.write(NO_ENTRY["deep"])
    is_cut = False

    def parse_and_cut(line: bytes) -> object:
        nonlocal is_cut
        if not is_cut:  # the reader's first line: nothing but the head of the file is in its buffer
            is_cut = True
            for number in range(200):
                writer.set_study_attr("first", "long", [number] * 1000)
        return _entry(line)

    monkeypatch.setattr(journal, "_entry", parse_and_cut)
    assert reader.study_attrs("first") == attrs(path, "first")
    assert is_cut
    assert b"[[" not in path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda whole: whole + b"\0\n" + whole.splitlines(keepends=True)[-1],
            "line 4 is no entry, and other lines follow",
        ),
        (lambda whole: whole + b'{"op_code":99,"worker_id":"x"}\n', "line 4 cannot be replayed"),
        (lambda whole: whole + b'{"op_code":4,"worker_id":"x"}\n', r"line 4 cannot be replayed \(KeyError: 'study_id'"),
        (lambda whole: whole[: len(whole) // 2], "it ends before line 3, which was read"),
    ],
)
def test_damage_during_a_run_makes_every_read_and_write_raise(
    damage: Callable[[bytes], bytes], message: str, tmp_path: Path, valid: bytes
) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(valid)
    store = Store.open(str(path))
    path.write_bytes(damage(valid))
    for ask in (store.studies, Reaper(store).observe, lambda: store.study_attrs("first"), store.attempts):
        with pytest.raises(StorageError, match=f"damaged: {message}"):
            ask()
    with pytest.raises(StorageError, match=message):
        store.set_study_attr("first", "name", 2)
    assert path.read_bytes() == damage(valid)


def test_a_journal_that_was_removed_is_not_created_by_a_writer(tmp_path: Path, valid: bytes) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(valid)
    store = Store.open(str(path))
    path.unlink()
    with pytest.raises(StorageError, match=r"cannot read the storage .*journal\.log: No such file"):
        store.studies()
    with pytest.raises(StorageError, match="No such file"):
        store.make_study("second")
    assert not path.exists()


@pytest.mark.parametrize(
    "command",
    [
        ("export", "--storage", "{journal}"),
        ("report", "--all", "--storage", "{journal}"),
        ("worker", "--storage", "{journal}"),
        ("merge", "{journal}"),
        ("merge", "{whole}", "--storage", "{journal}"),
        ("dashboard", "--storage", "{journal}"),
        ("ablate", "context", "--storage", "{journal}"),
        ("report", "context", "--storage", "{journal}"),
        ("plan", "context", "--storage", "{journal}"),
    ],
)
def test_every_command_reports_a_damaged_journal_in_one_line(
    command: tuple[str, ...],
    tmp_path: Path,
    valid: bytes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("whole.log").write_bytes(valid)
    first, *rest = valid.splitlines(keepends=True)
    Path("j.log").write_bytes(first + bytes(64) + b"".join(rest))
    before = Path("j.log").read_bytes()
    with pytest.raises(SystemExit) as ended:
        cli.main([argument.format(journal="j.log", whole="whole.log") for argument in command])
    said = "the journal j.log is damaged: line 2 is no entry, and other lines follow"
    assert capsys.readouterr().err == f"tada: {said}; restore it or name another with --storage\n"
    assert (ended.value.code, Path("j.log").read_bytes()) == (2, before)


def test_errors_of_optuna_for_its_caller_are_no_damage(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    with pytest.raises(KeyError):
        store.backend.storage.set_study_user_attr(7, "name", 1)
    assert json.loads(Path(store.shown).read_bytes())["study_id"] == 7
