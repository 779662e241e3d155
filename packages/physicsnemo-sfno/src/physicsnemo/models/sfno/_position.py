# SPDX-License-Identifier: Apache-2.0
"""Learned fields that tell the operator where on the sphere it is."""

import math

import torch
from torch import Tensor, nn

from physicsnemo.models.sfno._grid import SphericalGrid
from physicsnemo.models.sfno._transform import SphericalSynthesis

POSITION_EMBEDDINGS = ("none", "direct", "frequency")
_START = 0.02  # the standard deviation of the fields that both start from


def position_embedding(
    name: str, channels: int, grid: SphericalGrid, lmax: int, mmax: int
) -> nn.Module:
    """Return the embedding of that name."""
    if name == "none":
        return nn.Identity()
    if name == "direct":
        return DirectEmbedding(channels, grid)
    return FrequencyEmbedding(channels, SphericalSynthesis(grid, lmax, mmax))


class DirectEmbedding(nn.Module):
    """Add a learned value for each point and channel.

    Parameters
    ----------
    channels
        Number of channels.
    grid
        The points.
    """

    def __init__(self, channels: int, grid: SphericalGrid) -> None:
        super().__init__()
        self.field = nn.Parameter(_START * torch.randn(channels, grid.nlat, grid.nlon))

    def forward(self, x: Tensor) -> Tensor:
        """Add the field to fields of shape (batch, channels, nlat, nlon)."""
        return x + self.field.to(x.dtype)


class FrequencyEmbedding(nn.Module):
    """Add a learned smooth field, given by its spherical harmonics; it does not depend on the grid.

    Parameters
    ----------
    channels
        Number of channels.
    synthesis
        The transform to the grid of the fields.
    """

    def __init__(self, channels: int, synthesis: SphericalSynthesis) -> None:
        super().__init__()
        self.synthesis = synthesis
        # About lmax² / 2 coefficients, each with two parts and for two signs of the order, add up
        # to the integral of the square, which is 4 pi times its mean.
        spread = _START * math.sqrt(2 * math.pi) / synthesis.lmax
        shape = (channels, synthesis.lmax, synthesis.mmax, 2)
        self.coefficients = nn.Parameter(spread * torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Add the field to fields of shape (batch, channels, nlat, nlon)."""
        field: Tensor = self.synthesis(self.coefficients).to(x.dtype)
        return x + field
