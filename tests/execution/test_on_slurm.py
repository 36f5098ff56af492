import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_cells import NUM_STEPS, ROWS, FakeRun
from optuna.trial import TrialState
from remote_cells import CELLS, pids
from slurm_cluster import cluster, found

from tadaconv.errors import RunError, UserError
from tadaconv.execution import on_slurm
from tadaconv.execution.on_slurm import SlurmLauncher
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import WorkerCall
from tadaconv.run_options import RunOptions


def call(out: Path, **changes: Any) -> WorkerCall:
    return WorkerCall(str(out / "journal.log"), "slurm-0", "cpu", out, run="remote_cells:run").but(**changes)


@pytest.mark.parametrize(
    ("options", "device", "message"),
    [
        ({"partitoin": "gpu"}, "cpu", r"unknown option of --executor slurm 'partitoin'; one of: partition, .*mem_gb"),
        ({"nodes": "2"}, "cpu", "unknown option"),
        ({"time": "1:00:00"}, "cpu", r"time='1:00:00'.*should be a valid integer"),
        ({"time": "0"}, "cpu", "time='0'"),
        ({"cpus-per-task": "-1"}, "cpu", "cpus-per-task='-1'"),
        ({"cpus-per-task": "1", "cpus_per_task": "1"}, "cpu", "given twice"),
        ({"mem_gb": "4G"}, "cpu", r"mem_gb='4G'.*should be a valid number"),
        ({"gpus_per_node": "2"}, "cuda", "gpus_per_node=2: a worker trains a cell on 1; .*--gpus-per-cell 2"),
        ({"partition": "a\nb"}, "cpu", "partition="),
        ({"gpus_per_node": "1"}, "cpu", "contradicts --device cpu"),
        ({"gres": "gpu:a100:1"}, "cpu", "contradicts --device cpu"),
        ({"time": "1", "signal_delay_s": "60"}, "cpu", "no time to work"),
        ({}, "cuda:1", "--device cuda"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, str], device: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        SlurmLauncher([call(tmp_path, device=device)], options)
    assert "\n" not in str(caught.value)


def test_a_folder_whose_name_slurm_would_change_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="%"):
        SlurmLauncher([call(tmp_path / "50%j")], {})


def test_a_machine_without_slurm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs sbatch, srun, squeue, scancel"):
        SlurmLauncher([call(tmp_path)], {}).start()
    assert not (tmp_path / "slurm").exists()


@dataclass
class FakeSlurm:
    """Slurm's commands as scripts: sbatch counts jobs, squeue shows the file ``listing`` or fails with ``error``."""

    folder: Path

    def install(self) -> None:
        """Write the scripts."""
        counts = f"printenv PGPASSWORD > {self.folder}/password; "
        counts += f'echo x >> {self.folder}/jobs; echo "Submitted batch job $(wc -l < {self.folder}/jobs)"'
        shows = (
            f"if [ -e {self.folder}/error ]; then cat {self.folder}/error >&2; exit 1; fi; cat {self.folder}/listing"
        )
        for name, script in {"sbatch": counts, "squeue": shows, "srun": "", "scancel": ""}.items():
            (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.folder / name).chmod(0o755)

    def show(self, listing: str, error: str | None = None) -> None:
        """Let squeue answer with ``listing``, or fail with ``error``."""
        (self.folder / "listing").write_text(listing)
        (self.folder / "error").unlink(missing_ok=True)
        if error is not None:
            (self.folder / "error").write_text(error)


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    pytest.importorskip("submitit", reason="submitit is not installed")
    fake = FakeSlurm(tmp_path / "bin")
    fake.folder.mkdir()
    fake.install()
    monkeypatch.setenv("PATH", f"{fake.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(on_slurm, "LOOK_SECONDS", 0.0)
    return fake


def test_sbatch_gets_the_password_of_the_environment_and_no_file_does(
    fake_slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch hands its environment on to the job unless it is told otherwise."""
    monkeypatch.setenv("PGPASSWORD", "xyzzy#1")
    storage = "postgresql+psycopg://ada@127.0.0.1:1/results"
    launcher = SlurmLauncher([call(tmp_path, storage=storage)], {})
    launcher.start()
    assert (fake_slurm.folder / "password").read_text() == "xyzzy#1\n"
    files = [path for path in (tmp_path / "slurm").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".pkl", ".sh"}
    assert not any(b"xyzzy" in path.read_bytes() for path in files)


def look(launcher: SlurmLauncher) -> list[str]:
    """The lines of one more answer of squeue."""
    lines = launcher.poll()
    assert launcher._query is not None
    launcher._query.exception()  # waits for it
    return lines + launcher.poll()


def test_a_folder_that_cannot_be_closed_to_others_is_refused(
    fake_slurm: FakeSlurm,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(UserError, match="slurm from other users: Operation not permitted; name another folder"):
        SlurmLauncher([call(tmp_path)], {}).start()


def test_waiting_workers_are_reported_once_for_each_reason(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher = SlurmLauncher([call(tmp_path)] * 3, {})
    launcher.start()
    told = []
    for listing in (
        "1_0|PENDING|None\n1_1|PENDING|None\n1_2|PENDING|None\n",
        "1_0|PENDING|Priority\n1_1|PENDING|Resources\n1_2|PENDING|Priority\n",
        "1_0|PENDING|Priority\n1_1|PENDING|Resources\n1_2|PENDING|Priority\n",
        "1_0|RUNNING|None\n1_1|PENDING|Resources\n1_2|PENDING|Priority\n",
        "1_0|PENDING|BeginTime\n1_1|PENDING|PartitionDown\n1_2|PENDING|PartitionDown\n",
    ):
        fake_slurm.show(listing)
        told.append(look(launcher))
    assert told == [
        [],
        ["3 workers wait in Slurm's queue (Priority, Resources)"],
        [],
        [],
        ["3 workers wait in Slurm's queue (PartitionDown)"],
    ]
    assert launcher.num_alive == 3
    fake_slurm.show("")
    launcher.stop()
    assert launcher.num_alive == 0


def test_a_silent_controller_is_reported_once_and_loses_no_worker(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher = SlurmLauncher([call(tmp_path)], {})
    launcher.start()
    fake_slurm.show("", error="slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
    lines = [line for _ in range(4) for line in look(launcher)]
    assert len(lines) == 1
    assert "Unable to contact slurm controller" in lines[0]
    assert launcher.num_alive == 1


def test_a_worker_that_is_lost_many_times_is_given_up(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher = SlurmLauncher([call(tmp_path)], {})
    launcher.start()
    lines: list[str] = []
    while launcher.num_alive:
        fake_slurm.show(f"{launcher._tasks[0].job.job_id}|NODE_FAIL|NodeDown\n")
        lines += look(launcher)
    with pytest.raises(RunError, match="no worker on Slurm is left; the last one was lost 6 times"):
        launcher.poll()
    assert [line.partition(";")[0] for line in lines] == [
        f"worker slurm-{i} was lost: node fail (NodeDown)" for i in range(1, 7)
    ]
    assert len((fake_slurm.folder / "jobs").read_text().split()) == 6
    assert list((tmp_path / "slurm").glob("*_submitted.pkl")) == []


def test_a_worker_that_is_queued_again_by_slurm_is_not_lost(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher = SlurmLauncher([call(tmp_path)], {})
    launcher.start()
    lines: list[str] = []
    for state in ("RUNNING|None", "FAILED|NodeDown", "PENDING|BeginTime", "PREEMPTED|None", "RUNNING|None"):
        fake_slurm.show(f"1|{state}\n")
        lines += look(launcher)
    assert lines == []
    assert launcher.num_alive == 1


def test_a_worker_gone_without_a_trace_is_submitted_again_if_it_ever_ran(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    launcher = SlurmLauncher([call(tmp_path)] * 2, {})
    launcher.start()
    (tmp_path / "slurm" / "1_0_0_log.out").touch()
    fake_slurm.show("", error="slurm_load_jobs error: Invalid job id specified\n")
    lines = look(launcher) + look(launcher)
    assert [line.partition(";")[0] for line in lines] == [
        "worker slurm-1_0 is gone from Slurm",
        "worker slurm-1_1 was cancelled",
    ]
    assert [task.name for task in launcher._tasks] == ["slurm-2"]


@pytest.mark.parametrize(
    ("device", "options", "settled", "threads"),
    [
        ("auto", {}, "cpu", 1),
        ("auto", {"gpus_per_node": "1", "cpus_per_task": "4"}, "cuda", 4),
        ("auto", {"gres": "gpu:a100:1"}, "cuda", 1),
        ("cuda", {}, "cuda", 1),
        ("cpu", {"cpus_per_task": "2"}, "cpu", 2),
    ],
)
def test_a_worker_uses_the_resources_requested_from_slurm(
    fake_slurm: FakeSlurm, tmp_path: Path, device: str, options: dict[str, str], settled: str, threads: int
) -> None:
    launcher = SlurmLauncher([call(tmp_path, device=device)], options)
    launcher.start()
    (task,) = launcher._tasks
    assert (task.call.device, task.call.options.threads) == (settled, threads)
    script = task.job.paths.submission_file.read_text()
    for name, value in options.items():
        assert f"#SBATCH --{name.replace('_', '-')}={value}\n" in script
    assert "#SBATCH --requeue\n" in script
    assert "#SBATCH --time=60\n" in script
    assert fake_slurm.folder.is_dir()


@pytest.mark.parametrize(
    ("device", "options", "gpus", "cores"),
    [
        ("auto", {}, 4, 4),
        ("cuda", {"gpus_per_node": "4", "cpus_per_task": "24"}, 4, 24),
        ("cuda", {"gres": "gpu:a100:4"}, None, 4),
        ("cpu", {}, None, 4),
    ],
)
def test_a_worker_that_trains_on_several_gpus_asks_for_them(
    fake_slurm: FakeSlurm,  # noqa: ARG001
    tmp_path: Path,
    device: str,
    options: dict[str, str],
    gpus: int | None,
    cores: int,
) -> None:
    several = call(tmp_path, device=device, options=RunOptions(gpus_per_cell=4))
    launcher = SlurmLauncher([several], options)
    launcher.start()
    (task,) = launcher._tasks
    script = task.job.paths.submission_file.read_text()
    assert (task.call.device, task.call.options.threads) == ("cpu" if device == "cpu" else "cuda", cores)
    assert f"#SBATCH --cpus-per-task={cores}\n" in script
    assert ("#SBATCH --gpus-per-node" in script) == (gpus is not None)
    assert gpus is None or f"#SBATCH --gpus-per-node={gpus}\n" in script


def test_a_minute_of_time_leaves_most_of_it_to_work(fake_slurm: FakeSlurm, tmp_path: Path) -> None:  # noqa: ARG001
    options = {"time": "1", "setup": "module load cuda", "reservation": "mine"}
    launcher = SlurmLauncher([call(tmp_path)], options)
    launcher.start()
    script = launcher._tasks[0].job.paths.submission_file.read_text()
    assert "#SBATCH --signal=USR2@20\n" in script
    assert "#SBATCH --reservation=mine\n" in script
    assert script.index("module load cuda\n") < script.index("srun ")


@pytest.fixture(scope="module")
def slurm() -> Generator[Path]:
    """A cluster of one node, whose jobs find the modules of this folder; the folder of its state."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    why = found()
    if why is not None:
        pytest.skip(f"no Slurm: {why}")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # the path of munge's socket must be short
    with pytest.MonkeyPatch.context() as patch, cluster(folder) as variables:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        patch.setattr(on_slurm, "LOOK_SECONDS", 0.5)
        yield folder
    shutil.rmtree(folder)


def poll_until(launcher: SlurmLauncher, lines: list[str], met: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        lines += launcher.poll()
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)


def finished(store: Store) -> list[str]:
    return sorted(row.key for row in store.backend.attempts() if row.state is TrialState.COMPLETE)


def test_an_array_runs_a_table_and_resumes_after_a_time_out(slurm: Path, tmp_path: Path) -> None:  # noqa: ARG001
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-quick", ROWS, [0, 1, 2, 3])
    (hold := tmp_path / "hold").touch()
    options = {"mem_gb": "0.5", "cpus-per-task": "1", "time": "5"}
    launcher = SlurmLauncher([call(tmp_path), call(tmp_path)], options)
    lines: list[str] = []
    launcher.start()
    try:
        poll_until(launcher, lines, lambda: len(pids(tmp_path)) == 2)
        before = pids(tmp_path)
        # What Slurm does shortly before a task's time is up.
        subprocess.run(["scancel", "--signal=USR2", launcher._tasks[0].job.job_id], check=True)
        poll_until(launcher, lines, lambda: any("interrupted" in row.attrs for row in store.backend.attempts()))
        hold.unlink()
        poll_until(launcher, lines, lambda: len(finished(store)) == len(CELLS))
        poll_until(launcher, lines, lambda: launcher.num_alive == 0)
    finally:
        launcher.stop()
    assert lines == []
    assert finished(store) == sorted(cell.key for cell in CELLS)
    assert pids(tmp_path) >= before
    log = "".join(path.read_text() for path in (tmp_path / "slurm").glob("*_log.out"))
    assert log.count("Requeued job") == 1
    steps = Counter(FakeRun(tmp_path / "log").steps())
    assert sorted(steps) == sorted((cell.key, step) for cell in CELLS for step in range(1, NUM_STEPS + 1))
    assert steps.total() == len(CELLS) * NUM_STEPS + 1  # the cell went on in the step it was interrupted in


def test_a_killed_worker_is_submitted_again_and_a_stopped_one_requeues_its_cell(
    slurm: Path,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "t-quick", ROWS, [0])
    (tmp_path / "hold").touch()
    launcher = SlurmLauncher([call(tmp_path)], {})
    lines: list[str] = []
    launcher.start()
    try:
        poll_until(launcher, lines, lambda: len(pids(tmp_path)) == 1)
        os.kill(next(iter(pids(tmp_path))), signal.SIGKILL)
        poll_until(launcher, lines, lambda: len(pids(tmp_path)) == 2)
        (line,) = lines
        assert "was lost: failed (NonZeroExitCode); submitted again as slurm-" in line
        assert Path(line.rpartition("log: ")[2]).is_file()
        assert launcher.num_alive == 1
    finally:
        any_alive, answers = launcher._any_alive, list[bool]()
        monkeypatch.setattr(launcher, "_any_alive", lambda ids: answers.append(any_alive(ids)) or answers[-1])
        launcher.stop()
    assert answers[-1] is False, "it leaves by itself, and is not cancelled"
    assert store.backend.running() == []
    assert sum("interrupted" in row.attrs for row in store.backend.attempts()) == 2
    assert len(store.backend.waiting(list(store.backend.studies().values()), None, 9)) == len(ROWS)


def test_a_cancelled_worker_and_a_failing_one_are_reported(slurm: Path, tmp_path: Path) -> None:  # noqa: ARG001
    Store.open(str(tmp_path / "journal.log"))
    missing = call(tmp_path, storage=str(tmp_path / "elsewhere.log"))
    launcher = SlurmLauncher([missing], {})
    launcher.start()
    lines: list[str] = []
    try:
        with pytest.raises(RunError, match=r"no worker on Slurm is left; .*no results at .*elsewhere\.log"):
            poll_until(launcher, lines, lambda: False)
    finally:
        launcher.stop()
    # The node has two CPUs: the third task is cancelled in the queue, the first at work.
    waiting = SlurmLauncher([call(tmp_path, wait_seconds=60.0)] * 3, {})
    waiting.start()
    lines.clear()
    try:
        poll_until(waiting, lines, lambda: waiting._tasks[0].state == "RUNNING")
        for task in (waiting._tasks[0], waiting._tasks[2]):
            subprocess.run(["scancel", task.job.job_id], check=True)
        poll_until(waiting, lines, lambda: waiting.num_alive == 1)
        assert [line.partition(" was ")[2] for line in lines] == ["cancelled; not submitted again"] * 2
    finally:
        waiting.stop()


def test_a_refusal_of_slurm_is_one_line(slurm: Path, tmp_path: Path) -> None:  # noqa: ARG001
    launcher = SlurmLauncher([call(tmp_path)], {"partition": "nonesuch"})
    with pytest.raises(UserError, match=r"refused the workers: .*invalid partition") as caught:
        launcher.start()
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "slurm").glob("*.pkl")) == []
