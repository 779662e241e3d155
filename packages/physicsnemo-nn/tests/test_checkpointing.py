# SPDX-License-Identifier: Apache-2.0
"""What is computed again has the same derivatives, and keeps its arguments alone."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from physicsnemo.nn.checkpointing import computed_again


@pytest.fixture
def arguments():
    generator = torch.Generator().manual_seed(0)
    shapes = (5, 4), (6, 4), (3, 6)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]


def mlp(x, first, second):
    return functional.linear(functional.linear(x, first).tanh(), second).tanh()


def again(*tensors):
    return computed_again(mlp, *tensors)


def test_derivatives(arguments):
    assert torch.equal(again(*arguments), mlp(*arguments))
    assert torch.autograd.gradcheck(again, arguments)
    assert torch.autograd.gradgradcheck(again, arguments)


def test_only_arguments_are_kept(arguments):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        again(*arguments)
    assert [x.data_ptr() for x in kept] == [x.data_ptr() for x in arguments]


def test_a_tensor_that_is_given_twice(arguments):
    x = arguments[0]
    for create_graph in (False, True):
        output = computed_again(lambda a, b: a.exp() * b, x, x)
        (got,) = torch.autograd.grad(output.sum(), x, create_graph=create_graph)
        torch.testing.assert_close(got, (1 + x) * x.exp())


def test_what_needs_no_gradient(arguments):
    x, first, second = arguments
    first = first.detach()
    got = torch.autograd.grad(again(x, first, second).sum(), (x, second))
    expected = torch.autograd.grad(mlp(x, first, second).sum(), (x, second))
    assert all(map(torch.equal, got, expected))


def test_precision_is_that_of_the_first_call(arguments):
    arguments = [x.detach().float().requires_grad_() for x in arguments]
    results = []
    for function in (mlp, again):
        with torch.autocast("cpu", torch.bfloat16):
            output = function(*arguments)
        results.append((output, *torch.autograd.grad(output.sum(), arguments)))
    assert results[1][0].dtype == torch.bfloat16
    assert all(map(torch.equal, *results))


def test_autocast_keeps_no_weight_without_a_gradient(arguments):
    x, first, second = (x.detach().float().requires_grad_() for x in arguments)
    with torch.autocast("cpu", torch.bfloat16):
        again(x, first, second)
        mlp(x, first, second).sum().backward()
    assert first.grad is not None


def test_weights_are_those_of_the_call():
    model, x = nn.Linear(3, 3).double(), torch.randn(2, 3, dtype=torch.float64)
    weights = {name: 2 * p.detach() for name, p in model.named_parameters()}

    def loss(x):
        def call(x, *given):
            return functional_call(model, dict(zip(weights, given, strict=True)), (x,))

        return computed_again(call, x, *weights.values()).square().sum()

    x.requires_grad_()
    (got,) = torch.autograd.grad(loss(x), x)
    torch.testing.assert_close(got, 8 * (model(x) @ model.weight))


def test_transforms_and_forward_mode(arguments):
    x, *weights = arguments
    expected = torch.autograd.grad(mlp(*arguments).sum(), x)[0]
    rows = vmap(grad(lambda row: again(row, *weights).sum()))(x)
    torch.testing.assert_close(rows, expected)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(
            again(forward_ad.make_dual(x, torch.ones_like(x)), *weights)
        ).tangent
    assert tangent is not None
    torch.testing.assert_close(tangent.sum(), expected.sum())
