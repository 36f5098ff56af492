"""The boundary-matching layer with the convolution that follows it (BMN, arXiv:1907.09702, section 4.2).

Axes: N videos, C channels, T steps, D durations, S samples of a proposal, O output channels. The cell (d, s) of a map
stands for the proposal [s, s + d + 1], in steps. The layer samples the features of each proposal, and a convolution
mixes the channels and samples of a cell. Both are linear, so they are swapped: the features are projected first, once
for each sample, and a sparse matrix then sums what a cell takes from the projections. The samples of all cells,
N * C * S * D * T numbers, are never made, and cells that end after the last step cost nothing.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from tadaconv.nn.precision import without_autocast
from tadaconv.nn.tracing import is_traced


class SparseMatrix(NamedTuple):
    """A matrix by rows: the entries of row r are those from ``offsets[r]`` to ``offsets[r + 1]``."""

    columns: Tensor
    offsets: Tensor
    weights: Tensor

    def times(self, dense_NKO: Tensor) -> Tensor:
        """The products with N matrices, (N, R, O).

        Each number is summed by one thread in the order of the entries, so repetitions give the same bits on a GPU too.
        """
        weights = self.weights.to(dense_NKO.dtype)
        products = [
            F.embedding_bag(
                self.columns, dense_KO, self.offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
            )
            for dense_KO in dense_NKO
        ]
        return torch.stack(products)


def _by_rows(rows: Tensor, columns: Tensor, weights: Tensor, num_rows: int) -> SparseMatrix:
    order = rows.argsort(stable=True)
    offsets = F.pad(rows.bincount(minlength=num_rows).cumsum(0), (1, 0))
    return SparseMatrix(columns[order].int(), offsets.int(), weights[order])


@lru_cache(maxsize=4)
def sampling_matrix(
    num_steps: int, max_duration: int, num_samples: int, points_per_sample: int, ratio: float
) -> tuple[SparseMatrix, SparseMatrix]:
    """The matrix from projected features to cells, and its transpose, in float64.

    The proposal of cell (d, s) is extended on both sides by ``ratio`` of its length, to positions from
    s - ratio (d + 1) to s + d + ratio (d + 1), where feature i is at i. Equally spaced points lie on it, its ends among
    them, and a sample is the mean of neighbouring points. A point between two features interpolates linearly. As in
    the authors' code, the edges differ: between -1 and 0 the first feature is taken, between T - 1 and T the last one
    fades to zero. Farther out is zero.

    Args:
        num_steps: T.
        max_duration: D, the longest proposal in steps.
        num_samples: S, of each proposal.
        points_per_sample: how many points a sample is the mean of.
        ratio: by how much of its length a proposal is extended on each side.

    Returns:
        The matrix, (D * T, T * S): row d * T + s is a cell, empty where s + d >= T; column t * S + i is what is
        projected of feature t for sample i. Then its transpose.
    """
    with torch.device("cpu"):  # whatever the device of the layer that is built, which may have shapes alone
        return _sampling_matrix(num_steps, max_duration, num_samples, points_per_sample, ratio)


def _sampling_matrix(
    num_steps: int, max_duration: int, num_samples: int, points_per_sample: int, ratio: float
) -> tuple[SparseMatrix, SparseMatrix]:
    d, s = torch.meshgrid(torch.arange(max_duration), torch.arange(num_steps), indexing="ij")
    cells = torch.nonzero((s + d).flatten() < num_steps)  # (V, 1)
    d, s = d.flatten()[cells].double(), s.flatten()[cells].double()
    first, last = s - (d + 1) * ratio, s + d + (d + 1) * ratio
    points = torch.arange(num_samples * points_per_sample)
    positions = first + (last - first) / (len(points) - 1.0) * points
    positions[(positions > -1) & (positions < 0)] = 0
    before = positions.floor()
    after_weights = positions - before
    frames = torch.stack([before.long(), before.long() + 1])
    weights = torch.stack([1 - after_weights, after_weights]) / points_per_sample
    taken = (frames >= 0) & (frames < num_steps) & (weights > 0)
    num_columns = num_steps * num_samples
    keys = cells * num_columns + frames * num_samples + points // points_per_sample
    entries, places = keys[taken].unique(return_inverse=True)
    summed = torch.zeros(len(entries), dtype=torch.float64).index_add_(0, places, weights[taken])
    rows, columns = entries // num_columns, entries % num_columns
    return (
        _by_rows(rows, columns, summed, max_duration * num_steps),
        _by_rows(columns, rows, summed, num_columns),
    )


class _Product(Function):
    """A sparse matrix times dense ones; its gradient is a product with the transpose, which has gradients as well."""

    @staticmethod
    def forward(ctx: Any, dense_NKO: Tensor, matrix: SparseMatrix, transpose: SparseMatrix) -> Tensor:
        ctx.matrices = transpose, matrix
        return matrix.times(dense_NKO)

    @staticmethod
    def backward(ctx: Any, g_NRO: Tensor) -> tuple[Tensor, None, None]:
        return _product(g_NRO.contiguous(), *ctx.matrices), None, None


def _product(dense_NKO: Tensor, matrix: SparseMatrix, transpose: SparseMatrix) -> Tensor:
    if is_traced():
        return matrix.times(dense_NKO)
    return cast(Tensor, _Product.apply(dense_NKO, matrix, transpose))  # type: ignore[no-untyped-call]


class BoundaryMatching(nn.Module):
    """Samples the features of all proposals, and mixes channels and samples by a convolution.

    A cell that ends after the last step has no samples, so its output is the bias. Takes T * C * S * O multiply-adds a
    video for the projection, and O for each entry of :func:`sampling_matrix`.

    Args:
        in_channels: C.
        out_channels: O.
        num_steps: T.
        max_duration: D, the longest proposal in steps, from 1 to T.
        num_samples: S, of each proposal.
        points_per_sample: how many points a sample is the mean of; a proposal has 2 points at least.
        ratio: by how much of its length a proposal is extended on each side.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_steps: int,
        max_duration: int,
        num_samples: int = 32,
        points_per_sample: int = 3,
        ratio: float = 0.5,
    ) -> None:
        super().__init__()
        if not 1 <= max_duration <= num_steps:
            raise ValueError(f"the longest proposal must have from 1 to {num_steps} steps, got {max_duration}")
        if num_samples * points_per_sample < 2:
            raise ValueError(f"a proposal needs 2 points at least, got {num_samples} x {points_per_sample}")
        self.max_duration, self.num_steps = max_duration, num_steps
        bound = 1 / math.sqrt(in_channels * num_samples)  # as a convolution's
        self.weight = nn.Parameter(torch.empty(in_channels, num_samples, out_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))
        matrices = sampling_matrix(num_steps, max_duration, num_samples, points_per_sample, ratio)
        for name, matrix in zip(("matrix", "transpose"), matrices, strict=True):
            for field, tensor in matrix._asdict().items():
                self.register_buffer(f"{name}_{field}", tensor.to(self.bias.device), persistent=False)

    def _buffers_of(self, name: str) -> SparseMatrix:
        return SparseMatrix(*(self.get_buffer(f"{name}_{field}") for field in SparseMatrix._fields))

    def forward(self, x_NCT: Tensor) -> Tensor:
        """The map of all proposals, (N, O, D, T); sums are in float32 at least.

        Raises:
            ValueError: the features are not of T steps.
        """
        if x_NCT.shape[2] != self.num_steps:
            raise ValueError(f"features must be (N, C, {self.num_steps}), got {tuple(x_NCT.shape)}")
        projected_NTX = torch.matmul(x_NCT.transpose(1, 2), self.weight.flatten(1))  # X is S * O
        with without_autocast(x_NCT.device.type):
            fine_NTX = projected_NTX.to(torch.promote_types(projected_NTX.dtype, torch.float32))
            fine_NKO = fine_NTX.unflatten(2, (-1, len(self.bias))).flatten(1, 2)
            matrices = self._buffers_of("matrix"), self._buffers_of("transpose")
            sums_NRO = _product(fine_NKO, *matrices)
            y_NDTO: Tensor = sums_NRO.unflatten(1, (self.max_duration, -1)) + self.bias.to(sums_NRO.dtype)
            return y_NDTO.permute(0, 3, 1, 2).to(projected_NTX.dtype)
