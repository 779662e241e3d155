# SPDX-License-Identifier: Apache-2.0
"""Layers of SFNO: the block, and its spectral filter, normalization, position embedding and MLP."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from physicsnemo.models.sfno._sht import InverseRealSHT, RealSHT, SphericalGrid
from physicsnemo.nn import DropPath, get_activation
from physicsnemo.nn.precision import at_least_float32, no_autocast
from physicsnemo.nn.table import Table

# The axes of the filter and of what it maps: b samples, i and o channels, l degrees, m orders, and
# p and q the real and imaginary parts.
_PRODUCTS = {
    "dhconv": "bilmp,iolpq->bolmq",
    "driscoll-healy": "bilmp,iolpq->bolmq",
    "diagonal": "bilmp,iolmpq->bolmq",
}
OPERATOR_TYPES = tuple(_PRODUCTS)

NORMALIZATIONS = ("instance_norm", "layer_norm", "none")
_EPSILON = 1e-6

POSITION_EMBEDDINGS = ("none", "direct", "frequency")
_START = 0.02  # standard deviation of the fields that both embeddings start from


class SphericalBlock(nn.Module):
    """SFNO block: spectral filter, normalization and MLP, beside a skip connection.

    Where the block leads from one grid to another, the skip does so by the transforms.

    Parameters
    ----------
    spectral_filter
        Filter of the spherical harmonic coefficients.
    norm
        Normalization of the filtered field.
    mlp
        MLP of the channels at each point.
    drop_rate
        Stochastic depth: probability, in training, that a sample takes the skip only.
    """

    def __init__(
        self, spectral_filter: "SpectralFilter", norm: nn.Module, mlp: nn.Module, drop_rate: float
    ) -> None:
        super().__init__()
        self.filter = spectral_filter
        self.norm = norm
        self.mlp = mlp
        self.drop_path = DropPath(drop_rate)

    def forward(self, x: Tensor, sht: RealSHT, isht: InverseRealSHT) -> Tensor:
        """Apply the block to fields on the grid of ``sht``.

        Parameters
        ----------
        x
            Fields of shape (batch, channels, nlat, nlon).
        sht
            Transform of fields on that grid.
        isht
            Inverse transform to the grid of the output.

        Returns
        -------
        Fields of shape (batch, channels, nlat, nlon) on the grid of ``isht``.
        """
        spectrum = sht(x)
        filtered: Tensor = isht(self.filter(spectrum)).to(x.dtype)
        # Between grids of one shape and other types the points differ too, so shapes do not tell.
        skip: Tensor = x if sht.grid == isht.grid else isht(spectrum).to(x.dtype)
        changed: Tensor = self.drop_path(self.mlp(self.norm(filtered)))
        return skip + changed


class SpectralFilter(nn.Module):
    r"""Spectral convolution on the sphere: mix the channels of spherical harmonic coefficients.

    The convolution of a field :math:`f` with a filter :math:`w` has the coefficients
    :math:`2 \pi \sqrt{4 \pi / (2 l + 1)} \, f_l^m w_l^0`. Here, a trained complex matrix over the
    channels takes the place of all factors of :math:`f_l^m`. Its imaginary part shifts waves along
    the circles of latitude and has no effect on the zonal mean; where it is zero, the layer is
    equivariant to all rotations of the sphere, else to those about its axis. It computes in float32
    or wider, also under autocast.

    Parameters
    ----------
    channels
        Number of channels.
    lmax
        Number of degrees.
    mmax
        Number of orders.
    operator_type
        ``dhconv``, also known as ``driscoll-healy``: one matrix for each degree, a convolution;
        ``diagonal``: one for each degree and order, equivariant to rotations about the axis.

    Attributes
    ----------
    weight
        Complex matrices, of shape (channels, channels, lmax, 2) or, for ``diagonal``, (channels,
        channels, lmax, mmax, 2): input, output, degree, order, and real and imaginary parts.

    References
    ----------
    Bonev et al. 2023, arXiv:2306.03838; Driscoll and Healy 1994, Computing Fourier
    transforms and convolutions on the 2-sphere, theorem 1.
    """

    def __init__(self, channels: int, lmax: int, mmax: int, operator_type: str) -> None:
        super().__init__()
        self.product = _PRODUCTS[operator_type]
        modes = (lmax, mmax) if operator_type == "diagonal" else (lmax,)
        # Both parts together have the variance 1 / channels, which keeps that of the field.
        start = torch.randn(channels, channels, *modes, 2) / math.sqrt(2 * channels)
        self.weight = nn.Parameter(start)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Map coefficients of shape (batch, channels, lmax, mmax, 2) to others of that shape."""
        return self.apply_weight(self.weight, spectrum)

    def apply_weight(self, weight: Tensor, spectrum: Tensor) -> Tensor:
        """Map coefficients by the whole weight, or coefficients of some orders by its part."""
        # The product of complex numbers is that of a real 2 x 2 matrix, so that the whole filter is
        # one real contraction: compilers and exporters know no complex numbers.
        real, imaginary = weight.to(spectrum.dtype).unbind(-1)
        matrices = torch.stack((real, imaginary, -imaginary, real), dim=-1).unflatten(-1, (2, 2))
        with no_autocast(spectrum):
            return torch.einsum(self.product, spectrum, matrices)


