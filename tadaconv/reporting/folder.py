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
from tadaconv.reporting.sentences import title, what_was_run
from tadaconv.reporting.summary import summarise, table_columns

TEMPLATE = "ablation"
"""The notebook template of a table's report, found like every other content by its name."""

_FILES = {"html": "report.html", "ipynb": "report.ipynb", "tex": "table.tex", "csv": "table.csv"}
_LOG = logging.getLogger(__name__)


def write_report(
    loaded: LoadedTable, regime_name: str, records: Sequence[CellRecord], out: Path, formats: set[str]
) -> Path:
    """Write the files of ``formats`` that do not stand yet; see :func:`tadaconv.reporting.report`."""
    folder = out / "reports" / f"{loaded.name}-{Path(regime_name).stem}"
    template = discovery.find("report", TEMPLATE)
    export = collect(loaded, regime_name, records)
    digest, known = _digest(export, template), _digests(folder)
    due = {name for name in formats if known.get(name) != digest or not (folder / _FILES[name]).is_file()}
    if not due:
        _LOG.info("%s is up to date: neither the results nor the template have changed", folder)
        return folder
    # Until a file is written again it counts as out of date, should this be cut short.
    kept = {name: value for name, value in known.items() if name not in due}
    _write_data(export, folder, kept)
    if "tex" in due:
        heading = f"{title(export.manifest)} Regime {regime_name}. {what_was_run(export)}"
        write_atomically(folder / _FILES["tex"], latex_table(summarise(export), export.manifest.base, heading))
    if due & {"html", "ipynb"}:
        _execute(template, export.manifest, folder, due)
    _write_manifest(export.manifest, folder, {**kept, **dict.fromkeys(due, digest)})
    return folder


def _write_data(export: Export, folder: Path, digests: dict[str, str]) -> None:
    write_csvs(export, folder)
    summary = summarise(export)
    columns = table_columns(summary, export.manifest.base)
    write_atomically(folder / _FILES["csv"], as_csv(summary[columns], digits=6))
    _write_manifest(export.manifest, folder, digests)


def _execute(template: Path, manifest: Manifest, folder: Path, due: set[str]) -> None:
    from tadaconv.reporting.notebook import as_ipynb, as_page, execute

    notebook = execute(template, folder)
    if "ipynb" in due:
        write_atomically(folder / _FILES["ipynb"], as_ipynb(notebook))
    if "html" in due:
        write_atomically(folder / _FILES["html"], as_page(notebook, title(manifest)))


def _write_manifest(manifest: Manifest, folder: Path, digests: dict[str, str]) -> None:
    stamped = manifest.model_copy(update={"digests": dict(sorted(digests.items()))})
    write_atomically(folder / "report.json", stamped.model_dump_json(indent=1) + "\n")


def _digests(folder: Path) -> dict[str, str]:
    """From what each file of an earlier report was made; empty where there is none, or none that can be read."""
    try:
        return Manifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8")).digests
    except (OSError, ValueError):
        return {}


def _digest(export: Export, template: Path) -> str:
    """Hash of all that decides what a report says: the results, the template, and the code and styles of reports."""
    parts = [export.manifest.model_dump_json(), *map(as_csv, (export.cells, export.curves, export.families))]
    here = Path(__file__).parent
    code = sorted(file for file in here.rglob("*") if file.suffix in {".py", ".j2", ".css", ".json"})
    parts += [file.read_text(encoding="utf-8") for file in (template, *code)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
