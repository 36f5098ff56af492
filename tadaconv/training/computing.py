"""What a network computes in, and by which code: precision, ``torch.compile`` and fused kernels, as run options say."""

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
"""What ``torch.compile`` makes code with."""

MOST_SHAPES = 64
"""Shapes of batches for which a network is compiled before that is an error; a cell has some eight at most."""


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager[Any]:
    """The types that a forward pass computes in: bfloat16 where matrix units have it, on CUDA; else float32."""
    if precision == "float32" or device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16)


@contextmanager
def without_tf32() -> Generator[None]:
    """Within it, float32 is that of IEEE 754 on a GPU too: PyTorch rounds to TensorFloat-32 in convolutions there.

    Rows whose operators are convolutions and rows whose are matrix products then differ in nothing but the operator,
    and a number means the same on every device.
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
    """Within it, ``torch.compile`` keeps a version for up to ``most`` shapes and networks instead of for a few.

    Above that it raises, where it would go on without compiling; and what was compiled is forgotten at the end.
    ``threads`` compile at a time; None is PyTorch's own choice.
    """
    import torch._dynamo as dynamo
    import torch._inductor.config as inductor

    limits: dict[str, Any] = {}
    for limit, fail in (
        ("recompile_limit", "fail_on_recompile_limit_hit"),
        ("cache_size_limit", "fail_on_cache_limit_hit"),
    ):
        if hasattr(dynamo.config, limit) and not limits:
            limits = {limit: most, **({fail: True} if hasattr(dynamo.config, fail) else {})}
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
    """Raise :class:`UserError` where ``torch.compile`` would find no compiler for ``device``.

    ``instead`` is what to call to run without, as ``use --mode eager``.
    """
    if device.type == "cuda":
        variable, usual = "CC", ["gcc", "clang"]
    else:
        variable, usual = "CXX", ["clang++" if sys.platform == "darwin" else "g++"]
    compilers = [os.environ[variable]] if variable in os.environ else usual
    if not any(shutil.which(compiler) for compiler in compilers):
        raise UserError(
            f"compiled code on {device.type} needs a compiler, and there is no {' or '.join(compilers)!r}; "
            f"install one, name yours in {variable}, or {instead}"
        )
    if device.type == "cuda" and not HAS_TRITON:
        raise UserError(f"compiled code on cuda needs Triton, which is not there; pip install triton, or {instead}")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise UserError(
            f"compiled code needs the headers of Python, and there is no Python.h in {sysconfig.get_path('include')}; "
            f"install them (python3-dev), or {instead}"
        )


def require(options: RunOptions, device: torch.device) -> None:
    """Raise :class:`UserError` if ``device`` has no compiler or no fused kernels, and the options ask for them."""
    if options.compile:
        require_compiler(device, "leave --compile out")
    if options.fused_kernels and not has_fused_kernels(device):
        raise UserError(
            "--fused-kernels are for NVIDIA GPUs since Ampere, by Triton, and there are none "
            f"{'without it' if device.type == 'cuda' and not HAS_TRITON else f'for {device}'}; leave the option out"
        )


@contextmanager
def computing_as(options: RunOptions, device: torch.device) -> Generator[None]:
    """Within it, operations are the ones that ``options`` ask for; forward passes need :func:`autocast` as well.

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
