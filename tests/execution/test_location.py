"""What names a storage, what is refused, and that a password is nowhere to be seen."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from tadaconv.errors import UserError
from tadaconv.execution.location import Location, hide_password

# The letters occur nowhere else in these URLs or in a message, so any piece of a password that is shown is found.
LETTERS = "ßþð"
passwords = st.text(LETTERS + "@:/?#%&=+ {}[]'", min_size=1, max_size=12)


def shows(text: str) -> bool:
    return bool({*LETTERS} & {*text}) or any(quote(letter) in text for letter in LETTERS)


@st.composite
def urls(draw: st.DrawFn) -> tuple[str, str]:
    """A URL and its password, which stands before the host or among the parameters."""
    password = draw(passwords)
    scheme = draw(st.sampled_from(["postgresql+psycopg", "postgresql", "postgres", "PostgreSQL"]))
    host = draw(st.sampled_from(["db.lab.org", "db.lab.org:5433", "[::1]:5433", ""]))
    if draw(st.booleans()):
        return f"{scheme}://tada:{quote(password, safe='')}@{host}/lab?sslmode=disable", password
    return f"{scheme}://tada@{host}/lab?password={quote(password, safe='')}&sslmode=disable", password


@given(urls())
def test_sqlalchemy_reads_what_was_meant_and_nobody_sees_the_password(pair: tuple[str, str]) -> None:
    text, password = pair
    location = Location.parse(text)
    assert location.path is None
    assert location.url is not None
    read = make_url(location.url.format())  # Optuna takes it for a template
    assert (read.drivername, read.username, read.password) == ("postgresql+psycopg", "tada", password)
    assert (read.database, dict(read.query)) == ("lab", {"sslmode": "disable"})
    assert (read.host, read.port) in [("db.lab.org", None), ("db.lab.org", 5433), ("::1", 5433), (None, None)]
    assert str(location) == location.shown == location.url.replace(f":{quote(password, safe='')}@", ":***@")
    assert not shows(f"{location}{location!r}")
    assert Location.parse(location.url) == location


@given(passwords, st.text("abc@:/?#%5&=;[]", max_size=8))
def test_a_password_that_was_not_encoded_is_never_shown(password: str, after: str) -> None:
    for scheme in ("postgresql+psycopg:/", "mysql:/", "postgres:", "postgresql+psycopg2:/"):
        try:
            seen = repr(Location.parse(f"{scheme}/tada:{password}@db{after}"))
        except UserError as error:
            seen = str(error)
            assert "\n" not in seen
        assert not shows(seen)


@given(urls(), st.booleans(), st.lists(st.sampled_from(["ablate", "context", "--seeds", "--rows=a=b", "x@y:z", "a/b"])))
def test_hiding_moves_the_password_and_changes_nothing_else(
    pair: tuple[str, str], joined: bool, others: list[str]
) -> None:
    text, password = pair
    storage = [f"--storage={text}"] if joined else ["--storage", text]
    hidden, environment = hide_password([*others, *storage, *others])
    assert environment == {"PGPASSWORD": password}
    start, end = hidden[: len(others)], hidden[len(others) + len(storage) :]
    assert start == end == others
    left = hidden[len(others) : len(others) + len(storage)]
    assert left[-1].startswith("--storage=") if joined else left[0] == "--storage"
    url = make_url(left[-1].removeprefix("--storage="))
    assert url.password is None
    whole = make_url(Location.parse(text).url or "")
    assert url == whole._replace(password=None)
    assert hide_password(hidden) == (hidden, {})


def test_two_storages_with_one_password_can_be_hidden_and_with_two_cannot() -> None:
    first, second = "postgresql://a:same@h/x", "postgresql://b:same@h/y"
    hidden, environment = hide_password(["merge", first, second])
    assert environment == {"PGPASSWORD": "same"}
    assert hidden == ["merge", "postgresql+psycopg://a@h/x", "postgresql+psycopg://b@h/y"]
    for other in ("postgresql://b:other@h/y", "postgresql://b@h/y"):
        with pytest.raises(UserError, match=r"different passwords; keep them in ~/\.pgpass") as caught:
            hide_password(["merge", first, other])
        assert "same" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["a", "--storage", "runs/j.log"], ["--storage=mysql://u:p@h/d"], ["--x=", ""]])
def test_arguments_without_a_database_stay_as_they_are(arguments: list[str]) -> None:
    assert hide_password(arguments) == (arguments, {})


@pytest.mark.parametrize(
    "text",
    ["runs/journal.log", "a:b", "./a:/b", "mm:/k.log", "http:/k.log", r"C:\runs\journal.log", "p@ss:word", "x y"],
)
def test_what_is_no_url_is_a_path(text: str) -> None:
    assert Location.parse(text) == Location(shown=text, path=Path(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sqlite:///x.db", r"'sqlite:///x\.db' is not supported; SQLite loses results .*; give the path of a journal"),
        ("mysql://u:p4ss@h/d", r"'mysql://\*\*\*' is not supported; give the path of a journal file or postgresql\+"),
        ("redis://:p4ss@h", r"'redis://\*\*\*' is not supported"),
        ("grpc://h:13000", "'grpc://h:13000' is not supported"),
        ("https://h/p", "'https://h/p' is not supported"),
        ("postgresql+psycopg2://u:p4ss@h/d", "names another driver than psycopg"),
        ("postgresql+asyncpg://h/d", r"'postgresql\+asyncpg://h/d' names another driver"),
        ("postgresql:/u:p4ss@h/d", "has one slash after its colon"),
        ("postgresql://u:p4ss@h", r"'postgresql\+psycopg://u:\*\*\*@h' names no database"),
        ("postgresql://u:p4ss@h/", "names no database"),
        ("postgresql://h/a/b", "names no database that could be used"),
        ("postgresql://h/%7Ba%7D", "names no database that could be used"),
        ("postgresql://u:p4ss@h:x/d", r"'postgresql\+psycopg://u:\*\*\*@h:x/d' names no host and port"),
        ("postgresql://h:70000/d", "names port 70000; ports go from 1 to 65535"),
        ("postgresql://h:0/d", "names port 0"),
        ("postgresql://:p4ss@h/d", "names no user who could have a password"),
        ("postgresql://u:p4/ss@h/d", "write the password with %40 for @"),
        ("postgresql://u:%ff@h/d", "percent-encode its special characters"),
        ("postgresql://u:p4%0ass@h/d", "names no user"),
        ("postgresql://u@h/d\n", "cannot be read"),
        ("postgresql://h/d?password=p4ss&password=p4ss2", "give each parameter once"),
        ("postgresql://h/d?p4ss", "percent-encode"),
        ("postgresql://h/d?sslpassword=p4ss", "holds sslpassword, which would be seen; put it in a file"),
        ("", "'' is no path"),
    ],
)
def test_what_is_refused_is_one_line_without_the_password(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Location.parse(text)
    assert "\n" not in str(caught.value)
    assert "p4" not in str(caught.value)
