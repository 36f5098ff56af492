"""How a cell is run: options of its speed and rounding, which are not part of its key."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from tadaconv.errors import UserError
from tadaconv.spec import Schedule
from tadaconv.text import listed, plural

Precision = Literal["auto", "float32"]
"""What a network computes in: ``auto`` is bfloat16 where the device is a GPU, under autocast, and float32 elsewhere.

``float32`` is that of IEEE 754 everywhere, without the TensorFloat-32 of GPUs.
"""

BFLOAT16, FLOAT32 = "bfloat16", "float32 (IEEE, no TF32)"
"""Names of precisions in environments."""


@dataclass(frozen=True)
class RunOptions:
    """How a worker runs its cells.

    Attributes:
        gpus_per_cell: GPUs that train a cell together; on the CPU as many processes of one thread.
        precision: of convolutions and matrix products.
        compile: by ``torch.compile``.
        fused_kernels: where there are any, in place of PyTorch's operations; see :mod:`tadaconv.nn.fused`.
        deterministic: bit for bit on CUDA too, which is slower.
        threads: CPU threads next to a GPU. A cell on the CPU trains on one: sums depend on their number.
        readers: processes that read clips which are not kept in memory; None for as many as the worker has cores.
    """

    gpus_per_cell: int = 1
    precision: Precision = "auto"
    compile: bool = False
    fused_kernels: bool = False
    deterministic: bool = False
    threads: int = 1
    readers: int | None = None

    def but(self, **changes: Any) -> Self:
        """A copy with other values."""
        return replace(self, **changes)

    def entries(self, on_gpu: bool) -> dict[str, str]:
        """The options as entries of an environment; the CPU has one precision, and so no entry."""
        precision = FLOAT32 if self.precision == "float32" else BFLOAT16
        return {
            **({"gpus_per_cell": str(self.gpus_per_cell)} if self.gpus_per_cell > 1 else {}),
            **({"precision": precision} if on_gpu else {}),
            **({"compiled": "yes"} if self.compile else {}),
            **({"fused_kernels": "yes"} if self.fused_kernels else {}),
        }

    def with_cores(self, cores: int) -> Self:
        """The options of a worker that has ``cores`` of its machine."""
        return self.but(threads=cores, readers=cores if self.readers is None else self.readers)


def require_division(schedule: Schedule, gpus_per_cell: int) -> None:
    """Raise :class:`UserError` unless ``gpus_per_cell`` processes take equally many micro-batches of a batch."""
    number = schedule.num_micro_batches
    if gpus_per_cell < 1:
        raise UserError(f"gpus_per_cell is {gpus_per_cell}; give 1 or more")
    if number % gpus_per_cell:
        divisors = [divisor for divisor in range(1, number + 1) if number % divisor == 0]
        raise UserError(
            f"--gpus-per-cell {gpus_per_cell} does not divide the {plural(number, 'micro-batch', 'micro-batches')} of "
            f"a batch of {schedule.batch_size} clips (the regime's schedule.norm_batch is {schedule.norm_batch}); give "
            f"{listed(divisors, 'or')}, or a recipe with another norm_batch"
        )


def precision_of(environment: Mapping[str, str]) -> str:
    """The precision of the result with this environment; results before the option have no entry."""
    return environment.get("precision") or (BFLOAT16 if environment.get("cuda") else FLOAT32)
