# SPDX-License-Identifier: Apache-2.0
"""Modes that belong to two corners of the spectrum: the later weight holds, or their sum."""

import pytest
import torch

from physicsnemo.models.fno import SpectralConv
from physicsnemo.models.fno._spectral import CORNERS


def by_corners(layer, x, add):
    """Apply a layer corner by corner of the whole spectrum, as a textbook does."""
    axes = tuple(range(2, x.ndim))
    spectrum = torch.fft.rfftn(x, dim=axes)
    result = spectrum.new_zeros(x.shape[0], layer.out_channels, *spectrum.shape[2:])
    for signs, weight in zip(CORNERS[len(axes)], layer.parameters(), strict=True):
        sides = zip(signs, layer.modes[:-1], strict=True)
        spans = [slice(-m, None) if sign == "-" else slice(m) for sign, m in sides]
        index = (slice(None), slice(None), *spans, slice(layer.modes[-1]))
        product = torch.einsum("bi...,io...->bo...", spectrum[index], torch.view_as_complex(weight))
        result[index] = result[index] + product if add else product
    return torch.fft.irfftn(result, s=x.shape[2:], dim=axes)


@pytest.mark.parametrize(
    ("modes", "grid"),
    [
        ([3, 3], (4, 7)),
        ([4, 2], (5, 6)),
        ([2, 2], (8, 8)),
        ([3, 2, 2], (4, 3, 5)),
        ([2, 2, 3, 2], (3, 4, 4, 5)),
        ([3], (6,)),
    ],
)
@pytest.mark.parametrize("release", ["1.3", "2.0"])
@pytest.mark.parametrize("batch", [2, 6])  # small batches of many axes are computed otherwise
def test_overlapping_corners(modes, grid, release, batch):
    torch.manual_seed(0)
    layer = SpectralConv(2, 3, modes, numerics=f"reference-{release}").double()
    x = torch.randn(batch, 2, *grid, dtype=torch.float64, requires_grad=True)
    found, expected = layer(x), by_corners(layer, x, add=release == "2.0")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    slopes = [
        torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]) for y in (found, expected)
    ]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


def test_paper_keeps_the_later_weight():
    torch.manual_seed(0)
    paper = SpectralConv(2, 2, [3, 3])
    other = SpectralConv(2, 2, [3, 3], numerics="reference-1.2")
    other.load_state_dict(paper.state_dict())
    x = torch.randn(1, 2, 4, 6)
    assert torch.equal(paper(x), other(x))
