# SPDX-License-Identifier: Apache-2.0
"""Compilers and tracers get real arithmetic, whose results and gradients are those of torch.fft."""

import warnings

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.utils import _pytree as pytree

from physicsnemo.nn.fourier import choice, fast, matrices, to_field, to_modes, transforms

ROWS = (0, 1, 2, -2, -1)
COLUMNS = (0, 1, 2)


@pytest.fixture(params=["product", "fast"])
def way(request, monkeypatch):
    monkeypatch.setattr(transforms, "prefer_matmul", lambda *_: request.param == "product")
    torch.manual_seed(0)
    torch.compiler.reset()
    return request.param


def squared(x):
    """Keep some modes of a field, and square it: a function whose gradient depends on both."""
    frequencies = [ROWS, COLUMNS]
    return to_field(to_modes(x, frequencies), x.shape[1:-1], frequencies).square()


def random_field(height=7, width=8, dtype=torch.float64):
    return torch.randn(2, height, width, 3, dtype=dtype)


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    value = function(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value, gradient


@pytest.mark.parametrize("width", [1, 2, 6, 7])
def test_compilers_see_no_complex_numbers(way, width):
    graphs = []

    def look(graph, _):
        graphs.append(graph.graph)
        return make_boxed_func(graph.forward)

    def function(x):
        frequencies = [ROWS, tuple(range(width // 2 + 1))]
        return to_field(to_modes(x, frequencies), x.shape[1:-1], frequencies).square()

    x = random_field(width=width)
    compiled = torch.compile(function, fullgraph=True, backend=aot_autograd(fw_compiler=look))
    torch.testing.assert_close(value_and_gradient(compiled, x), value_and_gradient(function, x))
    assert len(graphs) == 2  # forward and backward
    values = [node.meta["val"] for graph in graphs for node in graph.nodes if "val" in node.meta]
    tensors = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    assert len(tensors) > 20
    assert not [tensor for tensor in tensors if tensor.is_complex()]
    used = {str(node.target) for graph in graphs for node in graph.nodes}
    assert any("physicsnemo.real_modes" in name for name in used) == (way == "fast")


def test_compiled_code_computes_no_waves(monkeypatch):
    """Matrices are inputs, for several layers, samples of other numbers, and under autocast."""
    monkeypatch.setattr(transforms, "prefer_matmul", lambda *_: True)
    graphs = []

    def look(graph, _):
        graphs.append(graph.graph)
        return graph.forward

    def function(x):
        with torch.autocast("cpu", torch.bfloat16):
            return squared(squared(x))

    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend=look)
    for batch in (2, 3, 4):
        x = torch.randn(batch, 7, 8, 3)
        torch.testing.assert_close(compiled(x), function(x))
    assert len(graphs) <= 2
    for graph in graphs:
        used = {str(node.target) for node in graph.nodes}
        assert not [name for name in used if "cos" in name or "sin" in name or "arange" in name]


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.hessian])
def test_matrices_first_met_in_compiled_derivatives_are_ordinary(monkeypatch, transform):
    monkeypatch.setattr(transforms, "prefer_matmul", lambda *_: True)
    matrices._CACHE.clear()
    torch.compiler.reset()
    function = transform(lambda x: squared(x).sum())
    x = random_field()[:1, ..., :1]
    torch.testing.assert_close(torch.compile(function, backend="aot_eager")(x), function(x))
    value_and_gradient(squared, x)  # by the same matrices


@pytest.mark.usefixtures("way")
def test_inductor_does_not_warn_of_complex_operators():
    compiled = torch.compile(squared, fullgraph=True)
    x = random_field(dtype=torch.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = value_and_gradient(compiled, x)
    assert not [warning for warning in caught if "complex" in str(warning.message)]
    torch.testing.assert_close(ours, value_and_gradient(squared, x))


@pytest.mark.usefixtures("way")
def test_one_compiled_graph_serves_all_even_sizes():
    """Odd ones have no highest frequency of their own, so the gradient is another."""
    compiled = torch.compile(squared, fullgraph=True, dynamic=True, backend="aot_eager")
    for height, width in ((7, 8), (8, 12), (9, 14)):
        with torch.compiler.set_stance("fail_on_recompile" if height > 7 else "default"):
            x = random_field(height, width)
            torch.testing.assert_close(
                value_and_gradient(compiled, x), value_and_gradient(squared, x)
            )


class Squared(torch.nn.Module):
    forward = staticmethod(squared)


@pytest.mark.usefixtures("way")
def test_exported_programs_know_no_operators_of_ours():
    sizes = {axis: torch.export.Dim(name, min=6, max=64) for axis, name in ((1, "n1"), (2, "n2"))}
    program = torch.export.export(Squared(), (random_field(),), dynamic_shapes=(sizes,))
    assert "physicsnemo" not in str(program.graph)
    x = random_field(11, 9)
    torch.testing.assert_close(program.module()(x), squared(x))


def test_traces_serve_all_sizes(monkeypatch):
    """They hold products, whichever way the sizes at hand would go."""
    monkeypatch.setattr(choice, "_MATMUL_MODES", {"cpu": 0})
    traced = torch.jit.trace(squared, random_field(80, 90))
    x = random_field(11, 9)
    torch.testing.assert_close(traced(x), squared(x))
    assert "fft" not in str(traced.graph)


SIZES = [1, 2, 5, 6]


def operators(n):
    """Return each operator for compilers, what it stands for, and random arguments."""
    modes = n // 2 + 1
    return [
        (fast._real_modes_operator, fast._real_modes, (noise(2, 3, n, 4),)),
        (fast._real_values_operator, fast._real_values, (noise(2, 3, 2, modes, 4), n)),
        (fast._complex_modes_operator, fast._complex_modes, (noise(3, n, 2, 4),)),
        (fast._complex_values_operator, fast._complex_values, (noise(3, 2, n, 4),)),
    ]


def noise(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


# The check itself asks for it; PyTorch keeps the warning from being shown, not from being raised.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("n", SIZES)
def test_operators_are_known_to_pytorch_in_shape_and_gradient(n):
    for operator, function, arguments in operators(n):
        torch.testing.assert_close(operator(*arguments), function(*arguments), atol=0, rtol=0)
        torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("n", SIZES)
def test_gradients_of_operators(n, check):
    for operator, _, arguments in operators(n):
        assert check(operator, arguments, fast_mode=True)
