from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
from fake_cells import FakeRun

from tadaconv.execution.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "journal.log"))


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "log")


@pytest.fixture(scope="session")
def server() -> Iterator[postgres_server.Server]:
    """A PostgreSQL server for the tests of one process, which leave it running."""
    if reason := postgres_server.found():
        pytest.skip(reason)
    with postgres_server.Server() as server:
        yield server


@pytest.fixture(scope="session")
def template(server: postgres_server.Server) -> str:
    """A database with empty tables, of which copies are made faster than tables."""
    name = server.new_database()
    Store.open(server.url(name))
    return name


@pytest.fixture(params=["journal", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty storage of each kind."""
    if request.param == "journal":
        return str(tmp_path / "journal.log")
    server: postgres_server.Server = request.getfixturevalue("server")
    url: str = server.url(server.new_database(request.getfixturevalue("template")))
    return url
