# SPDX-License-Identifier: Apache-2.0
"""Padding of faces that cover a sphere, as one fixed sparse linear map of their cells.

Cells are rows of a tensor of shape (batch, rows, channels). Most rows of the result are copies of
one row, a few are weighted sums; so are those of the transposed map, which is the gradient. Nothing
is added atomically, so results are reproducible bit for bit, on GPUs too.
"""

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from physicsnemo.nn.tracing import assume_constant_result

__all__ = ["Sources", "map_cells", "pad_faces"]

Sources = Callable[[int, int], NDArray[np.int64]]
"""Function of size and padding that returns source cells, of shape (padded cells, k).

Each padded cell is the mean of its k source cells.
"""

Map = tuple[Tensor, ...]
"""Sparse linear map: the source of each row, then the summed rows, their sources and weights."""

_CACHE_SIZE = 128  # more than the grids of a few models on a few devices

_Request = tuple[Sources, int, int, torch.device]


def pad_faces(x: Tensor, padding: int, sources: Sources) -> Tensor:
    """Pad faces by cells of their neighbors.

    Parameters
    ----------
    x
        Faces of shape (batch, faces, size, size, channels).
    padding
        Width of the padding.
    sources
        Source cells of the padded cells, by size and padding. Pass a function of a module, not a
        new one in each call: its results are cached.

    Returns
    -------
    Faces of shape (batch, faces, size + 2 padding, size + 2 padding, channels).
    """
    # Integers, even where PyTorch's compiler would take symbols for them.
    size, padding = operator.index(x.shape[2]), operator.index(padding)
    rows = map_cells(x.flatten(1, 3), size=size, padding=padding, sources=sources)
    padded: Tensor = rows.unflatten(1, (-1, size + 2 * padding, size + 2 * padding))
    return padded


def map_cells(x: Tensor, size: int, padding: int, sources: Sources) -> Tensor:
    """Map cells of shape (batch, cells, channels) to means of their sources, each used somewhere.

    Parameters
    ----------
    x
        The cells.
    size, padding, sources
        As in :func:`pad_faces`.
    """
    forward, transpose = _map_and_transpose(x, sources=sources, size=size, padding=padding)
    return _apply_map(x, *forward, *transpose)


def _apply_map(x: Tensor, *maps: Tensor) -> Tensor:
    # PyTorch's compiler refuses functions with forward-mode differentiation.
    kind = _Map if torch.compiler.is_compiling() else _MapWithTangents
    rows: Tensor = kind.apply(x, *maps)  # type: ignore[no-untyped-call]
    return rows


class _Map(torch.autograd.Function):
    """A sparse linear map of rows, given with its transpose, which is its gradient."""

    @staticmethod
    def forward(  # each by its name, as PyTorch's compiler counts them
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
        if summed.numel():
            parts = x.index_select(1, terms.flatten()).unflatten(1, terms.shape)
            # Weights are in single precision at least, and so is the sum.
            total = (weights[..., None] * parts).sum(2)
            rows = rows.index_copy(1, summed, total.to(x.dtype))
        return rows

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        maps = ctx.saved_tensors  # read once: activation checkpointing frees them then
        forward, transpose = maps[:4], maps[4:]
        return _apply_map(gradient, *transpose, *forward), *(None for _ in maps)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *maps: Tensor) -> tuple[Tensor, int]:
        rows = _apply_map(x.movedim(in_dims[0], 0).flatten(0, 1), *maps)
        return rows.unflatten(0, (info.batch_size, -1)), 0


class _MapWithTangents(_Map):
    """The same with forward-mode differentiation; its derivative is the map itself."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _apply_map(tangent, *ctx.saved_tensors)


def _map_and_transpose(x: Tensor, *, sources: Sources, size: int, padding: int) -> tuple[Map, Map]:
    """Return the map that pads faces, and its transpose, on the device of a tensor."""
    request = (sources, size, padding, x.device)
    if type(x) is not Tensor:  # a symbolic tensor of a trace, whose tables are symbolic too
        return _make(*request)
    maps: tuple[Map, Map] = _cached_maps(*request)
    return maps


@assume_constant_result
def _cached_maps(*request: *_Request) -> tuple[Map, Map]:
    with torch.inference_mode(False):  # so that training can use the tables that inference made
        maps = _cached_make(*request)
    if request[-1].type == "cuda" and torch.cuda.is_current_stream_capturing():
        # A CUDA graph reads the tables at their addresses for as long as it lives, whatever the
        # cache drops.
        _captured[request] = maps
    if torch.compiler.is_exporting():  # to a program, whose parameters are those of a module
        forward, transpose = maps
        return tuple(t.detach() for t in forward), tuple(t.detach() for t in transpose)
    return maps


def _make(sources: Sources, size: int, padding: int, device: torch.device) -> tuple[Map, Map]:
    cells = sources(size, padding)
    count, terms = cells.shape
    # In COO format, sorted by row; the mean of a cell and itself is a copy.
    base = max(count, cells.max() + 1)
    pairs, uses = np.unique(np.arange(count)[:, None] * base + cells, return_counts=True)
    rows, columns = np.divmod(pairs, base)
    weights = (uses / terms).astype(np.float32)
    order = np.argsort(columns, kind="stable")
    forward = _tables(rows, columns, weights, device=device)
    transpose = _tables(columns[order], rows[order], weights[order], device=device)
    return forward, transpose


_cached_make = lru_cache(_CACHE_SIZE)(_make)
_captured: dict[_Request, tuple[Map, Map]] = {}


def _tables(
    rows: NDArray[Any], columns: NDArray[Any], weights: NDArray[Any], *, device: torch.device
) -> Map:
    """Return the tables of a map from its entries in COO format, sorted by row."""
    counts = np.bincount(rows)
    starts = np.cumsum(counts) - counts
    summed = np.flatnonzero(counts > 1)
    slots = np.arange(counts.max())
    used = slots < counts[summed, None]
    entries = starts[summed, None] + np.where(used, slots, 0)
    tables = columns[starts], summed, columns[entries], np.where(used, weights[entries], 0)
    # Parameters, since their sizes are constants to PyTorch's compiler, and not symbols.
    return tuple(
        torch.nn.Parameter(torch.tensor(table, device=device), requires_grad=False)
        for table in tables
    )
