# SPDX-License-Identifier: Apache-2.0
"""Bi-stride pooling: graph coarsening by every second breadth-first level.

Coarsening by spatial distance joins nodes that are close but not connected, such as both sides of a
thin wall. Bi-stride pooling uses the edges alone: compute all nodes' breadth-first distances from a
seed; keep the even ones, or the odd ones; connect kept nodes that one or two edges join. Every
dropped node has a kept neighbor, and kept nodes are connected if and only if they were before.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from physicsnemo.models.gnn_layers.graph import Graph
from physicsnemo.models.gnn_layers.messages import aggregate, gather
from physicsnemo.nn.checks import check_at_least

__all__ = ["MultiScale", "bistride_levels"]


class MultiScale(NamedTuple):
    """Multi-scale graphs, as BiStrideMeshGraphNet takes them besides the mesh.

    Parameters
    ----------
    ms_edges
        The graphs, the finest first.
    ms_ids
        For each graph but the last, indices of the nodes that the next one keeps, of shape
        (kept nodes,).
    """

    ms_edges: list[Graph]
    ms_ids: list[Tensor]


def bistride_levels(
    edge_index: Tensor,
    num_nodes: int,
    num_levels: int,
    pos: Tensor | None = None,
    keep: Literal["even", "fewer"] = "even",
) -> MultiScale:
    """Coarsen a graph repeatedly by bi-stride pooling.

    Runs on the device of ``edge_index``, in time proportional to the number of two-edge paths. The
    graphs of a batch are coarsened independently.

    Parameters
    ----------
    edge_index
        Source and target node index of each edge, integers of shape (2, edges). Edges are made
        undirected; duplicates and self-loops are dropped.
    num_nodes
        Number of nodes.
    num_levels
        Number of coarser graphs.
    pos
        Node positions, of shape (nodes, dimensions). With positions, the seed of each connected
        component is its node closest to its center, otherwise its first node.
    keep
        Which nodes of each connected component to keep: ``even`` distances, which keep the seed, as
        the paper describes it; or ``fewer``, the smaller of the even and the odd set, as in the
        authors' code, for smaller graphs.

    Returns
    -------
    ``num_levels + 1`` graphs, the first with the given edges, undirected; and for each but the
    last, indices of the nodes that the next one keeps, in ascending order.

    Raises
    ------
    TypeError
        If ``edge_index`` does not hold integers.
    ValueError
        If a shape does not fit, node indices are out of range, ``num_levels`` is negative, or
        ``keep`` has another value.

    References
    ----------
    Cao et al. 2023, Efficient learning of mesh-based physical simulation with bi-stride
    multi-scale graph neural network, arXiv:2210.02573, section 3.1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.meshgraphnet import bistride_levels
    >>> chain = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    >>> ms_edges, ms_ids = bistride_levels(chain, num_nodes=6, num_levels=2)
    >>> ms_ids
    [tensor([0, 2, 4]), tensor([0, 2])]
    >>> ms_edges[1].edge_index
    tensor([[0, 1, 1, 2],
            [1, 0, 2, 1]])
    """
    check_at_least(0, num_levels=num_levels)
    if keep not in ("even", "fewer"):
        raise ValueError(f"expected keep to be 'even' or 'fewer', got {keep!r}")
    graph = _undirected(Graph(edge_index, num_nodes, pos=pos))
    levels = MultiScale([graph], [])
    for _ in range(num_levels):
        ids, graph = _coarsen(graph, fewer=keep == "fewer")
        levels.ms_ids.append(ids)
        levels.ms_edges.append(graph)
    return levels


def _undirected(graph: Graph) -> Graph:
    """Return the graph with each edge in both directions, without duplicates and self-loops."""
    edges = graph.edge_index.long()
    edges = torch.cat((edges, edges.flip(0)), dim=1)
    edges = edges[:, edges[0] != edges[1]]
    return Graph(_distinct(edges, graph.num_nodes), graph.num_nodes, pos=graph.pos)


def _coarsen(graph: Graph, fewer: bool) -> tuple[Tensor, Graph]:
    """Return the nodes to keep, and their graph."""
    component = _connected_components(graph)
    kept = _bfs_distances(graph, _seeds(graph, component)) % 2 == 0
    if fewer:
        kept = kept ^ _fewer_odd(kept, component)
    ids = kept.nonzero().squeeze(1)
    number = kept.cumsum(0) - 1
    edges = number[_within_two_hops(graph, kept)]
    return ids, Graph(edges, ids.shape[0], pos=None if graph.pos is None else graph.pos[ids])


def _fewer_odd(even: Tensor, component: Tensor) -> Tensor:
    """Return the nodes of components that have fewer odd nodes than even ones, but not none."""
    counts = [
        torch.zeros_like(component).index_add(0, component, nodes.long())[component]
        for nodes in (even, ~even)
    ]
    return (counts[1] < counts[0]) & (counts[1] > 0)


def _within_two_hops(graph: Graph, kept: Tensor) -> Tensor:
    """Return the pairs of different kept nodes that are one or two edges apart."""
    start, middle = graph.edge_index[:, kept[graph.edge_index[0]]]
    path, end = _neighbors(graph, middle)
    pairs = torch.stack((torch.cat((start, start[path])), torch.cat((middle, end))))
    return _distinct(pairs[:, kept[pairs[1]] & (pairs[0] != pairs[1])], graph.num_nodes)


def _bfs_distances(graph: Graph, seeds: Tensor) -> Tensor:
    """Return each node's distance, in edges, from the seed of its component."""
    distance = torch.full((graph.num_nodes,), -1, device=graph.device)
    frontier, step = seeds, 0
    while frontier.numel():
        distance[frontier] = step
        reached = _neighbors(graph, frontier)[1]
        frontier, step = reached[distance[reached] < 0].unique(), step + 1
    return distance


