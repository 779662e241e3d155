# SPDX-License-Identifier: Apache-2.0
"""Graphs of this package, of plugins, and of nobody."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils import _pytree as pytree

from physicsnemo import hookimpl
from physicsnemo.core import hooks
from physicsnemo.models.gnn_layers import Graph, as_graph
from physicsnemo.models.meshgraphnet import MeshGraphNet

NODES = 5
EDGES = [[0, 1, 4], [2, 2, 0]]


class Mesh:
    """What a plugin adapts."""

    def __init__(self):
        self.edges = torch.tensor(EDGES)


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
