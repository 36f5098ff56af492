"""Shows a study while it runs: its trials as a live table in a terminal, a line a trial elsewhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live

from tadaconv.execution.cells import metric_of
from tadaconv.execution.live import Show
from tadaconv.reporting.study.terminal import StudyTable

if TYPE_CHECKING:
    from tadaconv.study import LoadedStudy, TrialRecord


class StudyView(Show):
    """A context manager that shows the trials of a study while they run.

    Args:
        console: a terminal shows the table; anything else gets a line for every trial that ends.
        loaded: the study.
        regime_name: the regime of its cells.
        num_trials: how many trials are planned.
    """

    def __init__(self, console: Console, loaded: "LoadedStudy", regime_name: str, num_trials: int) -> None:
        super().__init__(console)
        self._loaded, self._regime_name = loaded, regime_name
        self._num_trials = num_trials
        self._ended: set[int] | None = None
        self._last: Sequence[TrialRecord] = ()
        self._live = Live(console=console, transient=True, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        super().__exit__()

    def trials(self, records: "Sequence[TrialRecord]") -> None:
        """Show the trials if the status of one has changed."""
        if [record.status for record in records] == [record.status for record in self._last]:
            return
        self._last = records
        ended = {record.number for record in records if record.status not in ("running", "waiting")}
        if self._live is not None:
            self._live.update(StudyTable(self._loaded, self._regime_name, records))
        elif self._ended is not None:  # what had ended before is in the table at the end
            for record in records:
                if record.number in ended - self._ended:
                    self._ended.add(record.number)
                    self.line(f"[{len(self._ended)}/{self._num_trials}] {record.name}: {_outcome(record)}")
        self._ended = ended


def _outcome(record: "TrialRecord") -> str:
    if record.status == "finished" and record.score is not None:
        metric = metric_of(record.cells)
        return f"{metric.label} {metric.in_words(record.score, more_decimals=1)}"
    return f"{record.status}, {record.why}" if record.why else record.status
