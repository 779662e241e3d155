# SPDX-License-Identifier: Apache-2.0
"""Gather node features to edges, and aggregate edge features to nodes, deterministically.

The two are transposes of each other, so each is the other's gradient; both are linear, so each is
its own derivative in forward mode. Neither uses atomic additions, whose order varies between runs:
each output row is written once, so results are reproducible bit for bit, on GPUs too.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from physicsnemo.models.gnn_layers.graph import Incidence
from physicsnemo.nn.tracing import is_exporting

__all__ = ["AGGREGATIONS", "aggregate", "gather"]

AGGREGATIONS = ("sum", "mean")
"""Reductions over the edges of a node, by name, for :func:`aggregate`."""


def gather(x: Tensor, ends: Incidence) -> Tensor:
    """Gather node features to the edges.

    Parameters
    ----------
    x
        Node features of shape (nodes, ...).
    ends
        End of the edges to gather from, ``graph.source`` or ``graph.target``.

    Returns
    -------
    Edge features of shape (edges, ...).

    Raises
    ------
    ValueError
        If the number of rows is not the number of nodes.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph, gather
    >>> star = Graph(torch.tensor([[0, 1], [2, 2]]), num_nodes=3)
    >>> gather(torch.tensor([[1.0], [2.0], [3.0]]), star.target)
    tensor([[3.],
            [3.]])
    """
    _check_rows(x, ends.num_nodes, "nodes")
    return _gather(x, *ends)


def aggregate(x: Tensor, ends: Incidence, aggregation: str = "sum") -> Tensor:
    """Aggregate edge features to the nodes: sum or mean over each node's edges, 0 without edges.

    Parameters
    ----------
    x
        Edge features of shape (edges, ...).
    ends
        End of the edges to aggregate to, ``graph.source`` or ``graph.target``.
    aggregation
        ``sum`` or ``mean``.

    Returns
    -------
    Node features of shape (nodes, ...).

    Raises
    ------
    ValueError
        If the number of rows is not the number of edges, or the aggregation is unknown.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph, aggregate
    >>> star = Graph(torch.tensor([[0, 1], [2, 2]]), num_nodes=3)
    >>> aggregate(torch.tensor([[1.0], [2.0]]), star.target, "mean")
    tensor([[0.0000],
            [0.0000],
            [1.5000]])
    """
    check_aggregation(aggregation)
    _check_rows(x, ends.node.shape[0], "edges")
    total = _sum(x, *ends)
    return total if aggregation == "sum" else average(total, ends)


def average(total: Tensor, ends: Incidence) -> Tensor:
    """Return means over each node's edges, given their sums of shape (nodes, ...)."""
    degrees = ends.degrees.clamp(min=1)  # nodes without edges have the sum 0, and so the mean 0
    return total / degrees.view(ends.num_nodes, *[1] * (total.ndim - 1))


def check_aggregation(aggregation: str) -> None:
    """Raise a ``ValueError`` unless the aggregation is known."""
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"expected aggregation 'sum' or 'mean', got {aggregation!r}")


class _Gather(torch.autograd.Function):
    """Rows of nodes to edges; its gradient is a sum."""

    @staticmethod
    def forward(x: Tensor, node: Tensor, perm: Tensor, indptr: Tensor) -> Tensor:
        return x.index_select(0, node)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        # Through `_sum`, whose gradient is a gather: so derivatives of any order are reproducible.
        return _sum(gradient, *ctx.saved_tensors), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *ends: Tensor) -> tuple[Tensor, int]:
        return _gather(_batched(x, in_dims), *ends), -1


class _Sum(torch.autograd.Function):
    """Segment sum: rows of edges to nodes, in the order of the edges; its gradient is a gather."""

    @staticmethod
    def forward(x: Tensor, node: Tensor, perm: Tensor, indptr: Tensor) -> Tensor:
        rows = (x.flatten(1) if x.ndim > 1 else x[:, None]).detach()
        shape = (indptr.shape[0] - 1, *x.shape[1:])
        if torch.compiler.is_compiling() and not is_exporting() and x.is_cuda:
            # Not before: it imports PyTorch's compiler for GPUs.
            from physicsnemo.models.gnn_layers import _segment_sum

            if _segment_sum.IS_AVAILABLE:
                compiled: Tensor = _segment_sum.segment_sum(rows, perm, indptr)
                return compiled.view(shape)
        # A bag per node. Unlike index_add, which adds atomically on GPUs and so in any order, it
        # adds the rows of a bag one after the other, in float32 if they are of half precision.
        total = functional.embedding_bag(perm, rows, indptr, mode="sum", include_last_offset=True)
        return total.view(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _gather(gradient, *ctx.saved_tensors), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *ends: Tensor) -> tuple[Tensor, int]:
        return _sum(_batched(x, in_dims), *ends), -1


class _GatherForward(_Gather):
    """The same with forward-mode differentiation, which the compiler does not support."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
        return _gather(tangent, *ctx.saved_tensors)


class _SumForward(_Sum):
    """The same with forward-mode differentiation."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
        return _sum(tangent, *ctx.saved_tensors)


def _gather(x: Tensor, *ends: Tensor) -> Tensor:
    function = _Gather if torch.compiler.is_compiling() else _GatherForward
    result: Tensor = function.apply(x, *ends)  # type: ignore[no-untyped-call]
    return result


def _sum(x: Tensor, *ends: Tensor) -> Tensor:
    function = _Sum if torch.compiler.is_compiling() else _SumForward
    result: Tensor = function.apply(x, *ends)  # type: ignore[no-untyped-call]
    return result


def _check_rows(x: Tensor, count: int, what: str) -> None:
    if x.shape[0] != count:
        raise ValueError(
            f"expected features of the graph's {count} {what}, got {x.shape[0]} rows, in a tensor "
            f"of shape {tuple(x.shape)}"
        )


def _batched(x: Tensor, in_dims: tuple[int | None, ...]) -> Tensor:
    """Move the axis of ``vmap`` behind all others, so that rows stay the first axis."""
    if in_dims[0] is None or any(dim is not None for dim in in_dims[1:]):
        raise ValueError(
            "expected vmap over features, got one over graphs; join graphs by Graph.join instead"
        )
    return x.movedim(in_dims[0], -1)