def _seeds(graph: Graph, component: Tensor) -> Tensor:
    """Return one node of each connected component."""
    nodes = torch.arange(graph.num_nodes, device=graph.device)
    if graph.pos is None:
        return nodes[component == nodes]
    members = Graph(torch.stack((nodes, component)), graph.num_nodes).target
    pos = graph.pos.double()
    center = gather(aggregate(pos, members, "mean"), members)
    # Two stable sorts, by distance and then by component: the first of each is the closest.
    nearest_first = (pos - center).square().sum(1).argsort(stable=True)
    by_component = nearest_first[component[nearest_first].argsort(stable=True)]
    first = members.indptr[:-1]
    return by_component[first[members.degrees > 0]]


def _connected_components(graph: Graph) -> Tensor:
    """Return the first node of the connected component that each node belongs to."""
    source, target = graph.edge_index
    component = torch.arange(graph.num_nodes, device=graph.device)
    while True:
        # Each component joins the smallest adjacent one; path compression then follows whole
        # chains of joins at once, where labels spread edge by edge take as long as a mesh is wide.
        joined = component.scatter_reduce(0, component[target], component[source], reduce="amin")
        while not torch.equal(joined, joined[joined]):
            joined = joined[joined]
        if torch.equal(joined, component):
            return component
        component = joined


def _neighbors(graph: Graph, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the neighbors of all given nodes, preceded by the position of each one's node."""
    counts = graph.source.degrees[nodes]
    before = counts.cumsum(0) - counts
    each = torch.arange(nodes.shape[0], device=nodes.device).repeat_interleave(counts)
    place = torch.arange(each.shape[0], device=nodes.device) - before[each]
    edges = graph.source.perm[graph.source.indptr[nodes][each] + place]
    return each, graph.edge_index[1, edges]


def _distinct(edges: Tensor, num_nodes: int) -> Tensor:
    """Return the edges sorted and without duplicates."""
    keys = (edges[0] * num_nodes + edges[1]).unique()
    return torch.stack((keys // num_nodes, keys % num_nodes))
