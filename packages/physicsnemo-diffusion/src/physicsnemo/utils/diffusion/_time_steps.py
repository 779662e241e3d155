# SPDX-License-Identifier: Apache-2.0
"""Time-step discretizations, as noise levels: Karras et al. 2022, table 1, "time steps"."""

import math
from typing import Literal

from physicsnemo.utils.diffusion._probability_flow import VariancePreserving

Discretization = Literal["vp", "ve", "iddpm", "edm"]


def default_range(
    discretization: Discretization, vp: VariancePreserving, epsilon_s: float
) -> tuple[float, float]:
    """Return the lowest and the highest noise level that come with a discretization.

    Those of ``"vp"`` are the levels of a schedule at the times ``epsilon_s`` and 1.
    """
    ranges = {
        "vp": (vp.sigma(epsilon_s), vp.sigma(1.0)),
        "ve": (0.02, 100.0),
        "iddpm": (0.002, 81.0),
        "edm": (0.002, 80.0),
    }
    return ranges[discretization]


def vp_levels(num_steps: int, sigma_min: float, sigma_max: float, epsilon_s: float) -> list[float]:
    """Return levels at even times of a variance-preserving schedule."""
    schedule = VariancePreserving.between(sigma_min, sigma_max, epsilon_s)
    return [schedule.sigma(1 + f * (epsilon_s - 1)) for f in _fractions(num_steps)]


def ve_levels(num_steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """Return levels in geometric progression."""
    return [sigma_max * (sigma_min / sigma_max) ** f for f in _fractions(num_steps)]


def edm_levels(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """Return levels whose ``rho``-th roots are even: eq. 5."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + f * (low - high)) ** rho for f in _fractions(num_steps)]


def iddpm_levels(
    num_steps: int,
    sigma_min: float,
    sigma_max: float,
    C_1: float,  # noqa: N803
    C_2: float,  # noqa: N803
    M: int,  # noqa: N803
) -> list[float]:
    """Return an even choice of the levels of improved DDPM.

    Parameters
    ----------
    num_steps
        How many are chosen.
    sigma_min, sigma_max
        The range to choose from.
    C_1, C_2, M
        Constants of the noise schedule; M is the number of its levels.

    Raises
    ------
    ValueError
        If the range contains none.
    """
    levels = iddpm_schedule(M, C_1, C_2)
    inside = [level for level in levels if sigma_min <= level <= sigma_max]
    if not inside:
        raise ValueError(
            f"none of the {M} levels of the iddpm discretization, which end at "
            f"{max(levels):.4g}, is between sigma_min={sigma_min} and sigma_max={sigma_max}"
        )
    # Evenly spaced indices, rounded to the nearest.
    spacing = (len(inside) - 1) / max(num_steps - 1, 1)
    return [inside[round(spacing * i)] for i in range(num_steps)]


def iddpm_schedule(M: int, C_1: float, C_2: float) -> list[float]:  # noqa: N803
    r"""Return all noise levels :math:`u_0, \dots, u_M` of improved DDPM, down to 0.

    Raises
    ------
    ValueError
        If there is no step.

    References
    ----------
    Nichol and Dhariwal 2021, arXiv:2102.09672, as in Karras et al. 2022, table 1.
    """
    if M < 1:
        raise ValueError(f"expected at least one step, got M={M}")
    levels = [0.0]
    for j in range(M, 0, -1):
        ratio = alpha_bar(j - 1, M, C_2) / alpha_bar(j, M, C_2)
        levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(ratio, C_1) - 1))
    return levels[::-1]


def alpha_bar(j: float, M: int, C_2: float) -> float:  # noqa: N803
    r"""Return :math:`\bar\alpha_j`, the share of the signal at a step, from the noisiest 0."""
    return math.sin(0.5 * math.pi * j / M / (C_2 + 1)) ** 2


def _fractions(num_steps: int) -> list[float]:
    # A single step starts at the highest level.
    return [i / max(num_steps - 1, 1) for i in range(num_steps)]
