"""What commands that run something share: workers from options, what is shown meanwhile, what is written."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from tadaconv import discovery
from tadaconv.cli.entry import complain
from tadaconv.errors import UserError, unknown
from tadaconv.files import require_writable
from tadaconv.locations import resolve_data
from tadaconv.regime import load_regime
from tadaconv.spec import Folder
from tadaconv.table import LoadedTable, load_table, study_name
from tadaconv.table_run import current_records, run_table
from tadaconv.text import visible

if TYPE_CHECKING:
    from tadaconv.cli.options import CrewOptions
    from tadaconv.execution.cells import CellRecord
    from tadaconv.execution.launcher import Crew
    from tadaconv.execution.live import Show
    from tadaconv.execution.planner import Planned
    from tadaconv.execution.store import Store
    from tadaconv.regime import Regime
    from tadaconv.reporting.core.options import ReportOptions
    from tadaconv.study import LoadedStudy


def study_called(name: str) -> "LoadedStudy | None":
    """The study behind a name or a path; None if it is that of a table, or of nothing."""
    from tadaconv.study import load_study

    is_path = discovery.is_path(name)
    if is_path and hasattr(discovery.load("ablation table", name), "STUDY"):
        return load_study(name)
    if is_path or name in discovery.available("ablation table"):
        return None
    known = discovery.available("study")
    if name not in known:
        raise unknown("table or study", name, [*discovery.available("ablation table"), *known])
    return load_study(name)


def require_own_results(loaded: "LoadedTable | LoadedStudy", regime_name: str, store: "Store") -> None:
    """Raise :class:`UserError` if the storage holds under these names the results of other files."""
    from tadaconv.execution import attrs as attr
    from tadaconv.execution.origins import require_own

    kind = attr.TABLE_FILE if isinstance(loaded, LoadedTable) else attr.STUDY_FILE
    study = f"{loaded.name}-{discovery.plain_name(regime_name)}"
    require_own(study, {kind: loaded.path, attr.REGIME_FILE: discovery.find("regime", regime_name)}, store)


DEFAULT_REGIME = "quick"


def own_regime(table: LoadedTable | None, is_there: Callable[[str], bool], lacks: str) -> str:
    """The regime where the call names none: the table's own if it can be taken, else ``quick``; which is said.

    Args:
        table: None for a study, which has no regime of its own.
        is_there: whether what is wanted of the table's own regime, by its name, is there.
        lacks: what is not there otherwise, for readers.
    """
    own = None if table is None else table.table.regime
    if table is None or own is None:
        return DEFAULT_REGIME
    try:
        is_taken = is_there(own)
        if is_taken:
            load_regime(own)
    except UserError as error:
        raise UserError(f"table {table.name!r} names a regime that cannot be taken: {error}") from error
    if is_taken:
        typer.echo(f"regime {own}, which the table names; another is taken with --regime NAME", err=True)
        return own
    typer.echo(f"regime {DEFAULT_REGIME}: the table's own is {own}, and {lacks}", err=True)
    return DEFAULT_REGIME


def regime_with_clips(
    table: LoadedTable | None, data: Path | None, lacks: str = "its clips are not given (--data DIR)"
) -> str:
    """The regime where the call names none: the table's own if its clips are given, or it makes its own."""
    return own_regime(table, lambda name: data is not None or not isinstance(load_regime(name).data, Folder), lacks)


def say_unused_recipes(table: LoadedTable, regime_name: str, regime: "Regime") -> None:
    """Say which recipes of the regime train no row of the table by what looks like a slip."""
    from tadaconv.catalogue import backbones

    unused = table.table.mistaken_recipes(regime, backbones())
    if unused:
        recipes = f"recipe{'s' if len(unused) > 1 else ''} for {'; '.join(map(str, unused))}"
        typer.echo(visible(f"regime {regime_name}: no row of {table.name} is trained by its {recipes}"), err=True)


def num_ended_trials(study: "LoadedStudy", regime_name: str, regime: "Regime", store: "Store | None") -> int:
    """How many trials of a study have ended."""
    from tadaconv.study import study_name, trial_records
    from tadaconv.study.trials import ENDS

    name = study_name(study, regime_name)
    if store is None or name not in store.studies():
        return 0
    return sum(record.status in ENDS for record in trial_records(study, regime, name, store))


