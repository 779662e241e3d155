# SPDX-License-Identifier: Apache-2.0
"""Graphs divided over ranks: each has some nodes, and all edges that lead to them.

Before messages are computed, a rank receives the features of the other ranks' nodes where its edges
begin, the halo. Sums over the edges of a node need no communication then.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.utils import _pytree as pytree

from physicsnemo.distributed import collectives


@dataclass(frozen=True, eq=False)
class Part:
    """A rank's part of a graph; a model that was distributed takes it in place of the graph.

    Attributes
    ----------
    graph
        The rank's edges, numbered within the part: sources are its own nodes and then the halo,
        targets its own nodes.
    nodes, edges
        Which nodes and which edges of the whole graph these are, in rising order.
    send
        The own nodes that other ranks need, by rank.
    send_counts, receive_counts
        How many nodes each rank receives of this one, and this one of each rank.
    counts
        How many nodes each rank has.
    order
        Where the nodes of the whole graph stand if the ranks' nodes are joined.
    group
        The ranks.
    """

    graph: Any
    nodes: Tensor
    edges: Tensor
    send: Tensor
    send_counts: tuple[int, ...]
    receive_counts: tuple[int, ...]
    counts: tuple[int, ...]
    order: Tensor
    group: dist.ProcessGroup

    def with_halo(self, x: Tensor) -> Tensor:
        """Return features of the own nodes, of shape (nodes, ...), and those of the halo."""
        parts = x.index_select(0, self.send).split(self.send_counts)
        shapes = [(count, *x.shape[1:]) for count in self.receive_counts]
        return torch.cat([x, *collectives.exchange(parts, shapes, self.group)])

    def of_nodes(self, x: Tensor) -> Tensor:
        """Return the rank's own of features of all nodes, of shape (nodes, ...)."""
        return x.index_select(0, self.nodes)

    def of_edges(self, x: Tensor) -> Tensor:
        """Return the rank's own of features of all edges, of shape (edges, ...)."""
        return x.index_select(0, self.edges)

    def gather(self, x: Tensor) -> Tensor:
        """Return features of all nodes, in the whole graph's order, of the ranks' own."""
        return collectives.all_gather(x, 0, self.counts, self.group).index_select(0, self.order)


def partition(graph: Any, mesh: DeviceMesh, positions: Tensor | None = None) -> Part:
    """Return this rank's part of a graph that all ranks have whole.

    Nodes are divided by recursive bisection: in halves as equal as the number of ranks allows,
    across the axis along which they spread most.

    Parameters
    ----------
    graph
        A graph of :mod:`physicsnemo.models.gnn_layers`, on the rank's device or on the CPU.
    mesh
        The ranks, of one dimension.
    positions
        Where the nodes are, of shape (nodes, dimensions), by default the graph's ``pos``. The
        closer neighbours lie, the less is communicated.

    Raises
    ------
    ValueError
        If there are no positions, those of another number of nodes, or fewer nodes than ranks.
    """
    positions = graph.pos if positions is None else positions
    group, ranks = mesh.get_group(), mesh.size()
    if positions is None or len(positions) != graph.num_nodes:
        raise ValueError(
            f"expected positions of the graph's {graph.num_nodes} nodes, "
            f"got {None if positions is None else tuple(positions.shape)}"
        )
    if graph.num_nodes < ranks:
        raise ValueError(f"expected at least one node a rank, got {graph.num_nodes} for {ranks}")
    owner = bisect(positions, ranks)
    return part_of(graph, owner, owner, group)


def part_of(graph: Any, sources: Tensor, targets: Tensor, group: dist.ProcessGroup) -> Part:
    """Return this rank's part of a graph whose nodes are divided already.

    Parameters
    ----------
    graph
        The graph.
    sources, targets
        The rank of each source node, and of each target node.
    group
        The ranks.
    """
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    source, target = graph.edge_index
    edges = (targets[target] == rank).nonzero()[:, 0]
    # Which nodes which rank needs of others: pairs of them, sorted by rank and then by node.
    away = sources[source] != targets[target]
    pairs = torch.stack((targets[target[away]], source[away])).unique(dim=1)
    needing, needed = pairs
    sent = (sources[needed] == rank).nonzero()[:, 0]
    come = needed[needing == rank]
    come = come[sources[come].argsort(stable=True)]
    own, own_targets = ((side == rank).nonzero()[:, 0] for side in (sources, targets))
    place = torch.empty_like(sources)
    place[own] = torch.arange(len(own), device=place.device)
    send = place[needed[sent]]
    place[come] = torch.arange(len(own), len(own) + len(come), device=place.device)
    place_target = torch.empty_like(targets)
    place_target[own_targets] = torch.arange(len(own_targets), device=place.device)
    local = replace(
        graph,
        edge_index=torch.stack((place[source[edges]], place_target[target[edges]])),
        num_nodes=len(own) + len(come),
        num_targets=len(own_targets),
        **{it.name: None for it in fields(graph) if it.name in ("pos", "batch")},
    )

    def counted(found: Tensor) -> tuple[int, ...]:
        return tuple(torch.bincount(found, minlength=ranks).tolist())

    return Part(
        local,
        own_targets,
        edges,
        send,
        counted(needing[sent]),
        counted(sources[come]),
        counted(targets),
        targets.argsort(stable=True).argsort(),
        group,
    )


def bisect(positions: Tensor, ranks: int) -> Tensor:
    """Return a rank for each position, by recursive bisection.

    Examples
    --------
    >>> import torch
    >>> bisect(torch.tensor([[0.0, 0.0], [3.0, 0.1], [1.0, 0.2], [2.0, 0.0]]), 2)
    tensor([0, 1, 0, 1])
    """
    owner = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
    pending = [(torch.arange(len(positions), device=positions.device), 0, ranks)]
    while pending:
        nodes, first, count = pending.pop()
        if count == 1:
            owner[nodes] = first
            continue
        points = positions[nodes]
        axis = int((points.amax(dim=0) - points.amin(dim=0)).argmax())
        nodes = nodes[points[:, axis].argsort(stable=True)]
        left = count // 2
        cut = len(nodes) * left // count
        pending += [(nodes[:cut], first, left), (nodes[cut:], first + left, count - left)]
    return owner


_TENSORS = ("graph", "nodes", "edges", "send", "order")
_OTHERS = ("send_counts", "receive_counts", "counts", "group")


def _flatten(part: Part) -> tuple[list[Any], tuple[Any, ...]]:
    return [getattr(part, name) for name in _TENSORS], tuple(getattr(part, it) for it in _OTHERS)


def _unflatten(tensors: Any, others: tuple[Any, ...]) -> Part:
    return Part(**dict(zip((*_TENSORS, *_OTHERS), (*tensors, *others), strict=True)))


# A part is moved, copied and recorded as its tensors are.
pytree.register_pytree_node(Part, _flatten, _unflatten)
