# SPDX-License-Identifier: Apache-2.0
"""Graphs of PyTorch Geometric are adapted without copies, and kept while they stay the same."""

import gc
import weakref

import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData

from physicsnemo.models.gnn_layers import Graph, as_graph, unchecked
from physicsnemo.models.meshgraphnet import MeshGraphNet

NODES, EDGES = 6, 20


@pytest.fixture
def edge_index():
    return torch.randint(0, NODES, (2, EDGES), generator=torch.Generator().manual_seed(0))


def hetero(edge_index, **nodes):
    data = HeteroData()
    for name, value in nodes.items():
        setattr(data["vertex"], name, value)
    data["vertex", "side", "vertex"].edge_index = edge_index
    return data


KINDS = {
    "data": lambda edges: Data(edge_index=edges, num_nodes=NODES),
    "hetero": lambda edges: hetero(edges, num_nodes=NODES),
    "without_count": lambda edges: Data(edge_index=edges),
}


@pytest.fixture(params=KINDS)
def data(request, edge_index):
    return KINDS[request.param](edge_index)


def test_the_same_edges(data, edge_index):
    graph = as_graph(data, NODES)
    assert graph.edge_index is edge_index
    assert (graph.num_nodes, graph.num_targets, graph.num_graphs) == (NODES, NODES, 1)
    assert graph.pos is None
    assert graph.batch is None


def test_kept_while_nothing_changes(data):
    assert as_graph(data, NODES) is as_graph(data, NODES)


def test_edit_in_place_is_seen(data, edge_index):
    before = as_graph(data, NODES)
    edge_index[:, 0] = torch.tensor([2, 5])
    after = as_graph(data, NODES)
    assert after is not before
    assert after.target.node[0] == 5
    assert as_graph(data, NODES) is after


def test_edit_in_place_is_checked(data, edge_index):
    as_graph(data, NODES)
    edge_index[1, 3] = NODES
    with pytest.raises(ValueError, match="target nodes from 0 to 5"):
        as_graph(data, NODES)
    with unchecked():
        assert as_graph(data, NODES).num_edges == EDGES


def test_other_edges_are_seen(edge_index):
    data = Data(edge_index=edge_index, num_nodes=NODES)
    as_graph(data)
    data.edge_index = edge_index.flip(0)
    assert torch.equal(as_graph(data).target.node, edge_index[0])
    data.num_nodes = NODES + 1
    assert as_graph(data).target.num_nodes == NODES + 1


def test_not_kept_longer_than_the_data(data):
    graph, gone = weakref.ref(as_graph(data, NODES)), weakref.ref(data)
    del data
    gc.collect()
    # The fixture keeps the data itself, whose end is shown with one of our own.
    own = KINDS["data"](torch.zeros(2, 1, dtype=torch.long))
    adapted = weakref.ref(as_graph(own))
    assert gone() is not None
    assert graph() is not None
    del own
    gc.collect()
    assert adapted() is None


def test_positions_are_the_data_s_own(edge_index):
    for data in (Data(edge_index=edge_index), hetero(edge_index)):
        nodes = data if isinstance(data, Data) else data["vertex"]
        nodes.pos = torch.ones(NODES, 2)
        graph = as_graph(data)
        assert graph.pos is nodes.pos
        nodes.pos = torch.zeros(NODES, 2)
        assert as_graph(data).pos is nodes.pos
        assert as_graph(data).target is graph.target


def test_batch(edge_index):
    parts = [Data(edge_index=edge_index, num_nodes=NODES), Data(edge_index=edge_index, num_nodes=9)]
    batch = Batch.from_data_list(parts)
    graph = as_graph(batch)
    assert graph.edge_index is batch.edge_index
    assert graph.batch is batch.batch
    assert (graph.num_nodes, graph.num_graphs) == (NODES + 9, 2)
    assert as_graph(batch) is graph


def test_model_gives_the_same_numbers(data):
    model = MeshGraphNet(4, 3, 2, processor_size=2, hidden_dim_processor=8)
    x, e = torch.randn(NODES, 4), torch.randn(EDGES, 3)
    assert torch.equal(model(x, e, data), model(x, e, as_graph(data, NODES)))


def test_compiled_code_wants_the_graph_adapted(edge_index):
    data = Data(edge_index=edge_index, num_nodes=NODES)
    torch.compiler.reset()
    compiled = torch.compile(
        lambda data: as_graph(data).target.degrees, fullgraph=True, backend="eager"
    )
    with pytest.raises(torch._dynamo.exc.Unsupported, match="by as_graph before compiled code"):
        compiled(data)
    assert torch.equal(compiled(as_graph(data)), as_graph(data).target.degrees)


def test_a_list_is_joined_as_the_error_says(edge_index):
    graphs = [Data(edge_index=edge_index, num_nodes=NODES)] * 2
    with pytest.raises(
        TypeError, match=r"as in Graph.join\(\[as_graph\(g\) for g in graphs\]\); pass"
    ):
        as_graph(graphs)
    with pytest.raises(TypeError, match=r"got Data; convert .* Graph.join\(\[as_graph\(g\) for g"):
        Graph.join(graphs)
    joined = Graph.join([as_graph(g) for g in graphs])
    assert as_graph(Batch.from_data_list(graphs)).edge_index.equal(joined.edge_index)


def several_types(edge_index):
    data = hetero(edge_index, num_nodes=NODES)
    data["cell"].num_nodes = 2
    return data


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (several_types, r"nodes of \['vertex', 'cell'\] and edges of .*to_homogeneous"),
        (lambda edge_index: Data(num_nodes=3), r"a Data with edge_index, got one with \['num_no"),
        (
            lambda edge_index: hetero(None, num_nodes=3),
            "a HeteroData .*; set its edge_index to int",
        ),
        (lambda edge_index: Data(edge_index=edge_index, num_nodes=2), "source nodes from 0 to 1"),
    ],
)
def test_errors(edge_index, make, message):
    with pytest.raises(ValueError, match=message):
        as_graph(make(edge_index))
