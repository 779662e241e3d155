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
        **{it.name: None for it in fields(graph) if it.name in ("pos", "batch")},
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
