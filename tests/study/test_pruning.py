"""Pruning from what a storage holds decides as Optuna does live, and as the definitions say."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import optuna
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from tadaconv.errors import UserError
from tadaconv.execution.attrs import CURVE, PRUNED, SEARCH_PROTOCOL
from tadaconv.execution.backend import Attempt
from tadaconv.execution.cells import Cell
from tadaconv.execution.spaces import optuna_studies
from tadaconv.execution.store import Store
from tadaconv.metrics import TOP1
from tadaconv.result import CurvePoint
from tadaconv.spec import Backbone, Experiment, Schedule, Synthetic
from tadaconv.study.pruning import (
    PRUNERS,
    make_pruner,
    reason_for_no_more_seeds,
    reason_to_prune,
    should_prune,
)

EXPERIMENT = Experiment(
    backbone=Backbone(name="tiny"),
    data=Synthetic(num_train=8, num_val=8),
    schedule=Schedule(epochs=6, batch_size=2, lr=1),
)


def protocol(name: str, **options: Any) -> dict[str, Any]:
    return {"study": "s-quick", "pruner": {"name": name, "options": options}}


def points(values: Sequence[float], without: Collection[int] = ()) -> list[CurvePoint]:
    """A point an epoch but for those ``without`` one."""
    return [
        CurvePoint(epoch=e, step=e, train_loss=1.0, score=value)
        for e, value in enumerate(values, 1)
        if e not in without
    ]


def row(
    number: int,
    state: TrialState,
    values: Sequence[float] = (),
    experiment: Experiment = EXPERIMENT,
    without: Collection[int] = (),
) -> Attempt:
    attrs: dict[str, Any] = {"cell": experiment.key, "trial": number, "spec": experiment.model_dump(mode="json")}
    curve = [point.model_dump() for point in points(values, without)]
    attrs |= {TrialState.COMPLETE: {"result": {"curve": curve}}, TrialState.PRUNED: {CURVE: curve}}.get(state, {})
    return Attempt(number, 0, number, state, attrs)


accuracies = st.integers(0, 20).map(float)
curves = st.lists(accuracies, min_size=6, max_size=6)


@given(st.lists(curves, max_size=7), curves, st.integers(0, 3), st.integers(0, 3))
def test_the_median_rule_is_as_documented(
    others: list[list[float]], curve: list[float], num_startup: int, warmup: int
) -> None:
    rows = [row(number, TrialState.COMPLETE, values) for number, values in enumerate(others)]
    given_protocol = protocol("median", n_startup_trials=num_startup, n_warmup_steps=warmup)
    now = row(len(others), TrialState.RUNNING)
    for epoch in range(1, 6):
        enough = others and len(others) >= num_startup and epoch >= warmup
        worse = enough and max(curve[:epoch]) < median(values[epoch - 1] for values in others)
        why = should_prune(given_protocol, rows, now, points(curve[:epoch]))
        assert (why is not None) == bool(worse)
        assert why is None or f"{curve[epoch - 1]:.1f} % after epoch {epoch} of 6" in why


@given(
    st.lists(curves, min_size=1, max_size=12),
    st.sampled_from([1, 2]),
    st.sampled_from([2, 3]),
    st.booleans(),
    st.sets(st.integers(1, 5)),
)
@settings(max_examples=40)
def test_hyperband_from_a_storage_decides_as_optuna_does_live(
    trials: list[list[float]], min_resource: int, factor: int, reverse: bool, not_evaluated: set[int]
) -> None:
    options = {"min_resource": min_resource, "reduction_factor": factor}
    live = optuna.create_study(
        study_name="s-quick",
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.HyperbandPruner(max_resource=6, **options),
    )
    history: list[Attempt] = []
    for number, values in enumerate(trials):
        trial = live.ask()
        pruned = False
        for epoch, value in enumerate(values, 1):
            if epoch in not_evaluated:
                continue
            trial.report(value, epoch)
            pruned = trial.should_prune()
            shown = history[::-1] if reverse else history  # the order in which attempts were made does not matter
            ours = should_prune(
                protocol("hyperband", **options),
                shown,
                row(number, TrialState.RUNNING, without=not_evaluated),
                points(values[:epoch], not_evaluated),
            )
            if epoch == 6:
                assert ours is None  # nothing is left to save
                pruned = False
                break
            assert (ours is not None) == pruned
            if pruned:
                break
        live.tell(trial, state=TrialState.PRUNED) if pruned else live.tell(trial, values[-1])
        history.append(
            row(number, TrialState.PRUNED if pruned else TrialState.COMPLETE, values[:epoch], without=not_evaluated)
        )


def test_a_trial_is_compared_with_its_like_alone() -> None:
    good = [90.0] * 6
    rows = [row(number, TrialState.COMPLETE, good) for number in range(3)]
    ours = protocol("median", n_startup_trials=1)
    now, bad = row(3, TrialState.RUNNING), points([1.0, 2.0])
    assert should_prune(ours, rows, now, bad)
    other_recipe = EXPERIMENT.but(schedule__lr=0.5)
    assert should_prune(ours, [row(n, TrialState.COMPLETE, good, other_recipe) for n in range(3)], now, bad) is None
    elsewhere = row(3, TrialState.RUNNING, experiment=EXPERIMENT.but(seed=4, temporal=None))
    assert should_prune(ours, rows, elsewhere, bad)
    assert should_prune(ours, [row(3, TrialState.COMPLETE, good)], now, bad) is None  # its own earlier attempt
    assert should_prune(ours, [row(n, TrialState.FAIL) for n in range(3)], now, bad) is None
    table = [
        Attempt(r.trial_id, 0, r.number, r.state, {k: v for k, v in r.attrs.items() if k != "trial"}) for r in rows
    ]
    assert should_prune(ours, table, now, bad) is None


@pytest.mark.parametrize("name", ["none", "wilcoxon"])
def test_pruners_without_epochs_prune_no_running_trial(name: str) -> None:
    rows = [row(number, TrialState.COMPLETE, [90.0] * 6) for number in range(9)]
    assert should_prune(protocol(name), rows, row(9, TrialState.RUNNING), points([0.0])) is None
    assert should_prune(protocol("median"), rows, row(9, TrialState.RUNNING), []) is None


@given(
    st.lists(st.lists(accuracies, min_size=6, max_size=6), min_size=1, max_size=4),
    st.lists(accuracies, min_size=1, max_size=6),
)
def test_a_further_seed_is_refused_by_the_wilcoxon_test(others: list[list[float]], so_far: list[float]) -> None:
    finished = {3 * number: dict(enumerate(values)) for number, values in enumerate(others)}
    best = max(finished, key=lambda number: mean(finished[number].values()))
    differences = [value - finished[best][seed] for seed, value in enumerate(so_far)]
    worse = False
    if len(so_far) >= 2:
        p = scipy.stats.wilcoxon(differences, alternative="less", zero_method="zsplit").pvalue
        worse = p < 0.1 and mean(so_far) < mean(finished[best].values())
    tied = [n for n in finished if mean(finished[n].values()) == mean(finished[best].values())]
    if len(tied) > 1:
        return  # which of the best is compared with is Optuna's choice
    why = reason_for_no_more_seeds(protocol("wilcoxon"), finished, dict(enumerate(so_far)), TOP1)
    assert (why is not None) == worse
    assert why is None or f"trial {best} on {len(so_far)} seeds" in why


def test_no_seed_is_refused_without_something_to_compare() -> None:
    full = {0: dict.fromkeys(range(6), 90.0)}
    bad = dict.fromkeys(range(5), 1.0)
    assert reason_for_no_more_seeds(protocol("wilcoxon"), full, bad, TOP1)
    assert reason_for_no_more_seeds(protocol("wilcoxon"), {}, bad, TOP1) is None
    assert reason_for_no_more_seeds(protocol("wilcoxon"), full, {}, TOP1) is None
    assert reason_for_no_more_seeds(protocol("none"), full, bad, TOP1) is None


def test_a_worker_needs_the_storage_alone_and_sees_every_space_of_the_study(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    backend = store.backend

    def add(study: str, number: int, top1: float | None) -> Attempt:
        experiment = EXPERIMENT.but(seed=number)
        attrs: Mapping[str, Any] = row(number, TrialState.COMPLETE, [top1 or 0.0] * 6, experiment).attrs
        state = TrialState.RUNNING if top1 is None else TrialState.COMPLETE
        return backend.attempt(store.add(study, Cell("a", experiment), state, value=top1, attrs=attrs))

    ours = protocol("median", n_startup_trials=2)
    for name in ("s-quick", "s-quick-space2"):
        store.set_study_attr(name, SEARCH_PROTOCOL, ours)
    store.set_study_attr("t-quick", SEARCH_PROTOCOL, {**ours, "study": "t-quick"})
    store.set_study_attr("s-quicker", SEARCH_PROTOCOL, {**ours, "study": "s-quicker"})
    store.make_study("table-quick")
    assert [store.name_of(id) for id in optuna_studies(backend, "s-quick")] == ["s-quick", "s-quick-space2"]
    now = add("s-quick-space2", 9, None)
    add("s-quick", 0, 90.0)
    add("t-quick", 1, 90.0)
    assert reason_to_prune(backend, now, points([1.0])) is None  # one of its own study is too few
    add("s-quick-space2", 2, 90.0)
    assert reason_to_prune(backend, now, points([1.0]))
    assert reason_to_prune(backend, now, []) is None
    assert reason_to_prune(backend, add("table-quick", 3, None), points([1.0])) is None


def test_unknown_pruners_and_options_list_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"^unknown pruner 'medan'; one of: median, "):
        make_pruner("medan", {})
    with pytest.raises(UserError, match=r"^pruner 'median' does not take options \{'epochs': 3\}: "):
        make_pruner("median", {"epochs": 3})
    with pytest.raises(UserError, match=r"^pruner 'wilcoxon' does not take options .*between 0 and 1"):
        make_pruner("wilcoxon", {"p_threshold": 3})
    for name in PRUNERS:
        assert isinstance(make_pruner(name, {}), optuna.pruners.BasePruner)
    assert PRUNED != CURVE
