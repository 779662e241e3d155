# SPDX-License-Identifier: Apache-2.0
"""What Mesh_Reduced promises: its parts in order, samples apart, any k, any graph, errors."""

import runpy
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch, Data

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.mesh_reduced import Mesh_Reduced, knn_interpolate
from physicsnemo.models.mesh_reduced.mesh_reduced import MetaData

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("cases_multiscale.py")))
MESH = EXAMPLES["triangles"](5, 4)
POS = MESH.pos.double()
PIVOTAL = torch.rand(6, 2, generator=torch.Generator().manual_seed(1)).double()


def build(**arguments):
    torch.manual_seed(0)
    network = EXAMPLES["NETWORK"] | {"output_decode_dim": 2}
    return Mesh_Reduced(**network | arguments).double().eval()


def features(samples=1):
    shapes = (samples * MESH.num_nodes, 4), (samples * MESH.num_edges, 3)
    return tuple(tensor.double() for tensor in EXAMPLES["draw"](*shapes))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_encoding_is_network_normalization_interpolation(k):
    model = build(k=k)
    nodes, edges = features()
    encoded = model.PivotalNorm(model.encoder_processor(nodes, edges, MESH))
    expected = knn_interpolate(encoded, POS, PIVOTAL, k=k).y
    torch.testing.assert_close(model.encode(nodes, edges, MESH, POS, PIVOTAL), expected)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_decoding_is_interpolation_network(k):
    model = build(k=k)
    reduced, edges = torch.randn(6, 3).double(), features()[1]
    spread = knn_interpolate(reduced, PIVOTAL, POS, k=k).y
    expected = model.decoder_processor(spread, edges, MESH)
    torch.testing.assert_close(model.decode(reduced, edges, MESH, POS, PIVOTAL), expected)


def test_k_is_honoured():
    nodes, edges = features()
    results = [build(k=k).encode(nodes, edges, MESH, POS, PIVOTAL) for k in (2, 3, 4)]
    assert torch.equal(build().encode(nodes, edges, MESH, POS, PIVOTAL), results[1])
    assert not torch.allclose(results[0], results[1])
    assert not torch.allclose(results[2], results[1])


@pytest.mark.parametrize("release", ["1.2", "1.3", "2.0", "2.2"])
def test_former_releases_ignore_k(release):
    nodes, edges = features()
    model = build(k=5, numerics=f"reference-{release}")
    expected = build(k=3 if release < "2" else 5).encode(nodes, edges, MESH, POS, PIVOTAL)
    assert torch.equal(model.encode(nodes, edges, MESH, POS, PIVOTAL), expected)


def test_a_file_of_a_former_release_ignores_k_and_stays_so(tmp_path):
    model = build(k=5, numerics="reference-1.2")
    model.save(tmp_path / "model.mdlus")
    loaded = Mesh_Reduced.from_checkpoint(tmp_path / "model.mdlus")
    assert (loaded.k, loaded._args["__args__"]["k"]) == (3, 5)


def test_graphs_of_a_batch_that_are_not_of_one_size():
    nodes, edges = features(samples=2)
    sizes = [MESH.num_nodes + 1, MESH.num_nodes - 1]
    batch = torch.arange(2).repeat_interleave(torch.tensor(sizes))
    graph = Graph(Graph.join([MESH] * 2).edge_index, 2 * MESH.num_nodes, batch=batch, num_graphs=2)
    with pytest.raises(ValueError, match="24 nodes in each graph of the batch, .* got .25, 23."):
        build().encode(nodes, edges, graph, POS, PIVOTAL)


@pytest.mark.parametrize("bad", [None, [1.0], torch.tensor(1.0).double(), POS.to_sparse()])
@pytest.mark.parametrize("place", [0, 3, 4])
def test_inputs_that_are_no_table(bad, place):
    arguments = [*features(), MESH, POS, PIVOTAL]
    arguments[place] = bad
    name = ("x", "", "", "position_mesh", "position_pivotal")[place]
    with pytest.raises((TypeError, ValueError), match=f"expected {name} "):
        build().encode(*arguments)


def test_forward_encodes_and_decodes():
    model, (nodes, edges) = build(), features()
    reduced = model.encode(nodes, edges, MESH, POS, PIVOTAL)
    expected = model.decode(reduced, edges, MESH, POS, PIVOTAL)
    assert torch.equal(model(nodes, edges, MESH, POS, PIVOTAL), expected)