def run_named_table(
    name: str,
    regime_name: str | None,
    seeds: range,
    rows: Sequence[str] | None,
    data: Path | None,
    crew: "CrewOptions",
    storage: str | None,
    out: Path,
) -> tuple[int, Path]:
    """What ``tada ablate`` does: the exit status, and the folder of the report.

    Args:
        name: of the table, or its path.
        regime_name: name or path; None for the table's own or ``quick``.
        seeds: which are run.
        rows: names of those that are run; None or none for all.
        data: the folder of clips, for the regimes that need one.
        crew: the workers.
        storage: where the results are; None for the journal in ``out``.
        out: the run folder.
    """
    loaded = load_table(name)
    for row in rows or []:
        loaded.table.row(row)
    regime_name = regime_with_clips(loaded, data) if regime_name is None else regime_name
    say_unused_recipes(loaded, regime_name, load_regime(regime_name))
    regime, store, workers = _prepare(regime_name, data, crew, storage, out)
    return run_and_report(_console(), loaded, regime_name, regime, store, workers, seeds, rows or None, out)


def search_study(
    name: str,
    trials: int,
    regime_name: str,
    data: Path | None,
    crew: "CrewOptions",
    storage: str | None,
    out: Path,
) -> Path:
    """What ``tada study`` does without ``--confirm``: the folder of the report.

    Args:
        name: of the study, or its path.
        trials: how many it shall have, those of earlier calls among them.
        regime_name: name or path.
        data: the folder of clips, for the regimes that need one.
        crew: the workers.
        storage: where the results are; None for the journal in ``out``.
        out: the run folder.
    """
    from tadaconv import study as studies
    from tadaconv.reporting.study.live import StudyView

    loaded = studies.load_study(name)
    regime, store, workers = _prepare(regime_name, data, crew, storage, out)
    require_own_results(loaded, regime_name, store)
    console = _console()
    with StudyView(console, loaded, regime_name, trials) as view:
        studies.search(
            loaded, regime, studies.study_name(loaded, regime_name), store, num_trials=trials, crew=workers, show=view,
            regime_file=discovery.find("regime", regime_name),
        )  # fmt: skip
    return report_study(console, loaded, regime_name, regime, store, out)


def confirm_study(
    name: str,
    num_best: int,
    num_seeds: int,
    regime_name: str,
    data: Path | None,
    crew: "CrewOptions",
    storage: str | None,
    out: Path,
) -> int:
    """What ``tada study --confirm`` does: the exit status.

    Args:
        name: of the study, or its path.
        num_best: how many of its best are run.
        num_seeds: how many new seeds each is run with.
        regime_name: name or path.
        data: the folder of clips, for the regimes that need one.
        crew: the workers.
        storage: where the results are; None for the journal in ``out``.
        out: the run folder.
    """
    from tadaconv import study as studies

    loaded = studies.load_study(name)
    regime, store, workers = _prepare(regime_name, data, crew, storage, out)
    require_own_results(loaded, regime_name, store)
    console = _console()
    records = studies.trial_records(loaded, regime, studies.study_name(loaded, regime_name), store)
    table = studies.confirm(loaded, records, num_best)
    chosen = studies.confirm_seeds(loaded, num_seeds)
    status, _ = run_and_report(console, table, regime_name, regime, store, workers, chosen, None, out)
    report_study(console, loaded, regime_name, regime, store, out, table=False)  # it shows what the best came to
    return status


def _console() -> Console:
    """Standard output; in a notebook too as text, since what moves there asks for ipywidgets."""
    return Console(force_jupyter=False)


def _prepare(
    regime_name: str, data: Path | None, crew: "CrewOptions", storage: str | None, out: Path
) -> "tuple[Regime, Store, Crew]":
    """The regime on its clips, the storage, which is made if need be, and the workers."""
    from tadaconv.execution.store import Store

    regime = load_regime(regime_name)
    place = str(out / "journal.log") if storage is None else storage
    workers = crew.crew(place, out)
    require_writable(out)
    resolved = resolve_data(regime, data, cache=out / "cache")
    return resolved, Store.open(place), workers


