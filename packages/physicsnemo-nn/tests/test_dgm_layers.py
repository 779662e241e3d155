# SPDX-License-Identifier: Apache-2.0
"""The gate of the deep Galerkin method against its formula."""

import pytest
import torch

from physicsnemo.nn.dgm_layers import DGMLayer

X = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
S = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_formula():
    layer = DGMLayer(3, 2, 5, "tanh").double()
    torch.nn.init.normal_(layer.bias)
    expected = torch.tanh(X @ layer.linear_1.weight.T + S @ layer.linear_2.weight.T + layer.bias)
    torch.testing.assert_close(layer(X, S), expected, rtol=0, atol=1e-12)
    assert list(layer.state_dict()) == ["bias", "linear_1.weight", "linear_2.weight"]


def test_weight_norm_and_adaptive_activation():
    factor = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    layer = DGMLayer(3, 2, 5, "tanh", weight_norm=True, activation_par=factor).double()
    u, w = (
        part.weight_g * part.weight / part.weight.norm(dim=1, keepdim=True)
        for part in (layer.linear_1, layer.linear_2)
    )
    expected = torch.tanh(2 * (X @ u.T + S @ w.T))
    torch.testing.assert_close(layer(X, S), expected, rtol=0, atol=1e-12)


def test_bad_inputs_are_named():
    with pytest.raises(ValueError, match="input_2 of shape .*in_features_2=2"):
        DGMLayer(3, 2, 5).double()(X, X)
