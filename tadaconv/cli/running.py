"""Shared by commands that run or report: how tables and studies are loaded, default regimes, reports."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from tadaconv import discovery
from tadaconv.cli.entry import complain
from tadaconv.errors import UserError, unknown
from tadaconv.metrics import metric_named
from tadaconv.regime import load_regime
from tadaconv.reporting.core.options import FORMATS, ReportOptions
from tadaconv.spec import Folder
from tadaconv.table import LoadedTable, load_table, study_name
from tadaconv.table_run import current_records, run_table, stored_design, table_study
from tadaconv.text import visible

if TYPE_CHECKING:
    from tadaconv.execution.cells import CellRecord
    from tadaconv.execution.launcher import Crew
    from tadaconv.execution.live import Show
    from tadaconv.execution.planner import Planned
    from tadaconv.execution.store import Store
    from tadaconv.regime import Regime
    from tadaconv.sequential import SeedDesign
    from tadaconv.study import LoadedStudy


def load_named(name: str) -> "LoadedTable | LoadedStudy":
    """The table or study behind a name or a path; raises :class:`UserError`, listing the right names."""
    tables = discovery.available("ablation table")
    if name in tables or (discovery.is_path(name) and not hasattr(discovery.load("ablation table", name), "STUDY")):
        return load_table(name)
    from tadaconv.study import load_study

    studies = discovery.available("study")
    if name not in studies and not discovery.is_path(name):
        raise unknown("table or study", name, [*tables, *studies])
    return load_study(name)


def require_rows(loaded: LoadedTable, rows: Sequence[str] | None) -> None:
    """Raise :class:`UserError` for a row that the table does not have."""
    for name in rows or []:
        try:
            loaded.table.row(name)
        except UserError as error:
            raise UserError(f"{error}; to name several, repeat the option: --rows A --rows B") from error


def require_own_results(loaded: "LoadedTable | LoadedStudy", regime_name: str, store: "Store") -> None:
    """Raise :class:`UserError` if the storage holds under these names the results of other files."""
    from tadaconv.execution import attrs as attr
    from tadaconv.execution.origins import require_own

    kind = attr.TABLE_FILE if isinstance(loaded, LoadedTable) else attr.STUDY_FILE
    study = f"{loaded.name}-{discovery.plain_name(regime_name)}"
    require_own(study, {kind: loaded.path, attr.REGIME_FILE: discovery.find("regime", regime_name)}, store)


DEFAULT_REGIME = "quick"


def default_regime(loaded: "LoadedTable | LoadedStudy", is_available: Callable[[str], bool], lacks: str) -> str:
    """The regime where the call names none: the table's own if it is available, else ``quick``. Prints which.

    Args:
        loaded: a table, or a study, which names no regime.
        is_available: whether what the command needs of the table's own regime, by its name, is there.
        lacks: what is missing otherwise, for readers.
    """
    own = loaded.table.regime if isinstance(loaded, LoadedTable) else None
    if own is None:
        return DEFAULT_REGIME
    try:
        is_taken = is_available(own)
        if is_taken:
            load_regime(own)
    except UserError as error:
        raise UserError(f"table {loaded.name!r} names a regime that cannot be used: {error}") from error
    if is_taken:
        typer.echo(f"regime {own}, which the table names; choose another with --regime NAME", err=True)
        return own
    typer.echo(f"regime {DEFAULT_REGIME}: the table's own is {own}, and {lacks}", err=True)
    return DEFAULT_REGIME


def regime_with_clips(
    loaded: "LoadedTable | LoadedStudy", data: Path | None, lacks: str = "its clips are not given (--data DIR)"
) -> str:
    """The regime where the call names none: the table's own if its clips are given, or it makes its own."""

    def has_clips(regime_name: str) -> bool:
        return data is not None or not isinstance(load_regime(regime_name).data, Folder)

    return default_regime(loaded, has_clips, lacks)


def require_network(loaded: LoadedTable, row: str) -> None:
    """Raise :class:`UserError` for a row that the table does not have, and for one without a network of its own."""
    if parts := loaded.table.row(row).ensemble:
        raise UserError(f"row {row!r} is an ensemble and has no network; name one of its rows: {', '.join(parts)}")


def trained_cell(loaded: LoadedTable, regime: str, row: str, seed: int | None, store: "Store") -> "CellRecord":
    """The record of a row's cell that has finished; raises :class:`UserError` without one.

    Args:
        loaded: the table.
        regime: what finds its regime.
        row: the name of a row.
        seed: of the cell; None for the first that finished.
        store: the storage.
    """
    from tadaconv.execution.origins import study_with_results

    study = study_with_results(loaded.name, regime, store)
    records = current_records(loaded, load_regime(regime), study, store)
    of_row = {record.cell.experiment.seed: record for record in records if record.cell.label == row}
    finished = sorted(seed for seed, record in of_row.items() if record.status == "finished")
    chosen = finished[0] if seed is None and finished else seed
    if chosen in finished:
        return of_row[chosen]
    if finished:
        seeds = ", ".join(map(str, finished))
        raise UserError(f"row {row!r} has no finished cell from seed {seed}; name one of these seeds: {seeds}")
    design = stored_design(study, store, records)
    is_adaptive = design is not None and design.is_adaptive  # results decide about seeds, so a call cannot ask for one
    raise UserError(
        f"no cell of row {row!r} has finished; run it with: "
        + loaded.command(
            regime,
            [record.cell.experiment for record in records],
            rows=row,
            seeds=None if is_adaptive else seed and seed + 1,
        )
    )


def print_unused_recipes(loaded: "LoadedTable | LoadedStudy", regime_name: str, regime: "Regime") -> None:
    """Print which recipes of the regime train no row of a table by what looks like a slip."""
    from tadaconv.catalogue import backbones

    unused = loaded.table.mistaken_recipes(regime, backbones()) if isinstance(loaded, LoadedTable) else []
    if unused:
        recipes = f"recipe{'s' if len(unused) > 1 else ''} for {'; '.join(map(str, unused))}"
        typer.echo(visible(f"regime {regime_name}: no row of {loaded.name} is trained with its {recipes}"), err=True)


def print_line(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


def write_report(console: Console, make: Callable[[], Path]) -> Path:
    """Write a report by ``make``, which returns its folder; print and return that."""
    with console.status("writing the report"):
        folder = make()
    print_line(console, f"report: {folder}")
    return folder


@dataclass(frozen=True)
class Reporter:
    """Prints results of a storage, writes their reports and prints where they are.

    Attributes:
        store: where the results are.
        out: the run folder.
        formats: of the reports.
        options: of the reports.
        console: what is printed to.
    """

    store: "Store"
    out: Path
    formats: Sequence[str] = FORMATS
    options: ReportOptions = field(default_factory=ReportOptions)
    console: Console = field(default_factory=lambda: Console(force_jupyter=False))  # widgets need ipywidgets

    def table(self, loaded: LoadedTable, regime_name: str, regime: "Regime", *, printed: bool = True) -> Path:
        """Report a table, and return the report's folder; raises :class:`UserError` if no cell of it has ended.

        Args:
            loaded: the table.
            regime_name: what finds the regime.
            regime: the regime itself.
            printed: whether the table is printed, too.
        """
        from tadaconv import reporting
        from tadaconv.execution.origins import study_with_results
        from tadaconv.reporting.reportable import storage_context

        study = study_with_results(loaded.name, regime_name, self.store)
        records = current_records(loaded, regime, study, self.store)
        if printed:
            self._print_earlier_recipe(loaded, regime_name, any(r.status in ("finished", "failed") for r in records))
            reporting.require_results(loaded, regime_name, records)
            design = stored_design(study, self.store, records)
            print_table(self.console, loaded, regime_name, regime, records, self.out, design)
        return write_report(
            self.console,
            lambda: reporting.report(
                loaded, regime_name, records, self.out, self.formats, regime=regime,
                context=storage_context(loaded, regime_name, records, self.store), options=self.options,
            ),
        )  # fmt: skip

    def study(self, loaded: "LoadedStudy", regime_name: str, regime: "Regime", *, printed: bool = True) -> Path:
        """Report a study, and return the report's folder.

        Args:
            loaded: the study.
            regime_name: what finds the regime.
            regime: the regime itself.
            printed: whether its trials are printed, too.
        """
        from tadaconv.execution.origins import study_with_results
        from tadaconv.reporting.study import study_report
        from tadaconv.reporting.study.terminal import StudyTable
        from tadaconv.study import ENDS, confirmed, infeasible_draws, kept_budget, trial_records

        study = study_with_results(loaded.name, regime_name, self.store)
        records = trial_records(loaded, regime, study, self.store)
        infeasible = infeasible_draws(loaded, regime, study, self.store)
        if printed:
            self._print_earlier_recipe(loaded, regime_name, any(trial.status in ENDS for trial in records))
            self.console.print(StudyTable(loaded, regime_name, records, infeasible))
        return write_report(
            self.console,
            lambda: study_report(
                loaded, regime_name, records, self.out, self.formats, max_macs=kept_budget(study, self.store),
                confirmed=confirmed(loaded, regime_name, self.store) is not None, infeasible=infeasible,
                options=self.options,
            ),
        )  # fmt: skip

    def _print_earlier_recipe(self, loaded: "LoadedTable | LoadedStudy", regime_name: str, has_results: bool) -> None:
        """Print how to report results of an earlier recipe; raises :class:`UserError` where there are no others."""
        from tadaconv.reporting.reportable import results_of_earlier_recipe

        line = results_of_earlier_recipe(loaded, regime_name, self.store)
        if line is not None and not has_results:
            raise UserError(line)
        if line is not None:
            print_line(self.console, line)

    def run_table(
        self,
        loaded: LoadedTable,
        regime_name: str,
        regime: "Regime",
        crew: "Crew",
        seeds: int | str | None = None,
        smallest: float | None = None,
        rows: Sequence[str] | None = None,
        first_seed: int = 0,
    ) -> tuple[int, Path]:
        """Run a table and report it; the exit status, and the report's folder.

        Args:
            loaded: the table.
            regime_name: what finds the regime.
            regime: the regime itself, with its clips resolved.
            crew: the workers.
            seeds: how many, or ``FIRST:LAST``; None for what is stored, else 1.
            smallest: the smallest difference of interest; None for what is stored, else the metric's.
            rows: names of the rows to run; None for all.
            first_seed: the first of the seeds.
        """
        from tadaconv.execution.live import view
        from tadaconv.execution.seed_design import asked_design

        study = study_name(loaded, regime_name)
        of_table = table_study(loaded, regime, study, first_seed)
        design = asked_design(of_table, self.store, metric_named(regime.data.METRIC), seeds, smallest)

        def show(planned: "Planned") -> "Show":
            for line in filter(None, (planned.workers, str(planned))):
                self.console.print(line, highlight=False)
            return view(self.console, self.store.records(study), len(planned.to_run), planned.num_most_to_run)

        ended = run_table(
            loaded, regime, study, self.store, design=design, rows=rows, crew=crew, show=show,
            first_seed=first_seed, regime_file=discovery.find("regime", regime_name),
        )  # fmt: skip
        folder = self.table(loaded, regime_name, regime)
        return _print_failures(ended), folder


def print_table(
    console: Console,
    loaded: LoadedTable,
    regime_name: str,
    regime: "Regime",
    records: Sequence["CellRecord"],
    out: Path,
    design: "SeedDesign | None" = None,
) -> None:
    """Print the results of a table.

    Args:
        console: what is printed to.
        loaded: the table.
        regime_name: what finds the regime.
        regime: the regime itself.
        records: the cells of the table.
        out: the run folder.
        design: how many seeds the table is run with; None where none is stored.
    """
    from tadaconv.reporting.ablation import terminal

    styled = console.color_system is not None  # a pipe and a file have no colours, nor have some terminals
    console.print(
        terminal.terminal_table(loaded, regime_name, records, out, regime=regime, styled=styled, design=design)
    )


def _print_failures(ended: Sequence["CellRecord"]) -> int:
    failed = [record for record in ended if record.status == "failed"]
    if not failed:
        return 0
    complain(f"{len(failed)} of {len(ended)} cells failed; the same command tries each again", 1)
    for record in failed:
        print(visible(f"  {record.cell.name}: {record.error}"), file=sys.stderr)
    return 1
