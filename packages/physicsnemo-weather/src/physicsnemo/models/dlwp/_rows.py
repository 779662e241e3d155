# SPDX-License-Identifier: Apache-2.0
"""Padding of faces that cover a sphere, as one fixed linear map of their cells.

Cells are rows of a tensor of shape (batch, rows, channels). Most rows of the result are copies of
one row, a few are sums; so are those of the transposed map, which takes gradients back. Nothing is
added into memory that others add into: results are the same bit by bit each time, on GPUs too.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

__all__ = ["Sources", "pad_faces"]

Sources = Callable[[int, int], NDArray[np.int64]]
"""The cells, of shape (padded cells, k), whose mean each padded cell is, by size and padding."""


def pad_faces(x: Tensor, padding: int, sources: Sources) -> Tensor:
    """Surround faces by cells of their neighbours.

    Parameters
    ----------
    x
        Values of shape (batch, faces, size, size, channels).
    padding
        Width of the rim.
    sources
        Which cells the rim holds; a function of its module, so that equal ones are the same.

    Returns
    -------
    Values of shape (batch, faces, size + 2 padding, size + 2 padding, channels).
    """
    faces, size = x.shape[1], operator.index(x.shape[2])  # a number, also where it is a symbol
    maps = _maps(sources, size, padding, x.device)
    rows: Tensor = _Map.apply(x.flatten(1, 3), *maps)  # type: ignore[no-untyped-call]
    return rows.unflatten(1, (faces, size + 2 * padding, size + 2 * padding))


class _Map(torch.autograd.Function):
    """A map of rows, given with its transpose, which is its gradient."""

    @staticmethod
    def forward(
        x: Tensor,
        copied: Tensor,
        summed: Tensor,
        terms: Tensor,
        weights: Tensor,
        copied_back: Tensor,
        summed_back: Tensor,
        terms_back: Tensor,
        weights_back: Tensor,
    ) -> Tensor:
        rows = x.index_select(1, copied)
        if summed.shape[0]:
            parts = x.index_select(1, terms.flatten()).unflatten(1, terms.shape)
            # The weights are of single precision at least, and so is the sum.
            total = (weights[..., None] * parts).sum(2)
            rows.index_copy_(1, summed, total.to(x.dtype))
        return rows

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        there, back = ctx.saved_tensors[:4], ctx.saved_tensors[4:]
        return _Map.apply(gradient, *back, *there), *(None for _ in ctx.saved_tensors)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *maps: Tensor) -> tuple[Tensor, int]:
        rows = _Map.apply(x.movedim(in_dims[0], 0).flatten(0, 1), *maps)  # type: ignore[no-untyped-call]
        return rows.unflatten(0, (info.batch_size, -1)), 0


_KEPT: dict[tuple[Sources, int, int, torch.device], tuple[Tensor, ...]] = {}


@torch.compiler.assume_constant_result
def _maps(
    sources: Sources, size: int, padding: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Return the map and its transpose, four tensors each; made once, whoever asks first."""
    key = sources, size, padding, device
    if key not in _KEPT:
        # Ordinary tensors, also where those of the caller are symbols or of inference mode.
        with torch.inference_mode(False), _disable_current_modes():
            _KEPT[key] = tuple(table.to(device) for table in _tables(sources(size, padding)))
    return _KEPT[key]


def _tables(sources: NDArray[np.int64]) -> list[Tensor]:
    from scipy.sparse import csr_array

    count, terms = sources.shape
    weights = np.full(sources.size, 1 / terms, dtype=np.float32)
    starts = np.arange(0, sources.size + 1, terms)
    there = csr_array((weights, sources.ravel(), starts), (count, sources.max() + 1))
    there.sum_duplicates()
    return [torch.from_numpy(table) for matrix in (there, there.T.tocsr()) for table in _split(matrix)]


def _split(matrix: Any) -> tuple[NDArray[Any], ...]:
    """Return which column each row copies, and the rows that are sums, with columns and weights."""
    counts, starts = np.diff(matrix.indptr), matrix.indptr[:-1]
    summed = np.flatnonzero(counts > 1)
    slots = np.arange(counts.max())
    used = slots < counts[summed, None]
    entries = starts[summed, None] + np.where(used, slots, 0)
    columns = matrix.indices.astype(np.int64)
    return columns[starts], summed, columns[entries], np.where(used, matrix.data[entries], 0)
