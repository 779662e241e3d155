# SPDX-License-Identifier: Apache-2.0
"""The segment sum as a kernel for code that is compiled for a GPU.

PyTorch's own kernel adds the rows of a node one after the other, and waits for each of them. This
one reads all of an average node's at once. It is imported only while compiling.
"""

from typing import Any

from torch import Tensor
from torch.library import triton_op, wrap_triton

from physicsnemo.models.gnn_layers._triton import IS_AVAILABLE, tl, triton

__all__ = ["IS_AVAILABLE", "segment_sum"]

_ROWS = 8  # read at once: nodes of a mesh of triangles have six edges on average
_MOST_COLUMNS = 128


@triton_op("physicsnemo::segment_sum", mutates_args=())
def segment_sum(rows: Tensor, perm: Tensor, indptr: Tensor) -> Tensor:
    """Add up rows by node, in single precision or better.

    Parameters
    ----------
    rows
        Rows of edges, of shape (edges, columns).
    perm, indptr
        As in :class:`~physicsnemo.models.gnn_layers.Incidence`.

    Returns
    -------
    Rows of nodes, of shape (nodes, columns).
    """
    rows = rows.contiguous()
    nodes, columns = indptr.shape[0] - 1, rows.shape[1]
    total = rows.new_empty(nodes, columns)
    launch(wrap_triton(segment_sum_kernel), rows, perm, indptr, total)
    return total


def launch(kernel: Any, rows: Tensor, perm: Tensor, indptr: Tensor, total: Tensor) -> None:
    """Launch the kernel with a program for each node and each block of columns."""
    nodes, columns = total.shape[0], int(total.shape[1])  # a program serves one number of columns
    block = min(triton.next_power_of_2(columns), _MOST_COLUMNS)
    grid = (nodes, triton.cdiv(columns, block))
    kernel[grid](rows, perm, indptr, total, columns, at_once=_ROWS, block=block, num_warps=1)


if IS_AVAILABLE:

    @triton.jit  # type: ignore[untyped-decorator]
    def segment_sum_kernel(  # type: ignore[no-untyped-def]
        rows, perm, indptr, total, columns, at_once: tl.constexpr, block: tl.constexpr
    ):
        """Write some columns of a node's sum."""
        node = tl.program_id(0).to(tl.int64)
        column = tl.program_id(1) * block + tl.arange(0, block)
        inside = column < columns
        wide = tl.float64 if total.dtype.element_ty == tl.float64 else tl.float32
        result = tl.zeros((block,), dtype=wide)
        start, end = tl.load(indptr + node), tl.load(indptr + node + 1)
        for first in range(start, end, at_once):
            slot = first + tl.arange(0, at_once)
            edge = tl.load(perm + slot, mask=slot < end, other=0)
            values = tl.load(
                rows + edge[:, None] * columns + column[None, :],
                mask=(slot < end)[:, None] & inside[None, :],
                other=0.0,
            )
            result += tl.sum(values.to(wide), axis=0)
        tl.store(total + node * columns + column, result.to(total.dtype.element_ty), mask=inside)
