"""What is PostgreSQL's own: how it is asked, what an outage does, and what cannot be opened.

What every backend promises is in ``test_backends.py``.
"""

import hashlib
import json
import logging
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import optuna
import postgres_server
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from tadaconv.errors import RunError, UserError
from tadaconv.execution.location import Location

if reason := postgres_server.found():
    pytest.skip(reason, allow_module_level=True)

import psycopg
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from tadaconv.execution import postgres
from tadaconv.execution.backend import Backend
from tadaconv.execution.postgres import PostgresBackend, open_postgres

Server = postgres_server.Server
SECRETS = (postgres_server.PASSWORD, postgres_server.PASSWORD[:6])


@pytest.fixture
def database(server: Server, template: str) -> str:
    return server.new_database(template)


@pytest.fixture
def backend(server: Server, database: str) -> PostgresBackend:
    return opened(server, database, create=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(postgres, "LONGEST_PAUSE_SECONDS", 0.2)


def opened(server: Server, database: str, *, create: bool = False, **login: Any) -> PostgresBackend:
    return open_postgres(Location.parse(server.url(database, **login)).shown, create=create)


def study(backend: Backend, name: str = "t-quick") -> int:
    return backend.storage.create_new_study([StudyDirection.MAXIMIZE], name)


def queue(backend: Backend, study_id: int, *keys: str) -> list[int]:
    return [
        backend.storage.create_new_trial(study_id, create_trial(state=TrialState.WAITING, user_attrs={"cell": key}))
        for key in keys
    ]


@pytest.mark.parametrize(("page", "few"), [(1, 0), (4, 256)])
def test_the_queue_is_read_in_order_however_it_is_paged(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch, page: int, few: int
) -> None:
    monkeypatch.setattr(postgres, "_FIRST_PAGE", page)
    monkeypatch.setattr(postgres, "_LONGEST_PAGE", 2 * page)
    monkeypatch.setattr(postgres, "_FEW_KEYS", few)
    draw, ids = random.Random(7), [study(backend, name) for name in ("first", "second", "third")]
    for _ in range(30):
        queue(backend, draw.choice(ids), draw.choice(["k0", "k1", "k2", "é"]))
    for row in backend.attempts():
        if draw.random() < 0.5:
            backend.storage.set_trial_state_values(row.trial_id, TrialState.RUNNING)
    waiting = [(r.trial_id, r.study_id, r.key) for r in backend.attempts() if r.state == TrialState.WAITING]
    assert len(waiting) > 4
    for wanted in (None, {"k0"}, ["k1", "é"], {"k0": 1}.keys(), [], [waiting[-1][2]]):
        for study_ids in (ids, ids[1:2], []):
            chosen = [w for w in waiting if w[1] in study_ids and (wanted is None or w[2] in wanted)]
            for limit in (0, 1, 3, 100):
                assert backend.waiting(study_ids, wanted, limit) == chosen[:limit]


def test_a_question_about_one_cell_is_answered_by_an_index_before_there_are_statistics(
    backend: PostgresBackend,
) -> None:
    study_id = study(backend)
    engine = backend.engine
    values = {"study": study_id, "n": 3000}
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO trials (trial_id, number, study_id, state) "
            "SELECT i, i, :study, 'WAITING' FROM generate_series(1, :n) i",
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) "
            "SELECT i, k, '\"' || md5(i::text) || '\"' FROM generate_series(1, :n) i, unnest(ARRAY['cell', 'spec']) k",
        ):
            connection.execute(text(statement), values)

        def plan(statement: Any, **values: Any) -> str:
            return "\n".join(connection.execute(text(f"EXPLAIN (ANALYZE) {statement}"), values).scalars())

        key = hashlib.md5(b"1234").hexdigest()
        assert "using tadaconv_cell" in plan(postgres._ATTEMPTS_AT, keys=json.dumps(key))
        walk = plan(postgres._WAITING, after=1000, page=64)
        assert max(float(rows) for rows in re.findall(r"actual time=\S+ rows=([\d.]+)", walk)) == 64
    assert backend.states([key]) == {key: [TrialState.WAITING]}
    assert backend.waiting([study_id], {key}, 9) == [(1234, study_id, key)]


