# SPDX-License-Identifier: Apache-2.0
"""The layers compute their formulas, without joining features and with little memory."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from physicsnemo.models.gnn_layers import (
    Graph,
    MeshEdgeBlock,
    MeshGraphDecoder,
    MeshGraphEdgeMLPConcat,
    MeshGraphEdgeMLPSum,
    MeshGraphEncoder,
    MeshGraphMLP,
    MeshNodeBlock,
    mesh_graph_mlp,
)

SOURCES, TARGETS, EDGES = 6, 4, 20
SIZES = {"hidden_dim": 8, "hidden_layers": 2, "activation_fn": "tanh"}


@pytest.fixture
def bipartite():
    ends = torch.randint(0, SOURCES, (EDGES,)), torch.randint(0, TARGETS, (EDGES,))
    return Graph(torch.stack(ends), SOURCES, TARGETS)


def features(*shape: int):
    return torch.randn(shape, dtype=torch.float64)


def plain_sum(x, graph):
    return torch.zeros(graph.num_targets, x.shape[1], dtype=x.dtype).index_add(
        0, graph.edge_index[1], x
    )


def saved_bytes(function) -> int:
    """Return how much memory autograd keeps for the backward pass of a function."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = function()
    assert output.requires_grad
    return sum(kept.values())


