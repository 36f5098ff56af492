"""A Slurm of one node on loopback, from the daemons of Debian's ``slurmctld``, ``slurmd`` and ``munge`` packages.

``python tests/slurm_cluster.py FOLDER COMMAND...`` runs a command with such a cluster around it.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])  # daemons are on root's path alone
_START_SECONDS = 30.0

# Processes are tracked by their parents and nothing is accounted: neither needs control groups or a database.
_CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
DefMemPerCPU=100
OverTimeLimit=0
KillWait=5
MinJobAge=300
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=60 State=UP
"""


def found() -> str | None:
    """Why no Slurm can be started here, in a few words; None if one can."""
    missing = [name for name in DAEMONS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"no {', '.join(missing)} here; install slurmctld, slurmd, slurm-client and munge"
    if os.geteuid() != 0:
        return "slurmd starts jobs as root only"
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _daemon(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    executable = shutil.which(name, path=_PATH)
    assert executable is not None
    with (folder / f"{name}.out").open("wb") as out:
        return subprocess.Popen(
            [executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": _PATH},
            start_new_session=True,
        )


def _wait_for_node(folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    state = ""
    while time.monotonic() < deadline:
        told = subprocess.run(["sinfo", "-h", "-o", "%T"], env=env, capture_output=True, text=True, check=False)
        state = told.stdout.strip() or told.stderr.strip()
        if state == "idle":
            return
        time.sleep(0.2)
    logs = "\n".join(
        f"{path.name}:\n{path.read_text(errors='replace')[-2000:]}"
        for path in sorted([*folder.glob("*.log"), *folder.glob("*.out")])
    )
    raise RuntimeError(f"the node did not come up in {_START_SECONDS:.0f} s: {state}\n{logs}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def cluster(folder: Path, cpus: int = 2) -> Generator[dict[str, str]]:
    """A running cluster of one node; its state lies in ``folder``, which must have a short path.

    Yields the environment variables that lead Slurm's commands to it. Jobs that still run when the context ends are
    cancelled.
    """
    folder = folder.absolute()
    for name in ("spool", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(
        _CONFIG.format(
            host=host,
            folder=folder,
            cpus=cpus,
            memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
    )
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    env = {"SLURM_CONF": str(folder / "slurm.conf")}
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(
            _daemon(
                folder, "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
                f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed",
            )
        )  # fmt: skip
        started.append(_daemon(folder, "slurmctld", "-D", "-c"))
        started.append(_daemon(folder, "slurmd", "-D", "-N", host))
        _wait_for_node(folder)
        yield env
    finally:
        if len(started) == 3:
            _cancel_all({**os.environ, **env})
        for process in reversed(started):
            _stop(process)


def _cancel_all(env: dict[str, str]) -> None:
    subprocess.run(["scancel", "--full", "--user=root"], env=env, capture_output=True, check=False)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        left = subprocess.run(["squeue", "-h"], env=env, capture_output=True, text=True, check=False).stdout
        if not left.strip():
            return
        time.sleep(0.2)


if __name__ == "__main__":
    with cluster(Path(sys.argv[1])) as variables:
        status = subprocess.run(sys.argv[2:], env={**os.environ, **variables}, check=False).returncode
    sys.exit(status)
