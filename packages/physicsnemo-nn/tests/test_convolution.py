# SPDX-License-Identifier: Apache-2.0
"""Pointwise convolutions against the linear map of the channels that they are."""

import pytest
import torch

from physicsnemo.nn import (
    Conv1dFCLayer,
    Conv2dFCLayer,
    Conv3dFCLayer,
    ConvNdFCLayer,
    ConvNdKernel1Layer,
)
from physicsnemo.nn.convolution import pointwise_convolution, pointwise_linear

CASES = [
    pytest.param(Conv1dFCLayer, (5,), id="1d"),
    pytest.param(Conv2dFCLayer, (5, 4), id="2d"),
    pytest.param(Conv3dFCLayer, (5, 4, 3), id="3d"),
    pytest.param(ConvNdFCLayer, (5,), id="nd-1"),
    pytest.param(ConvNdFCLayer, (3, 4, 2, 3), id="nd-4"),
    pytest.param(ConvNdFCLayer, (3, 2, 2, 3, 2), id="nd-5"),
]


def weight_and_bias(layer):
    conv = getattr(layer.conv, "conv", layer.conv)
    return conv.weight.flatten(1), conv.bias


def expected(layer, x):
    weight, bias = weight_and_bias(layer)
    return (torch.einsum("bi...,oi->b...o", x, weight) + bias).movedim(-1, 1)


@pytest.mark.parametrize(("layer_class", "grid"), CASES)
def test_linear_map_of_the_channels(layer_class, grid):
    layer = layer_class(3, 7, "silu")
    with torch.no_grad():
        weight_and_bias(layer)[1].normal_()
    x = torch.randn(2, 3, *grid)
    torch.testing.assert_close(layer(x), torch.nn.functional.silu(expected(layer, x)))


@pytest.mark.parametrize(("layer_class", "grid"), CASES)
def test_input_in_any_memory_layout(layer_class, grid):
    layer = layer_class(3, 7)
    x = torch.randn(2, *grid, 3).movedim(-1, 1).transpose(2, -1)
    torch.testing.assert_close(layer(x), layer(x.contiguous()))


@pytest.mark.parametrize(("layer_class", "grid"), CASES)
def test_factor_on_the_activations_input(layer_class, grid):
    factor = torch.nn.Parameter(torch.tensor([3.0]))
    layer = layer_class(3, 7, "tanh", factor)
    x = torch.randn(2, 3, *grid)
    torch.testing.assert_close(layer(x), torch.tanh(3 * layer.conv(x)))
    assert "activation_par" in layer.state_dict()


@pytest.mark.parametrize(("layer_class", "grid"), CASES)
def test_start_values_and_names(layer_class, grid):
    layer = layer_class(3, 7)
    weight, bias = weight_and_bias(layer)
    assert 0 < weight.abs().max() < (6 / 10) ** 0.5
    assert not bias.any()
    assert bias.requires_grad
    prefix = "conv.conv" if layer_class is ConvNdFCLayer else "conv"
    assert list(layer.state_dict()) == [f"{prefix}.weight", f"{prefix}.bias"]


@pytest.mark.parametrize(("layer_class", "grid"), CASES)
def test_weight_norm_separates_length_and_direction(layer_class, grid):
    torch.manual_seed(0)
    layer = layer_class(3, 7, weight_norm=True)
    conv = getattr(layer.conv, "conv", layer.conv)
    before, _ = weight_and_bias(layer)
    before = before.detach().clone()
    with torch.no_grad():
        conv.parametrizations.weight.original0.mul_(2)  # the lengths
        conv.parametrizations.weight.original1.mul_(5)  # the directions
    torch.testing.assert_close(weight_and_bias(layer)[0], 2 * before)
    assert layer(torch.randn(2, 3, *grid)).shape == (2, 7, *grid)


def test_bare_layer_has_the_start_values_of_pytorch():
    torch.manual_seed(0)
    layer = ConvNdKernel1Layer(3, 7)
    torch.manual_seed(0)
    torch.testing.assert_close(layer.conv.weight, torch.nn.Conv1d(3, 7, 1).weight)
    assert layer.conv.bias.any()


@pytest.mark.parametrize(
    ("dimension", "grid"), [(1, (5,)), (2, (5, 4)), (3, (5, 4, 3)), (None, (2,) * 4)]
)
@pytest.mark.parametrize("weight_norm", [False, True])
def test_as_a_product_with_channels_last(dimension, grid, weight_norm):
    convolution = pointwise_convolution(dimension, 3, 7).double()
    holder = getattr(convolution, "conv", convolution)
    if weight_norm:
        torch.nn.utils.parametrizations.weight_norm(holder)
    points = torch.randn(2, *grid, 3, dtype=torch.float64, requires_grad=True)
    leaves = (points, *convolution.parameters())
    results = (
        pointwise_linear(convolution, points),
        convolution(points.movedim(-1, 1)).movedim(1, -1),
    )
    torch.testing.assert_close(*results)
    torch.testing.assert_close(
        *(torch.autograd.grad(result.square().sum(), leaves) for result in results)
    )


def test_product_without_bias():
    convolution = torch.nn.Conv2d(3, 7, kernel_size=1, bias=False)
    points = torch.randn(2, 5, 4, 3)
    expected = convolution(points.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(pointwise_linear(convolution, points), expected)
