"""The folder of a report: what is written, in which order, and when nothing has to be."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from tadaconv import discovery
from tadaconv.ablation import LoadedTable
from tadaconv.execution.cells import CellRecord
from tadaconv.reporting.export import Export, Manifest, as_csv, collect, write_atomically, write_csvs
from tadaconv.reporting.latex import latex_table
from tadaconv.reporting.summary import TABLE_COLUMNS, summarise

TEMPLATE = "ablation"
"""The notebook template of a table's report, found like every other content by its name."""

_LOG = logging.getLogger(__name__)


def write_report(
    loaded: LoadedTable, regime_name: str, records: Sequence[CellRecord], out: Path, formats: set[str]
) -> Path:
    """Write the files of ``formats``; see :func:`tadaconv.reporting.report`."""
    folder = out / "reports" / f"{loaded.name}-{Path(regime_name).stem}"
    template = discovery.find("report", TEMPLATE)
    export = collect(loaded, regime_name, records)
    digest = _digest(export, template)
    if _stands(folder, digest, formats):
        _LOG.info("%s is up to date: neither results nor templates have changed", folder)
        return folder
    executes = bool(formats & {"html", "ipynb"})
    if executes or "csv" in formats:
        write_csvs(export, folder)
        write_atomically(folder / "table.csv", as_csv(summarise(export)[TABLE_COLUMNS], digits=6))
    if "tex" in formats:
        title = f"{loaded.name}, regime {regime_name}: {len(export.manifest.seeds)} seeds"
        write_atomically(folder / "table.tex", latex_table(summarise(export), export.manifest.base, title))
    manifest = export.manifest
    write_atomically(folder / "report.json", _json(manifest))
    if executes:
        from tadaconv.reporting.notebook import as_ipynb, as_page, execute

        notebook = execute(template, folder)
        if "ipynb" in formats:
            write_atomically(folder / "report.ipynb", as_ipynb(notebook))
        if "html" in formats:
            write_atomically(folder / "report.html", as_page(notebook, f"{manifest.table}, {manifest.regime}"))
    # Last, so that a report cut short is not taken for one that stands.
    write_atomically(folder / "report.json", _json(manifest.model_copy(update={"digest": digest})))
    return folder


_FILES = {"html": "report.html", "ipynb": "report.ipynb", "tex": "table.tex", "csv": "table.csv"}


def _stands(folder: Path, digest: str, formats: set[str]) -> bool:
    try:
        written = Manifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return written.digest == digest and all((folder / _FILES[name]).is_file() for name in formats)


def _digest(export: Export, template: Path) -> str:
    """Hash of all that decides what a report says: the results, the template, and the code and styles of reports."""
    parts = [export.manifest.model_dump_json(), *map(as_csv, (export.cells, export.curves, export.families))]
    here = Path(__file__).parent
    code = sorted(file for file in here.rglob("*") if file.suffix in {".py", ".j2", ".css", ".json"})
    parts += [file.read_text(encoding="utf-8") for file in (template, *code)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _json(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=1) + "\n"
