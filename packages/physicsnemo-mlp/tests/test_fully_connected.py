# SPDX-License-Identifier: Apache-2.0
"""FullyConnected against a reference implementation."""

import pytest
import torch

from physicsnemo.models.mlp import FullyConnected

SIZES = {"in_features": 5, "layer_size": 8, "out_features": 3}
X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def randomized(**arguments) -> FullyConnected:
    """Build a model none of whose weights has a special value."""
    model = FullyConnected(**SIZES | arguments).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def reference_implementation(weights, x, num_layers, activations, skip=False):
    """Compute the network from its state dictionary, layer by layer."""
    stored = None
    for i in range(num_layers):
        layer = {key: weights.get(f"layers.{i}.linear.{key}") for key in ("weight", "weight_g")}
        if layer["weight"] is None:
            matrix = weights[f"layers.{i}.linear.g"] * weights[f"layers.{i}.linear.v"]
        elif layer["weight_g"] is not None:
            rows = (layer["weight"] ** 2).sum(dim=1).sqrt()
            matrix = layer["weight"] * (layer["weight_g"][:, 0] / rows)[:, None]
        else:
            matrix = layer["weight"]
        x = x @ matrix.T + weights[f"layers.{i}.linear.bias"]
        x = activations[i](x * weights.get(f"layers.{i}.activation_par", 1))
        if skip and i in (0, 2, 4, 6):
            before = x
            x = x if stored is None else x + stored
            stored = before
    return x @ weights["final_layer.linear.weight"].T + weights["final_layer.linear.bias"]


@pytest.mark.parametrize("num_layers", [0, 1, 2, 5])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("reparametrization", [None, "weight_norm", "weight_fact"])
def test_network_equals_the_reference_implementation(num_layers, skip, adaptive, reparametrization):
    model = randomized(
        num_layers=num_layers,
        activation_fn="tanh",
        skip_connections=skip,
        adaptive_activations=adaptive,
        **({reparametrization: True} if reparametrization else {}),
    )
    x = X if num_layers else torch.randn(7, 8, dtype=torch.float64)
    expected = reference_implementation(
        model.state_dict(), x, num_layers, [torch.tanh] * num_layers, skip
    )
    torch.testing.assert_close(model(x), expected)


def test_skip_connections_add_what_came_before_the_addition():
    sums = {}
    for skip in (False, True):
        model = FullyConnected(1, 1, 1, 5, "identity", skip_connections=skip)
        for name, parameter in model.named_parameters():
            torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        sums[skip] = model(torch.ones(1, 1)).item()
    # Layers give 1, 1, 1 (+1 = 2), 2, 2 (+ the third layer's own 1 = 3).
    assert sums == {False: 1.0, True: 3.0}


def test_activation_for_each_layer_the_last_one_repeated():
    model = randomized(num_layers=4, activation_fn=["tanh", "relu"])
    activations = [torch.tanh, torch.relu, torch.relu, torch.relu]
    torch.testing.assert_close(
        model(X), reference_implementation(model.state_dict(), X, 4, activations)
    )


def test_surplus_activations_are_announced_and_not_used():
    with pytest.warns(UserWarning, match=r"3 activations for num_layers=2.*not used: gelu") as seen:
        model = FullyConnected(**SIZES, num_layers=2, activation_fn=["tanh", "relu", "gelu"])
    assert seen[0].filename == __file__
    weights = model.double().state_dict()
    torch.testing.assert_close(
        model(X), reference_implementation(weights, X, 2, [torch.tanh, torch.relu])
    )


def test_parametric_activations_have_parameters_of_their_own():
    model = FullyConnected(**SIZES, num_layers=2, activation_fn="prelu")
    first, second = (model.state_dict()[f"layers.{i}.activation_fn.weight"] for i in (0, 1))
    assert first.data_ptr() != second.data_ptr()


def test_adaptive_activations_share_one_parameter():
    model = FullyConnected(**SIZES, num_layers=3, adaptive_activations=True)
    shared = {model.state_dict()[f"layers.{i}.activation_par"].data_ptr() for i in range(3)}
    assert len(shared) == 1
    plain = FullyConnected(**SIZES, num_layers=3)
    assert model.num_parameters() == plain.num_parameters() + 1


def test_names_and_start_values():
    model = FullyConnected(**SIZES, num_layers=1)
    linear = ["layers.0.linear.weight", "layers.0.linear.bias"]
    final = ["final_layer.linear.weight", "final_layer.linear.bias"]
    assert list(model.state_dict()) == ["device_buffer", *linear, *final]
    bound = (6 / (5 + 8)) ** 0.5
    assert 0.8 * bound < model.layers[0].linear.weight.abs().max() < bound
    assert not any(model.state_dict()[name].any() for name in (linear[1], final[1]))


def test_any_number_of_leading_axes():
    model = FullyConnected(**SIZES, num_layers=2)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(model(x)[1, 2], model(x[1, 2]))
    assert model(x[0, 0, 0]).shape == (3,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"activation_fn": "sulu"}, KeyError, "no activation is named 'sulu'; did you mean .*silu"),
        ({"activation_fn": []}, ValueError, "at least one activation"),
        ({"num_layers": -1}, ValueError, "num_layers of at least 0, got -1"),
        ({"weight_norm": True, "weight_fact": True}, ValueError, "exclude each other"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        FullyConnected(**SIZES, **arguments)


@pytest.mark.parametrize(
    ("x", "num_layers", "error", "message"),
    [
        (torch.ones(7, 4), 2, ValueError, r"\(\.\.\., in_features=5\), got \(7, 4\)"),
        (torch.ones(7, 5), 0, ValueError, r"\(\.\.\., layer_size=8\), got \(7, 5\)"),
        (
            torch.ones(7, 5, dtype=torch.int64),
            2,
            TypeError,
            "floating-point numbers, got torch.int64",
        ),
        (torch.ones(7, 5, device="meta"), 2, ValueError, "on meta and the model on cpu"),
    ],
)
def test_bad_inputs(x, num_layers, error, message):
    with pytest.raises(error, match=message):
        FullyConnected(**SIZES, num_layers=num_layers)(x)


def test_symbolic_trace_keeps_the_checks_and_follows_the_model():
    traced = torch.fx.symbolic_trace(FullyConnected(**SIZES, num_layers=2))
    with pytest.raises(ValueError, match=r"in_features=5\), got \(7, 4\)"):
        traced(torch.ones(7, 4))
    assert traced.to("meta")(torch.ones(7, 5, device="meta")).shape == (7, 3)


def test_one_graph():
    torch.compiler.reset()
    model = FullyConnected(**SIZES, num_layers=3, skip_connections=True, adaptive_activations=True)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X.float()), model(X.float()))


def test_half_precision_module():
    model = FullyConnected(**SIZES, num_layers=2, weight_norm=True)
    expected = model(X.float())
    output = model.bfloat16()(X.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, atol=0.03, rtol=0.03)


def test_second_derivative_in_closed_form():
    model = FullyConnected(1, 1, 1, num_layers=1, activation_fn="squareplus").double()
    for name, parameter in model.named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    x = X[:, :1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(slope, (1 + x / (x**2 + 4).sqrt()) / 2)
    torch.testing.assert_close(curvature, 2 / (x**2 + 4) ** 1.5)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
def test_gradients(skip, adaptive):
    model = randomized(
        num_layers=3, activation_fn="tanh", skip_connections=skip, adaptive_activations=adaptive
    )
    names, values = zip(*model.named_parameters(), strict=True)

    def call(x, *values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(call, (X[:2].requires_grad_(), *values))
