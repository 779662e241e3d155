# SPDX-License-Identifier: Apache-2.0
"""Bi-stride pooling does what its definition says, on meshes and on any other graph."""

import networkx
import pytest
import torch

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.meshgraphnet import bistride_levels

NO_EDGES = torch.empty(2, 0, dtype=torch.long)


def edges_of(graph):
    graph = networkx.convert_node_labels_to_integers(graph)
    return torch.tensor(list(graph.edges), dtype=torch.long).view(-1, 2).T, len(graph)


def random_graph(seed):
    """Return a graph of several parts, some of one node."""
    return edges_of(networkx.gnm_random_graph(60, 62, seed=seed))


GRAPHS = {
    "chain": edges_of(networkx.path_graph(13)),
    "ring": edges_of(networkx.cycle_graph(9)),
    "star": edges_of(networkx.star_graph(6)),
    "tree": edges_of(networkx.balanced_tree(3, 3)),
    "complete": edges_of(networkx.complete_graph(5)),
    "mesh": edges_of(networkx.triangular_lattice_graph(7, 9)),
    "random": random_graph(0),
    "sparser": random_graph(1),
    "isolated": (NO_EDGES, 3),
    "empty": (NO_EDGES, 0),
}
each_graph = pytest.mark.parametrize(("edges", "nodes"), GRAPHS.values(), ids=GRAPHS.keys())


each_choice = pytest.mark.parametrize("keep", ["even", "fewer"])


def as_networkx(graph):
    result = networkx.Graph()
    result.add_nodes_from(range(graph.num_nodes))
    result.add_edges_from(graph.edge_index.T.tolist())
    return result


def positions(nodes):
    return torch.rand(nodes, 2, generator=torch.Generator().manual_seed(0))


def most_central(part, pos):
    part = sorted(part)
    distance = (pos[part] - pos[part].mean(0)).norm(dim=1)
    return part[int(distance.argmin())]


def test_neighbours_that_are_both_kept_stay_neighbours():
    edges, nodes = edges_of(networkx.cycle_graph(5))
    (_, coarse), (ids,) = bistride_levels(edges, nodes, 1)
    assert ids.tolist() == [0, 2, 3]
    assert coarse.edge_index.tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]


@each_graph
@each_choice
@pytest.mark.parametrize("with_pos", [False, True], ids=["first", "central"])
def test_every_second_breadth_first_level_is_kept(edges, nodes, keep, with_pos):
    pos = positions(nodes) if with_pos else None
    (fine, _), (ids,) = bistride_levels(edges, nodes, 1, pos, keep)
    expected = set()
    for part in networkx.connected_components(as_networkx(fine)):
        seed = most_central(part, pos) if with_pos else min(part)
        distances = networkx.single_source_shortest_path_length(as_networkx(fine), seed)
        even, odd = ({n for n, d in distances.items() if d % 2 == rest} for rest in (0, 1))
        expected |= odd if keep == "fewer" and 0 < len(odd) < len(even) else even
    assert ids.tolist() == sorted(expected)


@each_graph
@each_choice
def test_coarse_edges_are_paths_of_one_or_two_edges(edges, nodes, keep):
    (fine, coarse), (ids,) = bistride_levels(edges, nodes, 1, keep=keep)
    adjacency = torch.zeros(nodes, nodes)
    adjacency[fine.edge_index[0], fine.edge_index[1]] = 1
    paths = (adjacency + adjacency @ adjacency)[ids][:, ids].fill_diagonal_(0)
    assert torch.equal(coarse.edge_index, paths.nonzero().T)


@each_graph
def test_the_first_graph_has_the_given_edges_in_both_directions(edges, nodes):
    messy = torch.cat((edges, edges[:, ::2], edges.flip(0), torch.zeros(2, nodes > 0).long()), 1)
    ((graph,), ids) = bistride_levels(messy, nodes, 0)
    assert ids == []
    both = {pair for a, b in edges.T.tolist() for pair in ((a, b), (b, a))}
    assert [tuple(pair) for pair in graph.edge_index.T.tolist()] == sorted(both)


