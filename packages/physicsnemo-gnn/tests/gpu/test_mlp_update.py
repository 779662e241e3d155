# SPDX-License-Identifier: Apache-2.0
"""Features plus an MLP of them as one kernel: as near as the layers one by one, the same bits."""

import copy

import pytest
import torch
from torch import nn

from physicsnemo.models.gnn_layers import MeshEdgeBlock, MeshNodeBlock

pytestmark = pytest.mark.gpu


class Step(nn.Module):
    """A step of message passing."""

    def __init__(self, activation, layers, width):
        super().__init__()
        options = {"hidden_dim": width, "hidden_layers": layers, "activation_fn": activation}
        self.edges = MeshEdgeBlock(width, width, width, **options)
        self.nodes = MeshNodeBlock("sum", width, width, width, **options)

    def forward(self, e, n, graph):
        e, n = self.edges(e, n, graph)
        return self.nodes(e, n, graph)


def values(activation, layers, width, graph, gpu):
    """Return a step, its inputs, and weights of its outputs in the loss."""
    torch.manual_seed(0)
    step = Step(activation, layers, width)
    for parameter in step.parameters():
        if parameter.ndim == 1:  # biases, scales and shifts that are no constants
            nn.init.normal_(parameter)
    counts = (graph.edge_index.shape[1], graph.num_nodes)
    features = [torch.randn(rows, width, device=gpu) for rows in counts * 2]
    return step.to(gpu), features[:2], features[2:]


def results(function, step, inputs, weights, graph, dtype):
    """Return outputs, and gradients of inputs and parameters."""
    step.zero_grad()
    inputs = [x.detach().requires_grad_() for x in inputs]
    with torch.autocast("cuda", dtype, enabled=dtype is not torch.float64):
        outputs = function(*inputs, graph)
    sum((y * w).sum() for y, w in zip(outputs, weights, strict=True)).backward()
    found = [*outputs, *(x.grad for x in inputs), *(p.grad for p in step.parameters())]
    return [x.detach().clone() for x in found]


def in_double(step, inputs, weights, graph):
    """Return the same in double precision."""
    double = copy.deepcopy(step).double()
    inputs, weights = ([x.double() for x in tensors] for tensors in (inputs, weights))
    return results(double, double, inputs, weights, graph, torch.float64)


def errors(found, exact):
    return [((x.double() - y).norm() / y.norm()).item() for x, y in zip(found, exact, strict=True)]


def kernels(function):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        function()
    return [event.key for event in profiler.key_averages()]


@pytest.mark.parametrize(
    ("activation", "layers", "width", "dtype"),
    [
        ("relu", 2, 128, torch.float16),
        ("silu", 1, 128, torch.bfloat16),
        ("silu", 2, 32, torch.float16),
    ],
)
def test_outputs_and_gradients(activation, layers, width, dtype, graph, gpu):
    step, inputs, weights = values(activation, layers, width, graph, gpu)
    exact = in_double(step, inputs, weights, graph)
    plain = results(step, step, inputs, weights, graph, dtype)
    compiled = torch.compile(step, fullgraph=True)
    found = results(compiled, step, inputs, weights, graph, dtype)
    assert any(
        "mlp_update_backward_kernel" in key
        for key in kernels(lambda: results(compiled, step, inputs, weights, graph, dtype))
    )
    for ours, theirs in zip(errors(found, exact), errors(plain, exact), strict=True):
        assert ours < 3 * theirs + 2e-3
    for _ in range(3):
        again = results(compiled, step, inputs, weights, graph, dtype)
        assert all(map(torch.equal, found, again))


def test_others_are_computed_as_before(graph, gpu):
    step, inputs, weights = values("gelu", 1, 32, graph, gpu)
    exact = in_double(step, inputs, weights, graph)
    plain = results(step, step, inputs, weights, graph, torch.float16)
    compiled = torch.compile(step, fullgraph=True)
    found = results(compiled, step, inputs, weights, graph, torch.float16)
    launched = kernels(lambda: results(compiled, step, inputs, weights, graph, torch.float16))
    assert launched
    assert not [key for key in launched if "mlp_update" in key]
    for ours, theirs in zip(errors(found, exact), errors(plain, exact), strict=True):
        assert ours < 3 * theirs + 2e-3
