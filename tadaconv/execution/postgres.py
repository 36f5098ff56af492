"""The storage in a PostgreSQL database: Optuna's, with waiting while its server is away and with faster reads.

Writes are Optuna's own transactions. Attempts are read by our SQL on Optuna's tables, and the version of the tables is
checked when they are opened; two indexes are added, which Optuna ignores. docs/design.md gives the reasons.
"""

import json
import logging
import re
import shlex
import threading
import time
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from tadaconv.command import command, install
from tadaconv.errors import NoResultsError, StorageError, UserError
from tadaconv.execution.backend import Attempt, guarded
from tadaconv.text import one_line

OUTAGE_SECONDS = 600.0
"""How long a call waits for a server that has gone away."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
CONNECT_SECONDS = 10

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

_PLANNING = int.from_bytes(b"tadaplan")
"""The number of an advisory lock; each database has its own set of them."""

# Servers and clients notice within a minute that the other's machine has vanished. Otherwise a lock could be held for
# hours by a worker that is no more.
_CLIENT_PATIENCE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
_SERVER_PATIENCE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"

# Messages of a server after which it is not queried again; libpq gives no SQLSTATE for a refused connection.
_REFUSALS = (
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied",
)
_ADVICE = {
    "password": "give the right user, and its password in PGPASSWORD or ~/.pgpass",
    "database .* does not exist": "create it with 'createdb', or name another with --storage",
    "role .* does not exist": "create the user with 'createuser', or name another",
    "permission denied|must be owner": "grant the user what it needs, or name another database with --storage",
    "(relation|column|type) .* (does not|already)": "its tables are not Optuna's; name another database with --storage",
    "too many|connection slots": "raise max_connections of the server; every worker needs one or two",
    "": "check that the server runs and can be reached from here, or name another with --storage",
}
"""What to do about a database that cannot be opened, by a pattern of the driver's message; the first counts."""

_COMING_BACK = "the database system is"  # starting up, shutting down, in recovery mode, not yet accepting connections
_GONE_STATES = ("57P01", "57P02", "57P03", "53300")  # shut down, crashed, not there yet, too many connections

_TABLES = {"studies", "trials", "trial_user_attributes", "trial_params", "trial_values", "version_info"}
"""Optuna's tables that are read here, and the one that identifies them as Optuna's."""

_INDEXES = {
    # A hash, as another program's attribute of that name may be longer than a B-tree takes.
    "tadaconv_cell": "ON trial_user_attributes USING hash (value_json) WHERE key = 'cell'",
    "tadaconv_open": "ON trials (state, trial_id) WHERE state IN ('WAITING', 'RUNNING')",
}

