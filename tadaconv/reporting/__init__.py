"""Reports: results -> DataFrame -> figure or table -> page, notebook, LaTeX and CSV, a room for each kind of report.

:func:`report` writes the folder of a table; studies, trained cells and benchmarks have their own in ``study``,
``calibration`` and ``benchmark``.
"""

import sys

from tadaconv.reporting.ablation import report, require_results
from tadaconv.reporting.core.options import FORMATS, require_formats, require_options
from tadaconv.reporting.renamed import RenamedFinder

__all__ = ["FORMATS", "report", "require_formats", "require_options", "require_results"]

sys.meta_path.append(RenamedFinder())
