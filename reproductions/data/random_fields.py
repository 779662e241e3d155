# SPDX-License-Identifier: Apache-2.0
r"""Gaussian random fields, given by white noise and the covariance's spectrum.

The covariance is :math:`\sigma^2 (-\Delta + \tau^2)^{-\alpha}`, an operator on functions: the
coefficients of a field in an orthonormal basis of eigenfunctions of the Laplacian are independent,
with variances :math:`\sigma^2 (\lambda + \tau^2)^{-\alpha}`. The constant function is left out:
fields have mean zero.
"""

import math

import torch
from torch import Tensor


def white_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return independent standard normal numbers in float64, the same for every device."""
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu"
    )


def periodic_field(noise: Tensor, scale: float, tau: float, alpha: float) -> Tensor:
    """Make a random field with period 1 along each axis.

    Parameters
    ----------
    noise
        White noise of shape (samples, *grid), on one or more axes; the points of an axis with n of
        them are 0, 1/n, ..., 1 - 1/n.
    scale, tau, alpha
        The covariance is ``scale * (-Laplacian + tau**2) ** -alpha``, without the constant mode.

    Returns
    -------
    Fields of the shape of ``noise``, each with mean zero.
    """
    axes = tuple(range(1, noise.ndim))
    squares = squared_wavenumbers(noise.shape[1:], noise.device)
    deviations = (scale * (squares + tau**2) ** -alpha).sqrt() * (squares > 0)
    grid = noise.shape[1:]
    field: Tensor = torch.fft.irfftn(deviations * torch.fft.rfftn(noise, dim=axes), grid, axes)
    return math.sqrt(math.prod(grid)) * field


def squared_wavenumbers(grid: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the eigenvalues of -Laplacian that belong to the modes of ``rfftn``."""
    total = torch.zeros((), dtype=torch.float64, device=device)
    for k in wavenumbers(grid, device):
        total = total + k**2
    return total


def wavenumbers(grid: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """Return 2 pi k along each axis for the modes of ``rfftn``, shaped to broadcast."""
    result = []
    for axis, n in enumerate(grid):
        frequencies = torch.fft.rfftfreq if axis == len(grid) - 1 else torch.fft.fftfreq
        k = 2 * math.pi * frequencies(n, 1 / n, dtype=torch.float64, device=device)
        result.append(k.reshape([-1 if other == axis else 1 for other in range(len(grid))]))
    return result


def neumann_field(noise: Tensor, points: int, tau: float, alpha: float) -> Tensor:
    """Make a random field on the unit square, with zero normal derivative on the boundary.

    Parameters
    ----------
    noise
        White noise of shape (samples, modes, modes), by the number of half waves along each axis.
    points
        Points along each axis, the boundary included.
    tau, alpha
        The covariance is ``(-Laplacian + tau**2) ** -alpha``, without the constant mode.

    Returns
    -------
    Fields of shape (samples, points, points), each with an integral of zero.
    """
    k = math.pi * torch.arange(noise.shape[-1], dtype=torch.float64, device=noise.device)
    x = torch.linspace(0, 1, points, dtype=torch.float64, device=noise.device)
    waves = math.sqrt(2) * torch.cos(x[:, None] * k)
    waves[:, 0] = 1.0
    deviations = (k[:, None] ** 2 + k**2 + tau**2) ** (-alpha / 2)
    deviations[0, 0] = 0.0
    return waves @ (deviations * noise) @ waves.T
