# SPDX-License-Identifier: Apache-2.0
"""A directed graph of plain tensors, with its edges sorted by source and by target."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

from physicsnemo.models.gnn_layers.checks import (
    check_batch,
    check_range,
    check_tensors,
    may_change_unseen,
)
from physicsnemo.nn.checks import check_at_least

__all__ = ["Graph", "Incidence"]

# By how much the version of the edges differs from that of the sorted ones, when first asked.
_version_offsets = WeakIdKeyDictionary()
_FORGOTTEN = "forgotten"


class Incidence(NamedTuple):
    """Node indices at one end of all edges, and the edges grouped by node (CSR layout).

    Parameters
    ----------
    node
        Node index of each edge, of shape (edges,).
    perm
        Permutation that sorts the edges by node and is stable, of shape (edges,).
    indptr
        Offsets into ``perm``, of shape (nodes + 1,): the edges of node ``i`` are
        ``perm[indptr[i]:indptr[i + 1]]``.
    """

    node: Tensor
    perm: Tensor
    indptr: Tensor

    @classmethod
    def of(cls, node: Tensor, num_nodes: int) -> Self:
        """Sort edges by node index, integers of shape (edges,) from 0 to below ``num_nodes``."""
        node = node.long()
        # Stable, so that sums run over the edges in the order given, on every device.
        ordered, perm = torch.sort(node, stable=True)
        bounds = torch.arange(num_nodes + 1, device=node.device)
        return cls(node, perm, torch.searchsorted(ordered, bounds))

    @property
    def num_nodes(self) -> int:
        """Number of nodes, including those without edges."""
        return self.indptr.shape[0] - 1

    @property
    def degrees(self) -> Tensor:
        """Number of edges of each node, of shape (nodes,)."""
        return self.indptr.diff()


@dataclass(frozen=True, eq=False)
class Graph:
    """Directed graph, or a batch of graphs as one, made of plain tensors.

    Edges are sorted by source and by target on construction, once for all layers and steps. The
    tensors are not meant to be edited; if ``edge_index`` is nevertheless, the next call of a model
    takes the new edges. This holds for edits by PyTorch operations, which raise the version of the
    tensor, and on the CPU for memory shared with NumPy, whose values are compared at each call. It
    does not hold for edits of ``edge_index.data``, for edits by other libraries on a GPU, or in
    programs made by ``torch.compile`` or ``torch.export``: call :func:`forget_edges` then.

    Parameters
    ----------
    edge_index
        Source and target node index of each edge, integers of shape (2, edges).
    num_nodes
        Number of nodes; of source nodes in a bipartite graph.
    num_targets
        Number of target nodes, by default ``num_nodes``.
    pos
        Node positions, of shape (nodes, dimensions), for the models that need them.
    batch
        Graph index of each node, integers of shape (nodes,) in ascending order, for the models that
        treat the graphs of a batch one by one.
    num_graphs
        Number of graphs in the batch.

    Attributes
    ----------
    source, target
        The edges grouped by source node, and by target node.

    Raises
    ------
    TypeError
        If ``edge_index`` does not hold integers, a tensor is not dense, or a size is not an
        integer.
    ValueError
        If a shape or a device does not fit, or node indices or graph indices are out of range
        (unless :func:`unchecked`).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph
    >>> ring = Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), num_nodes=3)
    >>> ring.target.degrees
    tensor([1, 1, 1])
    """

    edge_index: Tensor
    num_nodes: int
    num_targets: int | None = None
    pos: Tensor | None = None
    batch: Tensor | None = None
    num_graphs: int = 1
    source: Incidence = field(init=False, repr=False)
    target: Incidence = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the edges, and sort them."""
        num_targets = self.num_nodes if self.num_targets is None else self.num_targets
        check_at_least(0, num_nodes=self.num_nodes, num_targets=num_targets)
        check_at_least(0, num_graphs=self.num_graphs)
        check_tensors(self.edge_index, self.num_nodes, {"pos": self.pos, "batch": self.batch})
        check_batch(self.batch, self.num_graphs)
        for name, node, count in zip(
            ("source", "target"), self.edge_index, (self.num_nodes, num_targets), strict=True
        ):
            check_range(node, count, name)
            object.__setattr__(self, name, Incidence.of(node, count))
        object.__setattr__(self, "num_targets", num_targets)
        if not torch.compiler.is_compiling():
            is_current(self)  # remembers the versions of now

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.edge_index.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the graph's tensors."""
        return self.edge_index.device

    def to(self, device: torch.device | str) -> Self:
        """Move the graph to a device; return itself if it is there already."""
        if self.device == torch.device(device):
            return self
        moved: Self = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), self)
        return moved

    def with_nodes(self, pos: Tensor | None, batch: Tensor | None, num_graphs: int) -> Self:
        """Return the same edges, sorted already, with other node data."""
        if self.pos is pos and self.batch is batch and self.num_graphs == num_graphs:
            return self
        check_tensors(self.edge_index, self.num_nodes, {"pos": pos, "batch": batch})
        check_batch(batch, num_graphs)
        twin = copy.copy(self)  # keeps the sorted edges, unlike the constructor
        for name, value in (("pos", pos), ("batch", batch), ("num_graphs", num_graphs)):
            object.__setattr__(twin, name, value)
        return twin

    @staticmethod
    def join(graphs: Sequence["Graph"]) -> "Graph":
        """Batch several graphs into one; concatenate their features in the same order.

        Raises
        ------
        TypeError
            If one is of another library; see
            :func:`~physicsnemo.models.gnn_layers.as_graph`.
        ValueError
            If there are no graphs, or only some have positions.

        Examples
        --------
        >>> import torch
        >>> from physicsnemo.models.gnn_layers import Graph
        >>> pair = Graph(torch.tensor([[0], [1]]), num_nodes=2)
        >>> Graph.join([pair, pair]).edge_index
        tensor([[0, 2],
                [1, 3]])
        """
        return _join(graphs)


