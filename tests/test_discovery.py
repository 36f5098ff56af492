"""Content is found by name, the current folder first, or by path; a broken file is one line, never a traceback."""

import os
import sys
from pathlib import Path

import pytest

from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.regime import load_regime
from tadaconv.table import load_table

REGIME = """from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Schedule, Synthetic

REGIME = Regime(
    summary="{summary}", backbone=Backbone(name="tiny"), data=Synthetic(num_train=8, num_val=4),
    schedule=Schedule(epochs=1, batch_size=2, lr=0.1),
)
"""


@pytest.fixture
def regimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``regimes/`` of an otherwise empty current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "regimes"
    folder.mkdir()
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def message_of(name: str) -> str:
    """The complaint about the regime ``name``."""
    with pytest.raises(UserError) as error:
        load_regime(name)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("regimes")
@pytest.mark.parametrize("kind", discovery.KINDS)
def test_shipped_names_are_the_files_of_the_shipped_folder(kind: str) -> None:
    folder = discovery.shipped_folder(kind)
    names = [file.stem for file in folder.glob("*.py") if file.stem != "__init__"]
    assert list(discovery.available(kind)) == sorted(names)
    for name in names:
        assert discovery.find(kind, name) == folder / f"{name}.py"


def test_the_current_folder_adds_names_and_hides_shipped_ones(regimes: Path) -> None:
    shipped = discovery.available("regime")
    assert "quick" in shipped
    mine = write(regimes / "my_lab.py", REGIME.format(summary="mine"))
    quick = write(regimes / "quick.py", REGIME.format(summary="my quick"))
    write(regimes / "_helpers.py", "")
    write(regimes / "notes.txt", "")
    assert discovery.available("regime") == shipped | {"my_lab": mine, "quick": quick}
    assert load_regime("my_lab").summary == "mine"
    assert load_regime("quick").summary == "my quick"


def test_a_path_works_wherever_it_points(regimes: Path) -> None:
    elsewhere = regimes.parent / "elsewhere"
    elsewhere.mkdir()
    path = write(elsewhere / "lab-2.py", REGIME.format(summary="far"))
    assert load_regime(str(path)).summary == "far"
    assert load_regime("elsewhere/lab-2.py").summary == "far"
    write(Path("here.py"), REGIME.format(summary="near"))
    assert load_regime("here.py").summary == "near"


def test_a_changed_file_is_read_again(regimes: Path) -> None:
    path = write(regimes / "lab.py", REGIME.format(summary="before"))
    assert load_regime("lab").summary == "before"
    write(path, REGIME.format(summary="afterwards"))
    assert load_regime("lab").summary == "afterwards"


@pytest.mark.usefixtures("regimes")
def test_an_unknown_name_lists_the_right_ones_nearest_first() -> None:
    message = message_of("quik")
    assert message.startswith("unknown regime 'quik'; one of: quick")
    assert len(discovery.available("regime")) > 8
    for name in discovery.available("regime"):
        assert name in message
    with pytest.raises(UserError, match="unknown ablation table 'contxt'; one of: context"):
        load_table("contxt")


@pytest.mark.parametrize("name", ["nowhere/lab.py", "lab.py", "./regimes", "regimes/lab.txt"])
def test_a_path_that_is_no_python_file_says_so(regimes: Path, name: str) -> None:
    write(regimes / "lab.txt", REGIME.format(summary="no"))
    assert message_of(name).startswith(f"no regime file at {name!r}; give a path to a .py file or one of: ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def broken(:\n", "cannot be loaded: SyntaxError: invalid syntax"),
        ("import no_such_module\n", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('first line\\nsecond line')\n", "cannot be loaded: RuntimeError: first line second line"),
        (REGIME.format(summary="").replace("lr=0.1", "lr=0"), "Schedule: lr: Input should be greater than 0, got 0"),
        (REGIME.format(summary="").replace("lr=0.1", "lr=0.1, rate=1"), "Schedule: unknown key 'rate'"),
        ("from tadaconv.spec import TAda\nTAda().but(inti=1)\n", "unknown field of TAda 'inti'; one of: init, "),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(regimes: Path, text: str, complaint: str) -> None:
    path = write(regimes / "lab.py", text)
    message = message_of("lab")
    assert message.startswith(str(path))
    assert complaint in message


@pytest.mark.usefixtures("regimes")
@pytest.mark.parametrize("text", ["", "REGIME = 3\n", "TABLE = None\n"])
def test_a_file_without_what_it_should_define(text: str) -> None:
    write(Path("lab.py"), text)
    assert message_of("lab.py") == "regime 'lab.py' defines no REGIME = Regime(...)"
    with pytest.raises(UserError, match=r"ablation table 'lab.py' defines no TABLE = Table\(...\)"):
        load_table("lab.py")


def test_an_edit_within_the_same_second_is_seen(regimes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's cache of bytecode goes by the second and the size, and a 3 edited into a 5 changes neither."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = write(regimes / "mine.py", REGIME.format(summary="3"))
    os.utime(file, (1e9, 1e9))
    assert load_regime("mine").summary == "3"
    write(file, REGIME.format(summary="5"))
    os.utime(file, (1e9, 1e9))
    assert load_regime("mine").summary == "5"
    assert list(regimes.iterdir()) == [file]


def test_a_file_whose_path_is_not_utf8_is_refused(regimes: Path) -> None:
    folder = regimes / "caf\udce9"
    folder.mkdir()
    write(folder / "mine.py", REGIME.format(summary="mine"))
    message = message_of(f"{folder}/mine.py")
    assert "is not UTF-8; rename the file or its folder" in message
    message.encode()
