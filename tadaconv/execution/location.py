"""Where results are kept, as a user names it: the path of a journal file, or the URL of a PostgreSQL database."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tadaconv.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

SCHEME = "postgresql+psycopg"
_EXAMPLE = f"{SCHEME}://USER@HOST/DATABASE"
_SECRETS = {
    "password": "PGPASSWORD or ~/.pgpass",
    "sslpassword": "a service file (PGSERVICEFILE)",
    "oauth_client_secret": "a service file (PGSERVICEFILE)",
}
"""Parameters of a connection that are secret, and where they belong."""


@dataclass(frozen=True)
class Location:
    """A storage: a journal file if ``path`` is set, else a database."""

    shown: str
    """The path as it was given, or the URL as SQLAlchemy writes it, ``postgresql+psycopg://...``.

    A URL holds no password: libpq takes it from PGPASSWORD or ~/.pgpass.
    """
    path: Path | None = None
    """The journal file."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The storage ``text`` names.

        ``postgresql://`` and ``postgres://``, which PostgreSQL's own programs take, mean ``postgresql+psycopg://``.
        Parameters of libpq may follow the database as ``?name=value&...``. Raises :class:`UserError` for a URL that
        holds a password, which the message does not show, that is of any other kind, or that names no database.
        """
        if "://" not in text:
            if text.startswith("postgres") and ":/" in text:
                raise UserError(f"the storage URL has one slash after its colon; give {_EXAMPLE}")
            if not text or "\0" in text:
                raise UserError(f"storage {text!r} is not a path; give the path of a journal file or {_EXAMPLE}")
            return cls(text, Path(text))
        refuse_password(text)
        url = _read(text)
        if url is None or not text.isprintable():
            raise UserError(f"the storage URL cannot be read; give {_EXAMPLE}, special characters percent-encoded")
        shown = url.render_as_string(hide_password=True)
        dialect, _, driver = url.drivername.lower().partition("+")
        if dialect not in ("postgresql", "postgres"):
            why = "; SQLite loses results when several workers write to it" if dialect == "sqlite" else ""
            raise UserError(f"storage {shown!r} is not supported{why}; give the path of a journal file or {_EXAMPLE}")
        if driver not in ("", "psycopg"):
            raise UserError(f"storage {shown!r} names another driver than psycopg; give {_EXAMPLE}")
        if not url.database or "{" in shown:  # Optuna takes the URL for a template
            raise UserError(f"storage {shown!r} names no host and database that could be used; give {_EXAMPLE}")
        return cls(url.set(drivername=SCHEME).render_as_string(hide_password=True))


def refuse_password(text: str) -> None:
    """Raise :class:`UserError`, which does not show it, if ``text`` is a URL that holds a password.

    Everybody on the machine can read the command line of a process, and messages and logs name storages.
    """
    url = _read(text) if "://" in text else None
    if url is None:
        return
    for name, place in _SECRETS.items():
        if name in url.query or (name == "password" and url.password is not None):
            raise UserError(
                f"the storage URL holds a {name}, which other users could read; put it into {place} instead"
            )


def _read(text: str) -> "URL | None":
    """The URL ``text``; None if it is not a URL."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        return None
