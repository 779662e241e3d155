# SPDX-License-Identifier: Apache-2.0
r"""Navier-Stokes equation of a viscous, incompressible flow on the unit torus, by vorticity.

.. math:: \partial_t w + v \cdot \nabla w = \nu \Delta w + f, \quad w = \nabla \times v

Li et al. 2021, arXiv:2010.08895, section 5.3: the initial vorticity is drawn from
:math:`N(0, 7^{3/2} (-\Delta + 49)^{-2.5})`, whose factor is read as one of the deviation, the
forcing is :math:`0.1 (\sin 2\pi(x+y) + \cos 2\pi(x+y))`, and :math:`\nu` is
:math:`10^{-3}`, to time 50, or :math:`10^{-4}`, to time 30.
"""

import math

import torch
from torch import Tensor

from reproductions.data.etdrk4 import ETDRK4
from reproductions.data.random_fields import (
    periodic_field,
    squared_wavenumbers,
    wavenumbers,
    white_noise,
)

BATCH = 600  # solved at a time, which bounds the memory: 128² points take 5 GB
STEPS = 25  # in a unit of time


def samples(
    number: int,
    points: int,
    seed: int,
    device: str | torch.device = "cpu",
    *,
    kept: int,
    records: int = 50,
    viscosity: float = 1e-3,
    steps: int = STEPS,
) -> tuple[Tensor, Tensor]:
    """Draw initial vorticities and solve for the vorticity at times 1, 2, ..., records.

    Parameters
    ----------
    number, points, seed, device
        Samples, points along each axis of the solver, seed and device.
    kept
        Points along each axis of what is returned: a divisor of ``points``.
    records, viscosity, steps
        Number of times, viscosity, and number of time steps from one time to the next: the less
        viscous a flow, the faster it becomes, and with too few it is unstable.

    Returns
    -------
    Initial vorticity of shape (number, 1, kept, kept), and the later ones of shape
    (number, records, kept, kept), in float64.
    """
    starts, laters = [], []
    stride = points // kept
    force = forcing(points, torch.device(device))
    for noise in white_noise((number, points, points), seed).split(BATCH):
        start = periodic_field(noise.to(device), scale=7.0**3, tau=7.0, alpha=2.5)
        state, later = start, []
        for _ in range(records):
            state = solve(state, force, viscosity, time=1.0, steps=steps)
            later.append(state[:, ::stride, ::stride])
        starts.append(start[:, None, ::stride, ::stride])
        laters.append(torch.stack(later, dim=1))
    return torch.cat(starts), torch.cat(laters)


def forcing(points: int, device: torch.device) -> Tensor:
    """Return the forcing of the paper, of shape (points, points)."""
    x = torch.arange(points, dtype=torch.float64, device=device) / points
    angle = 2 * math.pi * (x[:, None] + x)
    return 0.1 * (angle.sin() + angle.cos())


def solve(
    start: Tensor, force: Tensor, viscosity: float = 1e-3, time: float = 1.0, steps: int = STEPS
) -> Tensor:
    r"""Solve the equation by Fourier modes, of which a third along each axis is kept zero.

    With the velocity :math:`(u, v)`, the term :math:`v \cdot \nabla w` is computed as
    :math:`(\partial_{xx} - \partial_{yy}) u v - \partial_{xy} (u^2 - v^2)`, which takes two
    transforms each way (Basdevant 1983, J. Comput. Phys. 50, 209-214).

    Parameters
    ----------
    start
        Initial vorticities of shape (samples, n, n) in float64, with mean zero.
    force
        The forcing of shape (n, n).
    viscosity, time, steps
        The viscosity, the time to reach, and the number of time steps on the way.

    Returns
    -------
    Vorticities at that time, of the shape of ``start``.
    """
    grid = tuple(start.shape[1:])
    axes = (-2, -1)
    kx, ky = wavenumbers(grid, start.device)
    squares = squared_wavenumbers(grid, start.device)
    largest = 2 * math.pi * ((grid[0] - 1) // 3)
    kept = (kx.abs() <= largest + 0.5) & (ky <= largest + 0.5)
    inverse = torch.where(squares > 0, 1 / squares.clamp_min(1.0), 0)  # of -Laplacian
    # From the vorticity to the velocity (d psi/dy, -d psi/dx), and from its products to the change.
    to_velocity = torch.stack((1j * ky * inverse, -1j * kx * inverse))
    to_change = torch.stack((kx**2 - ky**2, -kx * ky)) * kept
    force_modes = torch.fft.rfft2(force) * kept

    def nonlinear(modes: Tensor) -> Tensor:
        u, v = torch.fft.irfft2(modes[:, None] * to_velocity, grid, axes).unbind(1)
        products = torch.stack((u * v, u * u - v * v), dim=1)
        change: Tensor = force_modes + (torch.fft.rfft2(products) * to_change).sum(1)
        return change

    advance = ETDRK4(-viscosity * squares, nonlinear, time / steps)
    modes = torch.where(kept, torch.fft.rfft2(start), 0)
    for _ in range(steps):
        modes = advance(modes)
    result: Tensor = torch.fft.irfft2(modes, grid, axes)
    return result
