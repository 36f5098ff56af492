"""The tables and studies of a storage that can be reported, and the results next to one table's cells."""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tadaconv import discovery
from tadaconv.command import command
from tadaconv.errors import UserError
from tadaconv.execution import attrs
from tadaconv.execution.cells import CellRecord
from tadaconv.execution.origins import ORIGINS, study_with_results
from tadaconv.execution.store import Store
from tadaconv.regime import load_regime
from tadaconv.reporting.ablation import StorageContext
from tadaconv.spec import PROTOCOL
from tadaconv.study import LoadedStudy, confirmed, load_study, trial_records
from tadaconv.study.trials import ENDS
from tadaconv.table import LoadedTable, load_table, study_name
from tadaconv.table_run import current_records, stored_design
from tadaconv.text import listed, plural


@dataclass(frozen=True)
class Reportable:
    """A table or a study of a storage, with what finds its regime, and a result or a failure at least."""

    loaded: LoadedTable | LoadedStudy
    regime: str


def reportable(store: Store) -> tuple[list[Reportable], list[str]]:
    """The tables and studies whose results and files are found, by name; and a line for each study left out, and why.

    The files of tables, studies and regimes are looked for where they were when they were last run, or else by name.
    """
    studies = set(store.studies())
    known, left_out = _known(studies, store)
    candidates = []
    for study, candidate in sorted(known.items()):
        try:
            if _has_ended(candidate, study, store):
                candidates.append(candidate)
            elif line := results_of_earlier_recipe(candidate.loaded, candidate.regime, store):
                left_out[study] = line
            elif num_finished := sum(_left_out(study, set(), store).values()):
                left_out[study] = (
                    f"all {plural(num_finished, 'finished cell')} are of rows or a regime that have changed"
                )
            else:
                left_out[study] = "it has no result yet"
        except UserError as error:
            left_out[study] = str(error)
    for study in studies - set(known) - set(left_out):
        # Where the space of a study has grown, its later trials are in further studies, which are parts of it.
        if not any(study.startswith(f"{whole}-space") for whole in known):
            left_out[study] = _where_sought(study, store)
    return candidates, [f"{study} is left out: {why}" for study, why in sorted(left_out.items())]


def _where_sought(study: str, store: Store) -> str:
    """Where the files of a study were looked for, and the command that names them."""
    origins = {attr: origin for attr, origin in store.study_attrs(study).items() if attr in ORIGINS and origin}
    gone = [origin for origin in origins.values() if not Path(origin).is_file()]
    sought = f"there is no file at {listed(gone)}" if gone else "its table, study or regime is not found by name"
    named, regime = _files(study, store)
    return f"{sought}; report it with: {command('report', named or 'NAME_OR_PATH', regime=regime or 'NAME_OR_PATH')}"


def _known(studies: AbstractSet[str], store: Store) -> tuple[dict[str, Reportable], dict[str, str]]:
    """By name, the studies of a storage whose table or study, and regime, are found; and what is wrong with files."""
    known: dict[str, Reportable] = {}
    broken: dict[str, str] = {}
    for study in sorted(studies):
        named, regime = _files(study, store)
        if named is None or regime is None:
            continue
        is_search = attrs.SEARCH_PROTOCOL in store.study_attrs(study)
        try:
            loaded = load_study(named) if is_search else load_table(named)
        except UserError as error:
            broken[study] = str(error)
            if is_search:  # of its confirmation as well
                name = discovery.plain_name(named)
                broken |= dict.fromkeys({f"{name}_confirm{study.removeprefix(name)}"} & studies, str(error))
            continue
        known[study] = Reportable(loaded, regime)
    for search in list(known.values()):
        if isinstance(search.loaded, LoadedStudy) and (table := confirmed(search.loaded, search.regime, store)):
            known[study_name(table, search.regime)] = Reportable(table, search.regime)
    return known, broken