_STUDIES = text("SELECT study_name, study_id FROM studies ORDER BY study_id")
# One text instead of an array, which psycopg builds slowly; JSON has no raw line breaks.
_WANTED = "unnest(string_to_array(:keys, chr(10))) AS wanted(value)"
# Walks the index trial by trial: a planner without fresh statistics would rather fetch and sort the whole queue.
_WAITING = text("""
    WITH RECURSIVE queue(trial_id, study_id) AS (
        (SELECT trial_id, study_id FROM trials
         WHERE state = 'WAITING' AND trial_id > :after ORDER BY trial_id LIMIT 1)
        UNION ALL
        SELECT following.trial_id, following.study_id FROM queue CROSS JOIN LATERAL
        (SELECT t.trial_id, t.study_id FROM trials t
         WHERE t.state = 'WAITING' AND t.trial_id > queue.trial_id ORDER BY t.trial_id LIMIT 1) following
    )
    SELECT trial_id, study_id,
        (SELECT value_json FROM trial_user_attributes c WHERE c.trial_id = queue.trial_id AND c.key = 'cell')
    FROM queue LIMIT :page
""")
_ATTEMPTS_AT = text(f"""
    SELECT t.trial_id, t.study_id, c.value_json, t.state FROM {_WANTED}
    JOIN trial_user_attributes c ON c.key = 'cell' AND c.value_json = wanted.value
    JOIN trials t ON t.trial_id = c.trial_id
    ORDER BY t.trial_id
""")
# One statement sees one state of the database, and costs one round trip. Optuna writes infinities into its JSON, which
# PostgreSQL cannot read, so objects are put together as text.
_ROWS = """
    SELECT t.trial_id, t.study_id, t.number, t.state, t.datetime_start, t.datetime_complete,
        (SELECT '{{' || string_agg(to_json(a.key)::text || ':' || a.value_json, ',') || '}}'
         FROM trial_user_attributes a WHERE a.trial_id = t.trial_id) AS attrs,
        (SELECT CASE v.value_type WHEN 'INF_POS' THEN 'Infinity' WHEN 'INF_NEG' THEN '-Infinity' ELSE v.value END
         FROM trial_values v WHERE v.trial_id = t.trial_id AND v.objective = 0) AS value,
        (SELECT json_agg(json_build_array(p.param_name, p.param_value, p.distribution_json) ORDER BY p.param_id)
         FROM trial_params p WHERE p.trial_id = t.trial_id) AS params
    FROM {source}
    JOIN trials t ON t.trial_id = c.trial_id
    WHERE {condition}
    ORDER BY t.trial_id
"""
_FIRST_PAGE, _LONGEST_PAGE = 64, 4096
_FEW_KEYS = 256


class _Outage:
    """Waits while the server is away, for every thread of this process, with one warning."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._since: float | None = None

    def guard(self, call: Callable[[], T]) -> T:
        """Return what ``call`` does, as :meth:`wait`; errors of the server become :class:`StorageError`."""
        try:
            return self.wait(call, _has_gone)
        except (StorageInternalError, DBAPIError) as error:
            cause = _driver_error(error)
            reason = one_line(error) if cause is None else _reason(cause)
            raise StorageError(f"cannot use the storage {self._shown}: {reason}") from error

    def wait(self, call: Callable[[], T], is_gone: Callable[[DBAPIError], bool]) -> T:
        """Return or raise what ``call`` does, once the server is there.

        ``call`` is called again when a connection has failed, so the transaction of an earlier one may have been
        committed. Raises :class:`StorageError` when the server could not be reached for ``OUTAGE_SECONDS``.
        """

        def is_outage(error: BaseException) -> bool:
            cause = _driver_error(error) if isinstance(error, StorageInternalError | DBAPIError) else None
            return cause is not None and is_gone(cause)

        # Workers that lost their server together do not all come back together.
        retrying = Retrying(
            retry=retry_if_exception(is_outage),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
            stop=stop_after_delay(OUTAGE_SECONDS),
            before_sleep=self._say_away,
            retry_error_callback=self._give_up,
        )
        try:
            return retrying(call)
        finally:
            self._say_back()

    def _say_away(self, state: RetryCallState) -> None:
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                _LOG.warning("the storage %s cannot be reached, waiting for it: %s", self._shown, _reason_of(state))

    def _say_back(self) -> None:
        with self._lock:
            if self._since is not None:
                seconds = time.monotonic() - self._since
                self._since = None
                _LOG.warning("the storage %s is back after %.0f s", self._shown, seconds)

    def _give_up(self, state: RetryCallState) -> None:
        self._since = None
        seconds = state.seconds_since_start
        raise StorageError(f"the storage {self._shown} could not be reached for {seconds:.0f} s: {_reason_of(state)}")


def _reason_of(state: RetryCallState) -> str:
    cause = _driver_error(state.outcome.exception() if state.outcome else None)
    assert cause is not None
    return _reason(cause)


def _driver_error(error: BaseException | None) -> DBAPIError | None:
    """The driver's error below those of Optuna and SQLAlchemy."""
    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__ or error.__context__
    return error


