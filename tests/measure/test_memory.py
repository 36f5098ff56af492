"""Peak memory: at least what is held, and never less than before."""

from pathlib import Path

import pytest
import torch

from tadaconv.measure import peak_memory_bytes, reset_peak_memory

CPU = torch.device("cpu")
STATUS = Path("/proc/self/status")


def test_peak_holds_what_was_allocated_and_never_falls() -> None:
    reset_peak_memory(CPU)  # nothing to reset, but it may be asked
    before = peak_memory_bytes(CPU)
    held = torch.ones(25_000_000)
    during = peak_memory_bytes(CPU)
    assert during >= max(before, held.numel() * held.element_size())
    del held
    assert peak_memory_bytes(CPU) >= during


@pytest.mark.skipif(not STATUS.exists(), reason="Linux alone tells the peak a second way")
def test_peak_is_in_bytes() -> None:
    high_water = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    assert peak_memory_bytes(CPU) == pytest.approx(1024 * int(high_water.split()[1]), rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_peak_starts_anew() -> None:
    cuda = torch.device("cuda")
    held = torch.ones(10_000_000, device=cuda)
    assert peak_memory_bytes(cuda) >= 40_000_000
    del held
    reset_peak_memory(cuda)
    assert peak_memory_bytes(cuda) < 40_000_000
