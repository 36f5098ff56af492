"""Where a design study's trials are in a storage: one Optuna study for each state of its search space.

Optuna freezes the choices of a categorical parameter in each of its studies. So a design study has ``<name>``, and
``<name>-space2``, ... for every state of its space that cannot be kept next to the ones before.
"""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)

from tadaconv.execution import attrs as attr
from tadaconv.execution.backend import Backend
from tadaconv.execution.store import Store
from tadaconv.metrics import Metric


def optuna_studies(backend: Backend, study: str) -> list[int]:
    """The ids of the Optuna studies that hold the trials of a design study, oldest first."""
    return [
        study_id
        for name, study_id in backend.studies().items()
        if name.startswith(study) and backend.study_attrs(study_id).get(attr.SEARCH_PROTOCOL, {}).get("study") == study
    ]


def optuna_study_for(
    store: Store,
    study: str,
    distributions: Mapping[str, BaseDistribution],
    attrs: Mapping[str, Any],
    metric: Metric,
) -> str:
    """The Optuna study for a trial of a design study: the latest that can hold it, or else a further one.

    Args:
        store: the storage.
        study: the name of the design study in it.
        distributions: of the trial's parameters; written down with those that the Optuna study has.
        attrs: the user attributes of a further Optuna study.
        metric: the metric that the trials are evaluated by.
    """
    names = [store.name_of(study_id) for study_id in optuna_studies(store.backend, study)]
    wanted = {parameter: distribution_to_json(distribution) for parameter, distribution in distributions.items()}
    for name in reversed(names):
        known = store.study_attrs(name).get(attr.SPACE, {})
        if all(_compatible(known[parameter], wanted[parameter]) for parameter in known.keys() & wanted.keys()):
            break
    else:
        name, known = f"{study}-space{len(names) + 1}" if names else study, {}
        store.make_study(name, metric.higher_is_better)
        for attribute, value in attrs.items():
            store.set_study_attr(name, attribute, value)
    store.set_study_attr(name, attr.SPACE, {**known, **wanted, **known})  # as it is known, if it is
    return name


def _compatible(known: str, other: str) -> bool:
    """Whether Optuna keeps two distributions of one parameter, as JSON, in one study."""
    try:
        check_distribution_compatibility(json_to_distribution(known), json_to_distribution(other))
    except ValueError:
        return False
    return True
