"""Studies: what a file may say, what is proposed and never proposed twice, and what is kept when a space grows."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import optuna
import postgres_server
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState
from pydantic import ValidationError
from support import made_result

from tadaconv.data.synthetic import class_names
from tadaconv.dry_run import dry_run
from tadaconv.errors import UserError
from tadaconv.execution.attrs import CURVE, PRUNED, SEARCH_PROTOCOL
from tadaconv.execution.backend import Attempt
from tadaconv.execution.cells import Cell
from tadaconv.execution.launcher import Crew
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.experiment import build_model
from tadaconv.measure import count
from tadaconv.regime import Regime, load_regime
from tadaconv.result import CurvePoint, Result
from tadaconv.spec import Aggregation, Experiment, Rival, TAda, Temporal, describe
from tadaconv.study import (
    Budget,
    LoadedStudy,
    Proposed,
    Proposer,
    Pruner,
    Sampler,
    Study,
    TrialRecord,
    confirm,
    confirm_seeds,
    infeasible_draws,
    load_study,
    search,
    trial_records,
    walk,
)
from tadaconv.study import proposer as proposer_module
from tadaconv.study.pruning import reason_to_prune

BASE = TAda(aggregation=Aggregation(kind="none"))
NAME = "toy-quick"
REGIME = load_regime("quick")
SHARES = [0.25, 0.5, 0.75, 1.0]


def suggest(trial: optuna.Trial) -> Temporal:
    """24 configurations."""
    stage = trial.suggest_categorical("stage", [2, 3, 4])
    share = trial.suggest_float("share", 0.25, 1.0, step=0.25)
    wide = trial.suggest_categorical("wide", [False, True])
    return BASE.but(placement__stages=(stage,), placement__share=share, context__reduction=2 if wide else 4)


START = {
    "paper: late": {"stage": 4, "share": 1.0, "wide": False},
    "paper: early": {"stage": 2, "share": 1.0, "wide": False},
}


def loaded(suggest: Callable[[optuna.Trial], Temporal] = suggest, **changes: Any) -> LoadedStudy:
    given: dict[str, Any] = {"start": START, "base": "paper: late", "pruner": Pruner("none"), **changes}
    return LoadedStudy("toy", "Is it so?", Study(suggest=suggest, **given))


def macs_of(temporal: Temporal) -> int:
    """Counted on the network that would be trained."""
    return count(build_model(REGIME.experiment(temporal, 0), len(class_names(REGIME.data))), (3, 8, 16, 16)).macs


@pytest.fixture(autouse=True)
def _each_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadaconv.dry_run.dry_run", dry_run_once)


_heard: dict[str, str] = {}


def dry_run_once(experiment: Experiment) -> None:
    """As ``dry_run``, which takes a tenth of a second, but a configuration at a time."""
    key = experiment.but(seed=0).key
    if key not in _heard:
        try:
            dry_run(experiment)
            _heard[key] = ""
        except UserError as error:
            _heard[key] = str(error)
    if _heard[key]:
        raise UserError(_heard[key])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "journal.log"))


def top1_of(key: str) -> float:
    """Percent, from the cell alone."""
    return int(key, 16) % 10_000 / 100


def result(top1: float, num_epochs: int = 4) -> Result:
    curve = [CurvePoint(epoch=e, step=e, train_loss=1.0, score=top1 * e / num_epochs) for e in range(1, num_epochs + 1)]
    return made_result(top1, curve=curve, macs=1_000)


def waiting(store: Store) -> list[Attempt]:
    studies = list(store.backend.studies().values())
    return [store.backend.attempt(trial_id) for trial_id, _, _ in store.backend.waiting(studies, None, 1000)]


def finish(store: Store, attempt: Attempt) -> None:
    """What a worker does with an attempt, without the training."""
    claimed = store.claim(attempt.trial_id)
    if claimed is None:
        return
    outcome = result(top1_of(claimed.key))
    for epoch in range(1, len(outcome.curve) + 1):
        why = reason_to_prune(store.backend, claimed, outcome.curve[:epoch])
        if why is not None:
            curve = [point.model_dump() for point in outcome.curve[:epoch]]
            store.prune(claimed, {PRUNED: why, CURVE: curve})
            return
    store.finish(claimed, outcome)


def work(store: Store) -> Callable[[Proposed], None]:
    def run_all(_: Proposed) -> None:
        for attempt in waiting(store):
            finish(store, attempt)

    return run_all


def run_study(
    study: LoadedStudy,
    regime: Regime,
    name: str,
    store: Store,
    *,
    num_trials: int,
    num_workers: int,
    work: Callable[[Proposed], None],
) -> list[TrialRecord]:
    proposer = Proposer(study, regime, name, store)
    while not (proposed := proposer.top_up(num_workers, num_trials)).done:
        work(proposed)
    return trial_records(study, regime, name, store)


def run(study: LoadedStudy, store: Store, num_trials: int, num_workers: int = 1) -> list[TrialRecord]:
    return run_study(study, REGIME, NAME, store, num_trials=num_trials, num_workers=num_workers, work=work(store))


# --- What a file may say


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Budget(), "Budget: give either Budget(relative_macs=1.02) or "),
        (lambda: Budget(1.02, 3.0), "Budget: give either Budget(relative_macs=1.02) or "),
        (lambda: Budget(0), "Budget: argument 1: Input should be greater than 0, got 0"),
        (lambda: Budget(relative_macs=0), "Budget: relative_macs: Input should be greater than 0, got 0"),
        (lambda: Budget(gmacs="3"), "Budget: gmacs: Input should be a valid number, got '3'"),  # type: ignore[arg-type]
        (lambda: Budget(gmac=3), "Budget: gmac: Unexpected keyword argument, got 3"),  # type: ignore[call-arg]
        (lambda: Sampler(sead=3), "Sampler: sead: Unexpected keyword argument, got 3"),  # type: ignore[call-arg]
        (lambda: Pruner(option={}), "Pruner: option: Unexpected keyword argument, got {}"),  # type: ignore[call-arg]
        (lambda: loaded(buget=None), "Study: buget: Unexpected keyword argument, got None"),
        (lambda: Sampler("tpo"), "Sampler: unknown sampler 'tpo'; one of: tpe, "),
        (lambda: Sampler(seed=-1), "Sampler: seed: Input should be greater than or equal to 0, got -1"),
        (lambda: Sampler(options={"seed": 3}), "Sampler: sampler 'tpe' does not take options {'seed': 3}: "),
        (lambda: Pruner("wilcoxn"), "Pruner: unknown pruner 'wilcoxn'; one of: wilcoxon, "),
        (lambda: Pruner("median", {"p": 1}), "Pruner: pruner 'median' does not take options {'p': 1}: "),
        (lambda: loaded(base="late"), "Study: unknown base, a name in start 'late'; one of: paper: late, "),
        (lambda: loaded(seeds=0), "Study: seeds: Input should be greater than or equal to 1, got 0"),
        (
            lambda: loaded(seeds=3, pruner=Pruner()),
            "Study: pruner 'median' compares single runs",
        ),
        (
            lambda: loaded(pruner=Pruner("wilcoxon")),
            "Study: pruner 'wilcoxon' compares seeds, but",
        ),
        (lambda: loaded(budget=1.02), "Study: budget: Input should be a dictionary or an instance of Budget, got 1.02"),
        (
            lambda: loaded(sampler="tpe"),
            "Study: sampler: Input should be a dictionary or an instance of Sampler",
        ),
        (lambda: loaded(suggest=BASE), "Study: suggest: Input should be callable, got "),
        (lambda: loaded(start=[]), "Study: start: Input should be a valid dictionary, got []"),
        (
            lambda: loaded(start={"paper: late": {"stage": 4, "share": 1.0}}),
            "Study: start 'paper: late' lacks the parameter 'wide'",
        ),
        (
            lambda: loaded(start={"paper: late": {**START["paper: late"], "wid": 1}}),
            "Study: unknown parameter of start 'paper: late' 'wid'; one of: wide, ",
        ),
        (
            lambda: loaded(start={"paper: late": {**START["paper: late"], "stage": 5}}),
            "Study: start 'paper: late': parameter 'stage' is one of [2, 3, 4], not 5",
        ),
        (
            lambda: loaded(start={"paper: late": {**START["paper: late"], "wide": 1}}),
            "Study: start 'paper: late': parameter 'wide' is one of [False, True], not 1",
        ),
        (
            lambda: loaded(start={"paper: late": {**START["paper: late"], "share": 0.1}}),
            "Study: start 'paper: late': parameter 'share' is a number from 0.25 to 1.0, not 0.1",
        ),
        (
            lambda: loaded(start={**START, "again": START["paper: late"]}),
            "Study: start 'again' is the same configuration as 'paper: late'; leave one out",
        ),
        (lambda: loaded(lambda _: 3), "Study: start 'paper: late': suggest returns a TAda, a Rival or None, not 3"),  # type: ignore[arg-type, return-value]
        (
            lambda: loaded(lambda trial: BASE.but(placement__share=trial.suggest_float("share", 0, 2) * 9)),
            "Study: start 'paper: late': TAda: placement.share: Input should be less than or equal to 1",
        ),
        (
            lambda: loaded(lambda trial: trial.nothing),
            "Study: start 'paper: late': suggest failed with {}",
        ),  # type: ignore[attr-defined]
    ],
)
def test_a_wrong_definition_is_one_line(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ValidationError) as raised:
        make()
    line = describe(raised.value)
    assert "\n" not in line
    assert told.split(": TAda: ")[0] in line
    assert line.startswith(told[:20])


FILE = """\"\"\"Is it so?

