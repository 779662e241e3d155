# SPDX-License-Identifier: Apache-2.0
"""GraphCast with attention on the mesh: who attends to whom, the layer, the names of weights."""

import numpy as np
import pytest
import torch

from physicsnemo.models.graphcast import GraphCastNet, icosahedral_mesh
from physicsnemo.models.graphcast.graph_cast_processor import TransformerLayer
from physicsnemo.models.graphcast.icosahedral_mesh import (
    mesh_edges,
    mesh_hierarchy,
    mesh_within_hops,
    within_hops,
)

SMALL = {
    "mesh_level": 1,
    "input_res": [7, 11],
    "input_dim_grid_nodes": 3,
    "output_dim_grid_nodes": 2,
    "processor_type": "GraphTransformer",
    "processor_layers": 3,
    "hidden_dim": 8,
}


@pytest.mark.parametrize("hops", [1, 2, 3, 9])
@pytest.mark.parametrize("chunk", [64, 128, 1 << 13])
def test_walks(hops, chunk, monkeypatch):
    monkeypatch.setattr(icosahedral_mesh, "_HOP_CHUNK", chunk)
    edges = mesh_edges(mesh_hierarchy(2)[-1:])
    adjacency = np.zeros((162, 162), int)
    adjacency[tuple(edges)] = 1
    walks = [np.linalg.matrix_power(adjacency, length) for length in range(1, hops + 1)]
    assert np.array_equal(within_hops(edges, 162, hops), sum(walks) > 0)


def test_mesh_within_hops():
    assert mesh_within_hops(1, True, 32) is None
    near, far = mesh_within_hops(2, False, 1), mesh_within_hops(2, True, 1)
    assert near.sum() == 2 * 30 * 4**2
    assert far.sum() == 20 * (4**3 - 1)


@pytest.mark.parametrize("masked", [False, True])
def test_layer_is_that_of_the_paper(masked):
    layer = TransformerLayer(8, 2).double().eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(5, 8).double()
    mask = torch.rand(5, 5) < 0.5 if masked else torch.ones(5, 5, dtype=torch.bool)
    mask |= torch.eye(5, dtype=torch.bool)
    w = layer.state_dict()

    def normalized(x, part):
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{part}.layer_norm_weight"] + w[f"{part}.layer_norm_bias"]

    def linear(x, name):
        return x @ w[f"{name}weight"].T + w[f"{name}bias"]

    y = normalized(x, "self_attention.layernorm_qkv")
    query, key, value = (
        linear(y, f"self_attention.layernorm_qkv.{name}_") for name in ("query", "key", "value")
    )
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[:, head] @ key[:, head].T / 2
        scores = scores.masked_fill(~mask, -torch.inf)
        heads.append(scores.softmax(dim=1) @ value[:, head])
    middle = x + linear(torch.cat(heads, dim=1), "self_attention.proj.")
    y = linear(normalized(middle, "layernorm_mlp"), "layernorm_mlp.fc1_")
    y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
    expected = middle + linear(y, "layernorm_mlp.fc2_")
    torch.testing.assert_close(layer(x, mask if masked else None), expected)


def test_vertices_see_those_within_the_hops_alone():
    model = GraphCastNet(**SMALL | {"multimesh": False, "khop_neighbors": 2}).double().eval()
    x = torch.randn(42, 8).double().requires_grad_()
    layer = model.processor.processor_layers[0]
    (reach,) = torch.autograd.grad(layer(x, model.processor.mask)[7].square().sum(), x)
    assert torch.equal(reach.any(dim=1), model.processor.mask[7])
    assert 1 < model.processor.mask[7].sum() < 42


def test_all_layers_are_on_the_mesh():
    model = GraphCastNet(**SMALL | {"processor_layers": 5})
    assert len(model.processor.processor_layers) == 5
    assert not list(model.processor_encoder.parameters())
    assert not list(model.processor_decoder.parameters())


def test_names_of_weights_and_what_transformer_engine_adds():
    model = GraphCastNet(**SMALL)
    state = model.state_dict()
    prefix = "processor.processor_layers.2."
    assert {name.removeprefix(prefix) for name in state if name.startswith(prefix)} == {
        *(
            f"self_attention.layernorm_qkv.{name}_{kind}"
            for name in ("layer_norm", "query", "key", "value")
            for kind in ("weight", "bias")
        ),
        "self_attention.proj.weight",
        "self_attention.proj.bias",
        *(
            f"layernorm_mlp.{name}_{kind}"
            for name in ("layer_norm", "fc1", "fc2")
            for kind in ("weight", "bias")
        ),
    }
    assert not any("mask" in name for name in state)
    extra = {
        f"{prefix}{name}._extra_state": torch.empty(0)
        for name in ("self_attention.layernorm_qkv", "self_attention.proj", "layernorm_mlp")
    }
    model.load_state_dict(state | extra)


def test_drops_in_training_alone():
    model, x = GraphCastNet(**SMALL), torch.randn(1, 3, 7, 11)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by PyTorch
def test_compiles_in_training():
    model, x = GraphCastNet(**SMALL | {"khop_neighbors": 1}), torch.randn(1, 3, 7, 11)
    torch.compiler.reset()
    model.train()
    assert torch.compile(model, fullgraph=True, backend="eager")(x).shape == (1, 2, 7, 11)
    compiled = torch.compile(model.eval(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
    torch.compiler.reset()
