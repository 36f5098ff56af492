import os
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from fake_cells import NUM_STEPS, ROWS, FakeRun
from optuna.trial import TrialState
from remote_cells import CELLS, pids

from tadaconv.errors import UserError
from tadaconv.execution import Store, WorkerCall, plan
from tadaconv.execution.launch import supervise
from tadaconv.execution.on_ray import RayLauncher

OBJECT_STORE_BYTES = 80 * 2**20  # the least that Ray takes


def call(out: Path, **changes: Any) -> WorkerCall:
    return WorkerCall(str(out / "journal.log"), "ray-0", "cpu", out).but(**changes)


@pytest.mark.parametrize(
    ("options", "device", "message"),
    [
        ({"gpu": "1"}, "cpu", r"unknown option of --executor ray 'gpu'; one of: gpus, cpus, address"),
        ({"gpus": "2"}, "cuda", r"gpus='2'.*above 0 and up to 1"),
        ({"gpus": "-1"}, "cuda", "gpus='-1'"),
        ({"gpus": "nan"}, "cuda", "gpus='nan'"),
        ({"cpus": "0"}, "cpu", r"cpus='0'.*above 0"),
        ({"cpus": "inf"}, "cpu", "cpus='inf'"),
        ({"address": " "}, "cpu", "address=' '"),
        ({"gpus": "0.5"}, "cpu", "--device cpu leaves idle"),
        ({"gpus": "0"}, "cuda", "without a GPU"),
        ({}, "cuda:1", "Ray gives each worker its GPU"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, str], device: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        RayLauncher([call(tmp_path, device=device)], options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "127.0.0.1:99999"])
def test_an_address_where_nobody_answers_is_refused_at_once(tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    started = time.monotonic()
    with pytest.raises(UserError, match=address.rpartition("/")[2]):
        RayLauncher([call(tmp_path)], {"address": address}).start()
    assert time.monotonic() - started < 8


@pytest.fixture(scope="module")
def cluster() -> Generator[Any]:
    """A cluster with a head that runs nothing; its nodes find the modules of this folder."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES}
        )
        yield cluster
        cluster.shutdown()


def test_a_table_completes_although_a_node_is_removed(cluster: Any, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES) for _ in range(2)]
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-quick", ROWS, [0, 1, 2, 3])
    calls = [call(tmp_path, name=f"ray-{i}", run="remote_cells:run") for i in range(2)]
    launcher = RayLauncher(calls, {"address": cluster.address})
    hold = tmp_path / "hold"
    hold.touch()
    lines: list[str] = []
    seen: list[set[int]] = []
    started = time.monotonic()

    def tick() -> None:
        if len(nodes) == 2 and len(pids(tmp_path)) == 2:
            seen.append(pids(tmp_path))
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
        if any("is up again" in line for line in lines):
            hold.unlink(missing_ok=True)

    def is_pending() -> bool:
        assert time.monotonic() - started < 50, lines
        return any(record.status != "finished" for record in store.records_of(CELLS))

    supervise(launcher, store, is_pending, tick, lines.append)
    assert len(nodes) == 1
    assert any("its node was lost; started again" in line for line in lines), lines
    assert launcher.num_alive == 0
    complete = [row.key for row in store.backend.rows() if row.state is TrialState.COMPLETE]
    assert sorted(complete) == sorted(cell.key for cell in CELLS)
    assert len(pids(tmp_path)) == 3
    # Every step once, but for the one in which the node was lost: its cell went on from there.
    steps = Counter(FakeRun(tmp_path / "log").steps())
    assert sorted(steps) == sorted((cell.key, step) for cell in CELLS for step in range(1, NUM_STEPS + 1))
    assert [step for (_, step), times in steps.items() if times > 1] == [3]
    assert steps.total() == len(CELLS) * NUM_STEPS + 1
