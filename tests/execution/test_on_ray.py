import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_cells import NUM_STEPS, ROWS, FakeRun
from optuna.trial import TrialState
from remote_cells import CELLS, pids

from tadaconv.errors import RunError, UserError
from tadaconv.execution import on_ray
from tadaconv.execution.launcher import supervise
from tadaconv.execution.on_ray import RayLauncher, RayWorker
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.run_options import RunOptions

OBJECT_STORE_BYTES = 80 * 2**20  # the least that Ray takes


def call(out: Path, **changes: Any) -> WorkerCall:
    return WorkerCall(str(out / "journal.log"), "ray-0", "cpu", out).but(**changes)


@pytest.mark.parametrize(
    ("options", "device", "message"),
    [
        ({"gpu": "1"}, "cpu", r"unknown option of --executor ray 'gpu'; one of: gpus, cpus, address"),
        ({"gpus": "2"}, "cuda", r"gpus='2'.*less than or equal to 1"),
        ({"gpus": "-1"}, "cuda", "gpus='-1'"),
        ({"gpus": "nan"}, "cuda", "gpus='nan'"),
        ({"cpus": "0"}, "cpu", r"cpus='0'.*greater than 0"),
        ({"cpus": "inf"}, "cpu", "cpus='inf'"),
        ({"address": " "}, "cpu", "address=' '"),
        ({"gpus": "0.5"}, "cpu", "gpus=0.5 contradicts --device cpu"),
        ({"gpus": "0"}, "cuda", "gpus=0 contradicts --device cuda"),
        ({}, "cuda:1", "Ray assigns each worker its GPU"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, str], device: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        RayLauncher([call(tmp_path, device=device)], options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "127.0.0.1:99999"])
def test_an_address_without_a_server_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(ray, "init", pytest.fail)  # it would try for minutes
    with pytest.raises(UserError, match=address.rpartition("/")[2]):
        RayLauncher([call(tmp_path)], {"address": address}).start()


class FakeRay:
    """Stands in for the module: every actor comes up at once, and its work ends as ``outcomes`` say, one after another.

    An outcome of None is work that goes on; ``asked`` are the actors asked for, as their shares and their calls.
    """

    class exceptions:  # noqa: N801
        class RayError(Exception): ...

        class ActorUnavailableError(RayError): ...

        class RayTaskError(RayError): ...

    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = outcomes
        self.asked: list[tuple[float, WorkerCall]] = []
        self.passwords: list[str | None] = []
        self._num_gpus = 0.0

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0, "GPU": 5.0}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": gpus < 9, "Resources": {"CPU": 2.0, "GPU": float(gpus)}} for gpus in (1, 4, 9)]

    def remote(self, *arguments: Any) -> Any:
        if isinstance(arguments[0], WorkerCall):
            self.asked.append((self._num_gpus, arguments[0]))
            self.passwords.append(arguments[1])
            run = SimpleNamespace(remote=self._next_outcome)
            return SimpleNamespace(run=run, where=SimpleNamespace(remote=lambda: ("node", ("id", "host"))))
        return self

    def options(self, num_gpus: float, **_: Any) -> Any:
        self._num_gpus = num_gpus
        return self

    def _next_outcome(self) -> tuple[int, Any]:
        return len(self.outcomes), self.outcomes.pop(0)

    def wait(self, promises: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return [promise for promise in promises if promise[1] is not None], []

    def get(self, promise: tuple[Any, Any]) -> Any:
        if isinstance(promise[1], Exception):
            raise promise[1]
        return promise[1]


def drive(monkeypatch: pytest.MonkeyPatch, fake: FakeRay, launcher: RayLauncher, num_polls: int) -> list[str]:
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(on_ray, "_LOOK_SECONDS", 0.0)
    launcher.start()
    return [line for _ in range(num_polls) for line in launcher.poll()]


def test_a_worker_whose_share_of_a_gpu_is_too_small_gets_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay([True, True, False])
    launcher = RayLauncher([call(tmp_path, device="cuda")], {"gpus": "0.3"})
    lines = drive(monkeypatch, fake, launcher, 3)
    assert [(gpus, asked.shares_gpu) for gpus, asked in fake.asked] == [(0.3, True), (0.6, True), (1.0, False)]
    assert lines == [
        "worker ray-0: 0.3 GPU has too little memory for its cells; continues with 0.6",
        "worker ray-0: 0.6 GPU has too little memory for its cells; continues with 1",
    ]
    assert launcher.num_alive == 0


def test_an_actor_is_given_the_password_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay([None])
    monkeypatch.setenv("PGPASSWORD", "a/b@c")
    drive(monkeypatch, fake, RayLauncher([call(tmp_path)], {}), 1)
    assert fake.passwords == ["a/b@c"]
    for given, has in ((None, "of the node"), ("a/b@c", "a/b@c")):
        monkeypatch.setenv("PGPASSWORD", "of the node")
        RayWorker(call(tmp_path), given)
        assert os.environ["PGPASSWORD"] == has


def test_a_failed_worker_among_others_that_are_done_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = FakeRay.exceptions.RayTaskError()
    lost.cause = RunError("disk full")  # type: ignore[attr-defined]
    launcher = RayLauncher([call(tmp_path), call(tmp_path, name="ray-1")], {})
    assert drive(monkeypatch, FakeRay([lost, False]), launcher, 3) == ["worker ray-0 failed: disk full"]
    alone = RayLauncher([call(tmp_path)], {})
    assert drive(monkeypatch, FakeRay([lost]), alone, 1) == ["worker ray-0 failed: disk full"]
    with pytest.raises(RunError, match="no worker on Ray is left; the last one failed: disk full"):
        alone.poll()


def test_a_worker_out_of_reach_is_asked_again_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay([FakeRay.exceptions.ActorUnavailableError(), None])
    launcher = RayLauncher([call(tmp_path)], {})
    assert drive(monkeypatch, fake, launcher, 3) == []
    assert len(fake.asked) == 1
    assert launcher.num_alive == 1


@pytest.mark.parametrize(
    ("device", "options", "gpus", "threads"),
    [
        ("auto", {}, 1.0, 1),
        ("auto", {"gpus": "0"}, 0.0, 1),
        ("cpu", {"cpus": "2.5"}, 0.0, 2),
        ("cuda", {"cpus": "0.5"}, 1.0, 1),
    ],
)
def test_a_worker_asks_for_what_its_device_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, options: dict[str, str], gpus: float, threads: int
) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeRay([None])
    drive(monkeypatch, fake, RayLauncher([call(Path("runs"), device=device)], options), 1)
    ((asked_gpus, asked),) = fake.asked
    assert (asked_gpus, asked.options.threads) == (gpus, threads)
    assert (asked.storage, asked.out) == (str(tmp_path / "runs" / "journal.log"), tmp_path / "runs")


