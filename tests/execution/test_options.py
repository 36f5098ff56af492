from pathlib import Path

import pytest

from tadaconv.errors import UserError
from tadaconv.execution import WorkerCall
from tadaconv.execution.options import anywhere, read_options, share, text, whole

READERS = {"num_cpus": whole(1), "part": share(1.0), "name": text}


def test_options_are_read_by_either_spelling() -> None:
    assert read_options("x", {"num-cpus": " 3", "part": "0.25", "name": "a b"}, READERS) == {
        "num_cpus": 3,
        "part": 0.25,
        "name": "a b",
    }


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "²", "1e3", "one"])
def test_what_is_no_whole_number_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="a whole number from 1 on") as caught:
        read_options("x", {"num_cpus": value}, READERS)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", ["0", "-0.5", "1.01", "nan", "inf", "half"])
def test_what_is_no_share_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="a number above 0 and up to 1"):
        read_options("x", {"part": value}, READERS)


def test_a_url_stays(tmp_path: Path) -> None:
    call = WorkerCall("postgresql+psycopg://ada@db/results", "w0", "cpu", tmp_path)
    assert anywhere(call) == call


def test_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    moved = anywhere(WorkerCall("runs/journal.log", "w0", "cpu", Path("runs")))
    assert (moved.storage, moved.out) == (str(tmp_path / "runs/journal.log"), tmp_path / "runs")
