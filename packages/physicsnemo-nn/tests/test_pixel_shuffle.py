# SPDX-License-Identifier: Apache-2.0
"""The pixel shuffle against PyTorch's in two dimensions, and against its formula in any."""

from itertools import product

import pytest
import torch

from physicsnemo.nn import PixelShuffle

GRIDS = [(5,), (3, 4), (2, 3, 4), (2, 1, 3, 2)]


def draw(grid, factor, batch=2, channels=3):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, channels * factor ** len(grid), *grid)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("grid", [(3, 4), (1, 5)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_as_pytorch_in_two_dimensions(factor, grid, memory_format):
    x = draw(grid, factor).to(memory_format=memory_format)
    assert torch.equal(PixelShuffle(factor)(x), torch.nn.functional.pixel_shuffle(x, factor))


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=len)
def test_each_point_comes_from_its_channel(grid, factor):
    x = draw(grid, factor)
    finer = PixelShuffle(factor)(x)
    assert finer.shape == (2, 3, *(factor * n for n in grid))
    for channel, *point in product(range(3), *map(range, finer.shape[2:])):
        source = channel
        for index in point:
            source = source * factor + index % factor
        coarse = (source, *(index // factor for index in point))
        assert torch.equal(finer[:, channel, *point], x[:, *coarse])


@pytest.mark.parametrize("grid", GRIDS, ids=len)
def test_no_samples(grid):
    assert PixelShuffle(2)(draw(grid, 2, batch=0)).shape == (0, 3, *(2 * n for n in grid))


@pytest.mark.parametrize("grid", [(2,), (1, 2), (1, 2, 1)], ids=len)
def test_gradients(grid):
    x = draw(grid, 2, batch=1, channels=1).requires_grad_()
    assert torch.autograd.gradcheck(PixelShuffle(2), x)
    # The map is linear: the square makes second derivatives that are not zero.
    assert torch.autograd.gradgradcheck(lambda x: PixelShuffle(2)(x).square(), x)


def test_traces_serve_other_grids():
    layer, x = PixelShuffle(2), draw((4, 5, 3), 2, batch=1)
    for program in (torch.jit.trace(layer, draw((2, 2, 2), 2)), torch.fx.symbolic_trace(layer)):
        assert torch.equal(program(x), layer(x))


@pytest.mark.parametrize(
    ("shape", "group"), [((1, 6, 4, 4), 4), ((1, 12, 2, 2, 2), 8), ((1, 7, 3), 2), ((2, 4), 1)]
)
def test_wrong_shape(shape, group):
    with pytest.raises(ValueError, match=f"channels that {group} divides, got .{shape[0]}, "):
        PixelShuffle(2)(torch.zeros(shape))


@pytest.mark.parametrize("factor", [0, -2])
def test_wrong_factor(factor):
    with pytest.raises(ValueError, match=f"upscale_factor of at least 1, got {factor}"):
        PixelShuffle(factor)


def test_text():
    assert repr(PixelShuffle(3)) == "PixelShuffle(upscale_factor=3)"
