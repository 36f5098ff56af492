"""Where results are kept, as a user names it: the path of a journal file, or the URL of a PostgreSQL database."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlencode

from tadaconv.errors import UserError

SCHEME = "postgresql+psycopg"
_EXAMPLE = f"{SCHEME}://USER@HOST/DATABASE"
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+(?=://)|postgres[a-z0-9+.-]*):(?P<slashes>//?)(?P<rest>.*)", re.DOTALL
)  # a path may begin with "a:/"; after the name of the database the second slash was forgotten
_REST = re.compile(r"(?P<authority>[^/?#]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?", re.DOTALL)
_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]*)(?::(?P<port>[0-9]*))?")
# libpq reads no environment variable for these, so they could not be kept out of process titles.
_SECRET = re.compile("pass(?!file)|secret|token|_key$")


@dataclass(frozen=True)
class Location:
    """A storage: either ``path`` or ``url`` is set. Neither ``str`` nor ``repr`` shows a password."""

    shown: str
    """The path, or the URL with ``***`` in place of its password: what messages, logs and reports say."""
    path: Path | None = None
    """The journal file."""
    url: str | None = field(default=None, repr=False)
    """The database as SQLAlchemy reads it, ``postgresql+psycopg://...``, password and all. Not to be printed."""

    def __str__(self) -> str:
        return self.shown

    @property
    def argument(self) -> str:
        """What ``--storage`` takes for it in a command that is shown: without a password, which libpq looks for."""
        return self.shown.replace(":***@", "@", 1)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The storage ``text`` names.

        ``postgresql://`` and ``postgres://``, which PostgreSQL's own programs take, mean ``postgresql+psycopg://``.
        Parameters of libpq may follow the database as ``?name=value&...``. Raises :class:`UserError`, without the
        password, for any other kind of URL, a missing database name, and what cannot be a user, host or port.
        """
        if _URL.fullmatch(text) is None:
            if not text or "\0" in text:
                raise UserError(f"storage {text!r} is no path; give the path of a journal file or {_EXAMPLE}")
            return cls(shown=text, path=Path(text))
        address = _parse(text)
        return cls(shown=address.url("***" if address.password else None), url=address.url(address.quoted_password))


def hide_password(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Move the storage's password from the command line, which everybody on the machine can read, to the environment.

    Returns the arguments, with the password taken out of every URL of a database (``URL``, ``--storage=URL``), and
    what to add to the environment: ``PGPASSWORD``, which libpq reads, or nothing if there was no password. Arguments
    that hold none, and URLs that :meth:`Location.parse` refuses, are returned as they are. Raises :class:`UserError`
    if two URLs differ in their passwords, as the variable holds one.
    """
    hidden: list[str] = []
    passwords: set[str | None] = set()
    for argument in arguments:
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        try:
            address = _parse(value) if _URL.fullmatch(value) else None
        except UserError:
            address = None
        if address is not None:
            passwords.add(address.password)
        hidden.append(argument if address is None or not address.password else option + equals + address.url(None))
    if len(passwords) > 1:
        raise UserError("these storages have different passwords; keep them in ~/.pgpass instead of the URLs")
    password = next(iter(passwords), None)
    return hidden, {} if password is None else {"PGPASSWORD": password}


@dataclass(frozen=True, repr=False)
class _Address:
    """The parts of a URL, decoded; a host is still in its brackets."""

    user: str | None
    password: str | None
    host: str
    port: int | None
    database: str
    parameters: dict[str, str]

    @property
    def quoted_password(self) -> str | None:
        return None if self.password is None else quote(self.password, safe="")

    def url(self, password: str | None) -> str:
        """The URL with ``password`` as it is in place of its own. No braces: Optuna formats the URL as a template."""
        login = "" if self.user is None else quote(self.user, safe="")
        login += "" if password is None else f":{password}"
        port = "" if self.port is None else f":{self.port}"
        query = f"?{urlencode(self.parameters)}" if self.parameters else ""
        return f"{SCHEME}://{login}{'@' if login else ''}{self.host}{port}/{self.database}{query}"


def _parse(text: str) -> _Address:
    """The parts of a URL; raises :class:`UserError`, which shows nothing that may belong to a password."""
    url = _URL.fullmatch(text)
    rest = _REST.fullmatch(url["rest"]) if url else None
    assert url is not None
    assert rest is not None
    login, at, place = rest["authority"].rpartition("@")
    path, query = rest["path"], rest["query"] or ""
    # A raw / ? or # in a password ends the authority early and leaves the "@" behind it.
    torn = not text.isprintable() or "#" in text or "@" in path + query or ";" in query
    shown = f"{url['scheme']}:{url['slashes']}{'***' if torn or at or query else url['rest']}"
    _require_postgresql(url["scheme"].lower(), url["slashes"], shown)
    if torn:
        raise UserError(f"storage {shown!r} cannot be read; write the password with %40 for @, %3A for :, %2F for /")
    try:
        user, _, password = (unquote(part, errors="strict") for part in login.partition(":"))
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
        database = unquote(path[1:], errors="strict")
    except ValueError as error:
        raise UserError(f"storage {shown!r} cannot be read; percent-encode its special characters") from error
    parameters = dict(pairs)
    _require_parameters(pairs, shown)
    user, password = parameters.pop("user", user), parameters.pop("password", password)
    if not f"{user}{password}".isprintable() or (password and not user):
        raise UserError(f"storage {shown!r} names no user who could have a password; give {_EXAMPLE}")
    shown = f"{SCHEME}://{f'{user}:***' if password else user}{'@' if user else ''}{place}{path}"
    host, port = _host_and_port(place, shown)
    if not re.fullmatch(r"[^/?#@%{}]+", database) or not database.isprintable():
        raise UserError(f"storage {shown!r} names no database that could be used; give {_EXAMPLE}")
    return _Address(user or None, password or None, host, port, database, parameters)


def _require_postgresql(scheme: str, slashes: str, shown: str) -> None:
    if scheme.partition("+")[0] not in ("postgresql", "postgres"):
        why = "; SQLite loses results when several workers write to it" if scheme.startswith("sqlite") else ""
        raise UserError(f"storage {shown!r} is not supported{why}; give the path of a journal file or {_EXAMPLE}")
    if "+" in scheme and scheme != SCHEME:
        raise UserError(f"storage {shown!r} names another driver than psycopg; give {_EXAMPLE}")
    if slashes != "//":
        raise UserError(f"storage {shown!r} has one slash after its colon; give {_EXAMPLE}")


def _require_parameters(pairs: Sequence[tuple[str, str]], shown: str) -> None:
    names = [name for name, _ in pairs]
    for name, value in pairs:
        if not re.fullmatch("[a-z_]+", name) or not value.isprintable() or names.count(name) > 1:
            raise UserError(f"storage {shown!r} cannot be read; after '?' give each parameter once as name=value")
        if name != "password" and _SECRET.search(name):
            raise UserError(f"storage {shown!r} holds {name}, which would be seen; put it in a file of PGSERVICEFILE")


def _host_and_port(place: str, shown: str) -> tuple[str, int | None]:
    match = _PLACE.fullmatch(place)
    if match is None:
        raise UserError(f"storage {shown!r} names no host and port that could be used; give {_EXAMPLE}")
    if not match["port"]:
        return match["host"], None
    if not 0 < int(match["port"]) < 65536:
        raise UserError(f"storage {shown!r} names port {match['port']}; ports go from 1 to 65535")
    return match["host"], int(match["port"])
