"""Workers as actors of a Ray cluster; Ray chooses their nodes and gives them CPUs and a fraction of a GPU.

Every node needs this package, and the storage and the run folder under the same names: a journal file in a folder that
all nodes share, or a PostgreSQL server that all can reach.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tadaconv.errors import RunError, UserError
from tadaconv.execution.launcher import Amount, Fraction, Text, anywhere, read_options
from tadaconv.execution.worker import Event, WorkerCall, error_line, run_worker

STOP_SECONDS = 30.0
"""How long workers have to requeue their cells; a step of training may have to end first."""

_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 10.0
_MAX_DEATHS = 5

_OPTIONS = {"address": Text, "cpus": Amount, "gpus": Fraction}
_GIVE_GPU = (
    "Ray assigns each worker its GPU; write --device cuda, and --executor-option gpus=0.5 for two workers to a GPU"
)


class RayWorker:
    """The actor. Its method ``stop`` is called while it works, so it needs several threads.

    Args:
        call: its configuration.
        password: PGPASSWORD of the launching process: an actor has the environment of its node.
    """

    def __init__(self, call: WorkerCall, password: str | None = None) -> None:
        if password is not None:
            os.environ["PGPASSWORD"] = password
        self._call = call
        self._stop = threading.Event()
        self._working = threading.Lock()
        self._ended = self._out_of_memory = False

    def run(self) -> bool:
        """Work until no cell is left or :meth:`stop` is called.

        Returns whether it left because memory ran out next to the other workers of its GPU. A second call, after a lost
        connection, waits for the same end.
        """
        import ray

        with self._working:
            if not self._ended:
                device = "cuda:0" if ray.get_gpu_ids() else "cpu"
                run_worker(self._call.but(device=device), stop=self._stop, on_event=self._on_event)
                self._ended = True
            return self._out_of_memory

    def _on_event(self, event: Event) -> None:
        self._out_of_memory |= event.kind == "out of memory"

    def where(self) -> tuple[str, str]:
        """Ray's name of the node and the machine's."""
        import ray

        return ray.get_runtime_context().get_node_id(), socket.gethostname()

    def stop(self) -> None:
        """Make :meth:`run` requeue its cell and return."""
        self._stop.set()


@dataclass
class _Member:
    """The launcher's record of an actor. ``end`` and ``where`` are Ray's references to results of its methods."""

    call: WorkerCall
    gpus: float
    actor: Any
    end: Any
    where: Any
    launched: float
    node: str = ""
    num_starts: int = 1
    num_deaths: int = 0


class RayLauncher:
    """One actor per call. A lost actor is started again, on any node; its cell is requeued.

    Args:
        calls: one per worker; their device is ``auto``, ``cpu`` or ``cuda``. On ``auto`` a worker gets a GPU where the
            cluster has any.
        options: ``address`` of the cluster (default: the variable RAY_ADDRESS, else a cluster that runs on this
            machine, else one that is started for the run), ``cpus`` of a worker (default 1, or one for each GPU of a
            cell), ``gpus``, its fraction of a GPU, at most 1.

    Raises:
        UserError: an unknown option, or one that does not fit the device.
    """

    def __init__(self, calls: Sequence[WorkerCall], options: Mapping[str, str]) -> None:
        given = read_options("ray", options, _OPTIONS)
        self._address: str | None = given.get("address")
        device, self._gpus_per_cell = calls[0].device, calls[0].options.gpus_per_cell
        gpus: float | None = given.get("gpus")
        if device not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device {device}: {_GIVE_GPU}")
        if gpus is not None and device != "auto" and bool(gpus) != (device == "cuda"):
            raise UserError(f"--executor-option gpus={gpus:g} contradicts --device {device}; leave one of them out")
        if gpus and self._gpus_per_cell > 1:
            raise UserError(
                f"--executor-option gpus={gpus:g} is a fraction of one GPU; with --gpus-per-cell {self._gpus_per_cell} "
                "a worker gets as many as that, so leave it out"
            )
        by_device = {"cpu": 0.0, "cuda": float(self._gpus_per_cell)}
        self._gpus = by_device.get(device) if gpus is None else gpus
        self._cpus: float = given.get("cpus", float(self._gpus_per_cell))
        self._calls = [anywhere(call) for call in calls]
        self._ray: Any = None
        self._members: list[_Member] = []
        self._connected = False
        self._next_look = 0.0
        self._num_waiting = 0
        self._failure = ""
        self._any_done = False

    @property
    def num_alive(self) -> int:
        """Workers that run, or wait for a node with room for them."""
        return len(self._members)

    def start(self) -> None:
        """Connect to the cluster, or start one, and ask for the actors.

        Raises:
            UserError: no cluster answers at the address.
        """
        import ray

        self._ray = ray
        if not ray.is_initialized():
            _connect(ray, self._address)
            self._connected = True
        try:
            gpus = self._gpus
            if gpus is None:
                gpus = float(self._gpus_per_cell) if ray.cluster_resources().get("GPU", 0) else 0.0
            if gpus > 1:
                self._require_node(gpus)
            for call in self._calls:
                self._members.append(self._launch(call.with_cores(max(1, int(self._cpus))), gpus))
        except BaseException:
            self.stop()
            raise

    def poll(self) -> list[str]:
        """Start lost actors again; return lines on those that were lost, wait for a node, or failed.

        Raises :class:`RunError` when no worker is left because all failed.
        """
        if self._failure and not self._members and not self._any_done:
            raise RunError(f"no worker on Ray is left; the last one failed: {self._failure}")
        now = time.monotonic()
        if now < self._next_look or not self._members:
            return []
        self._next_look = now + _LOOK_SECONDS
        lines = self._find_nodes()
        ends = {member.end: member for member in self._members}
        ended, _ = self._ray.wait(list(ends), num_returns=len(ends), timeout=0)
        for end in ended:
            lines += self._end(ends[end])
        return lines + self._tell_waiting(now)

    def stop(self) -> None:
        """Ask the actors to requeue their cells, end them after :data:`STOP_SECONDS`, and leave the cluster.

        A cluster that was started for the run ends with it.
        """
        try:
            self._find_nodes()
            placed = [member for member in self._members if member.node]
            for member in placed:
                member.actor.stop.remote()
            if placed:
                self._ray.wait([member.end for member in placed], num_returns=len(placed), timeout=STOP_SECONDS)
            for member in self._members:
                self._ray.kill(member.actor)
        finally:
            self._members.clear()
            if self._connected:
                self._connected = False
                self._ray.shutdown()

    def _require_node(self, gpus: float) -> None:
        """Raise :class:`UserError` if a worker wants more GPUs than the largest node has."""
        most = max((node["Resources"].get("GPU", 0) for node in self._ray.nodes() if node["Alive"]), default=0)
        if gpus > most:
            raise UserError(
                f"--gpus-per-cell {self._gpus_per_cell} needs as many GPUs on one node, and no node of this Ray "
                f"cluster has more than {most:g}"
            )

    def _launch(self, call: WorkerCall, gpus: float) -> _Member:
        # Ray could start a lost actor again, but not its method, and without a message. Eight calls at once:
        # run, once more after every lost connection, and stop.
        remote = self._ray.remote(RayWorker).options(
            num_cpus=self._cpus, num_gpus=gpus, max_concurrency=8, max_restarts=0
        )
        actor = remote.remote(call.but(shares_gpu=0 < gpus < 1), os.environ.get("PGPASSWORD"))
        return _Member(call, gpus, actor, actor.run.remote(), actor.where.remote(), time.monotonic())

    def _find_nodes(self) -> list[str]:
        """Note which actors have started; returns a line for each that had been lost."""
        places = {member.where: member for member in self._members if not member.node}
        if not places:
            return []
        known, _ = self._ray.wait(list(places), num_returns=len(places), timeout=0)
        lines = []
        for where in known:
            member = places[where]
            try:
                member.node, host = self._ray.get(where)
            except self._ray.exceptions.RayError:  # its end has the reason
                continue
            if member.num_starts > 1:
                lines.append(f"worker {member.call.name} was started again, on {host}")
        return lines

    def _end(self, member: _Member) -> list[str]:
        """Handle an actor that has ended, or seems to have; returns lines about it."""
        name, errors = member.call.name, self._ray.exceptions
        try:
            out_of_memory = self._ray.get(member.end)
        except errors.ActorUnavailableError:
            # Dead or merely unreachable: a second call returns when Ray knows which.
            member.end = member.actor.run.remote()
            return []
        except errors.RayTaskError as error:
            self._members.remove(member)
            self._failure = error_line(error.cause)[:200]
            return [f"worker {name} failed: {self._failure}"]
        except errors.RayError as error:
            return [f"worker {name}: {self._replace(member, error)}"]
        self._members.remove(member)
        if not out_of_memory:
            self._any_done = True
            return []
        gpus = min(1.0, 2 * member.gpus)
        self._members.append(self._launch(member.call, gpus))
        return [f"worker {name}: {member.gpus:g} GPU has too little memory for its cells; continues with {gpus:g}"]

    def _replace(self, member: _Member, error: Exception) -> str:
        """Start a dead actor again, on any node; returns the cause of its death in words."""
        self._members.remove(member)
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        lost = bool(member.node) and member.node not in alive
        reason = "its node was lost" if lost else f"its process died ({error_line(error)[:200]})"
        num_deaths = member.num_deaths + (not lost)
        if num_deaths > _MAX_DEATHS:
            self._failure = reason
            return f"{reason}, {num_deaths} times by now; not started again"
        again = self._launch(member.call, member.gpus)
        again.num_starts, again.num_deaths = member.num_starts + 1, num_deaths
        self._members.append(again)
        return f"{reason}; started again"

    def _tell_waiting(self, now: float) -> list[str]:
        waiting = [member for member in self._members if not member.node and now - member.launched > _PATIENCE_SECONDS]
        num_before, self._num_waiting = self._num_waiting, len(waiting)
        if not waiting or num_before == len(waiting):
            return []
        gpus = max(member.gpus for member in waiting)
        needs = f"{self._cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
        return [f"{len(waiting)} of {len(self._members)} workers wait for a node with {needs} free"]


def _connect(ray: Any, address: str | None) -> None:
    """Join the cluster, without its log; raises :class:`UserError` if there is none at ``address``."""
    named = address or os.environ.get("RAY_ADDRESS")
    if named not in (None, "", "auto", "local"):
        _require_listening(str(named))
    on_term = signal.getsignal(signal.SIGTERM)
    client = named is not None and "://" in named
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if client else {"include_dashboard": False}),
        )
    except (OSError, RuntimeError, ValueError) as error:
        where = f" at {named}" if named else ""
        raise UserError(
            f"no Ray cluster could be used{where}: {error_line(error)[:200]}; "
            "give another with --executor-option address=HOST:PORT"
        ) from error
    finally:
        # Ray's own handler would exit on the spot, and the workers' cells would not be requeued.
        if threading.current_thread() is threading.main_thread() and on_term is not None:
            signal.signal(signal.SIGTERM, on_term)


def _require_listening(address: str) -> None:
    """Raise :class:`UserError` unless a server listens at ``address``: Ray itself would try for minutes, then exit."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit()):
        raise UserError(f"{address!r} is not an address of a Ray cluster; give HOST:PORT, e.g. 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}); start one there with 'ray start --head', or give "
            "another with --executor-option address=HOST:PORT"
        ) from error
