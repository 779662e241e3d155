# SPDX-License-Identifier: Apache-2.0
"""A graph sorts its edges, refuses what is none, and is moved, copied and joined as one."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from physicsnemo.models.gnn_layers import Graph, as_graph, unchecked

EDGES = torch.tensor([[0, 3, 3, 1, 0], [2, 2, 0, 1, 2]])  # a double edge, a loop, no edge of 4


def same(one: Graph, other: Graph) -> bool:
    leaves, structure = pytree.tree_flatten(one)
    others, same_structure = pytree.tree_flatten(other)
    return structure == same_structure and all(
        a is b or torch.equal(a, b) for a, b in zip(leaves, others, strict=True)
    )


def test_edges_are_sorted_by_either_end_in_the_order_given():
    graph = Graph(EDGES, 5)
    assert graph.target.perm.tolist() == [2, 3, 0, 1, 4]
    assert graph.target.indptr.tolist() == [0, 1, 2, 5, 5, 5]
    assert graph.source.perm.tolist() == [0, 4, 3, 1, 2]
    assert graph.source.degrees.tolist() == [2, 1, 0, 2, 0]
    assert graph.source.node.tolist() == EDGES[0].tolist()
    assert (graph.num_edges, graph.num_nodes, graph.num_targets) == (5, 5, 5)


def test_sources_and_targets_of_two_kinds():
    graph = Graph(torch.tensor([[0, 6], [1, 0]]), 7, 2)
    assert (graph.source.num_nodes, graph.target.num_nodes) == (7, 2)


@pytest.mark.parametrize(("nodes", "edges"), [(0, 0), (1, 0), (3, 0), (1, 4)])
def test_small_graphs(nodes, edges):
    graph = Graph(torch.zeros(2, edges, dtype=torch.long), nodes)
    assert graph.target.degrees.tolist() == ([edges] if nodes == 1 else [0] * nodes)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_other_integers(dtype):
    graph = Graph(EDGES.to(dtype), 5)
    assert graph.edge_index.dtype == dtype
    assert torch.equal(graph.target.perm, Graph(EDGES, 5).target.perm)


@pytest.mark.parametrize(
    ("edge_index", "sizes", "error", "message"),
    [
        (EDGES.float(), (5,), TypeError, r"integers, got torch.float32; .*\.long"),
        (EDGES > 0, (5,), TypeError, "got torch.bool"),
        (
            EDGES.T,
            (5,),
            ValueError,
            r"shape \(2, edges\), got \(5, 2\).*; .* edge_index\.T\.contig",
        ),
        (EDGES.repeat(2, 1), (5,), ValueError, r"\(2, edges\), got \(4, 5\); .* of each edge$"),
        (Graph(EDGES, 5), (5,), TypeError, "got Graph; pass its edge_index"),
        (tuple(EDGES), (5,), TypeError, r"tuple; join .* torch.stack\(edge_index\)$"),
        (EDGES, (5, torch.rand(5, 3)), TypeError, "num_targets to be a whole number, got a Tensor"),
        (EDGES[0], (5,), ValueError, r"got \(5,\)"),
        (EDGES, (3,), ValueError, "source nodes from 0 to 2, as there are 3, .* from 0 to 3"),
        (EDGES - 1, (5,), ValueError, "source nodes from 0 to 4, .* from -1 to 2"),
        (EDGES, (5, 2), ValueError, "target nodes from 0 to 1, as there are 2, .* from 0 to 2"),
        (EDGES, (0,), ValueError, "as there are 0"),
        (EDGES, (-1,), ValueError, "expected num_nodes of at least 0, got -1"),
        (EDGES, (5, -2), ValueError, "expected num_targets of at least 0, got -2"),
        (EDGES, ("5",), TypeError, "expected num_nodes to be a whole number, got '5'"),
        (EDGES, (5.0,), TypeError, "expected num_nodes to be a whole number, got 5.0"),
        (None, (5,), TypeError, "expected edge_index to be a tensor, got NoneType"),
        (EDGES.tolist(), (5,), TypeError, "expected edge_index to be a tensor, got list"),
        (EDGES.numpy(), (5,), TypeError, "expected edge_index to be a tensor, got ndarray"),
        (EDGES.to_sparse(), (5,), TypeError, "expected edge_index to be a dense tensor"),
        (EDGES[0, 0], (5,), ValueError, r"edge_index of shape \(2, edges\), got \(\)"),
    ],
)
def test_no_graph(edge_index, sizes, error, message):
    with pytest.raises(error, match=message):
        Graph(edge_index, *sizes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"pos": torch.zeros(4, 2)}, r"pos for 5 nodes on cpu, got one of shape \(4, 2\) on cpu"),
        ({"batch": torch.zeros(5, device="meta")}, "batch for 5 nodes on cpu, .* on meta"),
        ({"batch": torch.zeros(())}, r"batch for 5 nodes on cpu, got one of shape \(\)"),
        ({"batch": torch.zeros(5)}, "batch to hold integers .*, got torch.float32"),
        ({"batch": torch.tensor([-1, 0, 0, 0, 0])}, "graphs from 0 to 0 .* from -1 to 0"),
        ({"batch": torch.tensor([0, 0, 0, 0, 1])}, "as num_graphs is 1, got numbers from 0 to 1"),
        (
            {"batch": torch.tensor([0, 1, 0, 1, 1]), "num_graphs": 2},
            "from 0 to 1, out of order; sort the nodes",
        ),
        ({"num_graphs": -1}, "num_graphs of at least 0, got -1"),
    ],
)
def test_data_of_other_nodes(data, message):
    with pytest.raises(ValueError, match=message):
        Graph(EDGES, 5, **data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"pos": [[0.0]]}, r"pos to be a tensor, got list; convert it, .*torch.as_tensor\(pos\)$"),
        ({"pos": Graph(EDGES, 5)}, "expected pos to be a tensor, got Graph; pass its pos$"),
        ({"batch": Graph(EDGES, 5)}, "expected batch to be a tensor, got Graph; pass its batch$"),
    ],
)
def test_data_that_are_no_tensors(data, message):
    with pytest.raises(TypeError, match=message):
        Graph(EDGES, 5, **data)


def test_numbers_of_numpy():
    graph = Graph(EDGES, np.int64(5), np.int32(5), num_graphs=np.int8(1))
    assert same(graph, Graph(EDGES, 5))


def test_range_is_not_looked_at_where_switched_off():
    with unchecked():
        assert Graph(EDGES, 2).num_nodes == 2
    with pytest.raises(ValueError, match="as there are 2"):
        Graph(EDGES, 2)


def test_switch_comes_back_after_an_error():
    with pytest.raises(KeyError), unchecked():
        raise KeyError
    with pytest.raises(ValueError, match="as there are 2"):
        Graph(EDGES, 2)


def test_moving_takes_the_sorted_edges_along():
    graph = Graph(EDGES, 5, pos=torch.zeros(5, 2))
    assert graph.to("cpu") is graph
    moved = graph.to("meta")
    assert {leaf.device.type for leaf in pytree.tree_leaves(moved) if leaf is not None} == {"meta"}
    assert (moved.num_nodes, moved.num_targets, moved.num_graphs) == (5, 5, 1)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda graph: pickle.loads(pickle.dumps(graph)),
        lambda graph: pytree.tree_map_only(torch.Tensor, torch.clone, graph),
        lambda graph: graph.with_nodes(graph.pos, None, 1).with_nodes(graph.pos, graph.batch, 2),
    ],
)
def test_copies(copied):
    graph = Graph(EDGES, 5, pos=torch.ones(5, 2), batch=torch.tensor([0, 0, 0, 0, 1]), num_graphs=2)
    twin = copied(graph)
    assert twin is not graph
    assert same(twin, graph)
    assert as_graph(twin) is twin


def test_joined_graphs_are_numbered_on():
    first = Graph(EDGES, 5, pos=torch.zeros(5, 2))
    joined = Graph.join([first, Graph(torch.tensor([[1], [0]]), 2, pos=torch.ones(2, 2)), first])
    assert joined.edge_index[:, 5:].tolist() == [[6, 7, 10, 10, 8, 7], [5, 9, 9, 7, 8, 9]]
    assert joined.batch.tolist() == [0] * 5 + [1] * 2 + [2] * 5
    assert joined.pos[:, 0].tolist() == [0] * 5 + [1] * 2 + [0] * 5
    assert joined.num_graphs == 3
    assert Graph.join([joined, first]).batch.tolist() == joined.batch.tolist() + [3] * 5


def test_joined_graphs_of_two_kinds_of_nodes():
    joined = Graph.join([Graph(torch.tensor([[4], [0]]), 5, 1)] * 2)
    assert joined.edge_index.tolist() == [[4, 9], [0, 1]]
    assert (joined.num_nodes, joined.num_targets) == (10, 2)


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        ([], "at least one graph to join"),
        ([Graph(EDGES, 5), Graph(EDGES, 5, pos=torch.ones(5, 1))], "all graphs to have positions"),
    ],
)
def test_graphs_that_do_not_join(graphs, message):
    with pytest.raises(ValueError, match=message):
        Graph.join(graphs)


def test_graph_made_in_compiled_code():
    def degrees(edge_index):
        return Graph(edge_index, 5).target.degrees

    torch.compiler.reset()
    compiled = torch.compile(degrees, fullgraph=True, backend="aot_eager")
    assert compiled(EDGES).tolist() == degrees(EDGES).tolist()
