"""Reports of what ``tada bench`` measured: files -> DataFrame -> words, table, figure.

:func:`benchmark_report` writes a folder. Ratios are taken within a run, to its plain network, and are never compared
across runs: the machine, and what else it had to do, would be compared along.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tadaconv.discovery import plain_name
from tadaconv.reporting import FORMATS, require_formats
from tadaconv.reporting.choices import Choices

TEMPLATE = "benchmark"
"""The notebook template of a benchmark's report, found like every other content by its name."""

_FILES = {"html": "report.html", "ipynb": "report.ipynb", "tex": "table.tex", "csv": "table.csv"}


def benchmark_report(
    paths: Sequence[Path], out: Path, formats: Sequence[str] = FORMATS, *, choices: Choices | None = None
) -> Path:
    """Write the report of JSON files of ``tada bench`` to ``<out>/reports/benchmark-<name>/`` and return that folder.

    A folder among ``paths`` means the benchmark results in it; its other JSON files are listed as left out.
    The name is that of the only path, or that of the first and how many more there are.

    The data are always written, *csv* alone gives nothing else: ``report.json``, ``table.csv`` (a line for every
    method and phase) and ``rounds.csv`` (for every round of them). *tex* adds the LaTeX table, *html* the page,
    *ipynb* the executed notebook, and either of the two ``figures/``. The same files give the same bytes: a report that
    is there already is left alone, and a log message of level INFO says so.

    Args:
        paths: files that ``tada bench`` has written, or folders of them.
        out: the folder of runs.
        formats: of ``FORMATS``.
        choices: may name a template of the user's, whose report is written to a folder next to this one, and give
            values for its parameters.

    Raises:
        UserError: for an unknown format, a path that is not there or cannot be read, a file that is no result of
            ``tada bench``, a folder without one, or a folder that cannot be written.
    """
    require_formats(formats)
    from tadaconv.reporting.benchmark import text
    from tadaconv.reporting.benchmark.data import collect, write_data
    from tadaconv.reporting.benchmark.latex import latex_table
    from tadaconv.reporting.folder import Reported, write_files

    manifest, choices = collect([Path(path) for path in paths]), choices or Choices()
    reported = Reported(
        TEMPLATE if choices.template is None else choices.template,
        _FILES,
        text.title(manifest),
        manifest,
        [],
        partial(write_data, manifest),
        partial(latex_table, manifest),
        choices.parameters,
    )
    own = "" if choices.template is None else f"-{plain_name(choices.template)}"
    return write_files(reported, Path(out) / "reports" / f"benchmark-{manifest.benchmark}{own}", set(formats))