@each_graph
@each_choice
def test_connected_nodes_stay_connected_and_others_do_not_become_so(edges, nodes, keep):
    ms_edges, ms_ids = bistride_levels(edges, nodes, 4, positions(nodes), keep)
    origin = torch.arange(nodes)
    whole = list(networkx.connected_components(as_networkx(ms_edges[0])))
    for graph, ids in zip(ms_edges[1:], ms_ids, strict=True):
        origin = origin[ids]
        parts = networkx.connected_components(as_networkx(graph))
        found = {frozenset(origin[sorted(part)].tolist()) for part in parts}
        kept = set(origin.tolist())
        assert found == {frozenset(part & kept) for part in whole}


@each_graph
@each_choice
def test_each_node_left_out_has_a_kept_neighbour(edges, nodes, keep):
    (fine, _), (ids,) = bistride_levels(edges, nodes, 1, keep=keep)
    kept = torch.zeros(nodes, dtype=torch.bool)
    kept[ids] = True
    beside = torch.zeros(nodes, dtype=torch.bool)
    beside[fine.edge_index[0, kept[fine.edge_index[1]]]] = True
    assert (kept | beside).all()


def test_joined_graphs_are_coarsened_as_each_by_itself():
    graphs = [Graph(edges, nodes, pos=positions(nodes)) for edges, nodes in GRAPHS.values()]
    whole = Graph.join(graphs)
    ms_edges, ms_ids = bistride_levels(whole.edge_index, whole.num_nodes, 3, whole.pos)
    alone = [bistride_levels(one.edge_index, one.num_nodes, 3, one.pos) for one in graphs]
    for level, found in enumerate(ms_edges):
        expected = Graph.join([levels.ms_edges[level] for levels in alone])
        assert torch.equal(found.edge_index, expected.edge_index)
        assert torch.equal(found.pos, expected.pos)
    for level, found in enumerate(ms_ids):
        sizes = [0] + [levels.ms_edges[level].num_nodes for levels in alone]
        starts = torch.tensor(sizes).cumsum(0)[:-1]
        parts = [levels.ms_ids[level] + s for levels, s in zip(alone, starts, strict=True)]
        assert torch.equal(found, torch.cat(parts))


def test_a_mesh_of_half_a_million_edges():
    rows = columns = 400
    number = torch.arange(rows * columns).view(rows, columns)
    pairs = [(number[:-1], number[1:]), (number[:, :-1], number[:, 1:])]
    pairs.append((number[:-1, :-1], number[1:, 1:]))
    edges = torch.cat([torch.stack((a.flatten(), b.flatten())) for a, b in pairs], dim=1)
    ms_edges, ms_ids = bistride_levels(edges, number.numel(), 2)
    # From a corner, the distance is the larger coordinate.
    even = torch.maximum(torch.arange(rows)[:, None], torch.arange(columns)) % 2 == 0
    assert torch.equal(ms_ids[0], even.flatten().nonzero().squeeze(1))
    assert [graph.num_nodes for graph in ms_edges[1:]] == [ids.shape[0] for ids in ms_ids]


def test_errors():
    edges, nodes = GRAPHS["chain"]
    with pytest.raises(ValueError, match="num_levels of at least 0, got -1"):
        bistride_levels(edges, nodes, -1)
    with pytest.raises(ValueError, match="keep to be 'even' or 'fewer', got 'odd'"):
        bistride_levels(edges, nodes, 1, keep="odd")
    with pytest.raises(ValueError, match="from 0 to 11, as there are 12"):
        bistride_levels(edges, nodes - 1, 1)
    with pytest.raises(ValueError, match="expected pos for 13 nodes"):
        bistride_levels(edges, nodes, 1, torch.zeros(12, 2))
    with pytest.raises(TypeError, match="edge_index to hold integers"):
        bistride_levels(edges.float(), nodes, 1)
