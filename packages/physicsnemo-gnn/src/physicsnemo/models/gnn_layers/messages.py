# SPDX-License-Identifier: Apache-2.0
"""Features of nodes to their edges, and of edges to their nodes.

The two are transposes of each other, so each is the other's gradient; both are linear, so each is
its own derivative in forward mode. Both read and none adds into
memory that others add into: results are the same bit by bit each time, on GPUs too.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from physicsnemo.models.gnn_layers.graph import Incidence

__all__ = ["AGGREGATIONS", "aggregate", "gather"]

AGGREGATIONS = ("sum", "mean")
"""How the features of a node's edges become one: names for :func:`aggregate`."""


def gather(x: Tensor, ends: Incidence) -> Tensor:
    """Give each edge the features of its node.

    Parameters
    ----------
    x
        Features of shape (nodes, ...).
    ends
        Either end of the edges, ``graph.source`` or ``graph.target``.

    Returns
    -------
    Features of shape (edges, ...).

    Raises
    ------
    ValueError
        If there are features for another number of nodes.

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
    """Give each node the sum or the mean of the features of its edges, zero if it has none.

    Parameters
    ----------
    x
        Features of shape (edges, ...).
    ends
        Either end of the edges, ``graph.source`` or ``graph.target``.
    aggregation
        ``sum`` or ``mean``.

    Returns
    -------
    Features of shape (nodes, ...).

    Raises
    ------
    ValueError
        If there are features for another number of edges, or no such aggregation.

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
    if aggregation == "sum":
        return total
    degrees = ends.degrees.clamp(min=1)
    return total / degrees.view(ends.num_nodes, *[1] * (x.ndim - 1))


def check_aggregation(aggregation: str) -> None:
    """Raise a ``ValueError`` unless there is an aggregation of that name."""
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"expected aggregation 'sum' or 'mean', got {aggregation!r}")


class _Gather(torch.autograd.Function):
    """Rows of nodes to edges; its gradient is a sum."""

    @staticmethod
    def forward(x: Tensor, node: Tensor, order: Tensor, starts: Tensor) -> Tensor:
        return x.index_select(0, node)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _sum(gradient, *ctx.saved_tensors), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *ends: Tensor) -> tuple[Tensor, int]:
        return _gather(_batched(x, in_dims), *ends), -1


class _Sum(torch.autograd.Function):
    """Rows of edges to nodes, added in the order of the edges; its gradient is a gather."""

    @staticmethod
    def forward(x: Tensor, node: Tensor, order: Tensor, starts: Tensor) -> Tensor:
        rows = (x.flatten(1) if x.ndim > 1 else x[:, None]).detach()
        # It adds the rows of each bag one by one, in float32 if they are of half precision.
        total = functional.embedding_bag(order, rows, starts, mode="sum", include_last_offset=True)
        return total.view(starts.shape[0] - 1, *x.shape[1:])

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
    """The same with a derivative in forward mode, with which nothing can be compiled."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
        return _gather(tangent, *ctx.saved_tensors)


class _SumForward(_Sum):
    """The same with a derivative in forward mode."""

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
    """Return features with the axis of ``vmap`` behind all others, where it is one of features."""
    if in_dims[0] is None or any(dim is not None for dim in in_dims[1:]):
        raise ValueError(
            "expected vmap over features, got one over graphs; join graphs by Graph.join instead"
        )
    return x.movedim(in_dims[0], -1)