def _files(study: str, store: Store) -> tuple[str | None, str | None]:
    """The names or paths of the table or study, and of the regime, of ``study``; None for each that is not found."""
    given = store.study_attrs(study)
    attr = attrs.STUDY_FILE if attrs.SEARCH_PROTOCOL in given else attrs.TABLE_FILE
    origin = given.get(attr)
    names = [Path(origin).stem] if origin else list(discovery.available(ORIGINS[attr]))
    name = next((name for name in sorted(names, key=len, reverse=True) if study.startswith(f"{name}-")), None)
    if name is None:
        return None, None
    regime = _found("regime", study.removeprefix(f"{name}-"), given.get(attrs.REGIME_FILE))
    return _found(ORIGINS[attr], name, origin), regime


def _found(kind: str, name: str, origin: str | None) -> str | None:
    """The path or name of the file called ``name``: that of its origin if it exists, or else the one found by name.

    A storage of before keeps no origin of studies and regimes.
    """
    if origin is not None and (file := discovery.original(kind, name, origin)).is_file():
        return discovery.reference(kind, file)
    return name if name in discovery.available(kind) else None


def storage_context(
    loaded: LoadedTable, regime_name: str, records: Sequence[CellRecord], store: Store
) -> StorageContext:
    """What ``store`` has of a table besides ``records``, its cells in a regime: its seed design and other results.

    Args:
        loaded: the table.
        regime_name: what finds the regime.
        records: the cells of the table in it.
        store: where results are kept.
    """
    study = study_with_results(loaded.name, regime_name, store)
    elsewhere = {}
    for other in store.studies():
        if other == study or not other.startswith(f"{loaded.name}-"):
            continue
        regime = _found(
            "regime", other.removeprefix(f"{loaded.name}-"), store.study_attrs(other).get(attrs.REGIME_FILE)
        )
        if regime is not None:
            with suppress(UserError):  # a regime that does not support a row any more does not matter here
                others = _records(loaded, regime, store)
                if any(record.status == "finished" for record in others):
                    elsewhere[regime] = others
    left_out = _left_out(study, {record.cell.key for record in records}, store)
    return StorageContext(elsewhere, left_out, stored_design(study, store, records))


def _left_out(study: str, shown: set[str], store: Store) -> dict[str, int]:
    """Finished cells of ``study`` that are not among the keys ``shown``, by reason."""
    reasons: Counter[str] = Counter()
    for key, attempts in store.attempts().items():
        ended = [a.protocol for a in attempts if a.status == "finished" and store.name_of(a.study_id) == study]
        if ended and key not in shown:
            reasons["changed" if ended[-1] == PROTOCOL else "protocol"] += 1
    return dict(sorted(reasons.items()))


def _records(loaded: LoadedTable, regime_name: str, store: Store) -> list[CellRecord]:
    study = study_with_results(loaded.name, regime_name, store)
    return current_records(loaded, load_regime(regime_name), study, store)


def results_of_earlier_recipe(loaded: LoadedTable | LoadedStudy, regime_name: str, store: Store) -> str | None:
    """How to report results that were made when a regime had another recipe, in one line; None where there are none.

    Args:
        loaded: the table or design study.
        regime_name: what finds the regime.
        store: where results are kept.
    """
    study = f"{loaded.name}-{discovery.plain_name(regime_name)}"
    for before in discovery.available("regime"):
        with suppress(UserError):  # another regime, whose file is broken
            former = load_regime(before).formerly
            if former != discovery.plain_name(regime_name) or study_with_results(loaded.name, before, store) != study:
                continue
            if _has_ended(Reportable(loaded, before), study, store):
                call = command("report", loaded.name, regime=before)
                return f"results of {study} were made when {former} had another recipe; report them with: {call}"
    return None


def _has_ended(candidate: Reportable, study: str, store: Store) -> bool:
    if isinstance(candidate.loaded, LoadedTable):
        records = _records(candidate.loaded, candidate.regime, store)
        return any(record.status in ("finished", "failed") for record in records)
    return any(t.status in ENDS for t in trial_records(candidate.loaded, load_regime(candidate.regime), study, store))
