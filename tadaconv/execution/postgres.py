"""The storage in a PostgreSQL database: Optuna's, which waits while its server is away, and reads by what is needed.

Writes are Optuna's own transactions. Reads of attempts are SQL of ours on Optuna's tables, whose version is checked
when they are opened, by two indexes of ours that Optuna does not notice.
"""

import copy
import functools
import json
import logging
import random
import shlex
import threading
import time
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import optuna
from optuna.distributions import json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import BaseModel, TrialSystemAttributeModel, TrialUserAttributeModel, TrialValueModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine, NullPool, create_engine, insert, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from tadaconv.command import command, install
from tadaconv.errors import NoResultsError, StorageError, UserError
from tadaconv.execution.backend import TrialRow
from tadaconv.execution.location import Location
from tadaconv.text import one_line

OUTAGE_SECONDS = 600.0
"""How long a call waits for a server that has gone away."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
CONNECT_SECONDS = 10

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

# Keys of advisory locks, which are numbers; each database has its own set of them.
_PLANNING = int.from_bytes(b"tadaplan")
_CREATION = int.from_bytes(b"tadatrial"[:8])

# Servers and clients notice within a minute that the other's machine has vanished. Otherwise a lock could be held for
# hours by a worker that is no more.
_CLIENT_PATIENCE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
_SERVER_PATIENCE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"

# What a server says for good, as far as libpq tells: it gives no SQLSTATE for a connection that was refused.
_REFUSALS = (
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied",
)
_COMING_BACK = "the database system is"  # starting up, shutting down, in recovery mode, not yet accepting connections
_GONE_STATES = ("57P01", "57P02", "57P03", "53300")  # shut down, crashed, not there yet, too many connections

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
_WAITING_OF = text(f"""
    SELECT t.trial_id, t.study_id, c.value_json FROM {_WANTED}
    JOIN trial_user_attributes c ON c.key = 'cell' AND c.value_json = wanted.value
    JOIN trials t ON t.trial_id = c.trial_id AND t.state = 'WAITING'
    ORDER BY t.trial_id
""")
_STATES = text(f"""
    SELECT c.value_json, t.state FROM {_WANTED}
    JOIN trial_user_attributes c ON c.key = 'cell' AND c.value_json = wanted.value
    JOIN trials t ON t.trial_id = c.trial_id
    ORDER BY t.trial_id
""")
_HEADS = """
    SELECT t.trial_id, t.study_id, t.number, t.state, t.datetime_start, t.datetime_complete, v.value, v.value_type
    FROM {source}
    JOIN trials t ON t.trial_id = c.trial_id
    LEFT JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0
    WHERE {condition}
    ORDER BY t.trial_id
"""
_ATTRS = text("SELECT trial_id, key, value_json FROM trial_user_attributes WHERE trial_id = ANY(:ids)")
_PARAMS = text("""
    SELECT trial_id, param_name, param_value, distribution_json FROM trial_params
    WHERE trial_id = ANY(:ids) ORDER BY param_id
""")
_FIRST_PAGE, _LONGEST_PAGE = 64, 4096
_FEW_KEYS = 256
_NUM_TRIALS_A_QUERY = 10_000


class _Outage:
    """Waits while the server is away, for every thread of this process, and says so once."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._since: float | None = None

    def wait(self, call: Callable[[], T], is_gone: Callable[[DBAPIError], bool]) -> T:
        """What ``call`` returns or raises, once the server is there.

        ``call`` is called anew when a connection has failed, so the transaction of an earlier one may have been
        committed. Raises :class:`StorageError` when the server has been away for ``OUTAGE_SECONDS``.
        """
        first_failure: float | None = None
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                result = call()
            except (StorageInternalError, DBAPIError) as error:
                cause = _driver_error(error)
                if cause is None or not is_gone(cause):
                    self._over()
                    raise
                now = time.monotonic()
                first_failure = now if first_failure is None else first_failure
                if now - first_failure >= OUTAGE_SECONDS:
                    raise StorageError(
                        f"the storage {self._shown} has been away for {now - first_failure:.0f} s: {_reason(cause)}"
                    ) from error
                self._begun(cause)
                # Workers that lost their server together do not all come back together.
                time.sleep(min(pause * random.uniform(0.5, 1.0), first_failure + OUTAGE_SECONDS - now))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            except Exception:
                self._over()
                raise
            else:
                self._over()
                return result

    def _begun(self, cause: DBAPIError) -> None:
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                _LOG.warning("the storage %s is away, waiting for it: %s", self._shown, _reason(cause))

    def _over(self) -> None:
        with self._lock:
            if self._since is not None:
                seconds = time.monotonic() - self._since
                self._since = None
                _LOG.warning("the storage %s is back after %.0f s", self._shown, seconds)


