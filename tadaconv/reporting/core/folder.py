"""The folder of a report: its files, the order they are written in, and which are up to date."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.files import write_atomically
from tadaconv.reporting.core.export import Listing, ReportManifest, Template, write_files
from tadaconv.reporting.core.options import ReportOptions
from tadaconv.text import encodable, visible

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What one folder reports.

    Attributes:
        name: of the folder.
        template: name of the notebook template that ships for reports of this kind.
        listing: its entry on the page of all reports.
        manifest: what becomes ``report.json``, but for the listing and for what the files are made from.
        data: contents of the files next to the manifest, by name; figures are drawn from them.
        latex: makes the table for a paper.
        csv: the file of the format *csv*.
    """

    name: str
    template: str
    listing: Listing
    manifest: ReportManifest
    data: Mapping[str, str | bytes]
    latex: Callable[[], str]
    csv: str = "table.csv"

    @property
    def files(self) -> dict[str, str]:
        """By format, its file."""
        return {"html": "report.html", "ipynb": "report.ipynb", "tex": "table.tex", "csv": self.csv}


def write_report(report: Report, out: Path, formats: Iterable[str], options: ReportOptions) -> Path:
    """Write the files of ``formats`` that are missing or out of date.

    Args:
        report: What is to be written.
        out: The run folder. The report by a template of the user's is next to the usual one.
        formats: Of ``FORMATS``.
        options: Template, its parameters, and what else decides what is written.

    Raises:
        UserError: for an unknown template or parameter, or a folder that cannot be written or holds others' files.
    """
    own = "" if options.template is None else f"-{discovery.plain_name(options.template)}"
    folder = out / "reports" / f"{report.name}{own}"
    template = discovery.find("report", options.template or report.template)
    digest = _digest(report, template, options)
    earlier = _earlier(folder, [*report.files.values(), *report.data])
    formats = set(formats)
    due = {
        name for name in formats if earlier.digests.get(name) != digest or not (folder / report.files[name]).is_file()
    }
    if not (folder / "figures").is_dir():
        due |= formats & {"html", "ipynb"}
    if not due and all((folder / name).is_file() for name in report.data):
        _LOG.info("%s is up to date: neither the results nor the template have changed", folder)
        return folder
    # Until a file is written again it counts as out of date, should this be cut short.
    kept = {name: value for name, value in earlier.digests.items() if name not in due}
    made_by = _made_by(template, options.parameters) if due & {"html", "ipynb"} else earlier
    _write_manifest(report, folder, made_by=earlier, digests=kept)  # first: it marks the folder as a report's
    write_files(report.data, folder)
    if "tex" in due:
        write_atomically(folder / report.files["tex"], report.latex())
    if due & {"html", "ipynb"}:
        _execute(template, report, folder, due, options.parameters)
    _write_manifest(report, folder, made_by, {**kept, **dict.fromkeys(due, digest)})
    return folder


def _earlier(folder: Path, names: Sequence[str]) -> ReportManifest:
    """The manifest of an earlier report; empty where it is missing or cannot be read.

    Raises :class:`UserError` where ``folder`` is no report's and holds files of ``names``, which would be written over.
    """
    try:
        tree = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        tree = None
    except (OSError, ValueError):  # damaged: the next one mends it
        return ReportManifest()
    if not (isinstance(tree, dict) and "digests" in tree):
        theirs = [name for name in ("report.json", *names) if (folder / name).exists()]
        if theirs:
            raise UserError(
                f"{folder} holds files that no report has written, {', '.join(theirs)}; move them away, or name "
                "another folder with --out"
            )
        return ReportManifest()
    try:
        return ReportManifest(**{name: tree[name] for name in ReportManifest.model_fields if name in tree})
    except ValueError:
        return ReportManifest()


def _execute(template: Path, report: Report, folder: Path, due: set[str], parameters: Mapping[str, Any]) -> None:
    from tadaconv.reporting.core.notebook import as_ipynb, as_page, execute

    notebook = execute(template, folder, parameters)
    if "ipynb" in due:
        write_atomically(folder / report.files["ipynb"], as_ipynb(notebook))
    if "html" in due:
        write_atomically(folder / report.files["html"], as_page(notebook, visible(report.listing.title)))


def _write_manifest(report: Report, folder: Path, made_by: ReportManifest, digests: Mapping[str, str]) -> None:
    """Write ``report.json``, with the template and parameters of ``made_by``."""
    stamp = {"template": made_by.template, "parameters": made_by.parameters, "digests": dict(sorted(digests.items()))}
    stamped = report.manifest.model_copy(update={**stamp, "listing": report.listing})
    write_atomically(folder / "report.json", stamped.model_dump_json(indent=1) + "\n")


def _made_by(template: Path, parameters: Mapping[str, Any]) -> ReportManifest:
    """A manifest of this template and these parameters."""
    digest = hashlib.sha256(template.read_bytes()).hexdigest()[:16]
    given = {name: repr(value) for name, value in sorted(parameters.items())}
    return ReportManifest(template=Template(name=encodable(template.name), digest=digest), parameters=given)


def _digest(report: Report, template: Path, options: ReportOptions) -> str:
    """Hash of everything a report is made of: the results, the template, and the code and styles of reports."""
    here = Path(__file__).parent.parent
    code = sorted(file for file in here.rglob("*") if file.suffix in {".py", ".j2", ".css", ".json"})
    digest = hashlib.sha256()
    for part in (report.manifest.model_dump_json(), repr((sorted(options.parameters.items()), options.paper))):
        digest.update(part.encode())
    for name, content in report.data.items():
        digest.update(name.encode() + (content.encode() if isinstance(content, str) else content))
    for file in code:
        digest.update(file.read_bytes())
    try:
        digest.update(template.read_text(encoding="utf-8").encode())
    except UnicodeDecodeError as error:
        raise UserError(f"{template} is not written in UTF-8, as a notebook template has to be") from error
    return digest.hexdigest()[:16]
