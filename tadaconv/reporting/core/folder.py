"""The folder of a report: what is written, in which order, and when nothing has to be."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.reporting.core.export import ReportManifest, Template, printable, write_atomically
from tadaconv.text import visible

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reported:
    """What one folder reports.

    Attributes:
        template: name of the notebook's template.
        files: by format, the file that stands for it.
        title: the question in one line.
        manifest: what becomes ``report.json``, but for what the files are made from.
        content: the rest of the results, as far as it decides what the report says.
        write_data: writes, into a folder, what the notebook is executed from beside the manifest, and the file of
            format *csv*.
        latex: makes the table for a paper.
        data: names of the files that ``write_data`` writes.
        parameters: values for the template's parameters, by name; the template has a value for each that is not given.
    """

    template: str
    files: dict[str, str]
    title: str
    manifest: ReportManifest
    content: list[str]
    write_data: Callable[[Path], None]
    latex: Callable[[], str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    data: Sequence[str] = ()


def report_folder(out: Path, name: str, regime_name: str, template: str | None = None) -> Path:
    """Where the report of a table or study in a regime lies; one by a ``template`` of the user's lies beside it."""
    own = "" if template is None else f"-{discovery.plain_name(template)}"
    return out / "reports" / f"{name}-{discovery.plain_name(regime_name)}{own}"


def write_files(reported: Reported, folder: Path, formats: set[str]) -> Path:
    """Write the files of ``formats`` that do not stand in ``folder`` yet, or that other results were written to."""
    template = discovery.find("report", reported.template)
    digest, earlier = _digest(reported, template), _earlier(folder)
    _require_ours(folder, [*reported.files.values(), *reported.data])
    due = {
        name for name in formats if earlier.digests.get(name) != digest or not (folder / reported.files[name]).is_file()
    }
    if not (folder / "figures").is_dir():
        due |= formats & {"html", "ipynb"}
    if not due and all((folder / name).is_file() for name in reported.data):
        _LOG.info("%s is up to date: neither the results nor the template have changed", folder)
        return folder
    # Until a file is written again it counts as out of date, should this be cut short.
    kept = {name: value for name, value in earlier.digests.items() if name not in due}
    made_by = _made_by(template, reported.parameters) if due & {"html", "ipynb"} else earlier
    _write_manifest(reported.manifest, folder, earlier, kept)  # first: what stands beside it is a report's
    reported.write_data(folder)
    if "tex" in due:
        write_atomically(folder / reported.files["tex"], reported.latex())
    if due & {"html", "ipynb"}:
        _execute(template, reported, folder, due)
    _write_manifest(reported.manifest, folder, made_by, {**kept, **dict.fromkeys(due, digest)})
    return folder


def _require_ours(folder: Path, names: Sequence[str]) -> None:
    """Raise :class:`UserError` where ``folder`` is no report's and holds files that a report would write over."""
    try:
        tree = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        foreign = not (isinstance(tree, dict) and "digests" in tree)
    except FileNotFoundError:
        foreign = True
    except (OSError, ValueError):  # damaged: the next one mends it
        foreign = False
    theirs = [name for name in ("report.json", *names) if (folder / name).exists()] if foreign else []
    if theirs:
        raise UserError(
            f"{folder} holds files that no report has written, {', '.join(theirs)}; move them away, or name another "
            "folder with --out"
        )


def _execute(template: Path, reported: Reported, folder: Path, due: set[str]) -> None:
    from tadaconv.reporting.core.notebook import as_ipynb, as_page, execute

    notebook = execute(template, folder, reported.parameters)
    if "ipynb" in due:
        write_atomically(folder / reported.files["ipynb"], as_ipynb(notebook))
    if "html" in due:
        write_atomically(folder / reported.files["html"], as_page(notebook, visible(reported.title)))


def _write_manifest(
    manifest: ReportManifest, folder: Path, made_by: ReportManifest, digests: Mapping[str, str]
) -> None:
    """Write ``report.json``, with the template and parameters of ``made_by``."""
    stamp = {"template": made_by.template, "parameters": made_by.parameters, "digests": dict(sorted(digests.items()))}
    stamped = manifest.model_copy(update=stamp)
    write_atomically(folder / "report.json", stamped.model_dump_json(indent=1) + "\n")


def _made_by(template: Path, parameters: Mapping[str, Any]) -> ReportManifest:
    """A manifest of this template and these parameters."""
    digest = hashlib.sha256(template.read_bytes()).hexdigest()[:16]
    given = {name: repr(value) for name, value in sorted(parameters.items())}
    return ReportManifest(template=Template(name=printable(template.name), digest=digest), parameters=given)


def _earlier(folder: Path) -> ReportManifest:
    """From what the files of an earlier report were made; empty where there is none, or none that can be read."""
    try:
        tree = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return ReportManifest(**{name: tree[name] for name in ReportManifest.model_fields if name in tree})
    except (OSError, ValueError, TypeError):
        return ReportManifest()


def _digest(reported: Reported, template: Path) -> str:
    """Hash of all that decides what a report says: the results, the template, and the code and styles of reports."""
    here = Path(__file__).parent.parent
    code = sorted(file for file in here.rglob("*") if file.suffix in {".py", ".j2", ".css", ".json"})
    parts = [reported.manifest.model_dump_json(), *reported.content, repr(sorted(reported.parameters.items()))]
    try:
        parts += [file.read_text(encoding="utf-8") for file in (template, *code)]
    except UnicodeDecodeError as error:
        raise UserError(f"{template} is not written in UTF-8, as a notebook template has to be") from error
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