def _reason(error: DBAPIError) -> str:
    """The line of a driver's message with the reason."""
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return lines[0].removeprefix("connection failed: ").rpartition("FATAL:  ")[2].strip()


def _has_gone(error: DBAPIError) -> bool:
    """Whether the server is away and may come back."""
    state = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or state in _GONE_STATES or str(state).startswith("08"):
        return True
    if isinstance(error, OperationalError | InterfaceError) and state is None:
        return not any(refusal in str(error.orig) for refusal in _REFUSALS)
    return False


def _is_coming_back(error: DBAPIError) -> bool:
    return _COMING_BACK in str(error.orig)


class PostgresBackend:
    """A PostgreSQL database; see :class:`tadaconv.execution.backend.Backend`.

    Every call waits while the server is away, and is then made again. Raises :class:`StorageError` if the server stays
    away for ``OUTAGE_SECONDS`` or reports an error (disk full). A process holds one connection all the time,
    and further ones while it plans or several of its threads ask.

    A server that dies in a commit leaves it open whether the transaction counts, so a write of ``storage`` that is made
    again may find its own effect. What it does then:

    - claiming (``set_trial_state_values`` to RUNNING) returns False: the attempt runs without a worker, is detected to
      have no lease, and its cell is queued again.
    - ending (``set_trial_state_values`` to a finished state) and attributes of a trial ended by it raise
      ``UpdateFinishedTrialError``; the trial has the result.
    - ``create_new_trial`` makes a second one; of two attempts at a cell the later is dropped when it is claimed.
    - ``create_new_study`` raises ``DuplicatedStudyError``, as if another process had been faster.
    - ``set_trial_param`` and attributes write the same once more; ``delete_study`` raises ``KeyError``.
    """

    def __init__(self, shown: str, storage: RDBStorage, single: Engine, outage: _Outage) -> None:
        self.shown = shown
        self.storage = guarded(storage, outage.guard)
        self.engine = storage.engine
        self._single = single
        self._outage = outage
        self._statements = storage.engine.execution_options(isolation_level="AUTOCOMMIT")
        weakref.finalize(self, storage.engine.dispose)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Hold an advisory lock by a separate connection, which ends with its process, and the lock with it.

        A restart of the server releases it too, unnoticed: the block continues, as its writes wait for the server, and
        another process may plan at the same time. The only consequence is a second attempt at a cell, which is dropped
        when it is claimed.
        """
        with self._outage.guard(lambda: _locked(self._single)):
            yield

    def studies(self) -> dict[str, int]:
        """The id of every study by its name, oldest first."""
        return {row.study_name: row.study_id for row in self._ask(_STUDIES)}

    def study_attrs(self, study_id: int) -> Mapping[str, Any]:
        """The user attributes of a study. Raises KeyError for one that is not there."""
        return self.storage.get_study_user_attrs(study_id)

    def waiting(
        self, study_ids: Sequence[int], wanted: Collection[str] | None, limit: int
    ) -> list[tuple[int, int, str]]:
        """Waiting attempts, oldest first: few wanted ones are looked up, many are met on the queue's first pages."""
        if wanted is not None and len(wanted) <= _FEW_KEYS:
            attempts = self._ask(_ATTEMPTS_AT, keys="\n".join(_by_json(wanted)))
            return _chosen([row for row in attempts if row.state == "WAITING"], study_ids, None)[:limit]
        wanted = wanted if wanted is None or isinstance(wanted, AbstractSet) else frozenset(wanted)
        chosen: list[tuple[int, int, str]] = []
        after, page = -1, max(limit, _FIRST_PAGE)
        while limit > 0:
            rows = sorted(self._ask(_WAITING, after=after, page=page))
            chosen += _chosen(rows, study_ids, wanted)
            if len(chosen) >= limit or len(rows) < page:
                break
            after, page = rows[-1][0], min(2 * page, _LONGEST_PAGE)
        return chosen[:limit]

    def running(self) -> list[Attempt]:
        """Every running attempt of the storage."""
        return self._rows("trial_user_attributes c", "c.key = 'cell' AND t.state = 'RUNNING'")

    def attempts(self, keys: Collection[str] | None = None, study_ids: Sequence[int] | None = None) -> list[Attempt]:
        """Every attempt in any state, oldest first, all as they were at one moment."""
        source, condition = "trial_user_attributes c", "c.key = 'cell'"
        values: dict[str, Any] = {}
        if keys is not None:
            source = f"{_WANTED} JOIN trial_user_attributes c ON c.value_json = wanted.value"
            values["keys"] = "\n".join(_by_json(keys))
        if study_ids is not None:
            condition += " AND t.study_id = ANY(:studies)"
            values["studies"] = list(study_ids)
        return self._rows(source, condition, **values)

    def states(self, keys: Collection[str]) -> dict[str, list[TrialState]]:
        """The states of all attempts at ``keys``, oldest first."""
        states: dict[str, list[TrialState]] = {}
        by_json = _by_json(keys)
        for row in self._ask(_ATTEMPTS_AT, keys="\n".join(by_json)):
            states.setdefault(by_json[row.value_json], []).append(TrialState[row.state])
        return states

    def attempt(self, trial_id: int) -> Attempt:
        """One attempt in its present state. Raises KeyError for one that is not there."""
        rows = self._rows("trial_user_attributes c", "c.key = 'cell' AND c.trial_id = :id", id=trial_id)
        if not rows:
            raise KeyError(trial_id)
        return rows[0]

    def _rows(self, source: str, condition: str, **values: Any) -> list[Attempt]:
        return [_row(stored) for stored in self._ask(text(_ROWS.format(source=source, condition=condition)), **values)]

    def _ask(self, statement: Any, **values: Any) -> Sequence[Any]:
        def ask() -> Sequence[Any]:
            with self._statements.connect() as connection:
                return connection.execute(statement, values).all()

        return self._outage.guard(ask)


