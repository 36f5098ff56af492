"""The page that leads to every report of a run folder: results -> entries -> page.

Entries are read from the finished reports, so that those which another command made are listed as well.
"""

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError

from tadaconv.errors import UserError
from tadaconv.reporting.ablation.data import read_export
from tadaconv.reporting.ablation.summary import verdicts
from tadaconv.reporting.ablation.text import title, what_was_run
from tadaconv.reporting.core.export import CellOrigin, write_atomically
from tadaconv.reporting.core.format import data_uri, percent, plural
from tadaconv.text import visible

Kind = Literal["table", "study", "calibration", "benchmark"]
KINDS: dict[Kind, str] = {
    "table": "Ablation tables",
    "study": "Design studies",
    "calibration": "Trained cells",
    "benchmark": "Benchmarks",
}
"""What is listed, in this order, under which heading."""

VERDICTS = ("supported", "contradicted", "undecided")

_FILES = {"report.html": "page", "report.ipynb": "notebook", "table.tex": "LaTeX", "table.csv": "CSV",
          "trials.csv": "CSV"}  # fmt: skip
_MAIN_FIGURES = ("accuracy_by_row", "pareto", "ratios", "ratios_1")
_THUMBNAIL = (320, 240)
"""The most pixels across and down; shown at half of that, for screens of twice the density."""
_MARK = '<meta name="generator" content="tada report --all">'
"""Says that a page is ours to write over."""
_PAGE = Path(__file__).parent / "core" / "templates"


@dataclass(frozen=True)
class IndexEntry:
    """One report, as the page lists it.

    Attributes:
        folder: name of the report's folder.
        kind: what it reports.
        name: of the table, study or benchmark.
        regime: empty where there is none.
        question: the question of the table or study, or what was measured, in one line.
        ran: what was run, and how much of it finished, failed or is missing.
        claims: how many of the paper's claims came out how; empty but for a table that makes claims.
        found: what came out, a sentence each.
        first: when the first cell ended; None where that is not known.
        last: when the last cell ended.
        files: the files of the folder that readers open, and what they are.
        thumbnail: the main figure, small, as PNG; None without figures.
    """

    folder: str
    kind: Kind
    name: str
    regime: str
    question: str
    ran: str
    claims: dict[str, int]
    found: list[str]
    first: datetime | None
    last: datetime | None
    files: dict[str, str]
    thumbnail: bytes | None

    @property
    def when(self) -> str:
        """The days, in universal time, from the first to the last cell; empty where they are not known."""
        if self.first is None or self.last is None:
            return ""
        first, last = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in (self.first, self.last))
        return f"{first} UTC" if first == last else f"{first} to {last} UTC"


def write_index(out: Path) -> Path:
    """Write ``<out>/reports/index.html``, a page of every report in that folder, and return its path.

    It holds figures and styles inside and asks for nothing else; its links are relative, so that the folder can be
    moved. The same reports give the same bytes. Folders that hold no report of ours are passed over.

    Raises :class:`UserError` where a file of that name is there that is not ours, or the folder cannot be written.
    """
    folder = Path(out) / "reports"
    path = folder / "index.html"
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{path} is not a page of tada report --all; move it away, or name another folder with --out")
    write_atomically(path, render(read_entries(folder)))
    return path


