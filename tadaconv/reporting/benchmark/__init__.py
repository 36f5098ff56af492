"""Reports of the measurements of ``tada bench``: files -> DataFrame -> words, table, figure.

:func:`benchmark_report` writes a folder. Ratios are taken within a run, to its plain network, and are never compared
across runs, between which the machine and its load differ.
"""

from collections.abc import Sequence
from pathlib import Path

from tadaconv.reporting.core.options import FORMATS, ReportOptions, require_formats


def benchmark_report(
    paths: Sequence[Path], out: Path, formats: Sequence[str] = FORMATS, *, options: ReportOptions | None = None
) -> Path:
    """Write the report of JSON files of ``tada bench`` to ``<out>/reports/benchmark-<name>/`` and return that folder.

    A folder among ``paths`` means the benchmark results in it; its other JSON files are listed as left out.
    The name is that of the only path, or that of the first and how many more there are.

    The data are always written, *csv* alone gives nothing else: ``report.json``, ``table.csv`` (a line for every
    method and phase) and ``rounds.csv`` (for every round of them). *tex* adds the LaTeX table, *html* the page,
    *ipynb* the executed notebook, and either of the two ``figures/``. The same files give the same bytes: a report that
    is up to date is kept, which is logged at level INFO.

    Args:
        paths: files that ``tada bench`` has written, or folders of them.
        out: the folder of runs.
        formats: of ``FORMATS``.
        options: may name a template, whose report is written to a folder next to this one, and give
            values for its parameters.

    Raises:
        UserError: for an unknown format, a path that does not exist or cannot be read, a file that is no result of
            ``tada bench``, a folder without one, or a folder that cannot be written.
    """
    require_formats(formats)
    from tadaconv.reporting.benchmark.data import collect, files_of
    from tadaconv.reporting.benchmark.latex import latex_table
    from tadaconv.reporting.benchmark.text import listing
    from tadaconv.reporting.core.folder import Report, write_report

    manifest = collect([Path(path) for path in paths])
    made = Report(
        name=f"benchmark-{manifest.benchmark}",
        template="benchmark",
        listing=listing(manifest),
        manifest=manifest,
        data=files_of(manifest),
        latex=lambda: latex_table(manifest),
    )
    return write_report(made, Path(out), formats, options or ReportOptions())
