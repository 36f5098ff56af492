"""Runs a study by a crew of workers, from the first proposal to the last trial."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tadaconv.execution import attrs as attr
from tadaconv.execution.launcher import Crew, work
from tadaconv.execution.origins import claim, require_own
from tadaconv.execution.store import Store
from tadaconv.metrics import metric_named
from tadaconv.regime import Regime
from tadaconv.study.definition import LoadedStudy
from tadaconv.study.proposer import Proposer
from tadaconv.study.trials import TrialRecord, trial_records
from tadaconv.table import Row

_LOOK_SECONDS = 3.0


class ShowTrials(Protocol):
    """Shows a study while it runs."""

    def trials(self, records: Sequence[TrialRecord]) -> None:
        """Show the present trials; called every few seconds."""
        ...

    def line(self, line: str) -> None:
        """Show a line."""
        ...


def search(
    loaded: LoadedStudy,
    regime: Regime,
    study: str,
    store: Store,
    *,
    num_trials: int,
    crew: Crew,
    show: ShowTrials,
    regime_file: Path | None = None,
) -> list[TrialRecord]:
    """Search until the study has ``num_trials`` trials and all have ended; return every one of them.

    Draws that are infeasible in the regime are no trials. If no further feasible one can be drawn, the search
    ends with fewer trials, with a line about it.

    Any number of calls, and any worker, may help with one study. With one worker and no other help a study that was
    stopped and is resumed has the same trials as without the stop; with several, proposals depend on which trials end
    first.

    Args:
        loaded: The study.
        regime: What it is run on, with its data resolved.
        study: Its name in the storage; see :func:`tadaconv.study.study_name`.
        store: Where its trials are kept.
        num_trials: How many trials the study shall have, those of earlier calls among them.
        crew: The workers.
        show: Called with the trials while they run.
        regime_file: The file that holds the regime, in which reports look for it; None for one made in memory.

    Raises :class:`tadaconv.errors.UserError` as :class:`Proposer` does, and where the storage holds the trials of
    another study of this name.
    """
    next_look = 0.0

    def tick(now: bool = False) -> None:
        nonlocal next_look
        if now or time.monotonic() >= next_look:  # reading a hundred trials takes a tenth of a second
            show.trials(trial_records(loaded, regime, study, store))
            next_look = time.monotonic() + _LOOK_SECONDS

    files = {attr.STUDY_FILE: loaded.path, attr.REGIME_FILE: regime_file}
    require_own(study, files, store)
    crew.require(Row(loaded.study.base, loaded.study.base_temporal).cell(regime, 0))
    proposer = Proposer(loaded, regime, study, store)
    claim(study, files, store, metric_named(regime.data.METRIC))
    # One waiting trial at a time keeps all workers busy, and gives the sampler the most data. A single worker
    # proposes only after all trials have ended, so a stopped study can be resumed as if it had not been.
    if not proposer.top_up(1, num_trials).done:
        work(
            crew,
            store,
            is_pending=lambda: not proposer.top_up(1, num_trials).done,
            tick=tick,
            on_line=show.line,
            more=lambda: proposer.top_up(1, num_trials).num_new > 0,
            study=study,
            only_study=True,
        )
    proposed = proposer.top_up(0, num_trials)
    if proposed.exhausted and proposed.num_trials < num_trials:
        show.line(str(proposed))
    tick(now=True)
    return trial_records(loaded, regime, study, store)
