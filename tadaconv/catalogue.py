"""All content that commands take by name, with a line of summary.

Studies, report templates, backbones, rivals and layouts are parsed, not imported, since that is slow.
"""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.regime import load_regime
from tadaconv.spec import Data
from tadaconv.table import load_table

_MODELS = Path(__file__).parent / "models"
_LAYOUTS = Path(__file__).parent / "data" / "layouts"

Entry = dict[str, Any]


def content() -> dict[str, list[Entry]]:
    """By kind, the entries of what ships and of the current folder: name, summary and, of a table, number of rows."""
    return {
        "tables": _entries("ablation table", lambda name, _: _table(name)),
        "studies": _entries("study", lambda _, path: {"summary": _docstring_of(path)}),
        "reports": _entries("report", lambda _, path: {"summary": _docstring_of(path)}),
        "regimes": _entries("regime", lambda name, _: {"summary": load_regime(name).summary}),
        "backbones": _registered(_MODELS / "__init__.py", "BACKBONES"),
        "rivals": _registered(_MODELS / "rivals" / "__init__.py", "RIVALS"),
        "datasets": [
            {"name": data.model_fields["kind"].default, "summary": _first_line(data.__doc__)}
            for data in get_args(get_args(Data)[0])
        ],
        "layouts": _registered(_LAYOUTS / "__init__.py", "LAYOUTS"),
    }


def backbones() -> frozenset[str]:
    """The names of the backbones of this package."""
    return frozenset(str(entry["name"]) for entry in _registered(_MODELS / "__init__.py", "BACKBONES"))


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].replace("``", "")


def _entries(kind: str, describe: Callable[[str, Path], Entry]) -> list[Entry]:
    """The files of a kind; the summary of one that is broken is its error."""
    entries = []
    for name, path in discovery.available(kind).items():
        try:
            entries.append({"name": name, **describe(name, path)})
        except UserError as error:
            entries.append({"name": name, "summary": str(error)})
        except SyntaxError as error:
            entries.append({"name": name, "summary": f"{path} cannot be loaded: {error}"})
    return entries


def _table(name: str) -> Entry:
    loaded = load_table(name)
    return {"summary": _first_line(loaded.question), "rows": len(loaded.table.all_rows)}


def _docstring_of(path: Path) -> str:
    return _first_line(ast.get_docstring(ast.parse(path.read_bytes())))


def _registered(file: Path, registry: str) -> list[Entry]:
    """The keys of a literal dict, each with the docstring of the function it holds, or of the module of its object."""
    for statement in ast.parse(file.read_bytes()).body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == registry:
            assert isinstance(statement.value, ast.Dict)
            pairs = zip(statement.value.keys, statement.value.values, strict=True)
            return [
                {"name": ast.literal_eval(key), "summary": _summary(file.parent, value)} for key, value in pairs if key
            ]
    raise AssertionError(f"{file} holds no literal dict {registry}")


def _summary(folder: Path, value: ast.expr) -> str:
    """The docstring of ``module.name``, from the file of that module."""
    module, _, name = ast.unparse(value).rpartition(".")
    tree = ast.parse((folder / f"{module}.py").read_bytes())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return _first_line(ast.get_docstring(functions[0] if functions else tree))
