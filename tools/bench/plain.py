# SPDX-License-Identifier: Apache-2.0
"""Models as one writes them down: what the library's own are compared with."""

import itertools
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from physicsnemo import Module
from physicsnemo.models.fno import FNO, SpectralConv
from physicsnemo.models.fno._spectral import CORNERS


class PlainFNO(Module):
    """An FNO with zero padding, computed by ``torch.fft`` and convolutions of width 1.

    Parameters
    ----------
    model
        The model whose weights it has.
    """

    def __init__(self, model: FNO) -> None:
        super().__init__(meta=model.meta)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Apply the operator to fields of shape (batch, in_channels, *grid)."""
        encoder = self.model.spec_encoder
        grid = x.shape[2:]
        coordinates = encoder.meshgrid(list(x.shape), x.device, x.dtype)
        x = encoder.lift_network(torch.cat((x, coordinates), dim=1))
        x = pad(x, [width for points in reversed(encoder.padding) for width in (0, points)])
        layers = list(zip(encoder.conv_layers, encoder.spconv_layers, strict=True))
        for number, (pointwise, spectral) in enumerate(layers, start=1):
            x = pointwise(x) + convolve(cast(SpectralConv, spectral), x)
            x = encoder.activation_fn(x) if number < len(layers) else x
        for axis, n in enumerate(grid, start=2):
            x = x.narrow(axis, 0, n)
        output: Tensor = self.model.decoder_net(x.movedim(1, -1)).movedim(-1, 1)
        return output


def convolve(layer: SpectralConv, x: Tensor) -> Tensor:
    """Apply a spectral convolution: transform, multiply each corner, transform back."""
    axes = tuple(range(2, x.ndim))
    spectrum = torch.fft.rfftn(x, dim=axes)
    mixed = spectrum.new_zeros(x.shape[0], layer.out_channels, *spectrum.shape[2:])
    for signs, weight in zip(CORNERS[len(axes)], layer.parameters(), strict=True):
        sides = itertools.zip_longest(layer.modes, signs)
        corner = (..., *(slice(-m, None) if sign == "-" else slice(m) for m, sign in sides))
        matrices = torch.view_as_complex(weight)
        mixed[corner] = torch.einsum("bi...,io...->bo...", spectrum[corner], matrices)
    result: Tensor = torch.fft.irfftn(mixed, s=x.shape[2:], dim=axes)
    return result
