# SPDX-License-Identifier: Apache-2.0
"""Sums over the edges of nodes, compiled for a GPU: right sums and gradients, the same bits."""

import pytest
import torch

from physicsnemo.models.gnn_layers import _segment_sum, aggregate, gather

pytestmark = pytest.mark.gpu

TOLERANCES = {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def there_and_back(x, graph):
    return gather(aggregate(x, graph.target), graph.source)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("columns", [1, 3, 128, 200])
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_sums_and_gradients(dtype, columns, dynamic, graph, gpu):
    compiled = torch.compile(there_and_back, fullgraph=True, dynamic=dynamic)
    shape = (graph.edge_index.shape[1], columns)
    exact = torch.randn(shape, dtype=torch.float64, device=gpu).to(dtype).double()
    weights = torch.randn(shape, dtype=torch.float64, device=gpu).to(dtype).double()
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
    x = torch.randn(graph.edge_index.shape[1], 16, device=gpu)
    compiled(x, graph.target)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        compiled(x, graph.target)
    assert any("segment_sum_kernel" in event.key for event in profiler.key_averages())
    torch.compiler.reset()
