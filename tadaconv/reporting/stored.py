"""What a storage holds that can be reported, and what stands in it around one table's cells."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
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
    """All that a storage holds and files explain, by name; and a line for each study that cannot be reported, and why.

    Tables and studies are looked for by name, and, for a table, where its file was when it was last run.
    """
    studies = set(store.studies())
    known, left_out = _known(studies, store)
    found: dict[str, Reportable] = {}
    for study, each in sorted(known.items()):
        try:
            if not _has_ended(each, study, store):
                left_out[study] = "it has no result yet"
                continue
            found[study] = each
        except UserError as error:
            left_out[study] = str(error)
    # Where the space of a study has grown, its later trials stand in studies of their own, which are parts of it.
    parts = {study for study in studies - set(known) if any(study.startswith(f"{whole}-space") for whole in known)}
    for study in studies - set(known) - set(left_out) - parts:
        left_out[study] = (
            "its table, study or regime is not found by name; report it with: tada report NAME_OR_PATH --regime "
            "NAME_OR_PATH"
        )
    return [found[study] for study in sorted(found)], [
        f"{study} is left out: {left_out[study]}" for study in sorted(left_out)
    ]


def _known(studies: AbstractSet[str], store: Store) -> tuple[dict[str, Reportable], dict[str, str]]:
    """By name, the studies of a storage whose table or study, and regime, are found; and what is wrong with files."""
    regimes = discovery.available("regime")
    known: dict[str, Reportable] = {}
    broken: dict[str, str] = {}
    for name in discovery.available("study"):
        own = {f"{name}-{regime}": regime for regime in regimes} | {f"{name}_confirm-{r}": r for r in regimes}
        if not own.keys() & studies:
            continue
        try:
            loaded = load_study(name)
        except UserError as error:
            broken |= dict.fromkeys(own.keys() & studies, str(error))
            continue
        for regime in regimes:
            if (study := name_of_study(loaded, regime)) in studies:
                known[study] = Reportable(loaded, regime)
                if (table := confirmed(loaded, regime, store)) is not None:
                    known[study_name(table, regime)] = Reportable(table, regime)
    for study in studies - set(known) - set(broken):
        try:
            table_of = _table_of(study, store)
        except UserError as error:
            broken[study] = str(error)
            continue
        regime = "" if table_of is None else study.removeprefix(f"{table_of.name}-")
        if table_of is not None and regime in regimes:
            known[study] = Reportable(table_of, regime)
    return known, broken


def surroundings(loaded: LoadedTable, regime_name: str, records: Sequence[CellRecord], store: Store) -> Surroundings:
    """What ``store`` holds of a table beside ``records``, which are its cells in a regime as they stand."""
    study = study_name(loaded, regime_name)
    elsewhere = {}
    for regime in discovery.available("regime"):
        other = study_name(loaded, regime)
        if other != study and other in store.studies():
            with suppress(UserError):  # a regime that cannot take a row any more says nothing about this one
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
    return current_records(loaded, load_regime(regime_name), study_name(loaded, regime_name), store)


def _has_ended(each: Reportable, study: str, store: Store) -> bool:
    if isinstance(each.loaded, LoadedTable):
        records = _records(each.loaded, each.regime, store)
        return any(record.status in ("finished", "failed") for record in records)
    return any(t.status in ENDS for t in trial_records(each.loaded, load_regime(each.regime), study, store))