More of it.   Run: tada study mine
\"\"\"
from tadaconv.study import Study

STUDY = Study(suggest=lambda trial: None, start={"paper: TSN": {}}, base="paper: TSN")
"""


def test_a_study_is_found_by_name_and_knows_its_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.py").write_text(FILE)
    found = load_study("mine")
    assert (found.name, found.question) == ("mine", "Is it so?\n\nMore of it.")
    assert found.study.base_temporal is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def suggest(trial:\n", r"mine\.py cannot be loaded: SyntaxError: "),
        ("STUDY = 3\n", r"^study 'mine\.py' defines no STUDY = Study\(\.\.\.\)$"),
        (
            FILE.replace('"paper: TSN": {}', '"paper: TSN": {"x": 1}'),
            r"mine\.py: Study: unknown parameter of start 'paper: TSN' 'x'",
        ),
        (
            FILE.replace("trial: None", "trial: TAda()"),
            r"mine\.py: Study: start 'paper: TSN': suggest failed with .*NameError",
        ),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=told) as raised:
        load_study("mine.py")
    assert "\n" not in str(raised.value)


# --- The space


def test_walking_a_space_meets_every_configuration_once() -> None:
    found = [tuple(each.params.values()) for each in walk(suggest)]
    assert found == list(product([2, 3, 4], SHARES, [False, True]))


def test_walking_a_conditional_space_draws_only_what_is_asked_for() -> None:
    def conditional(trial: optuna.Trial) -> Temporal:
        if trial.suggest_categorical("rival", [True, False]):
            return Rival(name="tsm")
        kernel = trial.suggest_int("kernel", 1, 5, step=2)
        return BASE.but(context__kernels=(kernel,) * trial.suggest_int("layers", 1, 2))

    expected = [{"rival": True}] + [
        {"rival": False, "kernel": kernel, "layers": layers} for kernel in (1, 3, 5) for layers in (1, 2)
    ]
    assert [each.params for each in walk(conditional)] == expected
    assert [each.params for each in walk(conditional, {"layers": 2, "rival": False})] == expected[2::2]
    assert len(list(walk(conditional, limit=3))) == 3


# --- What is proposed


def test_the_start_comes_first_then_the_sampler_without_duplicates(store: Store) -> None:
    records = run(loaded(), store, 12)
    assert [record.number for record in records] == list(range(12))
    assert [record.name for record in records[:3]] == ["paper: late", "paper: early", "trial 2"]
    assert [record.params for record in records[:2]] == list(START.values())
    assert {record.status for record in records} == {"finished"}
    keys = [cell.cell.key for record in records for cell in record.cells]
    assert len(set(keys)) == 12
    assert [record.score for record in records] == [top1_of(key) for key in keys]
    assert [record.cells[0].cell.experiment.temporal for record in records] == [record.temporal for record in records]
    again = run(loaded(), store, 12)  # the total, so there is nothing to add
    assert again == records
    assert len(run(loaded(), store, 14)) == 14


def test_few_are_proposed_ahead(store: Store) -> None:
    proposer = Proposer(loaded(), REGIME, NAME, store)
    assert proposer.top_up(0, 10) == Proposed(0, 0, 0, False, False)
    assert proposer.top_up(3, 10) == Proposed(3, 3, 0, False, False)
    assert proposer.top_up(3, 10).num_new == 0
    finish(store, waiting(store)[0])
    assert str(proposer.top_up(2, 10)) == "3 trials: 1 ended"
    assert proposer.top_up(3, 10) == Proposed(1, 4, 1, False, False)
    assert len(waiting(store)) == 3
    assert proposer.top_up(9, 5).num_trials == 5
    store.claim(waiting(store)[0].trial_id)
    assert not proposer.top_up(1, 5).done
    assert [record.status for record in trial_records(loaded(), REGIME, NAME, store)] == [
        "finished", "running", "waiting", "waiting", "waiting",
    ]  # fmt: skip


def params_of(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    return [record.params for record in records]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_stopped_study_proposes_the_same_as_without_the_stop(tmp_path: Path, sampler: str) -> None:
    study = loaded(sampler=Sampler(sampler, seed=3, options={"n_startup_trials": 3} if sampler == "tpe" else {}))
    whole = run(study, Store.open(str(tmp_path / "a.log")), 10)
    for num_trials in range(1, 11):  # every time a new process: it knows what the storage holds, and nothing else
        parts = run(study, Store.open(str(tmp_path / "b.log")), num_trials)
    assert params_of(parts) == params_of(whole)
    other = loaded(sampler=Sampler(sampler, seed=4))
    assert params_of(run(other, Store.open(str(tmp_path / "c.log")), 10)) != params_of(whole)


def test_a_sampler_that_repeats_itself_still_searches_where_it_is_good(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 24 configurations the 12 wide ones are better: TPE names few of them over and over, and yet finds them."""
    study = loaded(sampler=Sampler(options={"n_startup_trials": 4}))
    monkeypatch.setattr("tadaconv.study.proposer.RandomSampler", None)  # chance is the last resort, and not needed
    proposer = Proposer(study, REGIME, NAME, store)
    while not proposer.top_up(1, 14).done:
        for attempt in waiting(store):
            claimed = store.claim(attempt.trial_id)
            assert claimed is not None
            wide = claimed.cell.experiment.temporal.context.reduction == 2  # type: ignore[union-attr]
            store.finish(claimed, result(90.0 if wide else 10.0))
    found = trial_records(study, REGIME, NAME, store)
    assert sum(record.params["wide"] for record in found[6:]) >= 6  # of 8; 4 by chance


