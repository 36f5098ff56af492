"""The trials of a study in a terminal, while they run and at the end; imports no plotting."""

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tadaconv.execution.cells import metric_of
from tadaconv.reporting.core.format import count_scale, in_unit, scaled, score
from tadaconv.reporting.core.text import listed_clips, missing_notes
from tadaconv.reporting.study.data import trials_data
from tadaconv.reporting.study.parameters import confirm_command, parameters_in_words
from tadaconv.reporting.study.text import BIASED, what_became
from tadaconv.text import visible

if TYPE_CHECKING:
    from tadaconv.study import InfeasibleDraw, LoadedStudy, TrialRecord

_WIDE = 96
"""Characters from which the parameters have a column of their own."""

_STYLES = {"failed": "red", "over budget": "yellow", "pruned": "dim", "waiting": "dim", "running": "cyan"}


class StudyTable:
    """Every trial with its status in words, its parameters, its score and its cost; the best is marked.

    In a narrow terminal the parameters, and why a trial did not finish, are below its name.
    """

    def __init__(
        self,
        loaded: "LoadedStudy",
        regime_name: str,
        records: Sequence["TrialRecord"],
        infeasible: Sequence["InfeasibleDraw"] = (),
    ) -> None:
        self.title = f"{loaded.name} \u00b7 {regime_name}"
        ran = [cell.cell.experiment for record in records for cell in record.cells]
        self.confirm = confirm_command(loaded.reference, regime_name, ran)
        self.missing = missing_notes(listed_clips(ran[0].data.model_dump(mode="json")) if ran else [])
        self.metric = metric_of(cell for record in records for cell in record.cells)
        self.trials, self.infeasible = trials_data(records, loaded.study, self.metric), infeasible

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._table(options.max_width >= _WIDE)

    def _table(self, wide: bool) -> Table:
        unit = count_scale(self.trials["macs"].dropna())
        table = Table(
            title=escape(self.title), box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True,
            title_justify="left", caption_justify="left", caption_style="",
        )  # fmt: skip
        table.add_column("trial", overflow="fold", min_width=10)
        table.add_column("status", overflow="fold", min_width=6)
        table.add_column(self.metric.heading, justify="right", no_wrap=True)
        table.add_column(in_unit("MACs", unit[1], "\n"), justify="right", no_wrap=True)
        if wide:
            table.add_column("parameters", overflow="fold", ratio=1)
        for trial in self.trials.to_dict("records"):
            about = _about(trial)
            name = Text(trial["name"], style="bold" if trial["best"] else "")
            cells = [
                name if wide else Text("\n").join([name, *about]),
                Text("best" if trial["best"] else trial["status"], style="bold green" if trial["best"] else ""),
                Text("" if isnan(trial[self.metric.name]) else score(trial[self.metric.name], self.metric)),
                Text("" if pd.isna(trial["macs"]) else scaled(int(trial["macs"]), unit[0])),
                *([Text("\n").join(about)] if wide else []),
            ]
            table.add_row(*cells, style=_STYLES.get(trial["status"]))
        table.caption = Text("\n").join(Text(line) for line in self._below())
        return table

    def _below(self) -> list[str]:
        lines = [what_became(self.trials, len(self.infeasible))]
        lines += [f"{draw.name} is infeasible: {visible(draw.why)}" for draw in self.infeasible if draw.name]
        lines += self.missing
        lines += [self.metric.hint] if self.metric.hint else []
        if (self.trials["status"] == "finished").sum() > 1:
            lines.append(f"The score of the best of many is {BIASED}; confirm it: {self.confirm}")
        return lines


def _about(trial: dict[Any, Any]) -> list[Text]:
    """The parameters, and in a line below them why the trial did not finish."""
    drawn = Text(parameters_in_words(trial), style="not bold dim")
    return [line for line in (drawn, Text(visible(trial["why"]), style="not bold italic")) if line.plain]