def is_current(graph: Graph) -> bool:
    """Tell whether the sorted edges are up to date: none was edited in place since.

    The first call for a graph says yes, unless edges may have changed unseen.
    """
    # The difference of versions, not the version alone: a captured step copies other graphs into
    # the tensors of its own, which raises all their versions alike.
    unseen = may_change_unseen(graph.edge_index) or graph.edge_index.is_inference()
    offset = 0 if unseen else graph.edge_index._version - graph.target.perm._version
    known: int | str = _version_offsets.setdefault(graph, offset)
    if known != offset:
        return False
    if not may_change_unseen(graph.edge_index):
        return True
    # No version tells, so the values do: on the CPU, where comparing them is cheap.
    sides = zip(graph.edge_index, (graph.source, graph.target), strict=True)
    return all(_sorted(*side) for side in sides)


def forget(graph: Graph) -> None:
    """Mark the sorted edges as out of date."""
    _version_offsets[graph] = _FORGOTTEN


def _sorted(node: Tensor, ends: Incidence) -> bool:
    """Tell whether the permutation still sorts these node indices."""
    nodes = torch.arange(ends.num_nodes).repeat_interleave(ends.degrees)
    return torch.equal(node[ends.perm].long(), nodes)


def _join(graphs: Sequence[Graph]) -> Graph:
    if not graphs:
        raise ValueError("expected at least one graph to join, got none")
    for graph in graphs:
        if not isinstance(graph, Graph):
            raise TypeError(
                f"expected each graph to join to be a Graph, got {type(graph).__name__}; convert "
                f"them, as in Graph.join([as_graph(g) for g in graphs])"
            )
    edges, batches, sources, targets, count = [], [], 0, 0, 0
    for graph in graphs:
        shift = torch.tensor([[sources], [targets]])
        edges.append(graph.edge_index + shift.to(graph.device))
        batches.append(batch_of(graph) + count)
        sources, targets = sources + graph.num_nodes, targets + graph.target.num_nodes
        count += graph.num_graphs
    positions = [graph.pos for graph in graphs if graph.pos is not None]
    if positions and len(positions) < len(graphs):
        raise ValueError("expected all graphs to have positions, or none; give each its pos")
    return Graph(
        torch.cat(edges, dim=1),
        num_nodes=sources,
        num_targets=targets,
        pos=torch.cat(positions) if positions else None,
        batch=torch.cat(batches),
        num_graphs=count,
    )


def batch_of(graph: Graph) -> Tensor:
    """Return the graph index of each node, zeros where there is one graph."""
    if graph.batch is not None:
        return graph.batch
    return torch.zeros(graph.num_nodes, dtype=torch.long, device=graph.device)


_TENSORS = ("edge_index", "pos", "batch", "source", "target")
_NUMBERS = ("num_nodes", "num_targets", "num_graphs")


def _flatten(graph: Graph) -> tuple[list[Any], tuple[int, ...]]:
    return [getattr(graph, name) for name in _TENSORS], tuple(
        getattr(graph, name) for name in _NUMBERS
    )


def _flatten_with_keys(graph: Graph) -> tuple[list[tuple[Any, Any]], tuple[int, ...]]:
    tensors, numbers = _flatten(graph)
    keys = [pytree.GetAttrKey(name) for name in _TENSORS]
    return list(zip(keys, tensors, strict=True)), numbers


def _unflatten(tensors: Any, numbers: tuple[int, ...]) -> Graph:
    # Without the constructor: the edges are sorted already, and there may be no values to check.
    graph: Graph = object.__new__(Graph)
    for name, value in zip(_TENSORS + _NUMBERS, (*tensors, *numbers), strict=True):
        object.__setattr__(graph, name, value)
    return graph


pytree.register_pytree_node(
    Graph,
    _flatten,
    _unflatten,
    serialized_type_name="physicsnemo.models.gnn_layers.Graph",
    flatten_with_keys_fn=_flatten_with_keys,
)
