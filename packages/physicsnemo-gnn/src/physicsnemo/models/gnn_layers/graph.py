# SPDX-License-Identifier: Apache-2.0
"""A graph of plain tensors."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

from physicsnemo.models.gnn_layers._checks import (
    check_batch,
    check_range,
    check_tensors,
    may_change_unseen,
)
from physicsnemo.nn.checks import check_at_least

__all__ = ["Graph", "Incidence"]

_drifts = WeakIdKeyDictionary()
_FORGOTTEN = "forgotten"


class Incidence(NamedTuple):
    """The nodes at one end of all edges, and the edges of each node.

    Parameters
    ----------
    node
        The node of each edge, of shape (edges,).
    order
        The edges sorted by that node, those of one node in the order given, of shape (edges,).
    starts
        Where the edges of each node begin in ``order``, and the end, of shape (nodes + 1,).
    """

    node: Tensor
    order: Tensor
    starts: Tensor

    @classmethod
    def of(cls, node: Tensor, num_nodes: int) -> Self:
        """Sort edges by their node, integers of shape (edges,) from 0 to below ``num_nodes``."""
        node = node.long()
        ordered, order = torch.sort(node, stable=True)
        bounds = torch.arange(num_nodes + 1, device=node.device)
        return cls(node, order, torch.searchsorted(ordered, bounds))

    @property
    def num_nodes(self) -> int:
        """The number of nodes, those without edges included."""
        return self.starts.shape[0] - 1

    @property
    def degrees(self) -> Tensor:
        """The number of edges of each node."""
        return self.starts.diff()


@dataclass(frozen=True, eq=False)
class Graph:
    """A directed graph, or several as one, of plain tensors.

    Edges are sorted by either end when it is made, once for all layers and steps. Its tensors are
    not meant to be edited; where ``edge_index`` is nevertheless, the next call of a model takes
    the new edges. That holds for edits by operations of PyTorch, which count as new versions of the
    tensor, and on the CPU for memory shared with NumPy, whose edges are compared at each call. It
    does not hold for edits of ``edge_index.data``, nor for those by other libraries on a GPU, nor
    in a program made by ``torch.compile`` or ``torch.export``: call :func:`forget_edges` then.

    Parameters
    ----------
    edge_index
        Source and target node of each edge, integers of shape (2, edges).
    num_nodes
        The number of nodes; of source nodes, where sources and targets are of two kinds.
    num_targets
        The number of target nodes, by default ``num_nodes``.
    pos
        Positions of the nodes, of shape (nodes, dimensions), for the models that need them.
    batch
        The graph that each node belongs to, integers of shape (nodes,) in rising order, for the
        models that treat the graphs of a batch one by one.
    num_graphs
        The number of graphs in the batch.

    Attributes
    ----------
    source, target
        The edges by the node where they start, and by the node where they end.

    Raises
    ------
    TypeError
        If ``edge_index`` does not hold integers, something is no dense tensor, or a number is none.
    ValueError
        If it has another shape, holds numbers of nodes that there are not, or ``batch`` those of
        graphs (unless :func:`unchecked`), or a tensor is on another device.

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
            is_current(self)

    @property
    def num_edges(self) -> int:
        """The number of edges."""
        return self.edge_index.shape[1]

    @property
    def device(self) -> torch.device:
        """The device that the graph is on."""
        return self.edge_index.device

    def to(self, device: torch.device | str) -> Self:
        """Return the graph on a device, itself if it is there already."""
        if self.device == torch.device(device):
            return self
        moved: Self = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), self)
        return moved

    def with_nodes(self, pos: Tensor | None, batch: Tensor | None, num_graphs: int) -> Self:
        """Return the same edges with other data of the nodes."""
        if self.pos is pos and self.batch is batch and self.num_graphs == num_graphs:
            return self
        check_tensors(self.edge_index, self.num_nodes, {"pos": pos, "batch": batch})
        check_batch(batch, num_graphs)
        twin = copy.copy(self)  # which takes the sorted edges over, unlike a new one
        for name, value in (("pos", pos), ("batch", batch), ("num_graphs", num_graphs)):
            object.__setattr__(twin, name, value)
        return twin

    @staticmethod
    def join(graphs: Sequence["Graph"]) -> "Graph":
        """Return several graphs as one; concatenate their features in the same order.

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
    """Tell whether the edges are those that were sorted, not edited in place since.

    The first time that it is asked of a graph, they are, unless they may have changed unseen.
    """
    # Not the version alone: a recorded program fills all tensors of a graph with those of others.
    unseen = may_change_unseen(graph.edge_index) or graph.edge_index.is_inference()
    drift = 0 if unseen else graph.edge_index._version - graph.target.order._version
    known: int | str = _drifts.setdefault(graph, drift)
    if known != drift:
        return False
    if not may_change_unseen(graph.edge_index):
        return True
    sides = zip(graph.edge_index, (graph.source, graph.target), strict=True)
    return all(_sorted(*side) for side in sides)


def forget(graph: Graph) -> None:
    """Take the edges for edited."""
    _drifts[graph] = _FORGOTTEN


def _sorted(node: Tensor, ends: Incidence) -> bool:
    """Tell whether these are the nodes that were sorted, which the order gives back."""
    nodes = torch.arange(ends.num_nodes).repeat_interleave(ends.degrees)
    return torch.equal(node[ends.order].long(), nodes)


def _join(graphs: Sequence[Graph]) -> Graph:
    if not graphs:
        raise ValueError("expected at least one graph to join, got none")
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
        sources,
        targets,
        torch.cat(positions) if positions else None,
        torch.cat(batches),
        count,
    )


def batch_of(graph: Graph) -> Tensor:
    """Return the graph that each node belongs to, where there is but one too."""
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
