# SPDX-License-Identifier: Apache-2.0
r"""How far successive fields of vorticity are from a solution of the Navier-Stokes equations.

The Kolmogorov flow of Shu et al. 2023, arXiv:2211.14680: with the vorticity :math:`\omega` over
one period :math:`2\pi` of each axis, and the velocity :math:`(u, v)` that it belongs to,

.. math:: r = \partial_t \omega + u\, \partial_x \omega + v\, \partial_y \omega
          - \tfrac{1}{Re} \Delta \omega + 0.1\, \omega + 4 \cos 4y.

The first axis of a field is that of x, the second that of y.
"""

import math

import torch
from torch import Tensor
from torch.fft import irfft2, rfft2
from torch.nn.functional import pad

_DRAG = 0.1
_FORCE, _WAVES = 4.0, 4


def residual_gradient(
    vorticity: Tensor, reynolds: float, time_step: float, samples_apart: bool
) -> Tensor:
    """Return the gradient of the mean square of the residual with respect to the vorticity.

    It is written out rather than left to autograd, so that it can be computed anywhere.

    Parameters
    ----------
    vorticity
        Fields at successive times, of shape (batch, times, height, width).
    reynolds
        The Reynolds number.
    time_step
        Time from one field to the next.
    samples_apart
        Whether each sample has a mean of its own; else the mean is over all of them, so that the
        gradient of one depends on how many there are.

    Returns
    -------
    The gradient, of the shape of the vorticity.

    Raises
    ------
    ValueError
        If there are not at least three times.
    """
    if vorticity.shape[1] < 3:
        raise ValueError(
            f"expected at least 3 successive times as channels, got {vorticity.shape[1]}"
        )
    if vorticity.numel() == 0:
        return vorticity.clone()  # which not every transform takes
    middle = vorticity[:, 1:-1]
    size = (middle.shape[-2], middle.shape[-1])
    multipliers, diffusion = _multipliers(*size, middle)

    def damped(field: Tensor) -> Tensor:
        diffused: Tensor = irfft2(diffusion / reynolds * rfft2(field), s=size)
        return diffused + _DRAG * field

    # Velocity and slopes of the vorticity in one transform, since all are multipliers of it.
    u, v, w_x, w_y = irfft2(multipliers * rfft2(middle), s=size)
    change = (vorticity[:, 2:] - vorticity[:, :-2]) / (2 * time_step)
    residual = change + u * w_x + v * w_y + damped(middle) + _force(middle)
    slope = 2 / (residual[0] if samples_apart else residual).numel() * residual
    # Back along the same steps: the adjoint of a multiplier is its conjugate.
    products = slope * torch.stack((w_x, w_y, u, v))
    through_flow = irfft2((multipliers.conj() * rfft2(products)).sum(dim=0), s=size)
    through_change = slope / (2 * time_step)
    return (
        _shifted(through_flow + damped(slope), 1)
        + _shifted(through_change, 2)
        - _shifted(through_change, 0)
    )


def _multipliers(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return what maps modes of vorticity to those of u, v and both slopes; and k squared."""
    k_x = torch.fft.fftfreq(height, 1 / height, dtype=like.dtype, device=like.device)[:, None]
    k_y = torch.fft.rfftfreq(width, 1 / width, dtype=like.dtype, device=like.device)[None, :]
    square = k_x.square() + k_y.square()
    inverse = torch.where(square == 0, 0, square.clamp(min=1).reciprocal())
    # The slope of a wave that the grid only just resolves, up and down from point to point.
    own_mirror_y = 2 * k_y == width
    own_mirror_x = (2 * k_x == -height) & (own_mirror_y | (k_y == 0))
    slope_x = torch.where(own_mirror_x, 0, k_x)
    slope_y = torch.where(own_mirror_y, 0, k_y).expand(square.shape)
    waves = torch.stack((slope_y * inverse, -slope_x * inverse, slope_x, slope_y))
    return torch.complex(torch.zeros_like(waves), waves)[:, None, None], square


def _force(like: Tensor) -> Tensor:
    width = like.shape[-1]
    points = torch.arange(width, dtype=like.dtype, device=like.device)
    return _FORCE * (_WAVES * 2 * math.pi / width * points).cos()


def _shifted(field: Tensor, first: int) -> Tensor:
    """Return fields of two more times, where the first given one stands at a place."""
    return pad(field, (0, 0, 0, 0, first, 2 - first))
