"""The table in a terminal, while cells run and at the end; imports no plotting."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tadaconv.execution.cells import CellRecord
from tadaconv.metrics import Metric
from tadaconv.regime import Regime
from tadaconv.reporting.ablation.data import Export, Manifest, collect
from tadaconv.reporting.ablation.ensembles import ensembles_of
from tadaconv.reporting.ablation.paper import clips_of
from tadaconv.reporting.ablation.summary import compares_apart, summarise, untested
from tadaconv.reporting.ablation.text import ensemble_gaps, has_paper, order_notes, recipe_notes
from tadaconv.reporting.core.export import checked
from tadaconv.reporting.core.format import count_scale, difference, in_unit, published, scaled, score, some
from tadaconv.reporting.core.text import missing_notes
from tadaconv.table import LoadedTable
from tadaconv.text import listed, plural, visible

_MOST_REASONS = 5
_WIDTH = 80
"""Columns of a terminal that a table is readable in."""
_NAME_WIDTH = 14
_OTHER_RECIPE = "\u2020"
_MARKS = {"best": ("bold", "bold", "*"), "tie": ("underline", "underlined", "~")}
"""By standing: the style of the number, its name, and the sign where there are no styles."""


def terminal_table(
    loaded: LoadedTable,
    regime_name: str,
    records: Sequence[CellRecord],
    out: Path | None = None,
    *,
    regime: Regime | None = None,
    styled: bool = True,
) -> Table:
    """The rows with their score, the difference to the row compared with and the costs, readable at 80 columns.

    Where rows are compared with different rows, each has the name of its own below it; else the base is named as such.
    A score is bold or underlined as :func:`~tadaconv.reporting.ablation.summary.standings` says. Brackets hold 95 %
    intervals: over seeds, or over the validation clips alone where there is one seed. Below a published number that is
    measured as ours, as ``regime`` says, stands how far ours lies from it. Where the output has no styles,
    in a file or a pipe, ``styled=False`` has characters for them. Rows that average others have their numbers where
    ``out``, the run folder, is given.
    """
    records = [checked(record) for record in records]
    ensembles = [] if out is None else ensembles_of(loaded, records, out)
    export = collect(loaded, regime_name, records, regime=regime, cells_alone=True, ensembles=ensembles)
    summary, metric = summarise(export), export.metric
    base = loaded.table.base.name
    apart = compares_apart(summary, base)
    has_versus = bool(summary["versus"].any())
    has_published = has_paper(export)
    params = count_scale(summary["params"].dropna())
    macs = count_scale(summary["macs"].dropna())
    table = Table(
        title=f"{escape(visible(loaded.name))} \u00b7 {escape(visible(regime_name))}",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, title_justify="left",
        caption_justify="left", caption_style="",
    )  # fmt: skip
    table.add_column("row", overflow="fold", min_width=_NAME_WIDTH)
    difference_heading = "\u0394" if apart else "\u0394 base"
    costs = (in_unit("params", params[1], "\n"), in_unit("MACs", macs[1], "\n"))
    for heading in ("n", metric.heading, *([difference_heading] if has_versus else []), *costs):
        table.add_column(heading, justify="right", no_wrap=True)
    if has_published:
        table.add_column("paper", justify="right", no_wrap=True)
    for line in summary.to_dict("records"):
        cells = [
            _name(line, apart, records),
            _seeds(line),
            _marked(line, styled, metric),
            *([Text(_difference(line, metric))] if has_versus else []),
            Text(scaled(line["params"], params[0])),
            Text(scaled(line["macs"], macs[0])),
            *([_paper(line, metric)] if has_published else []),
        ]
        table.add_row(*cells, style={"failed": "red", "missing": "dim"}.get(line["status"]))
    table.caption = _below(export, summary, records, styled)
    if _unwrapped_width(table) > _WIDTH:
        for column in table.columns:  # an interval below its number, so that no digit is cut off elsewhere
            column.no_wrap = column.header not in ("row", metric.heading, difference_heading)
    return table


def _unwrapped_width(table: Table) -> int:
    """The columns of a terminal that the table takes with its names wrapped and its numbers not."""
    console = Console()
    options = console.options.update(max_width=10_000)

    def widest(what: RenderableType) -> int:
        return Measurement.get(console, options, what).maximum

    names = max(widest(cell) for cell in table.columns[0].cells)
    return widest(table) - names + min(names, _NAME_WIDTH)


def _paper(line: dict[Any, Any], metric: Metric) -> Text:
    """The published number, and below it by how much ours is above it, where the two are measured alike."""
    number = published(line[f"paper_{metric.name}"], metric)
    delta = line["paper_delta_mean"]
    return Text(number if delta != delta else f"{number}\n{difference(delta, metric)}")


def _below(export: Export, summary: pd.DataFrame, records: Sequence[CellRecord], styled: bool) -> Text:
    """What the brackets hold, what marks and numbers mean, which differences lack seeds, and why cells failed."""
    manifest, metric = export.manifest, export.metric
    covers, standing = set(summary["covers"]), set(summary["standing"])
    words = {"seeds": "over seeds", "clips": "over validation clips alone where n = 1"}
    held = " and ".join(words[name] for name in ("seeds", "clips") if name in covers)
    lines = [Text(f"[ ]: 95 % interval {held}", style="dim")] if held else []
    meant = {
        "best": f"significantly {metric.beyond} every other",
        "tie": f"the {metric.superlative}, and what cannot be told from it",
    }
    marked = [name for name in meant if name in standing]
    for name in marked:
        style, word, sign = _MARKS[name]
        what = f": {meant[name]}" + ("; paired t test at 5 % after Holm" if name == marked[-1] else "")
        lines.append(Text(word if styled else sign, style=f"{style} dim") + Text(what, style=f"not {style} dim"))
    for rows, what in (
        (untested(summary), "not tested, neither marked nor ruled out"),
        (
            [f"{row} ({plural(n, 'pair')})" for row, n in _fewer_pairs(summary)],
            "\u0394 over the seeds that both rows have",
        ),
    ):
        lines += [Text(visible(f"{what}: {some(rows)}"), style="dim")] if rows else []
    if any(summary["across_recipes"] & summary["delta_mean"].notna()):
        lines.append(Text(f"{_OTHER_RECIPE} to a row of another recipe, whose effect is mixed in", style="dim"))
    if summary["paper_delta_mean"].notna().any():
        lines.append(Text("below a number of the paper: ours less it, measured as the paper did", style="dim"))
    notes = [*recipe_notes(manifest), *missing_notes(clips_of(manifest))]
    notes += order_notes(manifest) if has_paper(export) else []
    notes += [metric.hint] if metric.hint else []
    lines += [Text(visible(note), style="dim") for note in notes]
    lines += _averages(manifest)
    failed: dict[tuple[str, str], list[int]] = {}
    for record in records:
        if record.status == "failed":
            seeds = failed.setdefault((record.cell.label, record.error or "no reason was recorded"), [])
            seeds.append(record.cell.experiment.seed)
    for (row, reason), seeds in list(failed.items())[:_MOST_REASONS]:
        numbers = ", ".join(map(str, sorted(seeds)))
        lines.append(Text(visible(f"{row} failed with seed {numbers}: {reason}"), style="red"))
    if len(failed) > _MOST_REASONS:
        lines.append(Text("more cells failed; cells.csv has them all", style="red"))
    return Text("\n").join(lines)


def _averages(manifest: Manifest) -> list[Text]:
    """What the rows are that average others, and which of their values are missing, and why."""
    said = [
        Text(visible(f"{row.name}: mean of the class probabilities of {listed(row.ensemble)}"), style="dim")
        for row in manifest.rows
        if row.ensemble
    ]
    for name, seeds, why in ensemble_gaps(manifest):
        numbers = ", ".join(map(str, seeds))
        said.append(Text(visible(f"{name} has no value with seed {numbers}: {why}"), style="yellow"))
    return said


def _fewer_pairs(summary: pd.DataFrame) -> list[tuple[str, int]]:
    """Rows whose difference is over fewer seeds than a mean beside it, with the number of pairs."""
    found = summary[summary["other_seeds"]]
    return [(str(row), int(n)) for row, n in zip(found["row"], found["num_pairs"], strict=True)]


def _name(line: dict[Any, Any], apart: bool, records: Sequence[CellRecord]) -> Text:
    name = Text(visible(line["row"]))
    if line["reference"] and not apart:
        name += Text(" (base)", style="dim")
    if not line["n"]:
        states = {record.status for record in records if record.cell.label == line["row"]}
        state = next((s for s in ("running", "failed", "waiting") if s in states), "not run")
        state = "no value" if line["ensemble"] else state
        name += Text(f" {state}", style="italic")
    if apart and line["versus"]:
        name += Text(f"\n\u0394 to {visible(line['versus'])}", style="dim")
    return name


def _seeds(line: dict[Any, Any]) -> Text:
    """The seeds behind a row's numbers; of how many, where some have none."""
    if line["status"] == "partial":
        return Text(f"{line['n']}/{line['num_planned']}", style="yellow")
    return Text(str(line["n"]))


def _marked(line: dict[Any, Any], styled: bool, metric: Metric) -> Text:
    """The score with its interval; bold or underlined as it stands among its group."""
    number = _bracketed(partial(score, metric=metric), line, metric.name)
    if line["standing"] not in _MARKS:
        return Text(number)
    style, _, sign = _MARKS[line["standing"]]
    if not styled:
        return Text(sign + number)
    text = Text(number)
    text.stylize(style, 0, len(score(line[metric.column("mean")], metric)))
    return text


def _difference(line: dict[Any, Any], metric: Metric) -> str:
    number = _bracketed(partial(difference, metric=metric), line, "delta")
    return f"{number}{_OTHER_RECIPE}" if number and line["across_recipes"] else number


def _bracketed(form: Any, line: dict[Any, Any], what: str) -> str:
    mean, low, high = (line[f"{what}_{part}"] for part in ("mean", "low", "high"))
    if mean != mean:
        return ""
    return f"{form(mean)} [{form(low)},{form(high)}]" if low == low else form(mean)
