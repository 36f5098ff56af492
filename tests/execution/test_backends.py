"""What every backend promises, asked of a journal and of PostgreSQL alike.

The oracle of what a backend reads is Optuna's own storage of the same kind, opened beside it.
"""

import math
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from typing import Any

import optuna
import postgres_server
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState, create_trial

from tadaconv.execution.backend import Attempt, Backend
from tadaconv.execution.store import Store

Waiting = tuple[int, int, str]


def opened(location: str) -> Backend:
    """The backend of a storage, as another process has it."""
    return Store.open(location).backend


@pytest.fixture
def backend(location: str) -> Backend:
    return opened(location)


@pytest.fixture
def other(location: str, backend: Backend) -> Backend:
    """The same storage, opened once more while it was empty."""
    assert backend.studies() == {}
    return opened(location)


def plain_optuna(location: str) -> BaseStorage:
    return RDBStorage(location) if "://" in location else JournalStorage(JournalFileBackend(location))


def study(backend: Backend, name: str = "t-quick") -> int:
    return backend.storage.create_new_study([StudyDirection.MAXIMIZE], name)


def queue(backend: Backend, study_id: int, *keys: str) -> list[int]:
    return [
        backend.storage.create_new_trial(study_id, create_trial(state=TrialState.WAITING, user_attrs={"cell": key}))
        for key in keys
    ]


class TestStorage(StorageTestCase):
    """Optuna's own suite for storages, on the storage that every write goes through."""

    @pytest.fixture
    def storage(self, backend: Backend) -> BaseStorage:
        return backend.storage

    def test_pickle_storage(self, storage: BaseStorage) -> None:
        """Not promised: a process that needs a storage opens it."""


def test_a_storage_is_named_without_a_password(backend: Backend) -> None:
    assert isinstance(backend.storage, BaseStorage)
    assert "journal.log" in backend.shown or backend.shown.startswith("postgresql+psycopg://tada")
    assert postgres_server.PASSWORD[:6] not in backend.shown


# What a backend reads, against the trials that Optuna reads by itself.

DISTRIBUTIONS = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "stage": IntDistribution(2, 5),
    "norm": CategoricalDistribution(("bn", None, 2.5, True)),
}
KEYS = ["k0", "k1", "k2", 'odd "key"\\,', "é"]


def fill(backend: Backend, draw: random.Random, num_trials: int) -> None:
    """Add trials in any state to three studies; every fifth or so is no attempt."""
    studies = list(backend.studies().values()) or [study(backend, name) for name in ("z", "a", "ü")]
    for _ in range(num_trials):
        state = draw.choice([*TrialState])
        attrs = {"label": "(1,1) ∞", "spec": {"x": [1, 2.5, None, "\n"]}, "n": draw.choice([math.inf, -3, "", True])}
        if draw.random() < 0.8:
            attrs["cell"] = draw.choice(KEYS)
        params = {
            "lr": draw.choice([0.1 + 0.9 * draw.random(), 1.0]),
            "stage": 3,
            "norm": draw.choice(["bn", None, 2.5, True]),
        }
        chosen = {name: value for name, value in params.items() if draw.random() < 0.7}
        trial = create_trial(
            state=state,
            value=draw.choice([math.inf, -math.inf, 61.25]) if state == TrialState.COMPLETE else None,
            params=chosen,
            distributions={name: DISTRIBUTIONS[name] for name in chosen},
            user_attrs=attrs,
            system_attrs={"fixed": 1},
        )
        backend.storage.create_new_trial(draw.choice(studies), trial)


