# SPDX-License-Identifier: Apache-2.0
"""What MeshGraphNet promises: its formula, its symmetries, the same bits, clear errors."""

import inspect

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.meshgraphnet import MeshGraphNet

SMALL = {
    "input_dim_nodes": 4,
    "input_dim_edges": 3,
    "output_dim": 2,
    "processor_size": 3,
    "hidden_dim_processor": 8,
    "hidden_dim_node_encoder": 6,
    "hidden_dim_edge_encoder": 6,
    "hidden_dim_node_decoder": 6,
}
NODES, EDGES = 9, 25


def build(**arguments):
    return MeshGraphNet(**SMALL | arguments).double()


def draw(nodes: int = NODES, edges: int = EDGES):
    """Return features and a graph whose last node has no edge."""
    edge_index = torch.randint(0, max(nodes - 1, 1), (2, edges))
    x, e = torch.randn(nodes, 4).double(), torch.randn(edges, 3).double()
    return x, e, Graph(edge_index, nodes)


def gradients(model, x, e, graph):
    inputs = x.clone().requires_grad_(), e.clone().requires_grad_()
    model.zero_grad()
    model(*inputs, graph).square().sum().backward()
    return [tensor.grad for tensor in (*inputs, *model.parameters())]


def test_signature():
    assert {name: p.default for name, p in inspect.signature(MeshGraphNet).parameters.items()} == {
        "input_dim_nodes": inspect.Parameter.empty,
        "input_dim_edges": inspect.Parameter.empty,
        "output_dim": inspect.Parameter.empty,
        "processor_size": 15,
        "mlp_activation_fn": "relu",
        "num_layers_node_processor": 2,
        "num_layers_edge_processor": 2,
        "hidden_dim_processor": 128,
        "hidden_dim_node_encoder": 128,
        "num_layers_node_encoder": 2,
        "hidden_dim_edge_encoder": 128,
        "num_layers_edge_encoder": 2,
        "hidden_dim_node_decoder": 128,
        "num_layers_node_decoder": 2,
        "aggregation": "sum",
        "do_concat_trick": False,
        "num_processor_checkpoint_segments": 0,
        "checkpoint_offloading": False,
        "recompute_activation": False,
        "norm_type": "LayerNorm",
    }


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_formula_of_the_paper(aggregation):
    model, (x, e, graph) = build(aggregation=aggregation), draw()
    source, target = graph.edge_index
    nodes, edges = model.node_encoder.model(x), model.edge_encoder.model(e)
    count = torch.zeros(NODES, 1).double().index_add(0, target, torch.ones(EDGES, 1).double())
    layers = list(model.processor.processor_layers)
    for edge_block, node_block in zip(layers[::2], layers[1::2], strict=True):
        joined = torch.cat((edges, nodes[source], nodes[target]), dim=1)
        edges = edges + edge_block.edge_mlp.model(joined)
        total = torch.zeros(NODES, 8).double().index_add(0, target, edges)
        total = total / count.clamp(min=1) if aggregation == "mean" else total
        nodes = nodes + node_block.node_mlp.model(torch.cat((total, nodes), dim=1))
    torch.testing.assert_close(model(x, e, graph), model.node_decoder.model(nodes))


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_numbering_of_nodes_and_edges_does_not_matter(aggregation):
    model, (x, e, graph) = build(aggregation=aggregation), draw()
    nodes, edges = torch.randperm(NODES), torch.randperm(EDGES)
    renumbered = Graph(nodes.argsort()[graph.edge_index][:, edges], NODES)
    torch.testing.assert_close(model(x[nodes], e[edges], renumbered), model(x, e, graph)[nodes])


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_batch_of_graphs_is_the_graphs_alone(aggregation):
    model = build(aggregation=aggregation)
    x, e, graphs = zip(*[draw(*sizes) for sizes in ((9, 25), (4, 6), (1, 0), (1, 3))], strict=True)
    together = model(torch.cat(x), torch.cat(e), Graph.join(graphs))
    alone = [model(*inputs) for inputs in zip(x, e, graphs, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_information_travels_an_edge_a_step():
    model, chain = build(), torch.stack((torch.arange(6), torch.arange(1, 7)))
    x = torch.randn(7, 4).double().requires_grad_()
    output = model(x, torch.randn(6, 3).double(), Graph(chain, 7))
    (reach,) = torch.autograd.grad(output[5].square().sum(), x)
    assert reach.any(dim=1).tolist() == [False, False, True, True, True, True, False]


@pytest.mark.parametrize("trick", [False, True])
@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_gradients_are_those_of_differences(aggregation, trick):
    sizes = {"processor_size": 1, "hidden_dim_processor": 4, "mlp_activation_fn": "tanh"}
    model = build(aggregation=aggregation, do_concat_trick=trick, **sizes)
    x, e, graph = draw(5, 8)
    names = [name for name, _ in model.named_parameters()]

    def function(x, e, *parameters):
        weights = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(model, weights, (x, e, graph))

    inputs = x.requires_grad_(), e.requires_grad_(), *model.parameters()
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x, e: model(x, e, graph), (x, e))


@pytest.mark.parametrize(("nodes", "edges"), [(0, 0), (1, 0), (3, 0), (1, 3)])
def test_small_graphs(nodes, edges):
    model, (x, e, graph) = build(), draw(nodes, edges)
    assert model(x, e, graph).shape == (nodes, 2)
    assert all(gradient.isfinite().all() for gradient in gradients(model, x, e, graph))


def test_edge_that_is_there_twice_counts_twice():
    model, edges = build(processor_size=1), torch.tensor([[0, 0], [1, 1]])
    x, e = torch.randn(2, 4).double(), torch.randn(1, 3).double()
    once = model(x, e, Graph(edges[:, :1], 2))
    twice = model(x, e.repeat(2, 1), Graph(edges, 2))
    assert torch.equal(once[0], twice[0])
    assert not torch.allclose(once[1], twice[1])


def test_same_bits_each_time():
    model, (x, e, graph) = MeshGraphNet(**SMALL), draw()
    x, e = x.float(), e.float()
    first = gradients(model, x, e, graph)
    for _ in range(3):
        again = gradients(model, x, e, Graph(graph.edge_index.clone(), NODES))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_processor_checkpoint_segments": 1},
        {"num_processor_checkpoint_segments": 3},
        {"num_processor_checkpoint_segments": 6, "checkpoint_offloading": True},
        {"checkpoint_offloading": True},
        {"recompute_activation": True},
        {"recompute_activation": True, "num_processor_checkpoint_segments": 2},
    ],
    ids=str,
)
def test_recomputation_changes_no_bit(arguments):
    plain, (x, e, graph) = build(), draw()
    model = build(**arguments)
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model(x, e, graph), plain(x, e, graph))
    expected, got = (gradients(m, x, e, graph) for m in (plain, model))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_checkpoint_segments_save_memory():
    model, (x, e, graph) = build(), draw(edges=500)
    kept = {}
    for segments in (0, 6, 3):
        model.processor.set_checkpoint_segments(segments)
        storages = {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = model(x, e, graph)
        kept[segments] = sum(storages.values())
        assert output.requires_grad
    assert kept[0] > 2 * kept[6] > 2 * kept[3]


@pytest.mark.parametrize("segments", [0, 2])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by PyTorch
def test_one_more_program_serves_graphs_of_all_sizes(segments):
    model = build(num_processor_checkpoint_segments=segments, processor_size=1)
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for sizes in ((9, 25), (5, 8), (30, 70), (31, 99)):
        inputs = draw(*sizes)
        torch.testing.assert_close(compiled(*inputs), model(*inputs))
    assert counter.frame_count == 2  # for the first sizes, and for any


def test_autocast_is_close():
    model, (x, e, graph) = MeshGraphNet(**SMALL), draw()
    x, e = x.float(), e.float()
    expected = model(x, e, graph)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(x, e, graph)
    assert got.dtype == torch.bfloat16
    assert (got - expected).norm() < 0.02 * expected.norm()


class Functions(TorchDispatchMode):
    """Records which functions of PyTorch are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.__name__.partition(".")[0])
        return function(*args, **kwargs or {})


def test_nothing_is_sorted_scattered_or_waited_for_in_a_step():
    model, (x, e, graph) = build(), draw()
    with Functions() as called:
        model(x, e, graph).sum().backward()
    assert {"index_select", "_embedding_bag_forward_only"} <= called.names
    assert not {name for name in called.names if "sort" in name or "scatter" in name}
    assert not called.names & {"index_add", "index_put", "_local_scalar_dense", "aminmax"}


def test_edit_of_edges_in_place_is_seen():
    model, (x, e, graph) = build(), draw()
    before = model(x, e, graph)
    graph.edge_index[1, 0] = NODES - 1
    after = model(x, e, graph)
    assert not torch.equal(before, after)
    assert torch.equal(after, model(x, e, Graph(graph.edge_index.clone(), NODES)))


def test_further_arguments_are_ignored():
    model, inputs = build(), draw()
    assert torch.equal(model(*inputs, unknown=1), model(*inputs))


def test_activation_has_the_same_weight_everywhere():
    model = build(mlp_activation_fn="prelu")
    slopes = [p for name, p in model.state_dict(keep_vars=True).items() if p.shape == (1,)]
    assert len(slopes) > 6
    assert all(slope is slopes[0] for slope in slopes)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mlp_activation_fn": "relo"}, KeyError, "did you mean relu"),
        ({"aggregation": "max"}, ValueError, "'sum' or 'mean', got 'max'"),
        ({"norm_type": "GroupNorm"}, ValueError, "'LayerNorm' or 'TELayerNorm', got 'GroupNorm'"),
        ({"processor_size": -1}, ValueError, "processor_size of at least 0, got -1"),
        ({"num_layers_edge_processor": -1}, ValueError, "num_layers_edge of at least 0, got -1"),
        ({"num_layers_node_processor": None}, TypeError, "num_layers_node to be a whole number"),
        ({"input_dim_nodes": "4"}, TypeError, "input_dim_nodes to be a whole number, got '4'"),
        ({"hidden_dim_processor": 0}, ValueError, "hidden_dim_processor of at least 1, got 0"),
        ({"num_processor_checkpoint_segments": "2"}, ValueError, "divides the 6 .* got 2"),
        ({"num_processor_checkpoint_segments": 4}, ValueError, "divides the 6 blocks, .* got 4"),
        ({"num_processor_checkpoint_segments": -1}, ValueError, "divides the 6 blocks, .* got -1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        build(**arguments)


def test_no_hidden_layer_is_taken_for_one():
    one, none = build(num_layers_node_encoder=1), build(num_layers_node_encoder=0)
    none.load_state_dict(one.state_dict())
    inputs = draw()
    assert torch.equal(one(*inputs), none(*inputs))


def test_without_encoders_and_decoder_the_features_are_those_of_the_processor():
    parts = ("node_encoder", "edge_encoder", "node_decoder")
    model, (_, _, graph) = build(**dict.fromkeys(f"num_layers_{part}" for part in parts)), draw()
    x, e = torch.randn(NODES, 8).double(), torch.randn(graph.num_edges, 8).double()
    assert torch.equal(model(x, e, graph), model.processor(x, e, graph))
    with pytest.raises(ValueError, match="hidden_dim_processor=8"):
        model(x[:, :4], e, graph)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda x, e, g: (x[1:], e, g),
            ValueError,
            r"\(nodes=9, input_dim_nodes=4\), got \(8, 4\)",
        ),
        (
            lambda x, e, g: (x, e[1:], g),
            ValueError,
            r"\(edges=25, input_dim_edges=3\), got \(24, 3",
        ),
        (lambda x, e, g: (e[:9], e, g), ValueError, "where input_dim_nodes is 3"),
        (
            lambda x, e, g: (e, x, g),
            ValueError,
            "with 4 features and edge_features with 3, got 3 and 4: they are in each other's place",
        ),
        (lambda x, e, g: (x, e.T, g), ValueError, "axes are in the other order, transpose it"),
        (lambda x, e, g: (x[None], e[None], g), ValueError, "if it is a batch of one"),
        (lambda x, e, g: (g, x, e), TypeError, "got Graph; graphs come after features of edges"),
        (lambda x, e, g: (x, e, [g, g]), TypeError, r"Graph.join\(\[as_graph\(g\) for g in"),
        (lambda x, e, g: (x, e, (g.edge_index, 9)), TypeError, "got builtins.tuple; pass a phys"),
        (lambda x, e, g: (x, x[:1].repeat(25, 1), g), ValueError, "where input_dim_edges is 4"),
        (lambda x, e, g: (x.long(), e, g), TypeError, "floating-point numbers, got torch.int64"),
        (lambda x, e, g: (x, e.long(), g), TypeError, "floating-point numbers, got torch.int64"),
        (lambda x, e, g: (x.to("meta"), e, g), ValueError, "on meta and the model on cpu"),
        (
            lambda x, e, g: (x, e, g.to("meta")),
            ValueError,
            "graph is on meta .* model on cpu; move",
        ),
        (lambda x, e, g: (x, e, Graph(g.edge_index, NODES, NODES + 1)), ValueError, "from 9 to 10"),
        (lambda x, e, g: (x, e, g.edge_index), TypeError, "expected a graph, got torch.Tensor"),
        (lambda x, e, g: (None, e, g), TypeError, "node_features to be a tensor, got NoneType$"),
        (lambda x, e, g: (x.tolist(), e, g), TypeError, r"got list; .*as_tensor\(node_features\)$"),
        (lambda x, e, g: ([x], e, g), TypeError, r"got list; join .* torch.cat\(node_features\)$"),
        (lambda x, e, g: (x, e.numpy(), g), TypeError, "edge_features .* tensor .* got a ndarray"),
        (lambda x, e, g: (x.to_sparse(), e, g), TypeError, "node_features to be a dense tensor"),
        (lambda x, e, g: (x.sum(), e, g), ValueError, "node_features .* has 0 dimensions"),
        (lambda x, e, g: (x.float(), e, g), TypeError, "node_features of torch.float64"),
        (lambda x, e, g: (x, e.float(), g), TypeError, "edge_features of torch.float64"),
        (lambda x, e, g: (x, e, None), TypeError, "expected a graph, got builtins.NoneType"),
    ],
)
def test_bad_inputs(change, error, message):
    with pytest.raises(error, match=message):
        build()(*change(*draw()))
