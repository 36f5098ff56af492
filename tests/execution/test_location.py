"""What names a storage, what is refused, and that a password is nowhere to be seen."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from tadaconv.errors import UserError
from tadaconv.execution.location import Location, refuse_password

# The letters occur nowhere else in these URLs or in a message, so any piece of a password that is shown is found.
LETTERS = "ßþð"
passwords = st.text(LETTERS + "@:/?#%&=+ {}[]'", min_size=1, max_size=12)
PLACE = r"put it into PGPASSWORD or ~/\.pgpass instead"


def shows(text: str) -> bool:
    return bool({*LETTERS} & {*text}) or any(quote(letter) in text for letter in LETTERS)


@given(passwords, st.sampled_from(["postgresql+psycopg", "postgresql", "postgres", "PostgreSQL", "mysql", "redis"]))
def test_a_password_is_refused_wherever_it_is_in_a_url(password: str, scheme: str) -> None:
    encoded = quote(password, safe="")
    for text in (f"{scheme}://tada:{encoded}@h/lab?sslmode=disable", f"{scheme}://tada@h/lab?password={encoded}"):
        for read in (Location.parse, refuse_password):
            with pytest.raises(UserError, match=PLACE) as caught:
                read(text)
            assert "\n" not in str(caught.value)
            assert not shows(str(caught.value))


@given(passwords, st.text("abc@:/?#%5&=;[]", max_size=8))
def test_a_password_that_was_not_encoded_is_never_shown(password: str, after: str) -> None:
    for scheme in ("postgresql+psycopg:/", "mysql:/", "postgres:", "postgresql+psycopg2:/"):
        try:
            seen = repr(Location.parse(f"{scheme}/tada:{password}@db{after}"))
        except UserError as error:
            seen = str(error)
            assert "\n" not in seen
        assert not shows(seen)


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql", "postgres", "PostgreSQL"])
@pytest.mark.parametrize("host", ["db.lab.org", "db.lab.org:5433", "[::1]:5433", ""])
def test_sqlalchemy_reads_what_was_meant(scheme: str, host: str) -> None:
    location = Location.parse(f"{scheme}://me%40lab@{host}/lab?sslmode=disable&host=%2Ftmp")
    assert location.path is None
    read = make_url(location.shown.format())  # Optuna takes it for a template
    assert (read.drivername, read.username, read.password) == ("postgresql+psycopg", "me@lab", None)
    assert (read.database, dict(read.query)) == ("lab", {"sslmode": "disable", "host": "/tmp"})
    assert (read.host, read.port) in [("db.lab.org", None), ("db.lab.org", 5433), ("::1", 5433), (None, None)]
    assert Location.parse(location.shown) == location
    refuse_password(location.shown)


@pytest.mark.parametrize(
    "text",
    ["runs/journal.log", "a:b", "./a:/b", "mm:/k.log", "http:/k.log", r"C:\runs\journal.log", "p@ss:word", "x y"],
)
def test_text_without_a_scheme_is_a_path(text: str) -> None:
    assert Location.parse(text) == Location(shown=text, path=Path(text))
    refuse_password(text)


@pytest.mark.parametrize("text", ["address=ray://10.0.0.1:10001", "--rows", "s3://bucket/clips", "://", "a://b:c"])
def test_urls_without_a_password_are_not_refused(text: str) -> None:
    refuse_password(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sqlite:///x.db", r"'sqlite:///x\.db' is not supported; SQLite loses results .*; give the path of a journal"),
        ("mysql://u:p4ss@h/d", PLACE),
        ("redis://:p4ss@h", PLACE),
        ("grpc://h:13000", "'grpc://h:13000' is not supported"),
        ("https://h/p", "'https://h/p' is not supported"),
        ("postgresql+psycopg2://u:p4ss@h/d", PLACE),
        ("postgresql+psycopg2://u@h/d", "names another driver than psycopg"),
        ("postgresql+asyncpg://h/d", r"'postgresql\+asyncpg://h/d' names another driver"),
        ("postgresql:/u:p4ss@h/d", "has one slash after its colon"),
        ("postgresql://u@h", "'postgresql://u@h' names no host and database"),
        ("postgresql://u@h/", "names no host and database"),
        ("postgresql://{h}/d", "names no host and database"),
        ("postgresql://h:x/d", "cannot be read; give postgresql"),
        ("postgresql://u:p4ss", "cannot be read; give postgresql"),
        ("postgresql://:p4ss@h/d", PLACE),
        ("postgresql://u:p4/ss@h/d", PLACE),
        ("postgresql://u:%ff@h/d", PLACE),
        ("postgresql://u:p4%0ass@h/d", PLACE),
        ("postgresql://u@h/d\n", "cannot be read"),
        ("postgresql://h/d?password=p4ss&password=p4ss2", PLACE),
        ("postgresql://h/d?sslpassword=p4ss", "holds a sslpassword, .*put it into a service file"),
        ("", "'' is not a path"),
    ],
)
def test_a_refusal_is_one_line_without_the_password(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Location.parse(text)
    assert "\n" not in str(caught.value)
    assert "p4" not in str(caught.value)