def change(backend: Backend, draw: random.Random) -> None:
    """Have what happens to attempts happen to some: claims, attributes, parameters, ends."""
    storage = backend.storage
    for row in backend.attempts():
        if row.state == TrialState.WAITING and draw.random() < 0.4:
            assert storage.set_trial_state_values(row.trial_id, TrialState.RUNNING)
            storage.set_trial_user_attr(row.trial_id, "lease", {"beat": draw.randint(1, 9)})
            storage.set_trial_intermediate_value(row.trial_id, 1, 50.0)
        elif row.state == TrialState.RUNNING and draw.random() < 0.5:
            storage.set_trial_user_attr(row.trial_id, "n", draw.random())
            if "extra" not in row.params:
                storage.set_trial_param(row.trial_id, "extra", 0.5, FloatDistribution(0, 1))
            storage.set_trial_state_values(row.trial_id, draw.choice([TrialState.FAIL, TrialState.PRUNED]))
        elif row.state == TrialState.RUNNING:
            storage.set_trial_state_values(row.trial_id, TrialState.COMPLETE, [draw.random()])


def by_optuna(location: str) -> list[Attempt]:
    storage = plain_optuna(location)
    rows = [
        Attempt(
            t._trial_id, s._study_id, t.number, t.state, t.user_attrs,
            t.values[0] if t.values else None, t.params, t.datetime_start, t.datetime_complete,
        )
        for s in storage.get_all_studies()
        for t in storage.get_all_trials(s._study_id)
        if "cell" in t.user_attrs
    ]  # fmt: skip
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()
    return sorted(rows, key=lambda row: row.trial_id)


def assert_reads(backend: Backend, rows: list[Attempt]) -> None:
    """``backend`` answers every question by ``rows``, which are all attempts there are."""
    studies = backend.studies()
    assert backend.attempts() == rows
    assert repr([row.params for row in backend.attempts()]) == repr([row.params for row in rows]), "1 is not 1.0 here"
    assert backend.running() == [row for row in rows if row.state == TrialState.RUNNING]
    for keys in (["k1"], ["k0", "é", "k0", 'odd "key"\\,'], [], ["none"], [f"x{i}" for i in range(5000)] + ["k2"]):
        assert backend.attempts(keys) == [row for row in rows if row.key in keys]
        states: dict[str, list[TrialState]] = {}
        for row in rows:
            if row.key in keys:
                states.setdefault(row.key, []).append(row.state)
        assert backend.states(keys) == states
        for ids in ([], [studies["a"]], [studies["ü"], studies["z"]]):
            assert backend.attempts(keys, ids) == [row for row in rows if row.key in keys and row.study_id in ids]
    assert [backend.attempt(row.trial_id) for row in rows[::5]] == rows[::5]
    assert_queue(backend, rows)


def assert_queue(backend: Backend, rows: list[Attempt]) -> None:
    ids = list(backend.studies().values())
    waiting = [(row.trial_id, row.study_id, row.key) for row in rows if row.state == TrialState.WAITING]
    several: list[Collection[str] | None] = [
        None,
        {"k0"},
        ["k1", "é"],
        {"k0": 1}.keys(),
        [],
        [f"x{i}" for i in range(999)],
    ]
    for wanted in [*several, [row[2] for row in waiting[-1:]]]:
        for study_ids, limit in ((ids, 100), (ids, 3), (ids[::-1], 1), (ids[1:2], 100), (ids, 0), ([], 1)):
            chosen = [row for row in waiting if row[1] in study_ids and (wanted is None or row[2] in wanted)]
            assert backend.waiting(study_ids, wanted, limit) == chosen[:limit]


@pytest.mark.parametrize("seed", range(2))
def test_every_read_sees_what_optuna_reads(location: str, backend: Backend, other: Backend, seed: int) -> None:
    """Of two processes that have the storage open, what either has written; one that comes later sees the same."""
    draw = random.Random(seed)
    for writer in (backend, other, backend):
        fill(writer, draw, num_trials=20)
        assert len(other.attempts()) > 10
        change(writer, draw)
        rows = by_optuna(location)
        assert_reads(backend, rows)
        assert_reads(other, rows)
    assert {row.state for row in rows} == {*TrialState}
    assert list(backend.studies()) == ["z", "a", "ü"]
    assert list(backend.studies().values()) == sorted(backend.studies().values())
    assert_reads(opened(location), rows)


def test_an_attempt_that_is_not_there_is_no_attempt(backend: Backend) -> None:
    with pytest.raises(KeyError):
        backend.attempt(10**6)


