"""What a storage holds that can be reported, and what stands in it around one table's cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tadaconv import discovery
from tadaconv.ablation import LoadedTable, current_records, load_table, study_name
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord
from tadaconv.execution.store import Store
from tadaconv.regime import load_regime
from tadaconv.reporting.choices import Surroundings
from tadaconv.spec import PROTOCOL
from tadaconv.study import LoadedStudy, confirmed, load_study, trial_records
from tadaconv.study import study_name as name_of_study
from tadaconv.study.trials import ENDS


@dataclass(frozen=True)
class Reportable:
    """A table or a study of a storage, in a regime that is found by its name, with a result or a failure at least."""

    loaded: LoadedTable | LoadedStudy
    regime: str


def reportable(store: Store) -> tuple[list[Reportable], list[str]]:
    """All that a storage holds and files explain, by name; and a line for each study that none does.

    Tables and studies are looked for by name, and, for a table, where its file was when it was last run.
    """
    studies = set(store.studies())
    regimes = discovery.available("regime")
    found: dict[str, Reportable] = {}
    for name in discovery.available("study"):
        of_study = load_study(name)
        for regime in regimes:
            study = name_of_study(of_study, regime)
            if study in studies and _has_ended(of_study, regime, study, store):
                found[study] = Reportable(of_study, regime)
                table = confirmed(of_study, regime, store)
                if table is not None and _has_results(table, regime, store):
                    found[study_name(table, regime)] = Reportable(table, regime)
    for study in sorted(studies - set(found)):
        table = _table_of(study, store)
        regime = "" if table is None else study.removeprefix(f"{table.name}-")
        if table is not None and regime in regimes and _has_results(table, regime, store):
            found[study] = Reportable(table, regime)
    # Where the space of a study has grown, its later trials stand in studies of their own, which are parts of it.
    parts = {study for study in studies for whole in found if study.startswith(f"{whole}-space")}
    unknown = [
        f"{study} is left out: it has no result yet, or its table, study or regime is not found by name; report it "
        "with: tada report NAME_OR_PATH --regime NAME_OR_PATH"
        for study in sorted(studies - set(found) - parts)
    ]
    return [found[study] for study in sorted(found)], unknown


def surroundings(loaded: LoadedTable, regime_name: str, records: Sequence[CellRecord], store: Store) -> Surroundings:
    """What ``store`` holds of a table beside ``records``, which are its cells in a regime as they stand."""
    study = study_name(loaded, regime_name)
    elsewhere = {}
    for regime in discovery.available("regime"):
        other = study_name(loaded, regime)
        if other != study and other in store.studies():
            found = _records(loaded, regime, store)
            if any(record.status == "finished" for record in found):
                elsewhere[regime] = found
    return Surroundings(elsewhere, _left_out(study, {record.cell.key for record in records}, store))


def _left_out(study: str, shown: set[str], store: Store) -> dict[str, int]:
    """Finished cells of ``study`` that are not among the keys ``shown``, by reason."""
    reasons: dict[str, int] = {}
    for key, attempts in store.attempts().items():
        ended = [a for a in attempts if a.state == "finished" and a.study == study]
        if ended and key not in shown:
            reason = "changed" if ended[-1].protocol == PROTOCOL else "protocol"
            reasons[reason] = reasons.get(reason, 0) + 1
    return dict(sorted(reasons.items()))


def _table_of(study: str, store: Store) -> LoadedTable | None:
    """The table whose results a study holds; None where its file is not to be found."""
    tables = discovery.available("ablation table")
    file = store.study_attrs(study).get("table")
    name = next((name for name in sorted(tables, key=len, reverse=True) if study.startswith(f"{name}-")), None)
    if file and Path(file).is_file():
        return load_table(file)
    return None if name is None else load_table(name)


def _records(loaded: LoadedTable, regime_name: str, store: Store) -> list[CellRecord]:
    try:
        return current_records(loaded, load_regime(regime_name), study_name(loaded, regime_name), store)
    except UserError:  # the regime cannot take a row, or the study was never planned
        return []


def _has_results(loaded: LoadedTable, regime_name: str, store: Store) -> bool:
    return any(record.status in ("finished", "failed") for record in _records(loaded, regime_name, store))


def _has_ended(loaded: LoadedStudy, regime_name: str, study: str, store: Store) -> bool:
    try:
        records = trial_records(loaded, load_regime(regime_name), study, store)
    except UserError:
        return False
    return any(record.status in ENDS for record in records)
