"""The files of the table, the study and the regime of each study in a storage."""

from collections.abc import Mapping
from pathlib import Path

from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.store import Store
from tadaconv.metrics import Metric
from tadaconv.regime import load_regime

ORIGINS = {attr.TABLE_FILE: "ablation table", attr.STUDY_FILE: "study", attr.REGIME_FILE: "regime"}
"""The attributes of a study in which a storage keeps the origin of its files, and the kind of each file."""


def study_with_results(name: str, regime_name: str, store: Store) -> str:
    """The study of a storage with the results of a table or a design study in a regime: ``<name>-<regime>``.

    If the storage has none, and the regime had another name when its results were made, that of the other name.

    Args:
        name: of the table or design study.
        regime_name: what finds the regime.
        store: the storage.
    """
    study = f"{name}-{discovery.plain_name(regime_name)}"
    former = f"{name}-{load_regime(regime_name).formerly}"
    return former if study not in store.studies() and former in store.studies() else study


def differ(kind: str, one: str, other: str) -> bool:
    """Whether two origins are of two files: both are there, and they differ.

    A file that was edited, moved or is on another machine is the same.
    """
    if one == other:
        return False
    name = Path(one or other).stem
    first, second = (discovery.original(ORIGINS[kind], name, origin) for origin in (one, other))
    return first.is_file() and second.is_file() and first.read_bytes() != second.read_bytes()


def require_own(study: str, files: Mapping[str, Path | None], store: Store) -> None:
    """Raise :class:`UserError` if ``study`` holds the results of another table, study or regime of the same name.

    ``files`` are by the names in :data:`ORIGINS`; None is for what was made in memory.
    """
    attrs = store.study_attrs(study)
    for kind, path in files.items():
        if path is None or kind not in attrs:
            continue
        if differ(kind, attrs[kind], discovery.origin(ORIGINS[kind], path)):
            other = discovery.original(ORIGINS[kind], path.stem, attrs[kind])
            raise UserError(
                f"{study} in {store.shown} holds the results of a different {kind}, {other}; rename {path}, or name "
                "another --out or --storage"
            )


def claim(study: str, files: Mapping[str, Path | None], store: Store, metric: Metric) -> None:
    """Store the files of the results in ``study``; raises :class:`UserError` as :func:`require_own` does.

    A study that is new has the direction of ``metric``.
    """
    require_own(study, files, store)
    for kind, path in files.items():
        if path is not None:
            store.make_study(study, metric.higher_is_better)
            store.set_study_attr(study, kind, discovery.origin(ORIGINS[kind], path))
