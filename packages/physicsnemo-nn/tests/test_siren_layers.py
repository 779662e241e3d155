# SPDX-License-Identifier: Apache-2.0
"""Layers with sines against their formulas, and the distribution that they keep."""

import math

import pytest
import torch

from physicsnemo.nn.siren_layers import Sin, SirenLayer, SirenLayerType


@pytest.mark.parametrize("kind", SirenLayerType)
def test_formula(kind):
    layer = SirenLayer(3, 5, kind, omega_0=7.0).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    linear = x @ layer.linear.weight.T + layer.linear.bias
    expected = linear if kind is SirenLayerType.LAST else torch.sin(7 * linear)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        (SirenLayerType.FIRST, 1 / 100),
        (SirenLayerType.HIDDEN, math.sqrt(6 / 100) / 30),
        (SirenLayerType.LAST, math.sqrt(6 / 100) / 30),
    ],
)
def test_start_values(kind, bound):
    largest = SirenLayer(100, 100, kind).linear.weight.abs().max()
    assert 0.99 * bound < largest <= bound


def test_arguments_of_sines_stay_as_large_at_any_depth():
    """The sine of a normal number of variance v has the variance (1 - exp(-2 v)) / 2."""
    expected = 1.0  # after sines over many periods, which have the variance 1 / 2
    first = SirenLayer(1, 512, SirenLayerType.FIRST)
    x = first(torch.rand(1000, 1) * 2 - 1)
    for _ in range(4):
        layer = SirenLayer(512, 512)
        torch.nn.init.zeros_(layer.linear.bias)
        arguments = layer.omega_0 * layer.linear(x)
        assert arguments.var().item() == pytest.approx(expected, rel=0.05)
        expected = 1 - math.exp(-2 * expected)
        x = layer(x)


def test_sine():
    x = torch.tensor([0.0, math.pi / 6, math.pi / 2], dtype=torch.float64)
    torch.testing.assert_close(
        Sin()(x), torch.tensor([0, 0.5, 1], dtype=torch.float64), rtol=0, atol=1e-15
    )


def test_bad_arguments():
    with pytest.raises(TypeError, match="expected layer_type to be a SirenLayerType, got 'first'"):
        SirenLayer(3, 5, "first")
    with pytest.raises(ValueError, match="expected omega_0 to be a finite number above 0"):
        SirenLayer(3, 5, omega_0=0.0)
    with pytest.raises(ValueError, match="in_features=3"):
        SirenLayer(3, 5)(torch.zeros(2, 4))
