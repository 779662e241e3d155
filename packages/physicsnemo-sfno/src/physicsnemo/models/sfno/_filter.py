# SPDX-License-Identifier: Apache-2.0
"""The learned filter between two spherical harmonic transforms."""

import math

import torch
from torch import Tensor, nn

from physicsnemo.nn.precision import no_autocast

# The axes of the filter and of what it maps: b samples, i and o channels, l degrees, m orders, and
# p and q the real and imaginary parts.
_PRODUCTS = {
    "dhconv": "bilmp,iolpq->bolmq",
    "driscoll-healy": "bilmp,iolpq->bolmq",
    "diagonal": "bilmp,iolmpq->bolmq",
}
OPERATOR_TYPES = tuple(_PRODUCTS)


class SpectralFilter(nn.Module):
    r"""A linear map of the channels of spherical harmonic coefficients.

    The convolution of a field :math:`f` with a filter :math:`w` on the sphere has the coefficients
    :math:`2 \pi \sqrt{4 \pi / (2 l + 1)} \, f_l^m w_l^0`. Here, a trained matrix over the channels
    takes the place of all factors of :math:`f_l^m`. It is complex. Its imaginary part shifts waves
    along the circles of latitude and has no effect on the zonal mean; where it is zero, the layer
    commutes with all rotations of the sphere, else with those about its axis. It computes in
    float32 or better, also under autocast.

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
        ``diagonal``: one for each degree and order, which commutes with rotations about the axis.

    Attributes
    ----------
    weight
        The matrices, of shape (channels, channels, lmax, 2) or (channels, channels, lmax, mmax, 2):
        input, output, degree, order, and real and imaginary parts.

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
        real, imaginary = self.weight.to(spectrum.dtype).unbind(-1)
        matrices = torch.stack((real, imaginary, -imaginary, real), dim=-1).unflatten(-1, (2, 2))
        with no_autocast(spectrum):
            return torch.einsum(self.product, spectrum, matrices)