class Shapes(TorchDispatchMode):
    """Records the shapes of all results."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        self.shapes |= {
            leaf.shape for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)
        }
        return result


def test_mlp():
    mlp = MeshGraphMLP(5, 3, **SIZES).double()
    first, second, third, norm = (mlp.model[index] for index in (0, 2, 4, 5))
    x = features(7, 5)
    expected = norm(third(torch.tanh(second(torch.tanh(first(x))))))
    torch.testing.assert_close(mlp(x), expected)
    torch.testing.assert_close(mlp(x[:, :2], x[:, 2:]), expected)


def test_weights_are_named_as_in_files():
    assert list(MeshGraphMLP(5, 3, **SIZES).state_dict()) == [
        f"model.{index}.{name}" for index in (0, 2, 4, 5) for name in ("weight", "bias")
    ]
    assert list(MeshGraphEdgeMLPSum(5, 4, 3, 2, **SIZES).state_dict()) == [
        *("lin_efeat", "lin_src", "lin_dst", "bias"),
        *(f"model.{index}.{name}" for index in (1, 3, 4) for name in ("weight", "bias")),
    ]


def test_no_mlp():
    mlp = MeshGraphMLP(5, hidden_layers=None)
    x = features(7, 5)
    assert torch.equal(mlp(x), x)
    assert torch.equal(mlp(x[:, :2], x[:, 2:]), x)
    assert list(mlp.state_dict()) == []


def test_edges_with_weights_in_one_and_in_three(bipartite):
    one = MeshGraphEdgeMLPConcat(5, 4, 3, 6, **SIZES).double()
    three = MeshGraphEdgeMLPSum(5, 4, 3, 6, **SIZES).double()
    weight = torch.cat([three.lin_efeat, three.lin_src, three.lin_dst], dim=1)
    one.model[0].load_state_dict({"weight": weight, "bias": three.bias})
    nn.Sequential(*one.model[1:]).load_state_dict(three.model.state_dict())
    e, source, target = features(EDGES, 5), features(SOURCES, 4), features(TARGETS, 3)
    ends = source[bipartite.edge_index[0]], target[bipartite.edge_index[1]]
    expected = one.model(torch.cat((e, *ends), dim=1))
    torch.testing.assert_close(one(e, (source, target), bipartite), expected)
    torch.testing.assert_close(three(e, (source, target), bipartite), expected)


@pytest.mark.parametrize("layers", [None, 1])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_last_part_is_added(parts, layers):
    given = [features(5, 4) for _ in range(parts)]
    mlp = MeshGraphMLP(4 * parts, 4, hidden_dim=8, hidden_layers=layers).double()
    if layers is None:
        given = given[-1:]
    torch.testing.assert_close(mlp(*given, adds=True), mlp(*given) + given[-1])


@pytest.mark.parametrize("kind", [MeshGraphEdgeMLPConcat, MeshGraphEdgeMLPSum])
def test_edge_features_are_added(bipartite, kind):
    edges, nodes = features(EDGES, 4), (features(SOURCES, 2), features(TARGETS, 3))
    mlp = kind(4, 2, 3, output_dim=4, **SIZES).double()
    expected = mlp(edges, nodes, bipartite) + edges
    torch.testing.assert_close(mlp(edges, nodes, bipartite, adds=True), expected)


@pytest.mark.parametrize("trick", [False, True])
def test_features_are_never_joined(trick):
    graph = Graph(torch.randint(0, SOURCES, (2, EDGES)), SOURCES)
    edges, nodes = (
        MeshEdgeBlock(8, 8, 8, **SIZES, do_concat_trick=trick),
        MeshNodeBlock("sum", 8, 8, 8, **SIZES),
    )
    with Shapes() as recorded:
        e, x = edges(torch.ones(EDGES, 8), torch.ones(SOURCES, 8), graph)
        nodes(e, x, graph)[1].sum().backward()
    wide = {shape for shape in recorded.shapes if shape[:1] in ((EDGES,), (SOURCES,))}
    assert wide
    assert all(shape[1:].numel() <= 8 for shape in wide)


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_blocks(aggregation):
    graph = Graph(torch.randint(0, SOURCES, (2, EDGES)), SOURCES)
    edge_block = MeshEdgeBlock(4, 5, 5, **SIZES).double()
    node_block = MeshNodeBlock(aggregation, 4, 5, 4, **SIZES).double()
    e, x = features(EDGES, 5), features(SOURCES, 4)
    source, target = graph.edge_index
    new_e = edge_block.edge_mlp.model(torch.cat((e, x[source], x[target]), dim=1)) + e
    got_e, same_x = edge_block(e, x, graph)
    torch.testing.assert_close(got_e, new_e)
    assert same_x is x
    entering = plain_sum(new_e, graph)
    if aggregation == "mean":
        entering = entering / graph.target.degrees.clamp(min=1)[:, None]
    same_e, got_x = node_block(new_e, x, graph)
    assert same_e is new_e
    torch.testing.assert_close(
        got_x, node_block.node_mlp.model(torch.cat((entering, x), dim=1)) + x
    )


@pytest.mark.parametrize("trick", [False, True])
def test_encoder(bipartite, trick):
    encoder = MeshGraphEncoder("sum", 4, 3, 5, 4, 3, 6, **SIZES, do_concat_trick=trick).double()
    e, grid, mesh = features(EDGES, 5), features(SOURCES, 4), features(TARGETS, 3)
    entering = plain_sum(encoder.edge_mlp(e, (grid, mesh), bipartite), bipartite)
    new_grid, new_mesh = encoder(e, grid, mesh, bipartite)
    torch.testing.assert_close(new_grid, grid + encoder.src_node_mlp.model(grid))
    torch.testing.assert_close(
        new_mesh, mesh + encoder.dst_node_mlp.model(torch.cat((entering, mesh), dim=1))
    )


def test_decoder(bipartite):
    decoder = MeshGraphDecoder("mean", 4, 3, 5, 3, 6, **SIZES).double()
    e, mesh, grid = features(EDGES, 5), features(SOURCES, 4), features(TARGETS, 3)
    entering = plain_sum(decoder.edge_mlp(e, (mesh, grid), bipartite), bipartite)
    entering = entering / bipartite.target.degrees.clamp(min=1)[:, None]
    torch.testing.assert_close(
        decoder(e, grid, mesh, bipartite),
        grid + decoder.node_mlp.model(torch.cat((entering, grid), dim=1)),
    )


@pytest.mark.parametrize("trick", [False, True])
def test_recomputation_saves_memory_alone(trick):
    graph = Graph(torch.randint(0, SOURCES, (2, 500)), SOURCES)
    e, x = torch.randn(500, 8), torch.randn(SOURCES, 8)
    results = []
    for recompute in (False, True):
        torch.manual_seed(1)
        block = MeshEdgeBlock(
            8, 8, 8, **SIZES, do_concat_trick=trick, recompute_activation=recompute
        )
        inputs = e.clone().requires_grad_(), x.clone().requires_grad_()
        kept = saved_bytes(lambda b=block, i=inputs: b(*i, graph)[0])
        block(*inputs, graph)[0].square().sum().backward()
        results.append((kept, [p.grad for p in (*inputs, *block.parameters())]))
    (kept, gradients), (kept_less, same) = results
    assert kept_less < 0.5 * kept
    assert all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))


@pytest.mark.parametrize("trick", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_computing_layers_again_saves_memory_alone(dtype, trick, monkeypatch):
    graph = Graph(torch.randint(0, SOURCES, (2, 500)), SOURCES)
    block = MeshEdgeBlock(8, 8, 8, **SIZES, do_concat_trick=trick)
    inputs = torch.randn(500, 8).requires_grad_(), torch.randn(SOURCES, 8).requires_grad_()
    results = []
    for again in (False, True):
        monkeypatch.setattr(mesh_graph_mlp, "_is_cheap_again", lambda x, again=again: again)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            kept = saved_bytes(lambda: block(*inputs, graph)[0])
            loss = block(*inputs, graph)[0].float().square().sum()
        results.append((kept, torch.autograd.grad(loss, [*inputs, *block.parameters()])))
    (kept, gradients), (kept_less, same) = results
    assert kept_less < 0.7 * kept
    assert all(map(torch.equal, gradients, same))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by PyTorch
def test_compiled_layers_are_computed_again_too(monkeypatch):
    graph = Graph(torch.randint(0, SOURCES, (2, 500)), SOURCES)
    block = MeshEdgeBlock(8, 8, 8, **SIZES)
    inputs = torch.randn(500, 8).requires_grad_(), torch.randn(SOURCES, 8).requires_grad_()
    expected = torch.autograd.grad(block(*inputs, graph)[0].square().sum(), inputs)
    kept = []
    for again in (False, True):
        monkeypatch.setattr(mesh_graph_mlp, "_is_cheap_again", lambda x, again=again: again)
        compiled = torch.compile(block, backend="aot_eager_decomp_partition", fullgraph=True)
        kept.append(saved_bytes(lambda run=compiled: run(*inputs, graph)[0]))
        got = torch.autograd.grad(compiled(*inputs, graph)[0].square().sum(), inputs)
        torch.testing.assert_close(got, expected)
        torch.compiler.reset()
    assert kept[1] < 0.7 * kept[0]


def test_transformer_engine_is_replaced():
    with pytest.warns(UserWarning, match=r"torch\.nn\.LayerNorm is used"):
        mlp = MeshGraphMLP(5, 3, **SIZES, norm_type="TELayerNorm")
    state = mlp.state_dict() | {"model.5._extra_state": torch.ones(2)}
    mlp.load_state_dict(state)
    assert isinstance(mlp.model[5], nn.LayerNorm)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MeshGraphMLP(5, hidden_layers=-1), "hidden_layers of at least 0, got -1"),
        (lambda: MeshGraphMLP(5, norm_type="BatchNorm"), "'LayerNorm' or .*, got 'BatchNorm'"),
        (lambda: MeshNodeBlock("max"), "'sum' or 'mean', got 'max'"),
        (lambda: MeshGraphEncoder("max"), "'sum' or 'mean', got 'max'"),
        (lambda: MeshGraphDecoder("max"), "'sum' or 'mean', got 'max'"),
        (lambda: MeshGraphMLP(5)(torch.ones(2, 3), torch.ones(2, 3)), r"5 features, got 3 \+ 3"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