def test_samples_of_a_batch_are_independent():
    model = build()
    nodes, edges = features(samples=3)
    batch = Graph.join([MESH] * 3)
    alone = list(zip(nodes.chunk(3), edges.chunk(3), strict=True))
    reduced = model.encode(nodes, edges, batch, POS, PIVOTAL)
    assert reduced.shape == (18, 3)
    expected = [model.encode(*one, MESH, POS, PIVOTAL) for one in alone]
    torch.testing.assert_close(reduced, torch.cat(expected), rtol=0, atol=1e-12)
    expected = [model(*one, MESH, POS, PIVOTAL) for one in alone]
    torch.testing.assert_close(
        model(nodes, edges, batch, POS, PIVOTAL), torch.cat(expected), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("samples", [1, 2])
def test_graphs_of_pytorch_geometric(samples):
    model, (nodes, edges) = build(), features(samples)
    ours = Graph.join([MESH] * samples)
    theirs = Batch.from_data_list([Data(edge_index=MESH.edge_index, pos=MESH.pos)] * samples)
    expected = model(nodes, edges, ours, POS, PIVOTAL)
    assert torch.equal(model(nodes, edges, theirs, POS, PIVOTAL), expected)


def test_edges_alone_have_the_number_of_nodes_that_there_are_positions():
    model, (nodes, edges) = build(), features()
    bare = Data(edge_index=MESH.edge_index)  # the last node has no edge
    expected = model(nodes, edges, MESH, POS, PIVOTAL)
    assert torch.equal(model(nodes, edges, bare, POS, PIVOTAL), expected)


def test_gradients_are_those_of_finite_differences():
    model, (nodes, edges) = build(hidden_dim_processor=3), features()
    model.train()

    def function(nodes, edges):
        return model(nodes, edges, MESH, POS, PIVOTAL)

    assert torch.autograd.gradcheck(
        function, (nodes.requires_grad_(), edges.requires_grad_()), fast_mode=True
    )


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_each_part_compiles_as_one_graph(method):
    model, (nodes, edges) = build(), features(2)
    batch = Graph.join([MESH] * 2)
    x = nodes if method == "encode" else torch.randn(12, 3).double()
    part = getattr(model, method)
    compiled = torch.compile(part, fullgraph=True, backend="aot_eager")
    inputs = (x, edges, batch, POS, PIVOTAL)
    torch.testing.assert_close(compiled(*inputs), part(*inputs))


def test_bfloat16():
    model, (nodes, edges) = build().float(), features()
    inputs = (nodes.float(), edges.float(), MESH, POS.float(), PIVOTAL.float())
    expected = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(*inputs)
    assert (output - expected).norm() < 0.03 * expected.norm()


def test_errors():
    model, (nodes, edges) = build(), features()
    with pytest.raises(ValueError, match="k of at least 1, got 0"):
        build(k=0)
    with pytest.raises(ValueError, match="aggregation 'sum' or 'mean', got 'max'"):
        build(aggregation="max")
    with pytest.raises(ValueError, match="input_dim_nodes=4"):
        model.encode(nodes[:, :2], edges, MESH, POS, PIVOTAL)
    with pytest.raises(ValueError, match="edges=90"):
        model.encode(nodes, edges[:-1], MESH, POS, PIVOTAL)
    with pytest.raises(
        ValueError, match=r"1 x 23 points.*got 24; give the positions of one sample, first those"
    ):
        model.encode(nodes, edges, MESH, POS[1:], PIVOTAL)
    with pytest.raises(ValueError, match=r"1 x 6 points.*got 12"):
        model.decode(torch.zeros(12, 3).double(), edges, MESH, POS, PIVOTAL)
    with pytest.raises(ValueError, match=r"equally many dimensions, got \(24, 2\) and \(6, 1\)"):
        model.encode(nodes, edges, MESH, POS, PIVOTAL[:, :1])
    with pytest.raises(ValueError, match="input_dim_nodes=3"):
        model.decode(torch.zeros(6, 5).double(), edges, MESH, POS, PIVOTAL)
    with pytest.raises(TypeError, match=r"expected a graph, got builtins\.str"):
        model.encode(nodes, edges, "mesh", POS, PIVOTAL)


def test_flags():
    meta = MetaData()
    assert {flag for flag, value in asdict(meta).items() if value is True} == {
        "amp_gpu",
        "auto_grad",
    }
    assert meta.name == "Mesh_Reduced"
