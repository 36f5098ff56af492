from pathlib import Path

import pytest

from tadaconv.errors import UserError
from tadaconv.execution.launcher import Amount, Fraction, Text, Whole, anywhere, read_options
from tadaconv.execution.worker import WorkerCall

TYPES = {"num_cpus": Whole, "memory": Amount, "part": Fraction, "name": Text}


def test_options_are_read_by_either_spelling() -> None:
    assert read_options("x", {"num-cpus": " 3", "part": "0.25", "memory": "1e3", "name": "a b "}, TYPES) == {
        "num_cpus": 3,
        "part": 0.25,
        "memory": 1000.0,
        "name": "a b",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("num_cpus", value) for value in ("", "0", "-1", "1.5", "²", "1e3", "one")],
        *[("memory", value) for value in ("0", "-0.5", "nan", "inf", "half")],
        *[("part", value) for value in ("-0.5", "1.01", "nan", "inf", "half")],
        *[("name", value) for value in ("", " ", "a\nb", "\x1b[2J")],
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_line(name: str, value: str) -> None:
    with pytest.raises(UserError) as caught:
        read_options("x", {name: value}, TYPES)
    assert str(caught.value).startswith(f"--executor-option {name}={value!r} is invalid: ")
    assert "\n" not in str(caught.value)


def test_a_url_stays(tmp_path: Path) -> None:
    call = WorkerCall("postgresql+psycopg://ada@db/results", "w0", "cpu", tmp_path)
    assert anywhere(call) == call


def test_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    moved = anywhere(WorkerCall("runs/journal.log", "w0", "cpu", Path("runs")))
    assert (moved.storage, moved.out) == (str(tmp_path / "runs/journal.log"), tmp_path / "runs")
