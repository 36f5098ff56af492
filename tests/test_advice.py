"""The commands that messages advise: each exists, is whole for the call that was made, and does what it says."""

import ast
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from support import made_result, tada_with

import tadaconv.preview  # noqa: F401 - before a test of the commands puts something in place of what it imports
from tadaconv import cli
from tadaconv.command import REQUIREMENTS, TAKES, called_with, command, install, shared_options
from tadaconv.execution.store import Store
from tadaconv.regime import load_regime, run_command
from tadaconv.study import LoadedStudy, Study, confirm, load_study
from tadaconv.study.space import walk
from tadaconv.study.trials import TrialRecord
from tadaconv.table import Row, Table

ROOT = Path(__file__).resolve().parent.parent
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "tadaconv").rglob("*.py"))}


def commands(group: Any, before: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command and group below ``group`` with the names of its options."""
    for name, each in group.commands.items():
        yield f"{before}{name}", {option.lstrip("-") for param in each.params for option in param.opts} | {"help"}
        if hasattr(each, "commands"):
            yield from commands(each, f"{before}{name} ")


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a module; a placeholder stands for each value of an f-string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_command_that_the_source_names_exists_with_its_options() -> None:
    num_named = 0
    for file, tree in TREES.items():
        for text in texts(tree):
            for first, second, rest in re.findall(r"\btada ([a-z]+)(?: ([a-z]+))?([^`\n;.)]*)", text):
                name = f"{first} {second}" if f"{first} {second}" in COMMANDS else first
                assert name in COMMANDS, f"{file}: tada {first}"
                num_named += 1
                for option in re.findall(r"(?<!\S)--([a-z-]+)", rest):
                    assert option in COMMANDS[name], f"{file}: tada {name} --{option}"
    assert num_named > 20


def test_no_command_is_composed_by_hand() -> None:
    for file, tree in TREES.items():
        for text in texts(tree):
            assert not re.search(r"\btada [a-z][a-z ]*\{\}", text), f"{file}: tadaconv.command composes it: {text}"
            assert "tadaconv[" not in text, f"{file}: extras can be had of an installed package alone: {text}"


def test_commands_are_composed_of_options_that_they_have() -> None:
    num_composed = 0
    for file, tree in TREES.items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id in ("command", "run_command"):
                name = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
            elif isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "loaded.command":
                name = "ablate"
            else:
                continue
            if isinstance(name, str):
                num_composed += 1
                options = {keyword.arg.replace("_", "-") for keyword in call.keywords if keyword.arg is not None}
                assert options <= COMMANDS[name], f"{file}:{call.lineno}"
    assert num_composed > 10


def test_the_options_that_calls_share_are_those_of_the_commands() -> None:
    for name, options in TAKES.items():
        assert set(options) <= COMMANDS[name], name
    shared = {name: {o for o in ("regime", "data", "storage", "out") if o in COMMANDS[name]} for name in COMMANDS}
    assert {name for name in COMMANDS if "storage" in shared[name]} == {n for n in TAKES if "storage" in TAKES[n]}


def test_what_is_to_be_installed_is_what_the_extras_hold() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name: [requirement] for name, requirement in REQUIREMENTS.items()} == {
        name: extras[name] for name in REQUIREMENTS
    }
    assert shlex.split(install("timm", "torch==2.6.0+cpu")) == ["pip", "install", "timm", "torch==2.6.0+cpu"]


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)


@given(path=WORDS, rows=st.lists(WORDS, max_size=3), out=WORDS, regime=WORDS)
def test_a_command_is_read_back_by_a_shell_as_it_was_meant(path: str, rows: list[str], out: str, regime: str) -> None:
    with called_with({"out": out, "regime": "another", "data": "DIR"}):
        tada, name, positional, *options = shlex.split(command("report", path, regime=regime, row=rows, seed=None))
    assert (tada, name) == ("tada", "report")
    assert positional == (f"./{path}" if path.startswith("-") else path)
    wanted = [("--out", out), ("--regime", regime), *(("--row", row) for row in rows)]
    assert sorted(zip(options[::2], options[1::2], strict=True)) == sorted(wanted)
    assert command("data check", path) == shlex.join(["tada", "data", "check", positional])


def test_options_are_read_from_a_call() -> None:
    call = ["ablate", "x", "--out", "a", "--regime=r=1", "--data", "d d", "--out", "b", "--seeds", "3", "--storage"]
    assert shared_options(call) == {"out": "b", "regime": "r=1", "data": "d d"}
    assert shared_options(["bench", "op", "--out", "a"]) == shared_options([]) == {}


# --- What messages say, and whether it helps

TABLE = '''"""Does it matter?"""
from tadaconv.table import Row, Table
from tadaconv.spec import Context, TAda

TABLE = Table(base=Row("(3,3)", TAda()), rows=[Row("it's", TAda(context=Context(kernels=(1, 1))))])
'''
REGIME = """from tadaconv.regimes.quick import REGIME as QUICK
REGIME = QUICK.but(summary="own")
"""
STUDY = """from tadaconv.spec import Context, TAda
from tadaconv.study import Pruner, Study

def suggest(trial):
    return TAda(context=Context(kernels=(trial.suggest_categorical("kernel", [1, 3]),)))

STUDY = Study(suggest, start={"one": {"kernel": 1}}, base="one", pruner=Pruner("none"))
"""
CALL = ("--regime", "my files/own regime.py", "--out", "my runs")
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def tada(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command beside files whose names need quotes, in place of training and of reports' pages nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my files").mkdir()
    for name, text in {"a table.py": TABLE, "own regime.py": REGIME, "toy.py": STUDY}.items():
        (tmp_path / "my files" / name).write_text(text)
    monkeypatch.setattr("tadaconv.experiment.run", lambda *_, **__: made_result())
    monkeypatch.setattr("tadaconv.dry_run.dry_run", lambda _: None)
    monkeypatch.setattr("tadaconv.reporting.report", lambda *_, **__: tmp_path)
    monkeypatch.setattr("tadaconv.reporting.study.study_report", lambda *_, **__: tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        done = tada_with(capsys)(*arguments)
        return done.status, done.text

    return call


def advised(said: str) -> list[str]:
    """The words of the one command that a message ends in or goes on from with a comma, without ``tada``."""
    (text,) = re.findall(r"with: (tada .*?)(?:, or name .*)?$", said, re.MULTILINE)
    tada, *words = shlex.split(text)
    assert tada == "tada"
    return words


@pytest.mark.parametrize(
    ("first", "wrong", "placeholders"),
    [
        ([], ["report", "my files/a table.py", *CALL, "--format", "csv"], {}),
        ([], ["report", "my files/toy.py", *CALL, "--format", "csv"], {}),
        ([], ["report", "--all", "--out", "my runs"], {"TABLE": "my files/a table.py"}),
        (["study", "my files/toy.py", "--trials", "1", *CALL], ["report", "my files/a table.py", *CALL], {}),
        (["ablate", "my files/a table.py", *CALL], ["study", "my files/toy.py", "--confirm", "1", *CALL], {}),
    ],
    ids=["no storage", "no storage, a study", "no storage, all", "no such table", "no such study"],
)
def test_what_is_missing_is_made_by_the_command_that_is_advised(
    tada: Call, first: list[str], wrong: list[str], placeholders: dict[str, str]
) -> None:
    if first:
        assert tada(*first)[0] == 0
    status, said = tada(*wrong)
    assert (status, said.count("\n")) == (2, 1)
    assert tada(*(placeholders.get(word, word) for word in advised(said)))[0] == 0
    status, said = tada(*wrong)
    assert status == 0, said


def test_a_row_that_has_not_run_is_run_by_the_command_that_is_advised(tada: Call) -> None:
    table = "my files/a table.py"
    assert tada("ablate", table, *CALL, "--rows", "(3,3)")[0] == 0
    status, said = tada("report", table, *CALL, "--row", "it's", "--seed", "1")
    assert (status, "no cell of row" in said) == (2, True)
    assert tada(*advised(said))[0] == 0
    status, said = tada("report", table, *CALL, "--row", "it's", "--seed", "1")
    assert "no cell" not in said  # that no weights lie there is another matter: nothing trained
    status, again = tada(*advised(said))
    assert (status, Path("OTHER", "journal.log").is_file()) == (0, True), again


def test_a_table_whose_file_is_gone_is_reported_by_the_command_that_is_advised(tada: Call) -> None:
    assert tada("ablate", "my files/a table.py", *CALL)[0] == 0
    moved = Path("my files/own regime.py").rename("own regime.py")
    status, said = tada("report", "--all", "--out", "my runs")
    assert status == 2
    assert tada(*(str(moved) if word == "NAME_OR_PATH" else word for word in advised(said)))[0] == 0


def test_the_best_of_a_study_are_confirmed_by_the_command_that_is_advised(tada: Call) -> None:
    status, said = tada("study", "my files/toy.py", "--trials", "2", *CALL)
    assert status == 0
    (text,) = re.findall(r"confirm it: (tada .*?)\n *report:", " ".join(said.split(" ")), re.DOTALL)
    words = shlex.split(" ".join(text.split()))
    assert words[:3] == ["tada", "study", "my files/toy.py"]
    status, said = tada(*words[1:])
    assert status == 0, said
    assert {"toy-own regime", "toy_confirm-own regime"} <= set(Store.open("my runs/journal.log").studies())


def test_the_table_of_a_studys_best_is_run_by_its_study(tmp_path: Path) -> None:
    path = tmp_path / "toy.py"
    path.write_text(STUDY)
    loaded: LoadedStudy = load_study(str(path))
    study: Study = loaded.study
    other = next(walk(study.suggest, {"kernel": 3}))
    trial = TrialRecord(
        1, "trial 1", other.params, other.distributions, other.temporal, "finished", (), 60.0, None, None, ()
    )
    best = confirm(loaded, [trial], 1)
    assert best.table == Table(base=Row("one", study.base_temporal), rows=[Row("kernel 3", other.temporal)])
    assert shlex.split(best.command("quick")) == ["tada", "study", str(path), "--regime", "quick", "--confirm", "1"]


def test_broken_clips_are_listed_by_the_command_that_is_advised(tada: Call, tmp_path: Path) -> None:
    pytest.importorskip("av")
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "my clips" / split / name).mkdir(parents=True)
            (tmp_path / "my clips" / split / name / "broken.mp4").write_bytes(b"no video")
    status, said = tada("ablate", "my files/a table.py", "--regime", "folder", "--data", "my clips", "--out", "my runs")
    assert (status, "cannot train on 'my clips'" in said) == (2, True)
    status, listed = tada(*advised(said))
    assert (status, listed.count("broken.mp4")) == (1, 4)


def test_a_regime_of_clips_is_advised_with_them(tada: Call) -> None:
    assert tada("ablate", "my files/a table.py", *CALL)[0] == 0
    _, said = tada("report", "context", "--regime", "folder", "--out", "my runs")
    assert advised(said) == ["ablate", "context", "--regime", "folder", "--out", "my runs", "--data", "DIR"]

    ran = [load_regime("folder").experiment(None, seed=0).but(data__root=root) for root in ("/old", "/my clips")]
    assert run_command("ablate", "x", "folder", ran) == "tada ablate x --regime folder --data '/my clips'"
    with called_with({"data": "here"}):
        assert run_command("ablate", "x", "folder", ran) == "tada ablate x --data here --regime folder"
    assert run_command("ablate", "x", "quick") == "tada ablate x --regime quick"


@pytest.mark.parametrize("form", [["--storage", "{}"], ["--storage={}"]])
def test_a_call_that_was_stopped_is_repeated_whole(
    tada: Call, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tadaconv.cli.run.load_table", stopped)
    given = ["ablate", "my files/a table.py", *(word.format("postgresql+psycopg://me@host/db") for word in form)]
    status, said = tada(*given)
    assert status == 130
    assert shlex.split(said.strip().partition("resume with: ")[2]) == ["tada", *given]


def test_a_wrong_call_leads_to_the_help_of_its_command(tada: Call) -> None:
    status, said = tada("data", "check")
    assert (status, said.strip().endswith("; see: tada data check --help")) == (2, True)
