"""The commands that train, and all results of a storage, as functions: for notebooks and scripts.

They run, print, store and report as ``tada ablate`` and ``tada study`` do, on the same storages: what has a result is
not run again, and after Ctrl-C (*Interrupt* in a notebook) the same call resumes. A script with more than one worker
calls them under ``if __name__ == "__main__":``, as for everything that starts processes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tadaconv.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from tadaconv.reporting.ablation.data import Export
    from tadaconv.reporting.study.data import StudyExport


def run_table(
    table: str | Path,
    *,
    regime: str | Path | None = None,
    seeds: int | str | None = None,
    smallest: float | None = None,
    rows: Sequence[str] | None = None,
    data: str | Path | None = None,
    workers: int = 1,
    device: str = "auto",
    storage: str | None = None,
    out: str | Path = "runs",
) -> "Export":
    """Run the cells of a table that have no result yet, write its report, and return what the report is drawn from.

    The functions of :mod:`tadaconv.reporting.ablation.figures` draw from it. A cell that fails does not raise: it is
    in ``manifest.cells`` as failed, with its error.

    Args:
        table: a name, or the path of a file.
        regime: a name or a path; None for the table's own where its clips are given, else ``quick``.
        seeds: how many, such as ``3``: seeds 0 to 2 are run. Or ``"3:12"``: three, then one more at a time, up to
            twelve, for the rows of comparisons that are undecided. None for what the table was last run with, else 1.
        smallest: the smallest difference of interest, in the unit of differences of the metric; rows that differ by
            less, significantly, are equivalent. None for what the table was last run with, else 1 point.
        rows: names of the rows to run; None for all.
        data: the folder of clips, for the regimes that need one.
        workers: cells run at a time, each by a process.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        storage: a journal file or the URL of a PostgreSQL database; None for ``journal.log`` in ``out``.
        out: the folder for results, checkpoints and reports.

    Raises:
        UserError: something cannot be run as asked, before anything is queued.
        RunError: what no cell is to blame for, such as a full disk.
    """
    from tadaconv.cli.options import CrewOptions
    from tadaconv.cli.run import run_named_table
    from tadaconv.reporting.ablation.data import read_export

    _require_counts(workers=workers)
    if isinstance(rows, str):
        raise UserError(f"rows is a list of names; write rows=[{rows!r}]")
    name = None if regime is None else str(regime)
    crew = CrewOptions(workers=workers, device=device)
    _, folder = run_named_table(str(table), name, seeds, smallest, rows, _path(data), crew, storage, Path(out))
    return read_export(folder)


def run_study(
    study: str | Path,
    *,
    trials: int = 20,
    regime: str | Path = "quick",
    data: str | Path | None = None,
    workers: int = 1,
    device: str = "auto",
    storage: str | None = None,
    out: str | Path = "runs",
) -> "StudyExport":
    """Search a design space, write its report, and return what that is drawn from.

    The functions of :mod:`tadaconv.reporting.study.figures` draw from it.

    Args:
        study: a name, or the path of a file.
        trials: how many the study shall have, those of earlier calls among them.
        regime: a name or a path.
        data: the folder of clips, for the regimes that need one.
        workers: trials run at a time, each by a process.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        storage: a journal file or the URL of a PostgreSQL database; None for ``journal.log`` in ``out``.
        out: the folder for results, checkpoints and reports.

    Raises:
        UserError: something cannot be run as asked, before anything is queued.
        RunError: what no trial is to blame for, such as a full disk.
    """
    from tadaconv.cli.options import CrewOptions
    from tadaconv.cli.run import search_named_study
    from tadaconv.reporting.study.data import read_study

    _require_counts(trials=trials, workers=workers)
    crew = CrewOptions(workers=workers, device=device)
    return read_study(search_named_study(str(study), str(regime), trials, _path(data), crew, storage, Path(out)))


def results(storage: str | Path = "runs/journal.log") -> "pd.DataFrame":
    """All results of a storage as one tidy frame: a line a cell of every table, and a line a trial of every study.

    ``study`` names the table or the study and the regime, ``label`` the row, ``status`` is *finished*, *failed* (with
    its ``error``), *running*, *waiting* or *pruned*. A cell that several tables share has a line in each. The columns
    behind these are those of ``cells.csv`` of ``tada export``, empty where there is no result: ``top1`` (or the name of
    the metric) in its unit, costs, seconds, ``environment.*``, and every setting as ``experiment.*``. Cells of rows or
    regimes that have changed since are left out, as in reports; ``tada export`` has them all.

    Args:
        storage: a journal file or the URL of a PostgreSQL database.

    Raises:
        UserError: there is no storage.
    """
    import pandas as pd

    from tadaconv.execution.store import Store
    from tadaconv.reporting.archive import read_storage

    store = Store.open(str(storage), create=False)
    archive = read_storage(store)
    planned = [
        (study, label, seed, key)
        for study in store.studies()
        for label, row in store.read_plan(study).items()
        for seed, key in sorted(row.seeds.items())
    ]
    attempts = archive.attempts.dropna(subset="cell")
    attempts = attempts[attempts.state.ne("fail") | attempts.error.notna()]  # the others were requeued or withdrawn
    attempts = attempts.assign(status=attempts.state.replace({"complete": "finished", "fail": "failed"}))
    trials = attempts[attempts.configuration.notna()].drop_duplicates(["study", "cell"], keep="last")
    columns = ["study", "label", "seed", "cell"]
    lines = pd.concat([pd.DataFrame(planned, columns=columns), trials[columns]], ignore_index=True)
    latest = attempts.drop_duplicates("cell", keep="last").set_index("cell")
    latest.loc[archive.cells.cell, ["status", "error"]] = "finished", pd.NA
    lines.insert(3, "status", lines.cell.map(latest.status).fillna("waiting"))
    lines.insert(4, "error", lines.cell.map(latest.error))
    return lines.merge(archive.cells.drop(columns=["study", "trial", "label", "seed"]), on="cell", how="left")


def _require_counts(**numbers: int) -> None:
    """Raise :class:`UserError` unless each is an integer from 1 on."""
    for name, number in numbers.items():
        if type(number) is not int or number < 1:
            raise UserError(f"{name} is {number!r}; give an integer, 1 or more")


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
