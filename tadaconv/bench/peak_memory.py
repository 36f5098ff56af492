"""The memory that a method takes, of a process that does nothing else."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

import torch

from tadaconv.bench.device import tune_cudnn
from tadaconv.bench.trial import Trial
from tadaconv.errors import RunError
from tadaconv.measure import peak_memory_bytes, reset_peak_memory


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes started within never see Ctrl-C: it is for the one that starts them, which ends them."""
    resource_tracker.ensure_running()  # starting it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send_peak(make: Callable[[], Trial], num_threads: int, sender: Connection) -> None:
    outcome: int | Exception
    try:
        outcome = _peak(make, num_threads)
    except Exception as error:
        outcome = error  # raised where the number is awaited
    with suppress(BrokenPipeError):  # after Ctrl-C nobody awaits it
        sender.send(outcome)


def _peak(make: Callable[[], Trial], num_threads: int) -> int:
    torch.set_num_threads(num_threads)
    trial = make()
    tune_cudnn(trial.clips.device)
    trial()
    reset_peak_memory(trial.clips.device)
    trial()
    return peak_memory_bytes(trial.clips.device)


def peaks(makes: Sequence[Callable[[], Trial]]) -> Iterator[int]:
    """Bytes at the peak of a second trial, each in a process of its own; on the CPU all that the process holds counts.

    Every process is forked from one that has imported this module and done nothing else: one started afresh would
    inherit the peak of the process that starts it.

    Raises:
        RunError: a process was ended, most likely for the lack of memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for make in makes:
        yield _peak_apart(make, context)


def _peak_apart(make: Callable[[], Trial], context: ForkServerContext) -> int:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak, args=(make, torch.get_num_threads(), sender), daemon=True)
    with receiver:
        try:
            with sender, _uninterrupted():
                process.start()
            outcome: int | Exception = receiver.recv()
        except EOFError as error:
            raise RunError("a process that measured memory was ended, most likely for the lack of it") from error
        finally:
            if process.pid is not None:
                process.kill()
                process.join()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
