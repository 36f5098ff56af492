"""The command line, ``tada``: names things, and holds no logic.

Exit status 0; 1 if a run failed or standard output could not be written; 2 if the call is wrong, with one line that
says how to mend it; 130 after Ctrl-C.
"""

from tadaconv.cli import preview, data, run, report, features, detections, storages, bench  # isort: skip  # their order is that of the commands in the help
from tadaconv.cli.app import app
from tadaconv.cli.entry import main

__all__ = ["app", "bench", "data", "detections", "features", "main", "preview", "report", "run", "storages"]