def of_several_gpus(number: int, device: str) -> WorkerCall:
    return call(Path("runs"), device=device, options=RunOptions(gpus_per_cell=number))


@pytest.mark.parametrize(
    ("device", "options", "gpus", "threads"),
    [("auto", {}, 4.0, 4), ("cuda", {"cpus": "9"}, 4.0, 9), ("cpu", {}, 0.0, 4)],
)
def test_a_worker_that_trains_on_several_gpus_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, device: str, options: dict[str, str], gpus: float, threads: int
) -> None:
    fake = FakeRay([None])
    drive(monkeypatch, fake, RayLauncher([of_several_gpus(4, device)], options), 1)
    ((asked_gpus, asked),) = fake.asked
    assert (asked_gpus, asked.options.threads, asked.shares_gpu) == (gpus, threads, False)


def test_more_gpus_than_a_node_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--gpus-per-cell 5 .* no node of this Ray cluster has more than 4"):
        drive(monkeypatch, FakeRay([]), RayLauncher([of_several_gpus(5, "auto")], {}), 1)
    with pytest.raises(UserError, match=r"gpus=0\.5 is a fraction of one GPU; with --gpus-per-cell 2"):
        RayLauncher([of_several_gpus(2, "auto")], {"gpus": "0.5"})


@pytest.fixture(scope="module")
def cluster() -> Generator[Any]:
    """A cluster whose head has one CPU; its nodes find the modules of this folder."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        head = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


def poll_until(launcher: RayLauncher, lines: list[str], met: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        lines += launcher.poll()
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)


def test_a_table_completes_although_a_node_is_removed(cluster: Any, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)]
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-quick", ROWS, [0, 1, 2, 3])
    calls = [call(tmp_path, name=f"ray-{i}", run="remote_cells:run") for i in range(2)]
    launcher = RayLauncher(calls, {"address": cluster.address})
    hold = tmp_path / "hold"
    hold.touch()
    lines: list[str] = []
    started = time.monotonic()

    def tick() -> None:
        if nodes and len(pids(tmp_path)) == 2:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
        if any("was started again" in line for line in lines):
            hold.unlink(missing_ok=True)

    def is_pending() -> bool:
        assert time.monotonic() - started < 120, lines
        return any(record.status != "finished" for record in store.records_of(CELLS))

    supervise(launcher, store, is_pending, tick, lines.append)
    assert not nodes
    assert any("its node was lost; started again" in line for line in lines), lines
    assert launcher.num_alive == 0
    complete = [row.key for row in store.backend.attempts() if row.state is TrialState.COMPLETE]
    assert sorted(complete) == sorted(cell.key for cell in CELLS)
    assert len(pids(tmp_path)) == 3
    # Every step once, but for the one in which the node was lost: its cell went on from there.
    steps = Counter(FakeRun(tmp_path / "log").steps())
    assert sorted(steps) == sorted((cell.key, step) for cell in CELLS for step in range(1, NUM_STEPS + 1))
    assert [step for (_, step), times in steps.items() if times > 1] == [3]
    assert steps.total() == len(CELLS) * NUM_STEPS + 1


def test_a_dead_worker_is_started_again_and_a_stopped_one_requeues_its_cell(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.add_node(num_cpus=2, object_store_memory=OBJECT_STORE_BYTES)
    monkeypatch.setattr(on_ray, "_PATIENCE_SECONDS", 60.0)
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-quick", ROWS, [0])
    (tmp_path / "hold").touch()
    calls = [call(tmp_path, name=f"ray-{i}", run="remote_cells:run") for i in range(2)]
    launcher = RayLauncher(calls, {"address": cluster.address, "cpus": "2"})
    on_term = signal.getsignal(signal.SIGTERM)
    lines: list[str] = []
    launcher.start()
    try:
        assert signal.getsignal(signal.SIGTERM) is on_term
        poll_until(launcher, lines, lambda: len(pids(tmp_path)) == 1)
        monkeypatch.setattr(on_ray, "_PATIENCE_SECONDS", 0.0)
        poll_until(launcher, lines, lambda: bool(lines))
        assert lines == ["1 of 2 workers wait for a node with 2 CPU free"]
        os.kill(next(iter(pids(tmp_path))), signal.SIGKILL)
        poll_until(launcher, lines, lambda: len(pids(tmp_path)) == 2)
        assert any(re.match(r"worker ray-[01]: its process died \(.+\); started again", line) for line in lines[1:])
        assert launcher.num_alive == 2
    finally:
        launcher.stop()
        cluster.remove_node(node)
    assert store.backend.running() == []
    assert len(store.backend.waiting(list(store.backend.studies().values()), None, 9)) == len(ROWS)
    assert signal.getsignal(signal.SIGTERM) is on_term


def test_a_failure_of_every_worker_ends_the_run(cluster: Any, tmp_path: Path) -> None:
    launcher = RayLauncher([call(tmp_path)], {"address": cluster.address})
    launcher.start()
    try:
        with pytest.raises(RunError, match=r"no worker on Ray is left.*: no results at .*journal\.log"):
            poll_until(launcher, [], lambda: False)
    finally:
        launcher.stop()


def test_a_password_is_in_no_log_and_no_process_title(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "STOP_SECONDS", 0.5)
    monkeypatch.setenv("PGPASSWORD", "xyzzy#1")
    storage = "postgresql+psycopg://ada@127.0.0.1:1/results"
    launcher = RayLauncher([call(tmp_path, storage=storage)], {"address": cluster.address})
    launcher.start()
    try:
        poll_until(launcher, [], lambda: bool(launcher._members[0].node))
        titles = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert any(b"RayWorker" in title for title in titles)
        assert not any(b"xyzzy" in title for title in titles)
    finally:
        launcher.stop()
    session = Path(cluster.head_node.get_session_dir_path())
    logs = [path for path in session.rglob("*") if path.is_file()]
    assert logs
    assert not any(b"xyzzy" in path.read_bytes() for path in logs)
