from pathlib import Path

import pytest
from fake_cells import FakeRun

from tadaconv.execution import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "journal.log"))


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "log")
