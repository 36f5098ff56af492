"""Peak memory of a run."""

import resource
import sys

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak; on the CPU the operating system keeps one for the whole process, which cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """CUDA: the most the allocator held since the reset. CPU: the process's largest resident size so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
