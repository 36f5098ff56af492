"""Reports: results -> DataFrame -> figure or table -> page, notebook, LaTeX and CSV, a room for each kind of report.

:func:`report` writes the folder of a table; studies, trained cells and benchmarks have their own in ``study``,
``calibration`` and ``benchmark``.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tadaconv.reporting.ablation import report, require_results
from tadaconv.reporting.core.options import FORMATS, require_formats, require_options
from tadaconv.reporting.renamed import RenamedFinder

__all__ = ["FORMATS", "prepared", "report", "require_formats", "require_options", "require_results"]

sys.meta_path.append(RenamedFinder())


@contextmanager
def prepared(formats: Sequence[str]) -> Iterator[None]:
    """Start what executes notebooks while the results are still to be read, if any of ``formats`` needs it."""
    if not {"html", "ipynb"} & set(formats):
        yield
        return
    from tadaconv.reporting.core.kernel import kernel_ahead

    with kernel_ahead():
        yield
