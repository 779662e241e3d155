# SPDX-License-Identifier: Apache-2.0
"""Normalizations that know that their grid lies on a sphere, or need not know."""

import torch
from torch import Tensor, nn

from physicsnemo.models.sfno._grid import SphericalGrid
from physicsnemo.nn.precision import at_least_float32
from physicsnemo.nn.table import Table

NORMALIZATIONS = ("instance_norm", "layer_norm", "none")
_EPSILON = 1e-6


def normalization(name: str, channels: int, grid: SphericalGrid) -> nn.Module:
    """Return the normalization of that name, for fields on a grid."""
    if name == "none":
        return nn.Identity()
    return ChannelNorm(channels) if name == "layer_norm" else SphericalNorm(channels, grid)


class SphericalNorm(nn.Module):
    """Instance normalization by the mean and variance over the sphere.

    Each point counts by the area that it stands for, so the result depends neither on the grid nor
    on how its points crowd at the poles. The statistics are computed in float32 or better.

    Parameters
    ----------
    channels
        Number of channels; each has a trainable ``weight`` and ``bias``.
    grid
        Where the fields are given.

    References
    ----------
    Ulyanov et al. 2016, arXiv:1607.08022. There, all points count alike.
    """

    def __init__(self, channels: int, grid: SphericalGrid) -> None:
        super().__init__()
        self.area = Table(grid.weights)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize fields of shape (batch, channels, nlat, nlon)."""
        precise = x.to(at_least_float32(x.dtype))
        centred = precise - self._mean(precise)
        scale = self.weight[:, None, None] * (self._mean(centred.square()) + _EPSILON).rsqrt()
        return (centred * scale + self.bias[:, None, None]).to(x.dtype)

    def _mean(self, x: Tensor) -> Tensor:
        zonal = x.mean(dim=-1) * (0.5 * self.area.like(x))
        return zonal.sum(dim=-1)[..., None, None]


class ChannelNorm(nn.Module):
    """Layer normalization over the channels of each point, in float32 or better.

    Parameters
    ----------
    channels
        Number of channels; each has a trainable ``weight`` and ``bias``.

    References
    ----------
    Ba et al. 2016, arXiv:1607.06450.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize fields of shape (batch, channels, nlat, nlon)."""
        precise = x.to(at_least_float32(x.dtype))
        variance, mean = torch.var_mean(precise, dim=1, keepdim=True, correction=0)
        scale = self.weight[:, None, None] * (variance + _EPSILON).rsqrt()
        return ((precise - mean) * scale + self.bias[:, None, None]).to(x.dtype)
