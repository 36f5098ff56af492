"""How a network is computed, by the run options: precision, ``torch.compile`` and fused kernels."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tadaconv.errors import UserError
from tadaconv.nn.taps import HAS_TRITON, fused_kernels, has_fused_kernels
from tadaconv.run_options import Precision, RunOptions

BACKEND = "inductor"
"""The backend of ``torch.compile``."""

MOST_SHAPES = 64
"""The most shapes of batches that a network is compiled for; a cell has about eight at most."""


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager[Any]:
    """The precision of a forward pass: bfloat16 on CUDA, else float32."""
    if precision == "float32" or device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16)


@contextmanager
def without_tf32() -> Generator[None]:
    """A context in which float32 is IEEE 754 on a GPU too, where PyTorch rounds to TensorFloat-32 in convolutions.

    Rows whose operators are convolutions and rows whose are matrix products then differ in the operator alone, and
    numbers of different devices can be compared.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


@contextmanager
def many_compiled(most: int, threads: int | None = None) -> Generator[None]:
    """A context in which ``torch.compile`` keeps code for up to ``most`` shapes and networks instead of for a few.

    Beyond that it raises, where it would continue without compiling; compiled code is discarded at the end.
    ``threads`` compile at a time; None is PyTorch's own choice.
    """
    import torch._dynamo as dynamo
    import torch._inductor.config as inductor

    limits = {"cache_size_limit": most, "fail_on_cache_limit_hit": True}  # names that torch has since 2.6
    dynamo.reset()
    with dynamo.config.patch(limits), inductor.patch({} if threads is None else {"compile_threads": threads}):
        yield
    dynamo.reset()


def compiled(network: nn.Module) -> nn.Module:
    """``network``, whose parameters, buffers and modes it shares, compiled again for every shape of a batch.

    Within :func:`many_compiled`. State dicts are to be taken from ``network`` itself, whose names are plain.
    """
    return cast(nn.Module, torch.compile(network, dynamic=False, backend=BACKEND))


def require_compiler(device: torch.device, instead: str) -> None:
    """Raise :class:`UserError` where ``torch.compile`` has no compiler for ``device``.

    ``instead`` is how to run without one, as ``use --mode eager``.
    """
    on_cuda, include = device.type == "cuda", sysconfig.get_path("include")
    variable, usual = (
        ("CC", ["gcc", "clang"]) if on_cuda else ("CXX", ["clang++" if sys.platform == "darwin" else "g++"])
    )
    compilers = [os.environ[variable]] if variable in os.environ else usual
    missing = ""
    if not any(shutil.which(compiler) for compiler in compilers):
        missing = f"a compiler, and there is no {' or '.join(compilers)!r}; install one, name yours in {variable}"
    elif on_cuda and not HAS_TRITON:
        missing = "Triton, which is not installed; pip install triton"
    elif not (Path(include) / "Python.h").is_file():
        missing = f"the headers of Python, and there is no Python.h in {include}; install them (python3-dev)"
    if missing:
        raise UserError(f"compiled code on {device.type} needs {missing}, or {instead}")


def require(options: RunOptions, device: torch.device) -> None:
    """Raise :class:`UserError` if the options need a compiler or fused kernels that ``device`` does not have."""
    if options.compile:
        require_compiler(device, "omit --compile")
    if options.fused_kernels and not has_fused_kernels(device):
        lacking = "Triton is not installed" if device.type == "cuda" and not HAS_TRITON else f"{device} is not one"
        raise UserError(f"--fused-kernels needs Triton and an NVIDIA GPU since Ampere, and {lacking}; omit the option")


@contextmanager
def computing_as(options: RunOptions, device: torch.device) -> Generator[None]:
    """A context in which operations are computed as in ``options``; forward passes need :func:`autocast` as well.

    Raises :class:`UserError` as :func:`require` does.
    """
    require(options, device)
    with ExitStack() as stack:
        if options.precision == "float32":
            stack.enter_context(without_tf32())
        if options.fused_kernels:
            stack.enter_context(fused_kernels())
        if options.compile:
            stack.enter_context(many_compiled(MOST_SHAPES, options.threads))
        yield
