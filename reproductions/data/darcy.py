# SPDX-License-Identifier: Apache-2.0
r"""Darcy flow on the unit square.

.. math:: -\nabla \cdot (a \nabla u) = 1, \quad u = 0 \text{ on the boundary}

Li et al. 2021, arXiv:2010.08895, section 5.2: the coefficient is 12 where a field drawn from
:math:`N(0, (-\Delta + 9)^{-2})`, with zero Neumann conditions, is positive, and 3 elsewhere.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reproductions.data.random_fields import neumann_field, white_noise

HIGH, LOW = 12.0, 3.0
BATCH = 100  # solved at a time, which bounds the memory


def samples(
    number: int, points: int, seed: int, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """Draw coefficients and solve for the pressure.

    Returns
    -------
    Both fields, of shape (number, 1, points, points) with the boundary; the coefficient in float32,
    which holds its two values, and the pressure in float64.
    """
    coefficients, pressures = [], []
    for noise in white_noise((number, points, points), seed).split(BATCH):
        field = neumann_field(noise.to(device), points, tau=3.0, alpha=2.0)
        coefficient = torch.where(field > 0, HIGH, LOW).double()
        coefficients.append(coefficient.float())
        pressures.append(solve(coefficient, torch.ones_like(coefficient)))
    return torch.cat(coefficients).unsqueeze(1), torch.cat(pressures).unsqueeze(1)


def solve(coefficient: Tensor, source: Tensor, tolerance: float = 1e-10) -> Tensor:
    """Solve the five-point scheme of second order, with the mean coefficient on each edge.

    The method of conjugate gradients is preconditioned by the Laplacian, inverted in its basis of
    sines; its convergence depends on the contrast of the coefficient and not on the grid.

    Parameters
    ----------
    coefficient, source
        Fields of shape (samples, n, n) in float64, with the boundary, on which the pressure is 0.
    tolerance
        Norm of the residual to reach in each sample, relative to that of the source.

    Returns
    -------
    Pressures of shape (samples, n, n).

    Raises
    ------
    RuntimeError
        If the tolerance is not reached in 500 iterations.
    """
    intervals = coefficient.shape[-1] - 1
    across = intervals**2 * (coefficient[:, 1:] + coefficient[:, :-1])[:, :, 1:-1] / 2
    along = intervals**2 * (coefficient[:, :, 1:] + coefficient[:, :, :-1])[:, 1:-1] / 2

    def operator(u: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(u, (1, 1, 1, 1))
        flux_across = across * padded[:, :, 1:-1].diff(dim=1)
        flux_along = along * padded[:, 1:-1].diff(dim=2)
        return -flux_across.diff(dim=1) - flux_along.diff(dim=2)

    inside = conjugate_gradients(
        operator, inverse_laplacian(intervals, source), source[:, 1:-1, 1:-1], tolerance
    )
    return torch.nn.functional.pad(inside, (1, 1, 1, 1))


def inverse_laplacian(intervals: int, like: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the inverse of the five-point Laplacian (negated) on the inner points."""
    k = torch.arange(1, intervals, dtype=like.dtype, device=like.device)
    angle = math.pi / intervals * k
    sines = math.sqrt(2 / intervals) * torch.sin(angle[:, None] * k)  # its own inverse
    eigenvalues = (2 * intervals * torch.sin(angle / 2)) ** 2

    def apply(field: Tensor) -> Tensor:
        return sines @ (sines @ field @ sines / (eigenvalues[:, None] + eigenvalues)) @ sines

    return apply


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    right: Tensor,
    tolerance: float,
    iterations: int = 500,
) -> Tensor:
    """Solve a batch of symmetric positive definite systems; ``solve`` says how and when."""
    solution = torch.zeros_like(right)
    residual = right
    direction = preconditioned = precondition(residual)
    product = _dot(residual, preconditioned)
    bound = tolerance * right.flatten(1).norm(dim=1)
    for _ in range(iterations):
        if bool((residual.flatten(1).norm(dim=1) <= bound).all()):
            return solution
        image = operator(direction)
        # A sample that is solved exactly has nothing left to divide by.
        length = product / _dot(direction, image).clamp_min(torch.finfo(right.dtype).tiny)
        solution = solution + length * direction
        residual = residual - length * image
        preconditioned = precondition(residual)
        former, product = product, _dot(residual, preconditioned)
        ratio = product / former.clamp_min(torch.finfo(right.dtype).tiny)
        direction = preconditioned + ratio * direction
    worst = (residual.flatten(1).norm(dim=1) / right.flatten(1).norm(dim=1)).max().item()
    raise RuntimeError(
        f"expected a relative residual of {tolerance:.0e} after {iterations} iterations, got "
        f"{worst:.1e}; is the coefficient positive, and its contrast moderate?"
    )


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2), keepdim=True)
