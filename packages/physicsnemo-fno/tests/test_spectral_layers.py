# SPDX-License-Identifier: Apache-2.0
"""Spectral convolutions by their names for each number of axes."""

import pytest
import torch

from physicsnemo.models.fno import SpectralConv, spectral_layers


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_modes_are_positional_and_weights_those_of_the_general_layer(dimension):
    layer = getattr(spectral_layers, f"SpectralConv{dimension}d")(2, 3, *range(1, dimension + 1))
    general = SpectralConv(2, 3, range(1, dimension + 1))
    general.load_state_dict(layer.state_dict())
    x = torch.randn(2, 2, *[10] * dimension)
    torch.testing.assert_close(layer(x), general(x), rtol=0, atol=0)
    assert len(layer.state_dict()) == 2 ** (dimension - 1)


def test_formula():
    layer = spectral_layers.SpectralConv2d(2, 3, 4, 5).double()
    x = torch.randn(2, 2, 12, 10, dtype=torch.float64)
    modes = torch.fft.rfft2(x)
    mixed = modes.new_zeros(2, 3, 12, 6)
    for rows, weights in ((slice(None, 4), layer.weights1), (slice(-4, None), layer.weights2)):
        matrices = torch.view_as_complex(weights)
        mixed[:, :, rows, :5] = torch.einsum("bixy,ioxy->boxy", modes[:, :, rows, :5], matrices)
    expected = torch.fft.irfft2(mixed, s=(12, 10))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
