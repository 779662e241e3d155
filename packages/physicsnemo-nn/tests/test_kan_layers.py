# SPDX-License-Identifier: Apache-2.0
"""Kolmogorov-Arnold layers against their formula."""

import pytest
import torch

from physicsnemo.nn.kan_layers import KolmogorovArnoldNetwork


def test_formula():
    layer = KolmogorovArnoldNetwork(3, 2, num_harmonics=4).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(6, 5, 3, dtype=torch.float64)
    expected = layer.bias.expand(6, 5, 2).clone()
    for k in range(1, 5):
        a, b = layer.fourier_coeffs[..., k - 1]
        expected = expected + (k * x).cos() @ a.T + (k * x).sin() @ b.T
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_outputs_start_with_a_variance_of_one():
    x = torch.rand(1, 64) * 6
    outputs = KolmogorovArnoldNetwork(64, 4000)(x)
    assert abs(outputs.var().item() - 1) < 4 * (2 / 4000) ** 0.5


def test_without_bias():
    layer = KolmogorovArnoldNetwork(3, 2, add_bias=False)
    assert list(layer.state_dict()) == ["fourier_coeffs"]
    with pytest.raises(ValueError, match="input_dim=3"):
        layer(torch.zeros(2, 4))
