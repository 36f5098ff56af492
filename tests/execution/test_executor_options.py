from pathlib import Path

import pytest

from tadaconv.errors import UserError
from tadaconv.execution import WorkerCall
from tadaconv.execution.launcher import Amount, Fraction, Text, Whole, anywhere, read_options
from tadaconv.execution.location import Location

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
    assert str(caught.value).startswith(f"--executor-option {name}={value!r} cannot be: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "travelling"),
    [
        ("postgresql://ada@db:5432/results", "postgresql+psycopg://ada:a%2Fb%40c@db:5432/results"),
        ("postgresql://ada:own@db/results", "postgresql+psycopg://ada:own@db/results"),
        ("postgresql://db/results", "postgresql+psycopg://eve:a%2Fb%40c@db/results"),
        ("postgresql:///results?host=%2Ftmp", "postgresql+psycopg://eve:a%2Fb%40c@/results?host=%2Ftmp"),
    ],
)
def test_a_password_of_the_environment_travels_in_the_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, travelling: str
) -> None:
    monkeypatch.setenv("PGPASSWORD", "a/b@c")
    monkeypatch.setenv("PGUSER", "eve")
    moved = anywhere(WorkerCall(url, "w0", "cpu", tmp_path))
    assert moved.storage == travelling
    assert Location.parse(moved.storage).url == travelling
    assert "b%40c" not in repr(moved)


def test_a_url_without_a_password_anywhere_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    call = WorkerCall("postgresql+psycopg://ada@db/results", "w0", "cpu", tmp_path)
    assert anywhere(call) == call


def test_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    moved = anywhere(WorkerCall("runs/journal.log", "w0", "cpu", Path("runs")))
    assert (moved.storage, moved.out) == (str(tmp_path / "runs/journal.log"), tmp_path / "runs")
