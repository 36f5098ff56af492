"""The folder of a benchmark's report."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tadaconv.discovery import plain_name
from tadaconv.reporting.benchmark import words
from tadaconv.reporting.benchmark.frame import write_data
from tadaconv.reporting.benchmark.latex import latex_table
from tadaconv.reporting.benchmark.record import collect
from tadaconv.reporting.core.folder import Reported, write_files
from tadaconv.reporting.core.options import Choices

TEMPLATE = "benchmark"
"""The notebook template of a benchmark's report, found like every other content by its name."""

_FILES = {"html": "report.html", "ipynb": "report.ipynb", "tex": "table.tex", "csv": "table.csv"}


def write_report(paths: Sequence[Path], out: Path, formats: set[str], choices: Choices) -> Path:
    """Write what does not stand yet; see :func:`~tadaconv.reporting.benchmark.benchmark_report`."""
    manifest = collect(paths)
    reported = Reported(
        TEMPLATE if choices.template is None else choices.template,
        _FILES,
        words.title(manifest),
        manifest,
        [],
        partial(write_data, manifest),
        partial(latex_table, manifest),
        choices.parameters,
    )
    own = "" if choices.template is None else f"-{plain_name(choices.template)}"
    return write_files(reported, out / "reports" / f"benchmark-{manifest.benchmark}{own}", formats)