def test_a_space_is_searched_until_it_is_exhausted(store: Store) -> None:
    records = run(loaded(sampler=Sampler("random")), store, 100, num_workers=5)
    assert len(records) == 24
    assert sorted(params_of(records), key=str) == sorted((each.params for each in walk(suggest)), key=str)
    proposed = Proposer(loaded(), REGIME, NAME, store).top_up(1, 100)
    assert proposed == Proposed(0, 24, 24, True, True)
    assert str(proposed).endswith("the space is exhausted after 24 configurations")


def test_several_processes_propose_for_one_study_without_repeating_each_other(tmp_path: Path) -> None:
    def search_all(_: int) -> None:
        own = Store.open(str(tmp_path / "journal.log"))
        run(loaded(), own, 16)

    Store.open(str(tmp_path / "journal.log"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(search_all, range(4)))
    records = trial_records(loaded(), REGIME, NAME, Store.open(str(tmp_path / "journal.log")))
    assert [record.number for record in records] == list(range(16))
    assert len({record.cells[0].cell.key for record in records}) == 16
    assert {record.status for record in records} == {"finished"}


def test_a_result_of_the_storage_is_copied_and_not_run_again(store: Store) -> None:
    late = REGIME.experiment(loaded().study.base_temporal, 0)
    store.make_study("placement-quick")
    finish(store, store.backend.attempt(store.add("placement-quick", Cell("res4", late))))
    proposer = Proposer(loaded(), REGIME, NAME, store)
    assert proposer.top_up(1, 1) == Proposed(1, 1, 1, True, False)
    assert not waiting(store)
    (record,) = trial_records(loaded(), REGIME, NAME, store)
    assert (record.status, record.score) == ("finished", top1_of(late.key))
    rows = [row for row in store.backend.attempts([late.key]) if row.attrs.get("copied")]
    assert [(row.value, row.attrs["copied"]) for row in rows] == [(top1_of(late.key), "placement-quick")]


def test_requeued_and_withdrawn_cells_remain_to_be_run(store: Store) -> None:
    proposer = Proposer(loaded(), REGIME, NAME, store)
    proposer.top_up(1, 4)
    claimed = store.claim(waiting(store)[0].trial_id)
    assert claimed is not None
    store.requeue(claimed, "its worker died")
    assert proposer.top_up(1, 4).num_trials == 1
    store.withdraw(waiting(store)[0], "for no reason")
    assert proposer.top_up(1, 4).num_trials == 1
    assert [attempt.key for attempt in waiting(store)] == [claimed.key]
    claimed = store.claim(waiting(store)[0].trial_id)
    assert claimed is not None
    storage = store.backend.storage  # a worker that dies between ending an attempt and queueing the next
    for name, value in {"interrupted": "its worker died", "tries": 1}.items():
        storage.set_trial_user_attr(claimed.trial_id, name, value)
    storage.set_trial_state_values(claimed.trial_id, TrialState.FAIL)
    assert proposer.top_up(1, 4).num_trials == 1
    store.requeue_ended()
    assert [attempt.attrs["tries"] for attempt in waiting(store)] == [1]
    finish(store, waiting(store)[0])
    assert proposer.top_up(1, 4).num_ended == 1


def test_a_failed_trial_has_ended_with_a_reason(store: Store) -> None:
    study = loaded()
    proposer = Proposer(study, REGIME, NAME, store)
    proposer.top_up(1, 1)
    claimed = store.claim(waiting(store)[0].trial_id)
    assert claimed is not None
    store.fail(claimed, "the loss is nan at step 3", "Traceback", "cpu", 3, retry=False)
    assert proposer.top_up(1, 1) == Proposed(0, 1, 1, True, False)
    (failed,) = trial_records(study, REGIME, NAME, store)
    assert (failed.status, failed.why) == ("failed", "the loss is nan at step 3")
    assert infeasible_draws(study, REGIME, NAME, store) == []


# --- What is infeasible


def every_second(trial: optuna.Trial) -> Temporal:
    """24 configurations. The quick regime's backbone has one block per stage: every second block is none, in 12."""
    stage = trial.suggest_categorical("stage", [2, 3, 4])
    blocks = trial.suggest_categorical("blocks", ["all", "alternate"])
    share = trial.suggest_float("share", 0.25, 1.0, step=0.25)
    return BASE.but(placement__stages=(stage,), placement__blocks=blocks, placement__share=share)


def contradictory(trial: optuna.Trial) -> Temporal:
    """24 configurations, of which 9 share out the channels of a factor that has none."""
    stage = trial.suggest_categorical("stage", [2, 3, 4])
    factor = trial.suggest_categorical("factor", ["cin", "k2"])
    share = trial.suggest_float("share", 0.25, 1.0, step=0.25)
    return BASE.but(calibration=factor, placement__stages=(stage,), placement__share=share)


ALL = {name: {"stage": stage, "blocks": "all", "share": 1.0} for name, stage in zip(START, (4, 2), strict=True)}
NONE = {"stage": 2, "blocks": "alternate", "share": 1.0}
CIN = {name: {"stage": stage, "factor": "cin", "share": 1.0} for name, stage in zip(START, (4, 2), strict=True)}


def feasible(temporal: Temporal) -> bool:
    try:
        dry_run(REGIME.experiment(temporal, 0))
    except UserError:
        return False
    return True


@pytest.mark.parametrize(
    ("space", "start", "why", "sampler"),
    [
        (every_second, ALL, "selects no convolution of this backbone", "tpe"),
        (every_second, ALL, "selects no convolution of this backbone", "gp"),
        (contradictory, CIN, "the factor k2 has no channels to share", "tpe"),
        (contradictory, CIN, "the factor k2 has no channels to share", "random"),
    ],
)
def test_an_infeasible_draw_is_drawn_again_and_is_no_trial(
    store: Store, space: Callable[[optuna.Trial], Temporal], start: dict[str, Any], why: str, sampler: str
) -> None:
    study = loaded(space, start=start, sampler=Sampler(sampler, seed=1))
    records = run(study, store, 8)
    assert [record.number for record in records] == list(range(8))
    assert {record.status for record in records} == {"finished"}
    draws = infeasible_draws(study, REGIME, NAME, store)
    assert draws
    for draw in draws:
        assert why in draw.why
        assert draw.name == ""
        assert 2 <= draw.number < 8
        assert draw.params.keys() == draw.distributions.keys()
    assert len({str(draw.params) for draw in draws}) == len(draws), "none is drawn twice"
    assert not waiting(store)
    rows = [row for row in store.backend.attempts() if "infeasible" in row.attrs]
    assert len(rows) == len(draws)
    for row in rows:  # in Optuna's own words
        assert row.state == TrialState.PRUNED
        assert store.backend.storage.get_trial(row.trial_id).constraints == {"infeasible": 1.0}


@pytest.mark.parametrize(("space", "start"), [(every_second, ALL), (contradictory, CIN)])
def test_no_choice_is_lost_with_infeasible_draws(
    store: Store, space: Callable[[optuna.Trial], Temporal], start: dict[str, Any]
) -> None:
    study = loaded(space, start=start, sampler=Sampler("random"))
    records = run(study, store, 100, num_workers=3)
    able = [each for each in walk(space) if feasible(each.temporal)]
    assert sorted(map(str, params_of(records))) == sorted(str(each.params) for each in able)
    proposed = Proposer(study, REGIME, NAME, store).top_up(1, 100)
    draws = infeasible_draws(study, REGIME, NAME, store)
    assert (proposed.num_trials, proposed.done, proposed.exhausted) == (len(able), True, True)
    assert str(proposed).endswith(
        f"the space is exhausted after {len(able)} configurations and {len(draws)} infeasible draws"
    )


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_stopped_at_any_draw_is_resumed_without_a_difference(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"n_startup_trials": 3} if sampler == "tpe" else {}
    study = loaded(every_second, start=ALL, sampler=Sampler(sampler, seed=3, options=options))
    whole = run(study, Store.open(str(tmp_path / "a.log")), 9)
    draws = infeasible_draws(study, REGIME, NAME, Store.open(str(tmp_path / "a.log")))
    assert len(draws) > 3

    class Stop(BaseException):
        pass

    real = Store.add

    def stopping(self: Store, *args: Any, **changes: Any) -> int:
        real(self, *args, **changes)
        raise Stop

    num_stops = 0
    while True:  # every draw and every trial is a process of its own
        again = Store.open(str(tmp_path / "b.log"))
        with monkeypatch.context() as patch:
            patch.setattr(Store, "add", stopping)
            try:
                if Proposer(study, REGIME, NAME, again).top_up(1, 9).done:
                    break
            except Stop:
                num_stops += 1
        for attempt in waiting(again):
            finish(again, attempt)
    assert num_stops == 9 + len(draws)
    assert params_of(trial_records(study, REGIME, NAME, again)) == params_of(whole)
    assert infeasible_draws(study, REGIME, NAME, again) == draws


@pytest.mark.parametrize("backend", ["journal", "postgresql"])
def test_several_processes_find_a_draw_infeasible_once(backend: str, tmp_path: Path) -> None:
    def search_all(_: int) -> None:
        run(study, Store.open(location), 6)

    study = loaded(every_second, start=ALL)
    if backend == "postgresql" and (reason := postgres_server.found()):
        pytest.skip(reason)
    with postgres_server.Server() if backend == "postgresql" else nullcontext() as server:
        location = str(tmp_path / "journal.log") if server is None else server.url()
        store = Store.open(location)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(search_all, range(3)))
        records = trial_records(study, REGIME, NAME, store)
        assert [record.number for record in records] == list(range(6))
        assert {record.status for record in records} == {"finished"}
        draws = infeasible_draws(study, REGIME, NAME, store)
        assert draws
        assert sum("infeasible" in row.attrs for row in store.backend.attempts()) == len(draws)


