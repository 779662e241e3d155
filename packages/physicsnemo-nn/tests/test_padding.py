# SPDX-License-Identifier: Apache-2.0
"""Convolutions that keep the grid, against padding by hand."""

import pytest
import torch
from torch.nn import functional

from physicsnemo.nn.padding import PADDING_TYPES, padded_convolution

GRIDS = {1: (5,), 2: (5, 3), 3: (4, 3, 5)}
MODES = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}

each_type = pytest.mark.parametrize("padding_type", PADDING_TYPES)
each_dimension = pytest.mark.parametrize("dimension", GRIDS)


def build(dimension, *arguments):
    torch.manual_seed(0)
    return torch.nn.Sequential(*padded_convolution(dimension, *arguments)).double()


def draw(dimension, channels=2):
    return torch.randn(2, channels, *GRIDS[dimension], dtype=torch.float64)


@each_type
@each_dimension
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_convolution_of_the_padded_field(padding_type, dimension, kernel_size):
    layers, x = build(dimension, 2, 3, kernel_size, padding_type), draw(dimension)
    padded = functional.pad(x, [kernel_size // 2] * 2 * dimension, MODES[padding_type])
    convolve = getattr(functional, f"conv{dimension}d")
    expected = convolve(padded, layers[-1].weight, layers[-1].bias)
    torch.testing.assert_close(layers(x), expected)
    assert layers(x).shape == (2, 3, *GRIDS[dimension])


@each_type
@each_dimension
def test_names_of_weights(padding_type, dimension):
    index = 0 if padding_type == "zero" else 1
    names = list(build(dimension, 2, 3, 3, padding_type).state_dict())
    assert names == [f"{index}.weight", f"{index}.bias"]


@each_type
@each_dimension
def test_gradients(padding_type, dimension):
    layers, x = build(dimension, 1, 1, 3, padding_type), draw(dimension, channels=1)[:1, :, :3]
    assert torch.autograd.gradcheck(layers, x.requires_grad_())
    assert torch.autograd.gradgradcheck(layers, x)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((2, 2, 3, 3, "circular"), "one of zero, reflect, replicate, got 'circular'"),
        ((2, 2, 3, 4, "zero"), "odd kernel_size, which keeps the grid, got 4"),
        ((2, 2, 3, 0, "reflect"), "odd kernel_size, which keeps the grid, got 0"),
        ((4, 2, 3, 3, "zero"), "expected dimension 1, 2 or 3, got 4"),
        ((4, 2, 3, 3, "reflect"), "expected dimension 1, 2 or 3, got 4"),
    ],
)
def test_errors(arguments, text):
    with pytest.raises(ValueError, match=text):
        padded_convolution(*arguments)
