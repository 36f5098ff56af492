"""Workers as the tasks of a Slurm array, submitted by submitit.

A worker whose time is up requeues its cell and is queued by Slurm again. The storage and the run folder must have the
same names on all nodes: a journal file in a folder that they share, or a PostgreSQL server that all can reach.
"""

import io
import pickle
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadaconv.errors import RunError, UserError
from tadaconv.execution.launcher import Amount, Text, Whole, anywhere, read_options
from tadaconv.execution.worker import WorkerCall, run_worker
from tadaconv.files import require_writable
from tadaconv.text import one_line

STOP_SECONDS = 60.0
"""How long workers have to requeue their cells; a step of training may have to end first."""

LOOK_SECONDS = 10.0
"""How often Slurm's controller is asked, once for all workers; it serves a whole cluster."""

_MAX_NUM_TIMEOUTS = 10_000
_MAX_DEATHS = 5
_QUERY_SECONDS = 60.0


_OPTIONS = {
    "partition": Text,
    "account": Text,
    "qos": Text,
    "time": Whole,
    "cpus_per_task": Whole,
    "gpus_per_node": Whole,
    "gres": Text,
    "mem_gb": Amount,
    "constraint": Text,
    "nodelist": Text,
    "exclude": Text,
    "reservation": Text,
    "array_parallelism": Whole,
    "signal_delay_s": Whole,
    "setup": Text,
}
"""The options, by the names submitit has for them: those of sbatch, with underscores."""

_DEFAULT_MINUTES = 60

_ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
    | {"RESV_DEL_HOLD", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
)
"""States of a task that runs or may come to run; in all others it has ended."""


class SlurmWorker:
    """What a task runs. It works in a thread, so that signals find the main thread free to wait for it.

    Args:
        call: the configuration of the worker; its name becomes ``slurm-<id of the task>``.
        requeue_seconds: how long it has between the signal that its time is up and the end.
    """

    def __init__(self, call: WorkerCall, requeue_seconds: float) -> None:
        self._call = call
        self._requeue_seconds = requeue_seconds
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._stopped_by_signal = False

    def __call__(self) -> bool:
        """Work until no cell is left; returns whether that, and not a signal, ended the work.

        Raises as :func:`tadaconv.execution.worker.run_worker` does.
        """
        import submitit

        self._call = self._call.but(name=f"slurm-{submitit.JobEnvironment().job_id}")
        self._stop = threading.Event()
        signal.signal(signal.SIGTERM, self._leave)
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()
        self._wait(float("inf"))
        if self._error is not None:
            raise self._error
        return not self._stopped_by_signal

    def checkpoint(self) -> Any:
        """Requeue the cell, as time is up; returns the job to queue again. submitit calls it in a signal handler."""
        import submitit

        if self._stop is not None:
            self._stop.set()
            self._wait(self._requeue_seconds)
        return submitit.helpers.DelayedSubmission(SlurmWorker(self._call, self._requeue_seconds))

    def _work(self) -> None:
        try:
            run_worker(self._call, stop=self._stop)
        except Exception as error:
            self._error = error

    def _leave(self, *_: object) -> None:
        self._stopped_by_signal = True
        if self._stop is not None:
            self._stop.set()

    def _wait(self, seconds: float) -> None:
        # Not by joining: a signal handler, which may run in the middle of a join, must be able to wait as well.
        deadline = time.monotonic() + seconds
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)


@dataclass
class _Task:
    """The launcher's record of a task of the array. ``job`` is submitit's."""

    call: WorkerCall
    job: Any
    state: str = "PENDING"
    reason: str = ""
    num_looks_ended: int = 0
    num_deaths: int = 0

    @property
    def name(self) -> str:
        return f"slurm-{self.job.job_id}"


