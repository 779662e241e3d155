# SPDX-License-Identifier: Apache-2.0
r"""The functions of the noise level that make up a preconditioner.

Karras et al. 2022, arXiv:2206.00364, table 1. All are functions of the standard deviation
:math:`\sigma` of the noise, and all are computed in its precision.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Scalings(NamedTuple):
    r"""The factors in :math:`D(x) = c_{skip}\, x + c_{out}\, F(c_{in}\, x; c_{noise})`.

    Attributes
    ----------
    skip, out, input
        Factors of the noisy field, of the network's output and of the network's input.
    noise
        What the network is told of the noise level.
    """

    skip: Tensor
    out: Tensor
    input: Tensor
    noise: Tensor


def vp_scalings(sigma: Tensor, beta_d: float, beta_min: float, steps: int) -> Scalings:
    """Return those of variance-preserving diffusion; its network tells the noise with sign."""
    noise = (steps - 1) * vp_time(sigma, beta_d, beta_min)
    return Scalings(torch.ones_like(sigma), -sigma, (sigma.square() + 1).rsqrt(), noise)


def ve_scalings(sigma: Tensor) -> Scalings:
    """Return those of variance-exploding diffusion."""
    ones = torch.ones_like(sigma)
    return Scalings(ones, sigma, ones, (0.5 * sigma).log())


def iddpm_scalings(sigma: Tensor, step: Tensor) -> Scalings:
    """Return those of improved denoising diffusion, where the noise level is that of a step."""
    return Scalings(torch.ones_like(sigma), -sigma, (sigma.square() + 1).rsqrt(), step)


def edm_scalings(sigma: Tensor, sigma_data: float | Tensor) -> Scalings:
    """Return those by which input and training target of the network have unit variance.

    With ``sigma_data`` of shape (channels, 1, 1), factors are those of each channel.
    """
    total = sigma.square() + sigma_data**2
    return Scalings(
        sigma_data**2 / total, sigma * sigma_data * total.rsqrt(), total.rsqrt(), sigma.log() / 4
    )


def unscaled(sigma: Tensor) -> Scalings:
    """Return those that leave a network as it is, and tell it the noise level itself."""
    ones = torch.ones_like(sigma)
    return Scalings(torch.zeros_like(sigma), ones, ones, sigma)


def vp_sigma(time: Tensor, beta_d: float, beta_min: float) -> Tensor:
    r"""Return :math:`\sqrt{e^{\beta_d t^2 / 2 + \beta_{min} t} - 1}`, also at early times."""
    return (0.5 * beta_d * time.square() + beta_min * time).expm1().sqrt()


def vp_time(sigma: Tensor, beta_d: float, beta_min: float) -> Tensor:
    """Return the time at which :func:`vp_sigma` has a value."""
    # The root minus beta_min, times what keeps two close numbers from being subtracted.
    power = sigma.square().log1p()
    return 2 * power / ((beta_min**2 + 2 * beta_d * power).sqrt() + beta_min)


def iddpm_alpha_bar(step: float, steps: int, c_2: float) -> float:
    """Return the share of the signal, counted from the noisiest step 0."""
    return math.sin(0.5 * math.pi * step / steps / (c_2 + 1)) ** 2


def iddpm_levels(steps: int, c_1: float, c_2: float) -> list[float]:
    """Return the noise level of every step, from the noisiest to none.

    Raises
    ------
    ValueError
        If there is no step.
    """
    if steps < 1:
        raise ValueError(f"expected at least one step, got M={steps}")
    levels = [0.0]
    for step in range(steps, 0, -1):
        now, before = (iddpm_alpha_bar(at, steps, c_2) for at in (step, step - 1))
        levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(before / now, c_1) - 1))
    return levels[::-1]
