"""Public functions of three parameters or more list each of them."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tadaconv"
FILES = sorted([*PACKAGE.glob("*.py"), PACKAGE / "cli" / "options.py"])


def functions(file: Path) -> list[ast.FunctionDef]:
    """The public functions of a file, methods included."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


def parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    every = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in every if name not in ("self", "cls")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_parameters_are_listed(file: Path) -> None:
    for function in functions(file):
        names = parameters(function)
        if len(names) >= 3:
            _, _, listed = (ast.get_docstring(function) or "").partition("\nArgs:\n")
            assert re.findall(r"^    (\w+)(?: \(.*\))?: ", listed, re.MULTILINE)[: len(names)] == names, function.name


def test_there_is_something_to_list() -> None:
    assert sum(len(parameters(function)) >= 3 for file in FILES for function in functions(file)) > 20