def test_an_attempt_is_numbered_in_its_study_and_older_ones_come_first(backend: Backend, other: Backend) -> None:
    first, second = study(backend, "first"), study(other, "second")
    ids = [
        trial_id
        for n in range(3)
        for trial_id in (*queue(backend, first, f"a{n}"), *queue(other, second, f"b{n}"))
    ]  # fmt: skip
    assert ids == sorted(ids)
    rows = backend.attempts()
    assert [row.key for row in rows] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [row.number for row in rows] == [0, 0, 1, 1, 2, 2]
    assert [row.trial_id for row in rows] == ids


def test_studies_and_their_attributes_are_seen_by_other_processes(backend: Backend, other: Backend) -> None:
    assert other.studies() == {}
    names = ["z-quick", "a-quick", "ü", ""]
    ids = {name: study(backend, name) for name in names}
    assert list(other.studies().items()) == list(backend.studies().items()) == list(ids.items())
    with pytest.raises(DuplicatedStudyError):
        study(other, "ü")
    assert other.study_attrs(ids["ü"]) == {}
    plan = {"row": [1, None, "\n", math.inf]}
    for value in (0, plan):
        backend.storage.set_study_user_attr(ids["ü"], "plan", value)
        assert other.study_attrs(ids["ü"]) == {"plan": value}
    backend.storage.set_study_user_attr(ids["ü"], "format", 2)
    assert dict(other.study_attrs(ids["ü"])) == {"plan": plan, "format": 2}
    assert other.study_attrs(ids[""]) == {}
    with pytest.raises(KeyError):
        backend.study_attrs(10**6)


def test_a_study_that_somebody_deletes_takes_its_attempts_with_it(backend: Backend, other: Backend) -> None:
    kept, gone = study(backend, "kept"), study(backend, "gone")
    queue(backend, kept, "k0")
    claimed, _ = queue(backend, gone, "k0", "k1")
    backend.storage.set_trial_state_values(claimed, TrialState.RUNNING)
    assert [row.trial_id for row in other.running()] == [claimed]
    backend.storage.delete_study(gone)
    for asked in (backend, other):
        assert asked.studies() == {"kept": kept}
        assert asked.running() == []
        assert [row.study_id for row in asked.attempts()] == [kept]
        assert asked.states(["k0", "k1"]) == {"k0": [TrialState.WAITING]}
        assert [key for _, _, key in asked.waiting([kept, gone], None, 9)] == ["k0"]
    again = study(other, "gone")
    queue(other, again, "k2")
    assert [(row.study_id, row.key) for row in backend.attempts()] == [(kept, "k0"), (again, "k2")]


def test_an_attempt_that_has_ended_cannot_be_changed(backend: Backend, other: Backend) -> None:
    """What a cell's one result hangs on: of two ends only the first counts, whoever comes with the second."""
    (trial_id,) = queue(backend, study(backend), "k0")
    assert backend.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert not other.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert not backend.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    other.storage.set_trial_user_attr(trial_id, "result", 61.0)
    other.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [61.0])
    ended = other.attempt(trial_id)
    late: list[Callable[[BaseStorage], Any]] = [
        lambda storage: storage.set_trial_state_values(trial_id, TrialState.RUNNING),
        lambda storage: storage.set_trial_state_values(trial_id, TrialState.FAIL),
        lambda storage: storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [62.0]),
        lambda storage: storage.set_trial_user_attr(trial_id, "result", 62.0),
        lambda storage: storage.set_trial_intermediate_value(trial_id, 1, 1.0),
    ]
    for call in late:
        for asked in (backend, other):
            with pytest.raises(UpdateFinishedTrialError):
                call(asked.storage)
    assert backend.attempt(trial_id) == other.attempt(trial_id) == ended
    assert (ended.state, ended.value, ended.attrs["result"]) == (TrialState.COMPLETE, 61.0, 61.0)
    assert ended.started is not None
    assert ended.ended is not None
    assert ended.started <= ended.ended


