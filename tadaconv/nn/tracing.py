"""Whether operations are being read rather than run."""

import torch


def is_traced() -> bool:
    """Whether a compiler or a tracer reads the operations, which then must be ones that it sees through."""
    if torch.compiler.is_compiling():
        return True
    return bool(torch._C._is_tracing())  # not asked of a compiler, which would not understand the question
