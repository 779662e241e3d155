# SPDX-License-Identifier: Apache-2.0
"""The recurrent cell and the residual blocks against their formulas."""

import pytest
import torch
from torch.nn import functional

from physicsnemo.models.rnn.layers import ConvGRULayer, ConvResidualBlock

GRIDS = [(7,), (5, 6), (3, 4, 5)]


def field(*shape):
    return torch.randn(shape, dtype=torch.float64)


def same(layer, x):
    """Apply the convolution of a layer to a field between borders of zeros."""
    convolve = getattr(functional, f"conv{x.ndim - 2}d")
    return convolve(x, layer.conv.weight, layer.conv.bias, padding="same")


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_cell(grid):
    cell = ConvGRULayer(2, 3, len(grid), activation_fn="tanh").double()
    x, h = field(2, 2, *grid), field(2, 3, *grid)
    r, z = torch.sigmoid(same(cell.conv_1, torch.cat((x, h), 1))).split(3, 1)
    n = torch.tanh(same(cell.conv_2, torch.cat((x, r * h), 1)))
    torch.testing.assert_close(cell(x, h), (1 - z) * n + z * h)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_advance_takes_the_state_as_input(grid):
    cell, h = ConvGRULayer(3, 3, len(grid)).double(), field(2, 3, *grid).requires_grad_()
    results = [cell.advance(h), cell(h, h)]
    inputs = (h, *cell.parameters())
    gradients = [torch.autograd.grad(result.square().sum(), inputs) for result in results]
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(("bias", "kept"), [(40.0, 1.0), (-40.0, 0.0)])
def test_update_gate_keeps_or_replaces_the_state(bias, kept):
    cell, x, h = ConvGRULayer(2, 3, 2).double(), field(1, 2, 4, 5), field(1, 3, 4, 5)
    with torch.no_grad():
        cell.conv_1.conv.bias[3:] = bias
        cell.conv_2.conv.weight.zero_()
    torch.testing.assert_close(cell(x, h), kept * h)


def pairwise_means(x, axis):
    """Return means of points 0 and 1, 2 and 3, ...; that of a last one alone is itself."""
    return torch.stack([part.mean(axis) for part in x.split(2, axis)], axis)


@pytest.mark.parametrize("grid", [*GRIDS, (6, 4), (1, 5)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("out_channels", [2, 5])
@pytest.mark.parametrize("begin", [True, False])
def test_residual_block(grid, stride, out_channels, begin):
    block = ConvResidualBlock(2, out_channels, len(grid), stride, begin, "tanh").double()
    x = field(2, 2, *grid)
    hidden = torch.tanh(block.conv_1(torch.tanh(x) if begin else x))
    value, gate = same(block.conv_2, hidden).split(out_channels, 1)
    skip = x
    for axis in range(2, x.ndim) if stride == 2 else ():
        skip = pairwise_means(skip, axis)
    expected = value * torch.sigmoid(gate)
    expected[:, out_channels - 2 :] += skip
    torch.testing.assert_close(block(x), expected)
    assert block.conv_1.conv.kernel_size == (2 + stride,) * len(grid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 3}, "stride 1 or 2, got 3"),
        ({"in_channels": 5}, "got 5 in and 4 out; in a model, raise nr_latent_channels"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvResidualBlock(**{"in_channels": 4, "out_channels": 4, "dimension": 2} | arguments)
