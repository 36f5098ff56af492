"""Whether operations are traced rather than run."""

import torch


def is_traced() -> bool:
    """Whether a compiler or a tracer records the operations, which then must be ones that it supports."""
    if torch.compiler.is_compiling():
        return True
    return bool(torch._C._is_tracing())  # not called under a compiler, which does not support it