class SlurmLauncher:
    """One task per call, as an array. Lost tasks are submitted again; their cells are requeued.

    The workers need no launcher once they are submitted: if it is killed, they continue until no cell is left.

    Args:
        calls: one per worker; their device is ``auto``, ``cpu`` or ``cuda``. On ``auto`` a worker uses a GPU if its
            options ask for one.
        options: sbatch's, as submitit names them; ``time`` is in minutes, 60 by default.

    Raises:
        UserError: an unknown option, or one that does not fit the device.
    """

    def __init__(self, calls: Sequence[WorkerCall], options: Mapping[str, str]) -> None:
        given = read_options("slurm", options, _OPTIONS)
        self._folder = (calls[0].out / "slurm").absolute()
        device, gpus_per_cell = calls[0].device, calls[0].options.gpus_per_cell
        if device != "cpu" and gpus_per_cell > 1 and "gres" not in given:
            given.setdefault("gpus_per_node", gpus_per_cell)
        if given.get("gpus_per_node", gpus_per_cell) != gpus_per_cell:
            raise UserError(
                f"--executor-option gpus_per_node={given['gpus_per_node']}: a worker trains a cell on {gpus_per_cell}; "
                f"for more workers give --workers, for more to a cell --gpus-per-cell {given['gpus_per_node']}"
            )
        wants_gpu = "gpus_per_node" in given or "gpu" in given.get("gres", "")
        if device not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device {device}: Slurm assigns each worker its GPU; write --device cuda")
        if device == "cpu" and wants_gpu:
            raise UserError("the --executor-option for a GPU contradicts --device cpu; leave one of them out")
        if "%" in str(self._folder):
            raise UserError(f"Slurm would replace the % in {self._folder}; name another folder with --out")
        minutes = given.setdefault("time", _DEFAULT_MINUTES)
        delay = given.setdefault("signal_delay_s", min(90, 20 * minutes))
        if delay >= 60 * minutes:
            raise UserError(
                f"--executor-option signal_delay_s={delay} leaves no time to work in {minutes} min; give fewer seconds"
            )
        if device == "auto":
            device = "cuda" if wants_gpu else "cpu"
        if gpus_per_cell > 1:
            given.setdefault("cpus_per_task", gpus_per_cell)
        cores = given.get("cpus_per_task", 1)
        self._calls = [anywhere(call).but(device=device).with_cores(cores) for call in calls]
        self._requeue_seconds = max(delay / 2, delay - 30.0)
        self._parameters = _parameters(given)
        self._executor: Any = None
        self._tasks: list[_Task] = []
        self._queries = ThreadPoolExecutor(1, "squeue")
        self._query: Future[dict[str, tuple[str, str]]] | None = None
        self._next_look = 0.0
        self._last_pending = ""
        self._query_failed = False
        self._failure = ""
        self._any_done = False

    @property
    def num_alive(self) -> int:
        """Workers that run, or wait in Slurm's queue."""
        return len(self._tasks)

    def start(self) -> None:
        """Submit the workers.

        Raises:
            UserError: this machine submits to no Slurm, or Slurm refuses.
        """
        self._executor = _executor(self._folder, self._parameters)
        self._tasks = self._submit(self._calls)
        self._next_look = time.monotonic() + min(2.0, LOOK_SECONDS)

    def poll(self) -> list[str]:
        """Submit lost tasks again; return lines about these, and about workers that failed or cannot start.

        Raises :class:`RunError` when no worker is left because all failed or were cancelled.
        """
        if self._failure and not self._tasks and not self._any_done:
            raise RunError(f"no worker on Slurm is left; the last one {self._failure}")
        listed, lines = self._look()
        if listed is None:
            return lines
        for task in list(self._tasks):
            task.state, task.reason = listed.get(task.job.job_id, ("", ""))
            lines += self._judge(task)
        return lines + self._tell_pending()

    def stop(self) -> None:
        """Ask the workers to requeue their cells, cancel them after :data:`STOP_SECONDS`, and clear up."""
        ids = [task.job.job_id for task in self._tasks]
        self._queries.shutdown(wait=False)
        try:
            if ids:
                _cancel("--state=PENDING", *ids)
                _cancel("--signal=TERM", *ids)  # to the workers alone, which end the job by leaving
                deadline = time.monotonic() + STOP_SECONDS
                while time.monotonic() < deadline and self._any_alive(ids):
                    time.sleep(1.0)
        finally:
            if ids:
                _cancel(*ids)
            for task in self._tasks:
                _forget(task)
            self._tasks.clear()

    def _submit(self, calls: Sequence[WorkerCall]) -> list[_Task]:
        """Submit one task per call; raises :class:`UserError` with sbatch's message, if it refused."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        workers = [SlurmWorker(call, self._requeue_seconds) for call in calls]
        before = set(self._folder.glob("*.pkl"))
        try:
            with redirect_stderr(io.StringIO()):
                jobs = self._executor.submit_array(workers)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            for path in set(self._folder.glob("*.pkl")) - before:
                path.unlink(missing_ok=True)
            message = one_line(str(error).replace("sbatch: error: ", ""))
            raise UserError(f"Slurm refused the workers: {message}; see --executor-option") from error
        return [_Task(call, job) for call, job in zip(calls, jobs, strict=True)]

    def _look(self) -> tuple[dict[str, tuple[str, str]] | None, list[str]]:
        """State and reason of every task that Slurm lists, by id, when squeue has answered; else None. And lines.

        submitit asks sacct, which has no data where Slurm keeps no accounts; squeue is available everywhere, and lists
        tasks for some minutes after their end.
        """
        if self._query is None and self._tasks and time.monotonic() >= self._next_look:
            self._query = self._queries.submit(_squeue, [task.job.job_id for task in self._tasks])
            self._next_look = time.monotonic() + LOOK_SECONDS
        elif self._query is not None and self._query.done():
            query, self._query = self._query, None
            try:
                listed = query.result()
            except RunError as error:
                has_warned, self._query_failed = self._query_failed, True
                line = f"Slurm does not report the state of the workers ({error}); it is queried again until it does"
                return None, [] if has_warned else [line]
            self._query_failed = False
            return listed, []
        return None, []

    def _judge(self, task: _Task) -> list[str]:
        if task.state in _ALIVE:
            task.num_looks_ended = 0
            return []
        # Files of the node may take a while to be seen here, and a task that is queued again may seem to end first.
        task.num_looks_ended += 1
        result = _result(task)
        if result is None and task.num_looks_ended < 2:
            return []
        self._tasks.remove(task)
        log = task.job.paths.stderr
        _forget(task)
        if isinstance(result, str):
            self._failure = f"failed: {result}"
            return [f"worker {task.name} {self._failure}; log: {log}"]
        if result:
            self._any_done = True
            return []
        never_ran = not task.state and not task.job.paths.stdout.exists()
        if task.state.startswith("CANCELLED") or never_ran:
            self._failure = "was cancelled"
            return [f"worker {task.name} was cancelled; not submitted again"]
        return [f"worker {task.name} {_cause(task, result)}; {self._again(task)}; log: {log}"]

    def _again(self, task: _Task) -> str:
        num_deaths = task.num_deaths + 1
        if num_deaths > _MAX_DEATHS:
            self._failure = f"was lost {num_deaths} times"
            return f"{num_deaths} times by now, not submitted again"
        try:
            [again] = self._submit([task.call])
        except UserError as error:
            self._failure = str(error)
            return f"not submitted again: {error}"
        again.num_deaths = num_deaths
        self._tasks.append(again)
        return f"submitted again as {again.name}"

    def _tell_pending(self) -> list[str]:
        """A line when all workers wait, and another when their reasons change."""
        pending = all(task.state in ("PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT") for task in self._tasks)
        passing = {"", "None", "BeginTime"}  # not looked at yet, or queued again a moment ago
        reasons = ", ".join(sorted({task.reason for task in self._tasks} - passing)) if pending else ""
        last, self._last_pending = self._last_pending, reasons
        if not reasons or last == reasons:
            return []
        return [f"{len(self._tasks)} workers wait in Slurm's queue ({reasons})"]

    def _any_alive(self, ids: Sequence[str]) -> bool:
        try:
            return any(state in _ALIVE for state, _ in _squeue(ids).values())
        except RunError:
            return True


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters for submitit, from the options."""
    # A worker whose time is up is queued again, whatever the default of the cluster is.
    more: dict[str, Any] = {"requeue": True}
    parameters: dict[str, Any] = {"name": "tada", "slurm_additional_parameters": more}
    for name, value in given.items():
        if name == "reservation":
            more[name] = value
        else:
            parameters[f"slurm_{name}"] = [value] if name == "setup" else value
    return parameters


