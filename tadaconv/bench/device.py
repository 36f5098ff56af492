"""The device: its clock, its limits, and its description."""

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from platform import processor

import torch

from tadaconv.environment import environment

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Mark = float | torch.cuda.Event


class Clock:
    """Time on a device: marks are recorded in its stream, and read when the work is done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> Mark:
        """A point in time, after all work queued on the device so far."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, start: Mark, end: Mark) -> float:
        """From mark to mark, once :meth:`wait` has returned."""
        if isinstance(start, float) and isinstance(end, float):
            return end - start
        assert isinstance(start, torch.cuda.Event)
        assert isinstance(end, torch.cuda.Event)
        return float(start.elapsed_time(end)) / 1e3


def tune_cudnn(device: torch.device) -> None:
    """Let cuDNN choose the fastest algorithms: shapes do not change here."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


class Copy:
    """A copy of a tensor far larger than the caches; a call returns the seconds of one."""

    def __init__(self, device: torch.device, dtype: torch.dtype, mebibytes: int) -> None:
        size = mebibytes * 2**20 // dtype.itemsize
        self.clock = Clock(device)
        self.source = torch.zeros(size, dtype=dtype, device=device)
        self.target = torch.ones_like(self.source)
        self.bytes = 2 * self.source.nbytes

    def __call__(self) -> float:
        """Copy."""
        return _seconds(self.clock, lambda: self.target.copy_(self.source))


class MatrixProduct:
    """A product of large square matrices; a call returns the seconds of one.

    In float32 on CUDA it may round as convolutions do there, to TensorFloat-32.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int) -> None:
        self.clock = Clock(device)
        self.left = torch.ones(size, size, dtype=dtype, device=device)
        self.right = torch.ones_like(self.left)
        self.multiply_adds = size**3

    def __call__(self) -> float:
        """Multiply."""
        before = torch.get_float32_matmul_precision()
        if self.clock.device.type == "cuda" and torch.backends.cudnn.allow_tf32:
            torch.set_float32_matmul_precision("high")
        try:
            return _seconds(self.clock, lambda: torch.mm(self.left, self.right))
        finally:
            torch.set_float32_matmul_precision(before)


def limits(device: torch.device, dtype: torch.dtype) -> tuple[Copy, MatrixProduct]:
    """A copy and a matrix product just large enough to reach the limits of the device.

    Matrices grow until a product would take a quarter of a second: processors without units for bfloat16 are a
    hundred times slower in it.
    """
    largest = 8192 if device.type == "cuda" else 1024
    size = 128
    while size < largest and MatrixProduct(device, dtype, size)() * 8 < 0.25:
        size *= 2
    return Copy(device, dtype, 1024 if device.type == "cuda" else 256), MatrixProduct(device, dtype, size)


def _seconds(clock: Clock, work: Callable[[], object]) -> float:
    repeats = 10 if clock.device.type == "cuda" else 1
    start = clock.mark()
    for _ in range(repeats):
        work()
    end = clock.mark()
    clock.wait()
    return clock.seconds(start, end) / repeats


def facts(device: torch.device) -> dict[str, str]:
    """What the times of a run depend on besides its settings."""
    return {
        **environment(device),
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "cudnn": str(torch.backends.cudnn.version()) if device.type == "cuda" else "",
        "tf32": str(torch.backends.cudnn.allow_tf32) if device.type == "cuda" else "",
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor())
