# SPDX-License-Identifier: Apache-2.0
"""Derivatives of all graph models: forward mode by reverse mode, second ones by differences."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from physicsnemo.models.gnn_layers import Graph, aggregate, gather

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def as_function(case):
    """Return a model as a function of its first two inputs, or of its only one, and these."""
    torch.manual_seed(0)
    model = case.build().double().eval()
    inputs = [x.double() if hasattr(x, "double") else x for x in case.inputs()]
    count = min(2, len(inputs))
    return lambda *first: model(*first, *inputs[count:]), tuple(inputs[:count])


@each_case
def test_forward_mode_is_the_transpose_of_reverse_mode(case):
    function, inputs = as_function(case)
    tangents = tuple(map(torch.randn_like, inputs))
    output, along = torch.func.jvp(function, inputs, tangents)
    _, pull = torch.func.vjp(function, *inputs)
    weight = torch.randn_like(output)
    back = sum((g * t).sum() for g, t in zip(pull(weight), tangents, strict=True))
    torch.testing.assert_close((weight * along).sum(), back)


@each_case
def test_forward_over_reverse_is_reverse_over_reverse(case):
    function, inputs = as_function(case)
    tangents = tuple(map(torch.randn_like, inputs))

    def gradient(*inputs):
        return torch.func.grad(lambda *x: function(*x).square().sum(), tuple(range(len(inputs))))(
            *inputs
        )

    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivatives
        _, forward = torch.func.jvp(gradient, inputs, tangents)
        leaves = [x.clone().requires_grad_() for x in inputs]
        loss = function(*leaves).square().sum()
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        along = sum((g * t).sum() for g, t in zip(first, tangents, strict=True))
        second = torch.autograd.grad(along, leaves)
    for got, expected in zip(forward, second, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
def test_jacobians_of_messages(aggregation):
    graph = Graph(torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]]), num_nodes=4)
    x = torch.randn(4, 2, dtype=torch.float64)

    def function(x):
        return aggregate(gather(x, graph.source) ** 2, graph.target, aggregation)

    expected = torch.zeros(4, 2, 4, 2, dtype=torch.float64)
    for source, target in graph.edge_index.T.tolist():
        for channel in range(2):
            share = graph.target.degrees[target] if aggregation == "mean" else 1
            expected[target, channel, source, channel] += 2 * x[source, channel] / share
    torch.testing.assert_close(torch.func.jacfwd(function)(x), expected)
    torch.testing.assert_close(torch.func.jacrev(function)(x), expected)
    batch = torch.stack((x, 2 * x))
    _, tangent = torch.func.jvp(torch.func.vmap(function), (batch,), (batch,))
    torch.testing.assert_close(tangent, 2 * torch.func.vmap(function)(batch))


@pytest.mark.parametrize(
    "arguments", [{"recompute_activation": True}, {"num_processor_checkpoint_segments": 2}]
)
def test_recomputation_and_transforms(arguments):
    case = CASES[0]
    plain, inputs = as_function(case)
    saving, _ = as_function(replace(case, arguments=case.arguments | arguments))
    tangents = tuple(map(torch.randn_like, inputs))
    output, along = torch.func.jvp(plain, inputs, tangents)
    torch.testing.assert_close(torch.func.jvp(saving, inputs, tangents), (output, along))
    expected, got = (torch.func.vjp(f, *inputs)[1](output) for f in (plain, saving))
    torch.testing.assert_close(got, expected)
    leaves = [x.clone().requires_grad_() for x in inputs]
    second = []
    for function in (saving, plain):
        first = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        second.append(torch.autograd.grad(first[0].square().sum(), leaves))
    torch.testing.assert_close(*second)
