# SPDX-License-Identifier: Apache-2.0
"""Coarser and coarser graphs of a mesh, made by keeping every second breadth-first level.

Coarsening by distance in space joins what lies close but is not connected, such as both sides of a
thin wall. Bi-stride pooling goes by the edges alone: number all nodes by their distance in edges
from a seed; keep the even ones, or the odd ones; connect those that one or two edges join. Every
node left out has a kept neighbour, and two nodes are connected afterwards if, and only if, they
were before.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from physicsnemo.models.gnn_layers.graph import Graph
from physicsnemo.models.gnn_layers.messages import aggregate, gather
from physicsnemo.nn.checks import check_at_least

__all__ = ["MultiScale", "bistride_levels"]


class MultiScale(NamedTuple):
    """The graphs that BiStrideMeshGraphNet takes besides the mesh.

    Parameters
    ----------
    ms_edges
        The graphs, the finest first.
    ms_ids
        The nodes of each graph that make up the next one, of shape (nodes of the next,).
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
    """Coarsen a graph by bi-stride pooling, several times over.

    It runs where ``edge_index`` is, in a time that is proportional to the paths of two edges.
    Graphs that are joined in a batch are coarsened as each would be by itself.

    Parameters
    ----------
    edge_index
        Source and target node of each edge, integers of shape (2, edges). Edges count in both
        directions, once if given twice, and not at all from a node to itself.
    num_nodes
        Number of nodes.
    num_levels
        How many coarser graphs to make.
    pos
        Positions of the nodes, of shape (nodes, dimensions). If given, distances count from the
        node of each connected part that is closest to the part's centre, else from its first node.
    keep
        Which nodes of each connected part to keep: those at an ``even`` distance, so that the node
        from which distances count is kept, as the paper describes it; or the ``fewer`` of those at
        an even and those at an odd distance, as the authors' code does, which makes coarser graphs
        smaller.

    Returns
    -------
    ``num_levels + 1`` graphs, of which the first has the edges given, in both directions; and the
    nodes of each but the last that make up the next, in ascending order.

    Raises
    ------
    TypeError
        If ``edge_index`` does not hold integers.
    ValueError
        If a shape is another than expected, an edge has a node that there is not, ``num_levels`` is
        negative, or ``keep`` is something else.

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
    """Return the edges in both directions, once each, without those from a node to itself."""
    edges = graph.edge_index.long()
    edges = torch.cat((edges, edges.flip(0)), dim=1)
    edges = edges[:, edges[0] != edges[1]]
    return Graph(_distinct(edges, graph.num_nodes), graph.num_nodes, pos=graph.pos)


def _coarsen(graph: Graph, fewer: bool) -> tuple[Tensor, Graph]:
    """Return the nodes to keep, and the graph of these."""
    part = _parts(graph)
    kept = _distances(graph, _seeds(graph, part)) % 2 == 0
    if fewer:
        kept = kept ^ _fewer_odd(kept, part)
    ids = kept.nonzero().squeeze(1)
    number = kept.cumsum(0) - 1
    edges = number[_within_two_hops(graph, kept)]
    return ids, Graph(edges, ids.shape[0], pos=None if graph.pos is None else graph.pos[ids])


def _fewer_odd(even: Tensor, part: Tensor) -> Tensor:
    """Return the nodes of the parts that have fewer odd nodes than even ones, but some."""
    counts = [
        torch.zeros_like(part).index_add(0, part, nodes.long())[part] for nodes in (even, ~even)
    ]
    return (counts[1] < counts[0]) & (counts[1] > 0)


def _within_two_hops(graph: Graph, kept: Tensor) -> Tensor:
    """Return the pairs of different kept nodes that an edge or a path of two edges joins."""
    start, middle = graph.edge_index[:, kept[graph.edge_index[0]]]
    path, end = _neighbours(graph, middle)
    pairs = torch.stack((torch.cat((start, start[path])), torch.cat((middle, end))))
    return _distinct(pairs[:, kept[pairs[1]] & (pairs[0] != pairs[1])], graph.num_nodes)


def _distances(graph: Graph, seeds: Tensor) -> Tensor:
    """Return each node's distance, in edges, from the seed of its part."""
    distance = torch.full((graph.num_nodes,), -1, device=graph.device)
    frontier, step = seeds, 0
    while frontier.numel():
        distance[frontier] = step
        reached = _neighbours(graph, frontier)[1]
        frontier, step = reached[distance[reached] < 0].unique(), step + 1
    return distance


def _seeds(graph: Graph, part: Tensor) -> Tensor:
    """Return one node of each connected part."""
    nodes = torch.arange(graph.num_nodes, device=graph.device)
    if graph.pos is None:
        return nodes[part == nodes]
    members = Graph(torch.stack((nodes, part)), graph.num_nodes).target
    pos = graph.pos.double()
    centre = gather(aggregate(pos, members, "mean"), members)
    nearest_first = (pos - centre).square().sum(1).argsort(stable=True)
    by_part = nearest_first[part[nearest_first].argsort(stable=True)]
    starts = members.starts[:-1]
    return by_part[starts[members.degrees > 0]]


def _parts(graph: Graph) -> Tensor:
    """Return the first node of the connected part that each node belongs to."""
    source, target = graph.edge_index
    part = torch.arange(graph.num_nodes, device=graph.device)
    while True:
        # Parts join the first one next to them, which may have joined another itself.
        joined = part.scatter_reduce(0, part[target], part[source], "amin")
        while not torch.equal(joined, joined[joined]):
            joined = joined[joined]
        if torch.equal(joined, part):
            return part
        part = joined


def _neighbours(graph: Graph, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Return all neighbours of some nodes, and before them which of the nodes each belongs to."""
    counts = graph.source.degrees[nodes]
    before = counts.cumsum(0) - counts
    each = torch.arange(nodes.shape[0], device=nodes.device).repeat_interleave(counts)
    place = torch.arange(each.shape[0], device=nodes.device) - before[each]
    edges = graph.source.order[graph.source.starts[nodes][each] + place]
    return each, graph.edge_index[1, edges]


def _distinct(edges: Tensor, num_nodes: int) -> Tensor:
    """Return the edges in order, once each."""
    keys = (edges[0] * num_nodes + edges[1]).unique()
    return torch.stack((keys // num_nodes, keys % num_nodes))
