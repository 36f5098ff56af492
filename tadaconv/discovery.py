"""Finds content by name: tables, studies, report templates and regimes, each one Python file.

A name is looked up first in the current folder (``./ablations/NAME.py``), then among the files that ship; a path to
a file works as well. Shipped content is next to the package in a clone or an editable install, and inside it in a
wheel. A storage keeps the origin of files, :func:`origin`, so that they can be loaded again from any folder.
"""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from tadaconv.errors import UserError, unknown
from tadaconv.spec import errors_of
from tadaconv.text import encodable, one_line, path_to_text, text_to_path

KINDS = {"ablation table": "ablations", "study": "studies", "report": "reports", "regime": "regimes"}
"""Kinds of content, and the folder of each."""

_LONGEST_NAME = 255
"""Bytes that a file's name may have on every common file system."""

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(kind: str) -> Path:
    """The folder of the content that ships with this installation."""
    folder = KINDS[kind]
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def available(kind: str) -> dict[str, Path]:
    """Every name of ``kind`` with its file; a file of the current folder hides a shipped one of the same name."""
    files: dict[str, Path] = {}
    for folder in (shipped_folder(kind), Path.cwd() / KINDS[kind]):
        if folder.is_dir():
            files |= {file.stem: file for file in sorted(folder.glob("*.py")) if not file.stem.startswith("_")}
    return dict(sorted(files.items()))


def is_path(name: str) -> bool:
    """Whether ``name`` is taken for the path of a file."""
    return name.endswith(".py") or "/" in name


def plain_name(name: str) -> str:
    """The name of what is behind ``name``, which is a name or a path: that of its file, without folder and suffix."""
    return Path(name).stem if is_path(name) else name


def find(kind: str, name: str) -> Path:
    """The file behind ``name``, which is a name or a path.

    Raises :class:`UserError` that lists the right names, and for a path that is not UTF-8: reports and storages name
    results after it.
    """
    if encodable(name) != name:
        raise UserError(f"the path of the {kind}, {name!r}, is not UTF-8; rename the file or its folder")
    if is_path(name):
        path = Path(name)
        if not path.is_file() or path.suffix != ".py":
            raise UserError(
                f"no {kind} file at {name!r}; give a path to a .py file or one of: {', '.join(available(kind))}"
            )
        return path
    known = available(kind)
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]


def require_short(study: str) -> None:
    """Raise :class:`UserError` where ``study``, ``<table or study>-<regime>``, is too long for a report's folder."""
    if len(study.encode()) > _LONGEST_NAME:
        raise UserError(
            f"the name of the report's folder, {study!r}, would be longer than {_LONGEST_NAME} bytes; rename the file "
            "of the regime, table or study"
        )


def reference(kind: str, path: Path) -> str:
    """What :func:`find` takes for the file at ``path``: its name where that leads to it, or else the path."""
    named = available(kind).get(path.stem)
    if named is not None and named.resolve() == path.resolve():
        return path.stem
    return str(path) if is_path(str(path)) else f"./{path}"


def origin(kind: str, path: Path) -> str:
    """Where the file at ``path`` comes from, as a storage keeps it: its whole path; empty for one that ships."""
    whole = path.resolve()
    return "" if whole.parent == shipped_folder(kind).resolve() else path_to_text(whole)


def original(kind: str, name: str, origin: str) -> Path:
    """The file that has this origin; it may be gone, or be on another machine.

    Args:
        kind: a name in :data:`KINDS`.
        name: of the file, without its suffix.
        origin: as :func:`origin` gives it.
    """
    return shipped_folder(kind) / f"{name}.py" if origin == "" else text_to_path(origin)


class _FromSource(SourceFileLoader):
    """Reads the file itself, never cached bytecode, and writes none.

    Python takes a cache for current by the second and the size of its source: a kernel of 3 edited into a 5 within
    the second would run as the 3 it was, under the key of what it was.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def load(kind: str, name: str) -> ModuleType:
    """Import the file behind ``name``; raises :class:`UserError`, one line, for an error in the file."""
    path = find(kind, name)
    module_name = f"tadaconv_{KINDS[kind]}_{path.stem.replace('-', '_')}"
    loader = _FromSource(module_name, str(path))
    spec = importlib.util.spec_from_file_location(module_name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with errors_of(str(path)):
            loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} cannot be loaded: {type(error).__name__}: {one_line(error)}") from error
    return module
