# SPDX-License-Identifier: Apache-2.0
r"""Burgers' equation on a circle of length 1.

.. math:: \partial_t u + \partial_x (u^2 / 2) = \nu \, \partial_{xx} u, \quad t \in (0, 1]

Li et al. 2021, arXiv:2010.08895, section 5.1: the initial state is drawn from
:math:`N(0, 625 (-\Delta + 25)^{-2})`, and :math:`\nu = 0.1`.
"""

import torch
from torch import Tensor

from reproductions.data.etdrk4 import ETDRK4
from reproductions.data.random_fields import periodic_field, wavenumbers, white_noise


def samples(
    number: int, points: int, seed: int, device: str | torch.device = "cpu", steps: int = 1000
) -> tuple[Tensor, Tensor]:
    """Draw initial states and solve for the state at time 1.

    Returns
    -------
    Both states, of shape (number, 1, points) in float64.
    """
    noise = white_noise((number, points), seed).to(device)
    start = periodic_field(noise, scale=25.0**2, tau=5.0, alpha=2.0)
    return start.unsqueeze(1), solve(start, steps=steps).unsqueeze(1)


def diffused(start: Tensor, viscosity: float = 0.1, time: float = 1.0) -> Tensor:
    """Return what diffusion alone would make of states, whose last axis is the circle."""
    points = start.shape[-1]
    [k] = wavenumbers((points,), start.device)
    decay = (-viscosity * time * k**2).exp().to(start.dtype)
    result: Tensor = torch.fft.irfft(decay * torch.fft.rfft(start), points)
    return result


def solve(start: Tensor, viscosity: float = 0.1, time: float = 1.0, steps: int = 1000) -> Tensor:
    """Solve the equation by Fourier modes, of which a third is kept zero against aliasing.

    Parameters
    ----------
    start
        Initial states, of shape (samples, points) in float64.
    viscosity, time, steps
        The viscosity, the time to reach, and the number of time steps on the way.

    Returns
    -------
    States at that time, of the shape of ``start``.
    """
    points = start.shape[-1]
    [k] = wavenumbers((points,), start.device)
    kept = torch.arange(len(k), device=start.device) <= (points - 1) // 3
    derivative: Tensor = torch.where(kept, -0.5j * k, 0)

    def nonlinear(modes: Tensor) -> Tensor:
        u = torch.fft.irfft(modes, points)
        change: Tensor = derivative * torch.fft.rfft(u * u)
        return change

    advance = ETDRK4(-viscosity * k**2, nonlinear, time / steps)
    modes = torch.where(kept, torch.fft.rfft(start), 0)
    for _ in range(steps):
        modes = advance(modes)
    result: Tensor = torch.fft.irfft(modes, points)
    return result
