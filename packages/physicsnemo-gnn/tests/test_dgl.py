# SPDX-License-Identifier: Apache-2.0
"""Graphs of DGL are adapted, and kept while they stay the same."""

import gc
import sys
import weakref

import pytest
import torch

from physicsnemo.models.gnn_layers import Graph, as_graph
from physicsnemo.models.meshgraphnet import MeshGraphNet

if sys.version_info >= (3, 12):
    pytest.skip("DGL 1.1 is not built for this Python", allow_module_level=True)

import dgl

NODES = 6
ENDS = torch.tensor([[0, 3, 3, 1, 0, 4], [2, 2, 0, 1, 2, 0]])


@pytest.fixture
def graph():
    return dgl.graph((ENDS[0].clone(), ENDS[1].clone()), num_nodes=NODES)


def test_the_same_edges_in_the_same_order(graph):
    adapted = as_graph(graph)
    assert torch.equal(adapted.edge_index, ENDS)
    assert (adapted.num_nodes, adapted.num_targets, adapted.num_graphs) == (NODES, NODES, 1)
    assert adapted.pos is None


def test_kept_while_nothing_changes(graph):
    assert as_graph(graph) is as_graph(graph)
    assert torch.equal(as_graph(graph.clone()).edge_index, ENDS)


def test_edit_in_place_is_seen(graph):
    before = as_graph(graph)
    graph.add_edges(torch.tensor([5]), torch.tensor([4]))
    after = as_graph(graph)
    assert after.edge_index[:, -1].tolist() == [5, 4]
    graph.remove_edges(torch.tensor([0]))
    assert as_graph(graph).edge_index.shape == before.edge_index.shape
    assert not torch.equal(as_graph(graph).edge_index, before.edge_index)


def test_edit_of_the_tensors_that_it_was_made_from_is_seen():
    source, target = ENDS.clone()
    graph = dgl.graph((source, target), num_nodes=NODES)
    as_graph(graph)
    source[0] = 5
    assert torch.equal(as_graph(graph).edge_index[0], graph.edges(order="eid")[0])
    assert as_graph(graph).edge_index[0, 0] == 5


def test_nodes_that_are_added_are_seen(graph):
    as_graph(graph)
    graph.add_nodes(2)
    assert as_graph(graph).num_nodes == as_graph(graph).target.num_nodes == NODES + 2


def test_not_kept_longer_than_the_graph():
    graph = dgl.graph((ENDS[0], ENDS[1]))
    adapted = weakref.ref(as_graph(graph))
    del graph
    gc.collect()
    assert adapted() is None


def test_positions_are_the_graph_s_own(graph):
    graph.ndata["pos"] = torch.ones(NODES, 2)
    first = as_graph(graph)
    assert first.pos.data_ptr() == graph.ndata["pos"].data_ptr()
    graph.ndata["pos"] = torch.zeros(NODES, 2)
    assert not as_graph(graph).pos.any()
    assert as_graph(graph).target is first.target


def test_batch(graph):
    batch = dgl.batch([graph, dgl.add_nodes(graph, 3)])
    adapted = as_graph(batch)
    assert torch.equal(adapted.edge_index, torch.cat([ENDS, ENDS + NODES], dim=1))
    assert adapted.batch.tolist() == [0] * NODES + [1] * (NODES + 3)
    assert adapted.num_graphs == 2


def test_two_types_of_nodes():
    graph = dgl.heterograph(
        {("grid", "to", "mesh"): (torch.tensor([0, 4]), torch.tensor([1, 0]))},
        num_nodes_dict={"grid": 5, "mesh": 2},
    )
    adapted = as_graph(graph)
    assert adapted.edge_index.tolist() == [[0, 4], [1, 0]]
    assert (adapted.num_nodes, adapted.num_targets) == (5, 2)


def test_several_types_of_edges():
    edges = torch.tensor([0]), torch.tensor([0])
    graph = dgl.heterograph({("a", "one", "b"): edges, ("b", "other", "a"): edges})
    with pytest.raises(ValueError, match="one type of edges, got .*'one'.*'other'"):
        as_graph(graph)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_model_gives_the_same_numbers(graph, dtype):
    model = MeshGraphNet(4, 3, 2, processor_size=2, hidden_dim_processor=8)
    x, e = torch.randn(NODES, 4), torch.randn(ENDS.shape[1], 3)
    graph = graph.int() if dtype == torch.int32 else graph
    assert torch.equal(model(x, e, graph), model(x, e, Graph(ENDS, NODES)))


@pytest.mark.parametrize("has_positions", [False, True])
def test_graph_on_the_cpu_follows_the_model(graph, has_positions):
    if has_positions:
        graph.ndata["pos"] = torch.ones(NODES, 2)
    model = MeshGraphNet(4, 3, 2, processor_size=1).to("meta")
    x, e = torch.empty(NODES, 4, device="meta"), torch.empty(6, 3, device="meta")
    for _ in range(2):
        assert model(x, e, graph).shape == (NODES, 2)


@pytest.mark.parametrize("number", [1, 2])
def test_nodes_follow_the_edges_to_another_device(graph, number):
    graph = dgl.batch([graph] * number)
    graph.ndata["pos"] = torch.ones(number * NODES, 2)
    adapted = as_graph(graph, device=torch.device("meta"))
    assert adapted.edge_index.is_meta
    assert adapted.pos.is_meta
    assert adapted.batch is None if number == 1 else adapted.batch.is_meta
    assert torch.equal(as_graph(graph).pos, graph.ndata["pos"])


def test_batch_is_kept_while_nothing_changes(graph):
    batch = dgl.batch([graph, graph])
    assert as_graph(batch) is as_graph(batch)


def test_newer_python_is_told_what_to_use_instead(graph, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(RuntimeError, match=r"this is 3\.13; pass a .*PyG.*Graph\(edge_index"):
        as_graph(graph)