def normalization(name: str, channels: int, grid: SphericalGrid) -> nn.Module:
    """Return the normalization of a name, for fields on a grid."""
    if name == "none":
        return nn.Identity()
    return ChannelNorm(channels) if name == "layer_norm" else SphericalNorm(channels, grid)


class SphericalNorm(nn.Module):
    """Instance normalization with area-weighted mean and variance.

    Each point counts by the area that it stands for, so the result depends neither on the grid nor
    on how its points crowd at the poles. The statistics are computed in float32 or wider.

    Parameters
    ----------
    channels
        Number of channels; each has a trainable ``weight`` and ``bias``.
    grid
        Grid of the fields.

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
    """Layer normalization over the channels of each point, in float32 or wider.

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


def position_embedding(
    name: str, channels: int, grid: SphericalGrid, lmax: int, mmax: int
) -> nn.Module:
    """Return the position embedding of a name, for fields on a grid."""
    if name == "none":
        return nn.Identity()
    if name == "direct":
        return DirectEmbedding(channels, grid)
    return FrequencyEmbedding(channels, InverseRealSHT(grid, lmax, mmax))


class DirectEmbedding(nn.Module):
    """Position embedding with a learned value for each point and channel.

    Parameters
    ----------
    channels
        Number of channels.
    grid
        Grid of the fields.
    """

    def __init__(self, channels: int, grid: SphericalGrid) -> None:
        super().__init__()
        self.field = nn.Parameter(_START * torch.randn(channels, grid.nlat, grid.nlon))

    def forward(self, x: Tensor) -> Tensor:
        """Add the field to fields of shape (batch, channels, nlat, nlon)."""
        return x + self.field.to(x.dtype)


class FrequencyEmbedding(nn.Module):
    """Position embedding with learned spherical harmonic coefficients, the same on any grid.

    Parameters
    ----------
    channels
        Number of channels.
    isht
        Inverse transform to the grid of the fields.
    """

    def __init__(self, channels: int, isht: InverseRealSHT) -> None:
        super().__init__()
        self.isht = isht
        # About lmax² / 2 coefficients, each with two parts and for two signs of the order, add up
        # to the integral of the square, which is 4 pi times its mean.
        spread = _START * math.sqrt(2 * math.pi) / isht.lmax
        shape = (channels, isht.lmax, isht.mmax, 2)
        self.coefficients = nn.Parameter(spread * torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Add the field to fields of shape (batch, channels, nlat, nlon)."""
        field: Tensor = self.isht(self.coefficients).to(x.dtype)
        return x + field


def pointwise_mlp(sizes: Sequence[int], activation: str, drop_rate: float = 0.0) -> nn.Module:
    """Return an MLP of the channels at each point, as 1 x 1 convolutions.

    All but the last are followed by an activation and dropout. Weights start from normal
    distributions that keep the mean square (He initialization), biases from zero.

    Parameters
    ----------
    sizes
        Channels of the input, of each hidden layer and of the output.
    activation
        Name of the activation (:func:`physicsnemo.nn.get_activation`).
    drop_rate
        Dropout probability of hidden channels.

    References
    ----------
    He et al. 2015, arXiv:1502.01852.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes[:-1]):
        # The activation halves the mean square.
        linear = _linear(fan_in, fan_out, gain=2.0)
        layers += [linear, get_activation(activation), nn.Dropout2d(drop_rate)]
    return nn.Sequential(*layers, _linear(sizes[-2], sizes[-1], gain=1.0))


def _linear(fan_in: int, fan_out: int, gain: float) -> nn.Conv2d:
    layer = nn.Conv2d(fan_in, fan_out, kernel_size=1)
    nn.init.normal_(layer.weight, std=math.sqrt(gain / fan_in))
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer
