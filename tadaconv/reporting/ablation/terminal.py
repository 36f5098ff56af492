"""The table in a terminal, while cells run and at the end; imports no plotting."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tadaconv.execution.cells import CellRecord
from tadaconv.regime import Regime
from tadaconv.reporting.ablation.answer import answer
from tadaconv.reporting.ablation.data import Export, collect
from tadaconv.reporting.ablation.ensembles import ensembles_of
from tadaconv.reporting.ablation.learned import learned
from tadaconv.reporting.ablation.paper import clips_of
from tadaconv.reporting.ablation.summary import summarise
from tadaconv.reporting.ablation.table import columns
from tadaconv.reporting.ablation.text import ensemble_gaps, has_paper, learned_in_short, legend, order_notes
from tadaconv.reporting.core import terminal
from tadaconv.reporting.core.export import checked
from tadaconv.reporting.core.text import missing_notes
from tadaconv.sequential import SeedDesign
from tadaconv.table import LoadedTable
from tadaconv.text import plural, visible

_MOST_REASONS = 5


def terminal_table(
    loaded: LoadedTable,
    regime_name: str,
    records: Sequence[CellRecord],
    out: Path | None = None,
    *,
    regime: Regime | None = None,
    styled: bool = True,
    design: SeedDesign | None = None,
) -> Table:
    """The answer, then the rows with score, difference to the row compared with and costs, readable at 80 columns.

    Args:
        loaded: The table.
        regime_name: The regime, as it was named.
        records: Its cells.
        out: The run folder, where ensembles find class probabilities; without it they have no value.
        regime: The regime itself, by which published numbers are compared with ours.
        styled: Whether the output has styles, unlike a file or a pipe; else marks are signs.
        design: How many seeds the table is run with, as the storage has it.
    """
    records = [checked(record) for record in records]
    ensembles = [] if out is None else ensembles_of(loaded, records, out)
    export = collect(loaded, regime_name, records, regime=regime, cells_alone=True, ensembles=ensembles, design=design)
    summary, metric = summarise(export), export.metric
    bold, underlined = ("Bold", "Underlined") if styled else ("*", "~")
    notes = [learned_in_short(learned(export)), *legend(summary, metric, bold, underlined, design)]
    notes += missing_notes(clips_of(export.manifest))
    notes += order_notes(export.manifest) if has_paper(export) else []
    return terminal.terminal_table(
        "\n".join(filter(None, [f"{loaded.name} \u00b7 {regime_name}", answer(export)])),
        columns(summary, loaded.table.base.name, metric, "terminal"),
        summary.to_dict("records"),
        [*(Text(visible(note), style="dim") for note in notes), *_gaps(export, records)],
        styled=styled,
    )


def _gaps(export: Export, records: Sequence[CellRecord]) -> Iterator[Text]:
    """Why ensembles have no value and why cells failed."""
    for note in ensemble_gaps(export.manifest):
        yield Text(visible(note), style="yellow")
    failed: dict[tuple[str, str], list[int]] = {}
    for record in records:
        if record.status == "failed":
            seeds = failed.setdefault((record.cell.label, record.error or "no reason was recorded"), [])
            seeds.append(record.cell.experiment.seed)
    for (row, reason), seeds in list(failed.items())[:_MOST_REASONS]:
        numbers = ", ".join(map(str, sorted(seeds)))
        yield Text(visible(f"{row} failed with seed {numbers}: {reason}"), style="red")
    if len(failed) > _MOST_REASONS:
        yield Text(f"{plural(len(failed) - _MOST_REASONS, 'more reason')} in cells.csv", style="red")