def test_an_attempt_that_was_read_never_changes(backend: Backend) -> None:
    (trial_id,) = queue(backend, study(backend), "k0")
    before, attrs = backend.attempt(trial_id), dict(backend.attempt(trial_id).attrs)
    backend.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    backend.storage.set_trial_user_attr(trial_id, "lease", 1)
    assert (before.state, before.attrs) == (TrialState.WAITING, attrs)


# Who waits for whom.

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tadaconv.execution.postgres", "psycopg", "alembic.command"])
NUM_PROCESSES, NUM_CELLS = 6, 50


def share(location: str, out: Connection) -> None:
    """Open a storage, queue all cells if nobody has, and claim as many as there are."""
    backend = opened(location)
    with backend.alone():
        if "t" not in backend.studies():
            queue(backend, study(backend, "t"), *[f"k{i}" for i in range(NUM_CELLS)])
    claimed = []
    while waiting := backend.waiting(list(backend.studies().values()), None, 3):
        claimed += [
            trial_id
            for trial_id, _, _ in waiting
            if backend.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        ]
    out.send(claimed)


def hold(location: str, out: Connection) -> None:
    with opened(location).alone():
        out.send(os.getpid())
        time.sleep(60)


def test_processes_that_open_a_storage_at_once_claim_every_trial_once(location: str) -> None:
    pipes = [PROCESSES.Pipe() for _ in range(NUM_PROCESSES)]
    processes = [PROCESSES.Process(target=share, args=(location, out), daemon=True) for _, out in pipes]
    for process, (_, out) in zip(processes, pipes, strict=True):
        process.start()
        out.close()  # so that one that dies is noticed
    claimed = [receive.recv() for receive, _ in pipes]
    for process in processes:
        process.join()
        process.close()
    backend = opened(location)
    assert sorted(trial_id for part in claimed for trial_id in part) == [row.trial_id for row in backend.running()]
    assert len(backend.attempts()) == len(backend.running()) == NUM_CELLS
    assert [row.number for row in backend.attempts()] == list(range(NUM_CELLS))


def test_threads_that_share_a_backend_claim_every_trial_once(backend: Backend) -> None:
    ids = queue(backend, study(backend), *[f"k{i}" for i in range(20)])
    claimed: list[int] = []

    def claim() -> None:
        claimed.extend(id for id in ids if backend.storage.set_trial_state_values(id, TrialState.RUNNING))

    threads = [threading.Thread(target=claim) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == ids == [row.trial_id for row in backend.running()]


def test_a_lock_whose_holder_is_killed_is_free(location: str, backend: Backend) -> None:
    receive, out = PROCESSES.Pipe()
    process = PROCESSES.Process(target=hold, args=(location, out), daemon=True)
    process.start()
    out.close()
    pid = receive.recv()
    held = threading.Event()

    def plan() -> None:
        with backend.alone():
            held.set()

    waiter = threading.Thread(target=plan)
    waiter.start()
    assert not held.wait(0.3)
    queue(backend, study(backend), "k0")  # who does not plan writes and reads meanwhile
    assert [row.key for row in backend.attempts()] == ["k0"]
    os.kill(pid, signal.SIGKILL)
    assert held.wait(10)
    waiter.join()
    process.join()
    process.close()


def test_one_plans_at_a_time_and_an_error_lets_the_next_one(backend: Backend, other: Backend) -> None:
    inside: list[int] = []

    def plan(number: int) -> None:
        with (backend, other)[number % 2].alone():
            inside.append(number)
            time.sleep(0.05)
            inside.append(number)

    with pytest.raises(ValueError, match="mine"), backend.alone():
        raise ValueError("mine")
    threads = [threading.Thread(target=plan, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside[::2] == inside[1::2]
    assert sorted(inside[::2]) == list(range(4))


def test_trials_of_other_programs_are_left_alone(backend: Backend) -> None:
    theirs = optuna.create_study(storage=backend.storage, study_name="theirs")
    theirs.enqueue_trial({"x": 1.0})
    theirs.ask()
    assert backend.attempts() == backend.running() == []
    assert backend.waiting([*backend.studies().values()], None, 9) == []
    assert [trial.state for trial in theirs.trials] == [TrialState.RUNNING]