def _driver_error(error: BaseException | None) -> DBAPIError | None:
    """What the driver said, below what Optuna and SQLAlchemy made of it."""
    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__ or error.__context__
    return error


def _reason(error: DBAPIError) -> str:
    """The one line of a driver's message that says what happened."""
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return lines[0].removeprefix("connection failed: ").rpartition("FATAL:  ")[2].strip()


def _has_gone(error: DBAPIError) -> bool:
    """Whether the server may answer later what it did not answer now."""
    state = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or state in _GONE_STATES or str(state).startswith("08"):
        return True
    if isinstance(error, OperationalError | InterfaceError) and state is None:
        return not any(refusal in str(error.orig) for refusal in _REFUSALS)
    return False


def _is_coming_back(error: DBAPIError) -> bool:
    return _COMING_BACK in str(error.orig)


class PatientStorage(RDBStorage):
    """Optuna's storage, whose calls wait while the server is away and are then made anew.

    A server that dies in a commit leaves it open whether the transaction counts, so a call made anew may find its own
    effect. What it does then:

    - claiming (``set_trial_state_values`` to RUNNING) returns False: the attempt runs without a worker, is found to
      have no lease, and its cell is queued again.
    - ending (``set_trial_state_values`` to a finished state) and attributes of a trial ended by it raise
      ``UpdateFinishedTrialError``; the trial tells which result it has.
    - ``create_new_trial`` makes a second one; of two attempts at a cell the later is dropped when it is claimed.
    - ``create_new_study`` raises ``DuplicatedStudyError``, as if another process had been faster.
    - ``set_trial_param`` and attributes write the same once more; ``delete_study`` raises ``KeyError``.

    Beyond Optuna's promises, the ids of trials are given in the order in which trials become visible, in all studies.

    Raises:
        StorageError: from any call, if the server stays away for ``OUTAGE_SECONDS`` or cannot write (disk full).
    """

    def __init__(self, location: Location, outage: _Outage) -> None:
        assert location.url is not None
        self._shown = location.shown
        self._outage = outage
        options = {"pool_size": 1, "max_overflow": 20, **_engine_options(location.url)}
        try:
            super().__init__(location.url, engine_kwargs=options, skip_table_creation=True)
        except BaseException:
            self.engine.dispose()
            raise
        weakref.finalize(self, self.engine.dispose)

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        # A trial's id is drawn before its transaction is seen. Optuna lets no two overlap in one study.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATION})
        if template_trial is None:
            return super()._get_prepared_new_trial(study_id, None, session)
        # All attributes by one statement each; Optuna takes two for every one of them.
        bare = copy.copy(template_trial)
        bare.user_attrs = bare.system_attrs = {}
        trial = super()._get_prepared_new_trial(study_id, bare, session)
        for model, attrs in (
            (TrialUserAttributeModel, template_trial.user_attrs),
            (TrialSystemAttributeModel, template_trial.system_attrs),
        ):
            if attrs:
                rows = [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]
                session.execute(insert(model).values([{"trial_id": trial.trial_id, **row} for row in rows]))
        return trial