def read_entries(folder: Path) -> list[IndexEntry]:
    """The reports in ``folder``, by kind and name."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    entries = [entry for each in inside if (entry := read_entry(each)) is not None]
    order = list(KINDS)
    return sorted(entries, key=lambda e: (order.index(e.kind), e.name, e.regime, e.folder))


def read_entry(folder: Path) -> IndexEntry | None:
    """The entry of a finished report; None for a folder that holds none."""
    try:
        tree = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = _kind(tree)
    if kind is None:
        return None
    read = {"table": _of_table, "study": _of_study, "calibration": _of_cell, "benchmark": _of_benchmark}[kind]
    try:
        found = read(folder)
    except (UserError, ValidationError):
        # Another version wrote it: that it is there can be said, and what is in it cannot.
        found = {"name": str(tree[_NAMES[kind]]), "ran": "Written by another version of tadaconv; report it again."}
    about = {"regime": "", "question": "", "claims": {}, "found": [], "first": None, "last": None, **found}
    files = {name: what for name, what in _FILES.items() if (folder / name).is_file()}
    return IndexEntry(folder=folder.name, kind=kind, files=files, thumbnail=_thumbnail(folder / "figures"), **about)


_NAMES: dict[Kind, str] = {"table": "table", "study": "study", "calibration": "table", "benchmark": "benchmark"}


def _kind(tree: Any) -> Kind | None:
    """What a ``report.json`` reports, by what it must hold."""
    if not isinstance(tree, dict) or "digests" not in tree:
        return None
    if "alpha_low" in tree:
        return "calibration" if "table" in tree else None
    return next((kind for kind in ("benchmark", "study", "table") if kind in tree), None)


def _of_table(folder: Path) -> dict[str, Any]:
    export = read_export(folder)
    manifest = export.manifest
    counts = Counter(verdicts(export)["verdict"])
    return {
        "name": manifest.table,
        "regime": manifest.regime,
        "question": title(manifest),
        "ran": what_was_run(export),
        "claims": {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]},
        **_times(manifest.cells),
    }


def _of_study(folder: Path) -> dict[str, Any]:
    from tadaconv.reporting.study import text as of_study
    from tadaconv.reporting.study.data import read_study

    export = read_study(folder)
    manifest, trials = export.manifest, export.trials
    num_finished = int((trials["status"] == "finished").sum())
    best = trials[trials["best"]].to_dict("records")
    return {
        "name": manifest.study,
        "regime": manifest.regime,
        "question": of_study.title(manifest),
        "ran": of_study.what_became(trials, manifest.num_infeasible),
        "found": [f"Best of {num_finished} that finished: {each['name']}, {percent(each['top1'])} %." for each in best],
        **_times(manifest.cells),
    }


def _of_cell(folder: Path) -> dict[str, Any]:
    from tadaconv.reporting.calibration.data import CalibrationManifest

    manifest = CalibrationManifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
    return {
        "name": manifest.table,
        "regime": manifest.regime,
        "question": f"What the calibration of \u201c{manifest.row}\u201d does",
        "ran": f"Row \u201c{manifest.row}\u201d, seed {manifest.seed}, at {percent(manifest.top1)} %; "
        f"{plural(manifest.num_clips, 'validation clip')} passed through the trained network.",
        **_times(manifest.cells),
    }


_MOST_FINDINGS = 4


def _of_benchmark(folder: Path) -> dict[str, Any]:
    from tadaconv.reporting.benchmark import words
    from tadaconv.reporting.benchmark.record import read_benchmark

    manifest = read_benchmark(folder)
    found = [f"{words.subject(n.run)}, {said}" for n in manifest.runs for said in words.findings(n.run)]
    more = len(found) - _MOST_FINDINGS
    devices = dict.fromkeys(each.run.environment.get("device", "an unknown device") for each in manifest.runs)
    return {
        "name": manifest.benchmark,
        "question": words.title(manifest),
        "ran": f"{plural(len(manifest.runs), 'run')} on {', '.join(devices)}.",
        "found": [*found[:_MOST_FINDINGS], *([f"{plural(more, 'more finding')} on its page."] if more > 0 else [])],
    }


def _times(cells: Iterable[CellOrigin]) -> dict[str, datetime | None]:
    ended = [cell.ended for cell in cells if cell.ended is not None]
    return {"first": min(ended, default=None), "last": max(ended, default=None)}


def _thumbnail(figures: Path) -> bytes | None:
    """The main figure of a report as a small PNG of few colours; None where it has no figure."""
    from PIL import Image, UnidentifiedImageError

    inside = sorted(path.stem for path in figures.glob("*.png"))
    main = next((name for name in (*_MAIN_FIGURES, *inside) if name in inside), None)
    if main is None:
        return None
    try:
        with Image.open(figures / f"{main}.png") as image:
            small = image.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None  # somebody's own file
    width, height = _THUMBNAIL
    small.thumbnail((width, 4 * height), Image.Resampling.LANCZOS)
    small = small.crop((0, 0, small.width, min(small.height, height)))  # of a long figure the beginning
    buffer = io.BytesIO()
    small.quantize(64, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def render(entries: Sequence[IndexEntry]) -> str:
    """The page of ``entries`` as HTML. Every name and question comes out as text."""
    environment = Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plural": plural,
        "linked": lambda file, folder: f"{quote(os.fsencode(folder))}/{quote(file)}",
        "as_image": lambda content: data_uri(content, "image/png"),
    }
    groups = {heading: [e for e in entries if e.kind == kind] for kind, heading in KINDS.items()}
    known = [at for entry in entries for at in (entry.first, entry.last) if at is not None]
    page = environment.get_template("overview.html.j2").render(
        groups={heading: of_kind for heading, of_kind in groups.items() if of_kind},
        num_entries=len(entries),
        css=(_PAGE / "page.css").read_text(encoding="utf-8"),
        last=f"{max(known).astimezone(UTC):%Y-%m-%d %H:%M} UTC" if known else "",
    )
    return visible(page)
