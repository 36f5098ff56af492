"""The best configurations of a study, as an ablation table on new seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.execution.store import Store
from tadaconv.spec import Experiment
from tadaconv.study.definition import LoadedStudy
from tadaconv.study.space import spec_json
from tadaconv.study.trials import TrialRecord, confirmation_name, trials_metric
from tadaconv.table import LoadedTable, Row, Table


def confirm(loaded: LoadedStudy, records: Sequence[TrialRecord], num_best: int) -> LoadedTable:
    """The best finished configurations of a study as an ablation table whose base is the study's.

    Its cells are to be run from seeds the search has not used, :func:`confirm_seeds`: on its own seeds the
    best is biased by selection. Rows are named by their parameters, so that they keep their results when others come
    before them.

    Args:
        loaded: The study.
        records: Its configurations; see :func:`trial_records`.
        num_best: How many, in addition to the base.

    Raises:
        UserError: ``num_best`` is not positive, or no trial has finished.
    """
    if num_best < 1:
        raise UserError(f"--confirm {num_best} would compare no trials; give a number from 1 on")
    study = loaded.study
    base = study.started[study.base]
    finished = [
        trial
        for trial in records
        if trial.status == "finished" and spec_json(trial.temporal) != spec_json(base.temporal)
    ]
    sign = trials_metric(finished).sign
    best = sorted(finished, key=lambda trial: (-sign * cast(float, trial.score), trial.number))[:num_best]
    if not best:
        raise UserError(
            f"the study {loaded.name!r} has no finished trial other than its base yet; run more of it first"
        )
    rows: list[Row] = []
    for record in best:
        label = record.name if record.name in study.start else _differences(record.params, base.params)
        taken = {row.name for row in rows} | {study.base}
        rows.append(Row(f"{label} ({record.name})" if label in taken else label, record.temporal))
    return LoadedTable(
        confirmation_name(loaded),
        _question(loaded),
        Table(base=Row(study.base, base.temporal), rows=rows),
        search=loaded.reference,
    )


def confirmed(loaded: LoadedStudy, regime_name: str, store: Store) -> LoadedTable | None:
    """The table that :func:`confirm` last made of a study in a regime, as stored; None if it was never made."""
    name = confirmation_name(loaded)
    plan = store.read_plan(f"{name}-{discovery.plain_name(regime_name)}")
    if not plan:
        return None
    rows = {label: Row(label, Experiment.model_validate(row.experiment).temporal) for label, row in plan.items()}
    base = rows.pop(loaded.study.base, None)
    if base is None:  # the study has another base by now; confirming again makes another table
        return None
    table = Table(base=base, rows=list(rows.values()))
    return LoadedTable(name, _question(loaded), table, search=loaded.reference)


def confirm_seeds(loaded: LoadedStudy, num_seeds: int) -> range:
    """Seeds that the search has not used."""
    return range(loaded.study.seeds, loaded.study.seeds + num_seeds)


def _question(loaded: LoadedStudy) -> str:
    return f"Do the best trials of the study {loaded.name} hold on new seeds?\n\n{loaded.question}"


def _differences(params: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """How parameters differ from the base's, for example ``no res2, blocks alternate``."""
    differences = []
    for name, value in params.items():
        if name in base and type(base[name]) is type(value) and base[name] == value:
            continue
        if isinstance(value, bool):
            differences.append(name if value else f"no {name}")
        else:
            differences.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(differences) or "as the base, with less"
