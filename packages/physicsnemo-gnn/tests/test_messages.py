# SPDX-License-Identifier: Apache-2.0
"""Gathering and aggregating: right sums, right gradients, the same bits each time."""

import pytest
import torch

from physicsnemo.models.gnn_layers import Graph, aggregate, gather

NODES, EDGES = 7, 40


@pytest.fixture
def graph():
    generator = torch.Generator().manual_seed(0)
    return Graph(torch.randint(0, NODES - 1, (2, EDGES), generator=generator), NODES)


def features(*shape: int, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def expected(x, node, aggregation, nodes=NODES):
    rows = [x[node == index] for index in range(nodes)]
    if aggregation == "mean":
        rows = [row / max(len(row), 1) for row in rows]
    return torch.stack([row.sum(0) for row in rows])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_aggregate(graph, aggregation, end, shape):
    ends, x = getattr(graph, end), features(EDGES, *shape)
    got = aggregate(x, ends, aggregation)
    torch.testing.assert_close(got, expected(x, ends.node, aggregation))
    assert not got[-1].any()  # a node without edges


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_gather(graph, shape):
    x = features(NODES, *shape)
    assert torch.equal(gather(x, graph.source), x[graph.edge_index[0]])
    assert torch.equal(gather(x, graph.target), x[graph.edge_index[1]])


@pytest.mark.parametrize(("nodes", "edges"), [(0, 0), (3, 0), (1, 0), (1, 5)])
def test_small_graphs(nodes, edges):
    graph = Graph(torch.zeros(2, edges, dtype=torch.long), nodes)
    x = torch.ones(edges, 2, requires_grad=True)
    total = aggregate(x, graph.target)
    assert total.tolist() == [[float(edges)] * 2] * nodes
    spread = gather(total, graph.source)
    assert spread.shape == (edges, 2)
    spread.sum().backward()
    assert x.grad.tolist() == [[float(edges)] * 2] * edges


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_gradients(graph, aggregation):
    def function(x):
        return gather(aggregate(x**2, graph.target, aggregation), graph.source) ** 2

    x = features(EDGES, 2).requires_grad_()
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


def test_transposes(graph):
    edges, nodes = features(EDGES, 3), features(NODES, 3)
    one = (gather(nodes, graph.source) * edges).sum()
    other = (nodes * aggregate(edges, graph.source)).sum()
    torch.testing.assert_close(one, other)


def test_same_bits_each_time(graph):
    x = features(EDGES, 3).float().requires_grad_()

    def run():
        total = aggregate(x, graph.target)
        return total, *torch.autograd.grad(gather(total, graph.source).square().sum(), x)

    first = run()
    assert all(torch.equal(a, b) for _ in range(5) for a, b in zip(run(), first, strict=True))


def test_deterministic_algorithms_are_no_other(graph):
    x = features(NODES, 3).requires_grad_()
    (expected,) = torch.autograd.grad(gather(x, graph.source).square().sum(), x)
    torch.use_deterministic_algorithms(True)
    try:
        (got,) = torch.autograd.grad(gather(x, graph.source).square().sum(), x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_added_in_single_precision(dtype):
    hub = Graph(torch.zeros(2, 1000, dtype=torch.long), 1)  # in bfloat16, 256 + 1 is 256
    x = torch.ones(1000, 2, dtype=dtype)
    assert aggregate(x, hub.target).tolist() == [[1000, 1000]]
    assert aggregate(x, hub.target, "mean").tolist() == [[1, 1]]
    assert aggregate(x, hub.target).dtype == dtype


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vmap_over_features(graph, axis):
    x = features(4, EDGES, 3)

    def function(x):
        return gather(aggregate(x, graph.target), graph.source)

    got = torch.func.vmap(function, in_dims=axis)(x.movedim(0, axis))
    torch.testing.assert_close(got, torch.stack([function(sample) for sample in x]))


def test_vmap_over_graphs_is_refused():
    edges = torch.stack([torch.tensor([[0, 1], [1, 0]])] * 2)
    x = torch.ones(2, 2, 3)

    def function(edge_index, x):
        order = torch.tensor([0, 1])
        return gather(
            x, Graph(torch.tensor([[0], [1]]), 2).source._replace(node=edge_index[0], perm=order)
        )

    with pytest.raises(ValueError, match=r"vmap over features, .* Graph\.join"):
        torch.func.vmap(function)(edges, x)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by PyTorch
def test_compiled_without_graph_break(graph):
    def function(x):
        return gather(aggregate(x, graph.target, "mean"), graph.source)

    x = features(EDGES, 3)
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), function(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda g: gather(torch.ones(6, 2), g.source),
            r"the graph's 7 nodes, got 6 rows, .*\(6, 2\)",
        ),
        (lambda g: aggregate(torch.ones(41), g.source), "the graph's 40 edges, got 41 rows"),
        (lambda g: aggregate(torch.ones(40), g.source, "max"), "'sum' or 'mean', got 'max'"),
    ],
)
def test_errors(graph, call, message):
    with pytest.raises(ValueError, match=message):
        call(graph)
