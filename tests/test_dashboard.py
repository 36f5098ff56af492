"""The dashboard as a browser sees it: what it serves, to whom, and what it refuses to change."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tadaconv.dashboard import open_dashboard
from tadaconv.errors import UserError
from tadaconv.execution.cells import Cell
from tadaconv.execution.store import Store
from tadaconv.spec import Backbone, Experiment, Schedule, Synthetic

EXPERIMENT = Experiment(
    backbone=Backbone(name="tiny"),
    data=Synthetic(num_train=8, num_val=8),
    schedule=Schedule(epochs=1, batch_size=2, lr=0.1),
)


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("optuna_dashboard", reason="the extra dashboard is not installed")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(str(tmp_path / "journal.log"))
    store.add("mini-quick", Cell("a row", EXPERIMENT))
    return store


@pytest.fixture
def address(store: Store) -> Iterator[str]:
    with open_dashboard(store, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def get(url: str, **headers: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode()


def test_studies_and_their_cells_are_served_as_they_grow(store: Store, address: str) -> None:
    (study,) = json.loads(get(f"{address}/api/studies"))["study_summaries"]
    assert study["study_name"] == "mini-quick"
    detail = json.loads(get(f"{address}/api/studies/{study['study_id']}"))
    attrs = {attr["key"]: attr["value"] for trial in detail["trials"] for attr in trial["user_attrs"]}
    assert attrs["cell"] == EXPERIMENT.key
    store.make_study("other-quick")
    assert len(json.loads(get(f"{address}/api/studies"))["study_summaries"]) == 2
    assert "<html" in get(f"{address}/dashboard")


def test_the_dashboard_is_read_only(store: Store, address: str) -> None:
    before = Path(store.shown).read_bytes()
    calls = [
        ("DELETE", "/api/studies/0", None),
        ("POST", "/api/studies", {"study_name": "new", "directions": ["maximize"]}),
        ("POST", "/api/trials/0/tell", {"state": "Complete", "values": [1.0]}),
        ("PUT", "/api/studies/0/note", {"body": "x", "version": 1}),
    ]
    for method, path, body in calls:
        request = urllib.request.Request(
            address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as answer:
            assert answer.code == 403
            assert json.loads(answer.read()) == {"reason": "this dashboard is read-only"}
    assert Path(store.shown).read_bytes() == before


def test_pages_of_other_sites_are_refused(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    for name, status in (("localhost", 200), ("127.0.0.1", 200), (f"127.0.0.1:{port}", 200), ("evil.example", 403),
                         (f"evil.example:{port}", 403), ("", 403)):  # fmt: skip
        connection = HTTPConnection(host, int(port), timeout=10)
        connection.request("GET", "/api/studies", headers={"Host": name})
        assert connection.getresponse().status == status, name
        connection.close()


def test_it_listens_on_loopback_alone(store: Store) -> None:
    with open_dashboard(store, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_or_impossible_is_one_line(store: Store) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use; choose"):
            open_dashboard(store, port)
    with pytest.raises(UserError, match="ports go from 0 to 65535"):
        open_dashboard(store, 70000)


def test_without_the_package_it_names_the_extra(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(UserError, match=r"pip install 'optuna-dashboard>="):
        open_dashboard(store, 0)


def test_the_command_prints_its_address_and_ends_with_ctrl_c(store: Store) -> None:
    program = "from tadaconv.cli import main; main()"
    command = [sys.executable, "-c", program, "dashboard", "--storage", store.shown, "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        assert "mini-quick" in get(f"{found[0]}api/studies")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
