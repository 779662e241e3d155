# SPDX-License-Identifier: Apache-2.0
"""Parts of transformers against PyTorch's own functions."""

import pytest
import torch
from torch.nn import functional

from physicsnemo.nn import DropPath, Mlp
from physicsnemo.nn.transformer import dot_product_attention


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean():
    layer, x = DropPath(0.25), torch.ones(4000, 2, 3)
    y = layer(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (y == y[:, :1, :1]).all()
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    assert layer.eval()(x) is x


def test_mlp_is_two_linear_maps_around_a_gelu():
    mlp = Mlp(3, hidden_features=5, out_features=2, drop=0.5).double()
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    assert list(mlp.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    expected = mlp.fc2(functional.gelu(mlp.fc1(x)))
    assert torch.equal(mlp.eval()(x), expected)
    assert (mlp.train()(x) == 0).double().mean().item() == pytest.approx(0.5, abs=0.25)


def attention(q, k, v):
    return dot_product_attention(q, k, v, mask=torch.eye(3, dtype=torch.float64))


def test_attention_has_forward_mode_derivatives_within_transforms():
    q, k, v = torch.randn(3, 2, 3, 4, dtype=torch.float64).unbind()
    forward = torch.func.jacfwd(attention)(q, k, v)
    torch.testing.assert_close(forward, torch.func.jacrev(attention)(q, k, v))
    weights = (q @ k.mT / 2 + torch.eye(3)).softmax(-1)
    torch.testing.assert_close(attention(q, k, v), weights @ v)
