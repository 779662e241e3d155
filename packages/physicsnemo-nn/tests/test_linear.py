# SPDX-License-Identifier: Apache-2.0
"""Fully connected layers against their formulas."""

import math

import pytest
import torch

from physicsnemo.nn import FCLayer, WeightFactLinear, WeightNormLinear

X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
GLOROT_BOUND = math.sqrt(6 / (3 + 7))


def test_linear_map_then_activation():
    layer = FCLayer(3, 7, "tanh")
    weight, bias = layer.linear.weight, layer.linear.bias
    torch.testing.assert_close(layer(X), torch.tanh(torch.einsum("abi,oi->abo", X, weight) + bias))


@pytest.mark.parametrize("activation", [torch.nn.Softplus(), torch.nn.functional.softplus])
def test_activation_as_module_or_function(activation):
    layer = FCLayer(3, 7, activation)
    torch.testing.assert_close(layer(X), torch.log(1 + layer.linear(X).exp()))


def test_no_activation():
    layer = FCLayer(3, 7)
    torch.testing.assert_close(layer(X), layer.linear(X))


def test_factor_on_the_activations_input():
    layer = FCLayer(3, 7, "sigmoid", activation_par=torch.nn.Parameter(torch.tensor([2.0])))
    torch.testing.assert_close(layer(X), torch.sigmoid(2 * layer.linear(X)))
    assert list(layer.state_dict()) == ["activation_par", "linear.weight", "linear.bias"]


def test_start_values():
    layer = FCLayer(3, 7)
    assert GLOROT_BOUND * 0.8 < layer.linear.weight.abs().max() < GLOROT_BOUND
    assert not layer.linear.bias.any()


def test_weight_norm_separates_length_and_direction():
    layer = FCLayer(3, 7, weight_norm=True).linear
    assert isinstance(layer, WeightNormLinear)
    shapes = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
    assert shapes == {"weight": (7, 3), "weight_g": (7, 1), "bias": (7,)}
    with torch.no_grad():
        layer.weight_g.uniform_(0.5, 2)
        layer.bias.normal_()
    effective = layer(torch.eye(3)).T - layer.bias[:, None]
    torch.testing.assert_close(effective.norm(dim=1), layer.weight_g[:, 0])
    cosine = torch.cosine_similarity(effective, layer.weight)
    torch.testing.assert_close(cosine, torch.ones(7))


def test_weight_norm_start_values():
    layer = WeightNormLinear(3, 7)
    assert layer.weight.abs().max() < GLOROT_BOUND
    assert layer.weight_g.eq(1).all()
    assert not layer.bias.any()


def test_weight_factorization():
    layer = FCLayer(3, 7, weight_fact=True).linear
    assert isinstance(layer, WeightFactLinear)
    shapes = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
    assert shapes == {"g": (7, 1), "v": (7, 3), "bias": (7,)}
    expected = torch.einsum("abi,oi->abo", X, layer.g * layer.v) + layer.bias
    torch.testing.assert_close(layer(X), expected)


def test_weight_factorization_start_values():
    layer = WeightFactLinear(300, 4000, mean=0.5, stddev=0.2)
    logarithm = layer.g.log()
    assert logarithm.mean().item() == pytest.approx(0.5, abs=0.02)
    assert logarithm.std().item() == pytest.approx(0.2, abs=0.02)
    bound = math.sqrt(6 / 4300)
    product = layer.g * layer.v
    assert product.abs().max() < bound * (1 + 1e-5)
    assert product.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("layer_class", [WeightNormLinear, WeightFactLinear])
def test_without_bias(layer_class):
    layer = layer_class(3, 7, bias=False)
    assert "bias" not in layer.state_dict()
    assert not layer(torch.zeros(2, 3)).any()
    assert repr(layer) == f"{layer_class.__name__}(in_features=3, out_features=7, bias=False)"


def test_both_reparametrizations_exclude_each_other():
    with pytest.raises(ValueError, match="weight_norm and weight_fact exclude each other"):
        FCLayer(3, 7, weight_norm=True, weight_fact=True)


@pytest.mark.parametrize("option", ["weight_norm", "weight_fact"])
def test_gradient(option):
    layer = FCLayer(3, 2, "tanh", **{option: True}).double()
    names = list(dict(layer.named_parameters()))

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

    x = X[0].double().requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *layer.parameters()))