def _executor(folder: Path, parameters: Mapping[str, Any]) -> Any:
    """The executor of submitit; raises :class:`UserError` where it cannot submit."""
    import submitit

    missing = [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"--executor slurm needs {', '.join(missing)}, which this machine lacks; run this where jobs are submitted "
            "to Slurm, or use --executor local"
        )
    require_writable(folder)
    try:
        folder.chmod(0o700)
    except OSError as error:  # of another owner, or on a file system without modes
        raise UserError(
            f"cannot keep {folder} from other users: {error.strerror}; name another folder with --out"
        ) from error
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=_MAX_NUM_TIMEOUTS)
    executor.update_parameters(**parameters)
    return executor


def _squeue(ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """State and reason by id of the tasks that Slurm lists; raises :class:`RunError` if it does not answer."""
    # By the array's number: lists of hundreds of tasks are slow to look up. Ctrl-C is for this process alone.
    jobs = ",".join(sorted({id.partition("_")[0] for id in ids}))
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={jobs}"]
    alone: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "start_new_session": True}
    try:
        done = subprocess.run(command, text=True, timeout=_QUERY_SECONDS, check=False, **alone)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"no answer within {_QUERY_SECONDS:g} s") from error
    if done.returncode != 0 and "Invalid job id" not in done.stderr:
        raise RunError(one_line(done.stderr) or f"exit status {done.returncode}")
    fields = [line.strip().split("|", 2) for line in done.stdout.splitlines()]
    return {parts[0]: (parts[1], parts[2]) for parts in fields if len(parts) == 3}


def _cancel(*arguments: str) -> None:
    # For tasks that have ended meanwhile scancel fails, so its status is ignored.
    subprocess.run(["scancel", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _result(task: _Task) -> bool | str | None:
    """The return value of the worker, the last line of the error it raised, or None if it left neither."""
    try:
        outcome, result = pickle.loads(task.job.paths.result_pickle.read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError):
        return None
    if outcome == "success":
        return bool(result)
    return str(result).strip().splitlines()[-1].rpartition("tadaconv.errors.")[2]


def _cause(task: _Task, result: bool | None) -> str:
    """How a task ended before its work did, in words."""
    if result is not None:
        return "was stopped by Slurm"
    if not task.state:
        return "is gone from Slurm"
    reason = f" ({task.reason})" if task.reason not in ("", "None") else ""
    return f"was lost: {task.state.lower().replace('_', ' ')}{reason}"


def _forget(task: _Task) -> None:
    """Remove the files with the call and its result; the log stays."""
    for path in (task.job.paths.submitted_pickle, task.job.paths.result_pickle):
        path.unlink(missing_ok=True)