def _patient(method: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(method)
    def wrapped(self: PatientStorage, *args: Any, **kwargs: Any) -> T:
        try:
            return self._outage.wait(lambda: method(self, *args, **kwargs), _has_gone)
        except StorageInternalError as error:
            cause = _driver_error(error)
            what = one_line(error) if cause is None else _reason(cause)
            raise StorageError(f"cannot use the storage {self._shown}: {what}") from error

    return wrapped


# Every method that asks the database something by itself; those of Optuna's cache, which studies use, among them.
for _name in (
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "_create_new_trial", "_set_trial_param", "get_trial_param", "set_trial_state_values",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr", "get_trial", "_get_trials",
    "get_trial_id_from_study_id_trial_number", "get_trial_user_attrs", "get_trial_system_attrs", "_get_best_trial_id",
):  # fmt: skip
    setattr(PatientStorage, _name, _patient(getattr(RDBStorage, _name)))


class PostgresBackend:
    """A PostgreSQL database; see :class:`tadaconv.execution.backend.Backend`.

    Every read waits while the server is away, and raises :class:`StorageError` if it stays away. A process holds one
    connection all the time, and further ones while it plans or several of its threads ask.
    """

    def __init__(self, shown: str, storage: PatientStorage, single: Engine, outage: _Outage) -> None:
        self.shown = shown
        self.storage: optuna.storages.BaseStorage = storage
        self._single = single
        self._outage = outage
        # One statement sees one state of the database without a transaction, and then costs one round trip.
        self._statements = storage.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._snapshots = storage.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def alone(self) -> Generator[None]:
        """Hold an advisory lock by a connection of its own, which ends, and with it the lock, when its process does.

        A restart of the server ends it too, and is not told: the block goes on as its writes wait for the server, and
        another process may plan beside it. All that can come of it is a second attempt at a cell, which is dropped
        when it is claimed.
        """
        with self._read(lambda: _locked(self._single)):
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
            rows = self._ask(_WAITING_OF, keys="\n".join(_by_json(wanted)))
            return _chosen(rows, study_ids, None)[:limit]
        wanted = wanted if wanted is None or isinstance(wanted, AbstractSet) else frozenset(wanted)
        found: list[tuple[int, int, str]] = []
        after, page = -1, max(limit, _FIRST_PAGE)
        while limit > 0:
            rows = sorted(self._ask(_WAITING, after=after, page=page))
            found += _chosen(rows, study_ids, wanted)
            if len(found) >= limit or len(rows) < page:
                break
            after, page = rows[-1][0], min(2 * page, _LONGEST_PAGE)
        return found[:limit]

    def running(self) -> list[TrialRow]:
        """Every running attempt of the storage."""
        return self._rows("trial_user_attributes c", "c.key = 'cell' AND t.state = 'RUNNING'")

    def rows(self, keys: Collection[str] | None = None, study_ids: Sequence[int] | None = None) -> list[TrialRow]:
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
        """The states of all attempts at each of ``keys`` that has any, oldest first."""
        found: dict[str, list[TrialState]] = {}
        by_json = _by_json(keys)
        for key_json, state in self._ask(_STATES, keys="\n".join(by_json)):
            found.setdefault(by_json[key_json], []).append(TrialState[state])
        return found

    def row(self, trial_id: int) -> TrialRow:
        """One attempt as it stands now. Raises KeyError for one that is not there."""
        rows = self._rows("trial_user_attributes c", "c.key = 'cell' AND c.trial_id = :id", id=trial_id)
        if not rows:
            raise KeyError(trial_id)
        return rows[0]

    def _ask(self, statement: Any, **values: Any) -> Sequence[Any]:
        def ask() -> Sequence[Any]:
            with self._statements.connect() as connection:
                return connection.execute(statement, values).all()

        return self._read(ask)

    def _rows(self, source: str, condition: str, **values: Any) -> list[TrialRow]:
        statement = text(_HEADS.format(source=source, condition=condition))

        def ask() -> list[TrialRow]:
            with self._snapshots.connect() as connection:
                heads = connection.execute(statement, values).all()
                return [row for part in _parts(heads) for row in _trial_rows(connection, part)]

        return self._read(ask)

    def _read(self, ask: Callable[[], T]) -> T:
        try:
            return self._outage.wait(ask, _has_gone)
        except DBAPIError as error:
            raise StorageError(f"cannot read the storage {self.shown}: {_reason(error)}") from error


def _chosen(
    rows: Iterable[Any], study_ids: Sequence[int], wanted: Collection[str] | None
) -> list[tuple[int, int, str]]:
    # A trial that is no attempt, such as one that was queued by hand, has no key.
    known = ((row[0], row[1], str(json.loads(row[2]))) for row in rows if row[1] in study_ids and row[2] is not None)
    return [row for row in known if wanted is None or row[2] in wanted]


def _by_json(keys: Iterable[str]) -> dict[str, str]:
    """The keys by the text that stands for them in the database."""
    return {json.dumps(key): key for key in keys}


def _parts(heads: Sequence[Any]) -> Generator[Sequence[Any]]:
    for start in range(0, len(heads), _NUM_TRIALS_A_QUERY):
        yield heads[start : start + _NUM_TRIALS_A_QUERY]


def _trial_rows(connection: Connection, heads: Sequence[Any]) -> list[TrialRow]:
    ids = [head.trial_id for head in heads]
    attrs: dict[int, dict[str, Any]] = {trial_id: {} for trial_id in ids}
    params: dict[int, dict[str, Any]] = {trial_id: {} for trial_id in ids}
    stored = connection.execute(_ATTRS, {"ids": ids}).all()
    values = json.loads(f"[{','.join(value_json for _, _, value_json in stored)}]")  # a fifth faster than one by one
    for (trial_id, key, _), value in zip(stored, values, strict=True):
        attrs[trial_id][key] = value
    for trial_id, name, internal, distribution_json in connection.execute(_PARAMS, {"ids": ids}).all():
        params[trial_id][name] = _distribution(distribution_json).to_external_repr(internal)
    return [
        TrialRow(
            trial_id=head.trial_id,
            study_id=head.study_id,
            number=head.number,
            state=TrialState[head.state],
            attrs=attrs[head.trial_id],
            value=_value(head.value, head.value_type),
            params=params[head.trial_id],
            started=_local(head.datetime_start),
            ended=_local(head.datetime_complete),
        )
        for head in heads
    ]


@functools.lru_cache(maxsize=1024)
def _distribution(distribution_json: str) -> optuna.distributions.BaseDistribution:
    return json_to_distribution(distribution_json)


def _value(stored: float | None, value_type: str | None) -> float | None:
    if value_type is None:
        return None
    return TrialValueModel.stored_repr_to_value(stored, TrialValueModel.TrialValueType[value_type])


def _local(stored: datetime | None) -> datetime | None:
    """Optuna stores universal time without a zone."""
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def open_postgres(location: Location, *, create: bool) -> PostgresBackend:
    """The database ``location``; with ``create``, Optuna's tables are made where there are none.

    Waits for a server that is just starting. Raises :class:`UserError`, without the password, if psycopg is missing,
    the server cannot be reached or turns the user away, the tables are another program's or of another version of
    Optuna, tables cannot be made, and, without ``create``, if there are none.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the storage {location} needs psycopg, which does not load ({error}); {install('postgres')}"
        ) from error
    assert location.url is not None
    # Optuna tells of every study it creates, and warns with a page of SQL where a server goes away.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)
    outage = _Outage(location.shown)
    # Connections that are closed after use: a lock's ends with it. There is nothing to roll back.
    single = create_engine(
        location.url,
        poolclass=NullPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        **_engine_options(location.url),
    )
    try:
        outage.wait(lambda: _prepare(single, location, create), _is_coming_back)
        storage = outage.wait(lambda: PatientStorage(location, outage), _is_coming_back)
    except (StorageInternalError, SQLAlchemyError) as error:
        raise _cannot_open(location, _driver_error(error) or error) from error
    except RuntimeError as error:  # the one Optuna has for tables of another version
        if isinstance(error, StorageError):
            raise
        is_older = "storage upgrade" in str(error)
        upgrade = f"optuna storage upgrade --storage {shlex.quote(location.argument)}"
        mend = f"bring it up to date with: {upgrade}" if is_older else "pip install -U 'optuna>=5,<6'"
        older = "an older" if is_older else "a newer"
        raise UserError(f"the storage {location} was made by {older} version of Optuna; {mend}") from error
    return PostgresBackend(location.shown, storage, single, outage)


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


def _prepare(single: Engine, location: Location, create: bool) -> None:
    with single.connect() as connection:
        missing = _missing(connection, location)
    if "tables" in missing and not create:
        raise NoResultsError(location.shown, command("ablate", "TABLE", storage=location.argument))
    if not missing or not create:
        return
    # Processes that open an empty database at once make its tables one after the other, all but one of them nothing.
    with _locked(single) as connection:
        missing = _missing(connection, location)
        if "tables" in missing:
            with single.connect().execution_options(isolation_level="READ COMMITTED") as other, other.begin():
                BaseModel.metadata.create_all(other)
            PatientStorage(location, _Outage(location.shown))  # writes down the version of the tables
        for name, what in _INDEXES.items():
            if name in missing or "tables" in missing:
                connection.execute(text(f"CREATE INDEX IF NOT EXISTS {name} {what}"))


def _missing(connection: Connection, location: Location) -> set[str]:
    """Which of ``tables`` and our indexes are not there."""
    there = set(inspect(connection).get_table_names())
    optunas = set(BaseModel.metadata.tables)
    if "version_info" not in there and there & {*optunas, "alembic_version"}:
        raise UserError(f"the database {location} holds another program's tables; make one for tadaconv by 'createdb'")
    if not there >= {*optunas, "alembic_version"}:
        return {"tables"}
    found = connection.execute(
        text("SELECT indexname FROM pg_indexes WHERE indexname = ANY(:names)"), {"names": list(_INDEXES)}
    )
    return set(_INDEXES) - set(found.scalars())


def _cannot_open(location: Location, error: BaseException) -> UserError:
    reason = _reason(error) if isinstance(error, DBAPIError) else one_line(error)
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if "password" in reason:
        mend = "give the right user and password, which may be in PGPASSWORD or ~/.pgpass, too"
    elif "database" in reason and "does not exist" in reason:
        mend = "make it with 'createdb', or name another with --storage"
    elif "role" in reason and "does not exist" in reason:
        mend = "make the user with 'createuser', or name another"
    elif state == "42501" or "permission denied" in reason:
        mend = "grant the user what it needs, or name another database with --storage"
    elif state is not None and state.startswith("42"):
        mend = "its tables are not Optuna's; name another database with --storage"
    elif "too many" in reason or "connection slots" in reason:
        mend = "raise max_connections of the server; every worker needs one or two"
    else:
        mend = "see that the server runs and can be reached from here, or name another with --storage"
    return UserError(f"cannot open the storage {location}: {reason}; {mend}")