def test_a_sampler_learns_from_infeasible_draws(tmp_path: Path) -> None:
    def rarely(trial: optuna.Trial) -> Temporal:
        """Of its choices one in 16 is feasible, with any share."""
        first, second = (trial.suggest_categorical(name, [2, 3, 4, 5]) for name in ("first", "second"))
        share = trial.suggest_float("share", 0.5, 0.9)
        return BASE.but(calibration="cin" if first == second == 4 else "k2", placement__share=share)

    start = {"all": {"first": 4, "second": 4, "share": 0.5}}
    num_infeasible = {}
    for sampler in ("tpe", "random"):
        study = loaded(rarely, start=start, base="all", sampler=Sampler(sampler))
        store = Store.open(str(tmp_path / f"{sampler}.log"))
        assert len(run(study, store, 8)) == 8
        num_infeasible[sampler] = len(infeasible_draws(study, REGIME, NAME, store))
    assert num_infeasible["tpe"] < num_infeasible["random"] / 2, num_infeasible


def test_a_start_that_is_infeasible_is_named_and_the_base_is_refused(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    study = loaded(every_second, start={**ALL, "every second": NONE})
    records = run(study, store, 4)
    assert [record.name for record in records] == [*START, "trial 2", "trial 3"]
    first = infeasible_draws(study, REGIME, NAME, store)[0]
    assert (first.number, first.name, first.params) == (2, "every second", NONE)
    assert [message for message in caplog.messages if "every second" in message] == [
        f"start 'every second' is infeasible in this regime: {first.why}"
    ]
    refused = loaded(every_second, start={"late": ALL["paper: late"], "every second": NONE}, base="every second")
    empty = Store.open(str(Path(store.shown).with_name("other.log")))
    with pytest.raises(UserError) as raised:
        Proposer(refused, REGIME, NAME, empty)
    assert (
        str(raised.value) == f"start 'every second', the base of study 'toy', is infeasible in this regime: {first.why}"
    )
    assert empty.studies() == []


def test_a_space_without_an_end_that_is_all_infeasible_but_for_its_base_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(trial: optuna.Trial) -> Temporal:
        share = trial.suggest_float("share", 0.0, 1.0)
        return BASE.but(calibration="k2" if share < 1 else "cin", placement__share=max(share, 0.01))

    monkeypatch.setattr(proposer_module, "MOST_INFEASIBLE", 20)
    study = loaded(narrow, start={"all": {"share": 1.0}}, base="all")
    proposer = Proposer(study, REGIME, NAME, store)
    for _ in range(2):  # the second time nothing is drawn
        while not (proposed := proposer.top_up(1, 5)).done:
            work(store)(proposed)
        assert (proposed.num_trials, proposed.num_infeasible, proposed.exhausted) == (1, 20, True)
        assert str(proposed).startswith(
            "1 trial: 1 ended; the search ends, since 20 draws in a row are infeasible in this regime (the last: TAda: "
        )
        proposer = Proposer(study, REGIME, NAME, store)


def test_a_search_with_fewer_trials_than_requested_reports_it(store: Store, tmp_path: Path) -> None:
    def two(trial: optuna.Trial) -> Temporal:
        return BASE.but(placement__blocks=trial.suggest_categorical("blocks", ["all", "alternate"]))

    class Lines:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def trials(self, _: Sequence[TrialRecord]) -> None:
            pass

        def line(self, line: str) -> None:
            self.lines.append(line)

    study = loaded(two, start={"all": {"blocks": "all"}}, base="all")
    run(study, store, 1)
    crew = Crew(WorkerCall(store.shown, "", "cpu", tmp_path), 1, "local", {})
    for num_trials, said in [
        (1, []),
        (3, ["1 trial: 1 ended; the space is exhausted after 1 configuration and 1 infeasible draw"]),
    ]:
        show = Lines()
        assert len(search(study, REGIME, NAME, store, num_trials=num_trials, crew=crew, show=show)) == 1
        assert show.lines == said


def test_other_errors_are_not_infeasible(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(loaded(), store, 1)

    def refuse(_: Experiment) -> None:
        raise UserError("the weights are gone")

    monkeypatch.setattr("tadaconv.dry_run.dry_run", refuse)
    with pytest.raises(UserError, match="the base of study 'toy', is infeasible in this regime: the weights are gone"):
        run(loaded(), store, 2)
    assert infeasible_draws(loaded(), REGIME, NAME, store) == []


def test_failed_trials_of_earlier_versions_that_never_ran_are_infeasible(store: Store) -> None:
    study = loaded(every_second, start={**ALL, "every second": NONE})
    run(study, store, 2)
    found = study.study.started["every second"]
    store.add(
        NAME,
        Cell("every second", REGIME.experiment(found.temporal, 0)),
        TrialState.FAIL,
        params=found.params,
        distributions=found.distributions,
        attrs={"trial": 2, "error": "placement selects no convolution"},
    )
    (draw,) = infeasible_draws(study, REGIME, NAME, store)
    assert (draw.number, draw.name, draw.params, draw.why) == (
        2,
        "every second",
        NONE,
        "placement selects no convolution",
    )
    records = run(study, store, 4)
    assert [(record.number, record.name) for record in records] == [
        (0, "paper: late"), (1, "paper: early"), (3, "trial 3"), (4, "trial 4"),
    ]  # fmt: skip
    assert infeasible_draws(study, REGIME, NAME, store)[0] == draw


def test_infeasible_draws_of_another_regime_or_space_do_not_count(store: Store) -> None:
    study = loaded(every_second, start=ALL)
    run(study, store, 8)
    assert infeasible_draws(study, REGIME, NAME, store)
    assert infeasible_draws(study, REGIME.but(schedule__epochs=5), NAME, store) == []

    def every_block(trial: optuna.Trial) -> Temporal:
        stage = trial.suggest_categorical("stage", [2, 3, 4])
        blocks = trial.suggest_categorical("blocks", ["all", "alternate"])
        share = trial.suggest_float("share", 0.25, 1.0, step=0.25)
        meant = "first" if blocks == "alternate" else "all"
        return BASE.but(placement__stages=(stage,), placement__blocks=meant, placement__share=share)

    assert infeasible_draws(loaded(every_block, start=ALL), REGIME, NAME, store) == []


def test_infeasible_draws_stay_when_a_space_grows(store: Store) -> None:
    study = loaded(every_second, start=ALL)
    run(study, store, 6)
    draws = infeasible_draws(study, REGIME, NAME, store)

    def wider(trial: optuna.Trial) -> Temporal:
        temporal = every_second(trial)
        return temporal.but(context__norm=trial.suggest_categorical("norm", ["batch", "none"]))  # type: ignore[union-attr]

    larger = loaded(wider, start={name: {**params, "norm": "batch"} for name, params in ALL.items()})
    found = infeasible_draws(larger, REGIME, NAME, store)
    assert [draw.params for draw in found] == [{**draw.params, "norm": "batch"} for draw in draws]
    assert len(run(larger, store, 10)) == 10


# --- The budget


def test_trials_over_budget_are_not_queued_until_the_budget_grows(store: Store) -> None:
    start = {"paper: late": START["paper: late"], "wide": {**START["paper: late"], "wide": True}}
    bare, *costs = [macs_of(None), *(macs_of(next(walk(suggest, params)).temporal) for params in start.values())]
    share = (costs[0] + 1) / bare
    study = loaded(start=start, budget=Budget(relative_macs=share))
    late, wide = run(study, store, 2)
    assert [record.status for record in (late, wide)] == ["finished", "over budget"]
    assert wide.macs == costs[1] > costs[0]
    over = (wide.macs / int(bare * share) - 1) * 100
    assert wide.why == f"{wide.macs:,} multiply-adds per clip, {over:.2g} % over the budget of {int(bare * share):,}"
    assert wide.score is None
    keys = {row.key for row in store.backend.attempts() if row.state != TrialState.PRUNED}
    assert wide.cells[0].cell.key not in keys
    (row,) = [row for row in store.backend.attempts() if row.state == TrialState.PRUNED]
    frozen = store.backend.storage.get_trial(row.trial_id)
    assert frozen.constraints == {"macs": pytest.approx(wide.macs / int(bare * share) - 1)}
    assert trial_records(study, REGIME, NAME, store)[1] == wide
    grown = run(loaded(start=start, budget=Budget(gmacs=0.02)), store, 2)
    assert [(record.number, record.status) for record in grown] == [(0, "finished"), (2, "finished")]
    assert grown[1].temporal == wide.temporal


# --- Seeds


def test_every_configuration_gets_its_seeds(store: Store) -> None:
    records = run(loaded(seeds=3), store, 3, num_workers=2)
    assert len(records) == 3
    for record in records:
        assert [cell.cell.experiment.seed for cell in record.cells] == [0, 1, 2]
        assert record.score == pytest.approx(mean(top1_of(cell.cell.key) for cell in record.cells))
    more = run(loaded(seeds=4), store, 3)
    assert [[cell.status for cell in record.cells] for record in more] == [["finished"] * 4] * 3
    assert [record.params for record in more] == [record.params for record in records]


def test_wilcoxon_gives_seeds_one_by_one_and_stops_with_the_hopeless(store: Store) -> None:
    study = loaded(seeds=6, pruner=Pruner("wilcoxon"))
    proposer = Proposer(study, REGIME, NAME, store)

    def step(top1: float) -> None:
        (attempt,) = waiting(store)
        claimed = store.claim(attempt.trial_id)
        assert claimed is not None
        store.finish(claimed, result(top1))

    for seed in range(6):
        assert proposer.top_up(1, 2).num_trials == 1
        assert [attempt.cell.experiment.seed for attempt in waiting(store)] == [seed]
        step(80.0 + seed)
    for seed in range(4):  # four pairs, all worse: p = 1/16 < 0.1, where three would be 1/8
        assert proposer.top_up(1, 2).num_trials == 2
        assert [attempt.cell.experiment.seed for attempt in waiting(store)] == [seed]
        step(70.0)
    assert proposer.top_up(1, 2) == Proposed(0, 2, 2, True, False)
    good, bad = trial_records(study, REGIME, NAME, store)
    assert (good.status, good.score) == ("finished", 82.5)
    assert (bad.status, bad.score, bad.why) == ("pruned", 70.0, "worse than trial 0 on 4 seeds (Wilcoxon test)")


def test_the_median_prunes_and_the_record_has_the_epoch(store: Store) -> None:
    study = loaded(pruner=Pruner("median", {"n_startup_trials": 4, "n_warmup_steps": 2}))
    records = run(study, store, 20)
    pruned = [record for record in records if record.status == "pruned"]
    assert pruned
    for record in pruned:
        assert record.number >= 4
        assert record.score is None
        last = record.curve[-1]
        assert 2 <= last.epoch < 4
        assert f"{last.score:.1f} % after epoch {last.epoch} of 4" in str(record.why)
    assert all(len(record.curve) == 4 for record in records if record.status == "finished")


# --- Spaces that grow


def grown(trial: optuna.Trial) -> Temporal:
    """As ``suggest``, with a choice more, and a parameter whose first value is what there was."""
    stage = trial.suggest_categorical("stage", [2, 3, 4, 5])
    share = trial.suggest_float("share", 0.25, 1.0, step=0.25)
    wide = trial.suggest_categorical("wide", [False, True])
    norm = trial.suggest_categorical("norm", ["none", "batch"])
    temporal = BASE.but(placement__stages=(stage,), placement__share=share, context__reduction=2 if wide else 4)
    return temporal.but(context__norm=norm)


GROWN = {name: {**params, "norm": "batch"} for name, params in START.items()}


def test_a_study_keeps_its_trials_when_its_space_grows(store: Store) -> None:
    before = run(loaded(), store, 10)
    after = run(loaded(grown, start=GROWN), store, 20)
    assert len(after) == 20
    assert [(each.number, each.name, each.temporal, each.score, each.cells) for each in after[:10]] == [
        (each.number, each.name, each.temporal, each.score, each.cells) for each in before
    ]
    assert params_of(after[:10]) == [{**params, "norm": "batch"} for params in params_of(before)]
    assert all(each.distributions["stage"] == CategoricalDistribution((2, 3, 4, 5)) for each in after)
    assert {"none", "batch"} == {each.params["norm"] for each in after[10:]}
    assert store.studies() == [NAME, f"{NAME}-space2"]  # Optuna freezes the choices of each of its studies
    for name in store.studies():
        trials = optuna.load_study(study_name=name, storage=store.backend.storage).trials
        assert len({str(trial.distributions) for trial in trials}) == 1
        assert store.study_attrs(name)[SEARCH_PROTOCOL]["study"] == NAME
    assert len(store.backend.attempts()) == 20  # nothing was run again
    assert [each.number for each in run(loaded(grown, start=GROWN), store, 22)] == list(range(22))
    assert len(store.studies()) == 2


def test_a_new_parameter_without_a_value_for_earlier_trials_is_missing_there(store: Store) -> None:
    before = run(loaded(), store, 3)

    def layered(trial: optuna.Trial) -> Temporal:
        return suggest(trial).but(context__norm=trial.suggest_categorical("norm", ["none", "layer"]))  # type: ignore[union-attr]

    start = {name: {**params, "norm": "layer"} for name, params in START.items()}
    after = run(loaded(layered, start=start), store, 6)
    assert params_of(after[:3]) == params_of(before)
    assert [each.temporal for each in after[:3]] == [each.temporal for each in before]
    assert [each.name for each in after] == ["trial 0", "trial 1", "trial 2", *START, "trial 5"]


def retyped(trial: optuna.Trial) -> Temporal:
    stage = trial.suggest_int("stage", 2, 3)
    share = trial.suggest_float("share", 0.25, 1.0, step=0.25)
    return BASE.but(placement__stages=(stage,), placement__share=share)


def reworded(trial: optuna.Trial) -> Temporal:
    return suggest(trial).but(init="random")  # type: ignore[union-attr]


def to_number(trial: optuna.Trial) -> Temporal:
    wide = trial.suggest_int("wide", 0, 1)
    stage = trial.suggest_categorical("stage", [2, 3, 4])
    share = trial.suggest_float("share", 0.25, 1.0, step=0.25)
    return BASE.but(placement__stages=(stage,), placement__share=share, context__reduction=2 if wide else 4)


@pytest.mark.parametrize(
    ("changed", "start", "told"),
    [
        (retyped, {"a": {"stage": 3, "share": 1.0}}, "parameter 'stage' is a whole number from 2 to 3, not 4"),
        (
            to_number,
            {"a": {"stage": 3, "share": 1.0, "wide": 0}},
            "parameter 'wide' is a whole number from 0 to 1, not False",
        ),
        (reworded, {"a": START["paper: late"]}, "was run with stage=4, share=1.0, wide=False, which describes another"),
    ],
)
def test_a_space_without_its_finished_trials_is_refused_with_advice(
    store: Store, changed: Callable[[optuna.Trial], Temporal], start: dict[str, Any], told: str
) -> None:
    run(loaded(), store, 1)
    study = loaded(changed, start=start, base="a")
    for look in (
        lambda: Proposer(study, REGIME, NAME, store),
        lambda: trial_records(study, REGIME, NAME, store),
    ):
        with pytest.raises(UserError) as raised:
            look()
        message = str(raised.value)
        assert told in message
        assert message.endswith("give the parameter another name, or the study 'toy' another file")
        assert "\n" not in message


def test_trials_of_a_regime_that_has_changed_do_not_count(store: Store) -> None:
    run(loaded(), store, 3)
    longer = REGIME.but(schedule__epochs=5)
    assert trial_records(loaded(), longer, NAME, store) == []
    records = run_study(loaded(), longer, NAME, store, num_trials=2, num_workers=1, work=work(store))
    assert [(record.number, record.name) for record in records] == [(3, "paper: late"), (4, "paper: early")]
    assert [record.number for record in trial_records(loaded(), REGIME, NAME, store)] == [0, 1, 2]


def test_the_clips_of_a_folder_are_those_it_ran_on(store: Store, tmp_path: Path) -> None:
    bare = load_regime("folder")
    clips = bare.but(data__root=str(tmp_path), data__fingerprint="f", data__num_classes=3)
    run_study(loaded(), clips, NAME, store, num_trials=2, num_workers=1, work=work(store))
    found = trial_records(loaded(), bare, NAME, store)
    assert [record.status for record in found] == ["finished", "finished"]
    assert {record.cells[0].cell.experiment.data for record in found} == {clips.data}
    assert trial_records(loaded(), bare.but(data__split="2"), NAME, store) == []


# --- Storages


def test_a_table_of_the_same_name_is_refused(store: Store) -> None:
    store.set_study_attr(NAME, "plan", {"a": {"experiment": {}, "seeds": {}}})
    with pytest.raises(UserError, match=r"holds a table called 'toy'; rename the file of the study, or name another"):
        Proposer(loaded(), REGIME, NAME, store)


def test_a_storage_without_the_study_names_the_command(store: Store) -> None:
    with pytest.raises(UserError, match=r"has no study toy-quick; run it with: tada study toy --regime quick, "):
        trial_records(loaded(), REGIME, NAME, store)


# --- Confirmation


def finished(number: int, top1: float, **params: Any) -> TrialRecord:
    given = {**START["paper: late"], **params}
    suggestion = next(walk(suggest, given))
    name = next((name for name, each in START.items() if each == given), f"trial {number}")
    return TrialRecord(
        number, name, given, suggestion.distributions, suggestion.temporal, "finished", (), top1, None, None, ()
    )


def test_the_best_become_a_table_next_to_the_base() -> None:
    records = [
        finished(0, 60.0), finished(1, 50.0, stage=2), finished(2, 70.0, wide=True), finished(3, 70.0, share=0.5),
        finished(4, 40.0, stage=3), replace(finished(5, 99.0, stage=3, share=0.5), status="pruned"),
        finished(6, 65.0, stage=3, wide=True),
    ]  # fmt: skip
    table = confirm(loaded(), records, 3)
    assert table.name == "toy_confirm"
    assert table.table.base.name == "paper: late"
    assert [row.name for row in table.table.rows] == ["wide", "share 0.5", "stage 3, wide"]
    assert [row.temporal for row in table.table.rows] == [records[i].temporal for i in (2, 3, 6)]
    assert table.table.claims == []
    assert "paper: early" in [row.name for row in confirm(loaded(), records, 9).table.rows]
    assert len(confirm(loaded(), records, 9).table.all_rows) == 6
    assert list(confirm_seeds(loaded(seeds=3), 2)) == [3, 4]
    for none in ([], [records[0]], [records[5]]):
        with pytest.raises(UserError, match="the study 'toy' has no finished trial other than its base yet"):
            confirm(loaded(), none, 3)
    with pytest.raises(UserError, match="--confirm 0 would compare no trial"):
        confirm(loaded(), records, 0)


def test_every_configuration_has_a_row_name_of_its_own() -> None:
    records = [finished(n, 1.0, **each.params) for n, each in enumerate(walk(suggest))]
    names = [row.name for row in confirm(loaded(), records, 100).table.all_rows]
    assert len(set(names)) == len(names) == 24


def test_trials_have_their_results_on_new_seeds(store: Store) -> None:
    run(loaded(), store, 6)
    records = trial_records(loaded(), REGIME, NAME, store)
    assert not any(record.confirmed for record in records)
    table = confirm(loaded(), records, 2).table
    plan(store, "toy_confirm-quick", table.cells(REGIME, [0]), confirm_seeds(loaded(), 3))
    for attempt in waiting(store):
        finish(store, attempt)
    found = trial_records(loaded(), REGIME, NAME, store)
    best = sorted((r for r in found if r.name != "paper: late"), key=lambda r: (-(r.score or 0), r.number))[:2]
    assert {record.number for record in found if record.confirmed} == {0, *(record.number for record in best)}
    for record in found:
        assert [each.cell.experiment.seed for each in record.confirmed] in ([], [1, 2, 3])
        for each in record.confirmed:
            assert each.cell.experiment.temporal == record.temporal
            assert each.result is not None
            assert each.result.top1 == top1_of(each.cell.key)
        assert record.score == top1_of(record.cells[0].cell.key), "new seeds are no part of the search"
    # A study that is given more seeds has some in common, which are new no longer.
    more = trial_records(loaded(seeds=3), REGIME, NAME, store)
    assert {tuple(c.cell.experiment.seed for c in r.confirmed) for r in more} == {(), (3,)}
    # Of another base nothing was confirmed.
    assert not any(r.confirmed for r in trial_records(loaded(base="paper: early"), REGIME, NAME, store))
