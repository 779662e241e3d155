# SPDX-License-Identifier: Apache-2.0
"""Sums over the edges of nodes, compiled for a GPU: right sums and gradients, the same bits."""

import pytest
import torch

from physicsnemo.models.gnn_layers import Graph, _segment_sum, aggregate, gather

pytestmark = pytest.mark.gpu

NODES, EDGES = 300, 2000
TOLERANCES = {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.fixture
def graph(gpu):
    """Return a graph that has nodes without edges, and one with many."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(0, NODES - 1, (2, EDGES), generator=generator)
    ends[:, :500] = 7
    return Graph(ends, NODES).to(gpu)


def there_and_back(x, graph):
    return gather(aggregate(x, graph.target), graph.source)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("columns", [1, 3, 128, 200])
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_sums_and_gradients(dtype, columns, dynamic, graph, gpu):
    compiled = torch.compile(there_and_back, fullgraph=True, dynamic=dynamic)
    exact = torch.randn(EDGES, columns, dtype=torch.float64, device=gpu).to(dtype).double()
    weights = torch.randn(EDGES, columns, dtype=torch.float64, device=gpu).to(dtype).double()
    results = []
    for function, kind in ((there_and_back, torch.float64), *[(compiled, dtype)] * 2):
        x = exact.to(kind).requires_grad_()
        output = function(x, graph)
        (gradient,) = torch.autograd.grad(output, x, weights.to(kind))
        results.append((output.detach(), gradient))
    for expected, got, again in zip(*results, strict=True):
        assert torch.equal(got, again)
        assert (got.double() - expected).norm() < TOLERANCES[dtype] * expected.norm()
    torch.compiler.reset()


def test_the_kernel_is_used(graph, gpu):
    assert _segment_sum.IS_AVAILABLE
    compiled = torch.compile(aggregate, fullgraph=True)
    x = torch.randn(EDGES, 16, device=gpu)
    compiled(x, graph.target)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        compiled(x, graph.target)
    assert any("segment_sum_kernel" in event.key for event in profiler.key_averages())
    torch.compiler.reset()