def _chosen(
    rows: Iterable[Any], study_ids: Sequence[int], wanted: Collection[str] | None
) -> list[tuple[int, int, str]]:
    # A trial that is no attempt, such as one that was queued by hand, has no key.
    known = ((row[0], row[1], str(json.loads(row[2]))) for row in rows if row[1] in study_ids and row[2] is not None)
    return [row for row in known if wanted is None or row[2] in wanted]


def _by_json(keys: Iterable[str]) -> dict[str, str]:
    """The keys by their text in the database."""
    return {json.dumps(key): key for key in keys}


def _row(stored: Any) -> Attempt:
    return Attempt(
        trial_id=stored.trial_id,
        study_id=stored.study_id,
        number=stored.number,
        state=TrialState[stored.state],
        attrs=json.loads(stored.attrs),
        value=stored.value,
        params={
            name: _distribution(distribution_json).to_external_repr(float(internal))  # JSON says 1 for 1.0
            for name, internal, distribution_json in stored.params or []
        },
        started=_local(stored.datetime_start),
        ended=_local(stored.datetime_complete),
    )


@lru_cache(maxsize=1024)
def _distribution(distribution_json: str) -> BaseDistribution:
    return json_to_distribution(distribution_json)


def _local(stored: datetime | None) -> datetime | None:
    """Optuna stores universal time without a zone."""
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def open_postgres(url: str, *, create: bool) -> PostgresBackend:
    """The database at ``url``; with ``create``, Optuna's tables are created if they are missing.

    Waits for a server that is just starting. Raises :class:`UserError` if psycopg is missing, the server cannot be
    reached or turns the user away, the tables are another program's or of another version of Optuna, tables cannot be
    created, and, without ``create``, if they are missing.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the storage {url} needs psycopg, which does not load ({error}); {install('postgres')}"
        ) from error
    # Optuna logs every study it creates, and a page of SQL when a server goes away.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna.storages").setLevel(logging.ERROR)
    outage = _Outage(url)
    # Connections are closed after use: a lock ends with its connection. No transaction has to be rolled back.
    single = create_engine(
        url,
        poolclass=NullPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        **_engine_options(url),
    )
    try:
        outage.wait(lambda: _prepare(single, url, create), _is_coming_back)
        storage = outage.wait(
            lambda: _optuna_storage(url, skip_table_creation=True, pool_size=1, max_overflow=20), _is_coming_back
        )
    except (StorageInternalError, SQLAlchemyError) as error:
        raise _cannot_open(url, _driver_error(error) or error) from error
    _require_version(storage, url)
    return PostgresBackend(url, storage, single, outage)


def _optuna_storage(url: str, *, skip_table_creation: bool, **pool: Any) -> RDBStorage:
    options = {**_engine_options(url), **pool}
    return RDBStorage(url, options, skip_compatibility_check=True, skip_table_creation=skip_table_creation)


def _require_version(storage: RDBStorage, url: str) -> None:
    """Raise :class:`UserError` for tables of another version of Optuna."""
    version = storage.get_current_version()
    if version == storage.get_head_version():
        return
    storage.engine.dispose()
    is_older = version in storage.get_all_versions()
    upgrade = f"optuna storage upgrade --storage {shlex.quote(url)}"
    advice = f"bring it up to date with: {upgrade}" if is_older else "pip install -U 'optuna>=5,<6'"
    older = "an older" if is_older else "a newer"
    raise UserError(f"the storage {url} was made by {older} version of Optuna; {advice}")


def _engine_options(url: str) -> dict[str, Any]:
    given = make_url(url).query
    arguments = {"connect_timeout": CONNECT_SECONDS, "fallback_application_name": "tadaconv", **_CLIENT_PATIENCE}
    chosen: dict[str, Any] = {name: value for name, value in arguments.items() if name not in given}
    chosen["options"] = f"{_SERVER_PATIENCE} {given.get('options', '')}".strip()
    return {"pool_pre_ping": True, "hide_parameters": True, "connect_args": chosen}


def _locked(single: Engine) -> Connection:
    """A connection that holds the planning lock."""
    connection = single.connect()
    try:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _PLANNING})
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(single: Engine, url: str, create: bool) -> None:
    with single.connect() as connection:
        missing = _missing(connection, url)
    if "tables" in missing and not create:
        raise NoResultsError(url, command("ablate", "TABLE", storage=url))
    if not missing or not create:
        return
    # Of several processes that open an empty database at once, one creates its tables, and the others wait.
    with _locked(single) as connection:
        if "tables" in missing:
            _optuna_storage(url, skip_table_creation=False, poolclass=NullPool)
        for name, columns in _INDEXES.items():
            connection.execute(text(f"CREATE INDEX IF NOT EXISTS {name} {columns}"))


def _missing(connection: Connection, url: str) -> set[str]:
    """Names of our indexes that are missing, or ``tables`` if Optuna's tables are."""
    there = set(inspect(connection).get_table_names())
    if "version_info" not in there and there & {*_TABLES, "alembic_version"}:
        raise UserError(f"the database {url} holds another program's tables; create one for tadaconv with 'createdb'")
    if not there >= {*_TABLES, "alembic_version"}:
        return {"tables"}
    indexes = connection.execute(
        text("SELECT indexname FROM pg_indexes WHERE indexname = ANY(:names)"), {"names": list(_INDEXES)}
    )
    return set(_INDEXES) - set(indexes.scalars())


def _cannot_open(url: str, error: BaseException) -> UserError:
    reason = _reason(error) if isinstance(error, DBAPIError) else one_line(error)
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, reason)), _ADVICE[""])
    return UserError(f"cannot open the storage {url}: {reason}; {advice}")
