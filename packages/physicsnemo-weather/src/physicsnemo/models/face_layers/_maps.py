# SPDX-License-Identifier: Apache-2.0
"""Linear maps of cells, as tables on each device: made when first needed, and kept."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from physicsnemo.nn.tracing import assume_constant_result

__all__ = ["Map", "Sources", "map_and_transpose"]

Sources = Callable[[int, int], NDArray[np.int64]]
"""The cells, of shape (padded cells, k), whose mean each padded cell is, by size and padding."""

Map = tuple[Tensor, ...]
"""Which row each row copies; then which rows are sums instead, of which rows, by which weights."""

_KEPT = 128  # more than the grids of a few models on a few devices

_Request = tuple[Sources, int, int, torch.device]


def map_and_transpose(x: Tensor, size: int, padding: int, sources: Sources) -> tuple[Map, Map]:
    """Return the map that pads faces, and its transpose, where a tensor is."""
    if type(x) is not Tensor:  # no numbers but a symbol, for which tables are symbols too
        return _make(sources, size, padding, x.device)
    maps: tuple[Map, Map] = _keep(sources, size, padding, x.device)
    return maps


@assume_constant_result
def _keep(*request: *_Request) -> tuple[Map, Map]:
    with torch.inference_mode(False):  # so that training can use what inference made
        maps = _made(*request)
    if request[-1].type == "cuda" and torch.cuda.is_current_stream_capturing():
        # A CUDA graph reads the tables where they are now, for as long as it lives.
        _captured[request] = maps
    if torch.compiler.is_exporting():  # to a program, whose parameters are those of a module
        there, back = maps
        return tuple(table.detach() for table in there), tuple(table.detach() for table in back)
    return maps


def _make(sources: Sources, size: int, padding: int, device: torch.device) -> tuple[Map, Map]:
    cells = sources(size, padding)
    count, terms = cells.shape
    # Sorted by row; the mean of a cell and itself is a copy.
    pairs, uses = np.unique(np.arange(count)[:, None] * count + cells, return_counts=True)
    rows, columns = np.divmod(pairs, count)
    weights = (uses / terms).astype(np.float32)
    order = np.argsort(columns, kind="stable")
    back = columns[order], rows[order], weights[order]
    return _tables(rows, columns, weights, device), _tables(*back, device)


_made = lru_cache(_KEPT)(_make)
_captured: dict[_Request, tuple[Map, Map]] = {}


def _tables(
    rows: NDArray[Any], columns: NDArray[Any], weights: NDArray[Any], device: torch.device
) -> Map:
    counts = np.bincount(rows)
    starts = np.cumsum(counts) - counts
    summed = np.flatnonzero(counts > 1)
    slots = np.arange(counts.max())
    used = slots < counts[summed, None]
    entries = starts[summed, None] + np.where(used, slots, 0)
    tables = columns[starts], summed, columns[entries], np.where(used, weights[entries], 0)
    # Sizes of parameters are numbers to PyTorch's compiler, and not symbols.
    return tuple(
        torch.nn.Parameter(torch.tensor(table, device=device), requires_grad=False)
        for table in tables
    )
