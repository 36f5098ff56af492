"""The peak memory of a method, in a process that runs it alone."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker

import torch

from tadaconv.bench.device import tune_cudnn
from tadaconv.bench.trial import Trial
from tadaconv.errors import RunError
from tadaconv.measure import peak_memory_bytes, reset_peak_memory


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started within it print no traceback at Ctrl-C while they import."""
    resource_tracker.ensure_running()  # starting it would unblock them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(num_threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the process at once
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    torch.set_num_threads(num_threads)


def _peak(make: Callable[[], Trial]) -> int:
    trial = make()
    tune_cudnn(trial.clips.device)
    trial()
    reset_peak_memory(trial.clips.device)
    trial()
    return peak_memory_bytes(trial.clips.device)


def peaks(makes: Sequence[Callable[[], Trial]]) -> Iterator[int]:
    """Peak bytes of a second trial, each in a separate process; on the CPU this is all memory of the process.

    Every process is forked from one that has imported this module and done nothing else: a process started by this one
    would inherit its peak.

    Raises:
        RunError: a process was killed, most likely out of memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for make in makes:
        with ProcessPoolExecutor(1, context, _start, (torch.get_num_threads(),)) as pool:
            with _interrupts_blocked():
                peak = pool.submit(_peak, make)
            try:
                yield peak.result()
            except BrokenProcessPool as error:
                raise RunError("a process that measured memory was killed, most likely out of memory (OOM)") from error
