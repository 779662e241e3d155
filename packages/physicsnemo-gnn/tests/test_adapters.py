# SPDX-License-Identifier: Apache-2.0
"""Graphs of this package, of plugins, and of nobody."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from physicsnemo import hookimpl, hooks
from physicsnemo.models.gnn_layers import Graph, as_graph, forget_edges
from physicsnemo.models.meshgraphnet import MeshGraphNet

NODES = 5
EDGES = [[0, 1, 4], [2, 2, 0]]


class Mesh:
    """What a plugin adapts."""

    def __init__(self):
        self.edges = torch.tensor(EDGES)


class Meshed(Mesh):
    """The same of edges that are given."""

    def __init__(self, edges):
        self.edges = edges


class Bare:
    """A graph that nothing can refer to weakly."""

    __slots__ = ("edges",)

    def __init__(self):
        self.edges = torch.tensor(EDGES)


class Adapter:
    """A plugin."""

    @hookimpl
    def adapt_graph(self, graph):
        if isinstance(graph, Mesh | Bare):
            return graph.edges, NODES, NODES
        return ("edges", 1, 1) if graph == "broken" else None


@pytest.fixture
def plugin(monkeypatch):
    hooks.forget_plugins()
    manager = hooks._load_plugins().manager
    manager.register(Adapter(), "a test")
    yield
    hooks.forget_plugins()


def test_own_graph_is_itself():
    graph = Graph(torch.tensor(EDGES), NODES)
    assert as_graph(graph) is graph


@pytest.mark.usefixtures("plugin")
def test_plugin():
    mesh = Mesh()
    graph = as_graph(mesh)
    assert graph.edge_index is mesh.edges
    assert as_graph(mesh) is graph
    mesh.edges[0, 0] = 3
    assert as_graph(mesh).source.node[0] == 3
    mesh.edges = torch.tensor(EDGES)
    assert as_graph(mesh).source.node[0] == 0


@pytest.mark.usefixtures("plugin")
def test_plugin_with_graphs_that_cannot_be_kept():
    assert torch.equal(as_graph(Bare()).edge_index, torch.tensor(EDGES))


@pytest.mark.usefixtures("plugin")
def test_model_on_a_plugin_s_graph():
    model = MeshGraphNet(2, 2, 2, processor_size=1, hidden_dim_processor=4)
    x, e = torch.randn(NODES, 2), torch.randn(3, 2)
    assert torch.equal(model(x, e, Mesh()), model(x, e, Graph(torch.tensor(EDGES), NODES)))


@pytest.mark.usefixtures("plugin")
def test_plugin_that_does_not_return_edges():
    with pytest.raises(TypeError, match="a test: expected .*a tensor of edges, got str"):
        as_graph("broken")


@pytest.mark.parametrize("graph", [None, [1], torch.tensor(EDGES), SimpleNamespace(edges=EDGES)])
def test_no_graph(graph):
    with pytest.raises(TypeError, match=r"expected a graph, got .*; pass a .*Graph\(edge_index"):
        as_graph(graph)


def test_edit_of_own_graph_is_seen():
    edges = torch.tensor(EDGES)
    graph = Graph(edges, NODES, pos=torch.ones(NODES, 2))
    edges[0, 0] = 3
    seen = as_graph(graph)
    assert seen.source.node[0] == 3
    assert seen.pos is graph.pos
    assert as_graph(graph) is seen
    edges[0, 0] = NODES
    with pytest.raises(ValueError, match="source nodes from 0 to 4"):
        as_graph(graph)


def shared_before():
    array = np.array(EDGES)
    return array, torch.from_numpy(array)


def shared_after():
    edges = torch.tensor(EDGES)
    return edges.numpy(), edges


def narrow():
    array = np.array(EDGES, dtype=np.int32)
    return array, torch.from_numpy(array)


@pytest.mark.parametrize("make", [shared_before, shared_after, narrow])
@pytest.mark.parametrize("wrap", [lambda edges: Graph(edges, NODES), lambda edges: Meshed(edges)])
@pytest.mark.usefixtures("plugin")
def test_edit_through_numpy_is_seen(make, wrap):
    torch.manual_seed(0)
    array, edges = make()
    graph = wrap(edges)
    model = MeshGraphNet(2, 2, 2, processor_size=1, hidden_dim_processor=4)
    x, e = torch.randn(NODES, 2), torch.randn(3, 2)
    before = model(x, e, graph)
    assert as_graph(graph) is as_graph(graph)
    array[1, 0] = 3
    after = model(x, e, graph)
    assert not torch.equal(after, before)
    assert torch.equal(after, model(x, e, Graph(torch.tensor(array), NODES)))
    array[1, 0] = NODES
    with pytest.raises(ValueError, match="target nodes from 0 to 4"):
        model(x, e, graph)


def test_edit_through_numpy_after_the_graph_was_made_is_seen():
    graph = Graph(torch.tensor(EDGES), NODES)
    graph.edge_index.numpy()[1, 0] = 3
    assert as_graph(graph).target.degrees.tolist() == [1, 0, 1, 1, 0]


@pytest.mark.usefixtures("plugin")
def test_edges_can_be_forgotten_after_edits_that_nothing_tells():
    mesh = Mesh()
    for graph in (mesh, Graph(torch.tensor(EDGES), NODES)):
        edges = as_graph(graph).edge_index
        for target in (3, 4):
            edges.data[1, 0] = target
            forget_edges(graph)
            assert as_graph(graph).target.degrees[target] == 1
            assert as_graph(graph) is as_graph(graph)
    forget_edges(Bare())


def test_edit_of_tensors_without_versions_is_seen():
    with torch.inference_mode():
        graph = Graph(torch.tensor(EDGES), NODES)
        graph.edge_index[1, 0] = 3
        assert as_graph(graph).target.degrees[3] == 1


def test_graphs_filled_with_others_are_taken_as_they_are():
    one, other = (Graph(torch.tensor(edges), NODES) for edges in (EDGES, [[1, 1, 1], [4, 3, 2]]))
    static = pytree.tree_map_only(torch.Tensor, torch.clone, one)  # as programs are recorded
    as_graph(static)
    for tensor, value in zip(pytree.tree_leaves(static), pytree.tree_leaves(other), strict=True):
        if tensor is not None:
            tensor.copy_(value)
    assert as_graph(static) is static


def test_tensors_without_versions():
    with torch.inference_mode():
        graph = Graph(torch.tensor(EDGES), NODES)
        assert as_graph(graph) is graph