def run_and_report(
    console: Console,
    loaded: LoadedTable,
    regime_name: str,
    regime: "Regime",
    store: "Store",
    crew: "Crew",
    seeds: range,
    rows: Sequence[str] | None,
    out: Path,
) -> tuple[int, Path]:
    """Run a table, print it and write its report; the exit status, and the report's folder."""
    from tadaconv.execution.live import view

    study = study_name(loaded, regime_name)

    def show(planned: "Planned") -> "Show":
        """Say what is to be done, and show it while it is."""
        console.print(str(planned), highlight=False)
        return view(console, store.records(study), len(planned.to_run))

    ran = run_table(
        loaded,
        regime,
        study,
        store,
        seeds=seeds,
        rows=rows,
        crew=crew,
        show=show,
        regime_file=discovery.find("regime", regime_name),
    )
    records = current_records(loaded, regime, study, store)
    print_table(console, loaded, regime_name, regime, records, out)
    status = _summarise_failures(ran)
    return status, write_report(console, loaded, regime_name, regime, records, store, out)


def report_study(
    console: Console,
    loaded: "LoadedStudy",
    regime_name: str,
    regime: "Regime",
    store: "Store",
    out: Path,
    formats: Sequence[str] | None = None,
    options: "ReportOptions | None" = None,
    *,
    table: bool = True,
) -> Path:
    """Print a study, write its report, say where it is and return its folder; in every format if none is named.

    Without ``table`` the trials are not printed.
    """
    from tadaconv import reporting
    from tadaconv.reporting.study import study_report
    from tadaconv.reporting.study.terminal import StudyTable
    from tadaconv.study import confirmed, infeasible_draws, kept_budget, trial_records
    from tadaconv.study import study_name as name_of_study

    study = name_of_study(loaded, regime_name)
    records = trial_records(loaded, regime, study, store)
    infeasible = infeasible_draws(loaded, regime, study, store)
    if table:
        console.print(StudyTable(loaded, regime_name, records, infeasible))
    with console.status("writing the report"):
        folder = study_report(
            loaded, regime_name, records, out, formats or reporting.FORMATS, max_macs=kept_budget(study, store),
            confirmed=confirmed(loaded, regime_name, store) is not None, infeasible=infeasible, options=options,
        )  # fmt: skip
    console.print(f"report: {visible(str(folder))}", markup=False, highlight=False, soft_wrap=True)
    return folder


def print_table(
    console: Console,
    loaded: LoadedTable,
    regime_name: str,
    regime: "Regime",
    records: Sequence["CellRecord"],
    out: Path,
) -> None:
    """Print a table as it stands; ``out`` is the run folder."""
    from tadaconv.reporting.ablation import terminal

    styled = console.color_system is not None  # a pipe and a file have none, a terminal without colours has
    console.print(terminal.terminal_table(loaded, regime_name, records, out, regime=regime, styled=styled))


def write_report(
    console: Console,
    loaded: LoadedTable,
    regime_name: str,
    regime: "Regime",
    records: Sequence["CellRecord"],
    store: "Store",
    out: Path,
    formats: Sequence[str] | None = None,
    options: "ReportOptions | None" = None,
) -> Path:
    """Write the report of a table, say where it is and return its folder; in every format if none is named."""
    from tadaconv import reporting
    from tadaconv.reporting.reportable import storage_context

    with console.status("writing the report"):
        folder = reporting.report(
            loaded, regime_name, records, out, reporting.FORMATS if formats is None else formats, regime=regime,
            context=storage_context(loaded, regime_name, records, store), options=options,
        )  # fmt: skip
    console.print(f"report: {visible(str(folder))}", markup=False, highlight=False, soft_wrap=True)
    return folder


def _summarise_failures(ran: Sequence["CellRecord"]) -> int:
    failed = [record for record in ran if record.status == "failed"]
    if not failed:
        return 0
    complain(f"{len(failed)} of {len(ran)} cells failed; the same command tries each anew", 1)
    for record in failed:
        said = f"{record.cell.name}: {record.error}"
        print(f"  {visible(said)}", file=sys.stderr)
    return 1
