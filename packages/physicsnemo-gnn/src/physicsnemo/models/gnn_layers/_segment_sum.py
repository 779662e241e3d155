# SPDX-License-Identifier: Apache-2.0
"""The segment sum as a kernel for compiled code; imported only while compiling.

PyTorch's own kernel adds the rows of a node one after the other, and waits for each. This one reads
those of an average node at once.
"""

import torch
import triton
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton import language as tl

_ROWS = 8  # read at once; the average node of a mesh of triangles has six edges
_MOST_COLUMNS = 128


@triton_op("physicsnemo::segment_sum", mutates_args=())
def segment_sum(rows: Tensor, perm: Tensor, indptr: Tensor) -> Tensor:
    """Add up rows by node, in single precision or better.

    Parameters
    ----------
    rows
        Contiguous rows of edges, of shape (edges, columns).
    perm, indptr
        As in :class:`~physicsnemo.models.gnn_layers.Incidence`.

    Returns
    -------
    Rows of nodes, of shape (nodes, columns).
    """
    nodes, columns = indptr.shape[0] - 1, rows.shape[1]
    total = rows.new_empty(nodes, columns)
    block = min(triton.next_power_of_2(columns), _MOST_COLUMNS)
    grid = (nodes, triton.cdiv(columns, block))
    wrap_triton(segment_sum_kernel)[grid](
        rows, perm, indptr, total, columns, ROWS=_ROWS, COLUMNS=block, num_warps=1
    )
    return total


@triton.jit  # type: ignore[untyped-decorator]
def segment_sum_kernel(  # type: ignore[no-untyped-def]
    rows, perm, indptr, total, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Write one node's sum of some columns."""
    node = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    wide = tl.float64 if total.dtype.element_ty == tl.float64 else tl.float32
    result = tl.zeros((COLUMNS,), dtype=wide)
    start, end = tl.load(indptr + node), tl.load(indptr + node + 1)
    for first in range(start, end, ROWS):
        slot = first + tl.arange(0, ROWS)
        edge = tl.load(perm + slot, mask=slot < end, other=0)
        values = tl.load(
            rows + edge[:, None] * columns + column[None, :],
            mask=(slot < end)[:, None] & inside[None, :],
            other=0.0,
        )
        result += tl.sum(values.to(wide), axis=0)
    tl.store(total + node * columns + column, result.to(total.dtype.element_ty), mask=inside)