def once(backend: PostgresBackend, fragment: str, action: Callable[[], Any]) -> None:
    """Have ``action`` happen right before the next statement of ``backend`` with ``fragment`` in it."""
    pending = [action]

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if fragment in statement and pending:
            pending.pop()()

    event.listen(backend.engine, "before_cursor_execute", before)


class Commits:
    """What happens at the commits of a storage, in place of the driver's."""

    def __init__(self, backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.die_after_next = False
        dialect = backend.engine.dialect
        original = dialect.do_commit

        def commit(connection: Any) -> None:
            original(connection)
            if self.die_after_next:
                self.die_after_next = False
                connection.dbapi_connection.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(dialect, "do_commit", commit)


# What an outage does.


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.usefixtures("impatient")
def test_writers_wait_for_a_server_that_is_restarted(
    server: Server, backend: PostgresBackend, caplog: pytest.LogCaptureFixture, mode: Any
) -> None:
    study_id = study(backend)
    (trial_id,) = queue(backend, study_id, "k0")
    assert backend.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    asked = optuna.load_study(study_name="t-quick", storage=backend.storage)  # goes through Optuna's cache
    done = threading.Event()
    written = seen = num_told = 0
    errors: list[BaseException] = []

    def write() -> None:
        nonlocal written, seen, num_told
        try:
            while not done.is_set():
                backend.storage.set_trial_user_attr(trial_id, "lease", written)
                written += 1
                seen = backend.attempt(trial_id).attrs["lease"]
                trial = asked.ask()
                trial.suggest_float("x", 0, 1)
                asked.tell(trial, 1.0)
                num_told += 1
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    with caplog.at_level(logging.INFO):
        thread.start()
        time.sleep(0.3)
        before = written
        server.stop(mode)
        noticed = time.monotonic() + 30.0  # Optuna itself first tries again for seconds where it makes a trial
        while "is away" not in caplog.text and time.monotonic() < noticed:
            time.sleep(0.02)
        server.start()
        while written < before + 20 and thread.is_alive():
            time.sleep(0.02)
        done.set()
        thread.join()
    assert not errors
    assert before > 0
    assert seen == written - 1
    states = [trial.state for trial in asked.get_trials(deepcopy=False)[1:]]
    assert states.count(TrialState.COMPLETE) >= num_told
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [message.split(" the storage ")[0].split()[0] for message in messages] == ["the", "the"]
    assert "cannot be reached, waiting for it: " in messages[0]
    assert "is back after " in messages[1]
    assert not [secret for secret in SECRETS if secret in caplog.text]
    assert {record.name.split(".")[0] for record in caplog.records if record.levelno >= logging.WARNING} == {"tadaconv"}


@pytest.mark.usefixtures("impatient")
def test_a_connection_lost_while_optuna_reads_many_trials_is_restored(
    server: Server, database: str, backend: PostgresBackend
) -> None:
    study_id = study(backend)
    queue(backend, study_id, "k0", "k1")
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    once(backend, "FROM trial_params", lambda: server.execute(end))
    assert [trial.user_attrs["cell"] for trial in backend.storage.get_all_trials(study_id)] == ["k0", "k1"]


@pytest.mark.usefixtures("impatient")
def test_a_restart_while_planning_ends_neither_the_plan_nor_later_ones(
    server: Server, backend: PostgresBackend
) -> None:
    with backend.alone():
        server.restart()
        queue(backend, study(backend), "k0")
    with backend.alone():
        assert [row.key for row in backend.attempts()] == ["k0"]


@pytest.mark.usefixtures("impatient")
def test_a_server_that_stays_away_ends_the_run(
    server: Server, backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "OUTAGE_SECONDS", 0.3)
    study_id = study(backend)
    waits = []
    say_away = postgres._Outage._say_away

    def wait(outage: Any, state: Any) -> None:
        waits.append(state)
        say_away(outage, state)

    monkeypatch.setattr(postgres._Outage, "_say_away", wait)
    server.stop("immediate")
    try:
        for call in (
            backend.attempts,
            lambda: backend.storage.set_study_user_attr(study_id, "plan", 1),
            backend.alone().__enter__,
        ):
            waits.clear()
            with pytest.raises(RunError, match=r"tada@.* could not be reached for 0 s: .*(refused|closed|terminating)"):
                call()
            assert waits, "it is asked again"
    finally:
        server.start()


@pytest.mark.usefixtures("impatient")
def test_a_refused_login_while_running_is_no_outage(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "OUTAGE_SECONDS", 1.0)
    server.execute("CREATE ROLE worker LOGIN SUPERUSER PASSWORD 'before'")
    server.know_password("worker", "before")
    running = opened(server, database, user="worker")
    study_id = study(running)
    server.execute("ALTER ROLE worker PASSWORD 'after'")
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'")
    for call in (
        running.studies,
        running.alone().__enter__,
        lambda: running.storage.set_study_user_attr(study_id, "plan", 1),
    ):
        with pytest.raises(RunError, match=r"cannot (read|use) the storage .*: password authentication failed"):
            call()


def test_an_error_of_the_server_ends_the_run_with_one_line(
    server: Server, database: str, backend: PostgresBackend
) -> None:
    study_id = study(backend)
    server.execute("CREATE ROLE reader LOGIN PASSWORD 'r'")
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database)
    server.know_password("reader", "r")
    reading = opened(server, database, user="reader")
    assert list(reading.studies().values()) == [study_id]
    assert reading.attempts() == []
    with pytest.raises(RunError, match=r"cannot use the storage .*reader@.*: permission denied for table") as caught:
        reading.storage.set_study_user_attr(study_id, "plan", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_a_call_repeated_after_an_unconfirmed_commit_behaves_as_documented(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(backend, monkeypatch)
    storage = backend.storage
    study_id = study(backend)

    def torn(call: Callable[[], Any]) -> Any:
        commits.die_after_next = True
        try:
            return call()
        finally:
            assert not commits.die_after_next

    with pytest.raises(DuplicatedStudyError):
        torn(lambda: study(backend, "other"))
    assert list(backend.studies()) == ["t-quick", "other"]
    torn(lambda: queue(backend, study_id, "k0"))
    first, second = (row.trial_id for row in backend.attempts(["k0"]))
    assert torn(lambda: storage.set_trial_state_values(first, TrialState.RUNNING)) is False
    assert backend.attempt(first).state == TrialState.RUNNING
    torn(lambda: storage.set_trial_user_attr(first, "result", [1.5]))
    assert backend.attempt(first).attrs["result"] == [1.5]
    torn(lambda: storage.set_trial_param(first, "x", 0.5, FloatDistribution(0, 1)))
    assert backend.attempt(first).params == {"x": 0.5}
    with pytest.raises(UpdateFinishedTrialError):
        torn(lambda: storage.set_trial_state_values(first, TrialState.COMPLETE, [61.0]))
    assert (backend.attempt(first).state, backend.attempt(first).value) == (TrialState.COMPLETE, 61.0)
    assert backend.attempt(second).state == TrialState.WAITING


def test_connections_are_closed_with_the_storage(server: Server, database: str) -> None:
    def num_connections() -> int:
        rows = server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")
        return int(str(rows[0][0]))

    backend = opened(server, database)
    with backend.alone():
        backend.studies()
        assert num_connections() == 2
    backend.studies()
    assert num_connections() <= 2
    del backend
    until = time.monotonic() + 5
    while num_connections() and time.monotonic() < until:
        time.sleep(0.01)
    assert num_connections() == 0


# What cannot be opened.


def refused(location: str, *, create: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        open_postgres(Location.parse(location).shown, create=create)
    message = str(caught.value)
    assert "\n" not in message
    assert not [secret for secret in SECRETS if secret in message]
    return message


def test_a_refused_login_gives_the_reason(server: Server, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no password supplied; give the right" in refused(server.url(database, user="nobody"))
    with monkeypatch.context() as wrong:
        wrong.setenv("PGPASSWORD", "s3cret@")
        for user in ("tada", "nobody"):
            assert f'password authentication failed for user "{user}"' in refused(server.url(database, user=user))
    assert "database \"nowhere\" does not exist; create it with 'createdb'" in refused(server.url("nowhere"))
    assert "Connection refused; check that the server runs" in refused(server.url().replace(f":{server.port}/", ":1/"))
    assert "invalid connection option" in refused(server.url(database) + "?colour=red")
    assert "failed to resolve host" in refused("postgresql://no.invalid/x")


def test_an_address_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(postgres, "CONNECT_SECONDS", 2)
        assert "timeout" in refused(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x")


def test_a_database_without_results_is_not_changed_by_readers(server: Server) -> None:
    name = server.new_database()
    message = refused(server.url(name), create=False)
    assert message.startswith("no results at postgresql+psycopg://tada@")
    assert "make some with: tada ablate TABLE --storage postgresql+psycopg://tada@" in message
    assert server.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'", name) == [
        (0,)
    ]


def test_tables_of_other_programs_and_versions_are_left_alone(server: Server, template: str) -> None:
    name = server.new_database()
    server.execute("CREATE TABLE trials (patient text)", name)
    assert "holds another program's tables" in refused(server.url(name))
    assert server.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'", name) == [
        (1,)
    ]
    for revision, mend in (
        ("v3.0.0.a", "older version of Optuna; bring it up to date with: optuna storage upgrade --storage post"),
        ("v99", "a newer"),
    ):
        name = server.new_database(template)
        server.execute(f"UPDATE alembic_version SET version_num = '{revision}'", name)
        assert mend in refused(server.url(name))
        assert mend in refused(server.url(name), create=False)


def test_a_user_without_the_right_to_create_tables_is_refused(server: Server) -> None:
    name = server.new_database()
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'g'")
    server.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    server.know_password("guest", "g")
    message = refused(server.url(name, user="guest"))
    assert "permission denied for schema public; grant the user what it needs" in message


def test_a_storage_made_by_optuna_gets_the_indexes_it_lacks(server: Server, database: str) -> None:
    server.execute("DROP INDEX tadaconv_cell", database)
    opened(server, database, create=False)
    assert not server.execute("SELECT 1 FROM pg_indexes WHERE indexname = 'tadaconv_cell'", database)
    opened(server, database, create=True)
    assert server.execute("SELECT 1 FROM pg_indexes WHERE indexname = 'tadaconv_cell'", database)


def test_a_partly_created_database_is_completed(server: Server, template: str) -> None:
    name = server.new_database(template)
    server.execute("DROP TABLE alembic_version", name)
    server.execute("DELETE FROM version_info", name)
    assert "no results" in refused(server.url(name), create=False)
    assert opened(server, name, create=True).studies() == {}
    assert opened(server, name).studies() == {}


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_starting_is_waited_for(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare, answers = postgres._prepare, ["starting up", "not yet accepting connections"]

    def starting(*arguments: Any) -> None:
        if answers:
            raise OperationalError("", {}, psycopg.OperationalError(f"FATAL:  the database system is {answers.pop(0)}"))
        prepare(*arguments)

    monkeypatch.setattr(postgres, "_prepare", starting)
    assert opened(server, database).studies() == {}
    assert "the database system is starting up" in caplog.messages[0]


def test_psycopg_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'psycopg[binary]>=" in refused("postgresql://u@127.0.0.1:1/x")


def test_an_attribute_too_long_for_a_btree_can_be_written_by_others(backend: PostgresBackend) -> None:
    random_text = random.Random(0).randbytes(20_000).hex()
    (trial_id,) = queue(backend, study(backend), random_text)
    assert backend.attempt(trial_id).key == random_text
    assert backend.states([random_text]) == {random_text: [TrialState.WAITING]}
