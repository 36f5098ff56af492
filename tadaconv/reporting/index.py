"""The page that leads to every report of a run folder: results -> entries -> page.

Entries are read from the finished reports, so that those which another command made are listed as well.
"""

import io
import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from tadaconv.errors import UserError
from tadaconv.files import write_atomically
from tadaconv.reporting.core import page as core_page
from tadaconv.reporting.core.export import Listing
from tadaconv.reporting.core.format import data_uri
from tadaconv.reporting.core.text import first_line
from tadaconv.text import visible

KINDS = {
    "table": "Ablation tables",
    "study": "Design studies",
    "calibration": "Trained cells",
    "benchmark": "Benchmarks",
}
"""What is listed, in this order, under which heading; any other kind follows, under its own name."""

_FILES = {"report.html": "page", "report.ipynb": "notebook", "table.tex": "LaTeX", "table.csv": "CSV",
          "trials.csv": "CSV"}  # fmt: skip
_MAIN_FIGURES = ("verdicts", "accuracy_by_row", "pareto", "ratios", "ratios_1")
_THUMBNAIL = (320, 240)
"""The most pixels across and down; shown at half of that, for screens of twice the density."""
_MARK = '<meta name="generator" content="tada report --all">'
"""Says that a page is ours to write over."""
_PAGE = Path(__file__).parent / "core" / "templates"


class IndexEntry(Listing):
    """One report, as the page lists it.

    Attributes:
        folder: name of the report's folder.
        files: the files of the folder that readers open, and what they are.
        thumbnail: the main figure, small, as PNG; None without figures.
    """

    folder: str
    files: dict[str, str]
    thumbnail: bytes | None

    def link(self, file: str) -> str:
        """The address of one of its files on the page."""
        return f"{quote(os.fsencode(self.folder))}/{quote(file)}"

    @property
    def picture(self) -> str:
        """The thumbnail as an address."""
        return data_uri(self.thumbnail or b"", "image/png")

    @property
    def when(self) -> str:
        """The days, in universal time, from the first to the last cell; empty where they are not known."""
        if self.first is None or self.last is None:
            return ""
        first, last = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in (self.first, self.last))
        return f"{first} UTC" if first == last else f"{first} to {last} UTC"


def write_index(out: Path) -> Path:
    """Write ``<out>/reports/index.html``, a page of every report in that folder, and return its path.

    It is self-contained but for its links, which are relative, so that the folder can be moved. The same reports give
    the same bytes. Folders without a report of ours are skipped.

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
    entries = [entry for path in inside if (entry := read_entry(path)) is not None]
    kinds = _kinds_of(entries)
    return sorted(entries, key=lambda e: (kinds.index(e.kind), e.name, e.regime, e.folder))


def _kinds_of(entries: Iterable[IndexEntry]) -> list[str]:
    return list(dict.fromkeys([*KINDS, *sorted(entry.kind for entry in entries)]))


def read_entry(folder: Path) -> IndexEntry | None:
    """The entry of a finished report; None for a folder that holds none."""
    try:
        tree = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(tree, dict) or "digests" not in tree:
        return None
    try:
        listing = Listing.model_validate(tree.get("listing"))
    except ValidationError:
        # An earlier version wrote it, without a listing.
        named_by = next((key for key in ("benchmark", "study", "table") if key in tree), None)
        if named_by is None:
            return None
        listing = Listing(
            kind="calibration" if "alpha_low" in tree else named_by,
            name=str(tree[named_by]),
            regime=str(tree.get("regime", "")),
            title=first_line(str(tree.get("question", ""))),
            ran="Written by another version of tadaconv; report it again.",
        )
    files = {name: label for name, label in _FILES.items() if (folder / name).is_file()}
    return IndexEntry(folder=folder.name, files=files, thumbnail=_thumbnail(folder / "figures"), **listing.model_dump())


def _thumbnail(figures: Path) -> bytes | None:
    """The main figure of a report as a small PNG of few colours; None where it has no figure."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    names = [*_MAIN_FIGURES, *sorted(path.stem for path in figures.glob("*.png"))]
    main = next((figures / f"{name}.png" for name in names if (figures / f"{name}.png").is_file()), None)
    if main is None:
        return None
    try:
        with Image.open(main) as image:
            small = ImageOps.contain(image.convert("RGB"), _THUMBNAIL, Image.Resampling.LANCZOS)
    except (OSError, UnidentifiedImageError):
        return None  # a file of the user's
    buffer = io.BytesIO()
    small.quantize(64, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def render(entries: Sequence[IndexEntry]) -> str:
    """The page of ``entries`` as HTML. Every name and question comes out as text."""
    groups = {KINDS.get(kind, kind): [e for e in entries if e.kind == kind] for kind in _kinds_of(entries)}
    known = [at for entry in entries for at in (entry.first, entry.last) if at is not None]
    page = core_page.render(
        "overview",
        groups={heading: of_kind for heading, of_kind in groups.items() if of_kind},
        num_entries=len(entries),
        css=(_PAGE / "page.css").read_text(encoding="utf-8"),
        last=f"{max(known).astimezone(UTC):%Y-%m-%d %H:%M} UTC" if known else "",
    )
    return visible(page)
