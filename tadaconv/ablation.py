"""Names of :mod:`tadaconv.table` and :mod:`tadaconv.table_run` for older files, which imported them from here.

New files import from those two.
"""

from tadaconv.files import require_writable as require_writable
from tadaconv.locations import resolve_data as resolve_data
from tadaconv.table import Claim as Claim
from tadaconv.table import LoadedTable as LoadedTable
from tadaconv.table import PaperResult as PaperResult
from tadaconv.table import Row as Row
from tadaconv.table import Table as Table
from tadaconv.table import load_table as load_table
from tadaconv.table import study_name as study_name
from tadaconv.table_run import claim_name as claim_name
from tadaconv.table_run import current_records as current_records
from tadaconv.table_run import run_table as run_table
