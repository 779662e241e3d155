# SPDX-License-Identifier: Apache-2.0
"""Convolutions that keep the grid, against zeros put around fields by hand."""

import pytest
import torch
from torch.nn import functional

from physicsnemo.models.rnn.layers import ConvLayer, TransposeConvLayer

GRIDS = [(9,), (8,), (1,), (8, 12), (5, 8), (8, 5), (7, 5), (1, 6), (5, 6, 8), (6, 5, 4), (4, 7, 7)]
KERNELS = [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (4, 2), (5, 3), (7, 3), (6, 3)]
REFERENCES = ["reference-1.2", "reference-1.3"]


def field(*shape):
    return torch.randn(shape, dtype=torch.float64)


def zeros(size, kernel_size, stride):
    """Return how many zeros an axis needs before and behind it for ceil(size / stride) outputs."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def reference_implementation(layer, x, kernel_size, stride, axes):
    """Convolve after padding, each axis of the grid by what the one of ``axes`` needs."""
    amounts = [zeros(x.shape[2 + axis], kernel_size, stride) for axis in axes]
    padded = functional.pad(x, [amount for pair in reversed(amounts) for amount in pair])
    convolve = getattr(functional, f"conv{len(axes)}d")
    return convolve(padded, layer.conv.weight, layer.conv.bias, stride=stride)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(("kernel_size", "stride"), KERNELS)
def test_each_axis_gets_the_zeros_that_it_needs(grid, kernel_size, stride):
    layer = ConvLayer(2, 3, len(grid), kernel_size, stride).double()
    x = field(2, 2, *grid)
    output = layer(x)
    assert output.shape == (2, 3, *(-(-size // stride) for size in grid))
    torch.testing.assert_close(
        output, reference_implementation(layer, x, kernel_size, stride, range(len(grid)))
    )


@pytest.mark.parametrize("grid", [(8, 12), (5, 8), (8, 5), (5, 6, 8), (6, 5, 4)], ids=str)
@pytest.mark.parametrize("numerics", REFERENCES)
def test_reference_numerics_swap_the_axes(grid, numerics):
    layer = ConvLayer(2, 3, len(grid), kernel_size=4, stride=2, numerics=numerics).double()
    x = field(2, 2, *grid)
    torch.testing.assert_close(
        layer(x), reference_implementation(layer, x, 4, 2, range(len(grid))[::-1])
    )


def test_releases_from_2_0_on_pad_as_the_paper():
    paper = ConvLayer(2, 3, 2, kernel_size=4, stride=2)
    other = ConvLayer(2, 3, 2, kernel_size=4, stride=2, numerics="reference-2.0")
    other.load_state_dict(paper.state_dict())
    x = torch.randn(1, 2, 5, 8)
    assert torch.equal(other(x), paper(x))


def test_numerics_differ_only_where_the_stride_does_not_divide_the_grid():
    paper = ConvLayer(2, 3, 2, kernel_size=4, stride=2)
    other = ConvLayer(2, 3, 2, kernel_size=4, stride=2, numerics="reference-1.2")
    other.load_state_dict(paper.state_dict())
    even, odd = torch.randn(1, 2, 6, 8), torch.randn(1, 2, 5, 8)
    assert torch.equal(other(even), paper(even))
    assert paper(odd).shape == (1, 3, 3, 4)
    assert other(odd).shape == (1, 3, 2, 4)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (4, 2), (5, 3)])
def test_transposed_layer_is_the_adjoint(grid, kernel_size, stride):
    sizes = (len(grid), kernel_size, stride)
    # Of a grid that the stride divides: there, each point that is made has its place.
    grid = tuple(size * stride for size in grid)
    coarsen, refine = ConvLayer(2, 3, *sizes).double(), TransposeConvLayer(3, 2, *sizes).double()
    refine.trans_conv.weight = coarsen.conv.weight
    x = field(1, 2, *grid)
    y = field(*coarsen(x).shape)
    torch.testing.assert_close((coarsen(x) * y).sum(), (x * refine(y)).sum())


@pytest.mark.parametrize("numerics", [*REFERENCES, "reference-2.0", "reference-2.2"])
def test_reference_numerics_refine_odd_grids_less(numerics):
    layer = TransposeConvLayer(2, 2, 2, kernel_size=4, stride=2)
    other = TransposeConvLayer(2, 2, 2, kernel_size=4, stride=2, numerics=numerics)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 2, 3, 4)
    assert layer(x).shape == (1, 2, 6, 8)
    torch.testing.assert_close(other(x), layer(x)[:, :, :5], atol=0, rtol=0)


@pytest.mark.parametrize("layer_class", [ConvLayer, TransposeConvLayer])
def test_activation_and_start_values(layer_class):
    layer = layer_class(20, 30, 2, kernel_size=3, activation_fn="relu")
    weight, bias = layer.parameters()
    bound = (6 / (9 * 50)) ** 0.5  # of Glorot's uniform distribution
    assert 0.99 * bound < weight.abs().max() <= bound
    assert not bias.any()
    assert layer(torch.randn(1, 20, 4, 4)).min() == 0


@pytest.mark.parametrize("layer_class", [ConvLayer, TransposeConvLayer])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 2, "stride": 3}, "got kernel_size=2 and stride=3"),
        ({"kernel_size": 2, "stride": 0}, "stride of at least 1"),
        ({"kernel_size": 3, "dimension": 4}, "dimension 1, 2 or 3, got 4"),
        ({"kernel_size": 3, "numerics": "exact"}, "one of paper, .* got 'exact'"),
    ],
)
def test_bad_arguments(layer_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer_class(**{"in_channels": 1, "out_channels": 1, "dimension": 2} | arguments)
