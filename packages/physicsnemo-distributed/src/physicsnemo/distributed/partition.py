# SPDX-License-Identifier: Apache-2.0
"""Graphs divided over ranks: each has some nodes, and all edges that lead to them.

Before messages are computed, a rank receives the features of the other ranks' nodes where its edges
begin, the halo. Sums over the edges of a node need no communication then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        targets its own nodes. Positions are those of both; there is no batch.
    nodes, edges
        Which nodes and which edges of the whole graph these are, in rising order.
    halo
        The nodes that the rank fetches of others.
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
    halo: collectives.Fetch
    counts: tuple[int, ...]
    order: Tensor
    group: dist.ProcessGroup

    def with_halo(self, x: Tensor) -> Tensor:
        """Return features of the own nodes, of shape (nodes, ...), and those of the halo."""
        return torch.cat([x, self.halo(x)])

    def add_halo(self, x: Tensor) -> Tensor:
        """Return sums for the own nodes, of what this rank and others have for them.

        This is the transpose of :meth:`with_halo`: it takes values of the own nodes and of the
        halo, and sends the latter to the ranks that have these nodes.
        """
        send_counts, receive_counts = self.halo.send_counts, self.halo.receive_counts
        own: Tensor
        own, *others = x.split((len(x) - sum(receive_counts), *receive_counts))
        shapes = [(count, *x.shape[1:]) for count in send_counts]
        received = collectives.exchange(others, shapes, self.group)
        # Rank by rank: each names a node once, so that no order of sums is left to the device.
        for nodes, values in zip(self.halo.send.split(send_counts), received, strict=True):
            own = own.index_add(0, nodes, values)
        return own

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


def partition_levels(
    part: Part, graphs: Sequence[Any], ids: Sequence[Tensor]
) -> tuple[list[Part], list[Tensor]]:
    """Return this rank's parts of coarser and coarser graphs.

    A node of a coarser graph is on the rank that has it in the finer one, so that features go from
    level to level without communication.

    Parameters
    ----------
    part
        The rank's part of the mesh.
    graphs
        The graphs, the finest first, which has the nodes of the mesh.
    ids
        For each graph but the last, which nodes the next one keeps.

    Returns
    -------
    The parts, and for each but the last, which of the rank's own nodes the next one keeps.

    Raises
    ------
    ValueError
        If the number of graphs is not one more than that of ids.
    """
    rank = dist.get_rank(part.group)
    ends = torch.tensor(part.counts, device=part.order.device).cumsum(0)
    owner = torch.searchsorted(ends, part.order, right=True)
    if len(graphs) != len(ids) + 1:
        raise ValueError(f"expected one graph more than ids, got {len(graphs)} and {len(ids)}")
    parts, kept = [part_of(graphs[0], owner, owner, part.group)], []
    for graph, nodes in zip(graphs[1:], ids, strict=True):
        own = owner == rank
        kept.append((own.cumsum(0) - 1)[nodes[own[nodes]]])
        owner = owner[nodes]
        parts.append(part_of(graph, owner, owner, part.group))
    return parts, kept


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
    halo = collectives.fetch(targets[target], source, sources, group)
    own, own_targets = ((side == rank).nonzero()[:, 0] for side in (sources, targets))
    place = torch.empty_like(sources)
    numbered = torch.cat((own, halo.points))
    place[numbered] = torch.arange(len(numbered), device=place.device)
    place_target = torch.empty_like(targets)
    place_target[own_targets] = torch.arange(len(own_targets), device=place.device)
    local = replace(
        graph,
        edge_index=torch.stack((place[source[edges]], place_target[target[edges]])),
        num_nodes=len(numbered),
        num_targets=len(own_targets),
        pos=None if graph.pos is None else graph.pos[numbered],
        batch=None,
    )
    counts = tuple(torch.bincount(targets, minlength=ranks).tolist())
    return Part(
        local,
        own_targets,
        edges,
        halo,
        counts,
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


def _register(kind: type, tensors: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Let instances be moved, copied and recorded as their tensors are."""

    def flatten(part: Any) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(part, name) for name in tensors], tuple(getattr(part, it) for it in others)

    def unflatten(values: Any, context: tuple[Any, ...]) -> Any:
        return kind(**dict(zip((*tensors, *others), (*values, *context), strict=True)))

    pytree.register_pytree_node(kind, flatten, unflatten)


_register(Part, ("graph", "nodes", "edges", "halo", "order"), ("counts", "group"))
_register(collectives.Fetch, ("points", "send"), ("receive_counts", "send_counts", "group"))
